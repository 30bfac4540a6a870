//! Answers as people read them: pure functions from an answer to text.

mod amount;
mod certificates;
mod change;
mod document;
mod history;
mod paint;
mod status;
mod table;
mod traffic;

pub(crate) use self::{
    amount::{age, bytes, clock, count, rate, span, until},
    certificates::{certificates, certificates_in_full},
    change::applied,
    document::document_changes,
    history::{audit, event, generations},
    paint::{Colour, Paint, printable},
    status::{Shown, status},
    table::{Cell, Side, Table},
    traffic::{routes_traffic, traffic},
};

use control_api::answer::RefusedProblem;

/// `pointer: message (hint)`, as `ringway check` writes it.
pub(crate) fn problem(problem: &RefusedProblem) -> String {
    let mut line = String::new();
    if !problem.pointer.is_empty() {
        line.push_str(&problem.pointer);
        line.push_str(": ");
    }
    line.push_str(&problem.message);
    if let Some(hint) = &problem.hint {
        line.push_str(&format!(" ({hint})"));
    }
    printable(&line).into_owned()
}

#[cfg(test)]
pub(crate) mod tests;
