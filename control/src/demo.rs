//! `ringway demo`: the main job on one machine, with nothing else installed.
//!
//! ```text
//!   TLS client ─► 127.0.0.1:8443 ─► engine ─► network-51820 ══veth══ machine of blue, 10.0.0.2
//!                                         └─► network-51821 ══veth══ machine of green, 10.0.0.2
//! ```
//!
//! Everything is real: namespaces, links, TLS, HTTP, and the same boot file, state document, plan
//! and engine as those of `serve`. All of it lives in this process and in a mount namespace of its
//! own, so that it is gone when the process is, however that ends.

mod authority;
mod client;
mod error;
mod gateway;
mod isolation;
mod report;
mod site;
mod tenant;

use std::{
    fs::File,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use control_kernel::namespaces::Namespaces;
use nix::{
    sys::signal::{SigSet, Signal},
    unistd::{UnlinkatFlags, unlinkat},
};

use self::{
    authority::Authority,
    error::DemoError,
    gateway::Gateway,
    report::{Form, Report, Visit},
    tenant::{TENANTS, Tenant},
};

/// Ends the demo: Ctrl-C, or a polite kill.
const ENDING: [Signal; 2] = [Signal::SIGINT, Signal::SIGTERM];

/// Runs the demo: to its end with `once`, and until a signal without. Must be called before any
/// thread is started.
///
/// Exits with status 0 when every tenant answered through the gateway and every byte was accounted.
///
/// # Errors
/// When something that the demo needs cannot be had.
pub(crate) fn run(port: u16, once: bool, json: bool) -> anyhow::Result<ExitCode> {
    let signals = SigSet::from_iter(ENDING);
    // Blocked in this thread and all that it starts, and taken at the end: nothing is left half
    // made by a Ctrl-C.
    signals
        .thread_block()
        .map_err(io::Error::from)
        .map_err(DemoError::Signal)?;
    let form = if json { Form::Json } else { Form::Text };

    let authority = Authority::new()?;
    // Where curl can read it: outside of what follows.
    let certificate = Certificate::write(&authority.pem())?;
    isolation::isolate()?;
    let mut namespaces = Namespaces::default();
    let tenants = TENANTS.map(|names| Tenant::start(names, &mut namespaces, &authority));
    let tenants = tenants.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut gateway = Gateway::start(port, &mut namespaces)?;
    let tls = authority.client()?;
    let visits = TENANTS
        .iter()
        .map(|&names| visit(&mut gateway, names, &tls))
        .collect::<Result<Vec<_>, DemoError>>()?;
    let report = Report {
        gateway: gateway.address(),
        driver: gateway.driver(),
        workers: gateway.workers(),
        visits,
        certificate: certificate.path(),
        stays: !once,
    };
    report.print(form).map_err(DemoError::Print)?;
    let all_is_well = report.is_right();
    if !once {
        gateway.narrate(form);
        signals
            .wait()
            .map_err(io::Error::from)
            .map_err(DemoError::Signal)?;
    }
    gateway.end();
    drop(tenants);
    Ok(if all_is_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Asks one tenant and compares what the client counted with what the gateway accounted.
fn visit(
    gateway: &mut Gateway,
    names: tenant::Names,
    tls: &std::sync::Arc<rustls::ClientConfig>,
) -> Result<Visit, DemoError> {
    let ask = |source| DemoError::Ask(names.hostname, source);
    let answer = client::ask(gateway.address(), names.hostname, tls).map_err(ask)?;
    let text = answer
        .body()
        .ok_or(DemoError::Answer(names.hostname))?
        .to_owned();
    let accounted = gateway.wait_for_closed(names.hostname);
    Ok(Visit {
        names,
        text,
        sent: answer.sent,
        received: answer.received,
        accounted,
    })
}

/// The authority's certificate in a file, for curl. Removed when dropped.
struct Certificate {
    path: PathBuf,
    /// The directory that it is in, which may be out of sight by then.
    directory: File,
    name: String,
}

impl Certificate {
    fn write(pem: &str) -> Result<Self, DemoError> {
        let name = format!("ringway-demo-{}.pem", std::process::id());
        let parent = std::env::temp_dir();
        let path = parent.join(&name);
        let write = || {
            let directory = File::open(&parent)?;
            // A file that is there already belongs to somebody else, or leads somewhere else.
            File::create_new(&path)?.write_all(pem.as_bytes())?;
            Ok(directory)
        };
        match write() {
            Ok(directory) => Ok(Self {
                path,
                directory,
                name,
            }),
            Err(source) => Err(DemoError::Write(path, source)),
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        // It holds no secret: at worst a small file is left in the directory for such files.
        let _ = unlinkat(
            &self.directory,
            self.name.as_str(),
            UnlinkatFlags::NoRemoveDir,
        );
    }
}

/// Loopback, so that the demo serves nobody but this machine.
fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
