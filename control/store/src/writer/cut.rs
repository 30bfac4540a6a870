//! Open bytes into rows.
//!
//! A row is stamped with the time of the last sample that counted any of it, and everything that
//! is counted after it gets a later time. So the rows up to a time never change once there are
//! rows of that time, and who asks for everything after the last time that was answered misses
//! nothing and gets nothing twice.

use rusqlite::{Connection, Transaction};

use crate::number::{amount, from_amount};

/// How far the accounts have come. Open bytes were counted after `cut`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// The time of the last sample.
    pub(super) sampled: u64,
    /// The time of the youngest rows.
    pub(super) cut: u64,
}

impl Clock {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT sampled, cut FROM clock";
        connection.query_row(sql, [], |row| {
            Ok(Self {
                sampled: from_amount(row.get(0)?),
                cut: from_amount(row.get(1)?),
            })
        })
    }

    pub(super) fn write(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction
            .prepare_cached("UPDATE clock SET sampled = ?, cut = ?")?
            .execute((amount(self.sampled), amount(self.cut)))?;
        Ok(())
    }

    /// Moves on to a sample: never back, and always past the rows that may have been shown. A
    /// second that was cut already ends in the next one.
    pub(super) fn sample(&mut self, time: u64) {
        self.sampled = time
            .max(self.sampled)
            .max(self.cut.saturating_add(1))
            .min(from_amount(i64::MAX));
    }

    pub(super) fn has_open_bytes(self) -> bool {
        self.sampled > self.cut
    }
}

/// Cuts if the time for rows has come, or if a question reaches as far as the last sample.
pub(super) fn cut_if_due(
    transaction: &Transaction<'_>,
    clock: &mut Clock,
    row_interval: u64,
    asked: Option<u64>,
) -> rusqlite::Result<()> {
    let due = clock.sampled.saturating_sub(clock.cut) >= row_interval;
    let wanted = asked.is_some_and(|until| until >= clock.sampled);
    if clock.has_open_bytes() && (due || wanted) {
        cut(transaction, clock.sampled)?;
        clock.cut = clock.sampled;
        clock.write(transaction)?;
    }
    Ok(())
}

fn cut(transaction: &Transaction<'_>, time: u64) -> rusqlite::Result<()> {
    let time = [amount(time)];
    for sql in [PEER_ROWS, RELAY_ROWS] {
        transaction.prepare_cached(sql)?.execute(time)?;
    }
    for sql in [CLOSE_PEERS, CLOSE_RELAYS] {
        transaction.prepare_cached(sql)?.execute([])?;
    }
    Ok(())
}

const PEER_ROWS: &str = "INSERT INTO peer_rows (time, peer, rx, tx, raw_rx, raw_tx)
    SELECT ?, id, total_rx - rowed_rx, total_tx - rowed_tx, raw_rx, raw_tx FROM peers
    WHERE total_rx <> rowed_rx OR total_tx <> rowed_tx";

const CLOSE_PEERS: &str = "UPDATE peers SET rowed_rx = total_rx, rowed_tx = total_tx
    WHERE total_rx <> rowed_rx OR total_tx <> rowed_tx";

const RELAY_ROWS: &str = "INSERT INTO relay_rows (time, relay, bytes_in, bytes_out, connections)
    SELECT ?, id, total_in - rowed_in, total_out - rowed_out,
        total_connections - rowed_connections
    FROM relays WHERE total_in <> rowed_in OR total_out <> rowed_out
        OR total_connections <> rowed_connections";

const CLOSE_RELAYS: &str = "UPDATE relays SET rowed_in = total_in, rowed_out = total_out,
        rowed_connections = total_connections
    WHERE total_in <> rowed_in OR total_out <> rowed_out
        OR total_connections <> rowed_connections";
