//! One link of a namespace that no plan is about, such as that of a peer.

use engine_sys::netns::Netns;
use ipnet::IpNet;

use super::{
    rtnl::Rtnl,
    socket::{Family, NetlinkError, Socket},
};

/// Why a link was not set up.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no link of that name.
    #[error("there is no link {0} in the namespace")]
    Missing(String),
    /// The kernel did not do what it was asked for.
    #[error("setting up the link {name} over netlink")]
    Netlink {
        /// The link.
        name: String,
        /// What it said.
        source: NetlinkError,
    },
}

/// Gives a link an address, and sets it up. A link that has the address keeps it.
///
/// # Errors
/// Says what is missing or was refused.
pub fn set_up(netns: &Netns, name: &str, address: IpNet) -> Result<(), LinkError> {
    let failed = |source| LinkError::Netlink {
        name: name.to_owned(),
        source,
    };
    let [socket] = Socket::open(netns, [Family::Route]).map_err(failed)?;
    let mut rtnl = Rtnl::new(socket);
    let link = rtnl.link(name).map_err(failed)?;
    let index = link
        .ok_or_else(|| LinkError::Missing(name.to_owned()))?
        .index;
    rtnl.add_address(index, address).map_err(failed)?;
    rtnl.raise(index).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_link_that_was_set_up_carries_traffic_to_its_address() {
        let netns = Netns::create().unwrap();
        let address = "192.0.2.1/32".parse().unwrap();
        set_up(&netns, "lo", address).unwrap();
        set_up(&netns, "lo", address).unwrap();
        let bind = || Ok(TcpListener::bind("192.0.2.1:0")?.into());
        let listener = TcpListener::from(netns.enter(bind).unwrap());
        let target = listener.local_addr().unwrap();
        let dial = || Ok(TcpStream::connect(target)?.into());
        assert!(netns.enter(dial).is_ok());
    }

    #[test]
    fn a_link_that_is_not_there_is_named() {
        let netns = Netns::create().unwrap();
        let error = set_up(&netns, "wg0", "192.0.2.1/32".parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "there is no link wg0 in the namespace");
    }
}
