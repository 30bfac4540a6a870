//! ChaCha20-Poly1305 on packets, in several libraries: one core, nothing else. The libraries are in a
//! program of their own (`bench/ciphers`), so that none of them is in Ringway's tree.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Case, Contest, Contestant, Outcome};
use crate::{
    lab::Lab,
    process::tied,
    results::{Figure, Values},
    target::Target,
};

#[derive(Debug)]
pub(super) struct Ciphers;

/// What boringtun seals with, and so Ringway.
const IN_USE: &str = "ring";

impl Contest for Ciphers {
    fn title(&self) -> &'static str {
        "ChaCha20-Poly1305 on 45 pieces of 1,420 bytes, one core"
    }

    fn subject(&self) -> Contestant {
        Contestant::Library(IN_USE)
    }

    fn figures(&self) -> Vec<Figure> {
        vec![
            Figure::higher("seal", "sealed one by one", "GB/s"),
            Figure::higher("open", "opened one by one", "GB/s"),
            Figure::higher("whole", "sealed as one message of 63,900 bytes", "GB/s"),
        ]
    }

    fn cases(&self, lab: &Lab) -> Vec<Case> {
        let list = lab.tools.ciphers().and_then(|program| {
            let output = Command::new(program).output().ok()?;
            String::from_utf8(output.stdout).ok()
        });
        // The program says what it has, and what the processor can do.
        let list = list.unwrap_or_default();
        let mut lines = list.lines();
        let name = lines.next().unwrap_or("not built");
        // They are named once in a run, and a run is a process.
        let libraries: Vec<_> = lines
            .map(|line| Contestant::Library(Box::leak(line.into())))
            .collect();
        vec![Case::new(name, &libraries)]
    }

    fn targets(&self) -> Vec<Target> {
        Vec::new()
    }

    fn measure(&self, lab: &Lab, _: usize, contestant: Contestant) -> Result<Outcome> {
        let program = lab.tools.ciphers().context("the program is not built")?;
        let mut command = Command::new(program);
        command.args([contestant.label(), &lab.seconds.to_string()]);
        let output = tied(&command).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", errors.trim());
        let values: Values = serde_json::from_slice(&output.stdout)?;
        Ok(Outcome {
            values,
            faults: Vec::new(),
        })
    }
}
