//! Pollers get every byte once, whenever they ask and whatever happens in between.

use std::time::Duration;

use proptest::prelude::*;

use crate::{
    Group, Raw, Retention, TrafficQuery,
    lab::{Lab, peer, raw, relay},
    sample::Sample,
};

const PEERS: u32 = 3;
const POLLERS: usize = 3;

#[derive(Clone, Debug)]
enum Happening {
    /// Time passes, or runs back; peers and a client move bytes; a sample is taken.
    Sample {
        seconds: i64,
        moved: [(u16, u16); PEERS as usize],
        client: u8,
    },
    /// All counters begin again, seen by their epoch.
    DeviceMadeAgain,
    /// A poller asks; with luck, it gets the answer.
    Poll {
        poller: usize,
        group: Option<Group>,
        answered: bool,
    },
    /// Somebody looks at the last hour, and never comes back.
    Look,
    /// Old rows are merged.
    Tidy,
    Restart,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let seconds = prop_oneof![
        6 => 0..3_i64,
        3 => 3..100_i64,
        2 => 1_000..8_000_i64,
        1 => 80_000..900_000_i64,
        1 => -50..0_i64,
    ];
    let moved = prop::array::uniform3((0..500_u16, 0..500_u16));
    let sample = (seconds, moved, 0..8_u8).prop_map(|(seconds, moved, client)| Happening::Sample {
        seconds,
        moved,
        client,
    });
    let group = prop_oneof![
        2 => Just(None),
        1 => Just(Some(Group::Hour)),
        1 => Just(Some(Group::Day)),
    ];
    let poll =
        (0..POLLERS, group, prop::bool::weighted(0.8)).prop_map(|(poller, group, answered)| {
            Happening::Poll {
                poller,
                group,
                answered,
            }
        });
    let one = prop_oneof![
        12 => sample,
        1 => Just(Happening::DeviceMadeAgain),
        5 => poll,
        1 => Just(Happening::Look),
        3 => Just(Happening::Tidy),
        1 => Just(Happening::Restart),
    ];
    prop::collection::vec(one, 1..60)
}

/// A poller, and what it added up.
#[derive(Clone, Copy, Default)]
struct Poller {
    since: (u64, u64),
    peers: (u64, u64),
    relayed: (u64, u64),
}

struct World {
    lab: Lab,
    now: i64,
    devices: [Raw; PEERS as usize],
    sent: (u64, u64),
    relayed: (u64, u64),
    pollers: [Poller; POLLERS],
}

impl World {
    fn new() -> Self {
        let lab = Lab::with(Retention {
            row_interval: Duration::from_secs(5),
            fine: Duration::from_secs(3_600),
            hours: Duration::from_secs(86_400),
            days: Duration::from_secs(10 * 86_400),
            clients_max: 1,
            ..Retention::default()
        });
        Self {
            lab,
            now: 1_000_000,
            devices: [raw(1, 0, 0); PEERS as usize],
            sent: (0, 0),
            relayed: (0, 0),
            pollers: [Poller::default(); POLLERS],
        }
    }

    fn sample(&mut self, seconds: i64, moved: [(u16, u16); PEERS as usize], client: u8) {
        self.now += seconds;
        let mut sample = Sample {
            time_unix: u64::try_from(self.now).unwrap(),
            ..Sample::default()
        };
        for (number, (device, (rx, tx))) in (0..).zip(self.devices.iter_mut().zip(moved)) {
            let (rx, tx) = (u64::from(rx), u64::from(tx));
            (device.rx, device.tx) = (device.rx + rx, device.tx + tx);
            (self.sent.0, self.sent.1) = (self.sent.0 + rx, self.sent.1 + tx);
            sample.peers.push(peer(number, *device));
        }
        let (bytes_in, bytes_out) = (u64::from(moved[0].0), u64::from(moved[0].1));
        let client = format!("192.0.2.{client}");
        sample.relays.push(relay("a", &client, bytes_in, bytes_out));
        self.relayed.0 += bytes_in;
        self.relayed.1 += bytes_out;
        self.lab.store.accounts().record_sample(&sample);
    }

    fn poll(&mut self, poller: usize, group: Option<Group>, answered: bool) {
        let mut after = self.pollers[poller];
        let ask = |since| TrafficQuery {
            since,
            group,
            ..TrafficQuery::default()
        };
        let peers = self.lab.store.accounts().traffic(ask(after.since.0));
        let relays = self.lab.store.accounts().routes_traffic(ask(after.since.1));
        let (peers, relays) = (peers.wait().unwrap(), relays.wait().unwrap());
        // Some go on from the last time, some from where the answer is complete.
        after.since = match poller {
            0 => (peers.stop_time, relays.stop_time),
            _ => (peers.next, relays.next),
        };
        after.peers.0 += peers.traffic.rx;
        after.peers.1 += peers.traffic.tx;
        after.relayed.0 += relays.traffic.bytes_in;
        after.relayed.1 += relays.traffic.bytes_out;
        assert_eq!(after.peers, self.sent);
        assert_eq!(after.relayed, self.relayed);
        if answered {
            self.pollers[poller] = after;
        }
    }

    fn look(&self) {
        let hour_ago = u64::try_from(self.now).unwrap() - 3_600;
        self.lab.traffic_since(hour_ago);
    }

    fn happens(mut self, happening: Happening) -> Self {
        match happening {
            Happening::Sample {
                seconds,
                moved,
                client,
            } => self.sample(seconds, moved, client),
            Happening::DeviceMadeAgain => {
                for device in &mut self.devices {
                    *device = raw(device.epoch + 1, 0, 0);
                }
            }
            Happening::Poll {
                poller,
                group,
                answered,
            } => self.poll(poller, group, answered),
            Happening::Look => self.look(),
            Happening::Tidy => self.lab.tidy(),
            Happening::Restart => self.lab = self.lab.restart(),
        }
        self
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_poller_gets_every_byte_once(happenings in happenings()) {
        let mut world = World::new();
        for happening in happenings {
            world = world.happens(happening);
        }
        for poller in 0..POLLERS {
            world.poll(poller, None, true);
        }
        let totals = world.lab.store.accounts().peer_totals().wait().unwrap();
        let total = totals.iter().fold((0, 0), |sum, total| {
            (sum.0 + total.traffic.rx, sum.1 + total.traffic.tx)
        });
        prop_assert_eq!(total, world.sent);
        let totals = world.lab.store.accounts().route_totals().wait().unwrap();
        let total = totals.iter().fold((0, 0), |sum, total| {
            (sum.0 + total.traffic.bytes_in, sum.1 + total.traffic.bytes_out)
        });
        prop_assert_eq!(total, world.relayed);
    }
}
