//! Which routes a device needs.

use std::collections::BTreeSet;

use control_api::state::WireGuard;
use ipnet::IpNet;

/// The allowed prefixes of all peers, but for those that another route leads to the device anyway:
/// the device has one destination, so a route inside another one adds nothing. Ten thousand peers
/// of one subnet need none.
///
/// `is_alone` says that the namespace is the network's own. In any other, a default route through
/// the device would take what is not the tenant's, so there is none.
pub fn wanted(wireguard: &WireGuard, is_alone: bool) -> BTreeSet<IpNet> {
    let connected: Vec<IpNet> = wireguard.address.iter().map(IpNet::trunc).collect();
    let mut allowed: Vec<IpNet> = wireguard
        .peers
        .values()
        .flat_map(|peer| peer.allowed_ips.iter())
        .map(IpNet::trunc)
        .filter(|prefix| is_alone || prefix.prefix_len() > 0)
        .filter(|prefix| !connected.iter().any(|wide| wide.contains(prefix)))
        .collect();
    // By address, and wide before narrow: whatever covers a prefix comes right before it.
    allowed.sort_by_key(|prefix| (prefix.network(), prefix.prefix_len()));
    let mut routes: Vec<IpNet> = Vec::new();
    for prefix in allowed {
        if !routes.last().is_some_and(|last| last.contains(&prefix)) {
            routes.push(prefix);
        }
    }
    routes.into_iter().collect()
}
