//! Programs that are not ours, run to their end: `wg`, `ip`, `nft`, `ping`, `curl`.

use std::{
    ffi::OsStr,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};
use engine_sys::netns::Netns;

/// A program that is about to run.
#[derive(Debug)]
pub struct Tool {
    command: Command,
    what: String,
}

impl Tool {
    /// This program with these arguments, separated by spaces.
    pub fn new(program: impl AsRef<OsStr>, arguments: &str) -> Self {
        let program = program.as_ref();
        let mut command = Command::new(program);
        command.args(arguments.split_whitespace());
        Self {
            what: format!("{} {arguments}", program.display()),
            command,
        }
    }

    /// With one more argument, whatever is in it.
    #[must_use]
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Runs it in the lab's own namespace; answers how it ended and what it said.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(self, input: &str) -> Result<Output> {
        let Self { mut command, what } = self;
        complete(&mut command, input).with_context(|| format!("{what}: is it installed?"))
    }

    /// Runs it in the lab's own namespace, and answers what it printed.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn run(self) -> Result<String> {
        self.run_on("")
    }

    /// [`Tool::run`] with this as its standard input.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn run_on(self, input: &str) -> Result<String> {
        let what = self.what.clone();
        printed(&what, self.output(input)?)
    }

    /// Runs it in another namespace, and answers what it printed.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn run_in(self, netns: &Netns) -> Result<String> {
        self.run_in_on(netns, "")
    }

    /// [`Tool::run_in`] with this as its standard input.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn run_in_on(mut self, netns: &Netns, input: &str) -> Result<String> {
        let what = self.what;
        let output = netns.run(|| complete(&mut self.command, input));
        printed(
            &what,
            output.with_context(|| format!("{what}: is it installed?"))?,
        )
    }
}

fn complete(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read its input may end before.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}

fn printed(what: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{what}: {}: {}", output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{what}: not UTF-8"))
}
