//! A load generator as the league sees it: a process that tells events, one a line.

use std::{
    env,
    io::{BufRead, BufReader, Lines, Read, Write},
    net::SocketAddr,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;

use crate::{
    generate::event::{Count, Event, Measured},
    process::tied,
};

/// A running generator. It is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Generator {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    events: Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
}

impl Generator {
    /// Starts `bench generate` with `arguments`, in the named network namespace if there is one
    /// (ip-netns(8) replaces itself with the program, so the process is ours all the same).
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn start(arguments: &[&str], namespace: Option<&str>) -> Result<Self> {
        let program = env::current_exe().context("cannot find the bench's own program")?;
        let mut command = match namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        command.arg("generate").args(arguments).arg("--json");
        command.env_remove("RUST_BACKTRACE");
        let mut command = tied(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        let name = arguments.first().copied().unwrap_or_default().to_owned();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the generator {name}"))?;
        let output = child.stdout.take().context("the generator has no output")?;
        let errors = child
            .stderr
            .take()
            .context("the generator has no error output")?;
        Ok(Self {
            name,
            input: child.stdin.take(),
            child,
            events: BufReader::new(output).lines(),
            errors,
        })
    }

    /// Starts a server and waits until it listens; gives where.
    ///
    /// # Errors
    /// When it does not listen.
    pub(crate) fn serve(arguments: &[&str], namespace: Option<&str>) -> Result<(Self, SocketAddr)> {
        let arguments = [arguments, &["--attached"]].concat();
        let mut server = Self::start(&arguments, namespace)?;
        let event = server.next_event()?;
        let Event::Ready {
            address: Some(address),
        } = event
        else {
            bail!("{} said {event:?} instead of where it listens", server.name);
        };
        Ok((server, address))
    }

    fn next_event(&mut self) -> Result<Event> {
        let Some(line) = self.events.next() else {
            // Its output has ended, so it has, and so do its error messages.
            let mut errors = String::new();
            self.errors.read_to_string(&mut errors)?;
            bail!("{} ended too early: {}", self.name, errors.trim());
        };
        let line = line?;
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.name))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits for `expected`, over any other news.
    ///
    /// # Errors
    /// When the process ends before.
    pub(crate) fn wait_for(&mut self, expected: &Event) -> Result<()> {
        while self.next_event()? != *expected {}
        Ok(())
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// When the process ends without one.
    pub(crate) fn result(&mut self) -> Result<Measured> {
        loop {
            if let Event::Result(result) = self.next_event()? {
                return Ok(result);
            }
        }
    }

    /// Asks a server for its counters.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn count(&mut self) -> Result<Count> {
        let input = self.input.as_mut().context("the server is not attached")?;
        input.write_all(b"\n")?;
        input.flush()?;
        loop {
            if let Event::Count(count) = self.next_event()? {
                return Ok(count);
            }
        }
    }
}

impl Drop for Generator {
    /// Servers and holders end when their input does; whatever is left is killed.
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
