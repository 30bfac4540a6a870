//! Connections to the API, over TCP or a unix socket, as hyper-util's client makes them.

use std::{error::Error, fmt, io};

use http_body_util::Full;
use hyper::{Uri, body::Bytes};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};
use tower::util::BoxCloneSyncService;

use super::Address;

/// A client that connects to one address, whatever the request's URI says, for each request anew: a
/// kept connection may be dead at the next look.
pub(super) type Client = legacy::Client<Connector, Full<Bytes>>;

pub(super) type Connector = BoxCloneSyncService<Uri, TokioIo<Box<dyn Stream>>, io::Error>;

/// Either kind of stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Connection for Box<dyn Stream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// The client of the API at `address`.
pub(super) fn client(address: &Address) -> Client {
    let address = address.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let address = address.clone();
        async move { connect(&address).await.map(TokioIo::new) }
    });
    legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(BoxCloneSyncService::new(connector))
}

async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    Ok(match address {
        Address::Tcp(address) => Box::new(TcpStream::connect(address).await?),
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

/// What the client says, without the stage that it names in front: who reads it knows the stage.
#[derive(Debug)]
pub(crate) struct Cause(legacy::Error);

impl Cause {
    pub(super) fn of(error: legacy::Error) -> Self {
        Self(error)
    }

    /// Whether there is no connection, or it was refused.
    pub(super) fn is_connect(&self) -> bool {
        self.0.is_connect()
    }

    /// The system's answer, where it is one.
    pub(super) fn system(&self) -> Option<&io::Error> {
        self.0.source()?.downcast_ref()
    }

    fn inner(&self) -> &(dyn Error + 'static) {
        self.0.source().unwrap_or(&self.0)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner(), f)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.inner().source()
    }
}
