//! What a change of the desired state does.

use control_api::answer::{Applied, Degradation};

use super::{Cell, Colour, Paint, Side, Table, paint::printable, problem};

/// The answer to `apply`, `diff` and `rollback`.
pub(crate) fn applied(answer: &Applied, paint: Paint) -> String {
    let mut text = steps(answer, paint);
    text.push_str(&verdict(answer));
    text.push('\n');
    for warning in &answer.warnings {
        let line = format!("warning: {}", problem(warning));
        text.push_str(&paint.paint(Colour::Notice, &line));
        text.push('\n');
    }
    for degraded in &answer.degraded {
        text.push_str(&paint.paint(Colour::Bad, &degradation(degraded)));
        text.push('\n');
    }
    text
}

/// `degraded: network-51820: a.example: why (what to do)`.
pub(super) fn degradation(degraded: &Degradation) -> String {
    let mut line = "degraded: ".to_owned();
    if let Some(port) = degraded.network {
        let network = format!("network-{port}");
        if network != degraded.object {
            line.push_str(&format!("{network}: "));
        }
    }
    line.push_str(&format!("{}: {}", degraded.object, degraded.why));
    if !degraded.hint.is_empty() {
        line.push_str(&format!(" ({})", degraded.hint));
    }
    printable(&line).into_owned()
}

fn steps(answer: &Applied, paint: Paint) -> String {
    if answer.steps.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        ("", Side::Left),
        ("STEP", Side::Left),
        ("OBJECT", Side::Left),
        ("DETAIL", Side::Left),
    ]);
    for step in &answer.steps {
        let (sign, colour) = sign(&step.op);
        table.row([
            Cell::coloured(sign, colour),
            Cell::coloured(&step.op, colour),
            step.object.as_str().into(),
            step.detail.as_str().into(),
        ]);
    }
    table.render(paint)
}

/// As `diff -u` marks lines, with `~` for what stays and becomes different.
fn sign(op: &str) -> (&'static str, Colour) {
    match op {
        "make" | "add" | "adopt" => ("+", Colour::Good),
        "remove" | "disown" => ("-", Colour::Bad),
        _ => ("~", Colour::Notice),
    }
}

fn verdict(answer: &Applied) -> String {
    let generation = answer.generation;
    let steps = match answer.steps.len() {
        0 => "no step in the kernel".to_owned(),
        1 => "1 step".to_owned(),
        many => format!("{many} steps"),
    };
    match (answer.changed, answer.dry_run) {
        (true, false) => format!("generation {generation}: changed, {steps}"),
        (true, true) => format!("generation {generation} would be followed by another: {steps}"),
        (false, _) if !answer.steps.is_empty() => {
            format!("generation {generation}: already desired; to be made so: {steps}")
        }
        (false, _) => format!("generation {generation}: nothing changes"),
    }
}
