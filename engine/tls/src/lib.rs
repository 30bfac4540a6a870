//! TLS at the edge without IO of its own: bytes in, bytes out, for workers that share nothing.
//!
//! ```text
//!   hello ─► ServerTlsConfig::accept ─► ServerSession ◄─► plaintext     Certificates  by name, swapped live
//!              ▲                   ▲ Wire                     Tickets       keys, rotated live
//!            Policies           ciphertext                    Origin ─► ClientSession, upstream
//! ```
//!
//! rustls speaks the protocol, aws-lc-rs does the arithmetic, and a session reads and writes
//! through whatever implements [`Wire`]. A session at rest holds no buffer: those belong to the
//! worker ([`Scratch`]). Everything that a stranger can make grow has a bound that is a constant here.
//!
//! Early data (0-RTT, RFC 8446 section 2.3) is off on both sides: whoever records it can send it
//! again, and a gateway cannot know which requests its tenants' servers may see twice.
#![forbid(unsafe_code)]

pub mod authorities;
pub mod bundle;
pub mod certificates;
pub mod failure;
mod limits;
pub mod origin;
pub mod peer;
pub mod policy;
mod provider;
pub mod scratch;
pub mod session;
pub mod tickets;
pub mod wire;

pub use bundle::Bundle;
pub use certificates::Certificates;
pub use failure::{Cause, SessionError};
pub use origin::Origin;
pub use policy::{Policies, Policy, ServerTlsConfig};
pub use scratch::Scratch;
pub use session::{ClientSession, ServerSession, Session};
pub use tickets::Tickets;
pub use wire::Wire;

#[cfg(test)]
mod testing;
