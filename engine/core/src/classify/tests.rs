mod cases;
mod fixtures;
mod properties;
mod synthetic;

use super::*;

/// More than any hello of these tests, cut into records of one byte, needs.
const BYTES_MAX: usize = 64 << 10;

/// Reads growing beginnings of `bytes`, which end at `ends` and at the end. The verdict must not
/// change once it is final.
fn read_in_segments(bytes: &[u8], ends: impl IntoIterator<Item = usize>) -> Verdict {
    let mut reader = HelloReader::new(BYTES_MAX);
    let mut verdict = Verdict::NeedMore;
    for end in ends.into_iter().chain([bytes.len()]) {
        let next = reader.read(&bytes[..end]);
        if verdict != Verdict::NeedMore {
            assert_eq!(next, verdict, "changed its mind at byte {end}");
        }
        verdict = next;
    }
    verdict
}

fn read_whole(bytes: &[u8]) -> Verdict {
    read_in_segments(bytes, [])
}

fn read_bytewise(bytes: &[u8]) -> Verdict {
    read_in_segments(bytes, 0..bytes.len())
}

/// The message of some records.
fn message_of(mut records: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = records {
        let (payload, rest) = rest.split_at(u16::from_be_bytes([*high, *low]).into());
        message.extend_from_slice(payload);
        records = rest;
    }
    message
}

/// `message` in records of the given lengths, the last of them holding the rest.
fn records_of(mut message: &[u8], lens: impl IntoIterator<Item = usize>) -> Vec<u8> {
    let mut records = Vec::new();
    let mut lens = lens.into_iter();
    while !message.is_empty() {
        let longest = message.len().min(RECORD_PAYLOAD_BYTES_MAX);
        let len = lens.next().unwrap_or(longest).clamp(1, longest);
        let (payload, rest) = message.split_at(len);
        records.extend_from_slice(&[RECORD_HANDSHAKE, 3, 1]);
        records.extend_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        records.extend_from_slice(payload);
        message = rest;
    }
    records
}
