//! What the demo found out, and whether it is right.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use control_api::answer::{Applied, PeerStatus};

use super::{
    gateway::{Accounts, Facts},
    tenant::Names,
};

mod json;
mod text;

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// All that there is to tell, in the order in which it happened.
#[derive(Clone, Debug)]
pub(super) struct Report {
    /// Where the gateway listens.
    pub(super) gateway: SocketAddr,
    /// The number of the gateway's process.
    pub(super) gateway_process: u32,
    pub(super) facts: Facts,
    pub(super) applied: Applied,
    pub(super) chapters: Vec<Chapter>,
    /// The authority's, for curl.
    pub(super) certificate: PathBuf,
    /// The API's socket, as the demo's processes see it.
    pub(super) socket: PathBuf,
    /// The number of the demo's process.
    pub(super) process: u32,
    /// What this program was called as.
    pub(super) program: String,
    /// Whether the gateway stays up after this.
    pub(super) stays: bool,
}

/// The part of one tenant.
#[derive(Clone, Debug)]
pub(super) struct Chapter {
    pub(super) names: Names,
    /// The network's public WireGuard port.
    pub(super) port: u16,
    /// The number of the peer's process.
    pub(super) process: u32,
    /// How the peer was before it was asked for anything.
    pub(super) peer: PeerStatus,
    /// Seconds between its last handshake and then.
    pub(super) handshake_age: Option<u64>,
    pub(super) visit: Visit,
    pub(super) accounts: Accounts,
}

/// One request over HTTPS, as the client saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    /// What was answered.
    pub(super) text: String,
    /// Bytes that the client sent.
    pub(super) sent: u64,
    /// Bytes that the client received.
    pub(super) received: u64,
}

impl Visit {
    /// Whether exactly this was relayed.
    pub(super) fn is_relayed_as(&self, accounts: &Accounts) -> bool {
        let relayed = &accounts.relayed;
        (relayed.connections, relayed.bytes_in, relayed.bytes_out) == (1, self.sent, self.received)
    }

    /// Whether at least this was carried over WireGuard: its own messages come on top, and the
    /// headers of TCP and IP.
    pub(super) fn is_carried_by(&self, accounts: &Accounts) -> bool {
        let carried = &accounts.carried;
        carried.tx > self.sent && carried.rx > self.received
    }
}

impl Chapter {
    /// Whether the tenant's own peer answered, and every byte is accounted in both views.
    fn is_right(&self) -> bool {
        let Self {
            names,
            peer,
            visit,
            accounts,
            ..
        } = self;
        peer.connected
            && visit.text.starts_with(&format!("I am {},", names.name))
            && visit.is_relayed_as(accounts)
            && visit.is_carried_by(accounts)
    }

    fn network(&self) -> String {
        format!("network-{}", self.port)
    }
}

impl Report {
    /// Whether all went as it should.
    pub(super) fn is_right(&self) -> bool {
        self.applied.degraded.is_empty() && self.chapters.iter().all(Chapter::is_right)
    }

    /// Prints it.
    pub(super) fn print(&self, form: Form) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match form {
            Form::Text => text::write(self, &mut out)?,
            Form::Json => writeln!(out, "{}", json::of(self))?,
        }
        out.flush()
    }

    /// How to ask a tenant by hand.
    fn curl(&self, chapter: &Chapter) -> String {
        let (hostname, certificate) = (chapter.names.hostname, self.certificate.display());
        let (ip, port) = (self.gateway.ip(), self.gateway.port());
        format!(
            "curl --cacert {certificate} --resolve {hostname}:{port}:{ip} https://{hostname}:{port}/"
        )
    }

    /// The API's socket as the rest of the machine sees it: in the demo's own mount namespace
    /// (proc_pid_root(5)).
    fn api_path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process));
        let socket: &Path = &self.socket;
        root.join(socket.strip_prefix("/").unwrap_or(socket))
    }

    /// How to ask the gateway by hand.
    fn ask(&self, verb: &str) -> String {
        let (program, api) = (&self.program, self.api_path());
        format!("{program} {verb} --api unix:{}", api.display())
    }

    /// The names of the demo's namespaces are only in its own mount namespace.
    fn look_inside(&self, chapter: &Chapter) -> String {
        let (process, network) = (self.process, chapter.network());
        format!("nsenter --target {process} --mount ip netns exec {network} ip address")
    }
}

#[cfg(test)]
mod tests;
