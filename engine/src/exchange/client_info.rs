//! Who sends the requests of a connection.

use std::net::IpAddr;

use engine_http::{
    forward::{Client, real_client},
    method::Scheme,
    request,
};

use crate::{
    context::listener::Listener, exchange::tls_info::TlsInfo, transport::received::Endpoints,
};

/// Who sends the requests of a connection.
#[derive(Debug)]
pub(crate) struct ClientInfo {
    pub(crate) client: Client,
    pub(crate) endpoints: Endpoints,
    pub(crate) local: std::net::SocketAddr,
    pub(crate) scheme: Scheme,
    /// A proxy whose word on where requests come from is taken.
    pub(crate) is_trusted: bool,
    /// What its TLS came to.
    pub(crate) tls_info: Option<Box<TlsInfo>>,
}

impl ClientInfo {
    /// Whose request it is, behind proxies that the listener trusts.
    pub(crate) fn real_client(
        &self,
        listener: &Listener,
        request: &request::Request<'_>,
    ) -> Client {
        if !self.is_trusted {
            return self.client;
        }
        let trusts = |ip| trusts(listener, ip);
        Client::new(real_client(self.client.address(), request.fields, trusts))
    }

    /// The id that a trusted proxy gave the request.
    pub(crate) fn trusted_id(&self, request: &request::Request<'_>) -> Option<String> {
        self.is_trusted
            .then(|| engine_http::answer::request_id(request.fields))
            .flatten()
            .map(str::to_owned)
    }
}

/// Whether an address is one of the listener's trusted proxies'.
pub(crate) fn trusts(listener: &Listener, ip: IpAddr) -> bool {
    let mut prefixes = listener.trusted_proxies.iter();
    prefixes.any(|prefix| prefix.contains(&ip))
}
