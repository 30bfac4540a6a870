//! Connections to the API: accepted, bounded, and ended.

use std::{
    collections::HashMap,
    future::Future,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::IntoResponse};
use control_api::boot::ApiLimits;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower::Service;

use crate::{
    front::Front,
    listen::{Kind, Listener},
    refusal::Refusal,
    routes,
    shared::{Settings, Shared},
    source::{Prefix, Source},
    stall::Stalling,
};

/// How long requests may still take when the gateway goes down.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// How long accepting rests after it failed: mostly no descriptor is left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves the API until `shutdown` resolves; then requests that are being answered have five
/// seconds to end.
///
/// No connection can hold up another one: each has its own task, deadlines for what it sends and
/// takes, and there are only so many.
pub async fn serve(
    listener: Listener,
    front: Front,
    settings: Settings,
    shutdown: impl Future<Output = ()>,
) {
    let (close, closing) = watch::channel(false);
    let shared = Arc::new(Shared::new(front, settings, closing));
    let acceptor = Acceptor::new(shared);
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = acceptor.accept_all(&listener, &mut tasks) => {}
        () = shutdown => {}
    }
    // Nobody is to connect to what no longer answers.
    drop(listener);
    // An error says that no connection is left to hear it.
    let _ = close.send(true);
    let ended = async { while tasks.join_next().await.is_some() {} };
    if timeout(CLOSING_TIME, ended).await.is_err() {
        tracing::info!("requests to the API were broken off: they took too long to end");
    }
}

/// What makes connections of sockets.
struct Acceptor {
    shared: Arc<Shared>,
    router: Router,
    places: Arc<Semaphore>,
    by_source: Arc<BySource>,
}

impl Acceptor {
    fn new(shared: Arc<Shared>) -> Self {
        let limits = &shared.settings.limits;
        let places = usize::try_from(limits.connections_max.get()).unwrap_or(usize::MAX);
        Self {
            router: routes::router(Arc::clone(&shared)),
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            by_source: Arc::new(BySource {
                max: limits.connections_per_source_max.get(),
                counts: Mutex::default(),
            }),
            shared,
        }
    }

    /// Accepts whenever there is a place. Does not end.
    async fn accept_all(&self, listener: &Listener, tasks: &mut JoinSet<()>) {
        loop {
            // Tasks that have ended are taken away, so that the set does not grow.
            while tasks.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            let accepted = match &listener.0 {
                Kind::Tcp(listener) => self.accept_tcp(listener, place, tasks).await,
                Kind::Unix(listener, _) => self.accept_unix(listener, place, tasks).await,
            };
            if let Err(error) = accepted {
                tracing::debug!(%error, "accepting a connection to the API");
                sleep(ACCEPT_REST).await;
            }
        }
    }

    async fn accept_tcp(
        &self,
        listener: &tokio::net::TcpListener,
        place: OwnedSemaphorePermit,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let (stream, address) = listener.accept().await?;
        // Answers are written whole: waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        self.start(stream, Source::tcp(address), place, tasks);
        Ok(())
    }

    async fn accept_unix(
        &self,
        listener: &tokio::net::UnixListener,
        place: OwnedSemaphorePermit,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let (stream, _) = listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        self.start(stream, Source::unix(user), place, tasks);
        Ok(())
    }

    fn start<S>(
        &self,
        stream: S,
        source: Source,
        place: OwnedSemaphorePermit,
        tasks: &mut JoinSet<()>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(counted) = BySource::enter(&self.by_source, source.prefix) else {
            self.shared.tally.connections_refused.add();
            return;
        };
        let (shared, router) = (Arc::clone(&self.shared), self.router.clone());
        tasks.spawn(async move {
            let _held = (place, counted);
            let _counted = shared.tally.connections.enter();
            converse(stream, source, router, &shared).await;
        });
    }
}

/// Answers the requests of one connection.
async fn converse<S>(stream: S, source: Source, router: Router, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limits = &shared.settings.limits;
    let deadline = limits.body_timeout + limits.request_timeout;
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(source.clone());
        let mut router = router.clone();
        async move {
            let answered = timeout(deadline, router.call(request)).await;
            answered.unwrap_or_else(|_elapsed| Ok(too_slow(deadline)))
        }
    });
    let stream = TokioIo::new(Stalling::new(stream, limits.body_timeout));
    let mut connection = std::pin::pin!(builder(limits).serve_connection(stream, answer));
    let mut closing = shared.closing.clone();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = told_to_close(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A stranger's doing, at a stranger's pace.
        tracing::debug!(%source, %error, "a connection to the API");
    }
}

/// Also when whoever would tell is gone.
async fn told_to_close(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

fn builder(limits: &ApiLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers_max.get().into())
        .max_buf_size(limits.header_bytes_max.in_memory());
    builder
}

fn too_slow(deadline: Duration) -> axum::response::Response {
    let seconds = deadline.as_secs();
    let error = format!("no answer within {seconds} s; what was asked for may still be done");
    Refusal::unavailable(error).into_response()
}

/// Connections by source.
#[derive(Debug)]
struct BySource {
    max: u32,
    /// As many entries as there are connections, at most.
    counts: Mutex<HashMap<Prefix, u32>>,
}

/// One connection of a source, until it is dropped.
#[derive(Debug)]
struct OneOfSource {
    all: Arc<BySource>,
    source: Prefix,
}

impl BySource {
    fn enter(all: &Arc<Self>, source: Prefix) -> Option<OneOfSource> {
        let mut counts = all.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(source).or_insert(0);
        if *count >= all.max {
            return None;
        }
        *count += 1;
        Some(OneOfSource {
            all: Arc::clone(all),
            source,
        })
    }
}

impl Drop for OneOfSource {
    fn drop(&mut self) {
        let counts = self.all.counts.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.source);
            }
        }
    }
}
