//! Each verb from its command line to what is asked of the gateway, what is printed, and the status
//! that it ends with.

use clap::Parser;
use control_api::answer::{Degradation, Reason};
use serde_json::json;

use crate::{
    ask,
    console::Console,
    error::VerbError,
    exit::Exit,
    json_wanted,
    show::tests::gateway,
    stage::{Stage, Written},
    verb::Verb,
};

#[derive(Parser)]
#[command(name = "ringway")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

/// What a verb came to.
struct Done {
    result: Result<Exit, VerbError>,
    printed: String,
}

/// Runs a command line against a stage.
async fn run(stage: &Stage, line: &[&str]) -> Done {
    let api = stage.address().to_string();
    let words = [&["ringway"], line, &["--api", &api]].concat();
    let verb = Cli::parse_from(words).verb;
    let written = Written::default();
    let console = Console::into(written.clone(), json_wanted(&verb));
    let result = ask(&verb, &console).await;
    Done {
        result,
        printed: written.text(),
    }
}

fn document(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

const CHANGED: &str =
    r#"{"generation":2,"changed":true,"steps":[{"op":"make","object":"network-1","detail":""}]}"#;

#[tokio::test]
async fn apply_sends_the_document_as_it_is() {
    let stage = Stage::unix();
    stage.answer(200, CHANGED);
    let file = document("{ \"51820\": {} }");
    let line = ["apply", path(&file), "--wait", "--if-match", "1"];
    let done = run(&stage, &line).await;
    assert_eq!(done.result.unwrap(), Exit::Done);
    assert!(
        done.printed.ends_with("generation 2: changed, 1 step\n"),
        "{}",
        done.printed
    );
    let [request] = stage.requests().try_into().unwrap();
    assert_eq!(request.line, "POST /api/v1/apply?wait=true");
    assert_eq!(request.body, "{ \"51820\": {} }");
    assert_eq!(request.header("if-match"), Some("1"));
}

#[tokio::test]
async fn every_verb_of_the_desired_state_says_whose_part_it_means() {
    let stage = Stage::unix();
    stage.answer(200, CHANGED);
    let file = document("{}");
    let file = path(&file);
    for (line, target) in [
        (
            &["apply", file, "--owner", "edge-1", "--cascade"][..],
            "POST /api/v1/apply?owner=edge-1&cascade=true",
        ),
        (
            &["apply", file, "--owners", "all"],
            "POST /api/v1/apply?owners=all",
        ),
        (
            &["rollback", "7", "--owner", "edge-1"],
            "POST /api/v1/rollback/7?owner=edge-1",
        ),
        (
            &["diff", file, "--owner", "edge-1", "--json"],
            "POST /api/v1/apply?owner=edge-1&dry_run=true",
        ),
        (
            &["config", "--owner", "edge-1"],
            "GET /api/v1/config?owner=edge-1",
        ),
        (
            &["config", "--owners", "all"],
            "GET /api/v1/config?owners=all",
        ),
    ] {
        run(&stage, line).await.result.unwrap();
        assert_eq!(stage.requests().last().unwrap().line, target);
    }
    stage.answer(200, r#"{"desired":1,"running":1,"generations":[]}"#);
    let line = ["generations", "--owner", "edge-1"];
    run(&stage, &line).await.result.unwrap();
    let asked = stage.requests().pop().unwrap().line;
    assert_eq!(asked, "GET /api/v1/generations?owner=edge-1");
    let both = ["ringway", "config", "--owner", "a", "--owners", "all"];
    assert!(Cli::try_parse_from(both).is_err());
}

#[tokio::test]
async fn diff_compares_with_the_part_of_the_owner() {
    let stage = Stage::tcp().await;
    let file = document(r#"{"51822": {"netns": null, "proxy": {}}}"#);
    stage.answers(&[CHANGED, r#"{"51822":{"netns":"blue","proxy":{}}}"#]);
    let done = run(&stage, &["diff", path(&file), "--owner", "edge-1"]).await;
    assert_eq!(done.result.unwrap(), Exit::Different);
    let asked = stage.requests().pop().unwrap().line;
    assert_eq!(asked, "GET /api/v1/config?owner=edge-1");
}

#[tokio::test]
async fn what_could_not_be_made_so_shows_in_the_status_of_apply() {
    let stage = Stage::tcp().await;
    let answer = r#"{"generation":2,"changed":true,"steps":[],"degraded":[
        {"object":"network-1","why":"no TUN device","since":null}]}"#;
    stage.answer(200, answer);
    let file = document("{}");
    let done = run(&stage, &["apply", "--wait", path(&file)]).await;
    assert_eq!(done.result.unwrap(), Exit::Different);
    assert!(
        done.printed
            .ends_with("degraded: network-1: no TUN device\n"),
        "{}",
        done.printed
    );
}

#[tokio::test]
async fn a_refused_document_fails_with_every_problem() {
    let stage = Stage::tcp().await;
    let refusal = json!({"error": "the document has problems", "problems": [
        {"pointer": "/51820/mtu", "message": "too small", "hint": null},
        {"pointer": "/51820/peers", "message": "twice", "hint": "once"}
    ]});
    stage.answer(400, refusal.to_string());
    let file = document("{}");
    let done = run(&stage, &["apply", path(&file)]).await;
    let error = done.result.unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
    let said = crate::complaint(&error);
    assert_eq!(
        said,
        "ringway: the document has problems (400)\n\
         /51820/mtu: too small\n\
         /51820/peers: twice (once)\n"
    );
    assert_eq!(done.printed, "");
}

#[tokio::test]
async fn diff_asks_for_a_dry_run_and_shows_what_differs_in_both_documents() {
    let stage = Stage::tcp().await;
    let file = document(r#"{"networks": {"51822": {"netns": null, "proxy": {}}}}"#);
    stage.answers(&[CHANGED, r#"{"51822":{"netns":"blue","proxy":{}}}"#]);
    let done = run(&stage, &["diff", path(&file)]).await;
    assert_eq!(done.result.unwrap(), Exit::Different);
    let lines: Vec<_> = stage
        .requests()
        .into_iter()
        .map(|asked| asked.line)
        .collect();
    assert_eq!(
        lines,
        ["POST /api/v1/apply?dry_run=true", "GET /api/v1/config"]
    );
    assert!(
        done.printed
            .starts_with("~  /51822/netns: \"blue\" → null\n   STEP"),
        "{}",
        done.printed
    );
}

#[tokio::test]
async fn diff_tells_by_its_status_whether_something_would_change() {
    let stage = Stage::tcp().await;
    let file = document("{}");
    let same = r#"{"generation":2,"changed":false,"dry_run":true,"steps":[]}"#;
    stage.answers(&[same, "{}"]);
    let done = run(&stage, &["diff", path(&file)]).await;
    assert_eq!(done.result.unwrap(), Exit::Done);
    assert_eq!(done.printed, "generation 2: nothing changes\n");
    stage.answer(200, CHANGED);
    let done = run(&stage, &["diff", "--json", path(&file)]).await;
    assert_eq!(done.result.unwrap(), Exit::Different);
    assert_eq!(done.printed, format!("{CHANGED}\n"));
}

#[tokio::test]
async fn a_document_that_cannot_be_read_is_named() {
    let stage = Stage::tcp().await;
    let done = run(&stage, &["apply", "/nonexistent/state.json"]).await;
    let error = done.result.unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
    let said = crate::complaint(&error);
    assert!(
        said.contains("reading /nonexistent/state.json: No such file"),
        "{said}"
    );
    assert!(stage.requests().is_empty());
}

#[tokio::test]
async fn a_document_longer_than_the_api_takes_is_not_sent() {
    let stage = Stage::tcp().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file()
        .set_len(control_api::STATE_BYTES_MAX as u64 + 1)
        .unwrap();
    let done = run(&stage, &["diff", path(&file)]).await;
    assert!(matches!(done.result, Err(VerbError::DocumentLong { .. })));
    assert!(stage.requests().is_empty());
}

#[tokio::test]
async fn rollback_names_the_generation() {
    let stage = Stage::tcp().await;
    stage.answer(200, CHANGED);
    let done = run(&stage, &["rollback", "1", "--dry-run"]).await;
    assert_eq!(done.result.unwrap(), Exit::Done);
    let [request] = stage.requests().try_into().unwrap();
    assert_eq!(request.line, "POST /api/v1/rollback/1?dry_run=true");
}

#[tokio::test]
async fn config_prints_what_apply_takes() {
    let stage = Stage::tcp().await;
    stage.answer(200, r#"{"51820":{"private_key":"(kept)"}}"#);
    let done = run(&stage, &["config"]).await;
    assert_eq!(done.result.unwrap(), Exit::Done);
    assert_eq!(
        done.printed,
        "{\n  \"51820\": {\n    \"private_key\": \"(kept)\"\n  }\n}\n"
    );
    run(&stage, &["config", "--secrets"]).await.result.unwrap();
    let lines: Vec<_> = stage
        .requests()
        .into_iter()
        .map(|asked| asked.line)
        .collect();
    assert_eq!(
        lines,
        ["GET /api/v1/config", "GET /api/v1/config?secrets=true"]
    );
}

#[tokio::test]
async fn status_ends_with_3_while_something_is_degraded() {
    let stage = Stage::tcp().await;
    let mut status = gateway();
    stage.answer(200, serde_json::to_string(&status).unwrap());
    let done = run(&stage, &["status"]).await;
    assert_eq!(done.result.unwrap(), Exit::Different);
    for well in [
        "51820",
        "network-51820",
        "2juzbPd8m9DomiILF0YL4JpF1QoENVUFanbDajGIit0=",
    ] {
        let done = run(&stage, &["status", well]).await;
        assert_eq!(done.result.unwrap(), Exit::Done, "{well}");
        assert!(
            done.printed.starts_with("network-51820 · ok"),
            "{}",
            done.printed
        );
    }
    let done = run(&stage, &["status", "51822"]).await;
    assert_eq!(done.result.unwrap(), Exit::Different);
    let done = run(&stage, &["status", "51899"]).await;
    assert!(matches!(done.result, Err(VerbError::Network(_))));
    let refused = Degradation::new(Reason::NetworkRefused, "network-51899", "/51899/x: no");
    status.degraded.push(refused.of(Some(51899)));
    stage.answer(200, serde_json::to_string(&status).unwrap());
    for wanted in ["51899", "network-51899"] {
        let done = run(&stage, &["status", wanted]).await;
        assert_eq!(done.result.unwrap(), Exit::Different);
        let told = "degraded: network-51899: /51899/x: no (";
        assert!(done.printed.starts_with(told), "{}", done.printed);
        assert_eq!(done.printed.lines().count(), 1);
    }
    status.degraded.clear();
    stage.answer(200, serde_json::to_string(&status).unwrap());
    assert_eq!(run(&stage, &["status"]).await.result.unwrap(), Exit::Done);
}

#[tokio::test]
async fn certificates_are_asked_for_in_part_and_end_with_3_while_one_is_not_served() {
    let stage = Stage::tcp().await;
    let answer = |states: &[&str]| {
        let certificates = states.iter().map(|state| {
            json!({"name": "a.example", "state": state, "source": "one", "hosts": ["a.example"]})
        });
        let certificates: Vec<_> = certificates.collect();
        json!({"total": certificates.len(), "certificates": certificates}).to_string()
    };
    stage.answer(200, answer(&["ok", "stale"]));
    let done = run(&stage, &["certificates"]).await;
    assert_eq!(done.result.unwrap(), Exit::Done);
    assert!(done.printed.starts_with("NAME"), "{}", done.printed);
    for state in ["pending", "failed", "expired"] {
        stage.answer(200, answer(&["ok", state]));
        let line = ["certificates", "--network", "51820", "--state", state];
        let done = run(&stage, &line).await;
        assert_eq!(done.result.unwrap(), Exit::Different, "{state}");
    }
    stage.answer(200, answer(&["ok"]));
    let done = run(&stage, &["certificates", "*.example"]).await;
    assert_eq!(done.result.unwrap(), Exit::Done);
    assert!(
        done.printed.contains("serves      a.example\n"),
        "{}",
        done.printed
    );
    let done = run(&stage, &["certificates", "--json"]).await;
    assert_eq!(done.printed, format!("{}\n", answer(&["ok"])));
    stage.answer(200, answer(&[]));
    let done = run(&stage, &["certificates", "b.example"]).await;
    let error = done.result.unwrap_err();
    assert_eq!(error.exit(), Exit::Failed);
    assert!(crate::complaint(&error).contains("no certificate is for b.example"));
    let lines = stage.requests().into_iter().map(|asked| asked.line);
    let lines: Vec<_> = lines.collect();
    let all = "GET /api/v1/certificates?limit=100000";
    let of = |state: &str| format!("{all}&network=51820&state={state}");
    assert_eq!(
        lines,
        [
            all.to_owned(),
            of("pending"),
            of("failed"),
            of("expired"),
            format!("{all}&name=%2A.example"),
            all.to_owned(),
            format!("{all}&name=b.example"),
        ]
    );
}

#[tokio::test]
async fn json_is_the_answer_as_it_came() {
    let stage = Stage::tcp().await;
    let body = serde_json::to_string(&gateway()).unwrap();
    stage.answer(200, body.clone());
    let done = run(&stage, &["status", "--json"]).await;
    assert_eq!(done.printed, format!("{body}\n"));
}

#[tokio::test]
async fn traffic_asks_for_a_part_of_the_accounts() {
    let stage = Stage::tcp().await;
    stage.answer(
        200,
        r#"{"start_time":5,"stop_time":5,"traffic":{"rx":0,"tx":0},"networks":{}}"#,
    );
    let line = [
        "traffic",
        "--since",
        "5",
        "--until",
        "2026-11-21T08:33:20Z",
        "--network",
        "51820",
        "--peer",
        "a+/=",
        "--group",
        "hour",
    ];
    run(&stage, &line).await.result.unwrap();
    stage.answer(
        200,
        r#"{"start_time":0,"stop_time":0,"networks":{},
            "traffic":{"bytes_in":0,"bytes_out":0,"connections":0}}"#,
    );
    run(&stage, &["traffic", "--routes"]).await.result.unwrap();
    let lines: Vec<_> = stage
        .requests()
        .into_iter()
        .map(|asked| asked.line)
        .collect();
    assert_eq!(
        lines,
        [
            "GET /api/v1/traffic?since=5&until=1795250000&network=51820&peer=a%2B%2F%3D&group=hour",
            "GET /api/v1/traffic/routes",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn events_go_on_where_the_stream_broke() {
    let stage = Stage::tcp().await;
    let event = |id: u32| {
        let event = json!({"id": id, "time": 0, "kind": "network_recovered", "network": id});
        format!("id: {id}\nevent: network_recovered\ndata: {event}\n\n")
    };
    let unknown = "id: 9\ndata: {\"kind\":\"news\"}\n\n";
    stage.streams(&[&format!("{}{}", event(1), event(2)), &event(3), unknown]);
    let done = run(&stage, &["events", "--since-id", "0", "--count", "4"]).await;
    assert_eq!(done.result.unwrap(), Exit::Done);
    let networks: Vec<&str> = done
        .printed
        .lines()
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(networks, ["1", "2", "3", "{\"kind\":\"news\"}"]);
    let asked = stage.requests();
    let after: Vec<_> = asked
        .iter()
        .map(|request| request.header("last-event-id").unwrap())
        .collect();
    assert_eq!(after, ["0", "2", "3"]);
}

#[tokio::test]
async fn events_from_a_gateway_that_is_not_there_end_at_once() {
    let stage = Stage::tcp().await;
    stage.answer(403, "{\"error\":\"readers only\"}");
    let done = run(&stage, &["events"]).await;
    assert_eq!(done.result.unwrap_err().exit(), Exit::Failed);
}
