//! Events: into the store, and to whoever listens.

use control_api::answer::{Event, Happening};
use control_store::Audit;
use tokio::sync::broadcast;

use super::clock::unix_now;

/// Events that are on their way to the store at once.
const WRITES_AT_ONCE: usize = 64;

/// Where events go.
#[derive(Debug)]
pub(crate) struct News {
    audit: Audit,
    listeners: broadcast::Sender<Event>,
}

impl News {
    /// Into the events of a store and to these listeners.
    pub(crate) fn new(audit: Audit, listeners: broadcast::Sender<Event>) -> Self {
        Self { audit, listeners }
    }

    /// Tells what happened. The store gives each event its number; one that it does not take is
    /// only logged, so that no two events ever share a number.
    pub(crate) fn tell(&self, happenings: Vec<Happening>) {
        let time = unix_now().as_secs();
        for happenings in happenings.chunks(WRITES_AT_ONCE) {
            let writes: Vec<_> = happenings
                .iter()
                .map(|happening| {
                    let json = serde_json::to_string(happening).unwrap_or_default();
                    let kind = happening.kind().to_owned();
                    match happening.owner() {
                        Some(owner) => {
                            let owner = owner.to_owned();
                            self.audit.append_event_of(owner, time, kind, json)
                        }
                        None => self.audit.append_event(time, kind, json),
                    }
                })
                .collect();
            for (happening, written) in happenings.iter().zip(writes) {
                match written.wait() {
                    Ok(id) => {
                        let happening = happening.clone();
                        // Nobody may be listening.
                        let _ = self.listeners.send(Event {
                            id,
                            time,
                            happening,
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, kind = happening.kind(), "an event is not kept");
                    }
                }
            }
        }
    }
}
