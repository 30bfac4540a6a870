//! Orders for certificates: each way to prove a name, accounts, and what is not ours to answer.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    curl::Curl,
    lab::Lab,
    runner::Test,
    server::{self, Server},
    tests,
};

use crate::pebble::{
    EAB, HTTP, Options, Pebble, TENANT, await_certificate, boot, is_ok, is_planned, no_key_is_shown,
};

pub(crate) const TESTS: &[Test] = tests![
    a_name_is_proved_over_http_while_a_tenant_keeps_its_own_proofs: 180,
    an_account_is_bound_to_the_one_that_the_authority_knows: 180,
    a_wildcard_is_proved_by_a_program_that_writes_records: 180,
    a_failed_order_is_said_with_its_reason_and_tried_again: 180,
    after_a_restart_there_is_the_same_certificate_and_the_same_account: 180,
];

fn a_name_is_proved_over_http_while_a_tenant_keeps_its_own_proofs(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(80)?, server::greet(TENANT))?;
    let gateway = lab.gateway(
        boot(json!({
            "directories": [pebble.declared()],
            "names": [{ "name": "a.example" }, { "name": "b.example" }],
        })),
        tenant.state(json!({ "http://a.example": ["10.0.0.2:80"] })),
    )?;
    let mut events = gateway.api().events(Some(0))?;
    for name in ["a.example", "b.example"] {
        let shown = await_certificate(&gateway, name, is_planned)?;
        let issuer = shown["issuer"].as_str().unwrap_or_default();
        ensure!(issuer.contains("Pebble"), "{shown}");
        ensure!(shown["source"] == "pebble", "{shown}");
        let (from, until) = (shown["not_before"].as_u64(), shown["not_after"].as_u64());
        let due = shown["due"].as_u64();
        ensure!(from < due && due < until, "{shown}");
    }
    let obtained = events.wait_for("a certificate", |event| {
        event["kind"] == "certificate_obtained" && event["name"] == "a.example"
    })?;
    ensure!(obtained["renewed"] == false, "{obtained}");
    // Proofs that are not the gateway's own are their tenant's, or nobody's.
    let path = "/.well-known/acme-challenge/some-token";
    let ask = |name: &str| {
        let curl = Curl::to(&format!("http://{HTTP}")).header(&format!("Host: {name}"));
        curl.ask("GET", path, None)
    };
    let answer = ask("a.example")?;
    ensure!(answer.body == "tenant", "{} {}", answer.head, answer.body);
    let answer = ask("b.example")?;
    ensure!(answer.status == 404, "{}", answer.head);
    no_key_is_shown(&gateway)
}

fn an_account_is_bound_to_the_one_that_the_authority_knows(lab: &mut Lab) -> Result<()> {
    let options = Options {
        is_binding: true,
        ..Options::default()
    };
    let pebble = Pebble::start(lab, options)?;
    let file = lab.directory().join("eab");
    fs::write(&file, format!("{}\n", EAB.1))?;
    let mut directory = pebble.declared();
    directory["eab_key_id"] = EAB.0.into();
    directory["eab_key_file"] = json!(file);
    let names = json!([{ "name": "a.example" }]);
    let acme = json!({ "directories": [directory], "names": names });
    let gateway = lab.gateway(boot(acme), json!({}))?;
    await_certificate(&gateway, "a.example", is_ok)?;
    no_key_is_shown(&gateway)
}

fn a_wildcard_is_proved_by_a_program_that_writes_records(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    let hook = lab.directory().join("hook");
    let calls = lab.directory().join("calls");
    fs::write(
        &hook,
        format!(
            "#!/bin/sh -e\necho \"$@\" >> {}\n\
             case $1 in add) way=set-txt ;; remove) way=clear-txt ;; esac\n\
             curl -sS --fail -d \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" \
             http://127.0.0.1:8055/$way\n",
            calls.display()
        ),
    )?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700))?;
    let acme = json!({
        "directories": [pebble.declared()],
        "names": [{ "name": "*.a.example" }, { "name": "b.example", "challenge": "dns-01" }],
        "dns": { "hook": hook, "propagation_wait": "0s" },
    });
    let gateway = lab.gateway(boot(acme), json!({}))?;
    for name in ["*.a.example", "b.example"] {
        await_certificate(&gateway, name, is_ok)?;
    }
    let calls = fs::read_to_string(calls)?;
    for record in ["_acme-challenge.a.example", "_acme-challenge.b.example"] {
        for verb in ["add", "remove"] {
            let call = format!("{verb} {record} ");
            let count = calls.lines().filter(|line| line.starts_with(&call)).count();
            ensure!(count == 1, "{call}: {count}\n{calls}");
        }
    }
    Ok(())
}

fn a_failed_order_is_said_with_its_reason_and_tried_again(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    // A program that does nothing: the directory finds no record.
    let hook = lab.directory().join("hook");
    let works = lab.directory().join("works");
    fs::write(
        &hook,
        format!(
            "#!/bin/sh -e\n[ -e {} ] || exit 0\n[ $1 = add ] || exit 0\n\
             curl -sS --fail -d \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" \
             http://127.0.0.1:8055/set-txt\n",
            works.display()
        ),
    )?;
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o700))?;
    let acme = json!({
        "directories": [pebble.declared()],
        "names": [{ "name": "a.example", "challenge": "dns-01" }],
        "dns": { "hook": hook, "propagation_wait": "0s" },
        "retry_wait": "2s",
    });
    let gateway = lab.gateway(boot(acme), json!({}))?;
    let mut events = gateway.api().events(Some(0))?;
    let failed = events.wait_for("a failure", |event| event["kind"] == "certificate_failed")?;
    let reason = failed["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("was not accepted"), "{failed}");
    ensure!(reason.contains("TXT"), "{failed}");
    await_certificate(&gateway, "a.example", |it| {
        it["state"] == "failed" && it["error"] == failed["reason"]
    })?;
    fs::write(&works, "")?;
    await_certificate(&gateway, "a.example", is_ok)?;
    let metrics = gateway.api().ask("GET", "/metrics", None)?.body;
    let ok = "ringway_acme_orders_total{directory=\"pebble\",result=\"ok\"} 1\n";
    ensure!(metrics.contains(ok), "{metrics}");
    let expiry = "ringway_certificate_expiry_seconds{name=\"a.example\",source=\"pebble\"}";
    ensure!(metrics.contains(expiry), "{metrics}");
    Ok(())
}

fn after_a_restart_there_is_the_same_certificate_and_the_same_account(lab: &mut Lab) -> Result<()> {
    let pebble = Pebble::start(lab, Options::default())?;
    let directories = json!([pebble.declared()]);
    let one = json!({ "directories": directories, "names": [{ "name": "a.example" }] });
    let gateway = lab.gateway(boot(one), json!({}))?;
    let before = await_certificate(&gateway, "a.example", is_ok)?;
    gateway.stop()?;
    let boot = fs::read_to_string(gateway.directory().join("ringway.yaml"))?;
    let boot = boot.replace(
        r#"[{"name":"a.example"}]"#,
        r#"[{"name":"a.example"},{"name":"b.example"}]"#,
    );
    ensure!(boot.contains("b.example"), "{boot}");
    fs::write(gateway.directory().join("ringway.yaml"), boot)?;
    let gateway = lab.restart(&gateway)?;
    let after = await_certificate(&gateway, "a.example", is_ok)?;
    for key in ["issuer", "not_before", "not_after"] {
        ensure!(before[key] == after[key], "{before} is not {after}");
    }
    await_certificate(&gateway, "b.example", is_ok)?;
    let accounts = gateway.log()?;
    let made = accounts
        .iter()
        .filter(|line| line.to_string().contains("an account was made"));
    ensure!(made.count() == 0, "a second account");
    Ok(())
}
