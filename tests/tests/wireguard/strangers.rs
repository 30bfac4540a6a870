//! What strangers send.

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use blake2::{
    Blake2s256, Blake2sMac, Digest as _,
    digest::{Mac, consts::U16},
};
use tests::{network::Network, random::Random};

/// The lengths of the handshake messages (whitepaper, 5.4.2 and 5.4.3).
const INITIATION_BYTES: usize = 148;
const RESPONSE_BYTES: usize = 92;
/// Both end with two codes of 16 bytes, of which the first covers everything before (5.4.4).
const CODE_BYTES: usize = 16;
/// The longest datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// A way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Any bytes.
    Noise,
    /// Any bytes behind the first four of a message.
    Forged,
    /// What a peer sent, cut short.
    Truncated,
    /// What a peer sent, once more and in another order.
    Replayed,
    /// What a peer sent, with a bit changed.
    Changed,
    /// What a peer sent, with bytes behind it, or as long as a datagram can be.
    Oversized,
    /// A handshake message of the right form, made by somebody who knows the public key.
    Handshake,
}

impl Kind {
    pub(crate) const OTHERS: [Self; 6] = [
        Self::Noise,
        Self::Forged,
        Self::Truncated,
        Self::Replayed,
        Self::Changed,
        Self::Oversized,
    ];
}

/// The bytes of a network's public key.
pub(crate) fn public_key(network: &Network) -> Result<[u8; 32]> {
    let bytes = STANDARD.decode(&network.keys.public)?;
    bytes.try_into().ok().context("no key")
}

/// Makes a datagram of that kind. `copies` are real messages, and not empty.
pub(crate) fn make(
    kind: Kind,
    copies: &[Vec<u8>],
    key: &[u8; 32],
    random: &mut Random,
    datagram: &mut Vec<u8>,
) {
    datagram.clear();
    match kind {
        Kind::Noise => {
            let length = random.index(1_500);
            datagram.extend(random.bytes(length));
        }
        Kind::Forged => {
            let length = [16, 32, 64, RESPONSE_BYTES, INITIATION_BYTES, 1_000][random.index(6)];
            datagram.extend(random.bytes(length));
            let of_kind = 1 + u8::try_from(random.below(4)).unwrap_or(0);
            datagram[..4].copy_from_slice(&[of_kind, 0, 0, 0]);
        }
        Kind::Truncated | Kind::Replayed | Kind::Changed | Kind::Oversized => {
            datagram.extend_from_slice(&copies[random.index(copies.len())]);
            spoil(kind, random, datagram);
        }
        Kind::Handshake => {
            let is_response = random.one_in(2);
            datagram.extend(random.bytes(INITIATION_BYTES));
            datagram.truncate(if is_response {
                RESPONSE_BYTES
            } else {
                INITIATION_BYTES
            });
            datagram[..4].copy_from_slice(&[1 + u8::from(is_response), 0, 0, 0]);
            seal(key, datagram);
        }
    }
}

fn spoil(kind: Kind, random: &mut Random, datagram: &mut Vec<u8>) {
    let is_handshake = matches!(datagram.first(), Some(1..=3));
    match kind {
        Kind::Truncated => datagram.truncate(random.index(datagram.len())),
        Kind::Oversized if random.one_in(16) => datagram.resize(DATAGRAM_BYTES_MAX, 0x55),
        Kind::Oversized => {
            let more = 1 + random.index(64);
            datagram.extend(random.bytes(more));
        }
        // A handshake message that is replayed is one of the right form: of those there are few.
        Kind::Changed => flip(random, datagram),
        Kind::Replayed if is_handshake => flip(random, datagram),
        Kind::Noise | Kind::Forged | Kind::Replayed | Kind::Handshake => {}
    }
}

/// Changes a bit where the first code of a handshake message sees it.
fn flip(random: &mut Random, datagram: &mut [u8]) {
    let covered = datagram.len().saturating_sub(2 * CODE_BYTES).max(1);
    let length = match datagram.first() {
        Some(1..=3) => covered.min(datagram.len()),
        Some(_) | None => datagram.len(),
    };
    if length > 0 {
        datagram[random.index(length)] ^= 1 << random.below(8);
    }
}

/// Writes the first code of a handshake message: whoever knows the public key can.
pub(crate) fn seal(key: &[u8; 32], message: &mut [u8]) {
    let code_key = Blake2s256::new()
        .chain_update(b"mac1----")
        .chain_update(key)
        .finalize();
    let (covered, codes) = message.split_at_mut(message.len() - 2 * CODE_BYTES);
    // 32 bytes are a key of Blake2s; nothing else can be refused.
    if let Ok(mut code) = <Blake2sMac<U16> as Mac>::new_from_slice(&code_key) {
        code.update(covered);
        codes[..CODE_BYTES].copy_from_slice(&code.finalize().into_bytes());
    }
    codes[CODE_BYTES..].fill(0);
}
