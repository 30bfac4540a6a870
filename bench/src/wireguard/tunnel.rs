//! Two ends, joined.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    Family, Implementation, Pair, Side, Underlay,
    end::{End, Setting},
};
use crate::{lab::Lab, process::tied, sandbox::Sandbox};

/// Time for the first handshake, which is tried again after five seconds (Donenfeld, "WireGuard: Next
/// Generation Kernel Network Tunnel", section 6.1, REKEY-TIMEOUT).
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a tunnel is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) pair: Pair,
    pub(crate) underlay: Underlay,
    /// The IP version of the underlay.
    pub(crate) outer: Family,
}

/// A tunnel with a session.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) left: End,
    pub(crate) right: End,
}

impl Tunnel {
    /// Makes two sandboxes, joins them, starts both ends, and waits until echoes come back.
    ///
    /// # Errors
    /// When an implementation is not installed, or does not carry packets in time.
    pub(crate) fn open(lab: &Lab, plan: Plan) -> Result<Self> {
        let (left, right) = (Sandbox::open()?, Sandbox::open()?);
        plan.underlay.lay(&left, &right)?;
        let start = |sandbox: Sandbox, implementation: Implementation, side: Side| {
            let outer = plan.outer;
            let setting = Setting {
                implementation,
                side,
                outer,
            };
            End::start(lab, sandbox, setting)
        };
        let tunnel = Self {
            right: start(right, plan.pair.right, Side::Right)?,
            left: start(left, plan.pair.left, Side::Left)?,
        };
        tunnel.wait_until_joined()?;
        Ok(tunnel)
    }

    fn wait_until_joined(&self) -> Result<()> {
        let start = Instant::now();
        for family in [Family::V4, Family::V6] {
            let mut ping = Command::new("ping");
            ping.args(["-c", "1", "-W", "0.3", &Side::Right.inner(family)]);
            let ping = self.left.inside(&ping);
            loop {
                let mut ping = tied(&ping);
                let output = self.left.sandbox.run(move || Ok(ping.output()?))?;
                if output.status.success() {
                    break;
                }
                if start.elapsed() > HANDSHAKE_TIMEOUT {
                    bail!("no echo comes back through the tunnel");
                }
            }
        }
        Ok(())
    }

    /// Whether both ends still run as they should.
    ///
    /// # Errors
    /// When one does not.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.left.check()?;
        self.right.check()
    }
}
