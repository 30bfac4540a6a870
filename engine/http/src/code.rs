//! Why the gateway answers by itself.

use crate::refusal::Refusal;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident => $status:literal $reason:literal $label:literal $message:literal,)*) => {
        /// Why the gateway answers in place of an upstream.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// All of them, in the order of [`Code::index`].
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The status.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The words behind the status.
            pub fn reason(self) -> &'static str {
                match self { $(Self::$variant => $reason,)* }
            }

            /// The word in bodies, logs and metrics; stable over versions.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The sentence in bodies.
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }

            /// The position in [`Code::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

codes! {
    /// The request breaks a rule.
    BadRequest => 400 "Bad Request" "BAD_REQUEST" "The request cannot be understood",
    /// The rule asks for a name and password.
    Unauthorized => 401 "Unauthorized" "UNAUTHORIZED" "A name and a password are needed",
    /// The client's address is not let in.
    Forbidden => 403 "Forbidden" "FORBIDDEN" "Access is denied",
    /// No rule takes the request.
    NoRoute => 404 "Not Found" "NO_ROUTE" "Nothing is served at this address",
    /// The head or the content did not come in time.
    RequestTimeout => 408 "Request Timeout" "REQUEST_TIMEOUT" "The request took too long",
    /// The content is longer than the rule allows.
    BodyTooLarge => 413 "Content Too Large" "BODY_TOO_LARGE" "The content is too large",
    /// The target is longer than the limit.
    UriTooLong => 414 "URI Too Long" "URI_TOO_LONG" "The address is too long",
    /// An expectation that nobody meets.
    ExpectationFailed => 417 "Expectation Failed" "EXPECTATION_FAILED"
        "The expectation cannot be met",
    /// The connection's certificate does not cover the host.
    Misdirected => 421 "Misdirected Request" "MISDIRECTED" "This host is not served here",
    /// More than the client may ask for.
    TooMany => 429 "Too Many Requests" "TOO_MANY" "There are too many requests",
    /// The head is longer than the limit.
    HeadersTooLarge => 431 "Request Header Fields Too Large" "HEADERS_TOO_LARGE"
        "The header fields are too large",
    /// A defect.
    Internal => 500 "Internal Server Error" "INTERNAL" "The gateway failed",
    /// Something that HTTP has and the gateway does not do.
    NotImplemented => 501 "Not Implemented" "NOT_IMPLEMENTED" "This is not supported",
    /// The upstream refused, reset, or answered what is no answer, or there is no way to it.
    BackendDown => 502 "Bad Gateway" "BACKEND_DOWN" "Backend server is unreachable",
    /// No target is well, or the rule is under maintenance.
    NoBackend => 503 "Service Unavailable" "NO_BACKEND" "No backend server is available",
    /// The upstream did not connect or answer in time.
    BackendTimeout => 504 "Gateway Timeout" "BACKEND_TIMEOUT" "Backend server timed out",
    /// A version that is not spoken.
    BadVersion => 505 "HTTP Version Not Supported" "BAD_VERSION"
        "The HTTP version is not supported",
}

impl From<Refusal> for Code {
    /// For what a client sent. What an upstream sent is [`Code::BackendDown`].
    fn from(refusal: Refusal) -> Self {
        let status = refusal.status();
        let mut codes = Self::ALL.iter().copied();
        codes
            .find(|code| code.status() == status)
            .unwrap_or(Self::BadRequest)
    }
}
