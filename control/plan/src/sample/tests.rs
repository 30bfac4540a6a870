use proptest::prelude::*;

use super::*;

const fn raw(epoch: u64, rx: u64, tx: u64) -> Raw {
    Raw { epoch, rx, tx }
}

const fn delta(rx: u64, tx: u64) -> Delta {
    Delta { rx, tx }
}

#[test]
fn what_grew_is_the_difference() {
    assert_eq!(raw(1, 10, 5).since(Some(raw(1, 4, 5))), delta(6, 0));
    assert_eq!(raw(1, 10, 9).since(Some(raw(1, 10, 5))), delta(0, 4));
    assert!(raw(1, 10, 9).since(Some(raw(1, 10, 9))).is_zero());
}

#[test]
fn the_first_reading_counts_from_zero() {
    assert_eq!(raw(1, 10, 5).since(None), delta(10, 5));
}

#[test]
fn another_epoch_counts_from_zero_even_if_it_has_overtaken() {
    assert_eq!(raw(2, 10, 50).since(Some(raw(1, 4, 5))), delta(10, 50));
}

#[test]
fn one_counter_that_went_backwards_speaks_for_both() {
    assert_eq!(raw(1, 3, 50).since(Some(raw(1, 4, 5))), delta(3, 50));
    assert_eq!(raw(1, 40, 4).since(Some(raw(1, 4, 5))), delta(40, 4));
}

#[test]
fn sums_stop_at_the_largest_number() {
    let most = delta(u64::MAX, 1);
    assert_eq!(most.plus(delta(1, 1)), delta(u64::MAX, 2));
}

/// What happens to a device, and to who reads it.
#[derive(Clone, Debug)]
enum Happening {
    /// The peer received and sent.
    Moves(u32, u32),
    /// The counters begin again; a reading comes before any new byte, so that the reset is seen.
    PeerMadeAgain,
    /// The device is made again: seen by the epoch at any later time.
    DeviceMadeAgain,
    /// The counters are read.
    Read,
    /// The readings so far are put behind those that are stored already.
    Store,
    /// Ringway restarts: what was stored is what it knows. It read for the last time before.
    Restart,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0..5000_u32, 0..5000_u32).prop_map(|(rx, tx)| Happening::Moves(rx, tx)),
        1 => Just(Happening::PeerMadeAgain),
        1 => Just(Happening::DeviceMadeAgain),
        4 => Just(Happening::Read),
        2 => Just(Happening::Store),
        1 => Just(Happening::Restart),
    ];
    prop::collection::vec(one, 0..80)
}

/// A device with one peer, and the books about it.
#[derive(Default)]
struct World {
    device: Raw,
    sent: Delta,
    unread: Delta,
    gathered: Option<Span>,
    stored: Option<Raw>,
    total: Delta,
}

impl World {
    fn read(&mut self) {
        self.unread = Delta::default();
        let now = Span::of(self.device);
        match &mut self.gathered {
            Some(span) => span.append(now),
            None => self.gathered = Some(now),
        }
    }

    fn store(&mut self) {
        if let Some(span) = self.gathered.take() {
            self.total = self.total.plus(span.after(self.stored));
            self.stored = Some(span.last());
        }
    }

    fn happens(&mut self, happening: &Happening) {
        match happening {
            Happening::Moves(rx, tx) => {
                let moved = delta((*rx).into(), (*tx).into());
                self.device.rx += moved.rx;
                self.device.tx += moved.tx;
                self.sent = self.sent.plus(moved);
                self.unread = self.unread.plus(moved);
            }
            Happening::PeerMadeAgain => {
                self.read();
                (self.device.rx, self.device.tx) = (0, 0);
                self.read();
            }
            Happening::DeviceMadeAgain => {
                self.read();
                self.device = raw(self.device.epoch + 1, 0, 0);
            }
            Happening::Read => self.read(),
            Happening::Store => self.store(),
            Happening::Restart => {
                self.read();
                self.store();
                self.gathered = None;
            }
        }
    }
}

proptest! {
    /// However readings are gathered and stored, and whatever begins again in between.
    #[test]
    fn deltas_add_up_to_what_was_sent(happenings in happenings()) {
        let mut world = World::default();
        for happening in &happenings {
            world.happens(happening);
            // Never more than was sent, and nothing that was read is missing.
            let mut known = world.total;
            if let Some(span) = world.gathered {
                known = known.plus(span.after(world.stored));
            }
            prop_assert_eq!(known.plus(world.unread), world.sent);
        }
        world.read();
        world.store();
        prop_assert_eq!(world.total, world.sent);
    }

    /// Gathering is associative: it does not matter which readings were gathered where.
    #[test]
    fn gathering_in_parts_changes_nothing(
        readings in prop::collection::vec((0..3_u64, 0..99_u64, 0..99_u64), 1..20),
        cut in 0..20_usize,
    ) {
        let readings: Vec<Raw> = readings.into_iter().map(|(e, rx, tx)| raw(e, rx, tx)).collect();
        let gather = |part: &[Raw]| part.iter().copied().map(Span::of).reduce(|mut all, next| {
            all.append(next);
            all
        });
        let (early, late) = readings.split_at(cut.min(readings.len()));
        let parts = match (gather(early), gather(late)) {
            (Some(mut early), Some(late)) => {
                early.append(late);
                Some(early)
            }
            (one, other) => one.or(other),
        };
        prop_assert_eq!(parts, gather(&readings));
    }
}
