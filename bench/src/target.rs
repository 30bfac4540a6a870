//! What the project aims at, held against the medians of a run.

use serde::{Deserialize, Serialize};

use crate::results::{Better, Results};

/// The contestant without a proxy: a measure of the machine, not a peer.
pub(crate) const DIRECT: &str = "direct";

/// An aim.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Part of the names of the cases that it is for.
    pub(crate) case: &'static str,
    /// Key of the figure.
    pub(crate) figure: &'static str,
    pub(crate) against: Against,
}

/// What the subject's median is held against.
#[derive(Clone, Debug)]
pub(crate) enum Against {
    /// That many times the best peer's: at least where higher is better, at most where lower is.
    BestPeer(f64),
    /// That many times the named contestant's.
    Contestant(&'static str, f64),
    /// The named contestant's and that much more, where lower is better.
    Over(&'static str, f64),
    /// That many times its own figure in the named case.
    Case(&'static str, f64),
    /// The first one's own figure, against that many times the second one's.
    Between(&'static str, &'static str, f64),
    /// A figure that was asked for: the named contestant's own is held against it, not the
    /// subject's.
    Asked(&'static str, f64),
}

/// Whether an aim was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// The aim and the figures, in words.
    pub(crate) text: String,
    pub(crate) reached: bool,
}

impl Target {
    /// The verdicts on all cases that this is for and that have figures.
    pub(crate) fn judge(&self, results: &Results) -> Vec<Verdict> {
        let cases = results.cases().into_iter();
        cases
            .filter(|case| case.contains(self.case))
            .filter_map(|case| self.judge_case(results, case))
            .collect()
    }

    fn judge_case(&self, results: &Results, case: &str) -> Option<Verdict> {
        let figure = results
            .figures
            .iter()
            .find(|figure| figure.key == self.figure)?;
        let median = |contestant: &str| {
            let summary = results.summary(case, contestant, figure)?;
            Some(summary.spread.median)
        };
        let of = match self.against {
            Against::Asked(name, _) | Against::Between(name, ..) => name,
            Against::BestPeer(_)
            | Against::Contestant(..)
            | Against::Over(..)
            | Against::Case(..) => &results.subject,
        };
        let own = median(of)?;
        let (limit, aim) = match self.against {
            Against::BestPeer(factor) => {
                let (name, best) = best_peer(results, case, figure.better, median)?;
                (best * factor, format!("{factor} × the best peer, {name}"))
            }
            Against::Case(other, factor) => {
                let there = results.summary(other, of, figure)?.spread.median;
                (there * factor, format!("{factor} × {other}"))
            }
            Against::Contestant(name, factor) | Against::Between(_, name, factor) => {
                (median(name)? * factor, format!("{factor} × {name}"))
            }
            Against::Over(name, more) => (
                median(name)? + more,
                format!("{more} {} over {name}", figure.unit),
            ),
            Against::Asked(name, asked) => (asked, format!("what is asked of {name}")),
        };
        let (reached, bound) = match figure.better {
            Better::Higher => (own >= limit, "at least"),
            Better::Lower => (own <= limit, "at most"),
        };
        let text = format!(
            "{case}, {}: {bound} {aim} = {limit:.4} {unit}; {own:.4} {unit}",
            figure.name,
            unit = figure.unit,
        );
        Some(Verdict { text, reached })
    }
}

/// The best of all peers whose bytes arrived as they were sent.
fn best_peer<'a>(
    results: &'a Results,
    case: &str,
    better: Better,
    median: impl Fn(&str) -> Option<f64>,
) -> Option<(&'a str, f64)> {
    let contestants = results.samples.iter().filter(|sample| sample.case == case);
    contestants
        .map(|sample| sample.contestant.as_str())
        .filter(|name| *name != results.subject && *name != DIRECT)
        .filter_map(|name| Some((name, median(name)?)))
        .reduce(|best, other| {
            let wins = match better {
                Better::Higher => other.1 > best.1,
                Better::Lower => other.1 < best.1,
            };
            if wins { other } else { best }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    fn judge(figure: &'static str, against: Against) -> Vec<bool> {
        let target = Target {
            case: "64",
            figure,
            against,
        };
        let verdicts = target.judge(&example());
        verdicts.iter().map(|verdict| verdict.reached).collect()
    }

    #[test]
    fn a_higher_figure_has_to_be_at_least_the_aim() {
        assert_eq!(judge("rate", Against::BestPeer(1.19)), [true]);
        assert_eq!(judge("rate", Against::BestPeer(1.21)), [false]);
    }

    #[test]
    fn a_lower_figure_has_to_be_at_most_the_aim() {
        assert_eq!(judge("cpu", Against::Contestant("HAProxy", 0.84)), [true]);
        assert_eq!(judge("cpu", Against::Contestant("HAProxy", 0.82)), [false]);
        assert_eq!(judge("cpu", Against::Over("HAProxy", 0.0)), [true]);
        assert_eq!(judge("cpu", Against::Over("HAProxy", -20.0)), [false]);
    }

    #[test]
    fn others_than_the_subject_are_held_against_each_other() {
        let between = |factor| Against::Between("HAProxy", "Ringway", factor);
        assert_eq!(judge("rate", between(0.8)), [true]);
        assert_eq!(judge("rate", between(0.9)), [false]);
    }

    #[test]
    fn a_figure_is_held_against_another_case() {
        let same = |factor| Against::Case("64 <connections>", factor);
        assert_eq!(judge("rate", same(1.0)), [true]);
        assert_eq!(judge("rate", same(1.1)), [false]);
        assert!(judge("rate", Against::Case("another", 1.0)).is_empty());
    }

    #[test]
    fn an_aim_without_figures_is_not_judged() {
        assert!(judge("rate", Against::Contestant("Envoy", 1.0)).is_empty());
        assert!(judge("memory", Against::BestPeer(1.0)).is_empty());
    }
}
