//! What becomes of the accounts when the machine's clock turns out to have been ahead.
//!
//! A clock that goes back a little stands still here until time has caught up. One that was ahead by
//! more would keep rows from being cut until that time comes: what it stamped is brought back to the
//! present instead, and a new epoch begins.

use std::time::{Duration, Instant};

use rusqlite::Transaction;

use super::cut::Clock;
use crate::{
    ledger::{Answers, BACK_MAX},
    number::amount,
};

/// How much faster than time itself merging follows a clock that jumps ahead. A gateway that was off
/// for three months has caught up within two days; one whose clock was ahead for ten minutes by
/// years has merged no more than ten hours too early.
const CATCH_UP: u32 = 60;

/// The time that merging goes by: it throws away what nothing brings back.
#[derive(Debug)]
pub(super) struct Pace {
    time: u64,
    at: Instant,
}

impl Pace {
    /// Goes on from the last sample that was saved.
    pub(super) fn from(clock: Clock) -> Self {
        Self {
            time: clock.sampled,
            at: Instant::now(),
        }
    }

    /// How much of a clock's time is believed.
    pub(super) fn follow(&mut self, time: u64) -> u64 {
        let now = Instant::now();
        let passed = now.saturating_duration_since(self.at);
        // Less than that is kept for the next time.
        if passed >= Duration::from_secs(1) {
            self.at = now;
            let most = passed.saturating_mul(CATCH_UP).as_secs();
            self.time = time.min(self.time.saturating_add(most));
        }
        self.time = self.time.min(time);
        self.time
    }

    /// Believes it all: the tests' time does not pass.
    #[cfg(test)]
    pub(super) fn jump(&mut self, time: u64) {
        self.time = time;
    }
}

impl Clock {
    /// Whether it was ahead of a time that a sample has now.
    pub(super) fn was_ahead_of(self, now: u64) -> bool {
        now.saturating_add(BACK_MAX) < self.sampled
    }

    /// Brings everything that has a later time back to now, and goes on from there. Rows that a poller
    /// was answered with, and those that none was, stay apart.
    pub(super) fn begin_anew(
        &mut self,
        transaction: &Transaction<'_>,
        now: u64,
        answers: &Answers,
    ) -> rusqlite::Result<()> {
        if self.has_open_bytes() {
            self.cut(transaction)?;
        }
        let time = amount(now);
        let shown = "SELECT coalesce(max(stop), 0) FROM answers";
        let shown: i64 = transaction.query_row(shown, [], |row| row.get(0))?;
        // Those of late are not written yet.
        let late = answers.keys().map(|(_, stop)| amount(*stop)).max();
        let shown = late.map_or(shown, |late| shown.max(late));
        for sql in [PEERS_AHEAD, RELAYS_AHEAD] {
            transaction.execute(sql, (time, shown))?;
        }
        for table in ["peer_rows", "relay_rows"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE time > ?"), [time])?;
        }
        transaction.execute_batch(PUT_BACK)?;
        let sql = "UPDATE answers SET since = min(since, ?1), stop = ?1 WHERE stop > ?1";
        transaction.execute(sql, [time])?;
        transaction.execute("UPDATE merges SET done = min(done, ?)", [time])?;
        transaction.execute("UPDATE clock SET begun = ?", [time])?;
        self.sampled = now.saturating_add(1);
        self.cut = self.sampled;
        self.write(transaction)
    }
}

const PEERS_AHEAD: &str = "CREATE TEMP TABLE peers_ahead AS
    SELECT ?1 + (time > ?2) AS time, peer, sum(rx) AS rx, sum(tx) AS tx, raw_rx, raw_tx,
        max(time) AS last
    FROM peer_rows WHERE time > ?1 GROUP BY 1, peer";

const RELAYS_AHEAD: &str = "CREATE TEMP TABLE relays_ahead AS
    SELECT ?1 + (time > ?2) AS time, relay, sum(bytes_in) AS bytes_in,
        sum(bytes_out) AS bytes_out, sum(connections) AS connections
    FROM relay_rows WHERE time > ?1 GROUP BY 1, relay";

const PUT_BACK: &str = "
    INSERT INTO peer_rows (time, peer, rx, tx, raw_rx, raw_tx)
        SELECT time, peer, rx, tx, raw_rx, raw_tx FROM peers_ahead WHERE true
        ON CONFLICT DO UPDATE SET rx = rx + excluded.rx, tx = tx + excluded.tx,
            raw_rx = excluded.raw_rx, raw_tx = excluded.raw_tx;
    INSERT INTO relay_rows (time, relay, bytes_in, bytes_out, connections)
        SELECT time, relay, bytes_in, bytes_out, connections FROM relays_ahead WHERE true
        ON CONFLICT DO UPDATE SET bytes_in = bytes_in + excluded.bytes_in,
            bytes_out = bytes_out + excluded.bytes_out,
            connections = connections + excluded.connections;
    DROP TABLE peers_ahead;
    DROP TABLE relays_ahead;";

#[cfg(test)]
mod tests {
    use crate::lab::{Lab, key, peer, peers, raw, relay, relays};
    use crate::number::amount;

    const NOW: u64 = 1_800_000_000;
    const AHEAD: u64 = NOW + 400 * 86_400;

    #[test]
    fn a_clock_that_was_ahead_stops_no_row_and_loses_no_byte() {
        let lab = Lab::new();
        let bring = |time, bytes| {
            lab.store
                .record_sample(&peers(time, &[peer(1, raw(1, bytes, 0))]));
        };
        let heard = |since| {
            let answer = lab.traffic_since(since);
            let rows = answer.networks.values().flat_map(|it| it.devices.values());
            let rows = rows.flat_map(|device| device.times.values());
            (answer.stop_time, rows.map(|row| row.rx).sum::<u64>())
        };
        bring(NOW, 100);
        assert_eq!(heard(0), (NOW, 100));
        bring(AHEAD, 130);
        let (stop, bytes) = heard(NOW);
        assert_eq!((stop, bytes), (AHEAD, 30));
        bring(AHEAD + 10, 150);
        // The clock is right again.
        bring(NOW + 60, 170);
        bring(NOW + 61, 200);
        let (stop, bytes) = heard(stop);
        assert!((NOW + 60..NOW + 100).contains(&stop), "{stop}");
        assert_eq!(bytes, 70, "what came after the last answer");
        assert_eq!(heard(0).1, 200, "all of it");
        bring(NOW + 400, 210);
        assert_eq!(heard(stop), (NOW + 400, 10));
        assert_eq!(lab.total(key(1)).rx, 210);
    }

    #[test]
    fn what_was_relayed_comes_back_too() {
        let lab = Lab::new();
        for time in [NOW, AHEAD, AHEAD + 100, NOW + 60, NOW + 61] {
            let sample = relays(time, &[relay("a.example", "192.0.2.1", 10, 0)]);
            lab.store.record_sample(&sample);
            lab.traffic_since(u64::MAX);
        }
        let last = "SELECT max(time), sum(bytes_in) FROM relay_rows";
        let last = lab
            .connection()
            .query_row(last, [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (time, bytes): (i64, i64) = last.unwrap();
        assert!(time < amount(NOW + 100), "{time}");
        assert_eq!(bytes, 50);
    }
}
