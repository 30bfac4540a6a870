//! Boot files and state documents on disk.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
};

use control_api::{
    Problem, Problems, STATE_BYTES_MAX, Severity, Valid,
    boot::{self, Boot},
    state::{self, Desired},
};
use control_http::Tokens;
use control_plan::{Clash, Ids, clashes, publish};
use engine_core::ids::Generation;

use crate::environment::Environment;

/// A file, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: PathBuf,
    pub(crate) problems: Problems,
}

/// A valid boot file.
#[derive(Debug)]
pub(crate) struct BootFile {
    /// As it was read, for the lines of problems that are found later.
    pub(crate) text: String,
    pub(crate) boot: Boot,
    pub(crate) tokens: Tokens,
    /// Warnings only.
    pub(crate) found: Found,
}

/// Longest boot file or state document.
const BYTES_MAX: u64 = STATE_BYTES_MAX as u64;

/// Reads a text file of a bounded size, within a time.
pub(crate) fn read(file: &Path) -> io::Result<String> {
    let mut text = control_files::read_text(file, BYTES_MAX)?;
    Ok(std::mem::take(&mut *text))
}

/// As [`read`], for what a person names on the command line, which may be a pipe: `<(command)`.
pub(crate) fn read_named(file: &Path) -> io::Result<String> {
    if !fs::metadata(file)?.file_type().is_fifo() {
        return read(file);
    }
    let mut text = String::new();
    // One byte more than is allowed: the parser then says that it is too long.
    File::open(file)?
        .take(BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Where the paths of a boot file begin.
pub(crate) fn folder_of(boot_file: &Path) -> &Path {
    boot_file.parent().unwrap_or(Path::new(""))
}

/// The state document that a boot file names, from the boot file's folder.
pub(crate) fn state_path(boot_file: &Path, boot: &Boot) -> Option<PathBuf> {
    let folder = folder_of(boot_file);
    boot.state.as_ref().map(|state| folder.join(state))
}

/// Reads a boot file, and the files of its tokens.
///
/// # Errors
/// All problems.
pub(crate) fn load_boot(file: &Path) -> Result<BootFile, Found> {
    let found_in = |problems| Found {
        file: file.to_owned(),
        problems,
    };
    let text = read(file).map_err(|error| unreadable(file, &error))?;
    let Valid {
        value: mut boot,
        warnings,
        ..
    } = boot::parse(&text, &Environment).map_err(found_in)?;
    boot.begin_at(folder_of(file));
    let tokens = crate::tokens::read(file, &boot.api).map_err(found_in)?;
    Ok(BootFile {
        text,
        boot,
        tokens,
        found: found_in(warnings),
    })
}

/// Reads the state document that a boot file names for an empty store; without one, nothing.
///
/// # Errors
/// All problems.
pub(crate) fn load_seed(boot_file: &Path, boot: &Boot) -> Result<(Option<Desired>, Found), Found> {
    let Some(file) = state_path(boot_file, boot) else {
        let (file, problems) = (boot_file.to_owned(), Problems::default());
        return Ok((None, Found { file, problems }));
    };
    let text = read(&file).map_err(|error| unreadable(&file, &error))?;
    match state::parse(&text) {
        Ok(Valid {
            value, warnings, ..
        }) => {
            let problems = warnings;
            Ok((Some(value), Found { file, problems }))
        }
        Err(problems) => Err(Found { file, problems }),
    }
}

/// What a boot file's listeners need and a state document does not have, or has itself. `text` is the boot file.
pub(crate) fn compare(text: &str, boot: &Boot, desired: &Desired) -> Problems {
    let mut ids = Ids::default();
    match publish(desired, &[], &boot.listeners, &mut ids, Generation(0), None) {
        Ok(_) => {
            let mut found = Problems::default();
            let clashes = clashes(desired, &boot.listeners);
            let clashes = clashes.iter().map(Clash::of_boot_file);
            clashes.for_each(|problem| found.push(problem));
            locate(text, &found)
        }
        Err(found) => locate(text, &found),
    }
}

/// Problems of a boot file that were found later, with their lines.
pub(crate) fn locate(text: &str, found: &Problems) -> Problems {
    let mut located = Problems::default();
    for problem in found.iter() {
        let mut problem = problem.clone();
        boot::locate(text, &Environment, &mut problem);
        located.push(problem);
    }
    located
}

pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Found {
    let mut problems = Problems::default();
    problems.push(Problem::whole(
        Severity::Error,
        format!("the file cannot be read: {error}"),
    ));
    Found {
        file: file.to_owned(),
        problems,
    }
}
