use rusqlite::Connection;

use super::*;
use crate::lab::Lab;

/// Remembers one answer.
fn answer(connection: &mut Connection, since: u64, stop: u64) {
    let transaction = connection.transaction().unwrap();
    note(&transaction, &Answers::from([((since, stop), 1)])).unwrap();
    transaction.commit().unwrap();
}

fn times(connection: &mut Connection) -> Vec<i64> {
    let transaction = connection.transaction().unwrap();
    between(&transaction, 0, i64::MAX).unwrap()
}

#[test]
fn a_poller_leaves_its_last_answer_and_nothing_else() {
    let lab = Lab::new();
    let mut connection = lab.connection();
    answer(&mut connection, 0, 100);
    answer(&mut connection, 100, 160);
    answer(&mut connection, 160, 220);
    assert_eq!(times(&mut connection), [160, 220]);
    // A second one that stopped at the same time goes on later.
    answer(&mut connection, 100, 220);
    answer(&mut connection, 220, 280);
    assert_eq!(times(&mut connection), [100, 220, 280]);
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
        note(&transaction, &Answers::from([((stop - 61, stop), 1)])).unwrap();
    }
    transaction.commit().unwrap();
    assert_eq!(times(&mut connection)[..2], [100, 160]);
    assert_eq!(lab.count("answers"), ANSWERS_MAX);
}
