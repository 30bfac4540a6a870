//! Which rows a question is about, and in which order they are best read.

use rusqlite::{ToSql, Transaction, types::ToSqlOutput};

use super::{ANSWER_ROWS_MAX, NetworkFilter, TrafficQuery};
use crate::{
    frontier::Reach,
    number::{amount, from_amount},
};

/// The rows between two times, of some peers or relays.
pub(super) struct Selection {
    pub(super) since: i64,
    pub(super) until: i64,
    /// The time at which what is no row yet is told, if it is.
    pub(super) open: Option<u64>,
    /// Everything up to this time is in the answer.
    pub(super) next: u64,
    /// True if the rows reach further than one answer does.
    pub(super) more: bool,
    filter: Filter,
}

/// Rows of all kinds have a time and an owner.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// The rows.
    pub(super) rows: &'static str,
    /// Their column for who they belong to.
    pub(super) owner: &'static str,
    /// The index by owner, with everything that is read in it.
    pub(super) by_owner: &'static str,
    /// Who they belong to.
    pub(super) owners: &'static str,
    /// The owners' column for the peer's key.
    pub(super) peer_key: &'static str,
    /// What of an owner `o` is no row yet, as columns: its id, and what a row has after its time.
    pub(super) open: &'static str,
    /// Whether there is any of that.
    pub(super) is_open: &'static str,
}

/// Whose rows.
struct Filter {
    /// A condition on an owner `o` and its network `n`; empty for all.
    condition: String,
    values: Vec<Value>,
}

enum Value {
    Text(String),
    Key([u8; 32]),
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Text(text) => text.to_sql(),
            Self::Key(key) => key.to_sql(),
        }
    }
}

impl Filter {
    fn new(query: &TrafficQuery, kind: Kind) -> Self {
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        match &query.network {
            Some(NetworkFilter::Name(name)) => {
                conditions.push("n.name = ?".to_owned());
                values.push(Value::Text(name.to_string()));
            }
            Some(NetworkFilter::Key(key)) => {
                conditions.push("n.public_key = ?".to_owned());
                values.push(Value::Key(*key.as_bytes()));
            }
            None => {}
        }
        if let Some(peer) = &query.peer {
            conditions.push(format!("o.{} = ?", kind.peer_key));
            values.push(Value::Key(*peer.as_bytes()));
        }
        let condition = conditions.join(" AND ");
        Self { condition, values }
    }
}

impl Selection {
    /// The rows of a question, as far as one answer reaches.
    pub(super) fn new(
        transaction: &Transaction<'_>,
        query: &TrafficQuery,
        reach: Reach,
        kind: Kind,
    ) -> rusqlite::Result<Self> {
        let mut selection = Self {
            since: amount(query.since),
            until: amount(query.until.unwrap_or(u64::MAX)),
            open: reach.open,
            next: reach.complete,
            more: false,
            filter: Filter::new(query, kind),
        };
        // Sums by hour or day are short however many rows they are made of.
        if query.group.is_none() {
            selection.shorten(transaction, kind)?;
        }
        Ok(selection)
    }

    /// A `SELECT` of what is no row yet.
    pub(super) fn open_sql(&self, kind: Kind) -> String {
        let Kind {
            owners,
            open,
            is_open,
            ..
        } = kind;
        let Filter { condition, .. } = &self.filter;
        if condition.is_empty() {
            return format!("SELECT {open} FROM {owners} AS o WHERE ({is_open})");
        }
        format!(
            "SELECT {open} FROM {owners} AS o JOIN networks AS n ON n.id = o.network
            WHERE ({is_open}) AND {condition}"
        )
    }

    /// The values of the question marks in [`Self::open_sql`].
    pub(super) fn open_values(&self) -> Vec<&dyn ToSql> {
        let filter = self.filter.values.iter();
        filter.map(|value| value as &dyn ToSql).collect()
    }

    /// A `SELECT` of columns of the rows, called `r`.
    pub(super) fn sql(&self, kind: Kind, columns: &str, rest: &str) -> String {
        let Kind {
            rows,
            owner,
            by_owner,
            owners,
            ..
        } = kind;
        let Filter { condition, .. } = &self.filter;
        if condition.is_empty() {
            // The rows are kept in the order of time.
            return format!(
                "SELECT {columns} FROM {rows} AS r WHERE r.time > ? AND r.time <= ? {rest}"
            );
        }
        // CROSS JOIN keeps the order: first who, then when (sqlite.org/optoverview.html, 7.2).
        format!(
            "SELECT {columns} FROM (
                SELECT o.id FROM networks AS n JOIN {owners} AS o ON o.network = n.id
                WHERE {condition}) AS who
            CROSS JOIN {rows} AS r INDEXED BY {by_owner}
            WHERE r.{owner} = who.id AND r.time > ? AND r.time <= ? {rest}"
        )
    }

    /// The values of the question marks in [`Self::sql`].
    pub(super) fn values(&self) -> Vec<&dyn ToSql> {
        let filter = self.filter.values.iter().map(|value| value as &dyn ToSql);
        filter.chain([&self.since as _, &self.until as _]).collect()
    }

    /// Ends the answer before the time that would make it too long. All rows of one time go
    /// together, so that one can go on from the last one.
    fn shorten(&mut self, transaction: &Transaction<'_>, kind: Kind) -> rusqlite::Result<()> {
        let rest = format!("ORDER BY r.time LIMIT 1 OFFSET {ANSWER_ROWS_MAX}");
        let Some(beyond) = self.first_time(transaction, kind, &rest)? else {
            return self.shorten_open(transaction, kind);
        };
        let first = self.first_time(transaction, kind, "ORDER BY r.time LIMIT 1")?;
        let last = beyond.saturating_sub(1).max(first.unwrap_or(beyond));
        self.more = self.until > last;
        self.until = last;
        if self.more {
            self.open = None;
            self.next = from_amount(last);
        }
        Ok(())
    }

    /// Leaves what is no row yet to the next answer where it would make this one too long.
    fn shorten_open(&mut self, transaction: &Transaction<'_>, kind: Kind) -> rusqlite::Result<()> {
        let Some(open) = self.open else {
            return Ok(());
        };
        let sql = format!("SELECT count(*) FROM ({})", self.open_sql(kind));
        let count: u32 = transaction
            .prepare_cached(&sql)?
            .query_row(self.open_values().as_slice(), |row| row.get(0))?;
        let room = ANSWER_ROWS_MAX.saturating_sub(count);
        let rest = format!("ORDER BY r.time LIMIT 1 OFFSET {room}");
        if count > 0 && self.first_time(transaction, kind, &rest)?.is_some() {
            self.more = true;
            self.open = None;
            self.next = open.saturating_sub(1);
        }
        Ok(())
    }

    fn first_time(
        &self,
        transaction: &Transaction<'_>,
        kind: Kind,
        rest: &str,
    ) -> rusqlite::Result<Option<i64>> {
        let sql = self.sql(kind, "r.time", rest);
        let mut statement = transaction.prepare_cached(&sql)?;
        let mut rows = statement.query(self.values().as_slice())?;
        rows.next()?.map(|row| row.get(0)).transpose()
    }
}
