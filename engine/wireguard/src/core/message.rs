//! What a datagram claims to be (the WireGuard paper, section 5.4). Nothing here is believed yet.

/// The length of a handshake initiation.
pub(crate) const INITIATION_BYTES: usize = 148;
/// The length of a handshake response.
pub(crate) const RESPONSE_BYTES: usize = 92;
/// The length of a cookie reply.
const COOKIE_BYTES: usize = 64;
/// What a data message adds to what is in it: a header of 16 bytes and an authenticator of 16.
pub(crate) const DATA_OVERHEAD: usize = 32;

/// No session carries more messages than this (`REJECT_AFTER_MESSAGES` of the paper). The bound also
/// keeps the arithmetic of boringtun's replay window from overflowing, which a peer that holds the
/// keys could otherwise make it do.
const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);

/// A datagram of a form that WireGuard knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Somebody wants a session.
    Initiation,
    /// An answer to the initiation that we sent from this index.
    Response { receiver: u32 },
    /// A cookie for the handshake message that we sent from this index.
    Cookie { receiver: u32 },
    /// Something sealed for the session of ours that has this index.
    Data { receiver: u32 },
}

impl Message {
    /// Reads the type, whose three reserved bytes are zero, and checks the length.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        match (word(datagram, 0)?, datagram.len()) {
            (1, INITIATION_BYTES) => Some(Self::Initiation),
            (2, RESPONSE_BYTES) => Some(Self::Response {
                receiver: word(datagram, 8)?,
            }),
            (3, COOKIE_BYTES) => Some(Self::Cookie {
                receiver: word(datagram, 4)?,
            }),
            (4, DATA_OVERHEAD..) => {
                let counter = u64::from(word(datagram, 8)?) | u64::from(word(datagram, 12)?) << 32;
                (counter < REJECT_AFTER_MESSAGES).then_some(Self::Data {
                    receiver: word(datagram, 4)?,
                })
            }
            _ => None,
        }
    }
}

/// The traffic class of a message that has no packet in it: the kernel's for handshakes (AF41,
/// `HANDSHAKE_DSCP` in `drivers/net/wireguard/messages.h`), none for keep-alives and cookies.
pub(crate) fn traffic_class(message: &[u8]) -> u8 {
    match message.first() {
        Some(1 | 2) => 0x88,
        _ => 0,
    }
}

/// The index that the sender of a handshake message wants to be answered at.
pub(crate) fn sender_index(message: &[u8]) -> Option<u32> {
    word(message, 4)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        bytes
    }

    #[test]
    fn only_the_four_kinds_at_their_lengths_are_read() {
        let known = [(1, 148), (2, 92), (3, 64), (4, 32), (4, 33), (4, 65_507)];
        for kind in 0..=8 {
            for len in (0..200).chain([65_507]) {
                let expected = known.contains(&(kind, len)) || kind == 4 && len >= 32;
                let read = Message::read(&message(kind, len));
                assert_eq!(read.is_some(), expected, "type {kind}, {len} bytes");
            }
        }
    }

    #[test]
    fn reserved_bytes_that_are_not_zero_make_it_something_else() {
        for at in 1..4 {
            let mut bytes = message(4, 32);
            bytes[at] = 1;
            assert_eq!(Message::read(&bytes), None);
        }
    }

    #[test]
    fn a_counter_beyond_the_last_that_a_session_may_use_is_not_read() {
        let mut bytes = message(4, 32);
        for (counter, readable) in [
            (0, true),
            (REJECT_AFTER_MESSAGES - 1, true),
            (REJECT_AFTER_MESSAGES, false),
            (u64::MAX, false),
        ] {
            bytes[8..16].copy_from_slice(&counter.to_le_bytes());
            assert_eq!(Message::read(&bytes).is_some(), readable, "{counter}");
        }
    }
}
