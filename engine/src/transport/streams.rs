//! The two streams of a connection, and how its client is parted from.

use std::{
    cell::{Cell, OnceCell},
    ops::Deref,
    os::fd::AsFd,
    rc::Rc,
};

use engine_core::outcome::Outcome;
use engine_sys::socket;
use engine_tls::Cause;

use crate::{context::FlowContext, transport::Transport};

/// A flow, with its client's stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientFlow<'a> {
    pub(crate) flow: FlowContext<'a>,
    pub(crate) streams: &'a Streams,
}

impl<'a> Deref for ClientFlow<'a> {
    type Target = FlowContext<'a>;

    fn deref(&self) -> &Self::Target {
        &self.flow
    }
}

/// The two streams of a connection. They outlive its stages, whichever way those end.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Streams of HTTP/2 share it.
    pub(crate) client: Rc<Transport>,
    pub(crate) upstream: OnceCell<Transport>,
    /// How the client is parted from, where its outcome alone does not say.
    pub(crate) parting: Cell<Parting>,
    /// Why the client's handshake failed.
    pub(crate) cause: Cell<Option<Cause>>,
}

/// How a client is parted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Parting {
    /// As the outcome says.
    #[default]
    ByOutcome,
    /// In order: it was told already, or sees by the framing, that something is missing.
    InOrder,
    /// By what no end in order looks like: a reset, or, in TLS, an end without `close_notify`.
    Cut,
}

impl Streams {
    /// A client that is not connected with anybody.
    pub(crate) fn of(client: Rc<Transport>) -> Self {
        Self {
            client,
            upstream: OnceCell::new(),
            parting: Cell::default(),
            cause: Cell::default(),
        }
    }

    /// Passes on how the connection ended: a reset as a reset, anything else by the close that
    /// follows.
    pub(crate) fn hang_up(&self, outcome: Outcome) {
        let (resets_client, resets_upstream) = resets(outcome);
        let is_plain = self.client.as_plain().is_some();
        let resets_client = match self.parting.get() {
            Parting::ByOutcome => resets_client,
            Parting::InOrder => false,
            Parting::Cut if is_plain => true,
            // The socket's own end is enough.
            Parting::Cut => return,
        };
        if resets_client {
            // Fails only when the client is gone already.
            let _ = socket::reset_on_close(self.client.socket().as_fd());
        } else {
            // Fails when the client is gone, or reads so slowly that it need not know.
            let _ = self.client.close_notify();
        }
        if let Some(upstream) = self.upstream.get().filter(|_| resets_upstream) {
            // Fails only when the upstream is gone already.
            let _ = socket::reset_on_close(upstream.socket().as_fd());
        }
    }
}

/// Which of client and upstream are reset after an outcome.
fn resets(outcome: Outcome) -> (bool, bool) {
    #[allow(clippy::wildcard_enum_match_arm, reason = "all others end in order")]
    match outcome {
        Outcome::ClientReset => (false, true),
        Outcome::UpstreamReset => (true, false),
        Outcome::Drained
        | Outcome::NetworkRemoved
        | Outcome::NetworkChanged
        | Outcome::AccessChanged
        | Outcome::Panic => (true, true),
        _ => (false, false),
    }
}
