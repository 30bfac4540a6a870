//! The gateway of the demo: from a boot file and a state document to a running engine, by the same
//! steps as `serve`.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use control_api::{Problems, boot, state};
use control_kernel::{name::NamespaceName, namespaces::Namespaces};
use control_plan::{Ids, NamespaceSource, publish};
use crossbeam_channel::{Receiver, bounded};
use engine::{Engine, Publication, Record};
use engine_core::{ids::Generation, outcome::Outcome};
use engine_sys::netns::Netns;
use serde_json::json;

use super::{
    address,
    error::DemoError,
    report::{Accounted, Form},
    tenant::{Names, TENANTS},
};
use crate::serve::{Inherited, engine_config};

/// Ports that are tried from the wanted one on.
const PORTS: u16 = 32;
/// Records that may wait to be printed; the engine drops and counts more.
const RECORDS_MAX: usize = 1024;
/// How long a connection may take to be accounted after its client saw its end.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at the counters.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How long connections may go on after Ctrl-C.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Keys of the boot file that may be set from the environment here; the rest is the demo's own.
const VARIABLES: [&str; 2] = ["RINGWAY_DRIVER", "RINGWAY_WORKERS"];

/// The running gateway.
pub(super) struct Gateway {
    engine: Engine,
    address: SocketAddr,
    records: Receiver<Record>,
}

impl Gateway {
    /// Starts it on the wanted port of 127.0.0.1, or on the next free one.
    pub(super) fn start(port: u16, namespaces: &mut Namespaces) -> anyhow::Result<Self> {
        let address = free_address(port)?;
        let boot = boot::parse(&boot_file(address), &variables())
            .map_err(told)?
            .value;
        let desired = state::parse(&state_document()).map_err(told)?.value;
        let mut ids = Ids::default();
        let planned = publish(&desired, &boot.listeners, &mut ids, Generation(1), None);
        let planned = planned.map_err(told)?;
        let mut opened = std::collections::HashMap::new();
        for (id, source) in planned.namespaces {
            opened.insert(id, open(&source, namespaces)?);
        }
        let (sender, records) = bounded(RECORDS_MAX);
        let config = engine_config::from_boot(&boot, Inherited::default(), Some(sender));
        let publication = Publication {
            snapshot: planned.snapshot,
            namespaces: opened,
        };
        let engine = Engine::start(config, publication).context("starting the engine")?;
        Ok(Self {
            engine,
            address,
            records,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn driver(&self) -> &'static str {
        self.engine.driver().label()
    }

    pub(super) fn workers(&self) -> usize {
        self.engine.workers()
    }

    /// What is accounted to a hostname once no connection to it lives any more, or after a while.
    pub(super) fn wait_for_closed(&mut self, hostname: &str) -> Accounted {
        let deadline = Instant::now() + ACCOUNT_TIMEOUT;
        loop {
            let counters = self.engine.counters();
            let route = counters
                .routes
                .values()
                .find(|route| &*route.label == hostname);
            let tally = route.map(|route| &route.tally);
            let closed = tally.is_some_and(|tally| tally.closed > 0 && tally.live() == 0);
            if closed || Instant::now() > deadline {
                return tally.map_or_else(Accounted::default, |tally| Accounted {
                    connections: tally.closed,
                    bytes_in: tally.bytes_in,
                    bytes_out: tally.bytes_out,
                });
            }
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// From here on, says a line for each connection that ends.
    pub(super) fn narrate(&self, form: Form) {
        // Those of the demo's own client were told already.
        while self.records.try_recv().is_ok() {}
        let records = self.records.clone();
        let print = move || {
            for record in records {
                if form == Form::Text && writeln!(io::stdout().lock(), "{}", line(&record)).is_err()
                {
                    return;
                }
            }
        };
        // Without the thread there is less to see, and nothing else is wrong.
        let _ = thread::Builder::new().name("narrator".into()).spawn(print);
    }

    /// Ends it in order.
    pub(super) fn end(self) {
        self.engine.drain(DRAIN_TIMEOUT);
    }
}

/// An address that nobody listens on. Asking for it without SO_REUSEPORT tells: two demos that both
/// bind with it would share one port, and each get half of the connections.
fn free_address(port: u16) -> Result<SocketAddr, DemoError> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for port in (0..PORTS).filter_map(|more| port.checked_add(more)) {
        match TcpListener::bind(address(port)).and_then(|listener| listener.local_addr()) {
            Ok(free) => return Ok(free),
            Err(error) => last = error,
        }
    }
    Err(DemoError::Port(port, last))
}

fn boot_file(address: SocketAddr) -> String {
    json!({
        "listeners": [{ "name": "https", "bind": address, "protocol": "tls" }],
    })
    .to_string()
}

fn state_document() -> String {
    let network = |names: &Names| {
        // The namespace is there already, so the network needs no WireGuard device.
        let network = json!({
            "netns": names.network().as_str(),
            "proxy": { names.hostname: [Names::target()] },
        });
        (names.port.to_string(), network)
    };
    serde_json::Value::Object(TENANTS.iter().map(network).collect()).to_string()
}

fn variables() -> BTreeMap<String, String> {
    let set = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
    VARIABLES.into_iter().filter_map(set).collect()
}

fn open(source: &NamespaceSource, namespaces: &mut Namespaces) -> anyhow::Result<Arc<Netns>> {
    Ok(match source {
        NamespaceSource::Host => Arc::new(Netns::current()?),
        NamespaceSource::Made(port) => namespaces.ensure(&NamespaceName::of_network(port.get()))?,
        NamespaceSource::Existing(name) => {
            namespaces.open(&NamespaceName::parse(name.as_str())?)?
        }
    })
}

fn told(problems: Problems) -> anyhow::Error {
    let problems: Vec<String> = problems
        .iter()
        .map(|problem| problem.message.clone())
        .collect();
    anyhow::anyhow!(
        "the demo's own configuration is refused: {}",
        problems.join("; ")
    )
}

/// One ended connection on one line.
fn line(record: &Record) -> String {
    let name = record.name.as_deref().unwrap_or("-");
    let client = record.client;
    let Record {
        bytes_in,
        bytes_out,
        outcome,
        ..
    } = record;
    match (&record.network, record.target) {
        (Some(network), Some(target)) if *outcome == Outcome::Done => {
            format!(
                "  {client} ─► {name} ─► {network} ─► {target}  {bytes_in} B in, {bytes_out} B out"
            )
        }
        _ => format!("  {client} ─► {name}  {}", outcome.label()),
    }
}
