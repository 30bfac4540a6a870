//! `ringway demo`: it shows what it says, and leaves nothing.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tests::{lab::Lab, leak::Surroundings, stream, tests, wait::eventually};

fn main() -> ExitCode {
    tests::runner::main(tests![
        the_demo_once_shows_both_tenants_and_every_byte,
        the_demo_stays_until_ctrl_c_and_takes_everything_with_it,
        a_killed_demo_leaves_no_namespace_and_no_mount,
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
    let tenants = report["tenants"].as_array().context("no tenants")?;
    ensure!(tenants.len() == 2);
    for (tenant, name) in tenants.iter().zip(["blue", "green"]) {
        ensure!(
            tenant["target"] == "10.0.0.2:443",
            "the same address for both: {tenant}"
        );
        ensure!(tenant["hostname"] == format!("{name}.example"), "{tenant}");
        let answer = tenant["answer"].as_str().unwrap_or_default();
        ensure!(answer.starts_with(&format!("I am {name},")), "{tenant}");
        for direction in ["bytes_in", "bytes_out"] {
            let accounted = &tenant["accounted"][direction];
            ensure!(
                accounted.as_u64().is_some_and(|bytes| bytes > 0),
                "{tenant}"
            );
            ensure!(*accounted == tenant["client"][direction], "{tenant}");
        }
    }
    Ok(())
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
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    Ok((child, serde_json::from_str(&line)?))
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
    ensure!(left(lab)? == 0, "files are left");
    Ok(())
}

fn a_killed_demo_leaves_no_namespace_and_no_mount(lab: &mut Lab) -> Result<()> {
    let before = Surroundings::observe()?;
    let (mut child, _) = staying(lab)?;
    signal(&child, Signal::SIGKILL)?;
    child.wait()?;
    ensure!(Surroundings::observe()? == before);
    // All that may be left is the certificate.
    ensure!(left(lab)? <= 1);
    Ok(())
}

fn two_demos_find_ports_of_their_own(lab: &mut Lab) -> Result<()> {
    let (mut one, first) = staying(lab)?;
    let (mut other, second) = staying(lab)?;
    ensure!(first["gateway"] == "127.0.0.1:8443", "{first}");
    ensure!(second["gateway"] == "127.0.0.1:8444", "{second}");
    for child in [&mut one, &mut other] {
        signal(child, Signal::SIGTERM)?;
        ensure!(child.wait()?.success());
    }
    ensure!(
        stream::connect("127.0.0.1:8443".parse()?).is_err(),
        "nobody listens any more"
    );
    Ok(())
}
