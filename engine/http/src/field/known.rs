//! The fields that the gateway itself reads, writes or removes.

/// A field with a meaning for the gateway. Everything else passes as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// `Connection`
    Connection,
    /// `Content-Length`
    ContentLength,
    /// `Expect`
    Expect,
    /// `Forwarded` (RFC 7239)
    Forwarded,
    /// `Host`
    Host,
    /// `TE`
    Te,
    /// `Trailer`
    Trailer,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Upgrade`
    Upgrade,
    /// `Keep-Alive`
    KeepAlive,
    /// Fields of one connection without further meaning here, which HTTP/2 does not have:
    /// `Proxy-Connection`, `HTTP2-Settings`.
    HopByHop,
    /// What a client and its proxy have to say to each other, in HTTP/2, too: `Proxy-Authenticate`,
    /// `Proxy-Authorization`, `Proxy-Authentication-Info`. It is not passed on.
    ForProxy,
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `X-Forwarded-Proto`
    XForwardedProto,
    /// `X-Forwarded-Host`
    XForwardedHost,
    /// Every other `X-Forwarded-…`.
    XForwardedOther,
    /// What a gateway that ends TLS says of its client: `Client-Cert`, `Client-Cert-Chain` (RFC
    /// 9440) and every `X-Client-Cert-…`.
    ClientCert,
    /// What some servers and frameworks take for the client's address or the path in place of those
    /// of the request, and what else only a proxy in front may say: `True-Client-IP`,
    /// `CF-Connecting-IP`, `CF-Connecting-IPv6`, `Fastly-Client-IP`, `X-Client-IP`,
    /// `X-Cluster-Client-IP`, `X-Original-Forwarded-For`, `X-Original-Host`, `X-Original-URL`,
    /// `X-Rewrite-URL`.
    OfProxy,
    /// `Proxy`, which CGI passes on as `HTTP_PROXY`: the proxy for requests of the program's own
    /// (CVE-2016-5385). No client has a use for it.
    Proxy,
    /// `X-Real-IP`
    XRealIp,
    /// `X-Request-Id`
    XRequestId,
    /// `traceparent`
    TraceParent,
    /// `Strict-Transport-Security`
    StrictTransportSecurity,
    /// One of the others with `_` for `-`. CGI and its descendants take the two for the same name
    /// (RFC 3875 section 4.1.18), so it could pass for a field of the gateway's own: it has no
    /// meaning, and is not passed on.
    Disguised,
}

impl Known {
    /// Finds a name in the table.
    pub fn of(name: &[u8]) -> Option<Self> {
        // Nearly all other fields are told apart by their first letter and their length.
        let first = name.first()?.to_ascii_lowercase();
        let possible = match first {
            b'c' => matches!(name.len(), 10 | 11 | 14 | 16 | 17 | 18),
            b'e' => name.len() == 6,
            b'f' => matches!(name.len(), 9 | 16),
            b'h' => matches!(name.len(), 4 | 14),
            b'k' => name.len() == 10,
            b'p' => matches!(name.len(), 5 | 16 | 18 | 19 | 25),
            b's' => name.len() == 25,
            b't' => matches!(name.len(), 2 | 7 | 11 | 14 | 17),
            b'u' => name.len() == 7,
            b'x' => name.len() >= 9,
            _ => false,
        };
        if !possible {
            return None;
        }
        let mut folded = [0; 32];
        let folded = folded.get_mut(..name.len().min(32))?;
        let mut disguised = false;
        for (to, from) in folded.iter_mut().zip(name) {
            disguised |= *from == b'_';
            *to = match from {
                b'_' => b'-',
                other => other.to_ascii_lowercase(),
            };
        }
        let known = Self::of_folded(folded)?;
        Some(if disguised { Self::Disguised } else { known })
    }

    fn of_folded(folded: &[u8]) -> Option<Self> {
        Some(match folded {
            b"connection" => Self::Connection,
            b"content-length" => Self::ContentLength,
            b"expect" => Self::Expect,
            b"forwarded" => Self::Forwarded,
            b"host" => Self::Host,
            b"te" => Self::Te,
            b"trailer" => Self::Trailer,
            b"transfer-encoding" => Self::TransferEncoding,
            b"upgrade" => Self::Upgrade,
            b"keep-alive" => Self::KeepAlive,
            b"proxy-connection" | b"http2-settings" => Self::HopByHop,
            b"proxy-authenticate" | b"proxy-authorization" | b"proxy-authentication-info" => {
                Self::ForProxy
            }
            b"x-forwarded-for" => Self::XForwardedFor,
            b"x-forwarded-proto" => Self::XForwardedProto,
            b"x-forwarded-host" => Self::XForwardedHost,
            b"x-real-ip" => Self::XRealIp,
            b"true-client-ip"
            | b"cf-connecting-ip"
            | b"cf-connecting-ipv6"
            | b"fastly-client-ip"
            | b"x-client-ip"
            | b"x-cluster-client-ip"
            | b"x-original-forwarded-for"
            | b"x-original-host"
            | b"x-original-url"
            | b"x-rewrite-url" => Self::OfProxy,
            b"proxy" => Self::Proxy,
            b"x-request-id" => Self::XRequestId,
            b"traceparent" => Self::TraceParent,
            b"strict-transport-security" => Self::StrictTransportSecurity,
            b"client-cert" | b"client-cert-chain" => Self::ClientCert,
            other if other.starts_with(b"x-client-cert-") => Self::ClientCert,
            other if other.starts_with(b"x-forwarded-") => Self::XForwardedOther,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_field_is_found_in_any_case_and_in_disguise() {
        for (name, known) in [
            ("Connection", Known::Connection),
            ("Content-Length", Known::ContentLength),
            ("Expect", Known::Expect),
            ("Forwarded", Known::Forwarded),
            ("Host", Known::Host),
            ("TE", Known::Te),
            ("Trailer", Known::Trailer),
            ("Transfer-Encoding", Known::TransferEncoding),
            ("Upgrade", Known::Upgrade),
            ("Keep-Alive", Known::KeepAlive),
            ("Proxy-Connection", Known::HopByHop),
            ("Proxy-Authenticate", Known::ForProxy),
            ("Proxy-Authorization", Known::ForProxy),
            ("Proxy-Authentication-Info", Known::ForProxy),
            ("HTTP2-Settings", Known::HopByHop),
            ("X-Forwarded-For", Known::XForwardedFor),
            ("X-Forwarded-Proto", Known::XForwardedProto),
            ("X-Forwarded-Host", Known::XForwardedHost),
            ("X-Forwarded-Port", Known::XForwardedOther),
            (
                "X-Forwarded-Client-Certificate-Of-Somebody",
                Known::XForwardedOther,
            ),
            ("Client-Cert", Known::ClientCert),
            ("Client-Cert-Chain", Known::ClientCert),
            ("X-Client-Cert-Subject", Known::ClientCert),
            ("X-Real-IP", Known::XRealIp),
            ("True-Client-IP", Known::OfProxy),
            ("CF-Connecting-IP", Known::OfProxy),
            ("CF-Connecting-IPv6", Known::OfProxy),
            ("Fastly-Client-IP", Known::OfProxy),
            ("X-Client-IP", Known::OfProxy),
            ("X-Cluster-Client-IP", Known::OfProxy),
            ("X-Original-Forwarded-For", Known::OfProxy),
            ("X-Original-Host", Known::OfProxy),
            ("X-Original-URL", Known::OfProxy),
            ("X-Rewrite-URL", Known::OfProxy),
            ("Proxy", Known::Proxy),
            ("X-Request-Id", Known::XRequestId),
            ("traceparent", Known::TraceParent),
            ("Strict-Transport-Security", Known::StrictTransportSecurity),
        ] {
            for spelt in [name.to_string(), name.to_lowercase(), name.to_uppercase()] {
                assert_eq!(Known::of(spelt.as_bytes()), Some(known), "{spelt}");
            }
            if name.contains('-') {
                let disguised = name.replace('-', "_");
                assert_eq!(Known::of(disguised.as_bytes()), Some(Known::Disguised));
            }
        }
        for other in [
            "",
            "Accept",
            "Content-Type",
            "X-Forwarded",
            "Hosts",
            "T",
            "tracestate",
        ] {
            assert_eq!(Known::of(other.as_bytes()), None, "{other}");
        }
    }
}
