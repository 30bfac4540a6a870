//! Pure arithmetic on the samples of several rounds.

use serde::{Deserialize, Serialize};

/// The middle value; of an even number, the mean of both middle ones. None of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0)
}

/// Least, middle and greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None of nothing.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        Some(Self {
            min: values.iter().copied().reduce(f64::min)?,
            median: median(values)?,
            max: values.iter().copied().reduce(f64::max)?,
        })
    }
}

/// How one contestant stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// Median of the one by median of the other.
    pub(crate) of_medians: f64,
    /// Median of the ratios within each round: what a slow drift of the machine does not touch.
    pub(crate) per_round: f64,
}

impl Ratio {
    /// `subject` to `other`, each with the rounds that it was measured in. None when they have no
    /// round in common, or the other's figures are zero.
    pub(crate) fn of(subject: &[(u32, f64)], other: &[(u32, f64)]) -> Option<Self> {
        let values = |rounds: &[(u32, f64)]| rounds.iter().map(|(_, v)| *v).collect::<Vec<_>>();
        let of_medians = median(&values(subject))? / median(&values(other))?;
        let pairs: Vec<_> = subject
            .iter()
            .filter_map(|(round, value)| {
                let (_, against) = other.iter().find(|(other, _)| other == round)?;
                Some(value / against)
            })
            .collect();
        let per_round = median(&pairs)?;
        (of_medians.is_finite() && per_round.is_finite()).then_some(Self {
            of_medians,
            per_round,
        })
    }
}

/// `contestants` in the order of a round: each is first in turn, so that none always runs after
/// the same neighbour's heat, caches and closing sockets.
pub(crate) fn rotated<T: Copy>(contestants: &[T], round: usize) -> Vec<T> {
    let mut order = contestants.to_vec();
    if !order.is_empty() {
        let places = round % order.len();
        order.rotate_left(places);
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_both_middles() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn one_outlier_moves_neither_median_nor_ratio() {
        let calm = [(0, 10.0), (1, 10.0), (2, 10.0)];
        let noisy = [(0, 5.0), (1, 5.0), (2, 500.0)];
        let ratio = Ratio::of(&calm, &noisy).unwrap();
        assert_eq!((ratio.of_medians, ratio.per_round), (2.0, 2.0));
    }

    #[test]
    fn a_drift_that_both_share_cancels_in_the_rounds() {
        let subject: Vec<_> = (1..=5).map(|n| (n, f64::from(n) * 1.2)).collect();
        let other: Vec<_> = (1..=5).map(|n| (n, f64::from(n))).collect();
        assert!((Ratio::of(&subject, &other).unwrap().per_round - 1.2).abs() < 1e-9);
    }

    #[test]
    fn rounds_that_only_one_of_them_has_do_not_pair() {
        let ratio = Ratio::of(&[(0, 4.0), (1, 6.0)], &[(1, 3.0)]).unwrap();
        assert_eq!(ratio.per_round, 2.0);
        assert_eq!(Ratio::of(&[(0, 4.0)], &[(1, 3.0)]), None);
    }

    #[test]
    fn a_figure_of_zero_gives_no_ratio() {
        assert_eq!(Ratio::of(&[(0, 4.0)], &[(0, 0.0)]), None);
    }

    #[test]
    fn everybody_is_first_in_turn() {
        let first: Vec<_> = (0..4).map(|round| rotated(&[1, 2, 3], round)[0]).collect();
        assert_eq!(first, [1, 2, 3, 1]);
        assert!(rotated::<u8>(&[], 3).is_empty());
    }

    proptest! {
        #[test]
        fn the_median_lies_between_least_and_greatest(
            values in prop::collection::vec(-1e9..1e9_f64, 1..40)
        ) {
            let spread = Spread::of(&values).unwrap();
            prop_assert!(spread.min <= spread.median && spread.median <= spread.max);
            let below = values.iter().filter(|value| **value < spread.median).count();
            prop_assert!(below * 2 <= values.len());
        }
    }
}
