//! SIGHUP: the boot file is read again, and taken whole or not at all.
//!
//! Taken: listeners, the API's tokens, `drain_timeout`, `log.level` and which files certificates are in; the connection log's file is opened again. Whatever else
//! differs waits for a restart, and is named in the log. Connections go on.

use std::io;

use control_api::{
    Problem, Problems, Severity,
    boot::{ApiListen, Boot},
};
use control_http::Tokens;
use engine_sys::process::beyond_descriptor_limit;
use sd_notify::NotifyState;
use tokio::{sync::oneshot, task::spawn_blocking, time::Interval};

use super::{api::Api, log_problems, results::Results, start::Gateway};
use crate::{
    check::write_lines,
    files::{self, BootFile, Found},
    reconcile::{Order, Taken},
};

/// What is said of a listener without a port.
const RETRIED: &str = "it is tried again every second";

/// What is said of keys that differ and cannot be taken.
const RESTART: &str = "these keys only change with a restart";

impl Gateway<'_> {
    /// Reads the boot file again. The reconcile thread may be at a large change: at each beat of
    /// `watchdog` meanwhile, the service manager hears whether it gets on.
    pub(super) async fn reload(&mut self, api: &Api, results: &Results, watchdog: &mut Interval) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.notices.tell([NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the service manager cannot be told"),
        }
        // Log rotation does not depend on good files.
        self.reopen_logs();
        let taken = match self.load_boot(watchdog).await {
            Ok(file) => self.take_over(file, api, watchdog).await,
            Err(found) => Err(found),
        };
        let is_taken = taken.is_ok();
        if let Err(found) = &taken {
            self.order(Order::BootRefused(first_line(found)));
        }
        let (found, taken) = taken.unwrap_or_else(|found| (found, Taken::default()));
        let Taken { waiting, unbound } = taken;
        let mut lines = Vec::new();
        // Writing to memory cannot fail.
        let _ = write_lines(std::slice::from_ref(&found), &mut lines);
        let mut lines = String::from_utf8_lossy(&lines).into_owned();
        log_problems(&[found]);
        for unbound in unbound {
            lines += &format!("{unbound}; {RETRIED}\n");
        }
        if !waiting.is_empty() {
            let keys = waiting.join(" ");
            lines += &format!("{RESTART}: {keys}\n");
            tracing::warn!(keys = ?waiting, "{RESTART}");
        }
        if !is_taken {
            tracing::error!("the boot file is refused, and the running state stays");
        }
        self.notices.tell([NotifyState::Ready]);
        results.tell(is_taken, &lines);
    }

    /// Has the logs opened again, by their names.
    pub(super) fn reopen_logs(&self) {
        self.connections.reopen();
        self.requests.reopen();
    }

    /// Reads the boot file and its tokens, away from this thread.
    async fn load_boot(&self, watchdog: &mut Interval) -> Result<BootFile, Found> {
        let file = self.boot_file.clone();
        let mut read = spawn_blocking(move || beyond_descriptor_limit(|| files::load_boot(&file)));
        loop {
            tokio::select! {
                read = &mut read => {
                    let failed = |error| files::unreadable(&self.boot_file, &io::Error::other(error));
                    return read.unwrap_or_else(|error| Err(failed(error)));
                }
                _ = watchdog.tick() => self.report_life(),
            }
        }
    }

    async fn take_over(
        &mut self,
        file: BootFile,
        api: &Api,
        watchdog: &mut Interval,
    ) -> Result<(Found, Taken), Found> {
        let BootFile {
            text,
            boot,
            tokens,
            found,
        } = file;
        let refused = |problems: &Problems| Found {
            file: self.boot_file.clone(),
            problems: files::locate(&text, problems),
        };
        // Of the boot file that Ringway was started with: where the API listens never changes.
        if let Err(open) = require_token(&self.boot.api.listen, &tokens) {
            return Err(refused(&open));
        }
        let (reply, mut answer) = oneshot::channel();
        let asked = boot.clone();
        self.order(Order::Boot {
            boot: Box::new(asked),
            reply,
        });
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer,
                _ = watchdog.tick() => self.report_life(),
            }
        };
        let Ok(answer) = answer else {
            // The reconcile thread has ended, and so does the gateway.
            return Ok((found, Taken::default()));
        };
        let taken = answer.map_err(|problems| refused(&problems))?;
        self.drain_timeout = boot.drain_timeout;
        self.logs.set_level(boot.log.level);
        self.vault.reload(&boot);
        api.set_tokens(tokens);
        Ok((found, taken))
    }
}

/// The first problem of a refused boot file, for the status; all of them are in the log.
fn first_line(found: &Found) -> String {
    let mut lines = Vec::new();
    // Writing to memory cannot fail.
    let _ = write_lines(std::slice::from_ref(found), &mut lines);
    let lines = String::from_utf8_lossy(&lines);
    let mut errors = lines.lines().filter(|line| !line.contains(": warning: "));
    let first = errors.next().unwrap_or("it is refused");
    match errors.count() {
        0 => first.to_owned(),
        more => format!("{first}; and {more} more"),
    }
}

/// Makes sure that an API that other machines reach does not lose its last token: a boot file is
/// held against the place that it names itself, and that one waits for a restart.
fn require_token(running: &ApiListen, tokens: &Tokens) -> Result<(), Problems> {
    if !running.is_beyond_loopback() || !tokens.is_empty() {
        return Ok(());
    }
    let mut problems = Problems::default();
    problems.push(Problem {
        pointer: "/api".to_owned(),
        hint: Some("restart Ringway to have the API elsewhere, or keep a token".to_owned()),
        ..Problem::whole(
            Severity::Error,
            format!(
                "the API still listens on {running}, which can be reached from other machines, \
                and without a token every client would be an admin"
            ),
        )
    });
    Err(problems)
}

/// Takes over what a running gateway can change: see the keys that the reference table marks.
pub(crate) fn adopt(running: &mut Boot, new: &Boot) {
    running.api.token.clone_from(&new.api.token);
    running.api.token_file.clone_from(&new.api.token_file);
    running.api.tokens.clone_from(&new.api.tokens);
    running.drain_timeout = new.drain_timeout;
    running.log.level = new.log.level;
    running.tls.files.clone_from(&new.tls.files);
    running.tls.default.clone_from(&new.tls.default);
    running.listeners.clone_from(&new.listeners);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use control_api::boot::{self, Role, TokenName};

    use super::*;

    fn boot(text: &str) -> Boot {
        let no_variables = BTreeMap::<String, String>::new();
        boot::parse(text, &no_variables).unwrap().value
    }

    #[test]
    fn an_api_that_others_reach_keeps_a_token() {
        let listen = |text: &str| text.parse::<ApiListen>().unwrap();
        let name: TokenName = "x".parse().unwrap();
        let token = "a-token-that-is-long-enough".parse().unwrap();
        let some = Tokens::new([(&name, Role::Reader, &token)]);
        let none = Tokens::new([]);
        for (running, tokens, is_taken) in [
            ("0.0.0.0:8080", &none, false),
            ("[2001:db8::1]:8080", &none, false),
            ("0.0.0.0:8080", &some, true),
            ("127.0.0.1:8080", &none, true),
            ("unix:/run/ringway.sock", &none, true),
            ("off", &none, true),
        ] {
            let required = require_token(&listen(running), tokens);
            assert_eq!(required.is_ok(), is_taken, "{running}: {required:?}");
        }
    }

    /// The keys that are marked as taken at SIGHUP, and those that are taken, are the same.
    #[test]
    fn what_is_adopted_is_what_needs_no_restart() {
        let mut running = boot(
            "listeners:\n- { name: a, bind: 127.0.0.1:1, protocol: tls }\n- { name: b, bind: 127.0.0.1:2, protocol: tcp, to: host/127.0.0.1:1 }",
        );
        let new = boot(
            "listeners:\n- { name: a, bind: 127.0.0.1:1, protocol: http, default: host/127.0.0.1:2 }\n- { name: c, bind: 127.0.0.1:3, protocol: tcp, to: host/127.0.0.1:2 }\napi: { token: a-token-that-is-long-enough }\ndrain_timeout: 1s\nlog: { level: debug }\ntls: { files: [{ certificate: a, key: b }], default: { certificate: c, key: d } }",
        );
        assert!(new.restart_needed(&running).is_empty());
        adopt(&mut running, &new);
        assert_eq!(running, new);
        let restart = boot(
            "workers: 1\nlisteners:\n- { name: a, bind: 127.0.0.1:1, protocol: tls }\nlimits: { backlog: 1 }\nlog: { file: f }",
        );
        let before = running.clone();
        adopt(&mut running, &restart);
        assert_eq!(
            (running.workers, &running.limits),
            (before.workers, &before.limits)
        );
    }
}
