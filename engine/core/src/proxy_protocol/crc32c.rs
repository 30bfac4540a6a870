//! CRC-32C (Castagnoli), as RFC 3720 appendix B.4 and RFC 9260 appendix A define it.
//!
//! A table of 1 KiB made at compile time: the longest header is 4 KiB, and most carry no checksum,
//! so a crate that finds out about CPU instructions has nothing to win here.

/// A checksum in the making.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc32c(u32);

impl Crc32c {
    pub(super) fn new() -> Self {
        Self(u32::MAX)
    }

    #[must_use]
    pub(super) fn update(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |sum, byte| {
            let [low, ..] = sum.to_le_bytes();
            (sum >> 8) ^ TABLE[usize::from(low ^ byte)]
        }))
    }

    pub(super) fn finish(self) -> u32 {
        !self.0
    }
}

/// What each byte does to the sum.
const TABLE: [u32; 256] = {
    /// The polynomial 0x1EDC6F41, lowest bit first.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut table = [0; 256];
    let mut byte = 0;
    let mut seed: u32 = 0;
    while byte < table.len() {
        let mut sum = seed;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (if sum & 1 == 1 { POLYNOMIAL } else { 0 });
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
        seed += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 3720 appendix B.4, and the check value of the CRC catalogues.
    #[test]
    fn sums_are_those_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, sum) in [
            (b"123456789".as_slice(), 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
        ] {
            assert_eq!(Crc32c::new().update(bytes).finish(), sum);
        }
    }
}
