//! What state documents say of networks with devices.

use std::{net::SocketAddr, path::Path};

use anyhow::{Context as _, Result};
use control_kernel::names::DIRECTORY;
use engine_sys::netns::Netns;
use serde_json::{Map, Value, json};

use crate::{
    peer::{Keys, Peer, Uplink},
    tool::Tool,
};

/// The inner prefixes that peers send to their gateway.
pub const INSIDE: &str = "10.0.0.0/24, fd00::/64";

/// One network: its port, its keys, and its part of the document.
#[derive(Clone, Debug)]
pub struct Network {
    /// The public port.
    pub port: u16,
    /// Its keys.
    pub keys: Keys,
    /// What the document says of it. Tests change it as they like.
    pub document: Value,
}

impl Network {
    /// A network without peers, at `10.0.0.1` and `fd00::1`.
    ///
    /// # Errors
    /// When there is no `wg`.
    pub fn new(port: u16) -> Result<Self> {
        let keys = Keys::generate()?;
        let document = json!({
            "private_key": keys.private,
            "address": ["10.0.0.1/24", "fd00::1/64"],
            "peers": {},
            "proxy": {},
        });
        Ok(Self {
            port,
            keys,
            document,
        })
    }

    /// `network-<port>`.
    pub fn name(&self) -> String {
        format!("network-{}", self.port)
    }

    /// `wg<port>`.
    pub fn device(&self) -> String {
        format!("wg{}", self.port)
    }

    /// Its part alone, as a whole state document.
    pub fn state(&self) -> Value {
        state([self])
    }

    /// Declares a peer with what may come from it.
    pub fn admit(&mut self, key: &str, allowed_ips: &[&str]) {
        self.document["peers"][key] = json!({ "allowed_ips": allowed_ips });
    }

    /// Declares that a name leads to a target inside.
    pub fn publish(&mut self, name: &str, target: &str) {
        self.document["proxy"][name] = json!([target]);
    }

    /// Declares a peer as the machine with the number, and gives it these addresses:
    /// `10.0.0.<number>` and `fd00::<number>`.
    ///
    /// # Errors
    /// When the peer does not take that.
    pub fn invite(&mut self, peer: &Peer, number: u8) -> Result<()> {
        let (v4, v6) = (format!("10.0.0.{number}"), format!("fd00::{number}"));
        self.admit(
            &peer.keys.public,
            &[&format!("{v4}/32"), &format!("{v6}/128")],
        );
        peer.add_address(&format!("{v4}/24"))?;
        peer.add_address(&format!("{v6}/64"))
    }

    /// Tells a peer where the network is, and waits until they speak. Done when the network is there:
    /// a client that is not answered asks again after five seconds only (whitepaper, 6.4).
    ///
    /// # Errors
    /// When the peer does not take that, or is not answered.
    pub fn meet(&self, peer: &Peer) -> Result<()> {
        peer.connect(self.uplink())?;
        peer.wait_for_ping("10.0.0.1")
    }

    /// What its peers are told.
    pub fn uplink(&self) -> Uplink<'_> {
        Uplink {
            key: &self.keys.public,
            port: self.port,
            allowed_ips: INSIDE,
            preshared_key: None,
        }
    }

    /// Its namespace, as it is named now.
    ///
    /// # Errors
    /// When there is none.
    pub fn netns(&self) -> Result<Netns> {
        let path = Path::new(DIRECTORY).join(self.name());
        Netns::open(&path).with_context(|| format!("opening {}", path.display()))
    }

    /// Runs a program inside its namespace, and answers what it printed.
    ///
    /// # Errors
    /// When it does not succeed.
    pub fn run(&self, program: &str, arguments: &str) -> Result<String> {
        Tool::new(program, arguments).run_in(&self.netns()?)
    }

    /// What `wg show <device> <what>` prints.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn show(&self, what: &str) -> Result<String> {
        self.run("wg", &format!("show {} {what}", self.device()))
    }

    /// What its device counted of a peer: received, sent.
    ///
    /// # Errors
    /// When it has no such peer.
    pub fn transfer(&self, key: &str) -> Result<(u64, u64)> {
        let shown = self.show("transfer")?;
        let line = shown.lines().find(|line| line.starts_with(key));
        let mut numbers = line.context("no such peer")?.split_whitespace().skip(1);
        let mut number = || anyhow::Ok(numbers.next().context("no number")?.parse()?);
        Ok((number()?, number()?))
    }

    /// Where its device says that a peer is.
    ///
    /// # Errors
    /// When that is nowhere.
    pub fn endpoint(&self, key: &str) -> Result<SocketAddr> {
        let shown = self.show("endpoints")?;
        let line = shown.lines().find(|line| line.starts_with(key));
        let endpoint = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(endpoint.context("no such peer")?.parse()?)
    }
}

/// A state document of networks.
pub fn state<'a>(networks: impl IntoIterator<Item = &'a Network>) -> Value {
    let networks = networks.into_iter();
    let parts = networks.map(|network| (network.port.to_string(), network.document.clone()));
    Value::Object(parts.collect::<Map<String, Value>>())
}
