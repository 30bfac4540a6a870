use super::*;
use crate::lab::Lab;

#[test]
fn a_second_that_was_answered_ends_in_the_next_one() {
    let mut clock = Clock {
        sampled: 100,
        cut: 100,
    };
    clock.sample(100);
    assert_eq!(clock.sampled, 101);
    clock.sample(7);
    assert_eq!(clock.sampled, 101);
    clock.sample(200);
    assert_eq!(clock.sampled, 200);
    assert!(clock.is_due(161, 60) && !clock.is_due(160, 60));
}

#[test]
fn a_cut_touches_what_is_open_and_not_all_that_there_is() {
    let lab = Lab::new();
    let connection = lab.connection();
    for (sql, index) in [
        (PEER_ROWS, "peers_open"),
        (CLOSE_PEERS, "peers_open"),
        (RELAY_ROWS, "relays_open"),
        (CLOSE_RELAYS, "relays_open"),
    ] {
        let plan = format!("EXPLAIN QUERY PLAN {}", sql.replace('?', "0"));
        let mut statement = connection.prepare(&plan).unwrap();
        let rows = statement
            .query_map([], |row| row.get::<_, String>(3))
            .unwrap();
        let plan: Vec<_> = rows.map(Result::unwrap).collect();
        assert!(plan.iter().any(|step| step.contains(index)), "{plan:?}");
    }
}
