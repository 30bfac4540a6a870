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
    kind_of, state,
};
use serde::Serialize;

use crate::{
    environment::Environment,
    files::{self, Found},
    written,
};

/// Checks the files; answers 1 when one of them is refused.
///
/// # Errors
/// When the answer cannot be written.
pub(crate) fn run(files: &[PathBuf], json: bool) -> anyhow::Result<ExitCode> {
    let mut found: Vec<Found> = Vec::new();
    for file in files {
        check(file, &mut found);
    }
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

fn check(file: &Path, found: &mut Vec<Found>) {
    // A state document may be named on the command line and by a boot file, too.
    if found.iter().any(|known| known.file == file) {
        return;
    }
    let text = match files::read(file) {
        Ok(text) => text,
        Err(error) => return found.push(files::unreadable(file, &error)),
    };
    match kind_of(&text) {
        FileKind::Boot => check_boot(file, &text, found),
        FileKind::State => {
            let problems = state::parse(&text).map_or_else(|found| found, |valid| valid.warnings);
            found.push(Found {
                file: file.to_owned(),
                problems,
            });
        }
    }
}

fn check_boot(file: &Path, text: &str, found: &mut Vec<Found>) {
    let (mut boot, mut problems) = match boot::parse(text, &Environment) {
        Ok(valid) => (Some(valid.value), valid.warnings),
        Err(problems) => (None, problems),
    };
    let mut state_found = None;
    if let Some(boot) = &mut boot {
        boot.begin_at(files::folder_of(file));
        for problem in files::locate(text, &written::examine(file, boot)).iter() {
            problems.push(problem.clone());
        }
        state_found = check_together(file, text, boot, &mut problems);
    }
    found.push(Found {
        file: file.to_owned(),
        problems,
    });
    if let Some(state_found) = state_found
        && !found.iter().any(|known| known.file == state_found.file)
    {
        found.push(state_found);
    }
}

/// Checks the state document that a boot file names, and whether it has the networks that the boot
/// file's listeners name.
fn check_together(
    boot_file: &Path,
    text: &str,
    boot: &Boot,
    problems: &mut Problems,
) -> Option<Found> {
    // Without it, only the store knows the networks.
    let file = files::state_path(boot_file, boot)?;
    // The file may be made later, or be there on another machine only.
    let state_text = match files::read(&file) {
        Ok(state_text) => state_text,
        Err(error) => {
            let message = format!(
                "{} cannot be read and is not checked: {error}",
                file.display()
            );
            let mut problem = Problem {
                pointer: "/state".to_owned(),
                ..Problem::whole(Severity::Warning, message)
            };
            boot::locate(text, &Environment, &mut problem);
            problems.push(problem);
            return None;
        }
    };
    let state_problems = match state::parse(&state_text) {
        Ok(valid) => {
            files::compare(text, boot, &valid.value)
                .iter()
                .for_each(|problem| problems.push(problem.clone()));
            let mut warnings = valid.warnings;
            for mut problem in files::find_unserved(boot, &valid.value).iter().cloned() {
                state::locate(&state_text, &mut problem);
                warnings.push(problem);
            }
            warnings
        }
        Err(state_problems) => state_problems,
    };
    Some(Found {
        file,
        problems: state_problems,
    })
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
