//! Settings of a namespace under `/proc/sys/net`.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use engine_sys::netns::Netns;

use super::error::Refusal;

/// What makes a namespace forward packets of both families (`ip-sysctl.rst` of the kernel).
const FORWARDING: [&str; 2] = [
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/ipv6/conf/all/forwarding",
];

/// Peers of a network reach each other through one device. Nobody is to be told that there is a
/// shorter way: the kernel's WireGuard switches that off by itself, a TUN device does not.
const REDIRECTS: [&str; 2] = [
    "/proc/sys/net/ipv4/conf/all/send_redirects",
    "/proc/sys/net/ipv4/conf/default/send_redirects",
];

/// Longest value that is read.
const VALUE_BYTES_MAX: u64 = 16;

/// Whether packets of both families are forwarded. A kernel without IPv6 forwards none of it.
pub(super) fn is_forwarding(netns: &Netns) -> Result<bool, Refusal> {
    for setting in FORWARDING {
        match read(netns, setting) {
            Ok(value) if value.trim() == "0" => return Ok(false),
            Ok(_) => {}
            Err(error) if is_missing_family(setting, &error) => {}
            Err(error) => return Err(refused(setting, error)),
        }
    }
    Ok(true)
}

/// Forwards packets of both families from now on.
pub(super) fn forward(netns: &Netns) -> Result<(), Refusal> {
    for setting in REDIRECTS {
        write(netns, setting, "0").map_err(|error| refused(setting, error))?;
    }
    for setting in FORWARDING {
        match write(netns, setting, "1") {
            Err(error) if !is_missing_family(setting, &error) => {
                return Err(refused(setting, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Whether the other IPv4 addresses of a network stay on a device when the first one goes.
pub(super) fn is_promoting(netns: &Netns, device: &str) -> Result<bool, Refusal> {
    for device in ["all", device] {
        let setting = promotion(device);
        match read(netns, &setting) {
            Ok(value) if value.trim() == "0" => {}
            Ok(_) => return Ok(true),
            // The device has gone meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(&setting, error)),
        }
    }
    Ok(false)
}

/// Has them stay from now on.
pub(super) fn promote(netns: &Netns, device: &str) -> Result<(), Refusal> {
    let setting = promotion(device);
    write(netns, &setting, "1").map_err(|error| refused(&setting, error))
}

fn promotion(device: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{device}/promote_secondaries")
}

fn is_missing_family(setting: &str, error: &io::Error) -> bool {
    setting.starts_with("/proc/sys/net/ipv6/") && error.kind() == io::ErrorKind::NotFound
}

fn refused(setting: &str, source: io::Error) -> Refusal {
    Refusal::Setting {
        path: PathBuf::from(setting),
        source,
    }
}

/// The file belongs to the namespace of the thread that opens it (`net_ctl_header_lookup` in
/// `net/sysctl_net.c`), whoever uses it then.
fn read(netns: &Netns, setting: &str) -> io::Result<String> {
    let file = netns.enter(|| Ok(File::open(Path::new(setting))?.into()))?;
    let mut value = String::new();
    File::from(file)
        .take(VALUE_BYTES_MAX)
        .read_to_string(&mut value)?;
    Ok(value)
}

fn write(netns: &Netns, setting: &str, value: &str) -> io::Result<()> {
    let open = || Ok(OpenOptions::new().write(true).open(setting)?.into());
    File::from(netns.enter(open)?).write_all(value.as_bytes())
}
