//! Requests as an upstream gets them.

use super::*;

#[test]
fn a_request_is_written_anew_with_what_the_upstream_needs_to_know() {
    let head = "GET http://a.example:8080/%61/../b?c HTTP/1.1\r\nhost: a.example:8080\r\n\
                User-Agent:x \r\nX-Empty:\r\n\r\n";
    assert_eq!(
        passed(head, &Way::default()),
        "GET /b?c HTTP/1.1\r\nHost: a.example:8080\r\nUser-Agent: x\r\nX-Empty: \r\n\
         X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: a.example:8080\r\nX-Real-IP: 192.0.2.7\r\n\
         Forwarded: for=192.0.2.7;host=\"a.example:8080\";proto=http\r\n\
         X-Request-Id: id-1\r\n\r\n"
    );
}

#[test]
fn ipv6_is_bracketed_and_quoted_where_it_must_be() {
    let way = Way {
        client: "[2001:db8::7]:1",
        scheme: Scheme::Https,
        ..Way::default()
    };
    let text = passed("GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n", &way);
    assert!(text.contains("\r\nX-Forwarded-For: 2001:db8::7\r\nX-Forwarded-Proto: https\r\n"));
    let forwarded = "\r\nForwarded: for=\"[2001:db8::7]\";host=\"[::1]:8443\";proto=https\r\n";
    assert!(text.contains(forwarded), "{text}");
    let mapped = Way {
        client: "[::ffff:192.0.2.7]:1",
        ..Way::default()
    };
    let text = passed("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &mapped);
    assert!(
        text.contains("\r\nForwarded: for=192.0.2.7;host=a;proto=http\r\n"),
        "{text}"
    );
}

/// What a client says of where it comes from, disguises among it.
const CLAIMS: &str = "X-Forwarded-For: 10.9.9.9\r\nX_Forwarded_For: 10.9.9.9\r\n\
    x-forwarded-proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\n\
    X-Real-IP: 10.9.9.9\r\nX-Real_IP: 10.9.9.9\r\nForwarded: for=10.9.9.9\r\n\
    X-Forwarded-For: 10.8.8.8\r\nX-Request-Id: theirs\r\n";

#[test]
fn what_a_client_says_of_its_origin_is_dropped_unless_it_is_trusted() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{CLAIMS}\r\n");
    let text = passed(&head, &Way::default());
    let bare = passed("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &Way::default());
    assert_eq!(text, bare);
    let trusted = Way {
        trusted: true,
        ..Way::default()
    };
    let text = passed(&head, &trusted);
    for line in [
        "X-Forwarded-For: 10.9.9.9, 10.8.8.8, 192.0.2.7",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Port: 1",
        "X-Real-IP: 10.9.9.9",
        "Forwarded: for=10.9.9.9, for=192.0.2.7;host=a;proto=http",
        "X-Request-Id: id-1",
    ] {
        let line = format!("\r\n{line}\r\n");
        assert_eq!(text.matches(&line).count(), 1, "{line:?} in {text}");
    }
    assert!(!text.contains('_') && !text.contains("theirs"), "{text}");
    assert_eq!(text.matches("10.9.9.9").count(), 3, "{text}");
}

#[test]
fn what_only_a_proxy_may_say_passes_from_a_trusted_one_alone() {
    let claims = "True-Client-IP: x\r\nCF-Connecting-IP: x\r\nCF-Connecting-IPv6: x\r\n\
        Fastly-Client-IP: x\r\nX-Client-IP: x\r\nX-Cluster-Client-IP: x\r\n\
        X-Original-Forwarded-For: x\r\nX-Original-Host: x\r\nX-Original-URL: x\r\n\
        X-Rewrite-URL: x\r\n";
    let disguised = "Proxy: x\r\nTrue_Client_IP: x\r\nX_Original_URL: x\r\n";
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{claims}{disguised}\r\n");
    let bare = passed("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &Way::default());
    assert_eq!(passed(&head, &Way::default()), bare);
    let trusted = Way {
        trusted: true,
        ..Way::default()
    };
    let text = passed(&head, &trusted);
    assert!(text.contains(claims), "{text}");
    assert!(
        !text.contains("\r\nProxy: ") && !text.contains('_'),
        "{text}"
    );
}

#[test]
fn the_real_client_is_named_where_no_proxy_names_another() {
    let way = Way {
        real: Some("198.51.100.9:0"),
        trusted: true,
        ..Way::default()
    };
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n";
    let text = passed(head, &way);
    for line in [
        "X-Real-IP: 198.51.100.9",
        "X-Forwarded-For: 198.51.100.9, 192.0.2.7",
        "Forwarded: for=192.0.2.7;host=a;proto=http",
    ] {
        assert!(
            text.contains(&format!("\r\n{line}\r\n")),
            "{line} in {text}"
        );
    }
}

#[test]
fn a_field_that_a_rule_sets_is_the_rules_in_every_spelling() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nX_Tenant: evil\r\nx-tenant: evil\r\n\
                X-Secret_Key: evil\r\n\r\n";
    let way = Way {
        edits: FieldEdits::new(&[("x-tenant", "blue")], &[], &["X-Secret-Key"]).unwrap(),
        ..Way::default()
    };
    let text = passed(head, &way);
    assert!(text.contains("\r\nx-tenant: blue\r\n"), "{text}");
    assert!(!text.contains("evil"), "{text}");
}

#[test]
fn what_ends_at_this_hop_is_left_out() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop, cookie\r\n\
                Keep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: x\r\nX-Hop: x\r\n\
                Cookie: x\r\nTE: gzip\r\nTrailer: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
                Content-Length: 3\r\nContent_Length: 4\r\nTransfer_Encoding: x\r\n\r\n";
    let text = passed(head, &Way::default());
    let bare = passed(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
        &Way::default(),
    );
    assert_eq!(text, bare);
    assert_eq!(text.to_lowercase().matches("content-length").count(), 1);
}

#[test]
fn nobody_removes_what_the_gateway_writes() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\n\
                Connection: host, x-forwarded-for, x-real-ip, x-request-id, x-cert, x-set\r\n\r\n";
    let way = Way {
        edits: FieldEdits::new(&[("X-Set", "1")], &[], &[]).unwrap(),
        vouched: &[("X-Cert", "alice")],
        ..Way::default()
    };
    let text = passed(head, &way);
    for name in [
        "Host: a",
        "X-Forwarded-For: 192",
        "X-Real-IP: 192",
        "X-Cert: alice",
        "X-Set: 1",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

#[test]
fn a_client_vouches_for_its_own_certificate_only_where_it_is_trusted() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :eA==:\r\nClient_Cert: y\r\n\
                X-Client-Cert-Subject: CN=root\r\n\r\n";
    let text = passed(head, &Way::default());
    assert!(!text.to_lowercase().contains("client"), "{text}");
    let way = Way {
        vouched: &[("Client-Cert", ":eg==:")],
        ..Way::default()
    };
    let text = passed(head, &way);
    assert!(text.contains("\r\nClient-Cert: :eg==:\r\n"), "{text}");
    assert!(
        !text.contains("eA==") && !text.contains("CN=root"),
        "{text}"
    );
    let way = Way {
        trusted: true,
        ..Way::default()
    };
    let text = passed(head, &way);
    assert!(
        text.contains("Client-Cert: :eA==:") && text.contains("CN=root"),
        "{text}"
    );
}

#[test]
fn framing_is_our_own() {
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\nTrailer: x\r\n\r\n";
    let text = passed(chunked, &Way::default());
    assert!(
        text.ends_with("X-Request-Id: id-1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        "{text}"
    );
    assert!(text.contains("\r\nTrailer: x\r\n"));
    let length = Way {
        framing: Some(Framing::Length(12)),
        ..Way::default()
    };
    let text = passed(chunked, &length);
    assert!(text.ends_with("\r\nContent-Length: 12\r\n\r\n") && !text.contains("Trailer"));
}

#[test]
fn expectations_trailers_and_persistence_are_said_to_the_upstream() {
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\
                TE: trailers\r\nConnection: TE\r\n\r\n";
    let text = passed(head, &Way::default());
    assert!(text.ends_with("Expect: 100-continue\r\nTE: trailers\r\nConnection: TE\r\n\r\n"));
    let way = Way {
        expect: false,
        keep_alive: false,
        ..Way::default()
    };
    let text = passed(head, &way);
    assert!(
        text.ends_with("TE: trailers\r\nConnection: close, TE\r\n\r\n"),
        "{text}"
    );
    assert!(!text.contains("Expect"));
}

#[test]
fn an_upgrade_survives() {
    let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n\
                Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    let text = passed(head, &Way::default());
    assert!(text.contains("\r\nSec-WebSocket-Key: k\r\n"));
    assert!(
        text.ends_with("\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn rules_edit_after_everything_else() {
    let way = Way {
        rewrite: Rewrite::new(Some("/v2"), Some("b.example:81")).unwrap(),
        matched: "/api".len(),
        edits: FieldEdits::new(
            &[("X-Forwarded-Proto", "https"), ("X-Old", "new")],
            &[("Accept", "b")],
            &["forwarded", "User-Agent"],
        )
        .unwrap(),
        traceparent: Some("00-own"),
        ..Way::default()
    };
    let head = "GET /api/x?y HTTP/1.1\r\nHost: a\r\nX-OLD: 1\r\nx-old: 2\r\nAccept: a\r\n\
                user-agent: z\r\nTraceparent: theirs\r\ntracestate: kept\r\n\r\n";
    assert_eq!(
        passed(head, &way),
        "GET /v2/x?y HTTP/1.1\r\nHost: b.example:81\r\nAccept: a\r\ntracestate: kept\r\n\
         X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: a\r\nX-Real-IP: 192.0.2.7\r\n\
         X-Request-Id: id-1\r\ntraceparent: 00-own\r\nX-Forwarded-Proto: https\r\nX-Old: new\r\n\
         Accept: b\r\n\r\n"
    );
}

#[test]
fn http_1_0_and_the_server_as_a_whole_are_passed_on_as_1_1() {
    let old = passed("GET / HTTP/1.0\r\n\r\n", &Way::default());
    assert!(
        old.starts_with("GET / HTTP/1.1\r\nHost: 198.51.100.1:80\r\n"),
        "{old}"
    );
    assert!(old.contains("Forwarded: for=192.0.2.7;proto=http\r\n") && !old.contains("-Host:"));
    let server = passed("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &Way::default());
    assert!(
        server.starts_with("OPTIONS * HTTP/1.1\r\nHost: a\r\n"),
        "{server}"
    );
}

#[test]
fn http_2_becomes_http_1_with_one_cookie_and_a_key() {
    use crate::decoded::{FieldLines, RequestHead, request};
    let limits = Limits::default();
    let mut lines = FieldLines::default();
    for (name, value) in [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")] {
        lines
            .push(name.as_bytes(), value.as_bytes(), &limits)
            .unwrap();
    }
    let head = RequestHead {
        method: "CONNECT",
        authority: Some("a.example"),
        path: "/ws",
        protocol: Some("websocket"),
        fields: lines.fields(),
        is_end: false,
    };
    let way = Way {
        websocket_key: Some("key=="),
        ..Way::default()
    };
    let text = String::from_utf8(pass(&request(&head, &limits).unwrap(), &way)).unwrap();
    assert!(
        text.starts_with("GET /ws HTTP/1.1\r\nHost: a.example\r\nx: y\r\nCookie: a=1; b=2\r\n")
    );
    assert!(text.ends_with(
        "Sec-WebSocket-Key: key==\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    ));
}
