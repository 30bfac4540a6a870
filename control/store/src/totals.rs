//! What was counted since the beginning.

use std::net::{IpAddr, SocketAddr};

use control_api::{
    answer::{Relayed, Traffic},
    place::NetworkName,
    state::PublicKey,
};
use control_plan::sample::Raw;
use rusqlite::{Error, Row, types::Type};

use crate::{
    Accounts, Answer, ReadError,
    names::{client, key, peer_key},
    number::{from_amount, from_bits},
};

/// A peer, and all that it ever sent and received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTotal {
    /// Its network's name.
    pub network: NetworkName,
    /// Its network's public key.
    pub network_key: Option<PublicKey>,
    /// Its own.
    pub peer: PublicKey,
    /// Grows only.
    pub traffic: Traffic,
    /// The last reading that is counted in it.
    pub raw: Raw,
    /// Unix time of the first sample that had it.
    pub first_seen: u64,
    /// Unix time of the last handshake.
    pub last_handshake: Option<u64>,
    /// Where it was heard from last.
    pub endpoint: Option<SocketAddr>,
}

/// A route, and all that it ever relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTotal {
    /// Its network's name.
    pub network: NetworkName,
    /// Its network's public key.
    pub network_key: Option<PublicKey>,
    /// Its name.
    pub route: String,
    /// Grows only.
    pub traffic: Relayed,
}

/// A client of a route that is told apart at present, and what it relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTotal {
    /// The network's name.
    pub network: NetworkName,
    /// The network's public key.
    pub network_key: Option<PublicKey>,
    /// The route.
    pub route: String,
    /// The client; none stands for all the others.
    pub client: Option<IpAddr>,
    /// Begins again when a client that was forgotten comes back.
    pub traffic: Relayed,
}

impl Accounts {
    /// Every peer there ever was, as of the last second.
    pub fn peer_totals(&self) -> Answer<Vec<PeerTotal>, ReadError> {
        self.threads.read(|reader| {
            reader.read("reading the totals of the peers", |transaction| {
                let sql = "SELECT n.name, n.public_key, p.public_key, p.total_rx, p.total_tx,
                        p.first_seen, p.last_handshake, p.endpoint, p.epoch, p.raw_rx, p.raw_tx
                    FROM peers AS p JOIN networks AS n ON n.id = p.network
                    ORDER BY n.name, n.public_key, p.public_key";
                transaction
                    .prepare_cached(sql)?
                    .query_map([], peer_total)?
                    .collect()
            })
        })
    }

    /// Every route there ever was, as of the last second.
    pub fn route_totals(&self) -> Answer<Vec<RouteTotal>, ReadError> {
        self.threads.read(|reader| {
            reader.read("reading the totals of the routes", |transaction| {
                // `total` would add up floating-point numbers; `sum` fails beyond 63 bits, and so
                // many bytes take a route four centuries at 10 Gbit/s.
                let sql = "SELECT n.name, n.public_key, r.route, sum(r.total_in),
                        sum(r.total_out), sum(r.total_connections)
                    FROM relays AS r JOIN networks AS n ON n.id = r.network
                    GROUP BY n.id, r.route ORDER BY n.name, n.public_key, r.route";
                transaction
                    .prepare_cached(sql)?
                    .query_map([], |row| {
                        Ok(RouteTotal {
                            network: network_name(row, 0)?,
                            network_key: peer_key(row, 1)?,
                            route: row.get(2)?,
                            traffic: relayed(row, 3)?,
                        })
                    })?
                    .collect()
            })
        })
    }

    /// The clients that are told apart, the busiest first.
    pub fn client_totals(&self, limit: u32) -> Answer<Vec<ClientTotal>, ReadError> {
        self.threads.read(move |reader| {
            reader.read("reading the totals of the clients", |transaction| {
                let sql = "SELECT n.name, n.public_key, r.route, r.client, sum(r.total_in),
                        sum(r.total_out), sum(r.total_connections)
                    FROM relays AS r JOIN networks AS n ON n.id = r.network
                    GROUP BY n.id, r.route, r.client
                    ORDER BY sum(r.total_in) / 2 + sum(r.total_out) / 2 DESC, r.client LIMIT ?";
                transaction
                    .prepare_cached(sql)?
                    .query_map([limit], |row| {
                        Ok(ClientTotal {
                            network: network_name(row, 0)?,
                            network_key: peer_key(row, 1)?,
                            route: row.get(2)?,
                            client: client(row, 3)?,
                            traffic: relayed(row, 4)?,
                        })
                    })?
                    .collect()
            })
        })
    }
}

fn peer_total(row: &Row<'_>) -> rusqlite::Result<PeerTotal> {
    let endpoint: Option<String> = row.get(7)?;
    Ok(PeerTotal {
        network: network_name(row, 0)?,
        network_key: peer_key(row, 1)?,
        peer: key(row, 2)?,
        traffic: Traffic {
            rx: from_amount(row.get(3)?),
            tx: from_amount(row.get(4)?),
        },
        raw: Raw {
            epoch: from_bits(row.get(8)?),
            rx: from_bits(row.get(9)?),
            tx: from_bits(row.get(10)?),
        },
        first_seen: from_amount(row.get(5)?),
        last_handshake: row.get::<_, Option<i64>>(6)?.map(from_amount),
        // It was written by this crate; one that cannot be read is as good as none.
        endpoint: endpoint.and_then(|endpoint| endpoint.parse().ok()),
    })
}

fn network_name(row: &Row<'_>, column: usize) -> rusqlite::Result<NetworkName> {
    let name: String = row.get(column)?;
    name.parse()
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

fn relayed(row: &Row<'_>, first: usize) -> rusqlite::Result<Relayed> {
    Ok(Relayed {
        bytes_in: from_amount(row.get(first)?),
        bytes_out: from_amount(row.get(first + 1)?),
        connections: from_amount(row.get(first + 2)?),
    })
}
