//! How long an exchange may take.
//!
//! All of it is looked at when the sweep wakes the connection, so an exchange that is quick costs no
//! timer; in return a limit is good to a second.

use std::{cell::Cell, time::Duration};

use engine_core::outcome::Outcome;
use engine_http::rules::Timeouts;

use crate::context::{
    listener::Listener,
    live::{Connections, Slot, whole_seconds},
};

/// How long a client may take over [`CONTENT_BYTES_MIN`] of a request's content.
const CONTENT_WINDOW: u32 = 60;

/// The least content that a client sends in a [`CONTENT_WINDOW`], in bytes. The slowest modem sends
/// a hundred times as much, and a connection that is held open by single bytes ends.
const CONTENT_BYTES_MIN: u64 = 4096;

/// Seconds that the sweep's own limit is behind those that are looked at here: with these, a client
/// can still be answered.
const SWEEP_BEHIND: u32 = 5;

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The client has more content to send. `is_quiet`: it has not sent any of it.
    Sending { is_quiet: bool },
    /// The upstream is to answer.
    Answering,
    /// The answer has begun to reach the client.
    Answered,
}

/// The limits of one exchange. Times are seconds of [`Connections::now`].
#[derive(Debug)]
pub(crate) struct Deadlines {
    answer: Duration,
    idle: u32,
    ends_at: Option<u32>,
    looked_at: Cell<u32>,
    /// Since when, and from how many bytes on, a client's content is measured.
    window: Cell<(u32, u64)>,
}

impl Deadlines {
    /// Starts the exchange's time. The listener's limits hold where the rule says nothing.
    pub(crate) fn new(
        (slot, live): (&Slot, &Connections),
        timeouts: &Timeouts,
        listener: &Listener,
    ) -> Self {
        let now = live.now();
        let answer = timeouts.answer.unwrap_or(listener.answer_timeout);
        let idle = whole_seconds(timeouts.idle.unwrap_or(listener.idle_timeout));
        let longest = idle.max(whole_seconds(answer)).saturating_add(SWEEP_BEHIND);
        slot.watch_idle(live, Duration::from_secs(longest.into()));
        slot.wake_at(now + 1);
        let after = |whole| now.saturating_add(whole_seconds(whole)).saturating_add(1);
        Self {
            answer,
            idle,
            ends_at: timeouts.whole.map(after),
            looked_at: Cell::new(now),
            window: Cell::new((now, 0)),
        }
    }

    /// From now on the client may send its content, of which the upstream has got what belongs to
    /// `content` bytes: neither the time that a connection to the upstream took is the client's, nor
    /// that until it was asked on.
    pub(crate) fn content_begins(&self, live: &Connections, content: u64) {
        self.window.set((live.now(), content));
    }

    /// The longest silence of the upstream before its answer.
    pub(crate) fn answer(&self) -> Duration {
        self.answer
    }

    /// How much of the whole time is left, to the second; `None` where it is not bounded.
    pub(crate) fn left(&self, live: &Connections) -> Option<Duration> {
        let left = |ends_at: u32| Duration::from_secs(ends_at.saturating_sub(live.now()).into());
        self.ends_at.map(left)
    }

    /// Looks at the limits; more than once between two sweeps costs nothing. `content` is how many
    /// bytes the upstream was sent so far.
    pub(crate) fn judge(
        &self,
        (slot, live): (&Slot, &Connections),
        content: u64,
        stage: impl FnOnce() -> Stage,
    ) -> Option<Outcome> {
        let now = live.now();
        if self.looked_at.replace(now) == now {
            return None;
        }
        let stage = stage();
        let late = self.late(slot.quiet_for(live), now, content, stage);
        if late.is_none() {
            slot.wake_at(self.next(now, stage));
        }
        late
    }

    fn late(&self, quiet_for: u32, now: u32, content: u64, stage: Stage) -> Option<Outcome> {
        let slow = match stage {
            Stage::Sending { is_quiet: true } => Outcome::ContentTimeout,
            Stage::Sending { is_quiet: false } | Stage::Answering => Outcome::AnswerTimeout,
            Stage::Answered => Outcome::Idle,
        };
        if self.ends_at.is_some_and(|ends_at| now >= ends_at) {
            return Some(slow);
        }
        // How long an upstream may think is another limit.
        if quiet_for > self.idle && stage != Stage::Answering {
            return Some(slow);
        }
        let (since, before) = self.window.get();
        if now - since >= CONTENT_WINDOW {
            self.window.set((now, content));
            // Another attempt counts from the start.
            let is_slow = content.saturating_sub(before) < CONTENT_BYTES_MIN;
            if is_slow && slow == Outcome::ContentTimeout {
                return Some(slow);
            }
        }
        None
    }

    /// When to look again: each second where a client is waited for, which is rare, and else when
    /// something may be over.
    fn next(&self, now: u32, stage: Stage) -> u32 {
        match stage {
            Stage::Sending { .. } => now + 1,
            Stage::Answering | Stage::Answered => {
                let idle = now.saturating_add(self.idle.div_ceil(2)).saturating_add(1);
                self.ends_at.map_or(idle, |ends_at| ends_at.min(idle))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(idle: u32, ends_at: Option<u32>) -> Deadlines {
        Deadlines {
            answer: Duration::from_secs(60),
            idle,
            ends_at,
            looked_at: Cell::new(0),
            window: Cell::new((0, 0)),
        }
    }

    const CLIENT: Stage = Stage::Sending { is_quiet: true };
    const UPSTREAM: Stage = Stage::Sending { is_quiet: false };

    #[test]
    fn whoever_is_waited_for_is_named() {
        let patience = patience(10, None);
        assert_eq!(patience.late(10, 20, 0, CLIENT), None);
        for (stage, outcome) in [
            (CLIENT, Some(Outcome::ContentTimeout)),
            (UPSTREAM, Some(Outcome::AnswerTimeout)),
            (Stage::Answering, None),
            (Stage::Answered, Some(Outcome::Idle)),
        ] {
            assert_eq!(patience.late(11, 20, 0, stage), outcome, "{stage:?}");
        }
    }

    #[test]
    fn content_that_only_trickles_ends_and_content_that_flows_does_not() {
        let trickle = patience(100, None);
        assert_eq!(trickle.late(1, CONTENT_WINDOW - 1, 10, CLIENT), None);
        let late = trickle.late(1, CONTENT_WINDOW, CONTENT_BYTES_MIN - 1, CLIENT);
        assert_eq!(late, Some(Outcome::ContentTimeout));
        let flow = patience(100, None);
        let mut content = 0;
        for now in (0..600).step_by(60) {
            content += CONTENT_BYTES_MIN;
            assert_eq!(flow.late(1, now, content, CLIENT), None, "{now}");
        }
        assert_eq!(
            patience(100, None).late(1, CONTENT_WINDOW, 0, UPSTREAM),
            None,
            "the client is not to blame for an upstream that does not read"
        );
    }

    #[test]
    fn a_client_is_measured_from_when_it_may_send() {
        let live = Connections::default();
        let patience = patience(100, None);
        live.sweep(CONTENT_WINDOW - 1);
        // The upstream took that long to be reached, and has its head.
        patience.content_begins(&live, 500);
        let soon = CONTENT_WINDOW + 1;
        assert_eq!(patience.late(1, soon, 510, CLIENT), None);
        let late = patience.late(1, 2 * CONTENT_WINDOW, 510, CLIENT);
        assert_eq!(late, Some(Outcome::ContentTimeout));
    }

    #[test]
    fn the_whole_time_ends_every_stage() {
        let patience = patience(1000, Some(30));
        assert_eq!(patience.late(0, 29, 0, Stage::Answering), None);
        for stage in [CLIENT, UPSTREAM, Stage::Answering, Stage::Answered] {
            assert!(patience.late(0, 30, 0, stage).is_some(), "{stage:?}");
        }
    }
}
