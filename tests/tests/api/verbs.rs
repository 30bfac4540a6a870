//! The client verbs of the same program, as scripts use them.

use std::{collections::BTreeSet, fs, process::Output};

use anyhow::{Context as _, Result, ensure};
use nix::{sys::stat::Mode, unistd::mkfifo};
use serde_json::{Value, json};
use tests::{
    gateway::{Gateway, SOCKET},
    lab::{Lab, tls},
    network::Network,
    runner::Test,
    tests,
    tool::Tool,
};

pub(crate) const TESTS: &[Test] = tests![
    verbs_do_what_they_say_and_exit_accordingly,
    apply_says_of_named_files_what_check_says,
    verbs_without_a_gateway_say_so,
];

/// The verbs of one gateway.
struct Verbs<'a> {
    lab: &'a Lab,
    api: String,
}

impl Verbs<'_> {
    fn run(&self, arguments: &str, input: &str) -> Result<Output> {
        let verb = Tool::new(self.lab.ringway(), arguments);
        verb.argument("--api").argument(&self.api).output(input)
    }

    /// What it prints when it ends with this status.
    fn ends(&self, status: i32, arguments: &str, input: &str) -> Result<String> {
        let output = self.run(arguments, input)?;
        let (said, complaint) = (
            String::from_utf8(output.stdout)?,
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        let ended = output.status.code();
        ensure!(
            ended == Some(status),
            "{arguments}: {ended:?}: {said}{complaint}"
        );
        Ok(said + &complaint)
    }

    fn json(&self, arguments: &str) -> Result<Value> {
        let said = self.ends(0, arguments, "")?;
        serde_json::from_str(&said).with_context(|| format!("{arguments}: {said}"))
    }
}

fn verbs_of<'a>(lab: &'a Lab, gateway: &Gateway) -> Verbs<'a> {
    let api = format!("unix:{}", gateway.directory().join(SOCKET).display());
    Verbs { lab, api }
}

fn verbs_do_what_they_say_and_exit_accordingly(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let verbs = verbs_of(lab, &gateway);
    let mut network = Network::new(50_000)?;
    network.publish("blue.example", "10.0.0.2:443");
    let document = network.state().to_string();
    let diff = verbs.ends(3, "diff -", &document)?;
    ensure!(diff.contains("network-50000"), "{diff}");
    verbs.ends(0, "apply --wait -", &document)?;
    verbs.ends(0, "diff -", &document)?;
    verbs.ends(1, "apply -", "{ \"50000\": {} }")?;
    verbs.ends(1, "apply --if-match 1 -", "{}")?;
    verbs.ends(2, "apply", "")?;
    let status = verbs.ends(0, "status", "")?;
    ensure!(
        status.contains("network-50000") || status.contains("50000"),
        "{status}"
    );
    ensure!(verbs.json("status --json")?["networks"]["50000"]["state"] == "ok");
    let config = verbs.json("config --json")?;
    ensure!(config["50000"]["private_key"] == "(kept)", "{config}");
    verbs.ends(0, "apply -", &config.to_string())?;
    let secret = verbs.json("config --json --secrets")?;
    ensure!(secret["50000"]["private_key"] == network.document["private_key"]);
    for verb in [
        "certificates",
        "traffic",
        "traffic --routes",
        "generations",
        "audit",
    ] {
        verbs.ends(0, verb, "")?;
        ensure!(verbs.json(&format!("{verb} --json"))?.is_object(), "{verb}");
    }
    let event = verbs.ends(0, "events --since-id 0 --count 1 --json", "")?;
    ensure!(
        event.contains("state_applied") || event.contains("kind"),
        "{event}"
    );
    verbs.ends(0, "rollback --wait 1", "")?;
    ensure!(
        network.netns().is_err(),
        "the first generation has no network"
    );
    verbs.ends(1, "rollback 999", "")?;
    Ok(())
}

/// Pointer, message and hint of each problem, whichever refuses a file that is checked.
fn problems(list: &Value) -> Result<BTreeSet<String>> {
    let list = list.as_array().context("no list")?.iter();
    let problems = list.map(|it| format!("{}: {} ({})", it["pointer"], it["message"], it["hint"]));
    Ok(problems.collect())
}

fn apply_says_of_named_files_what_check_says(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    gateway.expect_error("a certificate's file is refused");
    let folder = lab.directory().clone();
    mkfifo(&folder.join("pipe"), Mode::S_IRWXU)?;
    fs::write(folder.join("text"), "no certificate")?;
    let pair = |name: &str| {
        let file = folder.join(name);
        let host = format!("{name}.example");
        json!({ "hosts": [host], "certificate": file, "key": file })
    };
    let files: Vec<Value> = ["missing", "pipe", "text"].map(pair).into();
    let document = json!({ "7": { "netns": null, "tls": { "files": files } } });
    let file = folder.join("state.json");
    fs::write(&file, document.to_string())?;
    let check = Tool::new(lab.ringway(), "check --json").argument(&file);
    let checked: Value = serde_json::from_slice(&check.output("")?.stdout)?;
    let checked = problems(&checked["problems"])?;
    ensure!(checked.len() == 3, "{checked:?}");
    let verbs = verbs_of(lab, &gateway);
    for line in ["apply --dry-run --json -", "apply --wait --json -"] {
        let output = verbs.run(line, &document.to_string())?;
        let applied: Value = serde_json::from_slice(&output.stdout)?;
        let warned = problems(&applied["warnings"])?;
        ensure!(warned == checked, "{line}: {warned:?}, not {checked:?}");
    }
    // Files of networks that stay as they are were warned of before.
    let patch = json!({ "proxy": { "a.example": ["127.0.0.1:9"] } }).to_string();
    let other = json!({ "7": document["7"], "8": { "netns": null } });
    gateway.api().apply(&other)?;
    let patched = gateway
        .api()
        .ask("PATCH", "/api/v1/networks/8", Some(&patch))?;
    ensure!(!patched.body.contains("of no use"), "{}", patched.body);
    gateway.api().apply(&json!({}))?;
    Ok(())
}

fn verbs_without_a_gateway_say_so(lab: &mut Lab) -> Result<()> {
    let verbs = Verbs {
        lab,
        api: "unix:/run/nobody.sock".to_owned(),
    };
    let said = verbs.ends(4, "status", "")?;
    ensure!(said.contains("/run/nobody.sock"), "{said}");
    Ok(())
}
