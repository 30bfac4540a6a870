//! Memory of HTTP/1.1 connections that clients keep after a request: the proxy's own, and apart from
//! it the kernel's. Connections to the server are not in it: there are as many as requests at once,
//! which is one.

use anyhow::Result;

use super::{Case, Contest, Contestant, NAME, Outcome, outside, terminating};
use crate::{
    generate::event::Event,
    generator::Generator,
    lab::Lab,
    measure,
    results::{Figure, Values},
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Kept;

const CONNECTIONS: u32 = 4000;
const CONNECTIONS_QUICK: u32 = 1000;

/// Number of the case without TLS.
const PLAIN: usize = 0;

impl Contest for Kept {
    fn title(&self) -> &'static str {
        "Memory of kept HTTP/1.1 connections, one request answered on each"
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::lower("user", "proxy memory (PSS)", "bytes/connection"),
            Figure::lower("kernel", "kernel slab, whole machine", "bytes/connection"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let contestants = match lab.tools.nginx() {
            Some(_) => terminating(lab),
            None => Vec::new(),
        };
        let count = connections(lab);
        ["plain", "in TLS"]
            .map(|how| Case::new(format!("{count} connections, {how}"), &contestants))
            .to_vec()
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target {
            case: "connections",
            figure: "user",
            against: Against::Contestant("nginx", 1.0),
        }]
    }

    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome> {
        let is_plain = case == PLAIN;
        let mut course = match is_plain {
            true => outside::serve_http(lab, contestant, None)?,
            false => outside::serve_https(lab, contestant)?,
        };
        let (connect, count) = (course.connect().to_string(), connections(lab).to_string());
        let arguments = ["rest", "--connect", &connect, "--name", NAME];
        let tls: &[&str] = if is_plain { &[] } else { &["--tls"] };
        let kernel_before = measure::settled_slab()?;
        let user = |course: &mut outside::Course| {
            let account = course.way().account();
            account.map(measure::proportional_set).transpose()
        };
        let user_before = user(&mut course)?;
        let arguments = [&arguments[..], &["--connections", &count], tls].concat();
        let mut client = Generator::start(&arguments, None)?;
        client.wait_for(&Event::Ready { address: None })?;
        let kernel_after = measure::settled_slab()?;
        let user_after = user(&mut course)?;
        course.way().check_running()?;

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

fn connections(lab: &Lab) -> u32 {
    if lab.quick {
        CONNECTIONS_QUICK
    } else {
        CONNECTIONS
    }
}
