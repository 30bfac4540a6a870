//! The alerts that tell a client why it is sent away.

use super::{BadHello, Verdict};

/// A fatal `unrecognized_name` alert: what RFC 6066 section 3 has a server send that knows no such
/// name. Also for a hello without one: clients of every version know what it means, which is not
/// so of the `missing_extension` of RFC 8446 section 9.2.
pub const UNRECOGNIZED_NAME: [u8; 7] = fatal(112);

/// The alert for a verdict that refuses the hello (descriptions: RFC 8446 section 6.2).
///
/// None while the hello is good or not whole, and none for what is not TLS: its sender could not
/// read an alert.
pub fn alert_for(verdict: &Verdict) -> Option<[u8; 7]> {
    match verdict {
        Verdict::NeedMore | Verdict::ClientHello(_) | Verdict::NotTls => None,
        // A length in range of its field and out of range of what the receiver takes.
        Verdict::TooLong => Some(fatal(ILLEGAL_PARAMETER)),
        Verdict::Bad(bad) => Some(fatal(match bad {
            BadHello::EmptyRecord
            | BadHello::RecordType
            | BadHello::NotClientHello
            | BadHello::Trailing => UNEXPECTED_MESSAGE,
            BadHello::RecordTooLong => RECORD_OVERFLOW,
            BadHello::RecordVersion => PROTOCOL_VERSION,
            BadHello::Fields | BadHello::Extensions | BadHello::ServerName | BadHello::Alpn => {
                DECODE_ERROR
            }
            BadHello::DuplicateExtension | BadHello::SeveralHosts => ILLEGAL_PARAMETER,
        })),
    }
}

const UNEXPECTED_MESSAGE: u8 = 10;
const RECORD_OVERFLOW: u8 = 22;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;

/// An alert record: type 21, the version that a first record may always carry, two bytes of
/// payload, level fatal (RFC 8446 sections 5.1 and 6).
const fn fatal(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}
