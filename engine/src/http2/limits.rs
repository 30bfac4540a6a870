//! What a connection of HTTP/2 may take of the gateway.

/// The bounds of connections of HTTP/2. See the field for what happens past each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Most requests of a connection at a time; more are refused (RFC 9113 section 5.1.2).
    pub streams_max: u32,
    /// How much content of a request may be on its way to the gateway before its upstream has
    /// taken it, in bytes: the memory that one stream can hold.
    pub stream_window: u32,
    /// The same for all requests of a connection together.
    pub connection_window: u32,
    /// How much content of responses may be on its way to the gateway on one connection to an
    /// upstream, in bytes.
    pub upstream_window: u32,
    /// Frames that cost more than they carry (resets, pings, settings, updates of windows, empty
    /// content) that a client may send at once. With more the connection ends.
    pub control_frames_burst: u32,
    /// How many more of them it may send each second; and one more for every 4 KiB that the gateway
    /// sends.
    pub control_frames_per_second: u32,
    /// Connections that the gateway keeps to one target over HTTP/2, for each worker.
    pub connections_per_target_max: usize,
}

impl Default for Http2Limits {
    /// Streams as browsers and other gateways take for granted; windows for 20 MB/s at a distance
    /// of 50 ms.
    fn default() -> Self {
        Self {
            streams_max: 128,
            stream_window: 256 << 10,
            connection_window: 1 << 20,
            upstream_window: 4 << 20,
            control_frames_burst: 1000,
            control_frames_per_second: 100,
            connections_per_target_max: 4,
        }
    }
}
