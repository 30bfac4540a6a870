//! Open bytes into rows.
//!
//! A row is stamped with the time of the last sample that counted any of it, and everything that
//! is counted after it gets a later time. So the rows up to a time never change once there are
//! rows of that time, and who asks for everything after the last time that was answered misses
//! nothing and gets nothing twice. Open bytes are told as the row that they become, and become it before
//! anything is added to them ([`crate::frontier`]).

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

    /// Whether the time for rows has come.
    pub(super) fn is_due(self, now: u64, row_interval: u64) -> bool {
        self.has_open_bytes() && now.saturating_sub(self.cut) > row_interval
    }

    /// The times of the last sample and of the youngest rows.
    pub(super) fn times(self) -> (u64, u64) {
        (self.sampled, self.cut)
    }

    /// Makes rows of all open bytes.
    pub(super) fn cut(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let time = [amount(self.sampled)];
        for sql in [PEER_ROWS, RELAY_ROWS] {
            transaction.prepare_cached(sql)?.execute(time)?;
        }
        for sql in [CLOSE_PEERS, CLOSE_RELAYS] {
            transaction.prepare_cached(sql)?.execute([])?;
        }
        self.cut = self.sampled;
        self.write(transaction)
    }

    fn has_open_bytes(self) -> bool {
        self.sampled > self.cut
    }
}

/// The times of the last sample and of the youngest rows in a file.
pub(crate) fn clock_of(connection: &Connection) -> rusqlite::Result<(u64, u64)> {
    Clock::read(connection).map(Clock::times)
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

#[cfg(test)]
mod tests;
