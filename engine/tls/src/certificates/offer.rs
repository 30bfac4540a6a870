//! A certificate for a name, and on which terms.

use std::sync::Arc;

use engine_core::ids::NetworkId;

use crate::bundle::Bundle;

/// A certificate that is offered for a name.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The certificate.
    pub bundle: Arc<Bundle>,
    /// The network whose hosts alone it serves; without one, it serves any.
    pub network: Option<NetworkId>,
    /// Whether it was declared for this name, rather than that its leaf has it.
    pub is_declared: bool,
}

impl Offer {
    /// One of the gateway's own, for a name of its leaf.
    pub fn general(bundle: Arc<Bundle>) -> Self {
        Self {
            bundle,
            network: None,
            is_declared: false,
        }
    }
}
