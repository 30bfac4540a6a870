//! Boot files and state documents on disk.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use control_api::{
    Problem, Problems, STATE_BYTES_MAX, Severity, Valid,
    boot::{self, Boot},
    state::{self, Desired},
};
use control_plan::{Ids, publish};
use engine_core::ids::Generation;

use crate::environment::Environment;

/// A file, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: PathBuf,
    pub(crate) problems: Problems,
}

/// A boot file and its state document, both valid and fit for each other.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) boot: Boot,
    pub(crate) desired: Desired,
    /// Warnings only.
    pub(crate) found: Vec<Found>,
}

/// Reads a text file of a bounded size.
pub(crate) fn read(file: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    // One byte more than is allowed: the parser then says that it is too long.
    let max = u64::try_from(STATE_BYTES_MAX).unwrap_or(u64::MAX);
    File::open(file)?
        .take(max.saturating_add(1))
        .read_to_end(&mut bytes)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8 text"))
}

/// The state document that a boot file names, from the boot file's folder.
pub(crate) fn state_path(boot_file: &Path, boot: &Boot) -> Option<PathBuf> {
    let folder = boot_file.parent().unwrap_or(Path::new(""));
    boot.state.as_ref().map(|state| folder.join(state))
}

/// Reads everything that a gateway is started with.
///
/// # Errors
/// All problems of both files.
pub(crate) fn load(boot_file: &Path) -> Result<Files, Vec<Found>> {
    let text = read(boot_file).map_err(|error| vec![unreadable(boot_file, &error)])?;
    let found_in = |file: &Path, problems| Found {
        file: file.to_owned(),
        problems,
    };
    let boot =
        boot::parse(&text, &Environment).map_err(|problems| vec![found_in(boot_file, problems)])?;
    let mut found = vec![found_in(boot_file, boot.warnings)];
    let boot = boot.value;
    let desired = match state_path(boot_file, &boot) {
        None => Desired::default(),
        Some(file) => match read(&file).map(|text| state::parse(&text)) {
            Ok(Ok(Valid {
                value, warnings, ..
            })) => {
                found.push(found_in(&file, warnings));
                value
            }
            Ok(Err(problems)) => {
                found.push(found_in(&file, problems));
                return Err(found);
            }
            Err(error) => {
                found.push(unreadable(&file, &error));
                return Err(found);
            }
        },
    };
    let contradictions = compare(&text, &boot, &desired);
    if contradictions.refuse() {
        found.push(found_in(boot_file, contradictions));
        return Err(found);
    }
    Ok(Files {
        boot,
        desired,
        found,
    })
}

/// What a boot file's listeners need and a state document does not have. `text` is the boot file.
pub(crate) fn compare(text: &str, boot: &Boot, desired: &Desired) -> Problems {
    let mut ids = Ids::default();
    let mut located = Problems::default();
    if let Err(found) = publish(desired, &boot.listeners, &mut ids, Generation(0), None) {
        for problem in found.iter() {
            let mut problem = problem.clone();
            boot::locate(text, &Environment, &mut problem);
            located.push(problem);
        }
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
