//! The highest rate of datagrams at which nearly all arrive.

use anyhow::{Context, Result};

use crate::wireguard::iperf::Carried;

/// More than that is too much, in per cent.
const LOSS_MAX: f64 = 1.0;
/// Where it begins, in bits a second: what everybody can do.
const FIRST: u64 = 200_000_000;
/// No sender of this league sends that much in one flow.
const MOST: u64 = 25_600_000_000;
/// Halvings of the last step: an eighth of it is left.
const HALVINGS: u32 = 3;

/// Doubles what is offered until too much is lost, or the sender cannot offer it; then looks between
/// the last two.
///
/// # Errors
/// When even the first rate is too much, and what `offer` says.
pub(super) fn climb(mut offer: impl FnMut(u64) -> Result<Carried>) -> Result<Carried> {
    let mut best: Option<Carried> = None;
    // Whether all went well; keeps the best that did.
    let mut try_out = |bits: u64| -> Result<bool> {
        let mut carried = offer(bits)?;
        if carried.loss > LOSS_MAX {
            // One hiccup of the machine is not the tunnel's.
            carried = offer(bits)?;
        }
        let well = carried.loss <= LOSS_MAX;
        if well && best.is_none_or(|best| carried.rate > best.rate) {
            best = Some(carried);
        }
        // A sender that cannot offer so much will not offer more.
        Ok(well && carried.rate * 1e9 > 0.8 * bits as f64)
    };
    let (mut low, mut high) = (0, FIRST);
    while high < MOST && try_out(high)? {
        low = high;
        high *= 2;
    }
    for _ in 0..HALVINGS {
        let middle = low.midpoint(high);
        if try_out(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    best.context("too much is lost at every rate")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tunnel that carries so much and loses the rest, behind a sender that can send so much.
    fn limited(tunnel: f64, sender: f64) -> impl FnMut(u64) -> Result<Carried> {
        move |bits| {
            let sent = (bits as f64 / 1e9).min(sender);
            let rate = sent.min(tunnel);
            Ok(Carried {
                rate,
                loss: (1.0 - rate / sent) * 100.0,
                ..Carried::default()
            })
        }
    }

    #[test]
    fn what_a_tunnel_carries_is_found_within_an_eighth() {
        for carried in [0.25, 0.9, 1.7, 6.3] {
            let found = climb(limited(carried, 100.0)).unwrap();
            assert!(found.loss <= LOSS_MAX, "{found:?}");
            assert!(
                (0.875 * carried..=carried).contains(&found.rate),
                "{found:?}"
            );
        }
    }

    #[test]
    fn one_hiccup_does_not_end_the_search() {
        let (mut carry, mut offers) = (limited(1.7, 100.0), 0);
        let found = climb(|bits| {
            offers += 1;
            let carried = carry(bits)?;
            let loss = if offers == 2 { 30.0 } else { carried.loss };
            Ok(Carried { loss, ..carried })
        });
        assert!(found.unwrap().rate > 0.875 * 1.7);
    }

    #[test]
    fn a_slow_sender_ends_the_search() {
        let found = climb(limited(100.0, 2.0)).unwrap();
        assert!((found.rate - 2.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_tunnel_that_loses_everything_has_no_rate() {
        assert!(climb(limited(0.001, 100.0)).is_err());
    }
}
