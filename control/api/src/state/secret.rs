//! Secrets of the state document, shown or kept back.

use std::str::FromStr;

use super::{
    Network,
    key::{KeyError, SecretKey},
};
use crate::{document::Spot, problem::Problems};

/// What stands in the place of a secret that is not shown. Written back, it keeps what is there.
pub const KEPT: &str = "(kept)";

/// Where the secrets of a network are kept from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept<'n> {
    /// The network as it was, if it was.
    From(Option<&'n Network>),
    /// They stay to be kept: the document is only shown.
    AsItIs,
}

impl<'n> Kept<'n> {
    pub(super) fn network(self) -> Option<&'n Network> {
        match self {
            Self::From(network) => network,
            Self::AsItIs => None,
        }
    }
}

/// How a rendering writes secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// As they are.
    Shown,
    /// As [`KEPT`].
    Kept,
}

impl Secrets {
    pub(super) fn write(self, key: &impl SecretKey) -> String {
        match self {
            Self::Shown => key.expose_base64(),
            Self::Kept => KEPT.to_owned(),
        }
    }
}

/// Reads a secret, or takes the one that is there. It is never repeated in what is said of it.
pub(super) fn read_secret<T: Clone + FromStr<Err = KeyError>>(
    spot: &Spot<'_>,
    kept: Option<&T>,
    problems: &mut Problems,
) -> Option<T> {
    let text = spot.text(problems)?;
    if text == KEPT {
        if kept.is_none() {
            spot.error_with_hint(
                problems,
                format_args!("`{KEPT}` keeps the stored key, but none is stored"),
                "write the key itself",
            );
        }
        return kept.cloned();
    }
    text.parse()
        .map_err(|error| spot.error(problems, error))
        .ok()
}
