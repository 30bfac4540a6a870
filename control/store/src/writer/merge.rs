//! Old rows become fewer.
//!
//! Rows from the start of an hour, which is not in it, to its end, which is, become one row: with
//! their sum and the time of the last of them, so never on the other side of a time that somebody
//! was answered up to. Hours become days, and days months. The first level takes back what
//! is cut finer after questions than the row interval.
//!
//! The work is done in small steps, each a transaction that leaves the accounts right, so that
//! commits need not wait for the end of it. An hour of 10,000 busy peers takes 0.7 s in all; of its
//! steps, the longest, which lists whose rows there are, takes 0.1 s, and most take 5 ms.

use std::collections::VecDeque;

use rusqlite::{OptionalExtension as _, Transaction};

use crate::{Retention, answers, number::amount};

mod peers;
mod routes;

const HOUR_SECONDS: u64 = 3600;
const DAY_SECONDS: u64 = 24 * HOUR_SECONDS;
const MONTH_SECONDS: u64 = 30 * DAY_SECONDS;

/// For how many row intervals rows stay as finely as they were told.
const FRESH_INTERVALS: u64 = 10;

/// Peers that are merged in one step: of 60 rows an hour each, some milliseconds.
const PEERS_PER_STEP: usize = 64;

/// Unused pages that the file may keep for rows to come, 4 KiB each.
const UNUSED_PAGES_MAX: i64 = 4096;

/// Pages that are given back in one step.
const PAGES_PER_STEP: u32 = 256;

/// What is being merged.
#[derive(Debug, Default)]
pub(super) struct Merges {
    /// The time of the last sample.
    now: u64,
    /// When there was last looked for something to do.
    wound: u64,
    due: bool,
    task: Option<Task>,
}

/// How coarse rows are from which age on.
#[derive(Clone, Copy, Debug)]
struct Level {
    id: i64,
    age: u64,
    width: u64,
    /// Clients of a route that are told apart.
    clients_max: usize,
}

/// One hour, or whatever a level has, being merged.
#[derive(Debug)]
struct Task {
    level: Level,
    end: i64,
    /// Its parts between the times that people were answered up to.
    parts: VecDeque<Part>,
    /// What there is to merge in the first of them.
    owners: Option<Owners>,
}

/// After `start`, up to `end`.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: i64,
    end: i64,
}

/// Whose rows there are in a part.
#[derive(Debug)]
struct Owners {
    /// Peers with several rows.
    peers: Vec<i64>,
    /// The relays of each route.
    routes: Vec<Vec<i64>>,
}

impl Merges {
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// Time has come to `now`: looks for something to do once a row interval.
    pub(super) fn wind(&mut self, now: u64, retention: &Retention) {
        self.now = now;
        if now.saturating_sub(self.wound) >= row_interval(retention) {
            self.wound = now;
            self.due = true;
        }
    }

    /// Something failed: begins afresh when wound up again.
    pub(super) fn rest(&mut self) {
        self.task = None;
        self.due = false;
    }

    /// Does some milliseconds of what is due.
    pub(super) fn step(
        &mut self,
        transaction: &Transaction<'_>,
        retention: &Retention,
    ) -> rusqlite::Result<()> {
        let task = match self.task.take() {
            Some(task) => Some(task),
            None => self.next_task(transaction, retention)?,
        };
        match task {
            Some(task) => self.task = task.step(transaction)?,
            None => self.due = give_back(transaction)?,
        }
        Ok(())
    }

    fn next_task(
        &self,
        transaction: &Transaction<'_>,
        retention: &Retention,
    ) -> rusqlite::Result<Option<Task>> {
        for level in levels(retention) {
            let Some(first) = first_unmerged(transaction, level)? else {
                continue;
            };
            let width = amount(level.width);
            let start = (first - 1) / width * width;
            let end = start.saturating_add(width);
            if end <= amount(self.now.saturating_sub(level.age)) {
                return Task::new(transaction, level, Part { start, end }).map(Some);
            }
        }
        Ok(None)
    }
}

impl Task {
    fn new(transaction: &Transaction<'_>, level: Level, whole: Part) -> rusqlite::Result<Self> {
        let mut parts = VecDeque::new();
        let mut start = whole.start;
        let ends = answers::between(transaction, whole.start, whole.end)?;
        for end in ends.into_iter().chain([whole.end]) {
            parts.push_back(Part { start, end });
            start = end;
        }
        Ok(Self {
            level,
            end: whole.end,
            parts,
            owners: None,
        })
    }

    /// What remains to be done afterwards.
    fn step(mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<Self>> {
        let Some(part) = self.parts.front().copied() else {
            finish(transaction, self.level, self.end)?;
            return Ok(None);
        };
        match &mut self.owners {
            None => {
                self.owners = Some(Owners {
                    peers: peers::with_several_rows(transaction, part)?,
                    routes: routes::with_rows(transaction, part)?,
                });
            }
            Some(owners) => {
                if !owners.step(transaction, self.level, part)? {
                    self.owners = None;
                    self.parts.pop_front();
                }
            }
        }
        Ok(Some(self))
    }
}

impl Owners {
    /// False if there was nothing left to do.
    fn step(
        &mut self,
        transaction: &Transaction<'_>,
        level: Level,
        part: Part,
    ) -> rusqlite::Result<bool> {
        if !self.peers.is_empty() {
            let rest = self.peers.len().saturating_sub(PEERS_PER_STEP);
            for peer in self.peers.drain(rest..) {
                peers::merge(transaction, peer, part)?;
            }
            return Ok(true);
        }
        match self.routes.pop() {
            Some(relays) => {
                routes::merge(transaction, relays, part, level.clients_max)?;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

fn levels(retention: &Retention) -> [Level; 4] {
    let row_interval = row_interval(retention);
    let level = |id, age, width, clients_max| Level {
        id,
        age,
        width,
        clients_max,
    };
    let fresh = row_interval.saturating_mul(FRESH_INTERVALS);
    let clients_max = retention.clients_max;
    [
        level(0, fresh, row_interval, usize::MAX),
        level(1, retention.fine.as_secs(), HOUR_SECONDS, clients_max),
        level(2, retention.hours.as_secs(), DAY_SECONDS, clients_max),
        level(3, retention.days.as_secs(), MONTH_SECONDS, 0),
    ]
}

fn row_interval(retention: &Retention) -> u64 {
    retention.row_interval.as_secs().max(1)
}

fn first_unmerged(transaction: &Transaction<'_>, level: Level) -> rusqlite::Result<Option<i64>> {
    let done: Option<i64> = transaction
        .prepare_cached("SELECT done FROM merges WHERE level = ?")?
        .query_row([level.id], |row| row.get(0))
        .optional()?;
    let sql = "SELECT min(time) FROM (
        SELECT min(time) AS time FROM peer_rows WHERE time > ?1
        UNION ALL SELECT min(time) FROM relay_rows WHERE time > ?1)";
    transaction
        .prepare_cached(sql)?
        .query_row([done.unwrap_or(0)], |row| row.get(0))
}

fn finish(transaction: &Transaction<'_>, level: Level, end: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO merges (level, done) VALUES (?, ?)
        ON CONFLICT (level) DO UPDATE SET done = excluded.done";
    transaction.prepare_cached(sql)?.execute((level.id, end))?;
    Ok(())
}

/// Makes the file shorter if much of it is unused. True if there may be more to give back.
fn give_back(transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
    let count = |pragma| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let unused = count("freelist_count")?;
    // A quarter of the file is what merging a day may need again tomorrow.
    if unused <= UNUSED_PAGES_MAX || unused <= count("page_count")? / 4 {
        return Ok(false);
    }
    transaction.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})"))?;
    Ok(count("freelist_count")? < unused)
}

#[cfg(test)]
mod tests;
