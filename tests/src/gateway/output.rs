//! What a gateway says: its lines, and its words to the service manager. Read as they come, so that
//! it never waits for the lab.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::Shutdown,
    os::unix::net::UnixDatagram,
    sync::{Arc, Mutex},
    thread,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::lock;

/// What a gateway told its service manager, read as it comes: a manager that does not read would be
/// another test.
#[derive(Debug)]
pub(super) struct Notices {
    socket: UnixDatagram,
    told: Arc<Mutex<Vec<String>>>,
}

impl Notices {
    pub(super) fn collect(socket: UnixDatagram) -> Result<Self> {
        let told = Arc::<Mutex<Vec<String>>>::default();
        let (reading, collected) = (socket.try_clone()?, told.clone());
        let collect = move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reading.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                lock(&collected).extend(text.lines().map(str::to_owned));
            }
        };
        thread::Builder::new()
            .name("notices".into())
            .spawn(collect)?;
        Ok(Self { socket, told })
    }

    /// Whether it was told; what came up to then is forgotten.
    pub(super) fn take(&self, notice: &str) -> bool {
        let mut told = lock(&self.told);
        let found = told.iter().position(|line| line == notice);
        if let Some(index) = found {
            told.drain(..=index);
        }
        found.is_some()
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        // Wakes the reader: there is nothing more to read.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// The lines of a pipe, collected by a thread so that the writer never waits.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub(super) fn collect(from: impl Read + Send + 'static) -> Result<Self> {
        let lines = Self(Arc::default());
        let collected = lines.clone();
        thread::Builder::new().name("lines".into()).spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                lock(&collected.0).push(line);
            }
        })?;
        Ok(lines)
    }

    pub(super) fn now(&self) -> Vec<String> {
        lock(&self.0).clone()
    }

    pub(super) fn parsed(&self) -> Result<Vec<Value>> {
        let parse =
            |line: &String| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"));
        lock(&self.0).iter().map(parse).collect()
    }
}
