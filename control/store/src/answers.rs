//! Where pollers are.
//!
//! A poller asks for everything after the `stop_time` of its last answer. Were rows merged across
//! that time, no answer could be right: it could neither include the merged row nor leave it out.
//! So answers are remembered, from `since` to `stop_time`, and rows are merged on either side of
//! these times only. An answer is followed when a question begins where it stopped: the poller has
//! it, and it is soon forgotten. Until then it may have been lost on the way, and its question may
//! come again. So a poller gets every byte once, however long it stays away.
//!
//! Of several answers that stopped at one time, it cannot be told which one was followed. If it was
//! not the one that is taken for it, that poller's question comes again: so the last of the followed
//! ones are kept until it had time to.
//!
//! Between the last time in an answer and the one up to which it is complete there is nothing that it was
//! asked for, so that a poller may go on from either, and rows are kept apart at the first.
//!
//! Questions that nobody follows up are remembered like others, and memory is bounded: first to go
//! are the oldest of those that did not follow up an answer themselves. Who comes back to a
//! forgotten time may miss, or get twice, what rows merged across it tell: of a row interval, or of
//! an hour after a day.

use rusqlite::{OptionalExtension as _, Transaction};

use crate::{
    ledger::{Answers, Told},
    number::amount,
};

/// More than anyone polls with; the times of each may cost two more rows for each peer.
const ANSWERS_MAX: i64 = 4096;

/// Followed answers that are kept: for each of as many pollers as stop at one time, some questions.
const FOLLOWED_MAX: i64 = 64;

/// How often the same answer is remembered: for so many pollers in step.
const COPIES_MAX: u32 = 4;

/// Remembers answers.
pub(crate) fn note(transaction: &Transaction<'_>, answers: &Answers) -> rusqlite::Result<()> {
    for (told, &times) in answers {
        for _ in 0..times.min(COPIES_MAX) {
            note_one(transaction, *told)?;
        }
    }
    if !answers.is_empty() {
        let sql = "DELETE FROM answers WHERE id IN (
                SELECT id FROM answers ORDER BY proven, id
                LIMIT max(0, (SELECT count(*) FROM answers) - ?))";
        transaction.prepare_cached(sql)?.execute([ANSWERS_MAX])?;
        let sql = "DELETE FROM answers WHERE followed > 0
            AND followed <= (SELECT max(followed) FROM answers WHERE followed > 0) - ?";
        transaction.prepare_cached(sql)?.execute([FOLLOWED_MAX])?;
    }
    Ok(())
}

fn note_one(transaction: &Transaction<'_>, told: Told) -> rusqlite::Result<()> {
    let Told { since, stop, next } = told;
    let since = amount(since);
    // Of two pollers that stopped at the same time, one went on. It may go by either end.
    let sql = "SELECT id FROM answers WHERE (stop = ?1 OR next = ?1) AND followed = 0
        ORDER BY id LIMIT 1";
    let followed: Option<i64> = transaction
        .prepare_cached(sql)?
        .query_row([since], |row| row.get(0))
        .optional()?;
    if let Some(id) = followed {
        let sql = "UPDATE answers SET followed =
                1 + (SELECT ifnull(max(followed), 0) FROM answers WHERE followed > 0)
            WHERE id = ?";
        transaction.prepare_cached(sql)?.execute([id])?;
    }
    // The first question of a poller asks for everything.
    let proven = followed.is_some() || since == 0;
    transaction
        .prepare_cached("INSERT INTO answers (since, stop, next, proven) VALUES (?, ?, ?, ?)")?
        .execute((since, amount(stop), amount(next), proven))?;
    Ok(())
}

/// The times after `start` and before `end` that rows are not merged across, in order.
pub(crate) fn between(
    transaction: &Transaction<'_>,
    start: i64,
    end: i64,
) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT since AS time FROM answers WHERE since > ?1 AND since < ?2
        UNION SELECT stop FROM answers WHERE stop > ?1 AND stop < ?2 ORDER BY time";
    transaction
        .prepare_cached(sql)?
        .query_map((start, end), |row| row.get(0))?
        .collect()
}

#[cfg(test)]
mod tests;
