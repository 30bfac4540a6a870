//! What was asked for, and what happened.

use control_api::answer::{AuditEntries, Event, Generations, Happening};

use super::{Cell, Colour, Paint, Side, Table, age, clock, paint::printable};

/// The generations that are kept.
pub(crate) fn generations(answer: &Generations, now: u64, paint: Paint) -> String {
    let mut table = Table::new([
        ("GENERATION", Side::Right),
        ("", Side::Left),
        ("TIME", Side::Left),
        ("", Side::Left),
        ("ACTOR", Side::Left),
        ("REQUEST", Side::Left),
    ]);
    for entry in &answer.generations {
        let number = entry.generation;
        let mark = match (number == answer.desired, number == answer.running) {
            (true, true) => Cell::coloured("running", Colour::Good),
            (true, false) => Cell::coloured("desired", Colour::Notice),
            (false, true) => Cell::coloured("still running", Colour::Notice),
            (false, false) => Cell::default(),
        };
        table.row([
            number.to_string().into(),
            mark,
            clock(entry.time).into(),
            Cell::coloured(age(now, entry.time), Colour::Faint),
            entry.actor.as_str().into(),
            entry.note.as_str().into(),
        ]);
    }
    match table.is_empty() {
        true => "no generation yet: `ringway apply` makes the first\n".into(),
        false => table.render(paint),
    }
}

/// Entries of the audit log.
pub(crate) fn audit(answer: &AuditEntries, paint: Paint) -> String {
    let mut table = Table::new([
        ("TIME", Side::Left),
        ("ACTOR", Side::Left),
        ("ROLE", Side::Left),
        ("SOURCE", Side::Left),
        ("REQUEST", Side::Left),
        ("RESULT", Side::Left),
        ("GENERATION", Side::Right),
        ("DETAIL", Side::Left),
    ]);
    for entry in &answer.entries {
        let colour = match entry.result.as_str() {
            "applied" => Colour::Good,
            "refused" | "failed" => Colour::Bad,
            _ => Colour::Plain,
        };
        table.row([
            clock(entry.time).into(),
            entry.actor.as_str().into(),
            entry.role.as_str().into(),
            entry.source.as_str().into(),
            entry.action.as_str().into(),
            Cell::coloured(&entry.result, colour),
            entry
                .generation
                .map(|n| n.to_string())
                .unwrap_or_default()
                .into(),
            entry.detail.as_str().into(),
        ]);
    }
    match table.is_empty() {
        true => "nothing was asked for yet\n".into(),
        false => table.render(paint),
    }
}

/// One event, on one line.
pub(crate) fn event(event: &Event, paint: Paint) -> String {
    let (colour, what) = told(&event.happening);
    format!(
        "{}  {}  {}",
        paint.paint(Colour::Faint, &clock(event.time)),
        paint.paint(colour, &format!("{:<17}", event.happening.kind())),
        printable(&what),
    )
}

/// What happened, and how it is to be taken.
fn told(happening: &Happening) -> (Colour, String) {
    match happening {
        Happening::PeerConnected {
            network,
            peer,
            endpoint,
        } => {
            let from = endpoint.map(|at| format!(" from {at}")).unwrap_or_default();
            (
                Colour::Good,
                format!("network {network}  peer {peer}{from}"),
            )
        }
        Happening::PeerDisconnected { network, peer } => {
            (Colour::Notice, format!("network {network}  peer {peer}"))
        }
        Happening::EndpointChanged {
            network,
            peer,
            endpoint,
        } => {
            let what = format!("network {network}  peer {peer} from {endpoint}");
            (Colour::Plain, what)
        }
        Happening::NetworkDegraded { network, reasons } => (
            Colour::Bad,
            format!("network {network}  {}", reasons.join("; ")),
        ),
        Happening::NetworkRecovered { network } => (Colour::Good, format!("network {network}")),
        Happening::Degraded {
            object,
            network,
            reason,
            why,
        } => (
            Colour::Bad,
            format!("{}{object}  {}: {why}", of(*network), reason.word()),
        ),
        Happening::Recovered {
            object,
            network,
            reason,
        } => (
            Colour::Good,
            format!("{}{object}  {}", of(*network), reason.word()),
        ),
        Happening::CertificateObtained {
            name,
            issuer,
            not_after,
            ..
        } => (
            Colour::Good,
            format!("{name} by {issuer} until {}", clock(*not_after)),
        ),
        Happening::CertificateLoaded { file, names, .. } => {
            (Colour::Good, format!("{file} for {}", names.join(", ")))
        }
        Happening::CertificateFailed { name, reason, .. }
        | Happening::CertificateRefused { file: name, reason } => {
            (Colour::Bad, format!("{name}  {reason}"))
        }
        Happening::OnDemandSpent { names_per_hour } => (
            Colour::Bad,
            format!("{names_per_hour} names without a certificate were asked about within an hour"),
        ),
        Happening::StateApplied {
            generation, actor, ..
        } => (Colour::Good, format!("generation {generation} by {actor}")),
    }
}

/// Whose something is, before its name.
fn of(network: Option<u16>) -> String {
    network.map_or_else(String::new, |port| format!("network {port}  "))
}
