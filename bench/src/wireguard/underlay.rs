//! What lies between two ends: a veth pair (veth(4)), and what it takes apart.

use anyhow::Result;

use super::{Family, Side, run};
use crate::sandbox::{Sandbox, ip};

/// The link at either end.
const LINK: &str = "under";

/// How the underlay treats the large packets that UDP_SEGMENT makes (udp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Underlay {
    /// They cross it whole, as between containers of one host.
    Whole,
    /// Each is cut into packets of the MTU, as on the way to a network card that cannot do it.
    Cut,
    /// The same, and the receiving side puts them together again before any socket sees them.
    CutAndForwarded,
}

impl Underlay {
    /// Joins two sandboxes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn lay(self, left: &Sandbox, right: &Sandbox) -> Result<()> {
        let there = right.network();
        left.run(move || {
            let pair = ["link", "add", LINK, "type", "veth", "peer", "name", LINK];
            ip(&[&pair[..], &["netns", &there]].concat())
        })?;
        for (sandbox, side) in [(left, Side::Left), (right, Side::Right)] {
            sandbox.run(move || self.raise(side))?;
        }
        Ok(())
    }

    fn raise(self, side: Side) -> Result<()> {
        for (family, bits) in [(Family::V4, "24"), (Family::V6, "64")] {
            let address = format!("{}/{bits}", side.outer(family));
            ip(&["address", "add", &address, "dev", LINK, "nodad"])?;
        }
        let cut: &[&str] = &["tx-udp-segmentation", "off"];
        let gather: &[&str] = &["gro", "on", "rx-udp-gro-forwarding", "on"];
        let features = match self {
            Self::Whole => Vec::new(),
            Self::Cut => vec![cut],
            Self::CutAndForwarded => vec![cut, gather],
        };
        for feature in features {
            run("ethtool", &[&["-K", LINK], feature].concat())?;
        }
        ip(&["link", "set", LINK, "up"])
    }
}
