//! A real `ringway serve`, its records and its log.

mod output;

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use self::output::{Lines, Notices};
use crate::{
    api::Api,
    leak,
    runner::say,
    wait::{PATIENCE, eventually, within},
};

/// The socket of the API, in the gateway's directory.
pub const SOCKET: &str = "api.sock";

/// How long a gateway may take to say how it is: a start with 100,000 certificates is seconds of
/// processor time. Less than a test may take ([`crate::runner::LIMIT`]), so that the test says what is
/// missing.
const NOTICE: Duration = Duration::from_secs(50);

/// A running gateway. It is killed when dropped.
#[derive(Debug)]
pub struct Gateway {
    child: Mutex<Child>,
    process: u32,
    directory: PathBuf,
    records: Lines,
    log: Lines,
    notices: Notices,
    sockets_before: usize,
    finished: Mutex<bool>,
    expected_errors: Mutex<Vec<String>>,
}

/// How a gateway is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The program.
    pub ringway: &'a Path,
    /// Shell commands before it: limits, variables, descriptors. The shell becomes the gateway.
    pub before: &'a str,
    /// The shell's standard input.
    pub stdin: Stdio,
}

/// Builds the program under test and answers where it is.
///
/// # Errors
/// When it does not build.
pub fn build() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args([
        "build",
        "--quiet",
        "--package",
        "control",
        "--bin",
        "ringway",
    ]);
    build.arg("--message-format=json-render-diagnostics");
    // What cargo tells a test about its own package. ring is built anew whenever these change, and
    // everything that needs it.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|of_package| name.starts_with(of_package))
        {
            build.env_remove(&*name);
        }
    }
    build
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .stderr(Stdio::inherit());
    let output = build.output().context("running cargo")?;
    ensure!(output.status.success(), "ringway does not build");
    let messages = String::from_utf8(output.stdout)?;
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs =
        messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    programs.next_back().context("cargo names no program")
}

impl Gateway {
    /// Starts it on a boot file and a state document in `directory`, and waits until it says that
    /// it is ready (sd_notify(3)).
    ///
    /// # Errors
    /// When it ends before, or does not become ready.
    pub fn start(start: Start<'_>, directory: &Path, boot: &Value, state: &Value) -> Result<Self> {
        fs::write(directory.join("ringway.yaml"), boot.to_string())?;
        fs::write(directory.join("state.json"), state.to_string())?;
        Self::launch(start, directory)
    }

    /// [`Gateway::start`] on the files that are there.
    ///
    /// # Errors
    /// When it ends before, or does not become ready.
    pub fn launch(start: Start<'_>, directory: &Path) -> Result<Self> {
        let notify = directory.join("notify");
        if notify.exists() {
            // Of the one that ended.
            fs::remove_file(&notify)?;
        }
        let notices = Notices::collect(UnixDatagram::bind(&notify)?)?;
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(format!("{}\nexec \"$0\" \"$@\"", start.before))
            .arg(start.ringway);
        command
            .arg("serve")
            .arg("--config")
            .arg(directory.join("ringway.yaml"));
        command
            .env_clear()
            .env("NOTIFY_SOCKET", &notify)
            .current_dir(directory);
        let mut child = command
            .stdin(start.stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting ringway")?;
        let mut gateway = Self {
            process: child.id(),
            directory: directory.to_owned(),
            records: Lines::collect(child.stdout.take().context("no stdout")?)?,
            log: Lines::collect(child.stderr.take().context("no stderr")?)?,
            child: Mutex::new(child),
            notices,
            sockets_before: 0,
            finished: Mutex::new(false),
            expected_errors: Mutex::default(),
        };
        if let Err(error) = gateway.wait_for_notice("READY=1") {
            gateway.show();
            return Err(error);
        }
        gateway.sockets_before = leak::sockets(gateway.process)?;
        Ok(gateway)
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Waits until it tells the service manager so.
    ///
    /// # Errors
    /// When it does not, or ends.
    pub fn wait_for_notice(&self, notice: &str) -> Result<()> {
        let told = within(NOTICE, &format!("{notice} from ringway"), || {
            if self.notices.take(notice) {
                return Some(Ok(()));
            }
            let ended = lock(&self.child).try_wait().ok().flatten();
            ended.map(|status| Err(anyhow::anyhow!("ringway ended: {status}")))
        });
        told?
    }

    /// The records so far, oldest first.
    ///
    /// # Errors
    /// When a line is not JSON.
    pub fn records(&self) -> Result<Vec<Value>> {
        self.records.parsed()
    }

    /// Waits for that many records in all; more are a failure, for each connection has exactly one.
    ///
    /// # Errors
    /// When there are fewer or more.
    pub fn wait_for_records(&self, count: usize) -> Result<Vec<Value>> {
        let what = format!("{count} records");
        let records = eventually(&what, || {
            let records = self.records().ok()?;
            (records.len() >= count).then_some(records)
        });
        let records = match records {
            Ok(records) => records,
            Err(error) => bail!("{error}; there are {}", self.records()?.len()),
        };
        ensure!(
            records.len() == count,
            "{} records instead of {count}",
            records.len()
        );
        Ok(records)
    }

    /// Waits for the one record that is like that.
    ///
    /// # Errors
    /// When there is none.
    pub fn wait_for_record(&self, what: &str, like: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually(what, || {
            self.records().ok()?.into_iter().find(|record| like(record))
        })
    }

    /// The operational log so far.
    ///
    /// # Errors
    /// When a line is not JSON.
    pub fn log(&self) -> Result<Vec<Value>> {
        self.log.parsed()
    }

    /// Waits for a line of the log with that text in it.
    ///
    /// # Errors
    /// When it does not come.
    pub fn wait_for_log(&self, text: &str) -> Result<()> {
        eventually(&format!("`{text}` in the log"), || {
            self.log
                .now()
                .iter()
                .any(|line| line.contains(text))
                .then_some(())
        })
    }

    /// Its API, where the lab put it.
    pub fn api(&self) -> Api {
        Api::at(&self.directory.join(SOCKET))
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Has the boot file read again, and waits until that is done.
    ///
    /// # Errors
    /// When it does not come to an end.
    pub fn reload(&self, boot: &Value) -> Result<()> {
        let next = self.directory.join("ringway.next");
        fs::write(&next, boot.to_string())?;
        fs::rename(next, self.directory.join("ringway.yaml"))?;
        self.signal(Signal::SIGHUP)?;
        self.wait_for_notice("READY=1")
    }

    /// Has [`Gateway::finish`] pass over logged errors with that text in them.
    pub fn expect_error(&self, text: &str) {
        lock(&self.expected_errors).push(text.to_owned());
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let process = Pid::from_raw(i32::try_from(self.process)?);
        kill(process, signal).with_context(|| format!("sending {signal}"))
    }

    /// Waits until it ended by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_exit(&self, patience: Duration) -> Result<ExitStatus> {
        let status = within(patience, "the end of ringway", || {
            lock(&self.child).try_wait().ok().flatten()
        })?;
        *lock(&self.finished) = true;
        Ok(status)
    }

    /// Ends it in the middle of whatever it does.
    ///
    /// # Errors
    /// When it is gone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait_for_exit(PATIENCE)?;
        Ok(())
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// When it does not end with success.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGTERM)?;
        let status = self.wait_for_exit(PATIENCE)?;
        ensure!(status.success(), "ringway ended with {status}");
        Ok(())
    }

    /// Waits until it holds no more sockets than when it was ready: no connection lives.
    ///
    /// # Errors
    /// When descriptors were lost.
    pub fn wait_until_quiet(&self) -> Result<()> {
        let quiet = eventually("the gateway's sockets are closed", || {
            (leak::sockets(self.process).ok()? <= self.sockets_before).then_some(())
        });
        quiet.with_context(|| format!("descriptors: {:?}", leak::descriptors(self.process)))
    }

    /// Ends it in order: no socket is left, the drain is done, nothing was logged as an error.
    /// Does only the last when the test ended it already.
    ///
    /// # Errors
    /// Says what is not in order.
    pub fn finish(&self) -> Result<()> {
        if !*lock(&self.finished) {
            self.wait_until_quiet()?;
            self.signal(Signal::SIGTERM)?;
            let status = self.wait_for_exit(PATIENCE)?;
            ensure!(status.success(), "ringway ended with {status}");
        }
        for line in self.log()? {
            let level = line["level"].as_str().unwrap_or_default();
            let text = line.to_string();
            if lock(&self.expected_errors)
                .iter()
                .any(|expected| text.contains(expected))
            {
                continue;
            }
            ensure!(
                level != "ERROR" && level != "error",
                "an error in the log: {line}"
            );
        }
        Ok(())
    }

    /// Prints the last it had to say.
    pub fn show(&self) {
        for (title, lines) in [("log", self.log.now()), ("records", self.records.now())] {
            let from = lines.len().saturating_sub(20);
            for line in &lines[from..] {
                say(&format!("  ringway {title}: {line}"));
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        // Both fail only when it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
