//! Completions and manual pages, written from the command line itself.

use std::{io, path::Path};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::STATUSES;

/// The completions of `command` for a shell.
pub fn completions(command: &Command, shell: Shell) -> Vec<u8> {
    let mut command = command.clone();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// The manual page of `command` itself, in roff (man(7)).
///
/// # Errors
/// None in memory; the type is the writer's.
pub fn man_page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    Ok(page)
}

/// Writes a manual page for `command` and for each of its verbs into an existing folder, as
/// `ringway.1`, `ringway-apply.1` and so on.
///
/// # Errors
/// The system's answer.
pub fn man_pages(command: &Command, folder: &Path) -> io::Result<()> {
    let command = command.clone().after_help(STATUSES);
    clap_mangen::generate_to(command, folder)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use clap::{CommandFactory as _, Parser};

    use super::*;
    use crate::Verb;

    #[derive(Parser)]
    #[command(name = "ringway", version)]
    struct Cli {
        #[command(subcommand)]
        #[allow(dead_code, reason = "only its command line is looked at")]
        verb: Verb,
    }

    fn verbs() -> BTreeSet<String> {
        let command = Cli::command();
        let names = command.get_subcommands().map(Command::get_name);
        names.map(str::to_owned).collect()
    }

    #[test]
    fn the_command_line_is_in_order() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_of_every_shell_know_every_verb() {
        for shell in clap::ValueEnum::value_variants() {
            let script = String::from_utf8(completions(&Cli::command(), *shell)).unwrap();
            for verb in verbs() {
                assert!(script.contains(&verb), "{shell}: {verb}");
            }
        }
    }

    #[test]
    fn every_verb_has_a_manual_page_with_its_exit_statuses() {
        let folder = tempfile::tempdir().unwrap();
        man_pages(&Cli::command(), folder.path()).unwrap();
        let page = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page("ringway.1").contains(".SH SYNOPSIS"));
        for verb in verbs() {
            let page = page(&format!("ringway-{verb}.1"));
            assert!(page.contains(".TH"), "{verb}");
        }
        assert!(page("ringway-diff.1").contains("something would change"));
    }
}
