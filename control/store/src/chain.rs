//! Full documents and what came after them.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use control_api::state::difference::{Composition, Difference, DifferenceError};
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;

use crate::number::from_amount;

/// Differences after a full document from which on the next one is due.
const DIFFERENCES_MAX: u64 = 1000;

/// Bytes of differences from which on a full document may be due, however small that is: a short document
/// is not worth a second transaction after every change.
const DIFFERENCES_BYTES_MIN: u64 = 1 << 16;

/// What was committed since the last full document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SinceDocument {
    /// Of the full document.
    document_bytes: u64,
    differences: u64,
    difference_bytes: u64,
}

impl SinceDocument {
    /// That of a file.
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT octet_length(document), id FROM generations
            WHERE difference IS NULL ORDER BY id DESC LIMIT 1";
        let full: Option<(i64, i64)> = connection
            .prepare_cached(sql)?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let (document_bytes, base) = full.unwrap_or_default();
        let sql = "SELECT count(*), ifnull(sum(octet_length(difference)), 0) FROM generations
            WHERE id > ?";
        connection.prepare_cached(sql)?.query_row([base], |row| {
            Ok(Self {
                document_bytes: from_amount(document_bytes),
                differences: from_amount(row.get(0)?),
                difference_bytes: from_amount(row.get(1)?),
            })
        })
    }

    /// That after one more generation.
    pub(crate) fn with(self, document: Option<&str>, difference: &str) -> Self {
        let bytes = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX);
        match document {
            Some(document) => Self {
                document_bytes: bytes(document),
                ..Self::default()
            },
            None => Self {
                differences: self.differences + 1,
                difference_bytes: self.difference_bytes.saturating_add(bytes(difference)),
                ..self
            },
        }
    }

    /// Whether reading what is composed costs more than it saves to store.
    pub(crate) fn is_long(self) -> bool {
        let bytes_max = self.document_bytes.max(DIFFERENCES_BYTES_MIN);
        self.differences >= DIFFERENCES_MAX || self.difference_bytes > bytes_max
    }
}

/// Whether a full document is due, between the writer and whoever can bring one.
#[derive(Debug, Default)]
pub(crate) struct Documents(AtomicU8);

const NOT_DUE: u8 = 0;
const DUE: u8 = 1;
/// Somebody was told so and is to bring one.
const ASKED_FOR: u8 = 2;

impl Documents {
    /// Says how long the chain is.
    pub(crate) fn tell(&self, chain: SinceDocument) {
        let (from, to) = match chain.is_long() {
            true => (NOT_DUE, DUE),
            false => (DUE, NOT_DUE),
        };
        // Otherwise it is known, or one is on its way.
        let _ = self.0.compare_exchange(from, to, Relaxed, Relaxed);
    }

    /// The one that was asked for was brought, stored or not.
    pub(crate) fn have_come(&self) {
        self.0.store(NOT_DUE, Relaxed);
    }

    /// The one that was asked for did not get as far as to be brought: another one is to be asked for.
    pub(crate) fn are_due(&self) {
        let _ = self.0.compare_exchange(ASKED_FOR, DUE, Relaxed, Relaxed);
    }

    /// Whether one is due; once until it is brought.
    pub(crate) fn ask(&self) -> bool {
        let asked = self.0.compare_exchange(DUE, ASKED_FOR, Relaxed, Relaxed);
        asked.is_ok()
    }
}

/// The document that differences lead to, one after the other: from a full one, or where there was none
/// before them, from nothing.
pub(crate) fn compose(
    document: Option<String>,
    differences: &[String],
) -> Result<String, DifferenceError> {
    let document = document.unwrap_or_else(|| "{}".to_owned());
    if differences.is_empty() {
        return Ok(document);
    }
    let value: Value = serde_json::from_str(&document).map_err(|_| DifferenceError::NoDocument)?;
    drop(document);
    let mut composition = Composition::of(value)?;
    for difference in differences {
        composition.apply(&Difference::parse(difference)?)?;
    }
    Ok(composition.finish().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_document_is_due_after_as_many_bytes_as_it_has_or_so_many_generations() {
        let difference = "x".repeat(1000);
        let document = |bytes: usize| SinceDocument::default().with(Some(&"x".repeat(bytes)), "");
        let after = |chain: SinceDocument| {
            let mut chain = chain;
            (0..).find(|_| {
                let is_long = chain.is_long();
                chain = chain.with(None, &difference);
                is_long
            })
        };
        assert_eq!(after(document(2)), Some(66), "64 KiB");
        assert_eq!(after(document(100_000)), Some(101));
        assert_eq!(after(document(10_000_000)), Some(1000));
        assert_eq!(after(SinceDocument::default()), Some(66));
    }

    #[test]
    fn a_document_that_could_not_be_handed_over_is_asked_for_again() {
        let documents = Documents::default();
        documents.tell(SinceDocument::default().with(None, &"x".repeat(100_000)));
        assert!(documents.ask());
        assert!(!documents.ask(), "one is on its way");
        documents.are_due();
        assert!(documents.ask());
        documents.have_come();
        documents.are_due();
        assert!(!documents.ask());
    }

    #[test]
    fn differences_lead_from_a_full_document_or_from_nothing_to_another() {
        let put = r#"[{"network":"1","value":{"netns":null}}]"#.to_owned();
        let listener = r#"[{"network":"1","listener":"a","value":{}}]"#.to_owned();
        let composed = compose(None, &[put.clone(), listener.clone()]);
        let expected = r#"{"1":{"listeners":{"a":{}},"netns":null}}"#;
        assert_eq!(composed.as_deref(), Ok(expected));
        let full = r#"{"1":{},"2":{}}"#.to_owned();
        let composed = compose(Some(full.clone()), &[listener]);
        assert_eq!(
            composed.as_deref(),
            Ok(r#"{"1":{"listeners":{"a":{}}},"2":{}}"#)
        );
        assert_eq!(compose(Some(full.clone()), &[]), Ok(full));
        let wrong = compose(Some("[]".to_owned()), &[put]);
        assert_eq!(wrong, Err(DifferenceError::NoDocument));
    }
}
