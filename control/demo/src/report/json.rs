//! The report for programs.

use control_api::answer::Backend;
use serde_json::{Value, json};

use super::{Chapter, Report};
use crate::tenant::Tenant;

/// The report as one object.
pub(super) fn of(report: &Report) -> Value {
    let wireguard = &report.facts.wireguard;
    let tenants = report.chapters.iter();
    let tenants: Vec<Value> = tenants.map(|chapter| tenant(report, chapter)).collect();
    json!({
        "ok": report.is_right(),
        "process": report.process,
        "gateway": report.gateway,
        "gateway_process": report.gateway_process,
        "driver": report.facts.driver,
        "workers": report.facts.workers,
        "wireguard": {
            "backend": wireguard.backend.map(Backend::word),
            "reason": wireguard.reason,
        },
        "generation": report.applied.generation,
        "steps": report.applied.steps.len(),
        "api": report.api_path(),
        "certificate": report.certificate,
        "tenants": tenants,
    })
}

fn tenant(report: &Report, chapter: &Chapter) -> Value {
    let Chapter {
        names,
        process,
        peer,
        handshake_age,
        visit,
        accounts,
        ..
    } = chapter;
    json!({
        "ok": chapter.is_right(),
        "hostname": names.hostname,
        "network": chapter.network(),
        "port": chapter.port,
        "target": Tenant::target(),
        "peer": {
            "process": process,
            "connected": peer.connected,
            "endpoint": peer.endpoint,
            "handshake_age_s": handshake_age,
        },
        "answer": visit.text,
        "client": { "bytes_in": visit.sent, "bytes_out": visit.received },
        "accounted": accounts.relayed,
        "wireguard": accounts.carried,
        "curl": report.curl(chapter),
        "look_inside": report.look_inside(chapter),
    })
}
