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
        /// Connections at once; unless written, as many as the process' open files allow
        /// (`LimitNOFILE=`, `ulimit -n`), two for each connection.
        connections_max: Option<NonZeroU32>;
        /// Connections at once of one network.
        connections_per_network_max: Option<NonZeroU32>;
        /// Connections at once of one source prefix (an IPv4 address, or an IPv6 /64).
        connections_per_source_max: Option<NonZeroU32>;
        /// New connections a second of one source prefix.
        accept_rate_per_source: Option<NonZeroU32>;
        /// Bytes of a ClientHello, with its record headers.
        hello_bytes_max: ByteSize = "16KiB" in "1KiB"..="256KiB";
        /// Bytes of the head of an HTTP request or response.
        http_head_bytes_max: ByteSize = "64KiB" in "1KiB"..="1MiB";
        /// Bytes of the target of an HTTP request.
        http_target_bytes_max: ByteSize = "8KiB" in "64"..="64KiB";
        /// Fields in the head of an HTTP request or response.
        http_fields_max: NonZeroU16 = "128" in "1"..="256";
        /// Requests of one HTTP/2 connection at once.
        http2_streams_max: NonZeroU16 = "128" in "1"..="10000";
        /// Content of one HTTP/2 request or response that its receiver has not taken yet.
        http2_stream_window: ByteSize = "256KiB" in "64KiB"..="1GiB";
        /// The same for all requests of a client's connection together; each gets less where
        /// `http2_streams_max` of them do not fit, and 16 KiB at least.
        http2_connection_window: ByteSize = "32MiB" in "64KiB"..="1GiB";
        /// The same for all responses of a connection to a target together; requests that do not fit
        /// take another connection.
        http2_upstream_window: ByteSize = "32MiB" in "64KiB"..="1GiB";
        /// HTTP/2 frames that cost more than they carry (resets, pings, settings, updates of
        /// windows, empty content) that a client or a target may send at once; a tenth of them each
        /// second. Those that answer frames of the gateway are free.
        http2_control_frames_max: NonZeroU32 = "1000" in "10"..="1000000";
        /// HTTP/2 connections that each worker keeps to one target; while all are full there are more.
        http2_upstreams_max: NonZeroU16 = "4" in "1"..="1000";
        /// Connections to targets that each worker keeps for the next HTTP request.
        upstreams_idle_max: u32 = "1024" in "0"..="1048576";
        /// How long it keeps one of those.
        upstream_idle_timeout: Duration = "30s" in "1s"..="1h";
        /// Connections that a listener accepts before other work has its turn.
        accept_batch_max: NonZeroU16 = "64" in "1"..="4096";
        /// Connections that the kernel queues for each listener of a worker; it cuts this to
        /// `net.core.somaxconn`.
        backlog: NonZeroU32 = "4096" in "1"..="1048576";
        /// The buffer of each worker that copied bytes go through.
        scratch_bytes: ByteSize = "1MiB" in "64KiB"..="64MiB";
        /// Bytes that each worker keeps for destinations that would not take them, and as many of
        /// HTTP/2 each way; beyond that, copied pieces are small, and windows of HTTP/2 too.
        held_bytes_max: ByteSize = "256MiB" in "1MiB"..="1024GiB";
        /// The pipe of a spliced flow; the kernel cuts it to `fs.pipe-max-size` without CAP_SYS_RESOURCE.
        pipe_bytes: ByteSize = "512KiB" in "64KiB"..="64MiB";
        /// Unused pipes that each worker keeps.
        pipes_idle_max: u32 = "64" in "0"..="65536";
        /// Clients of each worker whose bytes are counted apart at once; those beyond are counted
        /// together, without an address. 0 tells none apart.
        accounted_clients_max: u32 = "16384" in "0"..="1048576";
        /// Silence after which a peer is probed (`TCP_KEEPIDLE`).
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
