//! Dialing in a tenant's namespace against dialing on the host: the same hello connections, the
//! target on the loopback device of either namespace, so that the path is the same.

use anyhow::Result;

use super::{Case, Contest, Contestant, NAME, Outcome, hello};
use crate::{
    generator::Generator,
    lab::{Lab, listener, observe},
    peer::{Job, Peer, Routing},
    results::Figure,
    sandbox::ip,
    target::{Against, Target},
};

#[derive(Debug)]
pub(super) struct Namespace;

const TENANT: &str = "tenant's namespace";
const HOST: &str = "host";

impl Contest for Namespace {
    fn title(&self) -> &'static str {
        "ClientHello connections dialed in a tenant's namespace, against dialed on the host"
    }

    fn subject(&self) -> Contestant {
        Contestant::Variant(TENANT)
    }

    fn figures(&self) -> Vec<Figure> {
        hello::figures()
    }

    fn cases(&self, _: &Lab) -> Vec<Case> {
        let both = [Contestant::Variant(TENANT), Contestant::Variant(HOST)];
        vec![Case::new("64 connections at a time", &both)]
    }

    fn targets(&self) -> Vec<Target> {
        vec![Target {
            case: "64",
            figure: "rate",
            against: Against::Contestant(HOST, 0.95),
        }]
    }

    fn measure(&self, lab: &Lab, _: usize, contestant: Contestant) -> Result<Outcome> {
        let inside = contestant == Contestant::Variant(TENANT);
        let namespace = inside.then(Made::new).transpose()?;
        let name = namespace.as_ref().map(|made| made.0.as_str());
        let (_acceptor, target) = Generator::serve(&["acceptor"], name)?;
        let listener = listener(Routing::ByName(vec![(NAME.to_owned(), target)]))?;
        let connect = listener.address().to_string();
        let job = Job {
            listeners: vec![listener],
            namespace: name.map(str::to_owned),
        };
        let mut proxy = lab.start(Peer::Ringway, &job)?;
        let mut client = lab.client(&["hello", "--connect", &connect, "--hello", NAME])?;
        let observation = observe(&mut client, Some(proxy.process.pid()), None)?;
        proxy.process.check_running()?;
        Ok(Outcome {
            values: observation.values(true),
            faults: observation.faults(),
        })
    }
}

/// A network namespace with its loopback up, removed when dropped.
#[derive(Debug)]
struct Made(String);

impl Made {
    fn new() -> Result<Self> {
        let name = format!("ringway-bench-{}", std::process::id());
        ip(&["netns", "add", &name])?;
        let made = Self(name);
        ip(&["-n", &made.0, "link", "set", "lo", "up"])?;
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.0]);
    }
}
