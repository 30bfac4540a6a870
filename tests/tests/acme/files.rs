//! Certificates in files: taken when they change, kept when what comes is broken.

use std::fs;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::{lab::Lab, runner::Test, tests};

use crate::pebble::{HTTP, await_certificate, is_ok, self_signed};

pub(crate) const TESTS: &[Test] =
    tests![a_changed_file_is_taken_and_a_broken_one_leaves_what_was: 180];

fn a_changed_file_is_taken_and_a_broken_one_leaves_what_was(lab: &mut Lab) -> Result<()> {
    let folder = lab.directory().clone();
    let write = |(certificate, key): &(String, String)| -> Result<()> {
        for (name, text) in [("site.pem", certificate), ("site.key", key)] {
            fs::write(folder.join("next"), text)?;
            fs::rename(folder.join("next"), folder.join(name))?;
        }
        Ok(())
    };
    let first = self_signed("a.example")?;
    write(&first)?;
    let boot = json!({
        "listeners": [{ "name": "http", "bind": HTTP, "protocol": "http" }],
        "tls": {
            "files": [{ "certificate": folder.join("site.pem"), "key": folder.join("site.key") }],
            "look_interval": "100ms",
        },
    });
    let gateway = lab.gateway(boot, json!({}))?;
    await_certificate(&gateway, "a.example", is_ok)?;
    gateway.expect_error("a certificate's file is refused");
    let mut events = gateway.api().events(Some(0))?;
    write(&(self_signed("b.example")?.0, first.1))?;
    let refused = events.wait_for("a refusal", |event| event["kind"] == "certificate_refused")?;
    let reason = refused["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("site.key"), "{refused}");
    await_certificate(&gateway, "a.example", |it| it["state"] == "stale")?;
    write(&self_signed("c.example")?)?;
    await_certificate(&gateway, "c.example", is_ok)?;
    // SIGHUP looks at once, whatever the interval.
    write(&self_signed("d.example")?)?;
    gateway.signal(Signal::SIGHUP)?;
    await_certificate(&gateway, "d.example", is_ok)?;
    Ok(())
}
