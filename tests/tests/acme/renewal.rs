//! Certificates are renewed before they expire.

use std::{
    sync::mpsc::{self, TryRecvError},
    thread,
};

use anyhow::{Result, anyhow, ensure};
use serde_json::json;
use tests::{lab::Lab, runner::Test, tests};

use crate::{
    front::{self, Front},
    pebble::{Options, Pebble, await_certificate, boot, fetch, is_planned},
};

pub(crate) const TESTS: &[Test] = tests![
    a_certificate_is_renewed_at_two_thirds_of_its_life_and_no_client_sees_it: 180,
    a_certificate_is_renewed_when_its_directory_says_so: 180,
];

fn a_certificate_is_renewed_at_two_thirds_of_its_life_and_no_client_sees_it(
    lab: &mut Lab,
) -> Result<()> {
    let options = Options {
        lifetime_s: 45,
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
    // Clients come and go meanwhile, and every one of them is served.
    let roots = pebble.root(lab)?;
    let (stop, stopped) = mpsc::channel::<()>();
    let clients = thread::spawn(move || {
        let mut served = 0;
        while stopped.try_recv() == Err(TryRecvError::Empty) {
            let answer = fetch(&roots, "a.example")?;
            ensure!(answer.starts_with("404 "), "{answer}");
            served += 1;
        }
        Ok(served)
    });
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
    drop(stop);
    let served = clients
        .join()
        .map_err(|_| anyhow!("the clients have panicked"))??;
    ensure!(served > 10, "only {served} clients were served");
    Ok(())
}

fn a_certificate_is_renewed_when_its_directory_says_so(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    let front = Front::start(&pebble)?;
    let acme = json!({
        "directories": [pebble.declared_at(front::LISTEN)],
        "names": [{ "name": "a.example" }],
    });
    let gateway = lab.gateway(boot(acme), json!({}))?;
    let mut events = gateway.api().events(Some(0))?;
    events.wait_for("a renewal", |event| event["renewed"] == true)?;
    // The new one is to be renewed in a long time, which is when it expires at the latest.
    let shown = await_certificate(&gateway, "a.example", |it| {
        is_planned(it) && it["due"] == it["not_after"]
    })?;
    ensure!(shown["state"] == "ok", "{shown}");
    let asked = front
        .asked
        .lock()
        .map_err(|_| anyhow!("the front has panicked"))?;
    ensure!(asked.about.len() == 2, "{asked:?}");
    ensure!(asked.replaced == asked.about[..1], "{asked:?}");
    Ok(())
}
