//! Memory of relayed connections on which one message was sent and that are silent since: the proxy's own, and apart
//! from it the kernel's.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{Case, Contest, Contestant, NAME, Outcome, everybody, way::Way};
use crate::{
    generate::{client_hello::HELLO_BYTES, event::Event},
    generator::Generator,
    lab::Lab,
    measure,
    peer::Routing,
    results::{Figure, Values},
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Idle;

/// A process may have 20,000 descriptors on the machine of the published figures, and a relayed
/// connection takes two.
const CONNECTIONS: u32 = 8000;
const CONNECTIONS_QUICK: u32 = 1000;

/// Bytes that the holder sends on each, after the hello.
const MESSAGE_BYTES: u64 = 200;

/// Time for the last message to arrive, after it was sent.
const ARRIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of the case without names.
const FORWARDED: usize = 0;

impl Contest for Idle {
    fn title(&self) -> &'static str {
        "Memory of idle relayed connections, 200 bytes sent once on each"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::lower("user", "proxy memory (PSS)", "bytes/connection"),
            Figure::lower("kernel", "kernel slab, whole machine", "bytes/connection"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let count = connections(lab);
        vec![
            Case::new(
                format!("{count} connections, forwarded"),
                &everybody(lab, true),
            ),
            Case::new(
                format!("{count} connections, routed by name"),
                &everybody(lab, false),
            ),
        ]
    }

    fn targets(&self) -> Vec<Target> {
        ["HAProxy", "Envoy"]
            .into_iter()
            .map(|peer| Target {
                case: "connections",
                figure: "user",
                against: Against::Contestant(peer, 1.0),
            })
            .collect()
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let (mut server, target) = Generator::serve(&["echo", "--silent"], None)?;
        let (routing, hello) = if case == FORWARDED {
            (Routing::Forward(target), None)
        } else {
            let routes = vec![(NAME.to_owned(), target)];
            (Routing::ByName(routes), Some(["--hello", NAME]))
        };
        let mut way = Way::open(lab, contestant, routing)?;
        let user = |way: &Way| way.account().map(measure::proportional_set).transpose();
        let arrived_before = server.count()?.bytes;
        let kernel_before = measure::settled_slab()?;
        let user_before = user(&way)?;
        let (connect, count) = (way.connect.to_string(), connections(lab).to_string());
        let arguments = ["hold", "--connect", &connect, "--connections", &count];
        let arguments = [&arguments, hello.as_slice().as_flattened()].concat();
        let mut holder = Generator::start(&arguments, None)?;
        holder.wait_for(&Event::Ready { address: None })?;
        let each_sent = MESSAGE_BYTES + hello.map_or(0, |_| HELLO_BYTES as u64);
        wait_for_bytes(
            &mut server,
            arrived_before + each_sent * u64::from(connections(lab)),
        )?;
        let kernel_after = measure::settled_slab()?;
        let user_after = user(&way)?;
        way.check_running()?;

        let each =
            |after: u64, before: u64| (after as f64 - before as f64) / f64::from(connections(lab));
        let mut values = Values::from([("kernel".to_owned(), each(kernel_after, kernel_before))]);
        if let (Some(after), Some(before)) = (user_after, user_before) {
            values.insert("user".to_owned(), each(after, before));
        }
        Ok(Outcome {
            values,
            faults: Vec::new(),
        })
    }
}

/// Waits until the server has read that much: every connection is relayed then.
fn wait_for_bytes(server: &mut Generator, expected: u64) -> Result<()> {
    let start = Instant::now();
    loop {
        let bytes = server.count()?.bytes;
        if bytes == expected {
            return Ok(());
        }
        if start.elapsed() > ARRIVE_TIMEOUT {
            bail!("{expected} bytes were sent and {bytes} arrived");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn connections(lab: &Lab) -> u32 {
    if lab.quick {
        CONNECTIONS_QUICK
    } else {
        CONNECTIONS
    }
}
