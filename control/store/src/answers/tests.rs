use rusqlite::Connection;

use super::*;
use crate::lab::Lab;

fn told(since: u64, stop: u64) -> Told {
    let next = stop;
    Told { since, stop, next }
}

/// Remembers one answer.
fn answer(connection: &mut Connection, since: u64, stop: u64) {
    let transaction = connection.transaction().unwrap();
    note(&transaction, &Answers::from([(told(since, stop), 1)])).unwrap();
    transaction.commit().unwrap();
}

fn times(connection: &mut Connection) -> Vec<i64> {
    let transaction = connection.transaction().unwrap();
    between(&transaction, 0, i64::MAX).unwrap()
}

#[test]
fn a_poller_leaves_its_last_answers_and_nothing_else() {
    let lab = Lab::new();
    let mut connection = lab.connection();
    answer(&mut connection, 0, 100);
    for number in 1..1000 {
        answer(&mut connection, 60 * number + 40, 60 * number + 100);
    }
    // The last one, and those that were followed before it.
    let kept = 1 + FOLLOWED_MAX;
    assert_eq!(lab.count("answers"), kept);
    let last = 60 * 999 + 100;
    let all: Vec<i64> = (0..=kept).rev().map(|back| last - 60 * back).collect();
    assert_eq!(times(&mut connection), all);
}

#[test]
fn whoever_stops_where_another_one_goes_on_can_ask_again() {
    let lab = Lab::new();
    let mut connection = lab.connection();
    answer(&mut connection, 0, 100);
    answer(&mut connection, 0, 160);
    // Both come to 220, the first one's answer is lost, and the second one goes on.
    answer(&mut connection, 100, 220);
    answer(&mut connection, 160, 220);
    answer(&mut connection, 220, 280);
    answer(&mut connection, 280, 340);
    assert!(times(&mut connection).starts_with(&[100, 160, 220]));
}

#[test]
fn an_answer_that_was_lost_on_the_way_can_be_asked_for_again() {
    let lab = Lab::new();
    let mut connection = lab.connection();
    answer(&mut connection, 0, 100);
    answer(&mut connection, 100, 160);
    answer(&mut connection, 100, 220);
    assert!(times(&mut connection).starts_with(&[100]));
}

#[test]
fn questions_that_nobody_follows_up_do_not_push_out_a_poller() {
    let lab = Lab::new();
    let mut connection = lab.connection();
    answer(&mut connection, 0, 100);
    answer(&mut connection, 100, 160);
    let looks = u64::try_from(ANSWERS_MAX).unwrap() + 500;
    let transaction = connection.transaction().unwrap();
    for look in 0..looks {
        // None of them begins where another one stopped.
        let stop = 10_000 + 2 * look;
        note(&transaction, &Answers::from([(told(stop - 61, stop), 1)])).unwrap();
    }
    transaction.commit().unwrap();
    assert_eq!(times(&mut connection)[..2], [100, 160]);
    assert_eq!(lab.count("answers"), ANSWERS_MAX);
}

#[test]
fn a_poller_goes_on_from_the_last_time_or_from_the_next_one() {
    let lab = Lab::new();
    let mut connection = lab.connection();
    let mut note_one = |since, stop, next| {
        let transaction = connection.transaction().unwrap();
        let told = Told { since, stop, next };
        note(&transaction, &Answers::from([(told, 1)])).unwrap();
        transaction.commit().unwrap();
    };
    note_one(0, 100, 150);
    note_one(150, 160, 200);
    note_one(160, 160, 300);
    assert_eq!(lab.count("answers WHERE followed > 0"), 2);
    assert_eq!(lab.count("answers WHERE proven = 1"), 3);
}
