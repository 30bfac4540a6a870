use super::*;
use crate::{
    limits::Limits, reading::Reading, refusal::Refusal, rules::RedirectStatus, scan::Scan,
};

fn ending() -> Ending {
    Ending {
        version: Version::Http11,
        keep_alive: true,
        date: HttpDate::of(std::time::Duration::from_secs(784_111_777)),
    }
}

fn request(head: &str) -> Request<'_> {
    match crate::request::read(head.as_bytes(), &Limits::default(), &mut Scan::default()) {
        Reading::Head(request) => request,
        other @ (Reading::NeedMore | Reading::Refused(_)) => panic!("{other:?}"),
    }
}

#[test]
fn codes_are_unique_and_every_refusal_has_one_of_its_status() {
    for (position, code) in Code::ALL.iter().enumerate() {
        assert_eq!(code.index(), position);
        for other in &Code::ALL[position + 1..] {
            assert_ne!(code.label(), other.label());
            assert_ne!(code.status(), other.status());
        }
    }
    for refusal in Refusal::ALL {
        assert_eq!(
            Code::from(*refusal).status(),
            refusal.status(),
            "{refusal:?}"
        );
    }
}

#[test]
fn accept_decides_between_json_and_html() {
    for (accept, form) in [
        ("", Form::Json),
        ("*/*", Form::Json),
        ("text/html", Form::Html),
        ("TEXT/HTML", Form::Html),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            Form::Html,
        ),
        ("application/json, text/html", Form::Json),
        ("text/html;q=0.5, application/json;q=0.6", Form::Json),
        (
            "text/html;level=1;q=0.7, application/json;q=0.6",
            Form::Html,
        ),
        ("text/*, */*;q=0.1", Form::Html),
        ("text/html;q=0, */*", Form::Json),
        ("text/html;q=2", Form::Json),
        ("text/html;q=0.0001", Form::Json),
        ("image/png", Form::Json),
    ] {
        let lines = format!("Accept: {accept}\r\n");
        assert_eq!(
            negotiate(Fields::checked(lines.as_bytes())),
            form,
            "{accept}"
        );
    }
}

#[test]
fn an_error_has_a_body_of_its_length_and_is_not_cached() {
    let request = request("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = Answer {
        retry_after: Some(5),
        ..Answer::to(&request, Code::NoBackend, "id-1")
    };
    let mut out = Vec::new();
    answer.reply().write(ending(), &mut out);
    let body = "{\"error\":\"No backend server is available\",\"code\":\"NO_BACKEND\",\
                \"request_id\":\"id-1\"}\n";
    assert_eq!(
        String::from_utf8(out).unwrap(),
        format!(
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\nX-Request-Id: id-1\r\n\
             Retry-After: 5\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{body}",
            body.len()
        )
    );
}

#[test]
fn an_answer_to_head_has_the_length_of_the_body_and_no_body() {
    let request = request("HEAD / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\n");
    let answer = Answer::to(&request, Code::NoRoute, "id");
    let mut out = Vec::new();
    let ending = Ending {
        keep_alive: false,
        ..ending()
    };
    answer.reply().write(ending, &mut out);
    let text = String::from_utf8(out).unwrap();
    let length = format!("Content-Length: {}\r\n", answer.body().len());
    assert!(
        text.contains(&length) && text.contains("text/html"),
        "{text}"
    );
    assert!(text.ends_with("Connection: close\r\n\r\n"), "{text}");
}

#[test]
fn ids_cannot_break_out_of_a_body() {
    for form in [Form::Json, Form::Html] {
        let answer = Answer {
            form,
            ..Answer::to_unread(Code::BadRequest, "\"<script>")
        };
        let body = String::from_utf8(answer.body()).unwrap();
        assert!(form == Form::Json || !body.contains("<script"), "{body}");
        if form == Form::Json {
            let value: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(value["request_id"], "\"<script>");
        }
    }
}

#[test]
fn a_network_puts_pages_of_its_own_in_place() {
    let mut pages = Pages::default();
    let page = |content_type: &str| Page {
        content_type: content_type.into(),
        body: b"gone fishing"[..].into(),
    };
    pages.insert(503, page("text/plain")).unwrap();
    assert!(pages.insert(200, page("text/plain")).is_err());
    assert!(pages.insert(503, page("a\r\nb")).is_err());
    let answer = Answer {
        pages: Some(&pages),
        ..Answer::to_unread(Code::NoBackend, "id")
    };
    let mut out = Vec::new();
    answer.reply().write(ending(), &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("Content-Type: text/plain\r\nContent-Length: 12\r\n"));
    assert!(text.ends_with("\r\n\r\ngone fishing"));
}

#[test]
fn a_redirect_leads_where_its_template_says_and_never_to_another_host() {
    let to_https = Redirect::to_https(RedirectStatus::PermanentRedirect, 443);
    let other = Redirect::new(
        RedirectStatus::Found,
        "https://new.{host}:8443/x{path}{query}#y",
    );
    let path = Redirect::new(RedirectStatus::SeeOther, "{path}").unwrap();
    let other = other.unwrap();
    for (redirect, target, host, location) in [
        (
            &to_https,
            "/a?b=c",
            "h.example:80",
            "https://h.example/a?b=c",
        ),
        (&to_https, "/", "[::1]:80", "https://[::1]/"),
        (
            &other,
            "/a",
            "h.example",
            "https://new.h.example:8443/x/a#y",
        ),
        (&path, "//evil.example/x", "h.example", "/evil.example/x"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut out = Vec::new();
        super::redirect(redirect, &request(&head), "id").write(ending(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = format!("\r\nLocation: {location}\r\n");
        assert!(text.contains(&line), "{text}");
    }
    for wrong in ["", "/{", "/{x}", "/a b", "/\r\nx: y", "/ü"] {
        assert!(
            Redirect::new(RedirectStatus::Found, wrong).is_err(),
            "{wrong}"
        );
    }
}

#[test]
fn only_plain_request_ids_are_taken_over() {
    let id = |value: &str| {
        let lines = format!("X-Request-Id: {value}\r\n");
        request_id(Fields::checked(lines.as_bytes())).map(String::from)
    };
    assert_eq!(id("req-1").as_deref(), Some("req-1"));
    assert_eq!(id(""), None);
    assert_eq!(id("a b"), None);
    assert_eq!(id("a\"b"), None);
    assert_eq!(id(&"a".repeat(129)), None);
}
