//! One connection through the gateway to a server that echoes, held over whatever happens.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, TcpStream},
};

use anyhow::{Context as _, Result};

use crate::{lab::GATEWAY, stream, tls, wait::eventually};

/// A live connection.
#[derive(Debug)]
pub struct Flow {
    /// The client's end.
    pub stream: TcpStream,
    /// Bytes that this end sent; as many came back.
    pub sent: u64,
}

impl Flow {
    /// Connects to a name and has its hello echoed.
    ///
    /// # Errors
    /// When that does not come back.
    pub fn open(name: &str) -> Result<Self> {
        Self::open_from(Ipv4Addr::LOCALHOST.into(), name)
    }

    /// [`Flow::open`] from an address of this machine.
    ///
    /// # Errors
    /// When the hello does not come back.
    pub fn open_from(source: IpAddr, name: &str) -> Result<Self> {
        let stream = stream::connect_from(source, GATEWAY)?;
        let mut flow = Self { stream, sent: 0 };
        flow.echo(&tls::hello(name)?)?;
        Ok(flow)
    }

    /// [`Flow::open`] as soon as it can be.
    ///
    /// # Errors
    /// When it cannot be at all.
    pub fn wait_for(name: &str) -> Result<Self> {
        eventually(&format!("{name} answers"), || Self::open(name).ok())
    }

    /// Sends bytes and has them echoed.
    ///
    /// # Errors
    /// When other bytes come, or none.
    pub fn echo(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("sending")?;
        self.sent += bytes.len() as u64;
        stream::expect(&mut self.stream, bytes)
    }

    /// Makes sure that it goes on.
    ///
    /// # Errors
    /// When it does not.
    pub fn still_lives(&mut self) -> Result<()> {
        self.echo(b"still there?")
    }

    /// Ends it in order, and answers how many bytes went each way.
    ///
    /// # Errors
    /// When the other side does not end in order, or has something left to say.
    pub fn end(mut self) -> Result<u64> {
        stream::half_close(&self.stream)?;
        let rest = stream::read_to_end(&mut self.stream)?;
        anyhow::ensure!(rest.is_empty(), "{} bytes too many", rest.len());
        Ok(self.sent)
    }
}
