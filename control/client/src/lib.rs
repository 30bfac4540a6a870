//! The client verbs of the `ringway` binary.
//!
//! ```text
//!   Verb ─► api: one request, one bounded answer ─► show: pure, answer into text ─► terminal
//!                                               └─► top: pure model and view, drawn each second
//! ```
//!
//! The API is spoken over loopback or a unix socket, with the types of `control_api::answer`. What
//! the gateway answers is not trusted with the terminal: control characters are taken out, and every
//! answer is bounded. A token comes from a file or the environment, never from the command line.
#![forbid(unsafe_code)]

mod api;
mod console;
mod documents;
mod error;
mod exit;
mod show;
mod since;
mod sse;
#[cfg(test)]
mod stage;
mod top;
mod verb;
mod verbs;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Command;

use self::{api::ApiError, console::Console, error::VerbError, exit::Exit};
pub use self::{
    documents::{completions, man_page, man_pages},
    verb::{
        ApplyArgs, AuditArgs, CertificatesArgs, Change, CompletionsArgs, ConfigArgs, DiffArgs,
        EventsArgs, Everybody, Form, Group, ListArgs, ManArgs, Owners, Reach, ReachAhead,
        RollbackArgs, StatusArgs, TopArgs, TrafficArgs, Verb, Watch,
    },
};

/// Does what a verb says, and answers the status to end with. `command` is the whole command line,
/// from which completions and manual pages are written.
pub fn run(verb: &Verb, command: &Command) -> ExitCode {
    let console = Console::new(json_wanted(verb));
    let exit = match perform(verb, command, &console) {
        Ok(exit) => exit,
        Err(error) => {
            report(&error, &console);
            error.exit()
        }
    };
    exit.into()
}

fn perform(verb: &Verb, command: &Command, console: &Console) -> Result<Exit, VerbError> {
    if let Verb::Completions(args) = verb {
        return print(&completions(command, args.shell), console);
    }
    if let Verb::Man(args) = verb {
        return manual(args, command, console);
    }
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(VerbError::Runtime)?
        .block_on(ask(verb, console))
}

fn manual(args: &ManArgs, command: &Command, console: &Console) -> Result<Exit, VerbError> {
    let Some(folder) = &args.folder else {
        let page = man_page(command).map_err(VerbError::Output)?;
        return print(&page, console);
    };
    man_pages(command, folder).map_err(|source| VerbError::Manual {
        path: folder.clone(),
        source,
    })?;
    Ok(Exit::Done)
}

/// The verbs that talk to a gateway.
async fn ask(verb: &Verb, console: &Console) -> Result<Exit, VerbError> {
    match verb {
        Verb::Apply(args) => verbs::apply(args, console).await,
        Verb::Diff(args) => verbs::diff(args, console).await,
        Verb::Config(args) => verbs::config(args, console).await,
        Verb::Status(args) => verbs::status(args, console).await,
        Verb::Certificates(args) => verbs::certificates(args, console).await,
        Verb::Traffic(args) => verbs::traffic(args, console).await,
        Verb::Events(args) => verbs::events(args, console).await,
        Verb::Generations(args) => verbs::generations(args, console).await,
        Verb::Rollback(args) => verbs::rollback(args, console).await,
        Verb::Audit(args) => verbs::audit(args, console).await,
        Verb::Top(args) => top::run(args).await,
        Verb::Completions(_) | Verb::Man(_) => Ok(Exit::Done),
    }
}

fn print(bytes: &[u8], console: &Console) -> Result<Exit, VerbError> {
    console.write_raw(bytes).map_err(VerbError::Output)?;
    Ok(Exit::Done)
}

fn json_wanted(verb: &Verb) -> bool {
    match verb {
        Verb::Apply(args) => args.form.json,
        Verb::Diff(args) => args.form.json,
        Verb::Config(args) => args.json,
        Verb::Status(args) => args.form.json,
        Verb::Certificates(args) => args.form.json,
        Verb::Traffic(args) => args.form.json,
        Verb::Events(args) => args.form.json,
        Verb::Generations(args) => args.form.json,
        Verb::Rollback(args) => args.form.json,
        Verb::Audit(args) => args.form.json,
        Verb::Top(_) | Verb::Completions(_) | Verb::Man(_) => false,
    }
}

/// Says what went wrong on standard error; with `--json`, a refusal goes to standard output as it
/// came.
fn report(error: &VerbError, console: &Console) {
    if error.exit() == Exit::Done {
        return;
    }
    if let VerbError::Api(ApiError::Refused(refusal)) = error
        && console.json
    {
        // The status says the same when nobody reads this.
        let _ = console.write_raw(&refusal.body);
    }
    let _ = io::stderr().lock().write_all(complaint(error).as_bytes());
}

/// An error with everything behind it, each problem on a line of its own.
fn complaint(error: &VerbError) -> String {
    let text = format!("ringway: {}", error::chain(error));
    let mut lines = format!("{}\n", show::printable(&text));
    if let VerbError::Api(ApiError::Refused(refusal)) = error {
        for problem in &refusal.problems {
            lines.push_str(&show::problem(problem));
            lines.push('\n');
        }
    }
    lines
}
