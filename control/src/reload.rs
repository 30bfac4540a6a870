//! `ringway reload`: has a running gateway read its boot file again, and says what came of it.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::ExitCode,
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};

use crate::{
    cli::ReloadArgs,
    serve::results::{NAME, READY, TAKEN, address},
};

/// Most of what is said of a boot file.
const RESULT_BYTES_MAX: u64 = 4 << 20;

/// Sends SIGHUP and waits for the result; answers 1 when the boot file is refused.
///
/// # Errors
/// When there is no gateway, or it does not answer in time.
pub(crate) fn run(args: &ReloadArgs) -> anyhow::Result<ExitCode> {
    let pid = match args.pid {
        Some(pid) => pid,
        None => only_gateway()?,
    };
    let stream = connect(pid).with_context(|| {
        format!("asking the process {pid}, which is no running gateway or another user's")
    })?;
    stream.set_read_timeout(Some(args.timeout))?;
    let mut answer = BufReader::new(stream.take(RESULT_BYTES_MAX));
    let mut line = String::new();
    answer.read_line(&mut line)?;
    ensure!(
        line.trim_end() == READY,
        "the gateway {pid} tells its results to others already, or to its own user alone"
    );
    kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGHUP)
        .with_context(|| format!("sending SIGHUP to {pid}"))?;
    let mut result = String::new();
    answer.read_to_string(&mut result).with_context(|| {
        let timeout = humantime::format_duration(args.timeout);
        format!("waiting for the result, which did not come within {timeout}")
    })?;
    let Some((verdict, lines)) = result.split_once('\n') else {
        bail!("the gateway {pid} has ended, or is about to");
    };
    // The status says the same when nobody reads this.
    let _ = io::stderr().lock().write_all(lines.as_bytes());
    if verdict == TAKEN {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("the boot file is refused, and the running state stays")
}

/// Connects to the gateway of a process, and to nobody who took its name.
fn connect(pid: u32) -> anyhow::Result<UnixStream> {
    let stream = UnixStream::connect_addr(&address(pid)?)?;
    let peer = getsockopt(&stream, PeerCredentials)?.pid();
    ensure!(
        u32::try_from(peer) == Ok(pid),
        "the process {peer} answers in its place"
    );
    Ok(stream)
}

/// The one gateway of this machine, or of this container.
fn only_gateway() -> anyhow::Result<u32> {
    let list = fs::read_to_string("/proc/net/unix").context("looking for a running gateway")?;
    let mut found = gateways_in(&list);
    match (found.pop(), found.is_empty()) {
        (Some(pid), true) => Ok(pid),
        (Some(_), false) => bail!("several gateways run: name the process with --pid"),
        (None, _) => bail!("no gateway runs here: name the process with --pid"),
    }
}

fn gateways_in(list: &str) -> Vec<u32> {
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7));
    let pids = names.filter_map(|name| name.strip_prefix('@')?.strip_prefix(NAME)?.parse().ok());
    let mut pids: Vec<u32> = pids.collect();
    pids.sort_unstable();
    // Connections have the name of the socket that took them, too.
    pids.dedup();
    pids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_found_by_their_sockets() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/ringway/api.sock\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 2 @ringway-reload-77\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 3 @ringway-reload-77\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 4 @ringway-reload-x\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 5\n";
        assert_eq!(gateways_in(list), [77]);
    }
}
