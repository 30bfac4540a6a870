//! Where requests go, and what is spoken there.

use serde_json::Value;

use crate::{
    document::Spot,
    field::{Field, words},
    problem::Problems,
    state::pool::{self, PoolTarget},
    word::printable,
};

words! {
    /// What the targets of a rule speak. Written in front of each: `https://10.0.0.2:8443`.
    pub enum Speaks {
        /// HTTP/1.1; so do targets that are written without a scheme.
        Http = "http",
        /// TLS, and in it HTTP/1.1.
        Https = "https",
        /// HTTP/2 without TLS (RFC 9113 section 3.3).
        H2c = "h2c",
        /// TLS, and in it HTTP/2, or HTTP/1.1 with a target that does not speak HTTP/2.
        H2 = "h2",
    }
}

impl Speaks {
    /// Whether TLS is spoken.
    pub fn is_tls(self) -> bool {
        match self {
            Self::Https | Self::H2 => true,
            Self::Http | Self::H2c => false,
        }
    }
}

/// The targets of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct To {
    /// What all of them speak.
    pub speaks: Speaks,
    /// At least one; no address twice.
    pub targets: Vec<PoolTarget>,
}

/// What a target speaks, and its address.
pub(in crate::state) fn split(text: &str) -> (Result<Speaks, &str>, &str) {
    match text.split_once("://") {
        None => (Ok(Speaks::Http), text),
        Some((scheme, address)) => {
            let words = Speaks::WORDS.iter();
            let known = words.copied().find(|(word, _)| *word == scheme);
            (known.map(|(_, speaks)| speaks).ok_or(scheme), address)
        }
    }
}

impl Field for To {
    const SYNTAX: &'static str = "list of targets";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let mut common = None;
        let targets = pool::read_targets(spot, problems, &mut |spot, text, problems| {
            let (speaks, address) = split(text);
            match speaks {
                Err(scheme) => {
                    let message = format!("`{}` is no scheme of a target", printable(scheme));
                    spot.error_with_hint(problems, message, "write https, h2, h2c, http or none");
                }
                Ok(speaks) if *common.get_or_insert(speaks) != speaks => {
                    spot.error(problems, "all targets of a rule have one scheme");
                }
                Ok(_) => {}
            }
            pool::read_endpoint(spot, address, problems)
        })?;
        let speaks = common.unwrap_or(Speaks::Http);
        Some(Self { speaks, targets })
    }

    fn write(&self) -> Value {
        let scheme = match self.speaks {
            Speaks::Http => String::new(),
            speaks @ (Speaks::Https | Speaks::H2c | Speaks::H2) => format!("{}://", speaks.word()),
        };
        let targets = self.targets.iter();
        targets
            .map(|target| pool::write_target(target, &scheme))
            .collect()
    }

    fn schema() -> Value {
        pool::targets_schema("^((https?|h2c?)://)?")
    }
}
