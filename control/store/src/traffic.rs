//! Questions about traffic, and their answers.

use std::{num::NonZeroU16, str::FromStr};

use control_api::{
    place::{NetworkKey, NetworkName},
    state::{KeyError, PublicKey},
};

mod peers;
mod relays;
mod select;

/// Times in one answer. A longer one ends early, at the last time that it has everything of, and
/// says so: whoever goes on from its `stop_time` gets the rest.
pub const ANSWER_ROWS_MAX: u32 = 250_000;

/// What is asked about traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficQuery {
    /// Only what was counted after this unix time.
    pub since: u64,
    /// Only rows up to this unix time; otherwise everything until now. What was counted before and
    /// is in a later row is not in the answer: at most a row interval's worth.
    pub until: Option<u64>,
    /// Only this network.
    pub network: Option<NetworkFilter>,
    /// Only this peer.
    pub peer: Option<PublicKey>,
    /// How finely to tell it; otherwise by row.
    pub group: Option<Group>,
}

/// Which network is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkFilter {
    /// Whatever has, or had, this name.
    Name(NetworkName),
    /// The network with this key.
    Key(PublicKey),
}

impl From<NetworkKey> for NetworkFilter {
    fn from(port: NetworkKey) -> Self {
        Self::Name(NetworkName::Port(port))
    }
}

impl FromStr for NetworkFilter {
    type Err = KeyError;

    /// A port, `port:PORT`, a network's name, or a public key.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let port = text.strip_prefix("port:").unwrap_or(text);
        match (port.parse::<NonZeroU16>(), text.parse()) {
            (Ok(port), _) => Ok(Self::from(NetworkKey::from(port))),
            (Err(_), Ok(name)) => Ok(Self::Name(name)),
            (Err(_), Err(_)) => text.parse().map(Self::Key),
        }
    }
}

/// How finely traffic is told. A time stands for what was counted from then on, and for the whole
/// hour or day, which includes its end: 13:00:00 belongs to the hour that began at 12:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// By hour.
    Hour,
    /// By day, from midnight UTC on.
    Day,
}

impl Group {
    /// The time that stands for what was counted up to a time.
    fn start(group: Option<Self>, time: u64) -> u64 {
        let seconds = match group {
            None => return time,
            Some(Self::Hour) => 3600,
            Some(Self::Day) => 86_400,
        };
        time.saturating_sub(1) / seconds * seconds
    }
}

#[cfg(test)]
mod tests;
