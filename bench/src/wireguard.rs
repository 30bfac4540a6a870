//! Userspace WireGuard: who can carry it, and tunnels from one to another.
//!
//! ```text
//!   left sandbox                                                     right sandbox
//!   tenant's namespace            host namespaces             tenant's namespace
//!   10.9.0.1, fd00:9::1 ═ device ═ UDP ─── veth ─── UDP ═ device ═ 10.9.0.2, fd00:9::2
//!                           │                               │
//!                 an implementation's process     an implementation's process
//! ```

use std::{ffi::OsString, path::Path, process::Command};

use anyhow::{Context, Result};

pub(crate) mod device;
pub(crate) mod door;
pub(crate) mod end;
pub(crate) mod iperf;
pub(crate) mod ping;
mod tunnel;
mod underlay;

pub(crate) use tunnel::{Plan, Tunnel};
pub(crate) use underlay::Underlay;

/// What carries a WireGuard device in user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Implementation {
    /// A whole gateway: the device with everything above it.
    Ringway,
    /// Ringway's device on its own, as its peers are one (`bench device`).
    RingwayDevice,
    /// Mullvad's, in Rust.
    Gotatun,
    /// Cloudflare's, in Rust.
    Boringtun,
    /// Of WireGuard's authors, in Go.
    WireguardGo,
}

impl Implementation {
    /// The gateway and all peers.
    pub(crate) const ALL: [Self; 5] = [
        Self::Ringway,
        Self::RingwayDevice,
        Self::Gotatun,
        Self::Boringtun,
        Self::WireguardGo,
    ];

    /// As it is called in tables.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Ringway => "Ringway",
            Self::RingwayDevice => "Ringway's device alone",
            Self::Gotatun => "gotatun-cli",
            Self::Boringtun => "boringtun-cli",
            Self::WireguardGo => "wireguard-go",
        }
    }

    /// The command that carries the device `name` in the foreground: of all but a gateway, which
    /// carries what its state document declares.
    pub(crate) fn device(self, program: &Path, name: &str) -> Command {
        let mut command = Command::new(program);
        let arguments: &[&str] = match self {
            Self::Ringway | Self::RingwayDevice => &["device"],
            Self::Gotatun | Self::Boringtun => &["--foreground", "--disable-drop-privileges"],
            Self::WireguardGo => &["--foreground"],
        };
        command.args(arguments).arg(name);
        command
    }
}

/// Who is at the two ends of a tunnel. What is measured flows from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) left: Implementation,
    pub(crate) right: Implementation,
}

impl Pair {
    /// The same at both ends.
    pub(crate) const fn both(one: Implementation) -> Self {
        Self {
            left: one,
            right: one,
        }
    }

    /// As it is called in tables.
    pub(crate) const fn label(self) -> &'static str {
        match (self.left, self.right) {
            (Implementation::Ringway, Implementation::Gotatun) => TO_GOTATUN,
            (Implementation::Gotatun, Implementation::Ringway) => FROM_GOTATUN,
            (left, _) => left.label(),
        }
    }
}

/// What mixed tunnels are called.
pub(crate) const TO_GOTATUN: &str = "Ringway to gotatun-cli";
pub(crate) const FROM_GOTATUN: &str = "gotatun-cli to Ringway";

/// Which IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// One end's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Left => 1,
            Self::Right => 2,
        }
    }

    /// Its address on the underlay: those kept for documentation (RFC 5737) and for one site alone
    /// (RFC 4193).
    pub(crate) fn outer(self, family: Family) -> String {
        match family {
            Family::V4 => format!("192.0.2.{}", self.number()),
            Family::V6 => format!("fd00:2::{}", self.number()),
        }
    }

    /// Its address in the tunnel.
    pub(crate) fn inner(self, family: Family) -> String {
        match family {
            Family::V4 => format!("10.9.0.{}", self.number()),
            Family::V6 => format!("fd00:9::{}", self.number()),
        }
    }
}

/// Runs a short command and gives what it said.
///
/// # Errors
/// With what it complained about when it fails.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        errors.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command in a network namespace that has a name (ip-netns(8)).
pub(crate) fn inside(namespace: &str, command: &Command) -> Command {
    let words = [OsString::from("netns"), "exec".into(), namespace.into()];
    let mut inside = Command::new("ip");
    inside.args(words).arg(command.get_program());
    inside.args(command.get_args());
    inside
}
