//! Rows of peers.

use rusqlite::Transaction;

use super::Part;

/// The peers that have more than one row in a part.
pub(super) fn with_several_rows(
    transaction: &Transaction<'_>,
    part: Part,
) -> rusqlite::Result<Vec<i64>> {
    let sql = "SELECT peer FROM peer_rows WHERE time > ? AND time <= ?
        GROUP BY peer HAVING count(*) > 1";
    transaction
        .prepare_cached(sql)?
        .query_map((part.start, part.end), |row| row.get(0))?
        .collect()
}

/// Makes a peer's rows in a part one: the last of them, which keeps its raw counters.
pub(super) fn merge(transaction: &Transaction<'_>, peer: i64, part: Part) -> rusqlite::Result<()> {
    let sql = "SELECT max(time), sum(rx), sum(tx) FROM peer_rows INDEXED BY peer_rows_by_peer
        WHERE peer = ? AND time > ? AND time <= ?";
    let (last, rx, tx): (i64, i64, i64) = transaction
        .prepare_cached(sql)?
        .query_row((peer, part.start, part.end), |row| row.try_into())?;
    transaction
        .prepare_cached(
            "DELETE FROM peer_rows INDEXED BY peer_rows_by_peer
            WHERE peer = ? AND time > ? AND time < ?",
        )?
        .execute((peer, part.start, last))?;
    transaction
        .prepare_cached("UPDATE peer_rows SET rx = ?, tx = ? WHERE time = ? AND peer = ?")?
        .execute((rx, tx, last, peer))?;
    Ok(())
}
