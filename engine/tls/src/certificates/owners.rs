//! Which network routes which hosts.

use std::collections::HashMap;

use ahash::RandomState;
use engine_core::{
    hostname::{HostPattern, Hostname},
    ids::NetworkId,
};

/// Which network routes which hosts, of those that a network's certificate could be for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    exact: HashMap<Hostname, NetworkId, RandomState>,
    /// Every name below a domain.
    wildcard: HashMap<Hostname, NetworkId, RandomState>,
    others: Option<NetworkId>,
}

impl Owners {
    /// Says whose a host is, or every host that nobody else has.
    pub fn insert(&mut self, host: Option<&HostPattern>, network: NetworkId) {
        match host {
            Some(HostPattern::Exact(name)) => {
                self.exact.insert(name.clone(), network);
            }
            Some(HostPattern::Wildcard(domain)) => {
                self.wildcard.insert(domain.clone(), network);
            }
            None => self.others = Some(network),
        }
    }

    /// Whose a name is: by the most specific pattern, as requests are routed.
    pub(super) fn of(&self, name: &str) -> Option<NetworkId> {
        if let Some(network) = self.exact.get(name) {
            return Some(*network);
        }
        let mut rest = name;
        while let Some((_, domain)) = rest.split_once('.') {
            if let Some(network) = self.wildcard.get(domain) {
                return Some(*network);
            }
            rest = domain;
        }
        self.others
    }
}
