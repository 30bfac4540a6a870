//! What contradicts itself in one rule.

use engine_core::balance::Balance;
use serde_json::Map;

use super::{Health, HealthKind, Route, Speaks};
use crate::{document::Spot, field::Field, problem::Problems, section::Check};

/// All that a rule may say of connections that it does not read.
const OF_PASSTHROUGH: [&str; 4] = ["host", "tls", "to", "balance"];
/// What is said of targets, and means nothing without them.
const OF_TARGETS: [&str; 8] = [
    "balance",
    "health",
    "ejection",
    "rewrite",
    "request_headers",
    "retries",
    "sticky",
    "upstream_tls",
];

impl Check for Route {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if self.passes_through() {
            self.check_passthrough(spot, problems);
        } else {
            self.check_rule(spot, problems);
        }
        match (&self.to, &self.upstream_tls) {
            (Some(to), Some(_)) if !to.speaks.is_tls() => spot.error_with_hint(
                problems,
                "`upstream_tls` has no effect: the targets do not use TLS",
                "write https:// in front of them",
            ),
            (Some(to), _) if to.speaks.is_tls() => self.check_name(spot, problems),
            _ => {}
        }
    }
}

impl Route {
    fn written(&self) -> Vec<String> {
        let written = self.write();
        let keys = written.as_object().into_iter().flat_map(Map::keys);
        keys.cloned().collect()
    }

    fn check_passthrough(&self, spot: &Spot<'_>, problems: &mut Problems) {
        for key in self.written() {
            if !OF_PASSTHROUGH.contains(&key.as_str()) {
                spot.error(
                    problems,
                    format_args!("`{key}` has no effect with TLS passthrough"),
                );
            }
        }
        match &self.to {
            None => spot.error(problems, "`to` is missing"),
            Some(to) if to.speaks != Speaks::Http => spot.error_with_hint(
                problems,
                "targets of TLS passthrough have no scheme",
                "write `ip:port` alone",
            ),
            Some(_) => {}
        }
        if !matches!(
            self.balance,
            None | Some(Balance::RoundRobin | Balance::LeastConnections)
        ) {
            spot.error(
                problems,
                "connections are spread by round_robin or least_connections",
            );
        }
        if self.host.pattern().is_none() {
            spot.error_with_hint(
                problems,
                "`*` is for requests",
                "the listener's `default` takes connections that name no declared host",
            );
        }
    }

    fn check_rule(&self, spot: &Spot<'_>, problems: &mut Problems) {
        match (&self.to, &self.redirect) {
            (Some(_), Some(_)) => {
                spot.error(problems, "a rule has `to` or `redirect`, and not both")
            }
            (None, None) if !self.maintenance => {
                spot.error(problems, "`to` is missing, or `redirect`, or `maintenance`");
            }
            _ => {}
        }
        if self.to.is_none() {
            for key in self.written() {
                if OF_TARGETS.contains(&key.as_str()) {
                    spot.error(problems, format_args!("`{key}` has no effect without `to`"));
                }
            }
        }
        let to_https = self
            .redirect
            .as_ref()
            .is_some_and(super::Redirect::is_to_https);
        if to_https && self.tls.is_some() {
            spot.error(problems, "a redirect to https is for requests without TLS");
        }
    }

    /// A check is nobody's request: where those name the target, it has to be told whom to ask for.
    fn check_name(&self, spot: &Spot<'_>, problems: &mut Problems) {
        let said = self.upstream_tls.as_ref();
        if said.is_some_and(|said| !said.verify) || self.upstream_name().is_some() {
            return;
        }
        let asks = |health: &Health| health.kind == HealthKind::Http && health.host.is_none();
        if self.health.as_ref().is_some_and(asks) {
            spot.error_with_hint(
                problems,
                "`health` does not know the server name of the targets' certificates",
                "write `host` in `health`, or `server_name` in `upstream_tls`",
            );
        }
    }
}
