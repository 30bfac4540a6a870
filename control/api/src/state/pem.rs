//! Certificates that are part of the document, in PEM.

use engine_tls::{authorities, policy::Roots};
use serde_json::{Value, json};

use super::part::quoted;
use crate::{document::Spot, field::Field, problem::Problems};

/// Longest PEM text in bytes.
pub(super) const PEM_BYTES_MAX: usize = 64 << 10;

/// Reads text of a bounded length. It is not repeated: it may be a secret in the wrong place.
pub(super) fn read_pem<'a>(spot: &Spot<'a>, problems: &mut Problems) -> Option<&'a str> {
    let text = quoted(spot, problems)?;
    if text.len() > PEM_BYTES_MAX {
        spot.error(
            problems,
            format_args!("PEM has at most {PEM_BYTES_MAX} bytes here"),
        );
        return None;
    }
    Some(text)
}

fn pem_schema() -> Value {
    json!({
        "type": "string",
        "pattern": "-----BEGIN CERTIFICATE-----",
        "maxLength": PEM_BYTES_MAX,
    })
}

/// Authorities to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    text: Box<str>,
    roots: Roots,
}

impl Authorities {
    /// Each of them in DER.
    pub fn roots(&self) -> Roots {
        Roots::clone(&self.roots)
    }
}

impl Field for Authorities {
    const SYNTAX: &'static str = "certificates in PEM";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let text = read_pem(spot, problems)?;
        match authorities::from_pem(text.as_bytes()) {
            Ok(roots) => Some(Self {
                text: text.into(),
                roots,
            }),
            Err(error) => {
                spot.error(problems, error);
                None
            }
        }
    }

    fn write(&self) -> Value {
        Value::from(&*self.text)
    }

    fn schema() -> Value {
        pem_schema()
    }
}

/// A chain of certificates. It is read where its key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Box<str>);

impl Chain {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Field for Chain {
    const SYNTAX: &'static str = "chain in PEM";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        read_pem(spot, problems).map(|text| Self(text.into()))
    }

    fn write(&self) -> Value {
        self.as_str().into()
    }

    fn schema() -> Value {
        pem_schema()
    }
}
