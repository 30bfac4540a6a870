//! What opens the API.

use std::{
    env, fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Holds a token itself.
pub(crate) const VARIABLE: &str = "RINGWAY_TOKEN";
/// Where `scripts/install` and the package put the token of this machine's gateway.
pub(crate) const INSTALLED: &str = "/etc/ringway/token";
/// Bytes of a token's file.
const BYTES_MAX: u64 = 4096;

/// A token, which no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token(String);

/// Why there is no token to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// Its file cannot be read.
    #[error("reading the token file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The text cannot stand in a header.
    #[error(
        "{place} holds no token: one line of visible ASCII is wanted, at most {BYTES_MAX} bytes"
    )]
    Form {
        /// The file or variable.
        place: String,
    },
}

impl Token {
    /// The token of `file`; else of the variable [`VARIABLE`]; else, through the socket of the
    /// installed gateway, of [`INSTALLED`] where that can be read. A token is sent to no place that
    /// it was not given for.
    ///
    /// # Errors
    /// When a file or variable that was named holds none.
    pub(crate) fn find(
        file: Option<&Path>,
        is_installed: bool,
    ) -> Result<Option<Self>, TokenError> {
        if let Some(path) = file {
            return Self::read(path).map(Some);
        }
        if let Some(text) = env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
            return Self::parse(&text.to_string_lossy(), VARIABLE).map(Some);
        }
        if !is_installed {
            return Ok(None);
        }
        match Self::read(Path::new(INSTALLED)) {
            Ok(token) => Ok(Some(token)),
            // Nothing installed, or not for this user, who is then told by the API.
            Err(TokenError::Read { .. }) => Ok(None),
            Err(malformed) => Err(malformed),
        }
    }

    fn read(path: &Path) -> Result<Self, TokenError> {
        let mut text = String::new();
        fs::File::open(path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text))
            .map_err(|source| TokenError::Read {
                path: path.to_owned(),
                source,
            })?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, place: &str) -> Result<Self, TokenError> {
        let token = text.trim();
        let fits = text.len() as u64 <= BYTES_MAX;
        if fits && !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(token.to_owned()));
        }
        Err(TokenError::Form {
            place: place.to_owned(),
        })
    }

    /// The value of the header `Authorization` (RFC 6750 section 2.1).
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_of_visible_ascii() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let read = |text: &str| {
            fs::write(&file, text).unwrap();
            Token::find(Some(&file), false)
        };
        assert_eq!(
            read(" s3cret+/=\n").unwrap().unwrap().bearer(),
            "Bearer s3cret+/="
        );
        for wrong in [
            "",
            "\n",
            "two words",
            "two\nlines",
            "ümlaut",
            &"x".repeat(4097),
        ] {
            assert!(
                matches!(read(wrong), Err(TokenError::Form { .. })),
                "{wrong}"
            );
        }
        let missing = Token::find(Some(&folder.path().join("none")), false);
        assert!(matches!(missing, Err(TokenError::Read { .. })));
    }

    #[test]
    fn no_debug_output_shows_a_token() {
        let token = Token::parse("s3cret", "here").unwrap();
        assert!(!format!("{token:?}").contains("s3cret"));
    }
}
