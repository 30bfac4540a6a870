//! Why some bytes are not taken: one reason for each rule that a message can break.

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident => $status:literal $label:literal $message:literal,)*) => {
        /// Why a message is refused. Whoever sent it, the connection ends behind the answer: where
        /// the next message begins is not known.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
        pub enum Refusal {
            $($(#[$doc])* #[error($message)] $variant,)*
        }

        impl Refusal {
            /// All of them, in the order of [`Refusal::index`].
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The status that a client is answered with. What an upstream sent is answered with
            /// 502, whatever the reason.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// The word in logs and metrics; stable over versions.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// Whether it is too much of what may come, from one side that keeps the other one busy.
            pub fn is_flood(self) -> bool {
                matches!(
                    self,
                    Self::FloodOfData
                        | Self::FloodOfResets
                        | Self::FloodOfSettings
                        | Self::FloodOfPings
                        | Self::FloodOfWindows
                        | Self::FloodOfContinuations
                        | Self::FloodOfOthers
                        | Self::FloodOfInterims
                )
            }

            /// The position in [`Refusal::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

refusals! {
    /// A head of more than [`crate::limits::Limits::head_bytes_max`] bytes.
    HeadTooLong => 431 "head_too_long" "the head is too long",
    /// More than [`crate::limits::Limits::fields_max`] fields.
    TooManyFields => 431 "too_many_fields" "the head has too many fields",
    /// More than one empty line before a request, or one before a response (RFC 9112 section 2.2
    /// asks for tolerance towards one).
    EmptyLine => 400 "empty_line" "an empty line comes before the message",
    /// LF without CR, but behind a status line. RFC 9112 section 2.2 permits to take it for a line's end; whoever does not
    /// reads another message.
    BareLf => 400 "bare_lf" "a line ends in LF without CR",
    /// CR without LF (RFC 9112 section 2.2).
    BareCr => 400 "bare_cr" "a CR is not followed by LF",

    /// Not method, space, target, space, version (RFC 9112 section 3).
    RequestLine => 400 "bad_request_line" "the request line is malformed",
    /// A method longer than [`crate::limits::METHOD_BYTES_MAX`] bytes.
    MethodTooLong => 501 "method_too_long" "the method is too long",
    /// CONNECT: this is no forward proxy (RFC 9110 section 9.3.6).
    Connect => 501 "connect" "CONNECT is not offered",
    /// A version other than HTTP/1.x (RFC 9110 section 15.6.6).
    Version => 505 "bad_version" "the HTTP version is not supported",
    /// A target of more than [`crate::limits::Limits::target_bytes_max`] bytes (RFC 9110 section
    /// 15.5.15).
    TargetTooLong => 414 "target_too_long" "the request target is too long",
    /// None of the forms of RFC 9112 section 3.2, or with bytes that no URI has.
    Target => 400 "bad_target" "the request target is malformed",
    /// A `%` without two hex digits behind it in the path (RFC 3986 section 2.1).
    Escape => 400 "bad_escape" "the path has a malformed percent-encoding",
    /// `%00` in the path: languages that end text at NUL see another path.
    EncodedNul => 400 "encoded_nul" "the path has an encoded NUL",
    /// `..` segments that lead above the root.
    AboveRoot => 400 "above_root" "the path leads above its root",
    /// A path that leads to one rule when read strictly, and to another when read as lenient
    /// upstreams do (see [`crate::path`]).
    AmbiguousPath => 400 "ambiguous_path" "the path can be read in two ways",

    /// A field line that continues the one before (RFC 9112 section 5.2).
    ObsFold => 400 "obs_fold" "a field is continued on the next line",
    /// A field line without colon.
    NoColon => 400 "no_colon" "a field line has no colon",
    /// A field line that begins with the colon.
    EmptyName => 400 "empty_name" "a field has no name",
    /// Whitespace between name and colon (RFC 9112 section 5.1).
    SpaceBeforeColon => 400 "space_before_colon" "whitespace comes before a field's colon",
    /// A name that is no token (RFC 9110 section 5.1).
    Name => 400 "bad_name" "a field's name is malformed",
    /// NUL or another control character (RFC 9110 section 5.5).
    Control => 400 "control_character" "a field's value has a control character",

    /// HTTP/1.1 without Host (RFC 9112 section 3.2).
    NoHost => 400 "no_host" "the request names no host",
    /// Host twice (RFC 9112 section 3.2).
    SeveralHosts => 400 "several_hosts" "the request names several hosts",
    /// A Host that is no host with at most a port (RFC 9110 section 7.2).
    Host => 400 "bad_host" "the host is malformed",
    /// The target in absolute form, or `:authority`, names another host than Host.
    HostMismatch => 400 "host_mismatch" "target and Host name different hosts",

    /// Content-Length and Transfer-Encoding (RFC 9112 section 6.3).
    LengthAndCoding => 400 "length_and_coding" "both a length and a transfer coding are given",
    /// Content-Length twice; in a request also twice the same (RFC 9112 section 6.3).
    SeveralLengths => 400 "several_lengths" "several lengths are given",
    /// A Content-Length that is not digits alone, or overflows.
    Length => 400 "bad_length" "the length is malformed",
    /// Transfer-Encoding twice.
    SeveralCodings => 400 "several_codings" "several transfer codings are given",
    /// A transfer coding other than chunked (RFC 9112 section 6.1).
    Coding => 501 "unknown_coding" "the transfer coding is not supported",
    /// Transfer-Encoding in HTTP/1.0 or HTTP/2 (RFC 9112 section 6.1, RFC 9113 section 8.2.2).
    CodingVersion => 400 "coding_version" "a transfer coding does not exist in this version",
    /// A field that HTTP/2 forbids because it is of the connection (RFC 9113 section 8.2.2).
    ConnectionField => 400 "connection_field" "a field of the connection is given in HTTP/2",
    /// Connection has more than [`crate::limits::CONNECTION_OPTIONS_MAX`] options.
    TooManyOptions => 400 "too_many_connection_options" "Connection has too many options",
    /// An Expect other than `100-continue` (RFC 9110 section 10.1.1).
    Expectation => 417 "expectation" "the expectation cannot be met",
    /// TRACE with content (RFC 9110 section 9.3.8).
    TraceContent => 400 "trace_content" "TRACE has content",

    /// No hexadecimal digit, too many of them, or something between them and the line's end that is
    /// neither an extension nor, in a response, whitespace.
    ChunkSize => 400 "bad_chunk_size" "a chunk's size is malformed",
    /// Chunk extensions beyond their bounds, or with control characters.
    ChunkExtension => 400 "bad_chunk_extension" "a chunk's extension is malformed or too long",
    /// No CR LF behind a chunk's data.
    ChunkEnd => 400 "bad_chunk_end" "a chunk does not end where its size says",
    /// Trailers beyond their bounds.
    TrailersTooLong => 431 "trailers_too_long" "the trailers are too long",

    /// Of the frames that ask for work and carry nothing, more than a client of HTTP/2 may send, the last
    /// of them DATA (RFC 9113 section 10.5). For this and all those below the connection ends without an
    /// answer, so their status is never seen.
    FloodOfData => 400 "h2_empty_data_flood" "too many empty DATA frames come",
    /// The same, the last of them RST_STREAM.
    FloodOfResets => 400 "h2_reset_flood" "too many RST_STREAM frames come",
    /// The same, the last of them SETTINGS.
    FloodOfSettings => 400 "h2_settings_flood" "too many SETTINGS frames come",
    /// The same, the last of them PING.
    FloodOfPings => 400 "h2_ping_flood" "too many PING frames come",
    /// The same, the last of them WINDOW_UPDATE.
    FloodOfWindows => 400 "h2_window_flood" "too many WINDOW_UPDATE frames come",
    /// The same, the last of them CONTINUATION.
    FloodOfContinuations => 400 "h2_continuation_flood" "too many CONTINUATION frames come",
    /// The same, the last of them of any other kind.
    FloodOfOthers => 400 "h2_other_flood" "too many frames come that carry nothing",
    /// ENHANCE_YOUR_CALM for another cause, such as a head in too many pieces or too many requests taken
    /// back before they were served.
    Calm => 400 "h2_enhance_your_calm" "the client asks for too much",
    /// COMPRESSION_ERROR: heads that HPACK cannot decode (RFC 7541).
    Compression => 400 "h2_compression_error" "a compressed head is malformed",
    /// FLOW_CONTROL_ERROR: content beyond a window, or a window beyond 2^31-1 (RFC 9113 section 6.9.1).
    FlowControl => 400 "h2_flow_control_error" "a flow-control window is exceeded",
    /// FRAME_SIZE_ERROR (RFC 9113 section 4.2).
    FrameSize => 400 "h2_frame_size_error" "a frame has a wrong size",
    /// Anything else that HTTP/2 forbids, such as PROTOCOL_ERROR.
    Http2 => 400 "h2_protocol_error" "a rule of HTTP/2 is broken",

    /// More interim responses than a request may be answered with before its response.
    FloodOfInterims => 502 "interim_flood" "too many interim responses come",
    /// A status line that is none, or a status outside 100 to 999.
    StatusLine => 502 "bad_status_line" "the status line is malformed",
    /// 101 to a request without Upgrade (RFC 9110 section 15.2.2).
    UnaskedUpgrade => 502 "unasked_upgrade" "the protocol is switched without being asked",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_positions_match() {
        for (position, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(refusal.index(), position);
            let same = Refusal::ALL
                .iter()
                .filter(|other| other.label() == refusal.label());
            assert_eq!(same.count(), 1, "{}", refusal.label());
        }
    }
}
