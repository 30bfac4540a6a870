//! `ringway help`: the help of a command, or a page of the reference.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

use anyhow::{Result, bail};
use clap::Command;

use crate::cli::HelpArgs;

/// Prints what was asked for. `command` is the whole command line.
///
/// # Errors
/// When there is no such command or page, and when output cannot be written.
pub(crate) fn run(args: &HelpArgs, command: &Command) -> Result<ExitCode> {
    let text = text(args.topic.as_deref(), command)?;
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Who reads has seen enough: `ringway help boot | head`.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn text(topic: Option<&str>, command: &Command) -> Result<String> {
    // Names the commands in full in their usage.
    let mut command = command.clone();
    command.build();
    let Some(topic) = topic else {
        return Ok(command.render_long_help().to_string());
    };
    if let Some(page) = control_reference::page(topic) {
        return Ok(page.text());
    }
    match command.find_subcommand_mut(topic) {
        Some(verb) => Ok(verb.render_long_help().to_string()),
        None => {
            bail!("`{topic}` is neither a command nor a page; `ringway help help` lists the pages")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::{Arg, ArgAction, CommandFactory as _};

    use super::*;
    use crate::cli::Cli;

    fn help(topic: &str) -> String {
        text(Some(topic), &Cli::command()).unwrap()
    }

    #[test]
    fn pages_and_commands_are_printed() {
        for (topic, part) in [
            ("boot", "| `workers` |"),
            ("state", "| `routes[].host` |"),
            ("metrics", "| `ringway_ready` |"),
            ("apply", "Usage: ringway apply"),
            ("help", "  metrics "),
        ] {
            assert!(help(topic).contains(part), "{topic}: {}", help(topic));
        }
        let all = text(None, &Cli::command()).unwrap();
        assert!(
            all.contains("Usage: ringway") && all.contains("  apply "),
            "{all}"
        );
        assert!(text(Some("aply"), &Cli::command()).is_err());
    }

    #[test]
    fn the_reference_page_is_up_to_date() {
        let page = reference();
        // It is of the binary as it is released, with every feature.
        if cfg!(feature = "demo") {
            control_reference::compare("cli", &page).unwrap();
        }
    }

    /// Every command in Markdown, with its options; those that all have come once.
    fn reference() -> String {
        let mut command = Cli::command();
        command.build();
        let mut page = String::from("## Options of every command that asks a gateway\n\n");
        let client = command.find_subcommand("status").unwrap();
        page.push_str(&table(client, is_of_all));
        for verb in command.get_subcommands() {
            let name = verb.get_name();
            let about = verb.get_long_about().or(verb.get_about());
            let usage = verb.clone().render_usage().to_string();
            let usage = usage.trim_start_matches("Usage: ");
            let about = about.map(ToString::to_string).unwrap_or_default();
            write!(page, "\n## `{name}`\n\n{about}\n\n    {usage}\n").unwrap();
            let table = table(verb, |arg| !is_of_all(arg));
            if !table.is_empty() {
                write!(page, "\n{table}").unwrap();
            }
        }
        page
    }

    fn is_of_all(arg: &Arg) -> bool {
        arg.get_help_heading() == Some("The API")
    }

    fn table(command: &Command, is_wanted: impl Fn(&Arg) -> bool) -> String {
        let mut rows = String::new();
        let arguments = command.get_arguments().filter(|arg| {
            let is_help = matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpLong);
            !arg.is_hide_set() && !is_help && is_wanted(arg)
        });
        for arg in arguments {
            let default: Vec<_> = arg
                .get_default_values()
                .iter()
                .map(|value| format!("`{}`", value.to_string_lossy()))
                .collect();
            let variable = arg
                .get_env()
                .map(|name| format!("`{}`", name.to_string_lossy()));
            let help = arg.get_long_help().or(arg.get_help());
            let help = help.map(ToString::to_string).unwrap_or_default();
            writeln!(
                rows,
                "| `{}` | {} | {} | {}. |",
                arg.to_string().replace('|', "\\|"),
                if arg.get_action().takes_values() {
                    default.join(", ")
                } else {
                    String::new()
                },
                variable.unwrap_or_default(),
                help.trim_end_matches('.')
                    .replace('\n', " ")
                    .replace('|', "\\|"),
            )
            .unwrap();
        }
        if rows.is_empty() {
            return rows;
        }
        format!("| Argument | Default | Variable | Meaning |\n|---|---|---|---|\n{rows}")
    }
}
