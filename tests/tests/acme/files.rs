//! Certificates in files: taken when they change, kept when what comes is broken.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};
use serde_json::json;
use tests::{lab::Lab, runner::Test, tests};

use crate::pebble::{HTTP, await_certificate, is_ok, self_signed};

pub(crate) const TESTS: &[Test] = tests![
    a_changed_file_is_taken_and_a_broken_one_leaves_what_was: 180,
    what_is_no_file_holds_up_neither_the_gateway_nor_its_next_start: 180,
];

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

/// A pipe that nobody writes into, a folder, a file without an end and one of 10 GB, each in the
/// place of a certificate: at an apply, and at a start from the stored state.
fn what_is_no_file_holds_up_neither_the_gateway_nor_its_next_start(lab: &mut Lab) -> Result<()> {
    let folder = lab.directory().clone();
    let (certificate, key) = self_signed("a.example")?;
    fs::write(folder.join("both.pem"), certificate + &key)?;
    mkfifo(&folder.join("fifo"), Mode::S_IRWXU)?;
    fs::create_dir(folder.join("folder"))?;
    File::create(folder.join("huge"))?.set_len(10 << 30)?;
    let good = folder.join("both.pem");
    let boot = json!({
        "listeners": [{ "name": "http", "bind": HTTP, "protocol": "http" }],
        "tls": { "files": [{ "certificate": good, "key": good }], "look_interval": "100ms" },
    });
    let gateway = lab.gateway(boot, json!({}))?;
    await_certificate(&gateway, "a.example", is_ok)?;
    gateway.expect_error("a certificate's file is refused");
    let bad: [PathBuf; 4] = [
        folder.join("fifo"),
        folder.join("folder"),
        "/dev/zero".into(),
        folder.join("huge"),
    ];
    let files = bad.iter().enumerate().map(|(at, file)| {
        json!({ "hosts": [format!("h{at}.example")], "certificate": file, "key": file })
    });
    let files: Vec<_> = files.collect();
    let mut events = gateway.api().events(Some(0))?;
    gateway
        .api()
        .apply(&json!({ "1": { "netns": null, "tls": { "files": files } } }))?;
    // They are read side by side, so they are refused in any order.
    let mut missing: BTreeSet<PathBuf> = bad.iter().cloned().collect();
    while !missing.is_empty() {
        let what = format!("a refusal of one of {missing:?}");
        let refused = events.wait_for(&what, |event| event["kind"] == "certificate_refused")?;
        missing.remove(Path::new(refused["file"].as_str().unwrap_or_default()));
    }
    await_certificate(&gateway, "a.example", is_ok)?;
    gateway.stop()?;
    let gateway = lab.restart(&gateway)?;
    gateway.expect_error("a certificate's file is refused");
    await_certificate(&gateway, "a.example", is_ok)?;
    gateway.stop()
}
