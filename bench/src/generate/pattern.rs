//! The bytes of a bulk flow: every place in it says which byte belongs there, so that a lost,
//! doubled or swapped piece shows without a digest over gigabytes.

/// Length after which the bytes repeat: one write of the source.
pub(crate) const PATTERN_BYTES: usize = 128 * 1024;

/// Bytes looked at, at each end of a piece.
const EDGE_BYTES: usize = 16;

/// One period (splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
pub(crate) fn pattern() -> Vec<u8> {
    let mut state = 0_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..PATTERN_BYTES / 8)
        .flat_map(|_| next().to_le_bytes())
        .collect()
}

/// Whether both ends of `piece` are what belongs at `offset` of the flow.
pub(crate) fn fits(pattern: &[u8], offset: u64, piece: &[u8]) -> bool {
    let edge = piece.len().min(EDGE_BYTES);
    let back = piece.len() - edge;
    matches_at(pattern, offset, &piece[..edge])
        && matches_at(pattern, offset + back as u64, &piece[back..])
}

fn matches_at(pattern: &[u8], offset: u64, bytes: &[u8]) -> bool {
    let start = offset % pattern.len() as u64;
    let start = usize::try_from(start).unwrap_or(0);
    let expected = pattern[start..].iter().chain(pattern);
    bytes.iter().eq(expected.take(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_fits_only_where_it_belongs() {
        let pattern = pattern();
        let flow: Vec<u8> = pattern.iter().chain(&pattern).copied().collect();
        for (from, to) in [(0, 1), (5, 4096), (PATTERN_BYTES - 3, PATTERN_BYTES + 900)] {
            let piece = &flow[from..to];
            assert!(fits(&pattern, from as u64, piece));
            assert!(fits(&pattern, (from + PATTERN_BYTES) as u64, piece));
            assert!(!fits(&pattern, from as u64 + 1, piece));
        }
    }

    #[test]
    fn a_changed_byte_at_either_end_is_noticed() {
        let pattern = pattern();
        for place in [0, 4095] {
            let mut piece = pattern[..4096].to_vec();
            piece[place] ^= 1;
            assert!(!fits(&pattern, 0, &piece));
        }
    }
}
