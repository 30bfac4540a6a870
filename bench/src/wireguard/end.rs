//! One end of a tunnel: a sandbox that is the host, the implementation's process in it, and the tenant's
//! namespace that the device is in.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    os::unix::net::UnixStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use control_api::state::PrivateKey;
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use super::{Family, Implementation, Side, inside};
use crate::{
    gateway::{Backend, Gateway},
    lab::{Lab, folder},
    process::{Process, tied},
    sandbox::{Sandbox, ip},
    tenants,
    workload::NAME,
};

/// The MTU of every device: what is left of 1500 bytes when WireGuard goes over IPv6.
pub(crate) const MTU: u16 = 1420;
/// The UDP port of either end.
const PORT: u16 = 51_820;
/// Port of the HTTPS server in the right tenant's namespace.
pub(crate) const SERVER_PORT: u16 = 443;
/// What a device is called, where the league says so.
const DEVICE: &str = "wg0";
/// The tenant's namespace of a device that has no gateway above it.
const TENANT: &str = "tenant";
/// Time for a process to take its configuration, and for a server to listen.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running end. It ends when dropped: first the process, then what it was in.
#[derive(Debug)]
pub(crate) struct End {
    carrier: Carrier,
    pub(crate) sandbox: Sandbox,
    /// Name of the tenant's namespace, in the sandbox.
    pub(crate) tenant: String,
}

#[derive(Debug)]
enum Carrier {
    Gateway(Box<Gateway>),
    Device { process: Process, _dir: TempDir },
}

/// What an end is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) implementation: Implementation,
    pub(super) side: Side,
    /// Of the underlay.
    pub(super) outer: Family,
}

impl End {
    /// Starts the implementation in `sandbox` and gives it its peer.
    ///
    /// # Errors
    /// When it is not installed, does not start, or does not take its configuration.
    pub(super) fn start(lab: &Lab, sandbox: Sandbox, setting: Setting) -> Result<Self> {
        let lab = lab.clone();
        let (carrier, tenant) = if setting.implementation == Implementation::Ringway {
            let gateway = sandbox.run(move || gateway(&lab, setting))?;
            (gateway, format!("network-{PORT}"))
        } else {
            (
                sandbox.run(move || device(&lab, setting))?,
                TENANT.to_owned(),
            )
        };
        Ok(Self {
            carrier,
            sandbox,
            tenant,
        })
    }

    /// The process that carries the packets.
    pub(crate) fn pid(&self) -> Pid {
        match &self.carrier {
            Carrier::Gateway(gateway) => gateway.pid(),
            Carrier::Device { process, .. } => process.pid(),
        }
    }

    /// Port of the gateway's TLS listener on 127.0.0.1, where there is a gateway.
    pub(crate) fn listener(&self) -> Option<u16> {
        match &self.carrier {
            Carrier::Gateway(gateway) => Some(gateway.port),
            Carrier::Device { .. } => None,
        }
    }

    /// Whether it still runs as it should.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn check(&mut self) -> Result<()> {
        match &mut self.carrier {
            Carrier::Gateway(gateway) => gateway.check(),
            Carrier::Device { process, .. } => process.check_running(),
        }
    }

    /// How many sockets of the tenant pass a filter (ss(8)).
    ///
    /// # Errors
    /// When ss cannot be run.
    pub(super) fn sockets(&self, filter: &[&str]) -> Result<usize> {
        let mut ss = Command::new("ss");
        ss.args(["-H", "-t", "-u", "-n"]).args(filter);
        let mut ss = tied(&self.inside(&ss));
        let output = self.sandbox.run(move || Ok(ss.output()?))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().count())
    }

    /// Starts a server in the tenant's namespace, its output in `dir`, and waits until it listens on
    /// the port.
    ///
    /// # Errors
    /// When it ends at once or does not listen in time.
    pub(crate) fn serve(
        &self,
        name: &'static str,
        command: &Command,
        dir: &TempDir,
        port: u16,
    ) -> Result<Process> {
        let (command, path) = (self.inside(command), dir.path().to_owned());
        let start = move || Process::start(name, &command, &path, &[]);
        let mut process = self.sandbox.run(start)?;
        let (start, port) = (Instant::now(), format!(":{port}"));
        while self.sockets(&["-l", "sport", "=", &port])? == 0 {
            process.check_running()?;
            ensure!(start.elapsed() < SOCKET_TIMEOUT, "{name} does not listen");
            thread::sleep(LOOK_EVERY);
        }
        Ok(process)
    }

    /// `command` in the tenant's namespace; to be started in the sandbox.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        inside(&self.tenant, command)
    }
}

/// A gateway with one network, which names the other end as its peer.
fn gateway(lab: &Lab, setting: Setting) -> Result<Carrier> {
    let gateway = Gateway::start(lab, Backend::Userspace, None)?;
    let Setting { side, outer, .. } = setting;
    let other = side.other();
    let allowed = [Family::V4, Family::V6].map(|family| alone(other, family));
    let peer = json!({ "allowed_ips": allowed, "endpoint": endpoint(other, outer) });
    let server = format!("{}:{SERVER_PORT}", Side::Right.inner(Family::V4));
    let network = json!({
        "private_key": private_key(side),
        "address": addresses(side),
        "mtu": MTU,
        "peers": { public_key(other)?: peer },
        "proxy": { format!("https://{NAME}"): [server] },
    });
    let document = json!({ PORT.to_string(): network });
    gateway.api.apply(&document.to_string())?;
    Ok(Carrier::Gateway(Box::new(gateway)))
}

/// A device without a gateway. Made in the host's namespace, where its UDP socket stays, and moved
/// into the tenant's, as gateways do it.
fn device(lab: &Lab, setting: Setting) -> Result<Carrier> {
    let Setting {
        implementation,
        side,
        outer,
    } = setting;
    let program = lab.tools.implementation(implementation);
    let program =
        program.with_context(|| format!("{} is not installed", implementation.label()))?;
    ip(&["netns", "add", TENANT])?;
    let dir = folder()?;
    let command = implementation.device(&program, DEVICE);
    let mut process = Process::start(implementation.label(), &command, dir.path(), &[])?;
    configure(DEVICE, &configuration(side, outer)?)?;
    process.check_running()?;
    let mtu = MTU.to_string();
    ip(&["link", "set", DEVICE, "mtu", &mtu, "netns", TENANT])?;
    let tenants = |arguments: &[&str]| ip(&[&["-n", TENANT], arguments].concat());
    tenants(&["link", "set", "lo", "up"])?;
    for address in addresses(side) {
        tenants(&["address", "add", &address, "dev", DEVICE, "nodad"])?;
    }
    tenants(&["link", "set", DEVICE, "up"])?;
    Ok(Carrier::Device { process, _dir: dir })
}

/// What a device is told over its socket
/// (<https://www.wireguard.com/xplatform/#configuration-protocol>).
pub(crate) fn configuration(side: Side, outer: Family) -> Result<String> {
    let other = side.other();
    let mut text = format!(
        "set=1\nprivate_key={}\nlisten_port={PORT}\nreplace_peers=true\npublic_key={}\n\
         endpoint={}\nreplace_allowed_ips=true\n",
        private_key(side),
        public_key(other)?,
        endpoint(other, outer),
    );
    for family in [Family::V4, Family::V6] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "allowed_ip={}", alone(other, family));
    }
    text.push('\n');
    Ok(text)
}

/// Tells a device of this sandbox its configuration, once its socket is there.
///
/// # Errors
/// When there is none in time, or it refuses.
pub(crate) fn configure(device: &str, configuration: &str) -> Result<()> {
    let path = format!("/var/run/wireguard/{device}.sock");
    let start = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) if start.elapsed() > SOCKET_TIMEOUT => bail!("{path}: {error}"),
            Err(_) => thread::sleep(LOOK_EVERY),
        }
    };
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    stream.write_all(configuration.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    ensure!(answer.trim() == "errno=0", "{path} answers {answer:?}");
    Ok(())
}

/// The key of an end, the same in every run: nothing is secret here.
fn private_key(side: Side) -> String {
    tenants::private_key(side.number().into())
}

fn public_key(side: Side) -> Result<String> {
    let private: PrivateKey = private_key(side).parse()?;
    let public = private.public_key();
    let bytes = public.as_bytes().iter();
    Ok(bytes.map(|byte| format!("{byte:02x}")).collect())
}

fn endpoint(side: Side, outer: Family) -> String {
    let address = side.outer(outer);
    match outer {
        Family::V4 => format!("{address}:{PORT}"),
        Family::V6 => format!("[{address}]:{PORT}"),
    }
}

/// An end's own address as a prefix.
fn alone(side: Side, family: Family) -> String {
    let bits = match family {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    format!("{}/{bits}", side.inner(family))
}

/// The addresses of an end's device, with the prefix that both are in.
fn addresses(side: Side) -> [String; 2] {
    [
        format!("{}/24", side.inner(Family::V4)),
        format!("{}/64", side.inner(Family::V6)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_the_others_key_and_place() {
        let text = configuration(Side::Left, Family::V6).unwrap();
        let key = public_key(Side::Right).unwrap();
        assert!(text.contains(&format!("public_key={key}\n")), "{text}");
        assert!(text.contains("endpoint=[fd00:2::2]:51820\n"), "{text}");
        assert!(text.contains("allowed_ip=10.9.0.2/32\n"), "{text}");
        assert!(text.ends_with("\n\n"), "{text}");
    }
}
