//! Records by a program of the operator's: the one process that is ever spawned.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    runtime::Handle,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::update::Change;
use crate::reason;

/// What of the program's complaints is kept.
const STDERR_BYTES_MAX: u64 = 512;

/// Why the program did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HookError {
    /// It cannot be run.
    #[error("running {}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("{} ended with {status}: {complaint}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The beginning of what it wrote to its standard error.
        complaint: String,
    },
    /// It ran for too long, and was killed.
    #[error("{} did not end within {} s and was killed", program.display(), timeout.as_secs())]
    Timeout {
        /// The program.
        program: PathBuf,
        /// How long that was.
        timeout: Duration,
    },
}

/// The program, and how long it may run.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    program: PathBuf,
    timeout: Duration,
}

impl Hook {
    /// A program whose name begins at `folder`.
    pub(super) fn new(program: &Path, folder: &Path, timeout: Duration) -> Self {
        Self {
            program: folder.join(program),
            timeout,
        }
    }

    /// Has it add a record, or remove it. Its environment is empty, but for a plain `PATH`; it is
    /// in a process group of its own, so that a signal to the gateway's group is not its own.
    pub(super) async fn change(
        &self,
        change: Change,
        record: &str,
        text: &str,
    ) -> Result<(), HookError> {
        let run = |source| HookError::Run {
            program: self.program.clone(),
            source,
        };
        let verb = match change {
            Change::Add => "add",
            Change::Remove => "remove",
        };
        let deadline = Instant::now() + self.timeout;
        let mut child = self.spawn([verb, record, text]).await.map_err(run)?;
        let ended = timeout_at(deadline, async move {
            let mut complaint = Vec::new();
            if let Some(mut stderr) = child.stderr.take() {
                let mut start = (&mut stderr).take(STDERR_BYTES_MAX);
                start.read_to_end(&mut complaint).await?;
                // A program that goes on complaining is not to wait for a reader.
                tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
            }
            Ok((child.wait().await?, complaint))
        });
        let (status, complaint) = match ended.await {
            Ok(ended) => ended.map_err(run)?,
            // The child is dropped, and killed by that.
            Err(_) => {
                return Err(HookError::Timeout {
                    program: self.program.clone(),
                    timeout: self.timeout,
                });
            }
        };
        if status.success() {
            return Ok(());
        }
        Err(HookError::Failed {
            program: self.program.clone(),
            status,
            complaint: reason::plain(String::from_utf8_lossy(&complaint).trim()),
        })
    }

    /// Starts the program on a thread of its own: whoever starts one waits until the kernel has opened
    /// its file, which may be on a file system that hangs. What starts after its time is killed.
    async fn spawn(&self, arguments: [&str; 3]) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env_clear()
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let (program, timeout) = (self.program.clone(), self.timeout);
        let runtime = Handle::current();
        let spawn = move || {
            let _inside = runtime.enter();
            command.spawn()
        };
        let whose = control_files::Whose::Gateway;
        let spawned =
            spawn_blocking(move || control_files::within(whose, timeout, &program, spawn));
        spawned.await.map_err(io::Error::other)??
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Read as _,
        os::unix::fs::PermissionsExt as _,
        process::{Child, Stdio},
        time::Instant,
    };

    use tempfile::TempDir;

    use super::*;

    fn program(script: &str) -> TempDir {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("hook");
        let script = script.replace("FOLDER", &folder.path().display().to_string());
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        folder
    }

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    }

    fn run(script: &str, timeout: Duration) -> (Result<(), HookError>, TempDir) {
        let (folder, runtime) = (program(script), runtime());
        let hook = Hook::new(Path::new("hook"), folder.path(), timeout);
        let done = runtime.block_on(hook.change(Change::Add, "_acme-challenge.a.example", "text"));
        (done, folder)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_program_gets_the_record_and_nothing_of_the_environment() {
        let (done, folder) = run("echo \"$@\" > FOLDER/args; env > FOLDER/env", LONG);
        done.unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("args"), "add _acme-challenge.a.example text\n");
        // What a shell sets by itself, and the path.
        for line in read("env").lines() {
            let (name, _) = line.split_once('=').unwrap();
            assert!(
                ["PATH", "PWD", "SHLVL", "_", "OLDPWD"].contains(&name),
                "{line}"
            );
        }
    }

    #[test]
    fn a_failure_has_what_the_program_complained_of() {
        let (done, _folder) = run("echo no such zone >&2; exit 3", LONG);
        let error = done.unwrap_err().to_string();
        assert!(error.contains("3: no such zone"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let begun = Instant::now();
        let (done, _folder) = run("exec sleep 600", Duration::from_millis(200));
        assert!(matches!(done, Err(HookError::Timeout { .. })), "{done:?}");
        assert!(begun.elapsed() < LONG);
    }

    /// Holds a lease of a file (fcntl(2), `F_SETLEASE`): whoever opens it waits until that is given
    /// back, as on a file system that hangs.
    struct Lease(Child);

    impl Lease {
        fn of(file: &Path) -> Self {
            let hold = "import fcntl, os, signal, sys\n\
                signal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                file = os.open(sys.argv[1], os.O_RDONLY)\n\
                fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                os.write(1, b'+')\n\
                signal.pause()\n";
            let mut holder = std::process::Command::new("/usr/bin/python3")
                .args(["-c", hold])
                .arg(file)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut held = [0];
            let said = holder.stdout.as_mut().unwrap().read_exact(&mut held);
            said.expect("the lease is refused");
            Self(holder)
        }
    }

    impl Drop for Lease {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    #[test]
    fn a_program_on_a_file_system_that_hangs_holds_up_nobody() {
        let folder = program("touch FOLDER/ran; exec sleep 600");
        let short = Duration::from_millis(500);
        let hook = Hook::new(Path::new("hook"), folder.path(), short);
        let lease = Lease::of(&folder.path().join("hook"));
        let runtime = runtime();
        let add = || hook.change(Change::Add, "_acme-challenge.a.example", "text");
        let begun = Instant::now();
        let done = runtime.block_on(async {
            let others = async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                begun.elapsed()
            };
            let (done, others) = tokio::join!(add(), others);
            // Before the lease is broken by force (proc_sys_fs(5), lease-break-time: 45 s).
            assert!(others < Duration::from_secs(20), "{others:?}");
            done
        });
        assert!(begun.elapsed() < Duration::from_secs(20));
        let error = done.unwrap_err();
        assert!(
            matches!(&error, HookError::Run { source, .. } if source.kind() == io::ErrorKind::TimedOut),
            "{error}"
        );
        drop(lease);
        // What hung has started by then, and was killed: the path is free again.
        let deadline = Instant::now() + LONG;
        while !matches!(runtime.block_on(add()), Err(HookError::Timeout { .. }))
            || !folder.path().join("ran").exists()
        {
            assert!(Instant::now() < deadline, "it does not run any more");
        }
    }
}
