//! W3C Trace Context (Recommendation of 23 November 2021).

use crate::octet;

/// Bytes of `traceparent` as version 00 writes it.
pub const TRACEPARENT_BYTES: usize = 55;

/// What `traceparent` says (section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole trace; not all zero.
    pub trace_id: [u8; 16],
    /// The span of who sent it; not all zero.
    pub parent_id: [u8; 8],
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceParent {
    /// Parses a value. `None` is one that must be ignored: of version 255, with upper-case digits,
    /// or with ids of zero. Later versions may be longer (section 4.3).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
        let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let [version] = read(&known[..2])?;
        let later = matches!(rest, [] | [b'-', ..]) && version != 0xff;
        if !dashes || !(later && version > 0 || rest.is_empty() && version == 0) {
            return None;
        }
        let [flags] = read(&known[53..])?;
        let parsed = Self {
            trace_id: read(&known[3..35])?,
            parent_id: read(&known[36..52])?,
            sampled: flags & 1 == 1,
        };
        (parsed.trace_id != [0; 16] && parsed.parent_id != [0; 8]).then_some(parsed)
    }

    /// The same trace, from a span of the gateway's own.
    pub fn child(self, parent_id: [u8; 8]) -> Self {
        Self { parent_id, ..self }
    }

    /// The value as version 00 writes it.
    pub fn encode(self) -> [u8; TRACEPARENT_BYTES] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write(&self.trace_id, &mut out[3..35]);
        write(&self.parent_id, &mut out[36..52]);
        write(&[u8::from(self.sampled)], &mut out[53..]);
        out
    }
}

/// Lower-case digits of exactly `N` bytes.
fn read<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != N * 2 || digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = octet::hex(pair[0])? << 4 | octet::hex(pair[1])?;
    }
    Some(bytes)
}

fn write(bytes: &[u8], out: &mut [u8]) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&octet::hex_digits(*byte));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_example_of_the_recommendation_is_read_and_written() {
        let parsed = TraceParent::parse(EXAMPLE.as_bytes()).unwrap();
        assert!(parsed.sampled);
        assert_eq!(parsed.encode(), EXAMPLE.as_bytes());
        let child = parsed.child([1; 8]);
        assert_eq!(
            child.encode(),
            *b"00-4bf92f3577b34da6a3ce929d0e0e4736-0101010101010101-01"
        );
    }

    #[test]
    fn what_must_be_ignored_is_ignored() {
        let zero_trace = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let zero_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        for wrong in [
            "",
            zero_trace,
            zero_parent,
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replacen("00", "ff", 1),
            &format!("{EXAMPLE}-x"),
            &EXAMPLE[..54],
            &EXAMPLE.replacen('-', "_", 1),
            &EXAMPLE.replacen("4b", "4g", 1),
        ] {
            assert_eq!(TraceParent::parse(wrong.as_bytes()), None, "{wrong}");
        }
        let later = EXAMPLE.replacen("00", "01", 1) + "-more";
        assert!(TraceParent::parse(later.as_bytes()).is_some());
        assert!(TraceParent::parse(later.replace("-more", "more").as_bytes()).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_what_is_written_is_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..70),
            trace_id in any::<[u8; 16]>(),
            parent_id in any::<[u8; 8]>(),
            sampled in any::<bool>(),
        ) {
            TraceParent::parse(&bytes);
            let parent = TraceParent { trace_id, parent_id, sampled };
            let zero = trace_id == [0; 16] || parent_id == [0; 8];
            prop_assert_eq!(TraceParent::parse(&parent.encode()), (!zero).then_some(parent));
        }
    }
}
