//! `apply`, `diff` and `rollback`.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use control_api::{STATE_BYTES_MAX, answer::Applied};
use hyper::{body::Bytes, header};

use super::{compare::as_answered, reach};
use crate::{
    api::{Answer, Call, Query},
    console::Console,
    error::VerbError,
    exit::Exit,
    show,
    verb::{ApplyArgs, Change, DiffArgs, RollbackArgs},
};

/// Makes a document the desired state.
pub(crate) async fn apply(args: &ApplyArgs, console: &Console) -> Result<Exit, VerbError> {
    let call = ask("/api/v1/apply", &args.change, document(&args.file)?);
    let answer = reach(&args.reach)?.call(call).await?;
    show_applied(&answer, console).map(|applied| outcome(&applied))
}

/// Says what applying a document would do: to the desired state, and to the kernel.
pub(crate) async fn diff(args: &DiffArgs, console: &Console) -> Result<Exit, VerbError> {
    let dry = Change {
        owners: args.owners.clone(),
        cascade: args.cascade,
        dry_run: true,
        wait: false,
        if_match: None,
    };
    let document = document(&args.file)?;
    let api = reach(&args.reach)?;
    let call = ask("/api/v1/apply", &dry, document.clone());
    let answer = api.call(call).await?;
    if !console.json
        && let Some(after) = as_answered(&document)
    {
        let config = Query::default().of(&args.owners).after("/api/v1/config");
        let before = api.call(Call::get(config)).await?.read()?;
        let lines = show::document_changes(&before, &after, console.paint);
        console.write(&lines).map_err(VerbError::Output)?;
    }
    let applied = show_applied(&answer, console)?;
    Ok(match applied.changed || !applied.steps.is_empty() {
        true => Exit::Different,
        false => Exit::Done,
    })
}

/// Makes an earlier generation the desired state.
pub(crate) async fn rollback(args: &RollbackArgs, console: &Console) -> Result<Exit, VerbError> {
    let path = format!("/api/v1/rollback/{}", args.generation);
    let call = ask(&path, &args.change, Bytes::new());
    let answer = reach(&args.reach)?.call(call).await?;
    show_applied(&answer, console).map(|applied| outcome(&applied))
}

/// What is desired now may still not be so.
fn outcome(applied: &Applied) -> Exit {
    match applied.degraded.is_empty() {
        true => Exit::Done,
        false => Exit::Different,
    }
}

fn ask(path: &str, change: &Change, body: Bytes) -> Call {
    let flag = |wanted: bool| wanted.then_some("true");
    let target = Query::default()
        .of(&change.owners)
        .with_some("cascade", flag(change.cascade))
        .with_some("dry_run", flag(change.dry_run))
        .with_some("wait", flag(change.wait))
        .after(path);
    let call = Call::post(target, body);
    match change.if_match {
        Some(generation) => call.header(header::IF_MATCH, generation.to_string()),
        None => call,
    }
}

fn show_applied(answer: &Answer, console: &Console) -> Result<Applied, VerbError> {
    let applied: Applied = answer.read()?;
    let written = match console.json {
        true => console.write_raw(&answer.body),
        false => console.write(&show::applied(&applied, console.paint)),
    };
    written.map_err(VerbError::Output)?;
    Ok(applied)
}

/// The document's text, of which no more is read than the API takes.
fn document(path: &Path) -> Result<Bytes, VerbError> {
    let failed = |source| VerbError::Document {
        path: path.to_owned(),
        source,
    };
    let text = match path.as_os_str() == "-" {
        true => bounded(io::stdin().lock()),
        false => fs::File::open(path).and_then(bounded),
    };
    let text = text.map_err(failed)?;
    if text.len() > STATE_BYTES_MAX {
        return Err(VerbError::DocumentLong {
            path: path.to_owned(),
            limit: STATE_BYTES_MAX,
        });
    }
    Ok(text.into())
}

fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source
        .take(STATE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)?;
    Ok(text)
}
