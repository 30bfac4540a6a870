//! Processes that the league starts: ready when they listen, ended by their own id.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::measure;

mod interrupt;

pub(crate) use interrupt::end_all_when_interrupted;

/// Time to start listening; Envoy and Traefik take a second on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// Time to end after SIGTERM, before SIGKILL.
const END_TIMEOUT: Duration = Duration::from_secs(3);
/// Time between two looks at a process.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How much of a failed process's output an error shows.
const OUTPUT_SHOWN_BYTES: i64 = 1500;

/// A running process with its output in a file.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in `dir`, and waits until it listens on all of `ports`.
    ///
    /// # Errors
    /// When it cannot be started, ends at once, or does not listen in time; with the end of its
    /// output.
    pub(crate) fn start(name: &str, command: &Command, dir: &Path, ports: &[u16]) -> Result<Self> {
        let log = dir.join("output.log");
        let output = File::create(&log).with_context(|| format!("cannot create {log:?}"))?;
        let child = tied(command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {name}: {:?}", command.get_program()))?;
        let mut process = Self {
            name: name.to_owned(),
            child,
            log,
        };
        process.wait_until_ready(ports)?;
        Ok(process)
    }

    fn wait_until_ready(&mut self, ports: &[u16]) -> Result<()> {
        let start = Instant::now();
        loop {
            let listening = measure::listening_ports()?;
            if ports.iter().all(|port| listening.contains(port)) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once ({status}): {}", self.name, self.output());
            }
            if start.elapsed() > READY_TIMEOUT {
                bail!("{} does not listen: {}", self.name, self.output());
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Whether it has not ended by itself.
    ///
    /// # Errors
    /// When it has, with the end of its output.
    pub(crate) fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}): {}", self.name, self.output());
        }
        Ok(())
    }

    /// The end of what it wrote.
    fn output(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let length = i64::try_from(file.metadata()?.len()).unwrap_or(0);
            file.seek(SeekFrom::End(-length.min(OUTPUT_SHOWN_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_default()
    }

    /// Ends it and what it started, politely first.
    fn end(&mut self) {
        let family = measure::family(self.pid()).unwrap_or_default();
        let _ = kill(self.pid(), Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < END_TIMEOUT {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                break;
            }
            thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in family.into_iter().filter(|pid| *pid != self.pid()) {
            end_orphan(pid);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The same command, but the kernel kills its process when the thread that started it has ended, in
/// whatever way (`PR_SET_PDEATHSIG` in prctl(2), by setpriv(1)): a run that is broken off leaves
/// nothing behind. It holds over execve(2), so also through ip-netns(8). Streams have to be set
/// anew. Processes that it starts in turn are not tied; [`Process`] ends those when it is dropped, and
/// [`end_all_when_interrupted`] when the run is broken off.
pub(crate) fn tied(command: &Command) -> Command {
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL", "--"]);
    tied.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        tied.current_dir(dir);
    }
    tied
}

/// Ends a process whose parent is gone, and waits until it is. Its id was in the family's list a
/// moment ago, and ids are given out in turn, so it cannot be somebody else's yet.
fn end_orphan(pid: Pid) {
    let start = Instant::now();
    while kill(pid, Signal::SIGKILL) != Err(Errno::ESRCH) && start.elapsed() < END_TIMEOUT {
        if fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")) {
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A port of 127.0.0.1 that is free now. The peers cannot say which port they took, so they are
/// given one; the kernel does not hand the same one out again soon.
///
/// # Errors
/// When no port is left.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_that_ends_at_once_is_an_error_with_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let command = shell("echo wrong configuration >&2; exit 3");
        let error = Process::start("it", &command, dir.path(), &[1]).unwrap_err();
        assert!(error.to_string().contains("wrong configuration"), "{error}");
    }

    #[test]
    fn ending_a_process_ends_its_children_even_if_they_ignore_the_signal() {
        let dir = tempfile::tempdir().unwrap();
        let command = shell("sh -c 'trap \"\" TERM; while :; do sleep 1; done' & wait");
        let process = Process::start("it", &command, dir.path(), &[]).unwrap();
        let start = Instant::now();
        let family = loop {
            let family = measure::family(process.pid()).unwrap();
            if family.len() >= 3 {
                break family;
            }
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::sleep(LOOK_EVERY);
        };
        drop(process);
        for pid in &family[..2] {
            assert!(!Path::new(&format!("/proc/{pid}")).exists() || is_zombie(*pid));
        }
    }

    #[test]
    fn a_process_ends_with_the_thread_that_started_it() {
        let start = Instant::now();
        let started = thread::spawn(move || {
            let mut command = Command::new("sleep");
            let child = tied(command.arg("600")).spawn().unwrap();
            // setpriv ties the process before it becomes the command.
            let name = format!("/proc/{}/comm", child.id());
            while fs::read_to_string(&name).unwrap() != "sleep\n" {
                assert!(start.elapsed() < Duration::from_secs(20));
                thread::sleep(LOOK_EVERY);
            }
            child
        });
        let mut child = started.join().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < Duration::from_secs(20));
            thread::sleep(LOOK_EVERY);
        };
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }

    #[test]
    fn a_tied_command_keeps_its_folder_and_its_variables() {
        let mut command = shell("pwd; echo $MARK");
        command.current_dir("/").env("MARK", "kept");
        let output = tied(&command).output().unwrap();
        assert_eq!(output.stdout, b"/\nkept\n");
    }

    fn is_zombie(pid: Pid) -> bool {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    }
}
