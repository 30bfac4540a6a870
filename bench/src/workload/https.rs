//! The whole way: an HTTPS client, the gateway, WireGuard in user space, and an HTTPS server behind
//! the tenant's peer; beside HAProxy that dials in a namespace with a device of gotatun-cli.
//!
//! ```text
//!   wrk ─► Ringway ──────────────────────┐
//!                                        ├═ veth ═► Ringway's device alone ─► nginx, TLS
//!   wrk ─► HAProxy ─► gotatun-cli ───────┘
//! ```

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{Case, Contest, Contestant, NAME, Outcome, outside};
use crate::{
    lab::{Lab, Proxy, folder, listener},
    measure,
    peer::{Job, Peer, Routing, nginx},
    process::Process,
    results::{Figure, Values},
    target::{Against, Target},
    wireguard::{
        Family, Implementation, Pair, Plan, Side, Tunnel, Underlay,
        end::{End, SERVER_PORT},
    },
};

#[derive(Debug)]
pub(super) struct WholeWay;

const BULK: &str = "one body of 16 MiB after the other, 8 connections";
const CONNECTIONS: &str = "a connection for each request, 32 at a time";

/// The cases, by number.
const CASES: [&str; 2] = [BULK, CONNECTIONS];
/// Bytes of a large body.
const BULK_BYTES: u64 = 16 << 20;

impl Contest for WholeWay {
    fn title(&self) -> &'static str {
        "HTTPS, passed through to a server behind a WireGuard peer"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("rate", "throughput", "Gb/s"),
            Figure::lower("cpu", "gateway's CPU, its device included", "s/GB"),
            Figure::higher("connections", "connections", "/s"),
            Figure::lower(
                "each",
                "gateway's CPU, its device included",
                "µs/connection",
            ),
            Figure::lower("p50", "p50", "µs"),
            Figure::lower("p99", "p99", "µs"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let able = |peer: &Peer| lab.tools.find(*peer).is_some();
        let peers = [Peer::Ringway, Peer::Haproxy].into_iter().filter(able);
        let contestants: Vec<_> = peers.map(Contestant::Peer).collect();
        CASES.map(|name| Case::new(name, &contestants)).to_vec()
    }

    fn targets(&self) -> Vec<Target> {
        ["rate", "connections"]
            .map(|figure| Target {
                case: "",
                figure,
                against: Against::Contestant(Peer::Haproxy.label(), 1.0),
            })
            .to_vec()
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let near = if contestant == Contestant::Peer(Peer::Ringway) {
            Implementation::Ringway
        } else {
            Implementation::Gotatun
        };
        let plan = Plan {
            pair: Pair {
                left: near,
                right: Implementation::RingwayDevice,
            },
            underlay: Underlay::Whole,
            outer: Family::V4,
        };
        let mut tunnel = Tunnel::open(lab, plan)?;
        let _server = Server::start(lab, &tunnel.right)?;
        let (haproxy, port) = match tunnel.left.listener() {
            Some(port) => (None, port),
            None => {
                let (proxy, port) = haproxy(lab, &tunnel.left)?;
                (Some(proxy), port)
            }
        };
        let mut account = vec![tunnel.left.pid()];
        account.extend(haproxy.as_ref().map(|proxy| proxy.process.pid()));
        let outcome = ask(lab, &tunnel.left, port, case, account)?;
        tunnel.check()?;
        Ok(outcome)
    }
}

/// HAProxy in the left sandbox, which dials in the tenant's namespace; and where it listens.
fn haproxy(lab: &Lab, end: &End) -> Result<(Proxy, u16)> {
    let (lab, tenant) = (lab.clone(), end.tenant.clone());
    end.sandbox.run(move || {
        let server = SocketAddr::new(Side::Right.inner(Family::V4).parse()?, SERVER_PORT);
        let listener = listener(Routing::ByName(vec![(NAME.to_owned(), server)]))?;
        let port = listener.port;
        let job = Job {
            listeners: vec![listener],
            namespace: Some(tenant),
        };
        Ok((lab.start(Peer::Haproxy, &job)?, port))
    })
}

/// Asks with wrk, from the left sandbox, whoever listens on `port`.
fn ask(lab: &Lab, end: &End, port: u16, case: usize, account: Vec<Pid>) -> Result<Outcome> {
    let bulk = CASES.get(case) == Some(&BULK);
    let (connections, path) = if bulk { ("8", "bulk") } else { ("32", "") };
    let seconds = (2.0 * lab.seconds).ceil();
    let mut wrk = Command::new("wrk");
    wrk.args(["--latency", "--threads", "1", "--connections", connections]);
    wrk.arg(format!("--duration={seconds}s"));
    // A body takes as long as it takes.
    wrk.args(["--timeout", "30s"]);
    if !bulk {
        wrk.args(["--header", "Connection: close"]);
    }
    wrk.arg(format!("https://{NAME}:{port}/{path}"));
    let (output, cores) = end.sandbox.run(move || {
        let dir = folder()?;
        name_loopback(dir.path())?;
        outside::run_client(&wrk, seconds, || {
            let times = account.iter().map(|pid| measure::cpu_time(*pid));
            times.sum()
        })
    })?;
    let report = outside::read_wrk(&output)?;
    let gigabytes = report.bytes / 1e9;
    let values = if bulk {
        Values::from([
            ("rate".to_owned(), gigabytes * 8.0),
            ("cpu".to_owned(), cores / gigabytes),
        ])
    } else {
        Values::from([
            ("connections".to_owned(), report.rate),
            ("each".to_owned(), cores * 1e6 / report.rate),
            ("p50".to_owned(), report.p50),
            ("p99".to_owned(), report.p99),
        ])
    };
    Ok(Outcome {
        values,
        faults: report.faults,
    })
}

/// Has [`NAME`] mean the loopback device in this sandbox (hosts(5)): wrk asks for the name that it
/// resolves.
fn name_loopback(dir: &Path) -> Result<()> {
    let hosts = dir.join("hosts");
    fs::write(&hosts, format!("127.0.0.1 {NAME}\n"))?;
    let none = None::<&str>;
    mount(Some(&hosts), "/etc/hosts", none, MsFlags::MS_BIND, none).context("cannot name a host")
}

/// nginx with TLS in the right tenant's namespace.
#[derive(Debug)]
struct Server {
    // Dropped in this order: the process ends before its folder goes.
    _process: Process,
    _dir: TempDir,
}

impl Server {
    fn start(lab: &Lab, end: &End) -> Result<Self> {
        let program = lab.tools.nginx().context("nginx is not installed")?;
        let dir = folder()?;
        let path = dir.path().to_owned();
        let own = rcgen::generate_simple_self_signed([NAME.to_owned()]);
        let own = own.context("cannot make a certificate")?;
        fs::write(path.join("certificate.pem"), own.cert.pem())?;
        fs::write(path.join("key.pem"), own.signing_key.serialize_pem())?;
        let bulk = fs::File::create(path.join("bulk"))?;
        bulk.set_len(BULK_BYTES)?;
        fs::write(path.join("nginx.conf"), serving(&path))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&path);
        command.arg("-c").arg(path.join("nginx.conf"));
        command.args(["-e", "stderr"]);
        let process = end.serve("nginx", &command, &dir, SERVER_PORT)?;
        Ok(Self {
            _process: process,
            _dir: dir,
        })
    }
}

fn serving(dir: &Path) -> String {
    let address = Side::Right.inner(Family::V4);
    let (temp, body) = (dir.display(), "x".repeat(nginx::BODY_BYTES));
    let server = format!(
        "ssl_certificate {temp}/certificate.pem;\n  ssl_certificate_key {temp}/key.pem;\n  \
         ssl_session_tickets off;\n  server {{ listen {address}:{SERVER_PORT} ssl reuseport \
         backlog=4096; root {temp}; location / {{ return 200 {body}; }} location /bulk {{ }} }}"
    );
    nginx::http(dir, &server)
}
