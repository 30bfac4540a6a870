//! The run of a workload: all contestants in alternation, round after round.

use std::{collections::BTreeMap, io::IsTerminal, time::Duration};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    lab::Lab,
    machine::{Machine, today},
    peer::Peer,
    results::{Results, Sample},
    statistics::rotated,
    wireguard::Implementation,
    workload::{Case, Contest, Contestant, Workload},
};

/// Runs a workload and gives what it measured. A contestant that fails is a fault in the results
/// and does not end the run.
///
/// # Errors
/// When nobody could be measured at all.
pub(crate) fn run(lab: &Lab, workload: Workload) -> Result<Results> {
    let contest = workload.contest();
    let part = lab.part.of(contest.cases(lab));
    let cases: Vec<_> = part.iter().map(|(_, case)| case.clone()).collect();
    let progress = progress(lab, &workload.name(), &cases)?;
    let mut samples = Vec::new();
    for (number, case) in &part {
        for round in 0..lab.rounds {
            for contestant in rotated(&case.contestants, round as usize) {
                progress.set_message(format!("{}: {}", case.name, contestant.label()));
                let sample = measure(lab, contest.as_ref(), *number, case, contestant, round);
                tell(&progress, &sample);
                samples.push(sample);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    if samples.iter().all(|sample| sample.values.is_empty()) {
        let faults: Vec<_> = samples.iter().flat_map(|sample| &sample.faults).collect();
        bail!("{}: nothing could be measured: {faults:?}", workload.name());
    }
    let mut results = Results {
        workload: workload.name(),
        title: contest.title().to_owned(),
        subject: contest.subject().label().to_owned(),
        date: today(),
        machine: Machine::this(),
        versions: versions(lab, &cases),
        absent: absent(lab, &cases),
        rounds: lab.rounds,
        seconds: lab.seconds,
        figures: contest.figures(),
        compared: contest.compares(),
        samples,
        verdicts: Vec::new(),
    };
    let targets = contest.targets();
    results.verdicts = targets
        .iter()
        .flat_map(|target| target.judge(&results))
        .collect();
    Ok(results)
}

fn measure(
    lab: &Lab,
    contest: &dyn Contest,
    number: usize,
    case: &Case,
    contestant: Contestant,
    round: u32,
) -> Sample {
    let mut sample = Sample {
        case: case.name.clone(),
        contestant: contestant.label().to_owned(),
        round,
        values: BTreeMap::new(),
        faults: Vec::new(),
    };
    match contest.measure(lab, number, contestant) {
        Ok(outcome) => (sample.values, sample.faults) = (outcome.values, outcome.faults),
        Err(error) => sample.faults.push(format!("{error:#}")),
    }
    sample
}

fn progress(lab: &Lab, name: &str, cases: &[Case]) -> Result<ProgressBar> {
    let each_round: usize = cases.iter().map(|case| case.contestants.len()).sum();
    let style = ProgressStyle::with_template(
        "{prefix:>9} {bar:30} {pos}/{len} {elapsed_precise} left {eta} {wide_msg}",
    )
    .context("the progress bar's template is wrong")?;
    let progress = ProgressBar::new(each_round as u64 * u64::from(lab.rounds))
        .with_style(style)
        .with_prefix(name.to_owned());
    progress.enable_steady_tick(Duration::from_secs(1));
    Ok(progress)
}

/// Where there is no terminal for the bar, each measure is a line.
fn tell(progress: &ProgressBar, sample: &Sample) {
    if std::io::stderr().is_terminal() && sample.faults.is_empty() {
        return;
    }
    let values: Vec<_> = sample
        .values
        .iter()
        .map(|(key, value)| format!("{key} {value:.4}"))
        .collect();
    let line = format!(
        "{} / {} / round {}: {} {}",
        sample.case,
        sample.contestant,
        sample.round + 1,
        values.join(", "),
        sample.faults.join("; ")
    );
    progress.suspend(|| {
        use std::io::Write;
        // Without anybody to read it, the line is lost, and the run goes on.
        let _ = writeln!(std::io::stderr(), "{line}");
    });
}

fn versions(lab: &Lab, cases: &[Case]) -> BTreeMap<String, String> {
    let peers = peers_of(cases).map(|peer| (peer.label(), lab.tools.version(peer)));
    let implementations = implementations_of(cases);
    let implementations =
        implementations.map(|one| (one.label(), lab.tools.implementation_version(one)));
    peers
        .chain(implementations)
        .filter_map(|(label, version)| Some((label.to_owned(), version?)))
        .collect()
}

fn implementations_of(cases: &[Case]) -> impl Iterator<Item = Implementation> {
    let contestants = cases.iter().flat_map(|case| &case.contestants);
    contestants
        .filter_map(|contestant| match contestant {
            Contestant::Tunnel(pair) => Some([pair.left, pair.right]),
            Contestant::Device(one) => Some([*one, *one]),
            Contestant::Direct
            | Contestant::Peer(_)
            | Contestant::Runtime(_)
            | Contestant::Variant(_)
            | Contestant::Library(_) => None,
        })
        .flatten()
}

fn peers_of(cases: &[Case]) -> impl Iterator<Item = Peer> {
    let contestants = cases.iter().flat_map(|case| &case.contestants);
    contestants.filter_map(|contestant| match contestant {
        Contestant::Peer(peer) => Some(*peer),
        Contestant::Variant(_) => Some(Peer::Ringway),
        Contestant::Direct
        | Contestant::Runtime(_)
        | Contestant::Tunnel(_)
        | Contestant::Device(_)
        | Contestant::Library(_) => None,
    })
}

/// The peers that were asked for and take part in no case, where peers take part at all.
fn absent(lab: &Lab, cases: &[Case]) -> BTreeMap<String, String> {
    let mut contestants = cases.iter().flat_map(|case| &case.contestants);
    if !contestants.any(|contestant| matches!(contestant, Contestant::Peer(_))) {
        return BTreeMap::new();
    }
    let taking_part: Vec<_> = peers_of(cases).collect();
    let missing = lab.peers.iter().filter(|peer| !taking_part.contains(peer));
    missing
        .map(|peer| {
            let reason = match lab.tools.find(*peer) {
                None => "not installed",
                Some(_) => "cannot do this work",
            };
            (peer.label().to_owned(), reason.to_owned())
        })
        .collect()
}
