//! When something is done: never at the same second for all.

/// The longest wait after failures.
const RETRY_WAIT_MAX: u64 = 24 * 3600;
/// How often a directory is asked when to renew: RFC 9773 section 4.3.2 advises these bounds.
const LOOK_WAIT_MIN: u64 = 60;
const LOOK_WAIT_MAX: u64 = 24 * 3600;

/// A random number, any of which is as likely as any other. Injected, so that tests know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chance(pub u64);

impl Chance {
    /// A number below `span`; 0 where there is no other.
    pub fn below(self, span: u64) -> u64 {
        let product = u128::from(self.0) * u128::from(span);
        u64::try_from(product >> 64).unwrap_or(0)
    }
}

/// When a certificate is renewed whose directory does not say so: at two thirds of its life, or up
/// to a twentieth of it before, so that what was obtained together is not renewed together.
pub fn renewal(not_before: u64, not_after: u64, chance: Chance) -> u64 {
    let life = not_after.saturating_sub(not_before);
    let at = not_before.saturating_add(life - life / 3);
    at.saturating_sub(chance.below(life / 20 + 1))
}

/// When a certificate is renewed whose directory suggests a window (RFC 9773 section 4.2): at any
/// time in it, and never after its own end.
pub fn suggested(start: u64, end: u64, not_after: u64, chance: Chance) -> u64 {
    let at = start.saturating_add(chance.below(end.saturating_sub(start)));
    at.min(not_after)
}

/// How long to wait after so many failures in a row: `first`, doubled for each more, a day at most,
/// and a quarter more or less; never less than the directory asks for.
pub fn retry_wait(first: u64, failures: u32, asked: Option<u64>, chance: Chance) -> u64 {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(32));
    let wait = doubled.clamp(1, RETRY_WAIT_MAX);
    let varied = wait - wait / 4 + chance.below(wait / 2 + 1);
    // Not all at the very second that was named.
    let asked = asked.map(|asked| asked.min(7 * RETRY_WAIT_MAX) + chance.below(wait / 2 + 1));
    varied.max(asked.unwrap_or(0))
}

/// How long to wait before a directory is asked again when to renew.
pub fn look_wait(asked: u64, chance: Chance) -> u64 {
    let wait = asked.clamp(LOOK_WAIT_MIN, LOOK_WAIT_MAX);
    wait + chance.below(wait / 10 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAST: Chance = Chance(0);
    const MOST: Chance = Chance(u64::MAX);

    #[test]
    fn a_certificate_of_ninety_days_is_renewed_at_sixty() {
        let day = 86_400;
        assert_eq!(renewal(0, 90 * day, LEAST), 60 * day);
        assert_eq!(renewal(0, 90 * day, MOST), 60 * day - 90 * day / 20);
    }

    #[test]
    fn waits_double_up_to_a_day_and_vary_by_a_quarter() {
        let waits =
            |chance| -> Vec<u64> { (1..14).map(|n| retry_wait(60, n, None, chance)).collect() };
        assert_eq!(waits(LEAST)[..4], [45, 90, 180, 360]);
        assert_eq!(waits(MOST)[..4], [75, 150, 300, 600]);
        assert_eq!(waits(MOST)[12], 86_400 + 86_400 / 4);
        assert_eq!(retry_wait(60, 1, Some(7200), LEAST), 7200);
    }

    proptest! {
        #[test]
        fn every_renewal_is_before_the_end_and_in_the_second_half(
            from in 0..1_u64 << 40, life in 0..1_u64 << 33, chance: u64,
        ) {
            let at = renewal(from, from + life, Chance(chance));
            prop_assert!(at <= from + life);
            prop_assert!(at + 1 >= from + life / 2);
        }

        #[test]
        fn a_suggested_renewal_is_in_its_window(
            start in 0..1_u64 << 40, length in 1..1_u64 << 30, chance: u64, end: u64,
        ) {
            let at = suggested(start, start + length, end, Chance(chance));
            prop_assert!(at <= end);
            prop_assert!(at == end || (start..start + length).contains(&at));
            // A window that ends before it starts is none.
            prop_assert_eq!(suggested(start, start - start.min(length), u64::MAX, Chance(chance)), start);
        }

        #[test]
        fn no_wait_is_nothing_or_without_end(
            first in 0..1_u64 << 40, failures: u32, asked: Option<u64>, chance: u64,
        ) {
            let wait = retry_wait(first, failures, asked, Chance(chance));
            prop_assert!(wait >= 1);
            prop_assert!(wait <= 8 * RETRY_WAIT_MAX);
            prop_assert!((60..=95_041).contains(&look_wait(first, Chance(chance))));
        }
    }
}
