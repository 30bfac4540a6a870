//! What the demo tells: for people, or for programs.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::Path,
};

use serde_json::{Value, json};

use super::tenant::{Names, TENANTS};

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// One request to one tenant, as the client saw it and as the gateway accounted it.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) names: Names,
    /// What the tenant's machine said.
    pub(super) text: String,
    /// Bytes that the client sent.
    pub(super) sent: u64,
    /// Bytes that the client received.
    pub(super) received: u64,
    /// What the gateway accounted to the tenant's route.
    pub(super) accounted: Accounted,
}

/// The gateway's counters of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounted {
    pub(super) connections: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl Visit {
    /// Whether the right tenant answered, and every byte is accounted.
    fn is_right(&self) -> bool {
        let expected = Accounted {
            connections: 1,
            bytes_in: self.sent,
            bytes_out: self.received,
        };
        self.text.starts_with(&format!("I am {},", self.names.name)) && self.accounted == expected
    }
}

/// All that there is to tell.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) gateway: SocketAddr,
    pub(super) driver: &'static str,
    pub(super) workers: usize,
    pub(super) visits: Vec<Visit>,
    pub(super) certificate: &'a Path,
    /// Whether the gateway stays up after this.
    pub(super) stays: bool,
}

impl Report<'_> {
    /// Whether all went as it should.
    pub(super) fn is_right(&self) -> bool {
        self.visits.iter().all(Visit::is_right)
    }

    /// Prints it.
    pub(super) fn print(&self, form: Form) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match form {
            Form::Text => self.write_text(&mut out)?,
            Form::Json => writeln!(out, "{}", self.json())?,
        }
        out.flush()
    }

    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let Self {
            gateway,
            driver,
            workers,
            ..
        } = self;
        writeln!(
            out,
            "Ringway listens on {gateway} ({workers} workers, {driver}).\n"
        )?;
        writeln!(out, "Two tenants, both at {}:", Names::subnet())?;
        for names in TENANTS {
            let (hostname, network) = (names.hostname, names.network());
            writeln!(out, "  {hostname:<14} ─► {network} ─► {}", Names::target())?;
        }
        writeln!(
            out,
            "\nA TLS client asked each by name, through the gateway:"
        )?;
        for visit in &self.visits {
            visit.write_text(out)?;
        }
        let verdict = if self.is_right() {
            "Each name led to its own tenant, and every byte is accounted."
        } else {
            "NOT AS IT SHOULD BE: another tenant answered, or the bytes differ."
        };
        writeln!(out, "\n{verdict}")?;
        if self.stays {
            self.write_invitation(out)?;
        }
        Ok(())
    }

    fn write_invitation(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nTry it from another terminal:")?;
        for names in TENANTS {
            writeln!(out, "  {}", self.curl(names))?;
        }
        writeln!(out, "\nLook inside:")?;
        for names in TENANTS {
            writeln!(out, "  {}", look_inside(names))?;
        }
        writeln!(out, "\nCtrl-C ends it and removes everything.\n")
    }

    fn curl(&self, names: Names) -> String {
        let (hostname, certificate) = (names.hostname, self.certificate.display());
        let (ip, port) = (self.gateway.ip(), self.gateway.port());
        format!(
            "curl --cacert {certificate} --resolve {hostname}:{port}:{ip} https://{hostname}:{port}/"
        )
    }

    fn json(&self) -> Value {
        let tenants: Vec<Value> = self
            .visits
            .iter()
            .map(|visit| self.tenant_json(visit))
            .collect();
        json!({
            "ok": self.is_right(),
            "process": std::process::id(),
            "gateway": self.gateway,
            "driver": self.driver,
            "workers": self.workers,
            "certificate": self.certificate,
            "tenants": tenants,
        })
    }

    fn tenant_json(&self, visit: &Visit) -> Value {
        json!({
            "ok": visit.is_right(),
            "hostname": visit.names.hostname,
            "network": visit.names.network().as_str(),
            "target": Names::target(),
            "answer": visit.text,
            "client": { "bytes_in": visit.sent, "bytes_out": visit.received },
            "accounted": {
                "connections": visit.accounted.connections,
                "bytes_in": visit.accounted.bytes_in,
                "bytes_out": visit.accounted.bytes_out,
            },
            "curl": self.curl(visit.names),
            "look_inside": look_inside(visit.names),
        })
    }
}

impl Visit {
    fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let Self {
            names,
            text,
            sent,
            received,
            accounted,
        } = self;
        writeln!(out, "  {:<14} \"{text}\"", names.hostname)?;
        writeln!(
            out,
            "  {:<14} client sent {sent} and received {received} bytes; accounted {} and {}  {}",
            "",
            accounted.bytes_in,
            accounted.bytes_out,
            if self.is_right() { "✓" } else { "✗" },
        )
    }
}

/// The names of the demo's namespaces are only in its own mount namespace.
fn look_inside(names: Names) -> String {
    let (process, network) = (std::process::id(), names.network());
    format!("nsenter --target {process} --mount ip netns exec {network} ip address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visit() -> Visit {
        Visit {
            names: TENANTS[0],
            text: "I am blue, and so on".to_owned(),
            sent: 10,
            received: 20,
            accounted: Accounted {
                connections: 1,
                bytes_in: 10,
                bytes_out: 20,
            },
        }
    }

    #[test]
    fn a_visit_is_right_only_when_the_tenant_and_every_byte_are() {
        assert!(visit().is_right());
        let other = Visit {
            names: TENANTS[1],
            ..visit()
        };
        assert!(!other.is_right());
        for accounted in [
            Accounted {
                connections: 2,
                ..visit().accounted
            },
            Accounted {
                bytes_in: 9,
                ..visit().accounted
            },
            Accounted {
                bytes_out: 21,
                ..visit().accounted
            },
        ] {
            assert!(
                !Visit {
                    accounted,
                    ..visit()
                }
                .is_right(),
                "{accounted:?}"
            );
        }
    }

    #[test]
    fn a_wrong_result_is_told_in_both_forms() {
        let mut report = Report {
            gateway: super::super::address(8443),
            driver: "epoll",
            workers: 2,
            visits: vec![visit()],
            certificate: Path::new("/tmp/ca.pem"),
            stays: true,
        };
        let text = |report: &Report<'_>| {
            let mut out = Vec::new();
            report.write_text(&mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(text(&report).contains("every byte is accounted"));
        let curl = "curl --cacert /tmp/ca.pem --resolve blue.example:8443:127.0.0.1 \
                    https://blue.example:8443/";
        assert!(text(&report).contains(curl), "{}", text(&report));
        assert_eq!(report.json()["ok"], true);
        report.visits[0].accounted.bytes_out = 0;
        assert!(text(&report).contains("NOT AS IT SHOULD BE"));
        assert_eq!(report.json()["ok"], false);
        assert_eq!(report.json()["tenants"][0]["ok"], false);
    }
}
