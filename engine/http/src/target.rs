//! Request targets.

use crate::{
    host::Host,
    method::{Method, Scheme},
    octet,
};

/// The target of a request (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// How it was written.
    pub form: Form<'a>,
    /// Begins with `/`, or is `*` for the server as a whole.
    pub path: &'a str,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
}

/// The forms of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// A path.
    Origin,
    /// A whole URI.
    Absolute {
        /// How it begins.
        scheme: Scheme,
        /// The host in it.
        host: Host<'a>,
    },
    /// `*`, which only OPTIONS has.
    Asterisk,
}

impl<'a> Target<'a> {
    /// Parses a target. `None` is one of another form, authority form among them, or with bytes
    /// that a target does not have.
    pub fn parse(raw: &'a str, method: Method<'_>) -> Option<Self> {
        if !raw.bytes().all(octet::is_target) {
            return None;
        }
        if raw.starts_with('/') {
            return Some(Self::split(Form::Origin, raw));
        }
        let server = |form| Self {
            form,
            path: "*",
            query: None,
        };
        if raw == "*" {
            return (method == Method::Options).then_some(server(Form::Asterisk));
        }
        let (scheme, rest) = raw.split_once("://")?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => Scheme::Http,
            _ if scheme.eq_ignore_ascii_case("https") => Scheme::Https,
            _ => return None,
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let host = Host::parse(authority.as_bytes())?;
        let form = Form::Absolute { scheme, host };
        // An empty path is `/`, or for OPTIONS the server as a whole (RFC 9112 section 3.2.4).
        Some(match rest {
            "" if method == Method::Options => server(form),
            _ if rest.starts_with('/') => Self::split(form, rest),
            _ => Self {
                path: "/",
                ..Self::split(form, rest)
            },
        })
    }

    fn split(form: Form<'a>, rest: &'a str) -> Self {
        match rest.split_once('?') {
            Some((path, query)) => Self {
                form,
                path,
                query: Some(query),
            },
            None => Self {
                form,
                path: rest,
                query: None,
            },
        }
    }
}
