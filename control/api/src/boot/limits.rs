//! Everything is bounded, and every bound is a key.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use crate::{
    document::Spot,
    problem::Problems,
    section::{Check, section},
    unit::ByteSize,
};

section! {
    /// The bounds of the whole process, unless a key says otherwise.
    pub struct Limits {
        /// Maximum concurrent connections. By default as many as the limit of open files allows
        /// (`LimitNOFILE=`, `ulimit -n`), at two files for each connection.
        connections_max: Option<NonZeroU32>;
        /// Maximum concurrent connections of one network.
        connections_per_network_max: Option<NonZeroU32>;
        /// Maximum concurrent connections of one source prefix (an IPv4 address, or an IPv6 /64).
        connections_per_source_max: Option<NonZeroU32>;
        /// Maximum new connections per second of one source prefix.
        accept_rate_per_source: Option<NonZeroU32>;
        /// Maximum bytes of a ClientHello, including its record headers.
        hello_bytes_max: ByteSize = "16KiB" in "1KiB"..="256KiB";
        /// Maximum bytes of the head of an HTTP request or response.
        http_head_bytes_max: ByteSize = "64KiB" in "1KiB"..="1MiB";
        /// Maximum bytes of the request target (path and query).
        http_target_bytes_max: ByteSize = "8KiB" in "64"..="64KiB";
        /// Maximum headers of an HTTP request or response.
        http_fields_max: NonZeroU16 = "128" in "1"..="256";
        /// Maximum concurrent requests of one HTTP/2 connection.
        http2_streams_max: NonZeroU16 = "128" in "1"..="10000";
        /// Flow-control window of one HTTP/2 stream: bytes of a body that the receiver has not
        /// taken yet.
        http2_stream_window: ByteSize = "256KiB" in "64KiB"..="1GiB";
        /// The window of all requests of a client's connection together. Streams get smaller
        /// windows if `http2_streams_max` of them do not fit, and 16 KiB at least.
        http2_connection_window: ByteSize = "32MiB" in "64KiB"..="1GiB";
        /// The window of all responses of a connection to a target together. Requests that do not
        /// fit use another connection.
        http2_upstream_window: ByteSize = "32MiB" in "64KiB"..="1GiB";
        /// HTTP/2 control frames (resets, pings, settings, window updates, empty data) that a
        /// client or a target may send in a burst, and a tenth of them each second. Frames that
        /// respond to the gateway's are free.
        http2_control_frames_max: NonZeroU32 = "1000" in "10"..="1000000";
        /// HTTP/2 connections that each worker keeps to one target. It opens more while all are
        /// full.
        http2_upstreams_max: NonZeroU16 = "4" in "1"..="1000";
        /// Idle connections to targets that each worker keeps for the next HTTP request.
        upstreams_idle_max: u32 = "1024" in "0"..="1048576";
        /// How long a worker keeps an idle connection to a target.
        upstream_idle_timeout: Duration = "30s" in "1s"..="1h";
        /// Names of targets that each worker knows. The one that was used longest ago makes room.
        names_max: u32 = "4096" in "1"..="1048576";
        /// Connections that a listener accepts before a worker does other work.
        accept_batch_max: NonZeroU16 = "64" in "1"..="4096";
        /// The accept queue of each listener of a worker. The kernel limits it to
        /// `net.core.somaxconn`.
        backlog: NonZeroU32 = "4096" in "1"..="1048576";
        /// The copy buffer of each worker.
        scratch_bytes: ByteSize = "1MiB" in "64KiB"..="64MiB";
        /// Bytes that each worker holds for receivers that do not read, and as many of HTTP/2 in each
        /// direction. Above it, copies and HTTP/2 windows are small.
        held_bytes_max: ByteSize = "256MiB" in "1MiB"..="1024GiB";
        /// The pipe of a spliced flow. Without CAP_SYS_RESOURCE the kernel limits it to
        /// `fs.pipe-max-size`.
        pipe_bytes: ByteSize = "512KiB" in "64KiB"..="64MiB";
        /// Unused pipes that each worker keeps.
        pipes_idle_max: u32 = "64" in "0"..="65536";
        /// Clients of each worker with their own byte count. Further clients are counted together,
        /// without an address; so are all with 0.
        accounted_clients_max: u32 = "16384" in "0"..="1048576";
        /// Silence after which TCP keep-alive probes the other side (`TCP_KEEPIDLE`).
        keep_alive: Duration = "60s" in "1s"..="1d";
        /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`).
        user_timeout: Duration = "60s" in "1s"..="1d";
    }
}

impl Check for Limits {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        for (key, max) in [
            (
                "connections_per_network_max",
                self.connections_per_network_max,
            ),
            (
                "connections_per_source_max",
                self.connections_per_source_max,
            ),
        ] {
            let all = self.connections_max;
            if max.is_some_and(|max| all.is_some_and(|all| max > all)) {
                spot.warning(
                    problems,
                    format_args!("`{key}` is above `connections_max` and never reached"),
                );
            }
        }
    }
}
