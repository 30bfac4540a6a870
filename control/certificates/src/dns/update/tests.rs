use std::{fs, net::SocketAddr};

use control_api::boot::parse;
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;

const KEY: &[u8] = b"a key of thirty-two bytes, really";

fn zone(server: SocketAddr, folder: &Path) -> Zone {
    fs::write(folder.join("tsig"), format!("{}\n", STANDARD.encode(KEY))).unwrap();
    let text = format!(
        "listeners: [{{ name: a, bind: 127.0.0.1:0, protocol: tls }}]\n\
         acme: {{ dns: {{ zones: [{{ zone: example.com, server: \"{server}\", key_name: k.example, \
         key_file: tsig }}] }} }}"
    );
    let none = std::collections::BTreeMap::<String, String>::new();
    let boot = parse(&text, &none).unwrap().value;
    let zones = boot.acme.dns.zones.unwrap();
    Zone::new(&zones[0], folder)
}

fn signer(key: &[u8]) -> TSigner {
    let name = Name::from_ascii("k.example.").unwrap();
    TSigner::new(key.to_vec(), tsig::TsigAlgorithm::HmacSha256, name, FUDGE).unwrap()
}

/// A server that takes one update, verifies it, and answers with `code`, signed with `key`.
async fn serve(listener: TcpListener, code: ResponseCode, key: &[u8]) -> Message {
    let (mut stream, _) = listener.accept().await.unwrap();
    let length = stream.read_u16().await.unwrap();
    let mut request = vec![0; length.into()];
    stream.read_exact(&mut request).await.unwrap();
    let (mac, time, _) = signer(KEY)
        .verify_message_byte(&request, None, true)
        .unwrap();
    let message = Message::from_vec(&request).unwrap();
    let mut answer = Message::response(message.id, OpCode::Update);
    answer.metadata.response_code = code;
    let context =
        hickory_proto::rr::TSigResponseContext::new(message.id, time, signer(key), mac, None);
    let signature = context.sign(&answer.to_vec().unwrap()).unwrap();
    answer.set_signature(signature);
    let answer = answer.to_vec().unwrap();
    stream
        .write_u16(u16::try_from(answer.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(&answer).await.unwrap();
    message
}

/// What a client and a server make of one change.
fn change(change: Change, code: ResponseCode, key: &[u8]) -> (Result<(), UpdateError>, Message) {
    let folder = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let zone = zone(listener.local_addr().unwrap(), folder.path());
        let name = Hostname::parse(b"www.example.com").unwrap();
        tokio::join!(
            zone.change(change, &name, "proof", 1_700_000_000),
            serve(listener, code, key)
        )
    })
}

#[test]
fn a_record_is_added_with_its_name_and_text() {
    let (done, message) = change(Change::Add, ResponseCode::NoError, KEY);
    done.unwrap();
    assert_eq!(message.queries[0].name().to_ascii(), "example.com.");
    assert_eq!(message.queries[0].query_type(), RecordType::SOA);
    let record = &message.authorities[0];
    assert_eq!(record.name.to_ascii(), "_acme-challenge.www.example.com.");
    assert_eq!((record.dns_class, record.ttl), (DNSClass::IN, TTL));
    assert_eq!(record.data.to_string(), "proof");
}

#[test]
fn only_the_one_record_is_removed() {
    let (done, message) = change(Change::Remove, ResponseCode::NoError, KEY);
    done.unwrap();
    let record = &message.authorities[0];
    assert_eq!((record.dns_class, record.ttl), (DNSClass::NONE, 0));
    assert_eq!(record.data.to_string(), "proof");
}

#[test]
fn a_refusal_and_a_forged_answer_are_told_apart() {
    let (done, _) = change(Change::Add, ResponseCode::Refused, KEY);
    let code = ResponseCode::Refused;
    assert!(matches!(done, Err(UpdateError::Refused { code: found, .. }) if found == code));
    let (done, _) = change(
        Change::Add,
        ResponseCode::NoError,
        b"another key altogether",
    );
    assert!(matches!(done, Err(UpdateError::Verify { .. })), "{done:?}");
}
