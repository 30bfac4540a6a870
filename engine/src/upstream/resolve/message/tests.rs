use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use proptest::prelude::*;

use super::*;

const ID: u16 = 0x1234;

fn host() -> Hostname {
    Hostname::parse(b"web.a.example").unwrap()
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn record(owner: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(name(owner), ttl, data)
}

fn v4(owner: &str, ttl: u32, last: u8) -> Record {
    record(owner, ttl, RData::A(A(Ipv4Addr::new(10, 0, 0, last))))
}

fn alias(owner: &str, ttl: u32, to: &str) -> Record {
    record(owner, ttl, RData::CNAME(CNAME(name(to))))
}

/// An answer to the question of these tests.
fn answer(records: Vec<Record>) -> Message {
    let mut message = Message::new(ID, MessageType::Response, OpCode::Query);
    message.add_query(Query::query(name("web.a.example."), RecordType::A));
    message.insert_answers(records);
    message
}

fn read_v4(message: &Message) -> Option<Answer> {
    read(&message.to_vec().unwrap(), ID, &host(), Family::V4)
}

fn found(last: &[u8], ttl: u64) -> Option<Answer> {
    let addresses = last.iter().map(|last| IpAddr::from([10, 0, 0, *last]));
    Some(Answer::Addresses {
        addresses: addresses.collect(),
        ttl: Duration::from_secs(ttl),
    })
}

#[test]
fn a_question_asks_for_one_family_of_one_name_with_recursion() {
    for (family, kind) in [(Family::V4, RecordType::A), (Family::V6, RecordType::AAAA)] {
        let message = Message::from_vec(&question(ID, &host(), family).unwrap()).unwrap();
        assert_eq!(message.metadata.id, ID);
        assert!(message.metadata.recursion_desired);
        assert_eq!(
            message.queries,
            [Query::query(name("web.a.example."), kind)]
        );
    }
}

#[test]
fn addresses_are_taken_in_their_order_with_the_shortest_time() {
    let own = "Web.A.Example.";
    let records = vec![v4(own, 60, 2), v4(own, 30, 1), v4(own, 90, 2)];
    assert_eq!(read_v4(&answer(records)), found(&[2, 1], 30));
    let six = record(own, 60, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
    assert!(
        matches!(read_v4(&answer(vec![six])), Some(Answer::Nothing { .. })),
        "another family was asked for"
    );
}

#[test]
fn aliases_are_followed_and_what_is_said_of_others_is_not_believed() {
    let records = vec![
        v4("evil.example.", 60, 9),
        v4("c.example.", 60, 3),
        alias("b.example.", 20, "c.example."),
        alias("web.a.example.", 40, "b.example."),
    ];
    assert_eq!(read_v4(&answer(records)), found(&[3], 20));
    let circle = vec![
        alias("web.a.example.", 40, "b.example."),
        alias("b.example.", 40, "web.a.example."),
    ];
    assert!(matches!(
        read_v4(&answer(circle)),
        Some(Answer::Nothing { .. })
    ));
}

#[test]
fn more_addresses_than_are_used_are_passed_over() {
    let records = (0..=255)
        .map(|last| v4("web.a.example.", 60, last))
        .collect();
    let Some(Answer::Addresses { addresses, .. }) = read_v4(&answer(records)) else {
        panic!("there are addresses");
    };
    assert_eq!(addresses.len(), ADDRESSES_MAX);
}

#[test]
fn a_negative_answer_counts_as_long_as_its_zone_says() {
    let mut message = answer(Vec::new());
    message.metadata.response_code = ResponseCode::NXDomain;
    let unsaid = Some(Answer::Nothing {
        ttl: NEGATIVE_UNSAID,
    });
    assert_eq!(read_v4(&message), unsaid);
    let zone = SOA::new(name("ns.example."), name("who.example."), 1, 2, 3, 4, 45);
    message.add_authority(record("example.", 600, RData::SOA(zone)));
    let ttl = Duration::from_secs(45);
    assert_eq!(read_v4(&message), Some(Answer::Nothing { ttl }));
}

#[test]
fn failures_and_truncation_are_told_apart() {
    for code in [
        ResponseCode::ServFail,
        ResponseCode::Refused,
        ResponseCode::FormErr,
    ] {
        let mut message = answer(Vec::new());
        message.metadata.response_code = code;
        assert_eq!(read_v4(&message), Some(Answer::Failed));
    }
    let mut cut = answer(vec![v4("web.a.example.", 60, 1)]);
    cut.metadata.truncation = true;
    assert_eq!(read_v4(&cut), Some(Answer::Truncated));
}

#[test]
fn what_answers_another_question_is_no_answer() {
    let good = || answer(vec![v4("web.a.example.", 60, 1)]);
    assert!(read_v4(&good()).is_some());
    let mut other_id = good();
    other_id.metadata.id = ID + 1;
    let mut a_question = good();
    a_question.metadata.message_type = MessageType::Query;
    let mut other_name = good();
    other_name.queries[0].name = name("web.b.example.");
    let mut other_kind = good();
    other_kind.queries[0].query_type = RecordType::AAAA;
    let mut two = good();
    two.add_query(Query::query(name("web.a.example."), RecordType::A));
    let mut none = good();
    none.queries.clear();
    for forged in [other_id, a_question, other_name, other_kind, two, none] {
        assert_eq!(read_v4(&forged), None, "{forged:?}");
    }
    let whole = good().to_vec().unwrap();
    for end in 0..whole.len() {
        assert_eq!(read(&whole[..end], ID, &host(), Family::V4), None, "{end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let id = u16::from_be_bytes([
            bytes.first().copied().unwrap_or(0),
            bytes.get(1).copied().unwrap_or(0),
        ]);
        let _ = read(&bytes, id, &host(), Family::V4);
    }

    #[test]
    fn an_answer_with_broken_bytes_never_gives_more_than_it_may(
        places in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let records = vec![
            alias("web.a.example.", 40, "b.example."),
            v4("b.example.", 60, 1),
            v4("b.example.", 60, 2),
        ];
        let mut bytes = answer(records).to_vec().unwrap();
        for (place, byte) in places {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Some(Answer::Addresses { addresses, .. }) = read(&bytes, ID, &host(), Family::V4) {
            prop_assert!(!addresses.is_empty() && addresses.len() <= ADDRESSES_MAX);
            prop_assert!(addresses.iter().all(IpAddr::is_ipv4));
        }
    }
}
