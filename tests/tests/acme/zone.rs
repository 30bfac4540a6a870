//! dns-01 by dynamic updates, signed with TSIG, at a real name server (BIND).

use std::{fs, net::TcpStream, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{lab::Lab, runner::Test, tests, wait::eventually};

use crate::pebble::{Children, Options, Pebble, await_certificate, boot, is_ok};

pub(crate) const TESTS: &[Test] = tests![
    a_wildcard_is_proved_by_signed_updates_which_are_taken_back: 180,
];

/// Where the name server is.
const SERVER: &str = "127.0.0.1:5354";
/// A key for updates.
const KEY: &str = "c2VjcmV0IG9mIHRoZSBsYWIsIHRoaXJ0eS10d28gYnl0ZXM=";

fn name_server(lab: &Lab) -> Result<Children> {
    let directory = lab.directory().join("named");
    fs::create_dir(&directory)?;
    let shown = directory.display();
    fs::write(
        directory.join("zone"),
        "$TTL 60\n@ IN SOA ns.example.com. ops.example.com. 1 3600 600 86400 60\n\
         @ IN NS ns.example.com.\nns IN A 127.0.0.1\n",
    )?;
    let configuration = directory.join("named.conf");
    fs::write(
        &configuration,
        format!(
            "options {{ directory \"{shown}\"; pid-file none; session-keyfile none;\n\
             listen-on port 5354 {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             recursion no; dnssec-validation no; notify no; }};\ncontrols {{ }};\n\
             key \"k.example.com\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n\
             zone \"example.com\" {{ type primary; file \"{shown}/zone\";\n\
             update-policy {{ grant k.example.com zonesub TXT; }}; }};\n"
        ),
    )?;
    let mut named = Command::new("named");
    named.arg("-g").arg("-c").arg(&configuration);
    let mut children = Children::default();
    children.run(&mut named, &directory.join("named.log"))?;
    eventually("the name server answers", || {
        TcpStream::connect(SERVER).ok()
    })?;
    Ok(children)
}

fn a_wildcard_is_proved_by_signed_updates_which_are_taken_back(lab: &mut Lab) -> Result<()> {
    let _names = name_server(lab)?;
    let options = Options {
        dns: Some(SERVER),
        ..Options::default()
    };
    let pebble = Pebble::start(lab, options)?;
    let key = lab.directory().join("tsig");
    fs::write(&key, format!("{KEY}\n"))?;
    let acme = json!({
        "directories": [pebble.declared()],
        "names": [{ "name": "*.example.com" }, { "name": "www.example.com", "challenge": "dns-01" }],
        "dns": {
            "zones": [{
                "zone": "example.com", "server": SERVER, "key_name": "k.example.com",
                "key_file": key,
            }],
            "propagation_wait": "0s",
        },
    });
    let gateway = lab.gateway(boot(acme), json!({}))?;
    for name in ["*.example.com", "www.example.com"] {
        await_certificate(&gateway, name, is_ok)?;
    }
    gateway.stop()?;
    let log = fs::read_to_string(lab.directory().join("named/named.log"))?;
    for record in [
        "_acme-challenge.example.com",
        "_acme-challenge.www.example.com",
    ] {
        for change in ["adding an RR", "deleting an RR"] {
            let line = log
                .lines()
                .find(|line| line.contains(change) && line.contains(record));
            line.with_context(|| format!("{change} at {record}:\n{log}"))?;
        }
    }
    ensure!(!log.contains("BADSIG"), "{log}");
    Ok(())
}
