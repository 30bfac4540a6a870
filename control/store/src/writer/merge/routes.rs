//! Rows of relays, a route at a time, because a route's clients compete for being told apart.

use std::cmp::Reverse;

use rusqlite::Transaction;

use super::Part;

/// The relays that have rows in a part, by route.
pub(super) fn with_rows(
    transaction: &Transaction<'_>,
    part: Part,
) -> rusqlite::Result<Vec<Vec<i64>>> {
    let sql = "SELECT o.id, o.network, o.route FROM (
            SELECT DISTINCT relay FROM relay_rows WHERE time > ? AND time <= ?) AS r
        JOIN relays AS o ON o.id = r.relay ORDER BY o.network, o.route";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query((part.start, part.end))?;
    let mut routes: Vec<Vec<i64>> = Vec::new();
    let mut current = None;
    while let Some(row) = rows.next()? {
        let route: (i64, String) = (row.get(1)?, row.get(2)?);
        if current.as_ref() != Some(&route) {
            routes.push(Vec::new());
            current = Some(route);
        }
        if let Some(relays) = routes.last_mut() {
            relays.push(row.get(0)?);
        }
    }
    Ok(routes)
}

/// Makes each relay's rows in a part one, and those of all but the largest clients the rows of
/// "all the others".
pub(super) fn merge(
    transaction: &Transaction<'_>,
    relays: Vec<i64>,
    part: Part,
    clients_max: usize,
) -> rusqlite::Result<()> {
    let mut kept = Vec::new();
    let mut clients = Vec::new();
    for relay in relays {
        match bytes_of_client(transaction, relay, part)? {
            Some(bytes) => clients.push((Reverse(bytes), relay)),
            None => kept.push(relay),
        }
    }
    clients.sort_unstable();
    let smallest = clients.split_off(clients_max.min(clients.len()));
    kept.extend(clients.into_iter().map(|(_, relay)| relay));
    for (_, relay) in smallest {
        let others = others(transaction, relay)?;
        hand_over(transaction, relay, others, part)?;
        fold(transaction, relay, others)?;
        if !kept.contains(&others) {
            kept.push(others);
        }
    }
    for relay in kept {
        unite(transaction, relay, part)?;
    }
    Ok(())
}

/// A client's bytes in a part, for ranking; none, if the relay stands for all the others.
fn bytes_of_client(
    transaction: &Transaction<'_>,
    relay: i64,
    part: Part,
) -> rusqlite::Result<Option<i64>> {
    // Halves, because two sums of 63 bits may not fit into 63 bits.
    let sql = "SELECT client <> x'', (
            SELECT ifnull(sum(bytes_in) / 2 + sum(bytes_out) / 2, 0)
            FROM relay_rows INDEXED BY relay_rows_by_relay
            WHERE relay = ?1 AND time > ?2 AND time <= ?3)
        FROM relays WHERE id = ?1";
    let (is_client, bytes): (bool, i64) = transaction
        .prepare_cached(sql)?
        .query_row((relay, part.start, part.end), |row| row.try_into())?;
    Ok(is_client.then_some(bytes))
}

/// The relay that stands for all the others of a client's route, to the same peer.
fn others(transaction: &Transaction<'_>, relay: i64) -> rusqlite::Result<i64> {
    let sql = "INSERT INTO relays
            (network, route, client, peer, total_in, total_out, total_connections)
        SELECT network, route, x'', peer, 0, 0, 0 FROM relays WHERE id = ?
        ON CONFLICT DO UPDATE SET client = x'' RETURNING id";
    transaction
        .prepare_cached(sql)?
        .query_row([relay], |row| row.get(0))
}

/// Adds a relay's rows to another one's.
fn hand_over(
    transaction: &Transaction<'_>,
    from: i64,
    to: i64,
    part: Part,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO relay_rows (time, relay, bytes_in, bytes_out, connections)
        SELECT time, ?, bytes_in, bytes_out, connections
        FROM relay_rows INDEXED BY relay_rows_by_relay
        WHERE relay = ? AND time > ? AND time <= ?
        ON CONFLICT DO UPDATE SET bytes_in = bytes_in + excluded.bytes_in,
            bytes_out = bytes_out + excluded.bytes_out,
            connections = connections + excluded.connections";
    transaction
        .prepare_cached(sql)?
        .execute((to, from, part.start, part.end))?;
    let sql = "DELETE FROM relay_rows INDEXED BY relay_rows_by_relay
        WHERE relay = ? AND time > ? AND time <= ?";
    transaction
        .prepare_cached(sql)?
        .execute((from, part.start, part.end))?;
    Ok(())
}

/// A client without rows, and without open bytes, is forgotten; what it had in total, the others
/// have.
fn fold(transaction: &Transaction<'_>, relay: i64, others: i64) -> rusqlite::Result<()> {
    let sql = "SELECT total_in, total_out, total_connections FROM relays WHERE id = ?
            AND total_in = rowed_in AND total_out = rowed_out
            AND total_connections = rowed_connections
            AND NOT EXISTS (SELECT 1 FROM relay_rows WHERE relay = relays.id)";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query([relay])?;
    let Some(row) = rows.next()? else {
        return Ok(());
    };
    let total: (i64, i64, i64) = row.try_into()?;
    // In the order of the question marks: what a total gains, `rowed` gains.
    let sql = "UPDATE relays SET
            total_in = total_in + ?1, rowed_in = rowed_in + ?1,
            total_out = total_out + ?2, rowed_out = rowed_out + ?2,
            total_connections = total_connections + ?3,
            rowed_connections = rowed_connections + ?3
        WHERE id = ?4";
    transaction
        .prepare_cached(sql)?
        .execute((total.0, total.1, total.2, others))?;
    transaction
        .prepare_cached("DELETE FROM relays WHERE id = ?")?
        .execute([relay])?;
    Ok(())
}

/// Makes a relay's rows in a part one: the last of them.
fn unite(transaction: &Transaction<'_>, relay: i64, part: Part) -> rusqlite::Result<()> {
    let sql = "SELECT count(*), ifnull(max(time), 0), ifnull(sum(bytes_in), 0),
            ifnull(sum(bytes_out), 0), ifnull(sum(connections), 0)
        FROM relay_rows INDEXED BY relay_rows_by_relay
        WHERE relay = ? AND time > ? AND time <= ?";
    let (count, last, bytes_in, bytes_out, connections): (i64, i64, i64, i64, i64) = transaction
        .prepare_cached(sql)?
        .query_row((relay, part.start, part.end), |row| row.try_into())?;
    if count < 2 {
        return Ok(());
    }
    let sql = "DELETE FROM relay_rows INDEXED BY relay_rows_by_relay
        WHERE relay = ? AND time > ? AND time < ?";
    transaction
        .prepare_cached(sql)?
        .execute((relay, part.start, last))?;
    let sql = "UPDATE relay_rows SET bytes_in = ?, bytes_out = ?, connections = ?
        WHERE time = ? AND relay = ?";
    transaction
        .prepare_cached(sql)?
        .execute((bytes_in, bytes_out, connections, last, relay))?;
    Ok(())
}
