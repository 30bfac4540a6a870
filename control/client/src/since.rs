//! Times as people write them.

use std::{
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

/// A time: absolute, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Seconds since the Unix epoch.
    At(u64),
    /// Before now.
    Ago(Duration),
}

/// The text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a duration back from now (24h), a time in UTC (2026-11-21T08:00:00Z) or seconds since 1970"
)]
pub(crate) struct SinceError;

impl Since {
    /// Seconds since the Unix epoch.
    pub(crate) fn unix(self, now: u64) -> u64 {
        match self {
            Self::At(unix) => unix,
            Self::Ago(span) => now.saturating_sub(span.as_secs()),
        }
    }
}

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, SinceError> {
        if let Ok(unix) = text.parse() {
            return Ok(Self::At(unix));
        }
        if let Ok(span) = humantime::parse_duration(text) {
            return Ok(Self::Ago(span));
        }
        let time = humantime::parse_rfc3339_weak(text).map_err(|_| SinceError)?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| SinceError)?;
        Ok(Self::At(since.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_absolute_or_so_long_ago() {
        let unix = |text: &str| text.parse::<Since>().map(|since| since.unix(1_000_000));
        assert_eq!(unix("0"), Ok(0));
        assert_eq!(unix("1795250000"), Ok(1_795_250_000));
        assert_eq!(unix("1h"), Ok(996_400));
        assert_eq!(unix("90 days"), Ok(0), "before the beginning of time");
        assert_eq!(unix("2026-11-21T08:33:20Z"), Ok(1_795_250_000));
        assert_eq!(unix("2026-11-21 08:33:20"), Ok(1_795_250_000));
        for wrong in ["", "yesterday", "1960-01-01T00:00:00Z", "-5"] {
            assert_eq!(unix(wrong), Err(SinceError), "{wrong}");
        }
    }
}
