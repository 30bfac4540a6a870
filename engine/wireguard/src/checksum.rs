//! The Internet checksum (RFC 1071): the one's complement sum of 16-bit words, fast.
//!
//! Words are added in the byte order of the machine, eight bytes at a time, and brought to network
//! order in the end: that the sum does not care is the point of RFC 1071, section 2 (B).

use std::net::IpAddr;

/// A one's complement sum, not folded yet. It takes more than any packet holds: 2^31 words.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// The sum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1).
    pub(crate) fn pseudo_header(
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        len: u16,
    ) -> Self {
        Self::default()
            .address(source)
            .address(destination)
            .word(u16::from(protocol))
            .word(len)
    }

    /// What a 16-bit field of a header, in network order, holds.
    pub(crate) fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// Takes a word out again.
    pub(crate) fn without(self, word: u16) -> Self {
        self.word(!word)
    }

    fn address(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.bytes(&address.octets()),
            IpAddr::V6(address) => self.bytes(&address.octets()),
        }
    }

    /// The bytes from an even place on; an odd last one counts as if a zero followed.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut chunks = bytes.chunks_exact(32);
        // The two halves of eight-byte words, apart, so that nothing overflows and the compiler adds
        // several at a time.
        let (mut low, mut high) = ([0_u64; 4], [0_u64; 4]);
        for chunk in &mut chunks {
            for (lane, eight) in chunk.chunks_exact(8).enumerate() {
                let word = eight
                    .first_chunk()
                    .map_or(0, |eight| u64::from_ne_bytes(*eight));
                low[lane] += word & 0xffff_ffff;
                high[lane] += word >> 32;
            }
        }
        let mut sum = self.0;
        for word in low.into_iter().chain(high) {
            // Each is below 2^32 times the number of chunks: folded to 33 bits before it is added.
            sum += (word & 0xffff_ffff) + (word >> 32);
        }
        let mut pairs = chunks.remainder().chunks_exact(2);
        for pair in &mut pairs {
            sum += pair
                .first_chunk()
                .map_or(0, |pair| u64::from(u16::from_ne_bytes(*pair)));
        }
        if let [last] = pairs.remainder() {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self(sum)
    }

    /// The sum in 16 bits, in the order that [`u16::to_be_bytes`] writes.
    pub(crate) fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let [low, high, ..] = sum.to_le_bytes();
        u16::from_be(u16::from_le_bytes([low, high]))
    }

    /// The checksum: the complement of the sum.
    pub(crate) fn finish(self) -> u16 {
        !self.fold()
    }

    /// Whether the sum of bytes with their checksum among them is what it has to be.
    pub(crate) fn is_right(self) -> bool {
        self.fold() == 0xffff
    }
}

/// A checksum after one word that it covers has changed (RFC 1624, equation 3).
pub(crate) fn changed(checksum: u16, before: u16, after: u16) -> u16 {
    Sum::default()
        .word(!checksum)
        .without(before)
        .word(after)
        .finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071 writes it down.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn the_fast_sum_is_the_plain_one(
            bytes in prop::collection::vec(any::<u8>(), 0..3_000),
            cut in any::<prop::sample::Index>(),
        ) {
            prop_assert_eq!(Sum::default().bytes(&bytes).fold(), plain(&bytes));
            let even = cut.index(bytes.len() + 1) & !1;
            let (left, right) = bytes.split_at(even);
            let sum = Sum::default().bytes(left).bytes(right);
            prop_assert_eq!(sum.fold(), plain(&bytes));
        }

        #[test]
        fn a_word_is_two_bytes_and_taking_it_out_undoes_adding_it(word: u16, other: u16) {
            let sum = Sum::default().word(word).word(other);
            prop_assert_eq!(sum.fold(), plain(&[word.to_be_bytes(), other.to_be_bytes()].concat()));
            let (one, both) = (Sum::default().word(word), sum.without(other));
            // Zero has two forms.
            prop_assert_eq!(one.fold() % 0xffff, both.fold() % 0xffff);
        }

        #[test]
        fn a_changed_word_changes_the_checksum_as_computing_it_anew_does(
            mut bytes in prop::collection::vec(1_u8.., 20..=20),
            word: u16,
        ) {
            let checksum = Sum::default().bytes(&bytes).finish();
            let before = u16::from_be_bytes([bytes[4], bytes[5]]);
            bytes[4..6].copy_from_slice(&word.to_be_bytes());
            let anew = Sum::default().bytes(&bytes).finish();
            prop_assert_eq!(changed(checksum, before, word), anew);
        }
    }

    #[test]
    fn the_largest_sum_does_not_overflow() {
        let bytes = vec![0xff; 65_535];
        let sum = Sum::pseudo_header([255; 16].into(), [255; 16].into(), 255, 65_535);
        assert_eq!(sum.bytes(&bytes).bytes(&bytes).fold(), {
            let mut all = vec![0xff; 34];
            all.extend([0, 255]);
            all.extend([&bytes[..], &[0], &bytes[..], &[0]].concat());
            plain(&all)
        });
    }
}
