//! What must hold for any bytes a stranger sends, as plain functions of a fuzzer's input.
//!
//! Each function panics where an invariant does not hold. The fuzz targets call them on nightly
//! Rust, and the test beside them replays the corpus on stable.
#![forbid(unsafe_code)]

mod hello;
pub mod http;
mod proxy_header;
mod wireguard;

pub use hello::hello;
pub use proxy_header::proxy_header;
pub use wireguard::{datagram, super_packet};

/// A fuzzer's input: how to cut, and the bytes of a connection.
struct Input<'a> {
    lens: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// The low four bits of the first byte say how many lengths follow; the rest is the connection.
    fn parse(input: &'a [u8]) -> Self {
        let (count, rest) = input.split_first().unwrap_or((&0, &[]));
        let count = usize::from(count & 0x0f).min(rest.len());
        let (lens, bytes) = rest.split_at(count);
        Self { lens, bytes }
    }

    /// The lengths in turn, for ever, and at least one each; 255 where there are none.
    fn lens(&self) -> impl Iterator<Item = usize> {
        let all: &[u8] = if self.lens.is_empty() {
            &[0xff]
        } else {
            self.lens
        };
        all.iter().cycle().map(|&len| usize::from(len).max(1))
    }

    /// Where the connection's segments end, the last one at the end of the bytes.
    fn segment_ends(&self) -> impl Iterator<Item = usize> {
        let mut end = 0;
        let mut lens = self.lens();
        std::iter::from_fn(move || {
            if end == self.bytes.len() {
                return None;
            }
            end = (end + lens.next()?).min(self.bytes.len());
            Some(end)
        })
    }
}

/// Reads the segments of `input` one after the other. All readings but the last ones, which must be
/// `whole`, are `need_more`.
fn assert_same_in_segments<R: PartialEq + std::fmt::Debug>(
    input: &Input<'_>,
    need_more: &R,
    whole: &R,
    mut read: impl FnMut(&[u8]) -> R,
) {
    let mut is_final = false;
    let mut last = None;
    for end in input.segment_ends() {
        let reading = read(&input.bytes[..end]);
        is_final |= reading != *need_more;
        assert!(
            !is_final || reading == *whole,
            "{reading:?} at {end}, whole {whole:?}"
        );
        last = Some(reading);
    }
    if let Some(last) = last {
        assert_eq!(last, *whole);
    }
}
