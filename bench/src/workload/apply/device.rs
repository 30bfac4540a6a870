//! What a WireGuard device says about itself, asked the way `wg` asks.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::gateway::Backend;

/// Time for a change to be seen.
const SHOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two looks at a userspace device.
const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Waits until the device of the network at `port` allows `prefix` to one of its peers.
///
/// # Errors
/// When it does not in time.
pub(super) fn wait_until_shown(backend: Backend, port: u16, prefix: &str) -> Result<()> {
    let start = Instant::now();
    loop {
        let shown = match backend {
            Backend::Userspace => asked(port, &format!("allowed_ip={prefix}")),
            Backend::Kernel => wg(port, prefix),
        };
        if shown? {
            return Ok(());
        }
        if start.elapsed() > SHOWN_TIMEOUT {
            bail!("wg{port} does not show {prefix}");
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Over the socket of a userspace device
/// (<https://www.wireguard.com/xplatform/#configuration-protocol>).
fn asked(port: u16, expected: &str) -> Result<bool> {
    let path = format!("/var/run/wireguard/wg{port}.sock");
    let mut stream = UnixStream::connect(&path).with_context(|| format!("cannot ask {path}"))?;
    stream.set_read_timeout(Some(SHOWN_TIMEOUT))?;
    stream.write_all(b"get=1\n\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if line == expected {
            return Ok(true);
        }
        if line.is_empty() {
            return Ok(false);
        }
    }
    bail!("{path} ends its answer too early")
}

/// With wg(8), in the namespace of the kernel's device.
fn wg(port: u16, prefix: &str) -> Result<bool> {
    let output = Command::new("ip")
        .args(["netns", "exec", &format!("network-{port}")])
        .args(["wg", "show", &format!("wg{port}"), "allowed-ips"])
        .output()
        .context("cannot run ip (iproute2)")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("wg show wg{port}: {}", error.trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_whitespace().any(|word| word == prefix))
}
