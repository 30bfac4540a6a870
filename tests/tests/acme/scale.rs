//! A hundred thousand certificates.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use rcgen::{CertificateParams, KeyPair, SerialNumber};
use rusqlite::Connection;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tests::{
    lab::Lab,
    leak,
    runner::{Test, say},
    tests,
};

use crate::pebble::{authority, boot, fetch};

pub(crate) const TESTS: &[Test] = tests![
    a_hundred_thousand_certificates_are_there_in_seconds: 300,
];

const COUNT: u64 = 100_000;
/// How long the gateway may take to be ready with all of them.
const READY_MAX: std::time::Duration = std::time::Duration::from_secs(20);

/// How much processor time the gateway may take until it is ready with all of them, in hundredths of a
/// second. A debug build takes some 3 s; how long that lasts is up to what else the machine does.
const READY_TICKS_MAX: u64 = 1500;

fn a_hundred_thousand_certificates_are_there_in_seconds(lab: &mut Lab) -> Result<()> {
    // A directory that nobody reaches: nothing of these is due.
    let acme = json!({
        "directories": [{ "name": "none", "url": "https://127.0.0.1:9/dir" }],
        "on_demand": { "ask": "http://127.0.0.1:9/ask" },
    });
    let gateway = lab.gateway(boot(acme), json!({}))?;
    gateway.stop()?;
    let roots = fill(lab, &gateway.directory().join("ringway.db"))?;
    let begun = Instant::now();
    let gateway = lab.restart(&gateway)?;
    let ready = begun.elapsed();
    let ticks = leak::cpu_ticks(gateway.process())?;
    let mebibytes = leak::memory(gateway.process())? >> 20;
    say(&format!(
        "  ready with {COUNT} certificates after {ready:?}, in {mebibytes} MiB, by {ticks} ticks"
    ));
    ensure!(ready < READY_MAX, "it took {ready:?}");
    ensure!(ticks < READY_TICKS_MAX, "it took {ticks} ticks");
    for number in [0, COUNT / 2, COUNT - 1] {
        let answer = fetch(&roots, &name(number))?;
        ensure!(answer.starts_with("404 "), "{answer}");
    }
    let shown = gateway.api().get("/api/v1/certificates?limit=1")?;
    ensure!(shown["total"] == COUNT, "{}", shown["total"]);
    Ok(())
}

fn name(number: u64) -> String {
    format!("n{number}.example")
}

/// Puts certificates for all names into a store that nobody has open.
fn fill(lab: &Lab, store: &std::path::Path) -> Result<std::path::PathBuf> {
    let issuer = authority()?;
    let key = KeyPair::generate()?;
    let mut connection = Connection::open(store)?;
    let transaction = connection.transaction()?;
    let none: &[u8] = b"";
    transaction.execute(
        "INSERT INTO chains (id, digest, der) VALUES (1, ?, ?)",
        (Sha256::digest(none).to_vec(), none),
    )?;
    let sql = "INSERT INTO certificates (name, network, directory, on_demand, issuer, not_before,
        not_after, leaf, chain, key) VALUES (?, NULL, 'https://127.0.0.1:9/dir', 1, 'lab', 0,
        4000000000, ?, 1, ?)";
    for number in 0..COUNT {
        let name = name(number);
        let mut parameters = CertificateParams::new(vec![name.clone()])?;
        parameters.serial_number = Some(SerialNumber::from(number + 1));
        let leaf = parameters.signed_by(&key, &issuer)?;
        transaction
            .prepare_cached(sql)?
            .execute((name, leaf.der().as_ref(), key.serialize_der()))
            .context("filling the store")?;
    }
    transaction.commit()?;
    let roots = lab.directory().join("roots.pem");
    std::fs::write(&roots, issuer.pem())?;
    Ok(roots)
}
