//! Records by a program of the operator's: the one process that is ever spawned.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{io::AsyncReadExt as _, process::Command, time::timeout};

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
        let mut child = Command::new(&self.program)
            .args([verb, record, text].map(OsStr::new))
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
            .kill_on_drop(true)
            .spawn()
            .map_err(run)?;
        let stderr = child.stderr.take();
        let ended = async {
            let mut complaint = Vec::new();
            if let Some(mut stderr) = stderr {
                let mut start = (&mut stderr).take(STDERR_BYTES_MAX);
                start.read_to_end(&mut complaint).await?;
                // A program that goes on complaining is not to wait for a reader.
                tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
            }
            Ok((child.wait().await?, complaint))
        };
        let (status, complaint) = match timeout(self.timeout, ended).await {
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
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

    use tempfile::TempDir;

    use super::*;

    fn run(script: &str, timeout: Duration) -> (Result<(), HookError>, TempDir) {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("hook");
        let script = script.replace("FOLDER", &folder.path().display().to_string());
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
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
}
