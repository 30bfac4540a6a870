//! Ringway's table in a tenant's namespace: written as one atomic batch, read back rule by rule.

mod found;
mod rules;

use control_plan::actual::{Firewall, FirewallState};
use nix::errno::Errno;

use self::{found::Rule, rules::Chain};
use super::socket::{NetlinkError, Socket};

/// The nftables socket of a namespace.
#[derive(Debug)]
pub(crate) struct Nftables(Socket);

impl Nftables {
    pub(crate) fn new(socket: Socket) -> Self {
        Self(socket)
    }

    /// Replaces the table: at every moment either the old rules hold or the new ones.
    pub(crate) fn write(&mut self, device: &str, firewall: &Firewall) -> Result<(), NetlinkError> {
        let batch = rules::batch(device, firewall);
        self.0.batch(batch.messages, batch.acknowledged)
    }

    /// What there is of the table.
    pub(crate) fn read(&mut self, device: &str) -> Result<FirewallState, NetlinkError> {
        let is_active = match self.0.get(rules::get_table()) {
            Ok(table) => table.as_ref().is_some_and(found::is_active),
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                return Ok(FirewallState::Absent);
            }
            Err(error) => return Err(error),
        };
        if !is_active {
            return Ok(FirewallState::Differs);
        }
        let (Some(chains), Some(rules)) = (self.chains()?, self.rules()?) else {
            return Ok(FirewallState::Differs);
        };
        let is = |firewall: &Firewall| {
            chains == rules::chains() && found::hold(&rules, &rules::rules(device, firewall))
        };
        let known = [true, false].map(|peer_to_peer| Firewall {
            peer_to_peer,
            tcp_ports: found::ports(&rules),
        });
        let found = known.into_iter().find(is);
        Ok(found.map_or(FirewallState::Differs, FirewallState::Is))
    }

    /// Absent when one of them is nothing that Ringway writes.
    fn chains(&mut self) -> Result<Option<Vec<Chain>>, NetlinkError> {
        let answers = self.0.dump(rules::list_chains())?;
        let chains: Option<Vec<Chain>> = answers.iter().filter_map(Chain::read).collect();
        Ok(chains.map(sorted))
    }

    /// Absent when one of them is nothing that Ringway writes.
    fn rules(&mut self) -> Result<Option<Vec<Rule>>, NetlinkError> {
        let answers = self.0.dump(rules::list_rules())?;
        Ok(answers.iter().filter_map(Rule::read).collect())
    }
}

fn sorted(mut chains: Vec<Chain>) -> Vec<Chain> {
    chains.sort();
    chains
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use tests::TAMPERING;
