//! Numbers that nobody can guess.

use crate::schedule::Chance;

/// Random bytes. Without a source of randomness, which a kernel that runs always has, zeros: what
/// they are used for is then less spread, and not wrong.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::warn!("there is no randomness");
    }
    bytes
}

/// A die.
pub(crate) fn chance() -> Chance {
    Chance(u64::from_be_bytes(bytes()))
}
