//! Answers to changes whose networks name files.
//!
//! What is wrong with the files is said with the change, as `ringway check` says it. They may be on a
//! file system that does not answer, so a thread of its own looks at them: neither the API's thread nor
//! the one that changes things ever waits for it.

use std::{collections::BTreeSet, io, sync::Arc, thread, time::Duration};

use control_api::{Problems, answer::Applied, place::NetworkKey, state::Desired};
use control_http::ChangeRefused;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use crate::{named, priority::give_way};

/// How long the files of one change are looked at.
const PATIENCE: Duration = Duration::from_secs(3);
/// Answers that wait for it. A further one is given at once, without a word of its files.
const WAITING_MAX: usize = 16;

/// Whoever asked for a change.
type Reply = oneshot::Sender<Result<Applied, ChangeRefused>>;

/// An answer that is complete but for what is wrong with files.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) applied: Applied,
    /// The state that the change leads to.
    pub(super) desired: Arc<Desired>,
    /// The networks that it is about.
    pub(super) only: BTreeSet<NetworkKey>,
}

/// The way of answers to the thread that looks at files.
#[derive(Debug)]
pub(super) struct Answers(Sender<Answer>);

impl Answers {
    /// Starts the thread. It ends with this.
    ///
    /// # Errors
    /// When there is no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let (desk, waiting) = bounded(WAITING_MAX);
        thread::Builder::new()
            .name("answers".into())
            .spawn(move || {
                if let Err(error) = give_way() {
                    tracing::warn!(%error, "the thread of answers competes with the workers");
                }
                give(&waiting);
            })?;
        Ok(Self(desk))
    }

    /// Gives an answer, once its files were looked at where it is about any.
    pub(super) fn give(&self, answer: Answer) {
        let networks = &answer.desired.networks;
        let mut networks = answer.only.iter().filter_map(|port| networks.get(port));
        if !networks.any(named::names_files) {
            return tell(answer.reply, answer.applied);
        }
        match self.0.try_send(answer) {
            Ok(()) => {}
            Err(TrySendError::Full(answer) | TrySendError::Disconnected(answer)) => {
                tell(answer.reply, answer.applied);
            }
        }
    }
}

fn give(waiting: &Receiver<Answer>) {
    for answer in waiting {
        let Answer {
            reply,
            mut applied,
            desired,
            only,
        } = answer;
        let found: Problems = named::in_networks(&desired, &only, PATIENCE);
        applied.warnings.extend(found.iter().map(Into::into));
        tell(reply, applied);
    }
}

fn tell(reply: Reply, applied: Applied) {
    // Whoever asked may be gone.
    let _ = reply.send(Ok(applied));
}

#[cfg(test)]
mod tests {
    use control_api::state;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn desired(folder: &std::path::Path) -> Arc<Desired> {
        let file = |name: &str| folder.join(name).display().to_string();
        let pair = |name: &str| serde_json::json!({ "hosts": [format!("{name}.example")], "certificate": file(name), "key": file(name) });
        let document = serde_json::json!({
            "1": { "netns": null, "tls": { "files": [pair("missing")] } },
            "2": { "netns": null, "tls": { "files": [pair("pipe")] } },
            "3": { "netns": null },
        });
        Arc::new(state::parse(&document.to_string()).unwrap().value)
    }

    fn ports(ports: &[u16]) -> BTreeSet<NetworkKey> {
        let ports = ports.iter();
        ports.filter_map(|port| NetworkKey::new(*port)).collect()
    }

    fn warnings(answers: &Answers, desired: &Arc<Desired>, only: &[u16]) -> Vec<String> {
        let (reply, replied) = oneshot::channel();
        let only = ports(only);
        answers.give(Answer {
            reply,
            applied: Applied {
                generation: 1,
                changed: true,
                dry_run: false,
                steps: Vec::new(),
                degraded: Vec::new(),
                warnings: Vec::new(),
            },
            desired: Arc::clone(desired),
            only,
        });
        let applied = replied.blocking_recv().unwrap().unwrap();
        let warnings = applied.warnings.into_iter();
        warnings
            .map(|it| format!("{}: {}", it.pointer, it.message))
            .collect()
    }

    #[test]
    fn an_answer_says_what_is_wrong_with_the_files_of_the_networks_that_it_is_about() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let desired = desired(folder.path());
        let answers = Answers::start().unwrap();
        let missing = format!(
            "/1/tls/files/0: {} is of no use: No such file or directory (os error 2)",
            folder.path().join("missing").display()
        );
        let pipe = format!(
            "/2/tls/files/0: {} is of no use: it is a pipe, and a regular file is needed",
            pipe.display()
        );
        let all = [missing.clone(), pipe];
        assert_eq!(warnings(&answers, &desired, &[1, 2, 3]), all);
        assert_eq!(warnings(&answers, &desired, &[1, 3]), [missing]);
        assert_eq!(warnings(&answers, &desired, &[3]), [""; 0]);
    }

    #[test]
    fn files_are_looked_at_for_so_long_and_not_longer() {
        let folder = tempfile::tempdir().unwrap();
        let found = named::in_networks(&desired(folder.path()), &ports(&[1, 2, 3]), Duration::ZERO);
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("/1/tls/files/0: warning: from here on files are not looked at"),
            "{told:?}"
        );
    }
}
