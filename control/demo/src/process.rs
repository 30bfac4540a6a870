//! The demo's other processes: this very program, started again for one part each.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
    },
    unistd::{Pid, getppid},
};

use super::error::DemoError;

/// The running program, also where its file is out of sight (proc_pid_exe(5)).
const PROGRAM: &str = "/proc/self/exe";
/// How much of the end of a part's log is told when the part fails.
const TAIL_BYTES: u64 = 2048;
/// Between two looks at something that is waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Variables that parts take over; the rest of the environment is not theirs.
const VARIABLES: [&str; 2] = ["RINGWAY_DRIVER", "RINGWAY_WORKERS"];

/// The signals that the demo takes by waiting for them: those that end it, and the end of a part.
pub(super) const AWAITED: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD];

/// A running part. It is killed when dropped, and by the kernel when the demo dies.
pub(super) struct Part {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Starts `ringway demo VERB`, with the number of this process and more arguments. `input` is
    /// its whole standard input; what it logs goes to the file `log`.
    ///
    /// It has a process group of its own, so that a Ctrl-C at the terminal reaches the demo alone,
    /// which then ends its parts in order.
    ///
    /// # Errors
    /// When there is no process to be had.
    pub(super) fn start(
        (name, verb): (&'static str, &str),
        arguments: &[&Path],
        input: &[u8],
        log: PathBuf,
    ) -> Result<Self, DemoError> {
        let start = || {
            let mut command = Command::new(PROGRAM);
            command
                .arg0("ringway")
                .args(["demo", verb, &std::process::id().to_string()])
                .args(arguments)
                .env_clear()
                .envs(
                    VARIABLES
                        .iter()
                        .filter_map(|name| Some((name, std::env::var_os(name)?))),
                )
                .process_group(0)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(File::create(&log)?);
            let mut child = command.spawn()?;
            // Dropped at the end of this, which is the end of the part's input.
            let stdin = child.stdin.take();
            Ok((child, stdin))
        };
        let failed = |source| DemoError::Start(name, source);
        let (child, stdin) = start().map_err(failed)?;
        let part = Self { name, child, log };
        if let Some(mut stdin) = stdin {
            // A part that has ended already says why in its log, which is told when it is missed.
            match stdin.write_all(input) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(failed(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(part)
    }

    /// The number of the process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// What it prints; once.
    pub(super) fn output(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// What it has logged so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn logged(&self) -> io::Result<String> {
        std::fs::read_to_string(&self.log)
    }

    /// Fails when the part has ended, which none does by itself.
    ///
    /// # Errors
    /// [`DemoError::Ended`] with the end of its log.
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(source) => Err(DemoError::Start(self.name, source)),
        }
    }

    fn ended(&self, status: ExitStatus) -> DemoError {
        DemoError::Ended {
            name: self.name,
            status,
            log: tail(&self.log).unwrap_or_default(),
        }
    }

    /// Asks it to end, and waits; one that takes longer than that is killed.
    pub(super) fn end(mut self, patience: Duration) {
        let pid = i32::try_from(self.child.id()).map(Pid::from_raw);
        if pid.map(|pid| kill(pid, Signal::SIGTERM)).is_err() {
            return;
        }
        let deadline = Instant::now() + patience;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(LOOK_INTERVAL);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Neither can fail for a child of this process that was not waited for; of one that was,
        // the number is not used again (`Child::kill`).
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until there is an answer. Fails when a part has ended meanwhile, or after a while.
///
/// # Errors
/// Those of `look`; [`DemoError::Ended`]; [`DemoError::Late`].
pub(super) fn eventually<T>(
    what: &'static str,
    patience: Duration,
    parts: &mut [&mut Part],
    mut look: impl FnMut() -> Result<Option<T>, DemoError>,
) -> Result<T, DemoError> {
    let deadline = Instant::now() + patience;
    loop {
        for part in &mut *parts {
            part.check()?;
        }
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(DemoError::Late { what, patience });
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Makes this process a part of the demo that started it: the kernel kills it when the demo dies
/// (PR_SET_PDEATHSIG(2const)), it may be asked to end, and `ps` shows what it is; 15 bytes of the
/// name count.
///
/// # Errors
/// When it was not started by a demo, or the demo is gone already.
pub(super) fn attach(demo: u32, name: &CStr) -> Result<(), DemoError> {
    let failed = |errno: Errno| DemoError::Attach(errno.into());
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    // It may have died before that was asked for.
    if u32::try_from(getppid().as_raw()) != Ok(demo) {
        return Err(DemoError::Orphan);
    }
    prctl::set_name(name).map_err(failed)?;
    // The demo waits for signals with these blocked, and a child inherits that.
    SigSet::from_iter(AWAITED).thread_unblock().map_err(failed)
}

fn tail(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
