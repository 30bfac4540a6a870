//! `ringway check`: validates files and prints every problem at once.
//!
//! One line for each problem, `FILE:LINE: pointer: message`; the line is left out where there is
//! none, and a problem that came from the environment has the variable's name in the file's place.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use control_api::{
    FileKind, Problem, Problems, Severity,
    boot::{self, Boot},
    kind_of,
    state::{self, Desired},
};
use control_plan::{doubts, misfits, own_misfits};
use engine_core::hostname::HostPattern;
use serde::Serialize;

use crate::{
    environment::Environment,
    files::{self, Found},
    named::{self, Examined},
    written,
};

/// One file, as far as it could be read.
#[derive(Debug)]
struct Read {
    file: PathBuf,
    text: String,
    content: Content,
    problems: Problems,
}

/// What a file is.
#[derive(Debug)]
enum Content {
    Boot(Box<Boot>),
    State(Box<Desired>),
    /// It cannot be read, or has errors by itself.
    Nothing,
}

/// Checks the files; answers 1 when one of them is refused.
///
/// # Errors
/// When the answer cannot be written.
pub(crate) fn run(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let mut read: Vec<Read> = Vec::new();
    for file in files {
        take(file, &mut read);
    }
    check_together(&mut read);
    let found: Vec<Found> = read
        .into_iter()
        .map(|Read { file, problems, .. }| Found { file, problems })
        .collect();
    let refused = found.iter().any(|found| found.problems.refuse());
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = if json {
        write_json(&found, &mut out)
    } else {
        write_lines(&found, &mut out)
    };
    match written.and_then(|()| out.flush()) {
        // Whoever read the answer has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.context("writing what was found")?,
    }
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Reads a file, and the document that it names if it is a boot file.
fn take(file: &Path, read: &mut Vec<Read>) {
    // A state document may be named on the command line and by a boot file, too.
    if read.iter().any(|known| known.file == file) {
        return;
    }
    let text = match files::read_named(file) {
        Ok(text) => text,
        Err(error) => {
            let Found { file, problems } = files::unreadable(file, &error);
            let (text, content) = (String::new(), Content::Nothing);
            return read.push(Read {
                file,
                text,
                content,
                problems,
            });
        }
    };
    match kind_of(&text) {
        FileKind::Boot => take_boot(file, text, read),
        FileKind::State => {
            let (content, problems) = match state::parse(&text) {
                Ok(valid) => (Content::State(Box::new(valid.value)), valid.warnings),
                Err(problems) => (Content::Nothing, problems),
            };
            read.push(Read {
                file: file.to_owned(),
                text,
                content,
                problems,
            });
        }
    }
}

fn take_boot(file: &Path, text: String, read: &mut Vec<Read>) {
    let (mut boot, mut problems) = match boot::parse(&text, &Environment) {
        Ok(valid) => (Some(valid.value), valid.warnings),
        Err(problems) => (None, problems),
    };
    let mut named = None;
    if let Some(boot) = &mut boot {
        boot.begin_at(files::folder_of(file));
        push_all(
            &mut problems,
            &files::locate(&text, &written::examine(file, boot)),
        );
        // Without it, only the store knows the networks.
        named = files::state_path(file, boot);
        if let Some(state) = &named
            && let Err(error) = files::read(state)
        {
            // The file may be made later, or be there on another machine only.
            problems.push(unread(&text, state, &error));
            named = None;
        }
    }
    let content = boot.map_or(Content::Nothing, |boot| Content::Boot(Box::new(boot)));
    read.push(Read {
        file: file.to_owned(),
        text,
        content,
        problems,
    });
    if let Some(named) = named {
        take(&named, read);
    }
}

fn unread(text: &str, state: &Path, error: &io::Error) -> Problem {
    let message = format!(
        "{} cannot be read and is not checked: {error}",
        state.display()
    );
    let mut problem = Problem {
        pointer: "/state".to_owned(),
        ..Problem::whole(Severity::Warning, message)
    };
    boot::locate(text, &Environment, &mut problem);
    problem
}

/// Checks each boot file with each state document, and opens the files that they name.
fn check_together(read: &mut [Read]) {
    let (mut boots, mut states): (Vec<&mut Read>, Vec<&mut Read>) = read
        .iter_mut()
        .partition(|read| matches!(read.content, Content::Boot(_)));
    for state in &mut states {
        let Content::State(desired) = &state.content else {
            continue;
        };
        let missing = match boots.is_empty() {
            true => Severity::Warning,
            false => Severity::Error,
        };
        let examined = named::in_state(desired, missing);
        push_all(
            &mut state.problems,
            &in_state(&state.text, &examined.problems),
        );
        let doubts = in_state(&state.text, &doubts(desired, None));
        push_all(&mut state.problems, &doubts);
    }
    for read in &mut boots {
        let Content::Boot(boot) = &read.content else {
            continue;
        };
        let examined = named::in_boot(&read.file, boot);
        let mut problems = examined.problems.clone();
        push_all(&mut problems, &own_misfits(boot));
        push_all(&mut read.problems, &files::locate(&read.text, &problems));
        let is_covered = |host: Option<&HostPattern>| covers(boot, &examined, host);
        for state in &mut states {
            let Content::State(desired) = &state.content else {
                continue;
            };
            push_all(
                &mut read.problems,
                &files::compare(&read.text, boot, desired),
            );
            let misfits = misfits(desired.networks.values(), boot, is_covered);
            push_all(&mut state.problems, &in_state(&state.text, &misfits));
        }
    }
}

/// Whether a boot file has a certificate for a host, or obtains one.
fn covers(boot: &Boot, examined: &Examined, host: Option<&HostPattern>) -> bool {
    let mut own = boot.acme.names.iter().flatten();
    boot.tls.default.is_some()
        || boot.acme.on_demand.ask.is_some()
        || examined.is_covered(host)
        || own.any(|own| host.is_none_or(|host| control_plan::covers(&own.name.0, host)))
}

/// Problems of a state document that were found later, with their lines.
fn in_state(text: &str, found: &Problems) -> Problems {
    let mut located = Problems::default();
    for mut problem in found.iter().cloned() {
        state::locate(text, &mut problem);
        located.push(problem);
    }
    located
}

/// Adds those that are not known yet: two documents may lack the same.
fn push_all(problems: &mut Problems, more: &Problems) {
    for problem in more.iter() {
        if !problems.iter().any(|known| known == problem) {
            problems.push(problem.clone());
        }
    }
}

/// Writes every problem as a line of its own.
///
/// # Errors
/// The writer's.
pub(crate) fn write_lines(found: &[Found], out: &mut impl io::Write) -> io::Result<()> {
    for Found { file, problems } in found {
        let file = file.display();
        for problem in problems.iter() {
            match (&problem.variable, problem.line) {
                (Some(variable), _) => writeln!(out, "{variable}: {problem}")?,
                (None, Some(line)) => writeln!(out, "{file}:{line}: {problem}")?,
                (None, None) => writeln!(out, "{file}: {problem}")?,
            }
        }
        if problems.unlisted() > 0 {
            writeln!(out, "{file}: /: and {} more problems", problems.unlisted())?;
        }
    }
    Ok(())
}

/// The answer of `--json`.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    valid: bool,
    problems: Vec<Line<'a>>,
    /// Problems beyond those listed.
    unlisted: usize,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    file: String,
    #[serde(flatten)]
    problem: &'a Problem,
}

fn write_json(found: &[Found], out: &mut impl io::Write) -> io::Result<()> {
    let lines = found.iter().flat_map(|Found { file, problems }| {
        let file = file.display().to_string();
        problems.iter().map(move |problem| Line {
            file: file.clone(),
            problem,
        })
    });
    let answer = Answer {
        valid: !found.iter().any(|found| found.problems.refuse()),
        problems: lines.collect(),
        unlisted: found.iter().map(|found| found.problems.unlisted()).sum(),
    };
    serde_json::to_writer_pretty(&mut *out, &answer)?;
    writeln!(out)
}
