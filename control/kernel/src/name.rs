//! Names of namespaces: what may stand behind `/run/netns/`.

use std::{fmt, path::Path, str::FromStr};

/// Longest name in bytes: `NAME_MAX` of Linux, since the name is that of a file.
pub const LENGTH_MAX: usize = 255;

/// The name of a namespace, safe to use as one component of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceName(String);

/// Why a text is not the name of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// Nothing there.
    #[error("the name of a namespace is empty")]
    Empty,
    /// Over [`LENGTH_MAX`].
    #[error("the name of a namespace is longer than {LENGTH_MAX} bytes")]
    TooLong,
    /// It would be hidden, or lead to another directory.
    #[error("the name of a namespace starts with a dot")]
    LeadingDot,
    /// A slash would lead to another directory; the others cannot be typed.
    #[error("the name of a namespace has a slash, a space or a control character in it")]
    Character,
}

impl NamespaceName {
    /// Takes any text that is a single, visible file name.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, ParseNameError> {
        if text.is_empty() {
            return Err(ParseNameError::Empty);
        }
        if text.len() > LENGTH_MAX {
            return Err(ParseNameError::TooLong);
        }
        if text.starts_with('.') {
            return Err(ParseNameError::LeadingDot);
        }
        if text.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(ParseNameError::Character);
        }
        Ok(Self(text.to_owned()))
    }

    /// The namespace of the network whose public WireGuard port is `port`: `network-<port>`.
    pub fn of_network(port: u16) -> Self {
        Self(format!("network-{port}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NamespaceName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl AsRef<Path> for NamespaceName {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_visible_component_of_a_path() {
        for good in ["a", "network-51820", "blue.example", "ä", &"x".repeat(255)] {
            assert_eq!(NamespaceName::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", ParseNameError::Empty),
            (".", ParseNameError::LeadingDot),
            ("..", ParseNameError::LeadingDot),
            (".hidden", ParseNameError::LeadingDot),
            ("a/b", ParseNameError::Character),
            ("a b", ParseNameError::Character),
            ("a\0", ParseNameError::Character),
            ("a\n", ParseNameError::Character),
            (&"x".repeat(256), ParseNameError::TooLong),
        ] {
            assert_eq!(NamespaceName::parse(bad), Err(why), "{bad:?}");
        }
        assert_eq!(NamespaceName::of_network(7).as_str(), "network-7");
    }
}
