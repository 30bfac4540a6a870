//! The report for people.

use std::io::{self, Write};

use control_api::answer::{Backend, WireGuardStatus};

use super::{Chapter, Report};
use crate::tenant::Tenant;

/// Writes the whole of it.
pub(super) fn write(report: &Report, out: &mut impl Write) -> io::Result<()> {
    write_gateway(report, out)?;
    write_networks(report, out)?;
    write_peers(report, out)?;
    write_answers(report, out)?;
    write_accounts(report, out)?;
    let verdict = if report.is_right() {
        "Each name led to its own tenant, and every byte is accounted."
    } else {
        "NOT AS IT SHOULD BE: another tenant answered, or the bytes differ."
    };
    writeln!(out, "\n{verdict}")?;
    if report.stays {
        write_invitation(report, out)?;
    }
    Ok(())
}

fn write_gateway(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let (gateway, workers) = (report.gateway, report.facts.workers);
    let driver = &report.facts.driver;
    let WireGuardStatus { backend, reason } = &report.facts.wireguard;
    let carrier = match backend {
        Some(Backend::Kernel) => "by the kernel",
        Some(Backend::Userspace) => "by Ringway's own device",
        None => "by nobody",
    };
    writeln!(
        out,
        "Ringway listens on {gateway}: {workers} workers, {driver}."
    )?;
    writeln!(out, "WireGuard is carried {carrier} ({reason}).")
}

fn write_networks(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let (subnet, target) = (Tenant::subnet(), Tenant::target());
    let (generation, steps) = (report.applied.generation, report.applied.steps.len());
    writeln!(
        out,
        "\nTwo networks, declared over the API and both {subnet} (generation {generation}, {steps} steps):"
    )?;
    for chapter in &report.chapters {
        let (hostname, port) = (chapter.names.hostname, chapter.port);
        let network = chapter.network();
        writeln!(
            out,
            "  {hostname:<14} ─► {network} ═ WireGuard, UDP {port} ═► {target}"
        )?;
    }
    for degraded in &report.applied.degraded {
        writeln!(out, "  {}: {}", degraded.object, degraded.why)?;
    }
    Ok(())
}

fn write_peers(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\nA peer in each: a process with a WireGuard device in a namespace of its own:"
    )?;
    for chapter in &report.chapters {
        let (name, process) = (chapter.names.name, chapter.process);
        let from = chapter.peer.endpoint;
        let from = from.map_or_else(|| "nowhere".to_owned(), |from| from.to_string());
        let age = chapter.handshake_age;
        let age = age.map_or_else(
            || "no handshake".to_owned(),
            |s| format!("handshake {s} s ago"),
        );
        writeln!(
            out,
            "  {name:<14} process {process}, connected from {from}, {age}"
        )?;
    }
    Ok(())
}

fn write_answers(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\nA TLS client asked each by name, through the gateway:"
    )?;
    for chapter in &report.chapters {
        let (hostname, text) = (chapter.names.hostname, &chapter.visit.text);
        writeln!(out, "  {hostname:<14} \"{text}\"")?;
    }
    Ok(())
}

fn write_accounts(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\nThe accounts of it, in bytes: what the gateway relayed, and what WireGuard carried:"
    )?;
    for chapter in &report.chapters {
        write_account(chapter, out)?;
    }
    Ok(())
}

fn write_account(chapter: &Chapter, out: &mut impl Write) -> io::Result<()> {
    let Chapter {
        names,
        visit,
        accounts,
        ..
    } = chapter;
    let (relayed, carried) = (&accounts.relayed, &accounts.carried);
    writeln!(
        out,
        "  {:<14} client sent {}, relayed {}  {}  carried {}  {}",
        names.hostname,
        visit.sent,
        relayed.bytes_in,
        mark(visit.is_relayed_as(accounts)),
        carried.tx,
        mark(visit.is_carried_by(accounts)),
    )?;
    writeln!(
        out,
        "  {:<14} client received {}, relayed {}  {}  carried {}  {}",
        "",
        visit.received,
        relayed.bytes_out,
        mark(visit.is_relayed_as(accounts)),
        carried.rx,
        mark(visit.is_carried_by(accounts)),
    )
}

fn mark(is_right: bool) -> char {
    if is_right { '✓' } else { '✗' }
}

fn write_invitation(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\nTry it from another terminal:")?;
    for chapter in &report.chapters {
        writeln!(out, "  {}", report.curl(chapter))?;
    }
    writeln!(out, "\nAsk the gateway:")?;
    for verb in ["status", "traffic", "top"] {
        writeln!(out, "  {}", report.ask(verb))?;
    }
    let api = report.api_path();
    writeln!(
        out,
        "  curl --unix-socket {} http://localhost/api/v1/traffic/routes",
        api.display()
    )?;
    writeln!(out, "\nLook inside:")?;
    for chapter in &report.chapters {
        writeln!(out, "  {}", report.look_inside(chapter))?;
    }
    writeln!(out, "\nCtrl-C ends it and removes everything.\n")
}
