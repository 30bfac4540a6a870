//! Whether targets are well: active checks, and leaving out those that fail requests.

use std::{fmt, num::NonZeroU32, ops::RangeInclusive, str::FromStr, time::Duration};

use engine_http::health::{self, Check as Checked, Probe};
use serde_json::{Value, json};

use super::text::string_field;
use crate::{
    document::Spot,
    field::{Field, words},
    problem::Problems,
    section::Check,
    state::part::part,
};

part! {
    /// Active checks: a target is asked at intervals, from within the network.
    pub struct Health {
        /// `http` sends a GET, `tcp` only connects.
        kind: HealthKind, r#""http""#;
        /// The path of the GET; by default `/`.
        path: Option<HealthPath>, r#""/healthz?deep=1""#;
        /// The host of the GET; by default the address or name of the target.
        host: Option<HealthHost>, r#""shop.internal""#;
        /// The statuses of a healthy target; by default `200-399`.
        statuses: Option<Statuses>, r#""200-299""#;
        /// The time between two checks.
        interval: Duration = "5s" where in "500ms"..="1h", r#""10s""#;
        /// Timeout of a check.
        timeout: Duration = "2s" where in "10ms"..="1m", r#""1s""#;
        /// Successful checks in a row that make a target healthy.
        rise: NonZeroU32 = "2" where in "1"..="100", "3";
        /// Failed checks in a row that make a target unhealthy.
        fall: NonZeroU32 = "3" where in "1"..="100", "2";
    }
}

words! {
    /// How a target is asked.
    pub enum HealthKind {
        /// By a GET.
        Http = "http",
        /// By a connection.
        Tcp = "tcp",
    }
}

impl Check for Health {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        let of_http = self.path.is_some() || self.host.is_some() || self.statuses.is_some();
        if self.kind == HealthKind::Tcp && of_http {
            spot.error(
                problems,
                "`path`, `host` and `statuses` are for `\"kind\": \"http\"`",
            );
        }
    }
}

impl Health {
    /// As the engine does it.
    pub fn check_of(&self) -> Checked {
        let probe = match self.kind {
            HealthKind::Tcp => Probe::Tcp,
            HealthKind::Http => Probe::Http {
                path: self
                    .path
                    .as_ref()
                    .map_or("/".to_owned(), ToString::to_string),
                host: self.host.as_ref().map(ToString::to_string),
                statuses: self.statuses.map_or(200..=399, |statuses| statuses.range()),
            },
        };
        Checked {
            probe,
            interval: self.interval,
            timeout: self.timeout,
            rise: self.rise.get(),
            fall: self.fall.get(),
        }
    }
}

part! {
    /// When a target that fails requests is left out, and for how long.
    pub struct Ejection {
        /// Failed requests in a row that eject a target; 0 turns ejection off.
        failures: u32 = "5" where in "0"..="1000", "3";
        /// Duration of the first ejection. Each one that follows closely is twice as long.
        base: Duration = "10s" where in "100ms"..="1h", r#""5s""#;
        /// Maximum duration of an ejection.
        max: Duration = "5m" where in "100ms"..="1d", r#""1m""#;
        /// Maximum share of ejected targets, in percent. The last target is never ejected.
        share_max: u32 = "50" where in "0"..="100", "30";
    }
}

impl Check for Ejection {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if self.max < self.base {
            spot.error(problems, "`max` is less than `base`");
        }
    }
}

impl Ejection {
    /// As the engine does it.
    pub fn ejection(&self) -> health::Ejection {
        health::Ejection {
            failures: self.failures,
            base: self.base,
            max: self.max,
            share_max: u8::try_from(self.share_max).unwrap_or(100),
        }
    }
}

/// A path, and a query if need be, that a check asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPath(Box<str>);

/// A host, and a port if need be, that a check asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthHost(Box<str>);

/// The statuses of a target that is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statuses {
    first: u16,
    last: u16,
}

impl Statuses {
    /// From the first to the last of them.
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

/// Why a check cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// Nothing that can be asked for.
    #[error("a path is expected that begins with `/`, with a query if need be")]
    Path,
    /// Nothing that can be asked.
    #[error("a host is expected, with a port if need be")]
    Host,
    /// Not one status, and not two with a hyphen between.
    #[error("a status from 200 to 599 is expected, or two as in 200-299")]
    Statuses,
}

impl FromStr for HealthPath {
    type Err = HealthError;

    fn from_str(text: &str) -> Result<Self, HealthError> {
        let is_path = text.starts_with('/') && text.len() <= 1024;
        let is_asked = |byte: u8| matches!(byte, b'!'..=b'~') && byte != b'#';
        match is_path && text.bytes().all(is_asked) {
            true => Ok(Self(text.into())),
            false => Err(HealthError::Path),
        }
    }
}

impl FromStr for HealthHost {
    type Err = HealthError;

    fn from_str(text: &str) -> Result<Self, HealthError> {
        match engine_http::host::Host::parse(text.as_bytes()) {
            Some(_) => Ok(Self(text.into())),
            None => Err(HealthError::Host),
        }
    }
}

impl FromStr for Statuses {
    type Err = HealthError;

    fn from_str(text: &str) -> Result<Self, HealthError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            let status = digits.then(|| text.parse().ok()).flatten();
            status.filter(|status| (200..600).contains(status))
        };
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(HealthError::Statuses),
        }
    }
}

impl fmt::Display for HealthPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for HealthHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        match first == last {
            true => write!(f, "{first}"),
            false => write!(f, "{first}-{last}"),
        }
    }
}

string_field!(HealthPath, "path", {
    "type": "string", "pattern": "^/[!-\"$-~]*$", "maxLength": 1024,
});
string_field!(HealthHost, "host", { "type": "string", "minLength": 1, "maxLength": 261 });
string_field!(Statuses, "status or range of them", {
    "type": "string", "pattern": "^[2-5][0-9]{2}(-[2-5][0-9]{2})?$",
});
