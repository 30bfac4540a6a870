//! Connections to the API: accepted, bounded, and ended.

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::IntoResponse};
use control_api::boot::ApiLimits;
use engine_sys::process::beyond_descriptor_limit;
use futures::FutureExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tower::Service;

use crate::{
    front::Front,
    listen::{Kind, Listener},
    refusal::Refusal,
    room::{Answered, Place, Room, Work},
    routes,
    shared::{Settings, Shared},
    source::Source,
    stall::Stalling,
};

/// How long requests may still take when the gateway goes down.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// How much longer any answer may take than what is waited for while it is made.
const GRACE: Duration = Duration::from_secs(1);
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
    room: Arc<Room>,
}

impl Acceptor {
    fn new(shared: Arc<Shared>) -> Self {
        let limits = &shared.settings.limits;
        let places = usize::try_from(limits.connections_max.get()).unwrap_or(usize::MAX);
        Self {
            router: routes::router(Arc::clone(&shared)),
            room: Room::new(places, limits.connections_per_source_max.get()),
            shared,
        }
    }

    /// Accepts one connection after the other, and gives each its place. Does not end.
    async fn accept_all(&self, listener: &Listener, tasks: &mut JoinSet<()>) {
        loop {
            // Tasks that have ended are taken away, so that the set does not grow.
            while tasks.try_join_next().is_some() {}
            let accepted = match &listener.0 {
                Kind::Tcp(listener) => self.accept_tcp(listener, tasks).await,
                Kind::Unix(listener, _) => self.accept_unix(listener, tasks).await,
            };
            if let Err(error) = accepted {
                tracing::debug!(%error, "accepting a connection to the API");
                sleep(ACCEPT_REST).await;
            }
        }
    }

    /// Takes a connection off a listener's queue, with one of the descriptors that are kept back when
    /// clients have all others, or with that of a connection which waits for a request.
    async fn accept<T, F>(&self, accept: impl Fn() -> F) -> io::Result<T>
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            let accepted = accept().await;
            let Err(error) = &accepted else {
                return accepted;
            };
            if !is_exhausted(error) {
                return accepted;
            }
            // The connection is there still, so this does not wait.
            let again = beyond_descriptor_limit(|| accept().now_or_never());
            match again {
                Some(Err(error)) if is_exhausted(&error) => {
                    if !self.room.send_somebody_away() {
                        return Err(error);
                    }
                    // Its descriptor is given back by its own task.
                    yield_now().await;
                }
                Some(accepted) => return accepted,
                None => {}
            }
        }
    }

    async fn accept_tcp(
        &self,
        listener: &tokio::net::TcpListener,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let (stream, address) = self.accept(|| listener.accept()).await?;
        // Answers are written whole: waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        self.start(stream, Source::tcp(address), tasks).await;
        Ok(())
    }

    async fn accept_unix(
        &self,
        listener: &tokio::net::UnixListener,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<()> {
        let (stream, _) = self.accept(|| listener.accept()).await?;
        let user = stream.peer_cred()?.uid();
        self.start(stream, Source::unix(user), tasks).await;
        Ok(())
    }

    async fn start<S>(&self, stream: S, source: Source, tasks: &mut JoinSet<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(place) = self.room.enter(source.prefix).await else {
            self.shared.tally.connections_refused.add();
            return;
        };
        let (shared, router) = (Arc::clone(&self.shared), self.router.clone());
        tasks.spawn(async move {
            let _counted = shared.tally.connections.enter();
            converse(stream, source, &place, router, &shared).await;
        });
    }
}

/// Answers the requests of one connection.
async fn converse<S>(stream: S, source: Source, place: &Place, router: Router, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limits = &shared.settings.limits;
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(source.clone());
        answer(request, &place.work, router.clone(), limits)
    });
    let stream = TokioIo::new(Stalling::new(stream, limits.body_timeout));
    let mut connection = std::pin::pin!(builder(limits).serve_connection(stream, answer));
    let mut closing = shared.closing.clone();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.work.sent_away() => {
            shared.tally.connections_refused.add();
            return;
        }
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

/// Whether no descriptor is left, of this process or of the machine (accept(2)).
fn is_exhausted(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// Answers one request, within what its body and its answer may take together.
async fn answer(
    mut request: Request,
    work: &Arc<Work>,
    mut router: Router,
    limits: &ApiLimits,
) -> Result<axum::response::Response<Answered>, Infallible> {
    let answering = work.begin();
    request.extensions_mut().insert(Arc::clone(work));
    // A change ends before, and says what became of it.
    let deadline = limits.body_timeout + limits.request_timeout + GRACE;
    let answered = timeout(deadline, router.call(request)).await;
    let Ok(response) = answered.unwrap_or_else(|_elapsed| Ok(too_slow(deadline)));
    Ok(response.map(|body| Answered {
        body,
        _answering: answering,
    }))
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
    let error = format!("no answer within {seconds} s");
    Refusal::unavailable(error).into_response()
}
