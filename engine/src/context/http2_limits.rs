//! What a connection of HTTP/2 may take of the gateway.

use crate::context::room::Level;

/// The bounds of connections of HTTP/2. See the field for what happens past each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http2Limits {
    /// Most requests of a connection at a time; more are refused (RFC 9113 section 5.1.2).
    pub streams_max: u32,
    /// How much content of a message may be on its way to the gateway before its receiver has taken
    /// it, in bytes: the memory that one stream can hold.
    pub stream_window: u32,
    /// The same for all requests of a client's connection together. Where the windows of all streams
    /// come to more, each of them is smaller.
    pub connection_window: u32,
    /// The same for all responses of a connection to an upstream together. Where more requests come
    /// than have a window in it, they take another connection.
    pub upstream_window: u32,
    /// Frames that cost more than they carry (resets, pings, settings, updates of windows, empty
    /// content) that a client or an upstream may send at once. With more the connection ends.
    pub control_frames_burst: u32,
    /// How many more of them it may send each second. Those that answer what the gateway sent (updates
    /// of windows, pings that measure) are not counted.
    pub control_frames_per_second: u32,
    /// Connections that the gateway keeps to one target over HTTP/2, for each worker. While all of them
    /// are full there are more, and those end as soon as nobody uses them.
    pub connections_per_target_max: usize,
}

impl Default for Http2Limits {
    /// Streams as browsers and other gateways take for granted; windows for 20 MB/s at a distance
    /// of 50 ms.
    fn default() -> Self {
        Self {
            streams_max: 128,
            stream_window: 256 << 10,
            connection_window: 32 << 20,
            upstream_window: 32 << 20,
            control_frames_burst: 1000,
            control_frames_per_second: 100,
            connections_per_target_max: 4,
        }
    }
}

/// The least window of a stream: a full frame (RFC 9113 section 4.2).
const STREAM_WINDOW_MIN: u32 = 16 << 10;

/// The window of a stream where little room is left.
const STREAM_WINDOW_LITTLE: u32 = 64 << 10;

/// The largest window that there is (RFC 9113 section 6.9.1), and the one that connections begin with.
pub(crate) const WINDOW_MAX: usize = (1 << 31) - 1;
pub(crate) const WINDOW_BEGIN: usize = (1 << 16) - 1;

/// The windows of a connection to an upstream.
///
/// The connection's is that of all its streams together, so streams whose content nobody takes can
/// use up their own, and no other stream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    pub(crate) stream: u32,
    pub(crate) streams_max: u32,
}

impl Windows {
    /// The window of the connection.
    pub(crate) fn connection(self) -> u32 {
        let all = u64::from(self.stream) * u64::from(self.streams_max);
        let all = all.clamp(WINDOW_BEGIN as u64, WINDOW_MAX as u64);
        u32::try_from(all).unwrap_or(u32::MAX >> 1)
    }
}

impl Http2Limits {
    /// The windows of the streams of a client's connection. A client is told how many streams it may
    /// have, so they are made smaller until all of them fit.
    pub(crate) fn client_window(&self, level: Level) -> u32 {
        let fits = self.connection_window / self.streams_max.max(1);
        self.stream(level).min(fits.max(STREAM_WINDOW_MIN))
    }

    /// The windows of a connection to an upstream. The gateway has no more streams on it than fit.
    pub(crate) fn upstream_windows(&self, level: Level) -> Windows {
        let stream = self.stream(level);
        Windows {
            stream,
            streams_max: (self.upstream_window / stream).max(1),
        }
    }

    fn stream(&self, level: Level) -> u32 {
        let most = match level {
            Level::Plenty => u32::MAX,
            Level::Little => STREAM_WINDOW_LITTLE,
            Level::None => STREAM_WINDOW_MIN,
        };
        self.stream_window.min(most).max(STREAM_WINDOW_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_set_of_streams_uses_up_the_window_of_another_one() {
        for streams_max in [1, 17, 128, 10_000] {
            for window in [64 << 10, 256 << 10, 1 << 30] {
                for all in [64 << 10, 1 << 20, 32 << 20, 1 << 30] {
                    let limits = Http2Limits {
                        streams_max,
                        stream_window: window,
                        connection_window: all,
                        upstream_window: all,
                        ..Http2Limits::default()
                    };
                    for level in [Level::Plenty, Level::Little, Level::None] {
                        let windows = limits.upstream_windows(level);
                        let used = u64::from(windows.stream) * u64::from(windows.streams_max);
                        assert!(used <= windows.connection().into(), "{windows:?}");
                        let least = u64::from(streams_max) * u64::from(STREAM_WINDOW_MIN);
                        let most = u64::from(all.max(window)).max(least);
                        assert!(used <= most, "{windows:?} of {limits:?}");
                        let stream = u64::from(limits.client_window(level));
                        assert!(stream * u64::from(streams_max) <= most, "{limits:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn by_default_no_stream_is_made_smaller() {
        let limits = Http2Limits::default();
        let windows = Windows {
            stream: 256 << 10,
            streams_max: 128,
        };
        assert_eq!(limits.client_window(Level::Plenty), windows.stream);
        assert_eq!(limits.upstream_windows(Level::Plenty), windows);
        for (level, stream, streams_max) in [
            (Level::Little, 64 << 10, 512),
            (Level::None, 16 << 10, 2048),
        ] {
            let windows = limits.upstream_windows(level);
            assert_eq!((windows.stream, windows.streams_max), (stream, streams_max));
        }
    }
}
