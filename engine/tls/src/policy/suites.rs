//! What a client thinks of cipher suites, as far as the server's choice depends on it.

/// Record header, message header, version and random (RFC 8446 sections 5.1 and 4.1.2).
const SESSION_ID_AT: usize = 5 + 4 + 2 + 32;
/// `TLS_CHACHA20_POLY1305_SHA256` (RFC 8446 appendix B.4), and the suites of TLS 1.2 with the same
/// cipher (RFC 7905).
const CHACHA: [[u8; 2]; 3] = [[0x13, 0x03], [0xcc, 0xa8], [0xcc, 0xa9]];

/// Whether the client would rather have ChaCha20 than AES: its processor has no AES instructions,
/// and with them AES would cost it several times as much.
///
/// `received` starts with a ClientHello. One that is cut into records before its cipher suites, as
/// no client with such a processor does it, is taken to want AES: nothing but speed depends on it.
pub(super) fn prefers_chacha(received: &[u8]) -> bool {
    first_suite(received).is_some_and(|suite| CHACHA.contains(&suite))
}

/// The first cipher suite that is not GREASE (RFC 8701 section 2: both bytes the same, 0x?a).
fn first_suite(received: &[u8]) -> Option<[u8; 2]> {
    let session_id = usize::from(*received.get(SESSION_ID_AT)?);
    let suites = received.get(SESSION_ID_AT + 1 + session_id..)?;
    let (length, suites) = suites.split_first_chunk::<2>()?;
    let suites = suites.get(..usize::from(u16::from_be_bytes(*length)))?;
    let (suites, _) = suites.as_chunks::<2>();
    let is_grease = |[first, second]: [u8; 2]| first == second && first & 0x0f == 0x0a;
    suites.iter().copied().find(|suite| !is_grease(*suite))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(suites: &[u16]) -> Vec<u8> {
        let mut hello = vec![0; SESSION_ID_AT];
        hello.extend([4, 9, 9, 9, 9, 0, u8::try_from(suites.len() * 2).unwrap()]);
        suites
            .iter()
            .for_each(|suite| hello.extend(suite.to_be_bytes()));
        hello
    }

    #[test]
    fn the_first_suite_that_means_something_counts() {
        for (suites, prefers) in [
            (&[0x1303, 0x1301][..], true),
            (&[0x1301, 0x1303], false),
            (&[0x5a5a, 0x1303, 0x1301], true),
            (&[0x5a5a, 0x1302, 0x1303], false),
            (&[0xcca9, 0xc02b], true),
            (&[], false),
        ] {
            assert_eq!(prefers_chacha(&hello(suites)), prefers, "{suites:x?}");
        }
    }

    #[test]
    fn a_hello_that_is_cut_or_lies_is_taken_to_want_aes() {
        let whole = hello(&[0x1303]);
        for end in 0..whole.len() {
            assert!(!prefers_chacha(&whole[..end]), "{end}");
        }
        let mut lies = whole;
        lies[SESSION_ID_AT] = 255;
        assert!(!prefers_chacha(&lies));
    }
}
