//! Web pages in a browser on the same machine, kept from an API that asks for no token.
//!
//! A page from anywhere can make its reader's browser send requests to 127.0.0.1. The browser says
//! whose page it is in `Origin` (RFC 6454) and `Sec-Fetch-Site` (W3C Fetch Metadata). A page whose
//! name was made to resolve to 127.0.0.1 ("DNS rebinding") is of the same origin then, and told by
//! `Host`, which has that name.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::refusal::Refusal;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a web page of somebody else caused.
pub(crate) fn refuse_strangers(headers: &HeaderMap) -> Result<(), Refusal> {
    let Ok(host) = text(headers.get(header::HOST)) else {
        return Err(refused("the header `Host` is not readable"));
    };
    if host.is_some_and(|host| !is_local(host)) {
        return Err(refused("`Host` is not this machine's loopback"));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let own = host.map(|host| format!("http://{host}"));
        if own.is_none_or(|own| origin.as_bytes() != own.as_bytes()) {
            return Err(refused("a web page of another origin asks"));
        }
    }
    match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(refused("a web page of another site asks")),
    }
}

fn refused(why: &str) -> Refusal {
    let error = format!("{why}; without a token only this machine itself may ask");
    Refusal::new(StatusCode::FORBIDDEN, error)
}

fn text(value: Option<&HeaderValue>) -> Result<Option<&str>, ()> {
    value
        .map(HeaderValue::to_str)
        .transpose()
        .map_err(|_not_ascii| ())
}

/// Whether a host, with or without its port, is this machine by a name that nobody else can have.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for &(name, value) in headers {
            map.insert(name, HeaderValue::from_static(value));
        }
        refuse_strangers(&map).is_ok()
    }

    #[test]
    fn only_this_machine_is_let_in() {
        for (host, local) in [
            ("localhost", true),
            ("LocalHost:8080", true),
            ("127.0.0.1:8080", true),
            ("127.1.2.3", true),
            ("[::1]:8080", true),
            ("evil.example.com:8080", false),
            ("localhost.evil.example.com", false),
            ("192.0.2.1:8080", false),
            ("[::1", false),
            ("", false),
        ] {
            assert_eq!(verdict(&[("host", host)]), local, "{host}");
        }
        // Tools that speak HTTP/1.0.
        assert!(verdict(&[]));
    }

    #[test]
    fn only_pages_of_the_api_itself_are_let_in() {
        let host = ("host", "127.0.0.1:8080");
        assert!(verdict(&[host, ("origin", "http://127.0.0.1:8080")]));
        assert!(verdict(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(verdict(&[host, ("sec-fetch-site", "none")]));
        for origin in [
            "null",
            "http://127.0.0.1:9090",
            "https://127.0.0.1:8080",
            "http://evil.example.com",
        ] {
            assert!(!verdict(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!verdict(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!verdict(&[host, ("sec-fetch-site", "same-site")]));
        assert!(!verdict(&[("origin", "http://127.0.0.1:8080")]));
    }
}
