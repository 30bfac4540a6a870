use std::time::Duration;

use control_api::answer::RoutesTraffic;

use crate::{
    Group, Retention, TrafficQuery,
    lab::{Lab, peer, peers, raw, relay, relays},
};

fn lab() -> Lab {
    Lab::with(Retention {
        clients_max: 2,
        ..Retention::default()
    })
}

/// A sample of a peer at each of these times, of one byte more than the one before.
fn count_at(lab: &Lab, times: impl IntoIterator<Item = u64>) {
    for (bytes, time) in (1..).zip(times) {
        lab.store
            .accounts()
            .record_sample(&peers(time, &[peer(1, raw(time, bytes, 0))]));
        lab.store.accounts().flush().wait().unwrap();
    }
}

/// Time and bytes of all rows.
fn rows(lab: &Lab) -> Vec<(i64, i64)> {
    let connection = lab.connection();
    let sql = "SELECT time, rx FROM peer_rows ORDER BY time";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.try_into()).unwrap();
    rows.map(Result::unwrap).collect()
}

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const MONTH: u64 = 30 * DAY;

/// Lets a day, or whatever it is, go by.
fn wait_until(lab: &Lab, time: u64) {
    lab.store.accounts().record_sample(&peers(time, &[]));
    lab.store.accounts().flush().wait().unwrap();
    lab.tidy();
}

#[test]
fn rows_become_hours_days_and_months_and_no_byte_is_lost() {
    let lab = lab();
    let minutes = (1..=120).map(|minute| DAY + minute * 60);
    count_at(&lab, minutes);
    let sum: i64 = (1..=120).sum();
    let (one, two) = ((DAY + HOUR).cast_signed(), (DAY + 2 * HOUR).cast_signed());
    wait_until(&lab, 2 * DAY);
    assert_eq!(rows(&lab).len(), 120);
    wait_until(&lab, 2 * DAY + HOUR);
    assert_eq!(rows(&lab)[..2], [(one, (1..=60).sum()), (one + 60, 61)]);
    wait_until(&lab, 2 * DAY + 2 * HOUR);
    assert_eq!(rows(&lab), [(one, (1..=60).sum()), (two, (61..=120).sum())]);
    // The peer's own counters as they were read last.
    let lab = lab.restart();
    wait_until(&lab, 2 * DAY + 35 * DAY);
    assert_eq!(rows(&lab), [(two, sum)]);
    count_at(&lab, [40 * DAY]);
    wait_until(&lab, 41 * DAY);
    assert_eq!(rows(&lab).len(), 2);
    wait_until(&lab, 2 * MONTH + 400 * DAY);
    assert_eq!(rows(&lab), [(two, sum), (40 * DAY.cast_signed(), 1)]);
    assert_eq!(lab.traffic_since(0).traffic.rx.cast_signed(), sum + 1);
    assert_eq!(lab.store.accounts().peer_totals().wait().unwrap().len(), 1);
}

#[test]
fn a_merged_row_keeps_the_last_raw_counters() {
    let lab = lab();
    count_at(&lab, [HOUR + 100, HOUR + 200, HOUR + 300]);
    wait_until(&lab, 2 * DAY);
    let raw: (i64, i64) = lab
        .connection()
        .query_row("SELECT rx, raw_rx FROM peer_rows", [], |row| row.try_into())
        .unwrap();
    assert_eq!(raw, (6, 3));
}

#[test]
fn what_questions_cut_finer_is_merged_after_ten_minutes() {
    let lab = lab();
    let mut since = 0;
    for second in 1..=200 {
        let one = peer(1, raw(1, second, 0));
        lab.store
            .accounts()
            .record_sample(&peers(600 + second, &[one]));
        since = lab.traffic_since(since).stop_time;
    }
    // The last one was told, and becomes a row with the next sample.
    assert_eq!(rows(&lab).len(), 199);
    wait_until(&lab, 660 + 599);
    assert_eq!(rows(&lab)[..2], [(601, 1), (602, 1)]);
    wait_until(&lab, 800 + 660);
    let rows = rows(&lab);
    assert_eq!(rows[..2], [(660, 60), (720, 60)]);
    // The last answers may not have arrived.
    assert_eq!(rows[rows.len() - 64..][..2], [(737, 1), (738, 1)]);
}

#[test]
fn rows_are_not_merged_across_the_time_that_a_poller_was_answered() {
    let lab = lab();
    let count = |range: std::ops::RangeInclusive<u64>| {
        for minute in range {
            let one = peer(1, raw(1, minute, 0));
            lab.store
                .accounts()
                .record_sample(&peers(HOUR + minute * 60, &[one]));
            lab.store.accounts().flush().wait().unwrap();
        }
    };
    count(1..=30);
    let first = lab.traffic_since(0);
    assert_eq!((first.stop_time, first.traffic.rx), (HOUR + 30 * 60, 30));
    count(31..=50);
    wait_until(&lab, 30 * DAY);
    assert_eq!(rows(&lab).len(), 2);
    wait_until(&lab, 500 * DAY);
    assert_eq!(rows(&lab).len(), 2);
    // It comes back after a year and gets the rest.
    let rest = lab.traffic_since(first.stop_time);
    assert_eq!(rest.traffic.rx, 20);
    // Who follows that up needs the first time no more.
    lab.traffic_since(rest.stop_time);
    assert_eq!(lab.count("answers"), 1);
}

#[test]
fn the_largest_clients_of_an_hour_stay_and_the_others_are_counted_together() {
    let lab = lab();
    let clients = [
        ("192.0.2.1", 5),
        ("192.0.2.2", 50),
        ("192.0.2.3", 7),
        ("192.0.2.4", 20),
    ];
    for time in [HOUR + 100, HOUR + 200] {
        let sample = clients.map(|(client, bytes)| relay("a", client, bytes, bytes));
        lab.store.accounts().record_sample(&relays(time, &sample));
        lab.store.accounts().flush().wait().unwrap();
    }
    let told = |lab: &Lab| {
        let answer: RoutesTraffic = lab
            .store
            .accounts()
            .routes_traffic(TrafficQuery {
                group: Some(Group::Day),
                ..TrafficQuery::default()
            })
            .wait()
            .unwrap();
        assert_eq!(answer.traffic.bytes_in, 2 * 82);
        assert_eq!(answer.traffic.connections, 8);
        let routes = lab.store.accounts().route_totals().wait().unwrap();
        assert_eq!(routes[0].traffic, answer.traffic);
        let route = &answer.networks["port:51820"].routes["a"];
        let clients = route.clients.iter();
        clients
            .map(|(client, it)| (client.clone(), it.traffic.bytes_in))
            .collect::<Vec<_>>()
    };
    let one = |client: &str, bytes: u64| (client.to_owned(), bytes);
    assert_eq!(told(&lab).len(), 4);
    wait_until(&lab, 2 * DAY);
    let expected = [
        one("192.0.2.2", 100),
        one("192.0.2.4", 40),
        one("other", 24),
    ];
    assert_eq!(told(&lab), expected);
    // Who has no rows left is forgotten: three remain.
    assert_eq!((lab.count("relays"), lab.count("relay_rows")), (3, 3));
    let busiest = lab.store.accounts().client_totals(1).wait().unwrap();
    assert_eq!(busiest[0].client.unwrap().to_string(), "192.0.2.2");
    // After 400 days nobody is told apart.
    wait_until(&lab, 500 * DAY);
    assert_eq!(told(&lab), [one("other", 164)]);
    assert_eq!((lab.count("relays"), lab.count("relay_rows")), (1, 1));
}

#[test]
fn the_file_does_not_grow_with_time() {
    let lab = Lab::with(Retention {
        row_interval: Duration::from_secs(60),
        fine: Duration::from_secs(2 * HOUR),
        hours: Duration::from_secs(4 * HOUR),
        days: Duration::from_secs(3 * DAY),
        ..Retention::default()
    });
    let count = |hours: std::ops::Range<u64>| {
        for minute in hours.start * 60..hours.end * 60 {
            let all: Vec<_> = (0..40).map(|id| peer(id, raw(1, minute + 1, 0))).collect();
            lab.store
                .accounts()
                .record_sample(&peers(DAY + minute * 60, &all));
            lab.store.accounts().flush().wait().unwrap();
            if minute % 60 == 59 {
                lab.tidy();
            }
        }
        let pages: i64 = lab
            .connection()
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        (pages, lab.count("peer_rows"))
    };
    let (pages, rows) = count(0..30);
    let (later_pages, later_rows) = count(30..78);
    // Two days are two rows for each peer.
    assert!(
        later_rows <= rows + 2 * 40,
        "{rows} rows, then {later_rows}"
    );
    // Unmerged, they would be 1,700 pages.
    assert!(
        later_pages <= pages + 64,
        "{pages} pages, then {later_pages}"
    );
    let total = lab.traffic_since(0).traffic.rx;
    assert_eq!(total, 40 * 78 * 60);
}

#[test]
fn a_file_that_is_mostly_unused_becomes_shorter() {
    let lab = lab();
    let connection = lab.connection();
    let pages = || -> i64 {
        connection
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap()
    };
    let most = 12_000;
    let fill = "INSERT INTO events (time, kind, json) VALUES (1, '', hex(zeroblob(?)))";
    connection.execute(fill, [most * 4096 / 2]).unwrap();
    assert!(pages() > most);
    connection.execute("DELETE FROM events", []).unwrap();
    wait_until(&lab, DAY);
    let unused = super::UNUSED_PAGES_MAX;
    assert!(
        (unused..unused + 200).contains(&pages()),
        "{} pages",
        pages()
    );
}

#[test]
#[ignore = "measures: takes some seconds"]
fn merging_an_hour_of_ten_thousand_peers() {
    let lab = lab();
    for minute in 1..59 {
        let all: Vec<_> = (0..10_000).map(|id| peer(id, raw(1, minute, 0))).collect();
        lab.store
            .accounts()
            .record_sample(&peers(HOUR + minute * 61, &all));
        lab.store.accounts().flush().wait().unwrap();
    }
    println!("{} rows", lab.count("peer_rows"));
    let steps = lab.store.threads.write(|writer| {
        // Not by way of the store, which would have the writer begin at once.
        writer.ledger.record(&peers(3 * DAY, &[]));
        drop(writer.save());
        let mut steps = Vec::new();
        while writer.merges.is_due() {
            let start = std::time::Instant::now();
            writer.tidy();
            steps.push(start.elapsed());
        }
        Ok::<_, crate::WriteError>(steps)
    });
    let mut steps = steps.wait().unwrap();
    steps.sort();
    let sum: Duration = steps.iter().sum();
    let (middle, most) = (steps[steps.len() / 2], steps[steps.len() - 1]);
    println!(
        "{} steps, {sum:?}; the middle one {middle:?}, the longest {most:?}",
        steps.len()
    );
    assert_eq!(lab.count("peer_rows"), 10_000);
}
