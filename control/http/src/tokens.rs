//! Who may ask: tokens as hashes, compared in constant time.

use std::{fmt, sync::Arc};

use control_api::boot::{Role, Token, TokenName};
use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// Every token, with whose it is. Their texts are not kept.
#[derive(Clone, Default)]
pub struct Tokens(Vec<Known>);

#[derive(Clone)]
struct Known {
    hash: [u8; 32],
    holder: Holder,
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
}

impl Tokens {
    /// Takes what the boot file and its token files say. Without any, whoever reaches the API is an
    /// admin.
    pub fn new<'t>(tokens: impl IntoIterator<Item = (&'t TokenName, Role, &'t Token)>) -> Self {
        let known = tokens.into_iter().map(|(name, role, token)| Known {
            hash: hash(token.expose().as_bytes()),
            holder: Holder {
                name: name.as_str().into(),
                role,
            },
        });
        Self(known.collect())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whose token a text is. The time it takes tells nothing of any token: hashes are compared, all
    /// of them whole.
    pub(crate) fn holder(&self, text: &[u8]) -> Option<&Holder> {
        let attempt = hash(text);
        let mut place = u64::MAX;
        for (known, at) in self.0.iter().zip(0..) {
            place.conditional_assign(&at, known.hash.ct_eq(&attempt));
        }
        let known = self.0.get(usize::try_from(place).ok()?)?;
        Some(&known.holder)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|known| &known.holder.name);
        f.debug_list().entries(names).finish()
    }
}

fn hash(text: &[u8]) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_its_holders() {
        let name = |text: &str| text.parse::<TokenName>().unwrap();
        let token = |text: &str| text.parse::<Token>().unwrap();
        let (ci, ops) = (name("ci"), name("ops"));
        let (one, two) = (token("one-long-token"), token("two-long-token"));
        let tokens = Tokens::new([(&ci, Role::Reader, &one), (&ops, Role::Admin, &two)]);
        let holder = |text: &[u8]| {
            let holder = tokens.holder(text)?;
            Some((&*holder.name, holder.role))
        };
        assert_eq!(holder(b"one-long-token"), Some(("ci", Role::Reader)));
        assert_eq!(holder(b"two-long-token"), Some(("ops", Role::Admin)));
        for text in [&b""[..], b"one", b"one-long-token ", b"\xff\x00"] {
            assert_eq!(holder(text), None);
        }
        assert_eq!(format!("{tokens:?}"), r#"["ci", "ops"]"#);
    }
}
