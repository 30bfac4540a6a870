//! How sessions fail, in words for the log and the metrics.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible, PeerMisbehaved};

/// Why a call of a session did not do what it is for.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nothing to be done before the wire is readable, or writable if
    /// [`wants_write`](crate::Session::wants_write) says so.
    #[error("the wire is not ready")]
    WouldBlock,
    /// The peer went before the handshake was done.
    #[error("the peer went during the TLS handshake")]
    HandshakeEof,
    /// The handshake is longer than [`HANDSHAKE_BYTES_MAX`](crate::session::HANDSHAKE_BYTES_MAX).
    #[error("the peer's TLS handshake is longer than permitted")]
    HandshakeTooLong,
    /// Records without end that carry no plaintext.
    #[error("the peer sends TLS records without content")]
    Flood,
    /// The stream ended without close_notify: what came before it may be cut short by anybody on
    /// the way (RFC 8446 section 6.1).
    #[error("the TLS stream was cut off without close_notify")]
    Truncated,
    /// A call that the state does not allow: plaintext before the handshake, or after `close`.
    #[error("the TLS session is not open for this")]
    NotOpen,
    /// The peers could not agree, or one of them broke the rules. The alert is on its way.
    #[error("speaking TLS")]
    Protocol(#[source] Error),
    /// The socket failed.
    #[error("moving TLS records")]
    Wire(#[source] io::Error),
}

impl SessionError {
    /// The reason in one word; none while the session can go on.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::WouldBlock => None,
            Self::HandshakeEof => Some(Cause::HandshakeEof),
            Self::HandshakeTooLong => Some(Cause::HandshakeTooLong),
            Self::Flood => Some(Cause::Flood),
            Self::Truncated => Some(Cause::Truncated),
            Self::NotOpen => Some(Cause::Internal),
            Self::Protocol(error) => Some(Cause::of(error)),
            Self::Wire(_) => Some(Cause::Wire),
        }
    }
}

impl From<SessionError> for io::Error {
    /// What the same failure is called by code that knows streams and not TLS.
    fn from(error: SessionError) -> Self {
        let kind = match error {
            SessionError::Wire(source) => return source,
            SessionError::WouldBlock => io::ErrorKind::WouldBlock,
            SessionError::HandshakeEof | SessionError::Truncated => io::ErrorKind::UnexpectedEof,
            SessionError::NotOpen => io::ErrorKind::NotConnected,
            SessionError::HandshakeTooLong | SessionError::Flood | SessionError::Protocol(_) => {
                io::ErrorKind::InvalidData
            }
        };
        Self::new(kind, error)
    }
}

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident $label:literal,)*) => {
        /// Why a TLS session ended, for counters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Cause {
            $($(#[$doc])* $variant,)*
        }

        impl Cause {
            /// All of them, in the order of [`Cause::index`].
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The word in logs and metrics; stable over versions.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The position in [`Cause::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

causes! {
    /// The peer went during the handshake.
    HandshakeEof "tls_handshake_eof",
    /// The handshake is longer than the limit.
    HandshakeTooLong "tls_handshake_too_long",
    /// Records without end that carry no plaintext.
    Flood "tls_flood",
    /// The stream was cut without close_notify.
    Truncated "tls_truncated",
    /// The socket failed.
    Wire "tls_wire",
    /// Bytes that are no TLS messages.
    Malformed "tls_malformed",
    /// A message that the rules do not allow there.
    Misbehaved "tls_misbehaved",
    /// A record that does not decrypt: damaged, forged or out of order.
    Decrypt "tls_decrypt",
    /// No protocol version in common.
    Version "tls_no_common_version",
    /// No cipher suite, group or signature scheme in common.
    Cipher "tls_no_common_cipher",
    /// No application protocol in common.
    Protocol "tls_no_common_protocol",
    /// No certificate for the name, or none that can be used.
    NoCertificate "tls_no_certificate",
    /// The peer sent no certificate though one is required.
    CertificateMissing "tls_certificate_missing",
    /// The peer's certificate is out of date, or not valid yet.
    CertificateExpired "tls_certificate_expired",
    /// The peer's certificate is for another name.
    CertificateName "tls_certificate_name",
    /// Nobody who is trusted vouches for the peer's certificate.
    CertificateIssuer "tls_certificate_issuer",
    /// The peer's certificate was taken back.
    CertificateRevoked "tls_certificate_revoked",
    /// The peer's certificate is not good for other reasons: encoding, signature, purpose.
    CertificateBad "tls_certificate_bad",
    /// The peer refused our certificate.
    CertificateRefused "tls_certificate_refused",
    /// The peer sent another fatal alert.
    Alert "tls_alert",
    /// Ringway's own: randomness, the clock, a defect.
    Internal "tls_internal",
}

impl Cause {
    /// The word for an error of rustls.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the last arm is for what has no other name"
    )]
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => Self::Malformed,
            Error::InappropriateMessage { .. }
            | Error::InappropriateHandshakeMessage { .. }
            | Error::InvalidEncryptedClientHello(_)
            | Error::UnsupportedNameType
            | Error::BadMaxFragmentSize => Self::Misbehaved,
            Error::PeerMisbehaved(how) => Self::of_misbehaviour(how),
            Error::DecryptError => Self::Decrypt,
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::NoApplicationProtocol => Self::Protocol,
            Error::PeerIncompatible(why) => Self::of_incompatibility(why),
            Error::InvalidCertificate(why) => Self::of_certificate(why),
            Error::InvalidCertRevocationList(_) => Self::CertificateRevoked,
            Error::AlertReceived(alert) => Self::of_alert(*alert),
            // The resolver found nothing: rustls has no other word for it.
            Error::General(_) | Error::InconsistentKeys(_) => Self::NoCertificate,
            _ => Self::Internal,
        }
    }

    fn of_misbehaviour(how: &PeerMisbehaved) -> Self {
        if matches!(
            how,
            PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme
        ) {
            return Self::Cipher;
        }
        Self::Misbehaved
    }

    fn of_incompatibility(why: &PeerIncompatible) -> Self {
        if matches!(
            why,
            PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        ) {
            return Self::Version;
        }
        Self::Cipher
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the last arm is for what has no other name"
    )]
    fn of_certificate(why: &CertificateError) -> Self {
        match why {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::CertificateExpired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::CertificateName
            }
            CertificateError::UnknownIssuer => Self::CertificateIssuer,
            CertificateError::Revoked
            | CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::CertificateRevoked,
            _ => Self::CertificateBad,
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the last arm is for what has no other name"
    )]
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::ProtocolVersion => Self::Version,
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
                Self::Cipher
            }
            AlertDescription::NoApplicationProtocol => Self::Protocol,
            AlertDescription::CertificateRequired => Self::CertificateMissing,
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA => Self::CertificateRefused,
            AlertDescription::UnrecognisedName => Self::NoCertificate,
            _ => Self::Alert,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_positions_match() {
        for (position, cause) in Cause::ALL.iter().enumerate() {
            assert_eq!(cause.index(), position);
            let same = Cause::ALL
                .iter()
                .filter(|other| other.label() == cause.label());
            assert_eq!(same.count(), 1, "{}", cause.label());
        }
    }

    #[test]
    fn a_stream_user_sees_the_kinds_that_streams_have() {
        let kind = |error: SessionError| io::Error::from(error).kind();
        assert_eq!(kind(SessionError::WouldBlock), io::ErrorKind::WouldBlock);
        assert_eq!(kind(SessionError::Truncated), io::ErrorKind::UnexpectedEof);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(
            kind(SessionError::Wire(reset)),
            io::ErrorKind::ConnectionReset
        );
    }
}
