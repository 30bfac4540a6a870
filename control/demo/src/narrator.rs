//! A line for each connection that ends, from the gateway's connection log.

use std::{
    io::{self, BufRead, BufReader, Read, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use serde::Deserialize;

/// Longest record, in bytes: its longest field is a hostname.
const RECORD_BYTES_MAX: u64 = 16 * 1024;

/// Reads the log from its beginning, so that the gateway never waits, and tells of it from when it
/// is asked to.
pub(super) struct Narrator {
    telling: Arc<AtomicBool>,
}

/// What is told of a connection.
#[derive(Debug, Deserialize)]
struct Record {
    client: String,
    name: Option<String>,
    network: Option<String>,
    target: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
    outcome: String,
}

impl Narrator {
    /// Listens to a log.
    ///
    /// # Errors
    /// Without a thread.
    pub(super) fn listen(log: impl Read + Send + 'static) -> io::Result<Self> {
        let telling = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&telling);
        let listen = move || {
            let mut log = BufReader::new(log);
            while let Some(record) = next(&mut log) {
                if asked.load(Relaxed) && writeln!(io::stdout().lock(), "{record}").is_err() {
                    // Nobody reads any more, but the gateway still writes.
                    asked.store(false, Relaxed);
                }
            }
        };
        thread::Builder::new()
            .name("narrator".into())
            .spawn(listen)?;
        Ok(Self { telling })
    }

    /// Tells of the connections that end from now on.
    pub(super) fn tell(&self) {
        self.telling.store(true, Relaxed);
    }
}

/// The next record as a line; none at the end of the log.
fn next(log: &mut impl BufRead) -> Option<String> {
    loop {
        let mut line = Vec::new();
        let length = log
            .take(RECORD_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .ok()?;
        if length == 0 {
            return None;
        }
        if let Ok(record) = serde_json::from_slice::<Record>(&line) {
            return Some(told(&record));
        }
    }
}

fn told(record: &Record) -> String {
    let Record {
        client,
        name,
        bytes_in,
        bytes_out,
        outcome,
        ..
    } = record;
    let name = name.as_deref().unwrap_or("-");
    match (&record.network, &record.target) {
        (Some(network), Some(target)) if outcome == "done" => format!(
            "  {client} ─► {name} ─► {network} ─► {target}  {bytes_in} B in, {bytes_out} B out"
        ),
        _ => format!("  {client} ─► {name}  {outcome}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_told_one_a_line_and_anything_else_is_passed_over() {
        let log = concat!(
            r#"{"client":"127.0.0.1:9","name":"a.example","network":"network-1","#,
            r#""target":"10.0.0.2:443","bytes_in":1,"bytes_out":2,"outcome":"done"}"#,
            "\nnothing that is a record\n",
            r#"{"client":"127.0.0.1:9","name":null,"network":null,"target":null,"#,
            r#""bytes_in":1,"bytes_out":2,"outcome":"no_route"}"#,
            "\n",
        );
        let mut log = log.as_bytes();
        assert_eq!(
            next(&mut log).unwrap(),
            "  127.0.0.1:9 ─► a.example ─► network-1 ─► 10.0.0.2:443  1 B in, 2 B out"
        );
        assert_eq!(next(&mut log).unwrap(), "  127.0.0.1:9 ─► -  no_route");
        assert_eq!(next(&mut log), None);
    }
}
