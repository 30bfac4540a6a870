//! Which hosts a refused network lays claim to.

use std::collections::BTreeSet;

use engine_core::hostname::HostPattern;
use serde_json::Value;

use super::{Network, Tls, proxy::host_of, route::RouteHost};

/// The hosts of a network whose part of a document is refused, as far as they can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Those that can be read.
    pub hosts: BTreeSet<HostPattern>,
    /// Whether these are all.
    pub is_complete: bool,
}

impl Claims {
    /// Those of a part of a document of which it is only known that it is JSON.
    #[must_use]
    pub fn of(network: &Value) -> Self {
        let mut claims = Self {
            hosts: BTreeSet::new(),
            is_complete: network.is_object(),
        };
        let part = |key| network.get(key).filter(|part| !part.is_null());
        if let Some(proxy) = part("proxy") {
            match proxy.as_object() {
                Some(pools) => pools.keys().for_each(|key| claims.note_key(key)),
                None => claims.is_complete = false,
            }
        }
        if let Some(routes) = part("routes") {
            match routes.as_array() {
                Some(routes) => routes.iter().for_each(|it| claims.note(&it["host"])),
                None => claims.is_complete = false,
            }
        }
        claims.note_certificates(&network["tls"]);
        claims
    }

    fn note_key(&mut self, key: &str) {
        // A port or a path does not belong there, and what is before it is a host all the same.
        let host = host_of(key).split(['/', ':']).next().unwrap_or_default();
        match HostPattern::parse(host) {
            Ok(host) => drop(self.hosts.insert(host)),
            Err(_) => self.is_complete = false,
        }
    }

    fn note(&mut self, host: &Value) {
        let read = host.as_str().and_then(|host| host.parse().ok());
        match read.as_ref().map(RouteHost::pattern) {
            Some(Some(host)) => drop(self.hosts.insert(host.clone())),
            // What nobody declared is nobody's.
            Some(None) => {}
            None => self.is_complete = false,
        }
    }

    fn note_certificates(&mut self, tls: &Value) {
        let of_files = tls["files"].as_array().into_iter().flatten();
        let sources = of_files.chain([&tls["acme"]]);
        for hosts in sources.map(|source| &source["hosts"]) {
            match hosts.as_array() {
                Some(hosts) => hosts.iter().for_each(|host| self.note(host)),
                None if hosts.is_null() => {}
                None => self.note(hosts),
            }
        }
    }
}

impl Network {
    /// Every host that it has a name, a rule or a certificate for; those that more than one of these is
    /// for come more than once.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        let served = self.proxy.keys().map(|key| &key.pattern);
        let routed = self.routes.iter();
        let routed = routed.filter_map(|route| route.host.pattern());
        let sourced = self.tls.iter().flat_map(Tls::hosts);
        served.chain(routed).chain(sourced)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claimed(network: &Value) -> (Vec<String>, bool) {
        let Claims { hosts, is_complete } = Claims::of(network);
        let hosts = hosts.iter().map(ToString::to_string);
        (hosts.collect(), is_complete)
    }

    #[test]
    fn hosts_are_read_from_everything_that_names_them() {
        let network = json!({
            "unheard_of": 1,
            "proxy": { "https://a.example": 7, "*.b.example": [], "odd://c.example:443/x": null },
            "routes": [{ "host": "D.example", "no_more": 2 }, { "host": "*" }],
            "tls": { "files": [{ "hosts": ["e.example"] }], "acme": { "hosts": "f.example" } },
        });
        let hosts = [
            "*.b.example",
            "a.example",
            "c.example",
            "d.example",
            "e.example",
            "f.example",
        ];
        let (mut found, is_complete) = claimed(&network);
        found.sort();
        assert_eq!(found, hosts);
        assert!(is_complete);
        assert_eq!(claimed(&json!({})), (Vec::new(), true));
    }

    #[test]
    fn what_cannot_be_read_is_said_and_hides_nothing_else() {
        for odd in [
            json!({ "proxy": { "a.example": [], "a b": [] } }),
            json!({ "proxy": { "a.example": [] }, "routes": "none" }),
            json!({ "proxy": [], "routes": [{ "host": "a.example" }] }),
            json!({ "proxy": { "a.example": [] }, "routes": [{ "path": "/" }] }),
            json!({ "proxy": { "a.example": [] }, "tls": { "acme": { "hosts": [1] } } }),
        ] {
            let expected = (vec!["a.example".to_owned()], false);
            assert_eq!(claimed(&odd), expected, "{odd}");
        }
        assert_eq!(claimed(&json!(["a.example"])), (Vec::new(), false));
    }
}
