use control_store::Store;
use proptest::prelude::*;

use super::*;

/// What a store is asked to do.
#[derive(Clone, Debug)]
enum Act {
    Commit {
        expected: Option<u64>,
        network: u8,
        is_full: bool,
        owners: BTreeSet<String>,
    },
    /// Of one of the generations before this one, counted back.
    Compact(u64),
    Own(u16),
    Disown(u16),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let owner = prop::sample::select(vec!["api", "blue", "green"]).prop_map(str::to_owned);
    let owners = prop::collection::btree_set(owner, 0..3);
    let expected = prop::option::weighted(0.3, 0..20_u64);
    let commit = (expected, 0..4_u8, prop::bool::weighted(0.2), owners).prop_map(
        |(expected, network, is_full, owners)| Act::Commit {
            expected,
            network,
            is_full,
            owners,
        },
    );
    let one = prop_oneof![
        8 => commit,
        2 => (0..4_u64).prop_map(Act::Compact),
        1 => (1..4_u16).prop_map(Act::Own),
        1 => (1..4_u16).prop_map(Act::Disown),
    ];
    prop::collection::vec(one, 1..20)
}

/// Does it, and tells what was answered.
fn act(store: &dyn DesiredStore, act: &Act, step: usize) -> String {
    let network = |port: u16| NetworkKey::new(port).unwrap();
    match act.clone() {
        Act::Commit {
            expected,
            network,
            is_full,
            owners,
        } => {
            let document = is_full.then(|| format!(r#"{{"{network}":{{"step":{step}}}}}"#));
            let difference = format!(r#"[{{"network":"{network}","value":{{"step":{step}}}}}]"#);
            let new = NewGeneration {
                expected,
                time: 7,
                difference,
                document,
                present: owners.clone(),
                owners,
                ..NewGeneration::default()
            };
            format!("{:?}", store.commit(new).wait())
        }
        Act::Compact(back) => {
            let current = store.current().wait().unwrap().map_or(0, |last| last.id);
            let id = current.saturating_sub(back);
            let found = store.generation(id).wait().unwrap();
            let document = found.map_or_else(|| "{}".to_owned(), |it| it.document);
            format!("{:?}", store.compact(id, document).wait())
        }
        Act::Own(port) => format!("{:?}", store.own(network(port), step.to_string()).wait()),
        Act::Disown(port) => format!("{:?}", store.disown(network(port)).wait()),
    }
}

/// All that a store can be asked.
fn told(store: &dyn DesiredStore) -> String {
    let documents: Vec<_> = (0..22)
        .map(|id| {
            let found = store.generation(id).wait().unwrap();
            found.map(|generation| generation.document)
        })
        .collect();
    format!(
        "{documents:?} {:?} {:?} {:?} {:?} {:?}",
        store.current().wait(),
        store.generations(None, 9).wait(),
        store.generations(Some("blue".to_owned()), 9).wait(),
        store.owner_generations().wait(),
        store.owned().wait(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_fake_answers_as_the_store_in_sqlite_does(acts in acts()) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("ringway.db")).unwrap();
        let (real, fake) = (store.desired(), FakeDesired::default());
        for (step, one) in acts.iter().enumerate() {
            prop_assert_eq!(act(&real, one, step), act(&fake, one, step), "{:?}", one);
        }
        prop_assert_eq!(told(&real), told(&fake));
    }
}

#[test]
fn a_disk_is_full_from_the_write_on_that_was_named() {
    let fake = FakeDesired::default();
    fake.fill_after(2);
    let commit = || {
        let new = NewGeneration {
            document: Some("{}".to_owned()),
            ..NewGeneration::default()
        };
        fake.commit(new).wait()
    };
    assert_eq!(commit().unwrap(), 1);
    let port = NetworkKey::new(7).unwrap();
    fake.own(port, "a".to_owned()).wait().unwrap();
    let refused = commit().unwrap_err();
    assert!(matches!(
        refused,
        CommitError::Write(WriteError::Sqlite { .. })
    ));
    assert!(fake.disown(port).wait().is_err());
    assert_eq!(fake.current().wait().unwrap().map(|it| it.id), Some(1));
    assert_eq!(fake.owned().wait().unwrap()["7"], "a");
    assert_eq!(fake.writes(), 2);
    fake.free();
    assert_eq!(commit().unwrap(), 2);
}

#[test]
fn a_full_document_is_asked_for_once() {
    let fake = FakeDesired::default();
    assert!(!fake.takes_document());
    fake.ask_for_document();
    assert!(fake.takes_document() && !fake.takes_document());
}
