//! CertificateStore with their keys, the accounts that they were obtained with, and the orders of late.
//!
//! Keys are in the file as they are: its mode keeps them from others, like the networks' keys.

use std::{collections::HashMap, fmt, sync::Arc};

use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::{
    Answer, ReadError, WriteError,
    number::{amount, from_amount},
    threads::Threads,
    writer::Durability,
};

/// Orders that are remembered: a week of the most that a public directory takes from one account.
const ORDERS_MAX: i64 = 20_000;

/// A certificate as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredCertificate {
    /// What it is for: a host or `*.domain`.
    pub name: String,
    /// The port of the network that it is for; none for the gateway's own.
    pub network: Option<u16>,
    /// The URL of the ACME directory that it is from.
    pub directory: String,
    /// Whether nobody declared it and a client asked for it.
    pub on_demand: bool,
    /// What the leaf says of who issued it.
    pub issuer: String,
    /// Unix time from which the leaf is good.
    pub not_before: u64,
    /// Unix time until which the leaf is good.
    pub not_after: u64,
    /// The leaf in DER.
    pub leaf: Vec<u8>,
    /// The intermediates in DER, one after the other; shared by all that have the same.
    pub intermediates: Arc<[u8]>,
    /// The key in PKCS#8.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for StoredCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("StoredCertificate")
            .field("name", &self.name)
            .field("network", &self.network)
            .field("directory", &self.directory)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// A name whose last order failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFailure {
    /// What the order was for.
    pub name: String,
    /// How often in a row.
    pub failures: u32,
    /// Unix time before which it is not tried again.
    pub retry_at: u64,
    /// Why it failed.
    pub reason: String,
}

/// An order that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredOrder {
    /// Unix time.
    pub time: u64,
    /// The URL of the ACME directory.
    pub directory: String,
    /// The port of the network that it was for; none for the gateway itself.
    pub network: Option<u16>,
}

/// CertificateStore, ACME accounts, and the orders of late. Clones share it.
#[derive(Clone, Debug)]
pub struct CertificateStore {
    threads: Arc<Threads>,
}

impl CertificateStore {
    pub(crate) fn new(threads: Arc<Threads>) -> Self {
        Self { threads }
    }

    /// Every certificate, by name.
    pub fn all(&self) -> Answer<Vec<StoredCertificate>, ReadError> {
        self.threads
            .read(|reader| reader.read("reading the certificates", all))
    }

    /// Keeps a certificate in place of the one of its name, and forgets the name's failures. It is
    /// on disk when this is answered.
    pub fn put(&self, certificate: StoredCertificate) -> Answer<(), WriteError> {
        self.threads.write(move |writer| {
            let doing = "keeping a certificate";
            writer.write(doing, Durability::Disk, |transaction| {
                put(transaction, &certificate)
            })
        })
    }

    /// Forgets the certificate of a name.
    pub fn remove(&self, name: String) -> Answer<(), WriteError> {
        self.threads.write(move |writer| {
            let doing = "forgetting a certificate";
            writer.write(doing, Durability::Process, |transaction| {
                let sql = "DELETE FROM certificates WHERE name = ?";
                transaction.prepare_cached(sql)?.execute([name])?;
                drop_unused_chains(transaction)
            })
        })
    }

    /// The credentials of the account at a directory.
    pub fn acme_account(&self, directory: String) -> Answer<Option<Zeroizing<String>>, ReadError> {
        self.threads.read(move |reader| {
            reader.read("reading an ACME account", |transaction| {
                let sql = "SELECT credentials FROM acme_accounts WHERE directory = ?";
                transaction
                    .prepare_cached(sql)?
                    .query_row([directory], |row| row.get(0).map(Zeroizing::new))
                    .optional()
            })
        })
    }

    /// Keeps the credentials of the account at a directory. They are on disk when this is answered.
    pub fn put_acme_account(
        &self,
        directory: String,
        credentials: Zeroizing<String>,
    ) -> Answer<(), WriteError> {
        self.threads.write(move |writer| {
            let doing = "keeping an ACME account";
            writer.write(doing, Durability::Disk, |transaction| {
                let sql = "INSERT INTO acme_accounts (directory, credentials) VALUES (?, ?)
                    ON CONFLICT (directory) DO UPDATE SET credentials = excluded.credentials";
                let values = (directory, credentials.as_str());
                transaction.prepare_cached(sql)?.execute(values)?;
                Ok(())
            })
        })
    }

    /// Forgets the account at a directory that does not know it any more.
    pub fn remove_acme_account(&self, directory: String) -> Answer<(), WriteError> {
        self.threads.write(move |writer| {
            let doing = "forgetting an ACME account";
            writer.write(doing, Durability::Process, |transaction| {
                let sql = "DELETE FROM acme_accounts WHERE directory = ?";
                transaction.prepare_cached(sql)?.execute([directory])?;
                Ok(())
            })
        })
    }

    /// The names whose last order failed.
    pub fn acme_failures(&self) -> Answer<Vec<StoredFailure>, ReadError> {
        self.threads.read(|reader| {
            reader.read("reading the failed orders", |transaction| {
                transaction
                    .prepare_cached("SELECT name, failures, retry_at, reason FROM acme_failures")?
                    .query_map([], |row| {
                        Ok(StoredFailure {
                            name: row.get(0)?,
                            failures: row.get(1)?,
                            retry_at: from_amount(row.get(2)?),
                            reason: row.get(3)?,
                        })
                    })?
                    .collect()
            })
        })
    }

    /// Remembers that the order for a name failed.
    pub fn put_acme_failure(&self, failure: StoredFailure) -> Answer<(), WriteError> {
        self.threads.write(move |writer| {
            let doing = "remembering a failed order";
            writer.write(doing, Durability::Process, |transaction| {
                let sql = "INSERT INTO acme_failures (name, failures, retry_at, reason)
                    VALUES (?, ?, ?, ?)
                    ON CONFLICT (name) DO UPDATE SET failures = excluded.failures,
                        retry_at = excluded.retry_at, reason = excluded.reason";
                let StoredFailure {
                    name,
                    failures,
                    retry_at,
                    reason,
                } = failure;
                let values = params![name, failures, amount(retry_at), reason];
                transaction.prepare_cached(sql)?.execute(values)?;
                Ok(())
            })
        })
    }

    /// Forgets the failures of a name that nobody wants any more.
    pub fn remove_acme_failure(&self, name: String) -> Answer<(), WriteError> {
        self.threads.write(move |writer| {
            let doing = "forgetting a failed order";
            writer.write(doing, Durability::Process, |transaction| {
                forget_failure(transaction, &name)
            })
        })
    }

    /// The orders made after a time, the oldest first.
    pub fn acme_orders_after(&self, time: u64) -> Answer<Vec<StoredOrder>, ReadError> {
        self.threads.read(move |reader| {
            reader.read("reading the orders of late", |transaction| {
                let sql = "SELECT time, directory, network FROM acme_orders
                    WHERE time > ? ORDER BY time, id";
                transaction
                    .prepare_cached(sql)?
                    .query_map([amount(time)], |row| {
                        Ok(StoredOrder {
                            time: from_amount(row.get(0)?),
                            directory: row.get(1)?,
                            network: row.get(2)?,
                        })
                    })?
                    .collect()
            })
        })
    }

    /// Notes an order that is about to be made.
    pub fn note_acme_order(&self, order: StoredOrder) -> Answer<(), WriteError> {
        self.threads.write(move |writer| {
            let doing = "noting an order";
            writer.write(doing, Durability::Process, |transaction| {
                let sql = "INSERT INTO acme_orders (time, directory, network) VALUES (?, ?, ?)";
                let values = params![amount(order.time), order.directory, order.network];
                let id = transaction.prepare_cached(sql)?.insert(values)?;
                transaction
                    .prepare_cached("DELETE FROM acme_orders WHERE id <= ?")?
                    .execute([id.saturating_sub(ORDERS_MAX)])?;
                Ok(())
            })
        })
    }
}

fn all(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<StoredCertificate>> {
    let chains: HashMap<i64, Arc<[u8]>> = transaction
        .prepare_cached("SELECT id, der FROM chains")?
        .query_map([], |row| {
            let der: Vec<u8> = row.get(1)?;
            Ok((row.get(0)?, der.into()))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let sql = "SELECT name, network, directory, issuer, not_before, not_after, leaf, key, chain,
        on_demand FROM certificates ORDER BY name";
    transaction
        .prepare_cached(sql)?
        .query_map([], |row| certificate(row, &chains))?
        .collect()
}

fn certificate(
    row: &Row<'_>,
    chains: &HashMap<i64, Arc<[u8]>>,
) -> rusqlite::Result<StoredCertificate> {
    let chain: i64 = row.get(8)?;
    Ok(StoredCertificate {
        name: row.get(0)?,
        network: row.get(1)?,
        directory: row.get(2)?,
        issuer: row.get(3)?,
        not_before: from_amount(row.get(4)?),
        not_after: from_amount(row.get(5)?),
        leaf: row.get(6)?,
        key: Zeroizing::new(row.get(7)?),
        on_demand: row.get(9)?,
        // The reference says that it is there.
        intermediates: chains.get(&chain).cloned().unwrap_or_default(),
    })
}

fn put(transaction: &Transaction<'_>, certificate: &StoredCertificate) -> rusqlite::Result<()> {
    let chain = put_chain(transaction, &certificate.intermediates)?;
    let sql = "INSERT INTO certificates
        (name, network, directory, issuer, not_before, not_after, leaf, chain, key, on_demand)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (name) DO UPDATE SET network = excluded.network,
            directory = excluded.directory, issuer = excluded.issuer,
            not_before = excluded.not_before, not_after = excluded.not_after,
            leaf = excluded.leaf, chain = excluded.chain, key = excluded.key,
            on_demand = excluded.on_demand";
    transaction.prepare_cached(sql)?.execute(params![
        certificate.name,
        certificate.network,
        certificate.directory,
        certificate.issuer,
        amount(certificate.not_before),
        amount(certificate.not_after),
        certificate.leaf,
        chain,
        certificate.key.as_slice(),
        certificate.on_demand,
    ])?;
    forget_failure(transaction, &certificate.name)?;
    drop_unused_chains(transaction)
}

fn put_chain(transaction: &Transaction<'_>, der: &[u8]) -> rusqlite::Result<i64> {
    let digest = Sha256::digest(der).to_vec();
    transaction
        .prepare_cached("INSERT INTO chains (digest, der) VALUES (?, ?) ON CONFLICT DO NOTHING")?
        .execute((&digest, der))?;
    transaction
        .prepare_cached("SELECT id FROM chains WHERE digest = ?")?
        .query_row([&digest], |row| row.get(0))
}

/// There are as many chains as authorities, so looking at all of them costs nothing.
fn drop_unused_chains(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let sql = "DELETE FROM chains WHERE NOT EXISTS
        (SELECT 1 FROM certificates WHERE certificates.chain = chains.id)";
    transaction.prepare_cached(sql)?.execute([])?;
    Ok(())
}

fn forget_failure(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM acme_failures WHERE name = ?")?
        .execute([name])?;
    Ok(())
}

#[cfg(test)]
mod tests;
