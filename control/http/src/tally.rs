//! What the API counts of itself.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

/// Answers are told apart by the class of their status: 1xx to 5xx.
const CLASSES: usize = 5;

/// Counters of the API. Only the control thread writes them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answers: [AtomicU64; CLASSES],
    pub(crate) connections: Live,
    /// Connections that were closed at once: their source had as many as it may.
    pub(crate) connections_refused: Count,
    /// Attempts that were refused because of a missing or wrong token, or a role.
    pub(crate) unauthorized: Count,
}

/// Something that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

/// How many there are of something at the moment.
#[derive(Debug, Default)]
pub(crate) struct Live(AtomicU64);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct OneOf<'a>(&'a Live);

impl Tally {
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(count) = self.answers.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers by class: `1xx` and so on.
    pub(crate) fn answers(&self) -> [(&'static str, u64); CLASSES] {
        let [a, b, c, d, e] = &self.answers;
        [("1xx", a), ("2xx", b), ("3xx", c), ("4xx", d), ("5xx", e)]
            .map(|(class, count)| (class, count.load(Ordering::Relaxed)))
    }
}

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Live {
    pub(crate) fn enter(&self) -> OneOf<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        OneOf(self)
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for OneOf<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
