//! Certificates.

use control_api::answer::{CertificateState, CertificateStatus, Certificates};

use super::{Cell, Colour, Paint, Side, Table, clock, paint::printable, until};

/// A line for each.
pub(crate) fn certificates(answer: &Certificates, now: u64, paint: Paint) -> String {
    let mut table = Table::new([
        ("NAME", Side::Left),
        ("STATE", Side::Left),
        ("NETWORK", Side::Right),
        ("EXPIRES", Side::Left),
        ("DUE", Side::Left),
        ("SOURCE", Side::Left),
        ("ERROR", Side::Left),
    ]);
    for certificate in &answer.certificates {
        let far = |at: Option<u64>| at.map_or("-".into(), |at| until(now, at));
        table.row([
            name(certificate).into(),
            Cell::coloured(certificate.state.word(), colour(certificate.state)),
            certificate
                .network
                .map_or("-".into(), |port| port.to_string())
                .into(),
            far(certificate.not_after).into(),
            far(certificate.due).into(),
            certificate.source.as_str().into(),
            certificate.error.as_deref().unwrap_or_default().into(),
        ]);
    }
    let mut text = match table.is_empty() {
        true => "there are no certificates, and none are to be had\n".into(),
        false => table.render(paint),
    };
    let left_out = answer.total.saturating_sub(answer.certificates.len());
    if left_out > 0 {
        text.push_str(&format!(
            "and {left_out} more: ask for those of a --network\n"
        ));
    }
    text
}

/// Everything about each.
pub(crate) fn certificates_in_full(answer: &Certificates, now: u64, paint: Paint) -> String {
    let certificates = answer.certificates.iter();
    let texts: Vec<String> = certificates.map(|it| in_full(it, now, paint)).collect();
    texts.join("\n")
}

fn in_full(certificate: &CertificateStatus, now: u64, paint: Paint) -> String {
    let state = paint.paint(colour(certificate.state), certificate.state.word());
    let mut text = format!("{} · {state}\n", printable(name(certificate)));
    let mut line = |title: &str, what: Option<&str>| {
        if let Some(what) = what.filter(|what| !what.is_empty()) {
            text.push_str(&format!("{title:<12}{}\n", printable(what)));
        }
    };
    let owner = match certificate.network {
        Some(port) => format!("network-{port}"),
        None => "the gateway".to_owned(),
    };
    let time = |at: Option<u64>| at.map(|at| format!("{} ({})", clock(at), until(now, at)));
    let hosts = match certificate.hosts.is_empty() {
        true => "none".to_owned(),
        false => certificate.hosts.join(", "),
    };
    line("of", Some(&owner));
    line("source", Some(&certificate.source));
    line("names", Some(&certificate.names.join(", ")));
    line("serves", Some(&hosts));
    line("issuer", certificate.issuer.as_deref());
    line("valid from", time(certificate.not_before).as_deref());
    line("valid until", time(certificate.not_after).as_deref());
    line("due", time(certificate.due).as_deref());
    line("last error", certificate.error.as_deref());
    text
}

/// What it is for; a file that was never good has no name.
fn name(certificate: &CertificateStatus) -> &str {
    match certificate.name.is_empty() {
        true => &certificate.source,
        false => &certificate.name,
    }
}

fn colour(state: CertificateState) -> Colour {
    match state {
        CertificateState::Ok => Colour::Good,
        CertificateState::Pending | CertificateState::Stale => Colour::Notice,
        CertificateState::Failed | CertificateState::Expired => Colour::Bad,
    }
}
