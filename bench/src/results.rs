//! What a workload measured, as it is kept in `bench/results`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    statistics::{Ratio, Spread},
    target::Verdict,
};

/// A quantity that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// As samples call it.
    pub(crate) key: String,
    /// As people call it.
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) better: Better,
}

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Higher,
    Lower,
}

impl Figure {
    pub(crate) fn higher(key: &str, name: &str, unit: &str) -> Self {
        Self::new(key, name, unit, Better::Higher)
    }

    pub(crate) fn lower(key: &str, name: &str, unit: &str) -> Self {
        Self::new(key, name, unit, Better::Lower)
    }

    fn new(key: &str, name: &str, unit: &str, better: Better) -> Self {
        Self {
            key: key.to_owned(),
            name: name.to_owned(),
            unit: unit.to_owned(),
            better,
        }
    }
}

/// Values by the figure's key.
pub(crate) type Values = BTreeMap<String, f64>;

/// One contestant, one case, one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) case: String,
    pub(crate) contestant: String,
    pub(crate) round: u32,
    pub(crate) values: Values,
    /// What went wrong: wrong bytes, failed connections, a proxy that ended. Empty is good.
    pub(crate) faults: Vec<String>,
}

/// A whole run of one workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) workload: String,
    pub(crate) title: String,
    /// The contestant that all others are compared with.
    pub(crate) subject: String,
    pub(crate) date: String,
    pub(crate) machine: Machine,
    /// By contestant.
    pub(crate) versions: BTreeMap<String, String>,
    /// Contestants that could not take part, and why.
    pub(crate) absent: BTreeMap<String, String>,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) figures: Vec<Figure>,
    /// Whether the rows of a case are contestants on the same work; otherwise they are different
    /// work, in the order that it was measured.
    #[serde(default = "usually")]
    pub(crate) compared: bool,
    pub(crate) samples: Vec<Sample>,
    /// What was aimed at, and whether it was reached.
    pub(crate) verdicts: Vec<Verdict>,
}

/// Rows are compared where a file of results does not say.
fn usually() -> bool {
    true
}

/// One contestant's figure over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) case: String,
    pub(crate) contestant: String,
    pub(crate) figure: String,
    pub(crate) spread: Spread,
    /// The subject's figure to this contestant's; none for the subject itself.
    pub(crate) subject_ratio: Option<Ratio>,
}

impl Results {
    /// The cases in the order that they were measured.
    pub(crate) fn cases(&self) -> Vec<&str> {
        distinct(self.samples.iter().map(|sample| sample.case.as_str()))
    }

    /// The contestants of a case; the subject first, when the others are compared with it.
    pub(crate) fn contestants(&self, case: &str) -> Vec<&str> {
        let samples = self.samples.iter().filter(|sample| sample.case == case);
        let mut names = distinct(samples.map(|sample| sample.contestant.as_str()));
        if self.compared {
            names.sort_by_key(|name| *name != self.subject);
        }
        names
    }

    /// The figures that somebody has in a case, the most important first.
    pub(crate) fn figures_of(&self, case: &str) -> Vec<&Figure> {
        let shown = |figure: &&Figure| {
            let mut samples = self.samples.iter().filter(|sample| sample.case == case);
            samples.any(|sample| sample.values.contains_key(&figure.key))
        };
        self.figures.iter().filter(shown).collect()
    }

    /// A contestant's values of a figure, with their rounds.
    fn rounds_of(&self, case: &str, contestant: &str, figure: &str) -> Vec<(u32, f64)> {
        let samples = self.samples.iter();
        let own = samples.filter(|sample| sample.case == case && sample.contestant == contestant);
        own.filter_map(|sample| Some((sample.round, *sample.values.get(figure)?)))
            .collect()
    }

    /// A contestant's figure over all rounds, if it has any.
    pub(crate) fn summary(&self, case: &str, contestant: &str, figure: &Figure) -> Option<Summary> {
        let rounds = self.rounds_of(case, contestant, &figure.key);
        let values: Vec<_> = rounds.iter().map(|(_, value)| *value).collect();
        let subject = self.rounds_of(case, &self.subject, &figure.key);
        Some(Summary {
            case: case.to_owned(),
            contestant: contestant.to_owned(),
            figure: figure.key.clone(),
            spread: Spread::of(&values)?,
            subject_ratio: (self.compared && contestant != self.subject)
                .then(|| Ratio::of(&subject, &rounds))
                .flatten(),
        })
    }

    /// All summaries.
    pub(crate) fn summaries(&self) -> Vec<Summary> {
        let mut all = Vec::new();
        for case in self.cases() {
            for contestant in self.contestants(case) {
                let figures = self.figures.iter();
                all.extend(figures.filter_map(|figure| self.summary(case, contestant, figure)));
            }
        }
        all
    }

    /// What went wrong with a contestant in a case, each thing once.
    pub(crate) fn faults(&self, case: &str, contestant: &str) -> Vec<&str> {
        let samples = self.samples.iter();
        let own = samples.filter(|sample| sample.case == case && sample.contestant == contestant);
        distinct(own.flat_map(|sample| sample.faults.iter().map(String::as_str)))
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn example() -> Results {
        let sample = |contestant: &str, round, rate: f64, faults: &[&str]| Sample {
            case: "64 <connections>".into(),
            contestant: contestant.into(),
            round,
            values: [("rate".to_owned(), rate), ("cpu".to_owned(), 1e6 / rate)].into(),
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
        };
        Results {
            workload: "hello".into(),
            title: "ClientHello connections".into(),
            subject: "Ringway".into(),
            date: "2026-11-21".into(),
            machine: Machine::default(),
            versions: [("HAProxy".to_owned(), "2.6.12".to_owned())].into(),
            absent: [("sozu".to_owned(), "not installed".to_owned())].into(),
            rounds: 3,
            seconds: 3.0,
            figures: vec![
                Figure::higher("rate", "connections", "/s"),
                Figure::lower("cpu", "proxy CPU", "µs/connection"),
            ],
            compared: true,
            samples: vec![
                sample("HAProxy", 0, 10_000.0, &[]),
                sample("Ringway", 0, 12_000.0, &[]),
                sample("HAProxy", 1, 11_000.0, &["2 wrong answers"]),
                sample("Ringway", 1, 13_200.0, &[]),
                sample("HAProxy", 2, 9_000.0, &["2 wrong answers"]),
                sample("Ringway", 2, 10_800.0, &[]),
            ],
            verdicts: Vec::new(),
        }
    }

    #[test]
    fn the_subject_stands_first_and_is_not_compared_with_itself() {
        let results = example();
        let case = results.cases()[0];
        assert_eq!(results.contestants(case), ["Ringway", "HAProxy"]);
        let figure = &results.figures[0];
        let own = results.summary(case, "Ringway", figure).unwrap();
        assert_eq!(own.subject_ratio, None);
        let other = results.summary(case, "HAProxy", figure).unwrap();
        assert!((other.subject_ratio.unwrap().per_round - 1.2).abs() < 1e-9);
        assert_eq!(other.spread.median, 10_000.0);
    }

    #[test]
    fn a_figure_that_nobody_has_in_a_case_is_not_the_cases() {
        let mut results = example();
        results.figures.push(Figure::lower("p50", "p50", "µs"));
        let case = results.cases()[0];
        let keys: Vec<_> = results
            .figures_of(case)
            .iter()
            .map(|one| &one.key)
            .collect();
        assert_eq!(keys, ["rate", "cpu"]);
    }

    #[test]
    fn different_work_keeps_its_order_and_has_no_ratios() {
        let results = Results {
            compared: false,
            ..example()
        };
        let case = results.cases()[0];
        assert_eq!(results.contestants(case), ["HAProxy", "Ringway"]);
        let summaries = results.summaries();
        assert!(summaries.iter().all(|one| one.subject_ratio.is_none()));
    }

    #[test]
    fn a_fault_of_several_rounds_is_told_once() {
        let results = example();
        assert_eq!(
            results.faults("64 <connections>", "HAProxy"),
            ["2 wrong answers"]
        );
        assert!(results.faults("64 <connections>", "Ringway").is_empty());
    }
}
