//! SIGHUP: the files are read again, and taken whole or not at all.
//!
//! Taken: the state document (`state` may name another one), `to` and `default` of listeners that
//! stay as they are, `drain_timeout` and `log.level`; the connection log's file is opened again.
//! Whatever else differs waits for a restart, and is named in the log. Connections of networks
//! that are still declared go on.

use control_api::{Problems, boot::Boot};
use sd_notify::NotifyState;

use super::{Gateway, log_problems, tell};
use crate::files::{self, Files, Found};

impl Gateway<'_> {
    /// Reads the files again.
    pub(super) fn reload(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager cannot be told"),
        }
        // Log rotation does not depend on good files.
        self.connections.reopen();
        match files::load(&self.boot_file) {
            Ok(files) => self.take_over(files),
            Err(found) => refuse(&found),
        }
        tell(&[NotifyState::Ready]);
    }

    fn take_over(&mut self, files: Files) {
        let Files {
            boot,
            desired,
            found,
        } = files;
        let running = self.boot.clone();
        adopt(&mut self.boot, &boot);
        self.tenants.forget_replaced();
        let planned = match self.plan(&desired) {
            Ok(planned) => planned,
            Err(problems) => {
                // A listener of the running gateway names a network that the new state drops.
                self.boot = running;
                return self.refuse_plan(problems);
            }
        };
        log_problems(&found);
        let waiting = boot.restart_needed(&running);
        if !waiting.is_empty() {
            tracing::warn!(
                keys = waiting.join(" "),
                "these keys only change with a restart"
            );
        }
        self.logs.set_level(self.boot.log.level);
        let wanted = planned.namespaces.clone();
        let publication = self.tenants.open(planned);
        self.desired = desired;
        self.publish(publication);
        self.tenants.release_all_but(&wanted);
    }

    fn refuse_plan(&self, problems: Problems) {
        let file = self.boot_file.clone();
        refuse(&[Found { file, problems }]);
    }
}

fn refuse(found: &[Found]) {
    log_problems(found);
    tracing::error!("the files are refused, and the running state stays");
}

/// Takes over what a running gateway can change: see the keys that the reference table marks.
fn adopt(running: &mut Boot, new: &Boot) {
    running.state.clone_from(&new.state);
    running.drain_timeout = new.drain_timeout;
    running.log.level = new.log.level;
    for listener in &mut running.listeners {
        let same = |new: &&control_api::boot::Listener| {
            new.name == listener.name && new.protocol == listener.protocol
        };
        if let Some(new) = new.listeners.iter().find(same) {
            listener.to.clone_from(&new.to);
            listener.default.clone_from(&new.default);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use control_api::boot;

    use super::*;

    fn boot(text: &str) -> Boot {
        let no_variables = BTreeMap::<String, String>::new();
        boot::parse(text, &no_variables).unwrap().value
    }

    /// The keys that are marked as taken at SIGHUP, and those that are taken, are the same.
    #[test]
    fn what_is_adopted_is_what_needs_no_restart() {
        let mut running = boot(
            "listeners:\n- { name: a, bind: 127.0.0.1:1, protocol: tls }\n- { name: b, bind: 127.0.0.1:2, protocol: tcp, to: host/127.0.0.1:1 }",
        );
        let new = boot(
            "listeners:\n- { name: a, bind: 127.0.0.1:1, protocol: tls, default: host/127.0.0.1:2 }\n- { name: b, bind: 127.0.0.1:2, protocol: tcp, to: host/127.0.0.1:2 }\nstate: s\ndrain_timeout: 1s\nlog: { level: debug }",
        );
        assert!(new.restart_needed(&running).is_empty());
        adopt(&mut running, &new);
        assert_eq!(running, new);
        let restart = boot(
            "workers: 1\nlisteners:\n- { name: c, bind: 127.0.0.1:1, protocol: tls }\nlimits: { backlog: 1 }\nlog: { file: f }",
        );
        let before = running.clone();
        adopt(&mut running, &restart);
        assert_eq!(running.listeners, before.listeners);
        assert_eq!(
            (running.workers, &running.limits),
            (before.workers, &before.limits)
        );
    }
}
