//! How far answers tell what is no row yet.
//!
//! What was counted since the last rows is told as the row that it becomes: with the time of the last
//! sample. Once it was told, nothing more may come into that row. So whoever tells it says so here first,
//! and the writer makes it a row before it adds anything to it. A question writes nothing for that, and
//! waits for no write: where a write is just about to add something, the question looks again.

use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Frontier(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The time of the last sample in the file, which what is open has.
    sampled: u64,
    /// The time of the youngest rows in the file.
    cut: u64,
    /// Whether what is open was told, or may have been by an earlier process.
    is_told: bool,
    /// Whether a write that may be in the file at any moment adds to what is open.
    is_growing: bool,
    /// How often a write began or ended.
    turns: u64,
}

/// A moment between two writes, or in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Turn(u64);

/// How far an answer reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The time at which what is open is told, if it is.
    pub(crate) open: Option<u64>,
    /// Nothing that comes later will have a time up to this one.
    pub(crate) complete: u64,
}

impl Frontier {
    /// That of a file with these times.
    pub(crate) fn new(sampled: u64, cut: u64) -> Self {
        Self(Mutex::new(State {
            sampled,
            cut,
            is_told: true,
            is_growing: false,
            turns: 0,
        }))
    }

    /// Begins a write that adds something, or only may cut. Whether it makes rows of what is open first;
    /// `is_due` has it do so anyway.
    pub(crate) fn begin(&self, adds: bool, is_due: bool) -> bool {
        let mut state = self.lock();
        state.turns += 1;
        let is_open = state.sampled > state.cut;
        let cuts = is_open && (is_due || adds && state.is_told);
        state.is_growing = adds && is_open && !cuts;
        cuts
    }

    /// Ends the write: the file has these times, or is as it was.
    pub(crate) fn end(&self, written: Option<(u64, u64)>) {
        let mut state = self.lock();
        state.turns += 1;
        state.is_growing = false;
        let Some((sampled, cut)) = written else {
            return;
        };
        // What is open now came later than what was told.
        if (sampled, cut) != (state.sampled, state.cut) {
            state.is_told = false;
        }
        (state.sampled, state.cut) = (sampled, cut);
    }

    /// To be asked for before a look at the file: a write that begins or ends after it may have what is
    /// open be something else than what is seen, at the same times.
    pub(crate) fn turn(&self) -> Turn {
        Turn(self.lock().turns)
    }

    /// How far an answer about what was counted after `since` and up to `until` reaches in a file that had
    /// these times when it was looked at, at that turn. `None` where the file went on meanwhile: it is to be
    /// looked at again, unless `is_last` has the answer end with the rows.
    pub(crate) fn reach(
        &self,
        turn: Turn,
        (sampled, cut): (u64, u64),
        (since, until): (u64, u64),
        is_last: bool,
    ) -> Option<Reach> {
        let is_asked_for = sampled > cut && since < sampled && sampled <= until;
        let (open, complete) = match is_asked_for {
            true if self.tell(turn, sampled) => (Some(sampled), sampled),
            true if is_last => (None, cut),
            true => return None,
            // Rows to come are of that time at the earliest.
            false if until < sampled => (None, until),
            false => (None, sampled),
        };
        let complete = complete.max(since);
        Some(Reach { open, complete })
    }

    /// Whether what is open can be told as the row of a time.
    fn tell(&self, turn: Turn, time: u64) -> bool {
        let mut state = self.lock();
        let is_as_seen = Turn(state.turns) == turn && time == state.sampled;
        let can_be_told = is_as_seen && !state.is_growing;
        state.is_told |= can_be_told;
        can_be_told
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: (u64, u64) = (0, u64::MAX);

    /// That of a look at this very moment.
    fn reach(
        frontier: &Frontier,
        times: (u64, u64),
        span: (u64, u64),
        is_last: bool,
    ) -> Option<Reach> {
        frontier.reach(frontier.turn(), times, span, is_last)
    }

    fn told(sampled: u64) -> Option<Reach> {
        Some(Reach {
            open: Some(sampled),
            complete: sampled,
        })
    }

    /// With bytes open since 90 that nobody was told of.
    fn open() -> Frontier {
        let frontier = Frontier::new(80, 80);
        assert!(!frontier.begin(true, false));
        frontier.end(Some((100, 80)));
        frontier
    }

    #[test]
    fn what_was_told_becomes_a_row_before_anything_is_added() {
        let frontier = open();
        assert_eq!(reach(&frontier, (100, 80), ALL, false), told(100));
        assert!(frontier.begin(true, false));
        // The file as it is before that write is in it.
        let before = frontier.turn();
        assert_eq!(reach(&frontier, (100, 80), ALL, false), told(100));
        frontier.end(Some((110, 100)));
        assert_eq!(frontier.reach(before, (100, 80), ALL, false), None);
        assert_eq!(reach(&frontier, (110, 100), ALL, false), told(110));
        assert!(frontier.begin(true, false));
    }

    #[test]
    fn nothing_is_told_that_a_write_is_adding_to() {
        let frontier = open();
        assert!(!frontier.begin(true, false));
        assert_eq!(reach(&frontier, (100, 80), ALL, false), None);
        let rows = Reach {
            open: None,
            complete: 80,
        };
        assert_eq!(reach(&frontier, (100, 80), ALL, true), Some(rows));
        // In the file, and not said yet.
        assert_eq!(reach(&frontier, (110, 80), ALL, false), None);
        frontier.end(Some((110, 80)));
        assert_eq!(reach(&frontier, (100, 80), ALL, false), None, "it grew");
        assert_eq!(reach(&frontier, (110, 80), ALL, false), told(110));
    }

    #[test]
    fn what_could_not_be_written_leaves_it_told() {
        let frontier = open();
        assert_eq!(reach(&frontier, (100, 80), ALL, false), told(100));
        assert!(frontier.begin(true, false));
        frontier.end(None);
        assert!(frontier.begin(true, false));
    }

    #[test]
    fn an_earlier_process_may_have_told_what_is_open() {
        let frontier = Frontier::new(100, 80);
        // Answers alone add nothing to it.
        assert!(!frontier.begin(false, false));
        frontier.end(Some((100, 80)));
        assert!(frontier.begin(true, false));
        frontier.end(Some((110, 100)));
        assert!(!frontier.begin(true, false));
        frontier.end(Some((120, 100)));
        assert!(frontier.begin(false, true), "it is due");
    }

    #[test]
    fn an_answer_is_complete_up_to_where_it_was_asked_or_the_last_sample() {
        let frontier = open();
        let complete = |since, until| {
            let reach = reach(&frontier, (100, 80), (since, until), false);
            reach.map(|reach| (reach.open.is_some(), reach.complete))
        };
        assert_eq!(complete(0, 99), Some((false, 99)));
        assert_eq!(complete(0, 100), Some((true, 100)));
        assert_eq!(complete(100, u64::MAX), Some((false, 100)));
        assert_eq!(complete(105, u64::MAX), Some((false, 105)));
        let frontier = Frontier::new(80, 80);
        let reach = reach(&frontier, (80, 80), ALL, false);
        let complete = Reach {
            open: None,
            complete: 80,
        };
        assert_eq!(reach, Some(complete));
    }

    #[test]
    fn a_look_from_before_a_write_tells_nothing_that_is_open_whatever_the_times() {
        let frontier = open();
        let look = frontier.turn();
        // More in the same second, which nobody was told of: it is part of the row to come.
        assert!(!frontier.begin(true, false));
        assert_eq!(frontier.reach(look, (100, 80), ALL, false), None);
        frontier.end(Some((100, 80)));
        assert_eq!(frontier.reach(look, (100, 80), ALL, false), None);
        assert_eq!(reach(&frontier, (100, 80), ALL, false), told(100));
        // Two writes later the row has another time than was seen.
        let frontier = open();
        let look = frontier.turn();
        assert!(!frontier.begin(true, false));
        frontier.end(Some((110, 80)));
        assert!(frontier.begin(false, true));
        frontier.end(Some((110, 110)));
        assert_eq!(frontier.reach(look, (100, 80), ALL, false), None);
    }
}
