//! Certificates from ACME directories (RFC 8555).
//!
//! ```text
//!   account ─► order ─► authorization ─► proof up ─► "ready" ─► finalize ─► certificate
//!   (once)                                 │ taken down, however it ended ─┘
//! ```

mod account;
mod order;
mod proof;
mod renewal;

use instant_acme::{Error, Problem};

pub(crate) use self::{
    account::Directory,
    order::{Obtained, obtain},
    proof::Proofs,
    renewal::{LookError, Suggestion, look},
};
use crate::client::Busy;

/// How often a request is repeated whose nonce the directory would not take. RFC 8555 section 6.5
/// has it that a client does so at once; instant-acme does it twice itself.
const NONCE_TRIES: u32 = 8;

/// What problems are called (RFC 8555 section 6.7).
const PROBLEM_PREFIX: &str = "urn:ietf:params:acme:error:";

/// Repeats a call for as long as its nonce is refused.
macro_rules! with_nonce {
    ($call:expr) => {{
        let mut tries = 1;
        loop {
            match $call.await {
                Err(error)
                    if tries < $crate::acme::NONCE_TRIES
                        && $crate::acme::is_problem(&error, "badNonce") =>
                {
                    tries += 1;
                }
                answered => break answered,
            }
        }
    }};
}
use with_nonce;

/// Whether a directory refused something for this reason.
fn is_problem(error: &Error, name: &str) -> bool {
    let Error::Api(Problem { r#type, .. }) = error else {
        return false;
    };
    let kind = r#type
        .as_deref()
        .and_then(|it| it.strip_prefix(PROBLEM_PREFIX));
    kind == Some(name)
}

/// For how many seconds a directory asks to be left alone.
fn patience(error: &Error) -> Option<u64> {
    let Error::Other(error) = error else {
        return None;
    };
    error.downcast_ref::<Busy>()?.seconds
}
