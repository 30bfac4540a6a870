//! Certificates are renewed before they expire.

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{lab::Lab, runner::Test, tests};

use crate::pebble::{Options, Pebble, await_certificate, boot, is_planned};

pub(crate) const TESTS: &[Test] = tests![
    a_certificate_is_renewed_at_two_thirds_of_its_life: 180,
];

fn a_certificate_is_renewed_at_two_thirds_of_its_life(lab: &mut Lab) -> Result<()> {
    let options = Options {
        lifetime_s: 30,
        ..Options::default()
    };
    let pebble = Pebble::start(lab, options)?;
    let acme = json!({
        "directories": [pebble.declared()],
        "names": [{ "name": "a.example" }],
    });
    let gateway = lab.gateway(boot(acme), json!({}))?;
    let first = await_certificate(&gateway, "a.example", is_planned)?;
    let (from, until) = (first["not_before"].as_u64(), first["not_after"].as_u64());
    let (Some(from), Some(until), Some(due)) = (from, until, first["due"].as_u64()) else {
        anyhow::bail!("{first}");
    };
    let life = until - from;
    ensure!(
        (from + life / 2..=from + life * 2 / 3 + 1).contains(&due),
        "{first}"
    );
    let mut events = gateway.api().events(Some(0))?;
    let renewed = events.wait_for("a renewal", |event| event["renewed"] == true)?;
    ensure!(renewed["name"] == "a.example", "{renewed}");
    ensure!(
        renewed["time"].as_u64() < Some(until),
        "renewed too late: {renewed}"
    );
    await_certificate(&gateway, "a.example", |it| {
        it["not_after"].as_u64() > Some(until)
    })?;
    Ok(())
}
