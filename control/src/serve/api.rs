//! The API's server, as a task of the control thread.

use std::{io, sync::Arc};

use control_http::{Front, Settings, Tokens, serve};
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
    /// Serves on the listener that the gateway was started with.
    ///
    /// # Errors
    /// When there is no thread left.
    pub(super) fn start(gateway: &mut Gateway<'_>) -> io::Result<Self> {
        let (tokens, known) = watch::channel(Arc::new(gateway.tokens.clone()));
        let Some(listener) = gateway.listener.take() else {
            let server = None;
            return Ok(Self { tokens, server });
        };
        let api = &gateway.boot.api;
        let front = Front {
            changes: gateway.changes()?,
            view: gateway.view.clone(),
            certificates: gateway.vault.view.clone(),
            tokens: known,
            desired: Arc::new(gateway.store.desired()),
            accounts: gateway.store.accounts(),
            audit: gateway.store.audit(),
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
