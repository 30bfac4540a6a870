//! Who may speak with the API, before any file was read.

use super::{Token, TokenFile, TokenName};
use crate::field::words;

/// A token of the boot file, wherever its text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Who has it.
    pub name: TokenName,
    /// What it is good for.
    pub role: Role,
    /// Its text, or the file that holds it.
    pub secret: Secret,
}

/// Where the text of a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// In the boot file or in the environment.
    Text(Token),
    /// In a file of its own.
    File(TokenFile),
}

impl Secret {
    pub(super) fn either(token: Option<&Token>, file: Option<&TokenFile>) -> Option<Self> {
        let text = token.cloned().map(Self::Text);
        text.or_else(|| file.cloned().map(Self::File))
    }
}

words! {
    /// What a token is good for. Each may do what the ones before it may.
    pub enum Role {
        /// Looks at everything but secrets.
        Reader = "reader",
        /// Changes the desired state.
        Operator = "operator",
        /// Sees secrets, too.
        Admin = "admin",
    }
}
