//! The client against a real HTTP server, over TCP and a unix socket.

use std::time::Duration;

use super::*;
use crate::{exit::Exit, stage::Stage};

fn api(address: Address) -> Api {
    Api::new(address, None, Duration::from_secs(20))
}

#[tokio::test]
async fn an_answer_comes_over_tcp_and_over_a_unix_socket() {
    for stage in [Stage::tcp().await, Stage::unix()] {
        stage.answer(200, "{\"generation\":7}");
        let call = Call::post("/api/v1/apply?wait=true", Bytes::from_static(b"{}"))
            .header(header::IF_MATCH, "6");
        let answer = api(stage.address()).call(call).await.unwrap();
        assert_eq!(answer.body, "{\"generation\":7}");
        let [request] = stage.requests().try_into().unwrap();
        assert_eq!(request.line, "POST /api/v1/apply?wait=true");
        assert_eq!(request.body, "{}");
        assert_eq!(request.header("if-match"), Some("6"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("host"), Some(&*stage.address().host()));
    }
}

#[tokio::test]
async fn a_token_is_sent_and_appears_in_no_message() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let stage = Stage::tcp().await;
    stage.answer(401, "{\"error\":\"this token is not known\"}");
    let api = Api {
        token: Token::find(Some(&file), false).unwrap(),
        ..api(stage.address())
    };
    let error = api.call(Call::get("/api/v1/status")).await.unwrap_err();
    let [request] = stage.requests().try_into().unwrap();
    assert_eq!(request.header("authorization"), Some("Bearer s3cret"));
    assert_eq!(
        error.to_string(),
        "this token is not known (401): name a token with --token-file or RINGWAY_TOKEN_FILE"
    );
    assert_eq!(error.exit(), Exit::Failed);
    assert!(!format!("{api:?}{error:?}").contains("s3cret"));
}

#[tokio::test]
async fn nobody_there_is_told_with_the_address_and_what_to_look_at() {
    let stage = Stage::tcp().await;
    let address = stage.address();
    stage.end().await;
    let error = api(address.clone()).call(Call::get("/")).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Unreachable);
    let text = error.to_string();
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(text.contains("does `ringway serve` run, and"), "{text}");
    assert!(text.contains("RINGWAY_API"), "{text}");

    let socket = Address::Unix("/nonexistent/api.sock".into());
    let error = api(socket).call(Call::get("/")).await.unwrap_err();
    assert!(
        error.to_string().contains("is that its api.listen"),
        "{error}"
    );
}

#[tokio::test]
async fn who_never_answers_is_given_up() {
    let stage = Stage::tcp().await;
    stage.keep_silent();
    let api = Api {
        timeout: Duration::from_millis(50),
        ..api(stage.address())
    };
    let error = api.call(Call::get("/")).await.unwrap_err();
    assert!(matches!(error, ApiError::Late { .. }), "{error}");
    assert_eq!(error.exit(), Exit::Unreachable);
    assert!(error.to_string().contains("within 50ms"), "{error}");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let stage = Stage::tcp().await;
    stage.break_off();
    let error = api(stage.address()).call(Call::get("/")).await.unwrap_err();
    assert!(matches!(error, ApiError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_of_another_form_is_told_from_a_refusal() {
    let stage = Stage::tcp().await;
    stage.answer(200, "<html>");
    let answer = api(stage.address()).call(Call::get("/")).await.unwrap();
    let error = answer.read::<control_api::answer::Status>().unwrap_err();
    assert!(error.to_string().contains("same version"), "{error}");

    stage.answer(502, "<html>");
    let error = api(stage.address()).call(Call::get("/")).await.unwrap_err();
    assert_eq!(error.to_string(), "Bad Gateway (502)");
}

#[tokio::test]
async fn a_gateway_that_is_not_ready_is_worth_another_try() {
    let stage = Stage::tcp().await;
    stage.answer(503, "{\"error\":\"the gateway is starting\"}");
    let error = api(stage.address()).call(Call::get("/")).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Unreachable);
}
