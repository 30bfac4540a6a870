//! Which namespaces Ringway made.

use std::collections::BTreeMap;

use control_api::place::NetworkKey;

use crate::{Answer, ReadError, WriteError, threads::Threads, writer::Durability};

pub(crate) fn own(
    threads: &Threads,
    network: NetworkKey,
    identity: String,
) -> Answer<(), WriteError> {
    threads.write(move |writer| {
        let doing = "recording a namespace of Ringway's own";
        writer.write(doing, Durability::Disk, |transaction| {
            let sql = "INSERT INTO namespaces (network, identity) VALUES (?, ?)
                ON CONFLICT (network) DO UPDATE SET identity = excluded.identity";
            let values = (network.to_string(), identity);
            transaction.prepare_cached(sql)?.execute(values)?;
            Ok(())
        })
    })
}

pub(crate) fn disown(threads: &Threads, network: NetworkKey) -> Answer<(), WriteError> {
    threads.write(move |writer| {
        let doing = "forgetting a namespace";
        writer.write(doing, Durability::Disk, |transaction| {
            let sql = "DELETE FROM namespaces WHERE network = ?";
            transaction
                .prepare_cached(sql)?
                .execute([network.to_string()])?;
            Ok(())
        })
    })
}

pub(crate) fn owned(threads: &Threads) -> Answer<BTreeMap<String, String>, ReadError> {
    threads.read(|reader| {
        reader.read(
            "reading which namespaces are Ringway's own",
            |transaction| {
                transaction
                    .prepare_cached("SELECT network, identity FROM namespaces")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            },
        )
    })
}
