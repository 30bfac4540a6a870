//! Which namespaces Ringway made.

use std::collections::BTreeMap;

use crate::{Answer, ReadError, Store, WriteError, writer::Durability};

impl Store {
    /// Records that the namespace of a port's network is Ringway's own. It is on disk when this is
    /// answered: the namespace gets its name after that, so that one with a name has an owner.
    ///
    /// `identity` tells this namespace from any other of that name, after a restart of the machine,
    /// too.
    pub fn own(&self, port: u16, identity: String) -> Answer<(), WriteError> {
        self.write(move |writer| {
            let doing = "recording a namespace of Ringway's own";
            writer.write(doing, Durability::Disk, |transaction| {
                let sql = "INSERT INTO namespaces (port, identity) VALUES (?, ?)
                    ON CONFLICT (port) DO UPDATE SET identity = excluded.identity";
                transaction.prepare_cached(sql)?.execute((port, identity))?;
                Ok(())
            })
        })
    }

    /// Forgets a namespace that is gone.
    pub fn disown(&self, port: u16) -> Answer<(), WriteError> {
        self.write(move |writer| {
            let doing = "forgetting a namespace";
            writer.write(doing, Durability::Disk, |transaction| {
                let sql = "DELETE FROM namespaces WHERE port = ?";
                transaction.prepare_cached(sql)?.execute([port])?;
                Ok(())
            })
        })
    }

    /// The namespaces that are Ringway's own: port and identity.
    pub fn owned(&self) -> Answer<BTreeMap<u16, String>, ReadError> {
        self.read(|reader| {
            reader.read(
                "reading which namespaces are Ringway's own",
                |transaction| {
                    transaction
                        .prepare_cached("SELECT port, identity FROM namespaces")?
                        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                        .collect()
                },
            )
        })
    }
}
