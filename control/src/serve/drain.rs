//! The end: accept no more, let connections end until a deadline, reset the rest.

use std::time::{Duration, Instant};

use super::{Gateway, Signals, ending};

/// How often the end of the drain is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long workers may take to reset what is left.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);

impl Gateway<'_> {
    /// Ends the gateway. A second SIGTERM or SIGINT moves the deadline to this moment.
    pub(super) async fn drain(self, signals: &mut Signals) {
        let patience = self.boot.drain_timeout;
        tracing::info!(
            timeout_s = patience.as_secs(),
            "draining: no more connections are accepted"
        );
        let mut deadline = Instant::now() + patience;
        let draining = self.engine.begin_drain(deadline);
        while !draining.is_over() && Instant::now() < deadline + RESET_TIMEOUT {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = ending(&mut signals.terminate, &mut signals.interrupt) => {
                    tracing::info!("a second signal: connections are reset now");
                    deadline = Instant::now();
                    // Only moves the deadline: the workers answer to whoever began.
                    drop(self.engine.begin_drain(deadline));
                }
            }
        }
        let drained = self.engine.finish(&draining, Duration::ZERO);
        let records_lost = self.connections.finish();
        let totals = drained.counters.networks.values();
        let (connections, bytes) = totals.fold((0, 0), |(connections, bytes), network| {
            let tally = &network.tally;
            (
                connections + tally.closed,
                bytes + tally.bytes_in + tally.bytes_out,
            )
        });
        if drained.lost_workers > 0 {
            tracing::error!(
                workers = drained.lost_workers,
                "workers did not end in time"
            );
        }
        tracing::info!(
            connections,
            bytes,
            records_dropped = drained.counters.records_dropped,
            records_lost,
            "ended"
        );
    }
}
