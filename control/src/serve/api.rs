//! The API's server, as a task of the control thread.

use std::sync::Arc;

use anyhow::Context as _;
use control_http::{Front, Listener, Settings, Tokens, serve};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::start::Gateway;

/// The running API.
#[derive(Debug)]
pub(super) struct Api {
    tokens: watch::Sender<Arc<Tokens>>,
    /// Absent when the API is off.
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    task: JoinHandle<()>,
    shutdown: oneshot::Sender<()>,
}

impl Api {
    /// Listens and serves.
    ///
    /// # Errors
    /// When its address cannot be listened on.
    pub(super) async fn start(gateway: &Gateway<'_>) -> anyhow::Result<Self> {
        let api = &gateway.boot.api;
        let (tokens, known) = watch::channel(Arc::new(gateway.tokens.clone()));
        let listener = Listener::bind(&api.listen)
            .await
            .with_context(|| format!("serving the API at {}", api.listen))?;
        let Some(listener) = listener else {
            let server = None;
            return Ok(Self { tokens, server });
        };
        let front = Front {
            changes: gateway.changes(),
            view: gateway.view.clone(),
            tokens: known,
            store: gateway.store.clone(),
            events: gateway.events.clone(),
        };
        let settings = Settings {
            limits: api.limits.clone(),
            metrics: api.metrics.clone(),
        };
        let (shutdown, ended) = oneshot::channel();
        let ended = async {
            // Dropped means ended, too.
            let _ = ended.await;
        };
        let task = tokio::spawn(serve(listener, front, settings, ended));
        tracing::info!(listen = %api.listen, "the API listens");
        let server = Some(Server { task, shutdown });
        Ok(Self { tokens, server })
    }

    /// Takes other tokens from now on.
    pub(super) fn set_tokens(&self, tokens: Tokens) {
        self.tokens.send_replace(Arc::new(tokens));
    }

    /// Ends it; requests that are being answered have a moment.
    pub(super) async fn stop(self) {
        let Some(Server { task, shutdown }) = self.server else {
            return;
        };
        // Its receiver is gone only when it has ended by itself.
        let _ = shutdown.send(());
        if task.await.is_err() {
            tracing::error!("the API has panicked");
        }
    }
}
