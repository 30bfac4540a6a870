//! Secrets that are drawn once and kept.

use rusqlite::OptionalExtension as _;

use crate::{Answer, Store, WriteError, writer::Durability};

impl Store {
    /// The secret of that name. The first one to ask for it brings it: `drawn` is kept if there is
    /// none, and it is on disk when this is answered.
    pub fn secret(&self, name: &'static str, drawn: [u8; 32]) -> Answer<[u8; 32], WriteError> {
        self.threads.write(move |writer| {
            let doing = "keeping a secret";
            writer.write(doing, Durability::Disk, |transaction| {
                let kept = transaction
                    .prepare_cached("SELECT value FROM secrets WHERE name = ?")?
                    .query_row([name], |row| row.get(0))
                    .optional()?;
                if let Some(kept) = kept {
                    return Ok(kept);
                }
                transaction
                    .prepare_cached("INSERT INTO secrets (name, value) VALUES (?, ?)")?
                    .execute((name, drawn))?;
                Ok(drawn)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use crate::Store;

    #[test]
    fn a_secret_is_the_first_that_was_drawn_for_good() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("ringway.db");
        let store = Store::open(&path).unwrap();
        assert_eq!(store.secret("a", [1; 32]).wait().unwrap(), [1; 32]);
        assert_eq!(store.secret("a", [2; 32]).wait().unwrap(), [1; 32]);
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.secret("a", [3; 32]).wait().unwrap(), [1; 32]);
        assert_eq!(store.secret("b", [3; 32]).wait().unwrap(), [3; 32]);
    }
}
