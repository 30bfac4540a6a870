use proptest::prelude::*;

use super::*;

const RECORD: Record<'_> = Record {
    time: Duration::from_millis(1_763_727_354_042),
    remote_addr: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4711),
    user: None,
    host: Some(b"a.example"),
    method: b"GET",
    target: b"/x?y=z",
    version: Version::Http11,
    status: 200,
    reason: None,
    body_bytes_received: 0,
    body_bytes_sent: 123,
    request_time: Duration::from_micros(1_002_003),
    upstream_connect_time: None,
    upstream_header_time: Some(Duration::from_micros(900)),
    upstream_response_time: None,
    upstream_addr: None,
    attempts: 1,
    network: Some("network-51820"),
    route: Some("a.example/x"),
    request_id: "id-1",
    trace_id: None,
    tls: None,
    user_agent: Some(b"curl/8"),
    referer: None,
};

fn json(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_json(&mut out);
    String::from_utf8(out).unwrap()
}

fn common(record: &Record<'_>) -> String {
    let mut out = Vec::new();
    record.write_common(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_record_is_one_line_of_json() {
    assert_eq!(
        json(&RECORD),
        "{\"time\":\"2025-11-21T12:15:54.042Z\",\"remote_addr\":\"127.0.0.1:4711\",\
         \"host\":\"a.example\",\"method\":\"GET\",\"target\":\"/x?y=z\",\
         \"protocol\":\"HTTP/1.1\",\"status\":200,\"body_bytes_received\":0,\
         \"body_bytes_sent\":123,\"request_time\":1.002003,\"upstream_header_time\":0.000900,\
         \"attempts\":1,\"network\":\"network-51820\",\"route\":\"a.example/x\",\
         \"request_id\":\"id-1\",\"user_agent\":\"curl/8\"}\n"
    );
}

#[test]
fn a_record_is_one_line_of_the_common_log_format() {
    let record = Record {
        user: Some("al ice"),
        ..RECORD
    };
    assert_eq!(
        common(&record),
        "127.0.0.1 - al\\x20ice [21/Nov/2025:12:15:54 +0000] \"GET /x?y=z HTTP/1.1\" 200 123\n"
    );
}

#[test]
fn dates_are_those_of_the_calendar() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400, "2000-02-29T00:00:00.000Z"),
        (951_868_799, "2000-02-29T23:59:59.000Z"),
        (1_709_251_199, "2024-02-29T23:59:59.000Z"),
        (1_735_689_599, "2024-12-31T23:59:59.000Z"),
        (4_107_542_400, "2100-03-01T00:00:00.000Z"),
    ] {
        let date = Date::of(Duration::from_secs(seconds));
        assert_eq!(date.rfc_3339().to_string(), expected);
    }
}

proptest! {
    #[test]
    fn nothing_that_is_sent_breaks_a_line(
        host in proptest::collection::vec(any::<u8>(), 0..40),
        target in proptest::collection::vec(any::<u8>(), 0..40),
        agent in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let record = Record {
            host: Some(&host),
            target: &target,
            method: &agent,
            user_agent: Some(&agent),
            ..RECORD
        };
        let line = json(&record);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(value["host"].as_str(), Some(&*String::from_utf8_lossy(&host)));
        prop_assert_eq!(value["request_id"].as_str(), Some("id-1"));
        let line = common(&record);
        prop_assert!(line.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')));
        prop_assert_eq!(line.split(' ').count(), 10);
    }
}
