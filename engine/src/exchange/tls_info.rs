//! What a client's handshake came to, and what requests may come over it.

use std::{cell::Cell, sync::Arc};

use engine_core::hostname::Hostname;
use engine_http::host::Host;
use engine_tls::{
    ServerTlsConfig,
    policy::{Clients, MinVersion},
};

use crate::context::{
    snapshot::Published,
    tls::{Asked, Termination},
};

/// What a connection's handshake came to.
#[derive(Debug)]
pub(crate) struct TlsInfo {
    pub(crate) terms: Arc<ServerTlsConfig>,
    /// The version that is spoken.
    pub(crate) version: MinVersion,
    /// Its terms are no longer those of its own name, or of connections without one: it is to end.
    pub(crate) is_outdated: Cell<bool>,
    /// The name that the client asked for.
    pub(crate) name: Option<Hostname>,
    /// What upstreams are told of the client's certificate.
    pub(crate) vouched: Vec<(&'static str, String)>,
}

impl TlsInfo {
    /// The fields that tell upstreams who the client is.
    pub(crate) fn vouched(&self) -> &[(&'static str, String)] {
        &self.vouched
    }

    /// The version that is spoken.
    pub(crate) fn version(&self) -> MinVersion {
        self.version
    }

    /// Whether it is to end, because the terms that it was made on are no longer in force.
    pub(crate) fn is_outdated(&self) -> bool {
        self.is_outdated.get()
    }

    /// Whether requests for `host` may come over this connection, or those that name none. It was made
    /// to this name, or the certificate that it was shown is good for it, too (RFC 9110 section 7.4);
    /// and it is what the host asks for now: who the client is was asked by the same authorities in the
    /// same way, so that nobody's name is told where it was not asked for, and the version is new
    /// enough.
    pub(crate) fn carries(&self, host: Option<Host<'_>>, published: &Published) -> bool {
        let carries = self.may_carry(host, published);
        if !carries {
            // Where the terms that it was made on are no longer in force, nothing is left for it.
            let own = self.name.as_ref().map_or(Asked::Others, Asked::Name);
            self.is_outdated
                .set(!self.meets(published.tls.of_host(own)));
        }
        carries
    }

    fn may_carry(&self, host: Option<Host<'_>>, published: &Published) -> bool {
        let Some(host) = host else {
            // Such requests are for whoever serves the hosts that nobody declared.
            return self.meets(published.tls.of_host(Asked::Others));
        };
        let Some(folded) = host.folded() else {
            // SNI names no addresses.
            return self.name.is_none() && self.meets(published.tls.of_host(Asked::Others));
        };
        let is_own = |name: &Hostname| name.as_str() == &*folded;
        if let Some(name) = self.name.as_ref().filter(|name| is_own(name)) {
            return self.meets(published.tls.of_host(Asked::Name(name)));
        }
        let Some(host) = host.hostname() else {
            return false;
        };
        self.meets(published.tls.of_host(Asked::Name(&host)))
            && self.terms.may_carry(self.name.as_ref(), &host)
    }

    /// Whether it is what a host asks of its clients.
    fn meets(&self, asked: Option<&Termination>) -> bool {
        let Some(terms) = asked.and_then(Termination::terms) else {
            return false;
        };
        if Arc::ptr_eq(terms, &self.terms) {
            return true;
        }
        let (asked, own) = (terms.policy(), self.terms.policy());
        let is_nobody = self.vouched.is_empty() && asked.clients == Clients::Unasked;
        (asked.clients == own.clients || is_nobody) && asked.version <= self.version
    }
}
