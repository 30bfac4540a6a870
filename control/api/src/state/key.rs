//! WireGuard keys: 32 bytes, and three ways to write them.

use std::{borrow::Cow, fmt, str::FromStr};

use base64::{
    Engine as _,
    alphabet::{STANDARD, URL_SAFE},
    engine::{
        DecodePaddingMode,
        general_purpose::{self, GeneralPurpose, GeneralPurposeConfig},
    },
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema, Type, schema::ObjectBuilder},
};

const KEY_BYTES: usize = 32;

/// Padding may be left out, as it is in paths and queries.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// Why a text is not a key. It never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64, URL-safe base64 or hex of 32 bytes.
    #[error("a WireGuard key is expected: 32 bytes in base64, URL-safe base64 or hex")]
    Shape,
    /// A key that nobody has.
    #[error("a key must not be all zeros")]
    Zeros,
}

fn parse(text: &str) -> Result<[u8; KEY_BYTES], KeyError> {
    if text.len() == 2 * KEY_BYTES {
        return parse_hex(text).ok_or(KeyError::Shape);
    }
    let alphabet = if text.contains(['-', '_']) {
        URL_SAFE
    } else {
        STANDARD
    };
    let mut bytes = [0; KEY_BYTES];
    // Exactly as long as a key: a slice that is too small is an error, too.
    match GeneralPurpose::new(&alphabet, LENIENT).decode_slice(text, &mut bytes) {
        Ok(KEY_BYTES) => Ok(bytes),
        Ok(_) | Err(_) => Err(KeyError::Shape),
    }
}

fn parse_hex(text: &str) -> Option<[u8; KEY_BYTES]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0; KEY_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let (high, low) = (digit(*pair.first()?)?, digit(*pair.last()?)?);
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

fn parse_nonzero(text: &str) -> Result<[u8; KEY_BYTES], KeyError> {
    match parse(text)? {
        zeros if zeros == [0; KEY_BYTES] => Err(KeyError::Zeros),
        bytes => Ok(bytes),
    }
}

fn to_base64(bytes: &[u8; KEY_BYTES]) -> String {
    general_purpose::STANDARD.encode(bytes)
}

/// Who a peer is. Written and logged as standard base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse_nonzero(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_base64(&self.0))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl PartialSchema for PublicKey {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A WireGuard public key: 32 bytes in base64."))
            .pattern(Some("^[A-Za-z0-9+/]{43}=$"))
            .into()
    }
}

impl ToSchema for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A key that is shown to few.
pub(super) trait SecretKey {
    /// The secret in base64, for the one document that holds secrets.
    fn expose_base64(&self) -> String;
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $parse:ident) => {
        $(#[$doc])*
        ///
        /// Neither `Debug` nor an error ever shows it.
        #[derive(Clone, PartialEq, Eq)]
        pub struct $name([u8; KEY_BYTES]);

        impl $name {
            /// The secret's bytes.
            pub fn expose(&self) -> &[u8; KEY_BYTES] {
                &self.0
            }

        }

        impl SecretKey for $name {
            fn expose_base64(&self) -> String {
                to_base64(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                $parse(text).map(Self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret!(
    /// A network's own key.
    PrivateKey,
    parse_nonzero
);
secret!(
    /// A secret that a network shares with one peer. All zeros is WireGuard's word for none.
    PresharedKey,
    parse
);

impl PrivateKey {
    /// The public key that belongs to it (RFC 7748 section 5).
    pub fn public_key(&self) -> PublicKey {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: [u8; 32] = {
        let mut bytes = [0xfb; 32];
        bytes[31] = 7;
        bytes
    };

    #[test]
    fn the_three_ways_to_write_a_key_mean_the_same() {
        let standard = to_base64(&BYTES);
        assert!(standard.contains('+') || standard.contains('/'));
        let url_safe = standard.replace('+', "-").replace('/', "_");
        let unpadded = url_safe.trim_end_matches('=').to_owned();
        let hex: String = BYTES.iter().map(|byte| format!("{byte:02X}")).collect();
        for text in [&standard, &url_safe, &unpadded, &hex] {
            assert_eq!(text.parse(), Ok(PublicKey(BYTES)), "{text}");
        }
        assert_eq!(PublicKey(BYTES).to_string(), standard);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = to_base64(&BYTES);
        let one_more_bit = good.replace("c=", "d=");
        assert_ne!(good, one_more_bit);
        for text in [
            "",
            "abc",
            &good[1..],
            &format!("A{good}"),
            &one_more_bit,
            &"zz".repeat(32),
            &"é".repeat(32),
        ] {
            assert_eq!(text.parse::<PublicKey>(), Err(KeyError::Shape), "{text}");
        }
        let zeros = "00".repeat(32);
        assert_eq!(zeros.parse::<PublicKey>(), Err(KeyError::Zeros));
        assert_eq!(zeros.parse::<PrivateKey>(), Err(KeyError::Zeros));
        assert!(zeros.parse::<PresharedKey>().is_ok());
    }

    /// The first key pair of RFC 7748 section 6.1.
    #[test]
    fn the_public_key_is_derived() {
        let alice = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let private: PrivateKey = alice.parse().unwrap();
        assert_eq!(
            Ok(private.public_key()),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a".parse()
        );
    }

    #[test]
    fn no_debug_output_shows_a_secret() {
        assert_eq!(format!("{:?}", PrivateKey(BYTES)), "PrivateKey(…)");
        assert_eq!(format!("{:?}", PresharedKey(BYTES)), "PresharedKey(…)");
    }
}
