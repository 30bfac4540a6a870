//! The boot file in the engine's words.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    thread::available_parallelism,
};

use control_api::{
    ByteSize,
    boot::{self, Boot},
};
use crossbeam_channel::Sender;
use engine::{Challenges, Config, DriverChoice, Limits, Record, RequestRecord, Workers};

/// Where the engine's records go.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) records: Option<Sender<Record>>,
    pub(super) requests: Option<Sender<RequestRecord>>,
}

/// `descriptors`: how many the process may have, less those that are kept back.
pub(super) fn from_boot(boot: &Boot, descriptors: u64, outlets: Outlets) -> Config {
    Config {
        driver: match boot.driver {
            boot::Driver::Auto => DriverChoice::Auto,
            boot::Driver::IoUring => DriverChoice::IoUring,
            boot::Driver::Epoll => DriverChoice::Epoll,
        },
        workers: match boot.workers {
            boot::Workers::Auto => Workers::Auto,
            boot::Workers::Count(count) => Workers::Count(count),
        },
        limits: limits(&boot.limits, descriptors),
        records: outlets.records,
        requests: outlets.requests,
        challenges: Challenges::default(),
        strangers: None,
        reserved: Vec::new(),
    }
}

/// How many threads a key means: `auto` is one for each core that the process may run on.
pub(super) fn threads(declared: boot::Workers) -> NonZeroUsize {
    match declared {
        boot::Workers::Auto => available_parallelism().unwrap_or(NonZeroUsize::MIN),
        boot::Workers::Count(count) => count.into(),
    }
}

/// What a gateway without networks and connections has open: some 45, and as many again for pipes and
/// connections at rest.
const DESCRIPTORS_OF_ITS_OWN: u64 = 64;

/// How many connections there is room for: each has a descriptor towards its client and one towards its
/// target. A sixteenth is left for networks, of ten each.
fn connections_for(descriptors: u64) -> NonZeroU32 {
    let left = descriptors.saturating_sub(DESCRIPTORS_OF_ITS_OWN);
    let pairs = left.saturating_sub(descriptors / 16) / 2;
    let pairs = u32::try_from(pairs).unwrap_or(u32::MAX);
    NonZeroU32::new(pairs).unwrap_or(NonZeroU32::MIN)
}

fn limits(declared: &boot::Limits, descriptors: u64) -> Limits {
    let room = connections_for(descriptors);
    if let Some(connections_max) = declared.connections_max
        && connections_max > room
    {
        tracing::warn!(
            %connections_max,
            open_files = descriptors,
            room_for = room,
            "`limits.connections_max` is more than the open files of this process allow: raise `LimitNOFILE=`"
        );
    }
    Limits {
        connections_max: declared.connections_max.unwrap_or(room),
        connections_per_network_max: declared.connections_per_network_max,
        connections_per_source_max: declared.connections_per_source_max,
        accept_rate_per_source: declared.accept_rate_per_source,
        hello_bytes_max: declared.hello_bytes_max.in_memory(),
        http_head: engine_http::limits::Limits {
            head_bytes_max: declared.http_head_bytes_max.in_memory(),
            target_bytes_max: declared.http_target_bytes_max.in_memory(),
            fields_max: declared.http_fields_max.get().into(),
        },
        http2: engine::Http2Limits {
            streams_max: declared.http2_streams_max.get().into(),
            stream_window: window(declared.http2_stream_window),
            connection_window: window(declared.http2_connection_window),
            upstream_window: window(declared.http2_upstream_window),
            control_frames_burst: declared.http2_control_frames_max.get(),
            control_frames_per_second: declared.http2_control_frames_max.get().div_ceil(10),
            connections_per_target_max: declared.http2_upstreams_max.get().into(),
        },
        upstreams_idle_max: usize::try_from(declared.upstreams_idle_max).unwrap_or(usize::MAX),
        upstream_idle_timeout: declared.upstream_idle_timeout,
        names_max: usize::try_from(declared.names_max).unwrap_or(usize::MAX),
        accept_batch_max: declared.accept_batch_max.get().into(),
        backlog: declared.backlog.get(),
        scratch_bytes: declared.scratch_bytes.in_memory(),
        held_bytes_max: declared.held_bytes_max.in_memory(),
        pipe_bytes: declared.pipe_bytes.in_memory(),
        pipes_idle_max: usize::try_from(declared.pipes_idle_max).unwrap_or(usize::MAX),
        accounted_clients_max: usize::try_from(declared.accounted_clients_max)
            .unwrap_or(usize::MAX),
        keep_alive: declared.keep_alive,
        user_timeout: declared.user_timeout,
    }
}

/// A window as HTTP/2 writes it: the boot file's bounds are within what it can say (RFC 9113
/// section 6.9.1).
fn window(size: ByteSize) -> u32 {
    u32::try_from(size.in_memory()).unwrap_or(u32::MAX >> 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_defaults_of_the_boot_file_are_the_engines_own() {
        let text = "listeners: [{ name: a, bind: 127.0.0.1:0, protocol: tls }]";
        let no_variables = BTreeMap::<String, String>::new();
        let boot = boot::parse(text, &no_variables).unwrap().value;
        let engines = Limits {
            connections_max: connections_for(1000),
            ..Limits::default()
        };
        assert_eq!(limits(&boot.limits, 1000), engines);
    }

    #[test]
    fn connections_are_as_many_as_descriptors_allow_unless_written() {
        for (descriptors, connections) in [(0, 1), (225, 73), (1_048_320, 491_368)] {
            assert_eq!(connections_for(descriptors).get(), connections);
        }
        assert_eq!(connections_for(u64::MAX).get(), u32::MAX);
        let text = "{ listeners: [{ name: a, bind: 127.0.0.1:0, protocol: tls }], limits: { connections_max: 7 } }";
        let no_variables = BTreeMap::<String, String>::new();
        let boot = boot::parse(text, &no_variables).unwrap().value;
        assert_eq!(limits(&boot.limits, 1000).connections_max.get(), 7);
    }
}
