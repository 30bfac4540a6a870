//! `ringway demo`: it shows what it says, and leaves nothing.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;
use tests::{api::Api, lab::Lab, leak::Surroundings, stream, tests, wait::eventually};

fn main() -> ExitCode {
    tests::runner::main(tests![
        the_demo_once_shows_both_tenants_and_every_byte,
        the_demo_stays_until_ctrl_c_and_takes_everything_with_it,
        a_demo_that_stays_is_asked_by_the_client_verbs,
        a_killed_demo_leaves_no_process_no_namespace_and_no_mount,
        a_demo_whose_peer_dies_says_so_and_ends,
        two_demos_find_ports_of_their_own,
    ])
}

fn demo(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = Command::new(lab.ringway());
    command.arg("demo").args(arguments).env_clear();
    command
        .env("RINGWAY_DRIVER", lab.driver().label())
        .env("TMPDIR", lab.directory());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn check(report: &Value, lab: &Lab) -> Result<()> {
    ensure!(
        report["ok"] == true && report["driver"] == lab.driver().label(),
        "{report}"
    );
    ensure!(
        report["generation"] == 1 && report["wireguard"]["backend"].is_string(),
        "{report}"
    );
    let tenants = report["tenants"].as_array().context("no tenants")?;
    ensure!(tenants.len() == 2);
    for (tenant, name) in tenants.iter().zip(["blue", "green"]) {
        check_tenant(tenant, name)?;
    }
    Ok(())
}

fn check_tenant(tenant: &Value, name: &str) -> Result<()> {
    ensure!(
        tenant["target"] == "10.0.0.2:443",
        "the same address for both: {tenant}"
    );
    ensure!(tenant["hostname"] == format!("{name}.example"), "{tenant}");
    let answer = tenant["answer"].as_str().unwrap_or_default();
    ensure!(answer.starts_with(&format!("I am {name},")), "{tenant}");
    ensure!(tenant["peer"]["connected"] == true, "{tenant}");
    let endpoint = tenant["peer"]["endpoint"].as_str().unwrap_or_default();
    ensure!(endpoint.starts_with("127.0.0.1:"), "{tenant}");
    ensure!(tenant["accounted"]["connections"] == 1, "{tenant}");
    for (direction, carried) in [("bytes_in", "tx"), ("bytes_out", "rx")] {
        let accounted = number(&tenant["accounted"][direction])?;
        ensure!(accounted > 0, "{tenant}");
        ensure!(
            tenant["client"][direction] == accounted,
            "every byte: {tenant}"
        );
        // Over WireGuard it is more, by the headers, but not something else.
        let carried = number(&tenant["wireguard"][carried])?;
        ensure!(
            carried > accounted && carried < accounted + 4096,
            "{tenant}"
        );
    }
    Ok(())
}

fn number(value: &Value) -> Result<u64> {
    value
        .as_u64()
        .with_context(|| format!("{value} is no number"))
}

/// The processes of a demo's gateway and peers.
fn parts(report: &Value) -> Result<Vec<Pid>> {
    let tenants = report["tenants"].as_array().context("no tenants")?;
    let peers = tenants.iter().map(|tenant| &tenant["peer"]["process"]);
    let all = std::iter::once(&report["gateway_process"]).chain(peers);
    all.map(|process| Ok(Pid::from_raw(i32::try_from(number(process)?)?)))
        .collect()
}

fn is_alive(process: Pid) -> bool {
    kill(process, None).is_ok()
}

fn the_demo_once_shows_both_tenants_and_every_byte(lab: &mut Lab) -> Result<()> {
    let output = demo(lab, &["--once", "--json"]).output()?;
    ensure!(output.status.success(), "{output:?}");
    check(&serde_json::from_slice(&output.stdout)?, lab)?;
    let text = demo(lab, &["--once"]).output()?;
    ensure!(text.status.success());
    let text = String::from_utf8(text.stdout)?;
    for told in [
        "blue.example",
        "green.example",
        "10.0.0.0/24",
        "declared over the API",
        "connected from 127.0.0.1:",
        "every byte is accounted",
    ] {
        ensure!(text.contains(told), "{told} is not in {text}");
    }
    ensure!(left(lab)? == 0, "files are left");
    Ok(())
}

/// Starts a demo that stays, and waits for its report.
fn staying(lab: &Lab) -> Result<(Child, Value)> {
    let mut child = demo(lab, &["--json"]).spawn()?;
    let report = report(&mut child)?;
    Ok((child, report))
}

fn report(child: &mut Child) -> Result<Value> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn left(lab: &Lab) -> Result<usize> {
    Ok(fs::read_dir(lab.directory())?.count())
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(child.id())?), signal)?)
}

fn the_demo_stays_until_ctrl_c_and_takes_everything_with_it(lab: &mut Lab) -> Result<()> {
    let before = Surroundings::observe()?;
    let (mut child, report) = staying(lab)?;
    check(&report, lab)?;
    let curl = report["tenants"][0]["curl"].as_str().unwrap_or_default();
    let certificate = report["certificate"].as_str().context("no certificate")?;
    ensure!(curl.contains(certificate) && fs::read_to_string(certificate)?.contains("BEGIN"));
    ensure!(
        Surroundings::observe()? == before,
        "names are in its own mount namespace"
    );
    signal(&child, Signal::SIGINT)?;
    let status = eventually("the demo ends", || child.try_wait().ok().flatten())?;
    ensure!(status.success(), "{status}");
    for part in parts(&report)? {
        ensure!(!is_alive(part), "{part} goes on");
    }
    ensure!(left(lab)? == 0, "files are left");
    Ok(())
}

fn a_demo_that_stays_is_asked_by_the_client_verbs(lab: &mut Lab) -> Result<()> {
    let (mut child, report) = staying(lab)?;
    let api = report["api"].as_str().context("no API")?;
    let status = Command::new(lab.ringway())
        .args(["status", "--json", "--api", &format!("unix:{api}")])
        .env_clear()
        .output()?;
    ensure!(status.status.success(), "{status:?}");
    let status: Value = serde_json::from_slice(&status.stdout)?;
    ensure!(status["ready"] == true, "{status}");
    let networks = status["networks"].as_object().context("no networks")?;
    ensure!(networks.len() == 2, "{status}");
    ensure!(networks.values().all(|n| n["state"] == "ok"), "{status}");
    let api = Api::at(Path::new(api));
    let config = api.get("/api/v1/config")?;
    ensure!(api.apply(&config)?["changed"] == false);
    signal(&child, Signal::SIGTERM)?;
    ensure!(child.wait()?.success());
    Ok(())
}

fn a_killed_demo_leaves_no_process_no_namespace_and_no_mount(lab: &mut Lab) -> Result<()> {
    let before = Surroundings::observe()?;
    let (mut child, report) = staying(lab)?;
    let parts = parts(&report)?;
    signal(&child, Signal::SIGKILL)?;
    child.wait()?;
    for part in parts {
        // They are orphans of this process namespace, and so children of its first process: this.
        let killed = eventually("the demo's processes die with it", || {
            match waitpid(part, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => None,
                ended => Some(ended),
            }
        })?;
        ensure!(
            matches!(killed, Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))),
            "{killed:?}"
        );
    }
    ensure!(Surroundings::observe()? == before);
    for tenant in report["tenants"].as_array().context("no tenants")? {
        let port = u16::try_from(number(&tenant["port"])?)?;
        // The kernel ends namespaces, and the devices in them, a moment after their processes.
        eventually("the port of its network is free", || {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok()
        })?;
    }
    // All that may be left is the certificate.
    ensure!(left(lab)? <= 1);
    Ok(())
}

fn a_demo_whose_peer_dies_says_so_and_ends(lab: &mut Lab) -> Result<()> {
    let mut child = demo(lab, &["--json"]).stderr(Stdio::piped()).spawn()?;
    let report = report(&mut child)?;
    let parts = parts(&report)?;
    let [gateway, blue, green] = parts[..] else {
        bail!("{} processes", parts.len());
    };
    kill(green, Signal::SIGKILL)?;
    let status = eventually("the demo ends", || child.try_wait().ok().flatten())?;
    ensure!(status.code() == Some(1), "{status}");
    let mut said = String::new();
    child
        .stderr
        .take()
        .context("no errors")?
        .read_to_string(&mut said)?;
    ensure!(said.contains("the process of green has ended"), "{said}");
    ensure!(!is_alive(gateway) && !is_alive(blue), "its others go on");
    ensure!(left(lab)? == 0, "files are left");
    Ok(())
}

fn two_demos_find_ports_of_their_own(lab: &mut Lab) -> Result<()> {
    let mut demos = [(); 2].map(|()| demo(lab, &["--json"]).spawn());
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for child in &mut demos {
        let child = child.as_mut().map_err(|error| anyhow::anyhow!("{error}"))?;
        let report = report(child)?;
        check(&report, lab)?;
        addresses.insert(report["gateway"].to_string());
        for tenant in report["tenants"].as_array().context("no tenants")? {
            ports.insert(number(&tenant["port"])?);
        }
    }
    let expected = ["\"127.0.0.1:8443\"", "\"127.0.0.1:8444\""];
    ensure!(
        addresses == expected.map(str::to_owned).into(),
        "{addresses:?}"
    );
    ensure!(
        ports.len() == 4 && ports.first() == Some(&51_820),
        "{ports:?}"
    );
    for child in demos {
        let mut child = child?;
        signal(&child, Signal::SIGTERM)?;
        ensure!(child.wait()?.success());
    }
    ensure!(
        stream::connect("127.0.0.1:8443".parse()?).is_err(),
        "nobody listens any more"
    );
    Ok(())
}
