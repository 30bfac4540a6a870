use std::fs;

use nix::mount::{MntFlags, umount2};

use super::*;
use crate::private;

fn name(text: &str) -> NamespaceName {
    NamespaceName::parse(text).unwrap()
}

fn store() -> Namespaces {
    Namespaces::in_directory(private::directory())
}

fn lo_is_up(netns: &Netns) -> bool {
    let bind = || Ok(std::net::TcpListener::bind("127.0.0.1:0")?.into());
    let listener = std::net::TcpListener::from(netns.enter(bind).unwrap());
    let target = listener.local_addr().unwrap();
    netns
        .enter(|| Ok(std::net::TcpStream::connect(target)?.into()))
        .is_ok()
}

#[test]
fn a_missing_namespace_is_made_and_a_second_store_finds_it() {
    let mut first = store();
    let made = first.ensure(&name("network-1")).unwrap();
    assert!(lo_is_up(&made));
    let again = first.ensure(&name("network-1")).unwrap();
    assert_eq!(again.identity(), made.identity());

    let mut second = Namespaces::in_directory(first.names.directory().to_owned());
    let found = second.open(&name("network-1")).unwrap();
    assert_eq!(found.identity(), made.identity());
    let origins = |store: &Namespaces| store.iter().map(|(.., origin)| origin).collect::<Vec<_>>();
    assert_eq!(origins(&first), [Origin::Made]);
    assert_eq!(origins(&second), [Origin::Found]);
}

#[test]
fn what_is_not_there_is_not_opened_and_nothing_is_made() {
    let mut store = store();
    let error = store.open(&name("blue")).unwrap_err();
    assert_eq!(error.to_string(), "opening the namespace blue");
    assert_eq!(store.iter().count(), 0);
    assert!(!store.names.directory().join("blue").exists());
}

#[test]
fn only_what_was_made_here_is_removed() {
    let mut first = store();
    let network = name("network-1");
    first.ensure(&network).unwrap();
    let mut second = Namespaces::in_directory(first.names.directory().to_owned());
    second.open(&network).unwrap();
    assert!(matches!(
        second.remove(&network),
        Err(RemoveError::Found(_))
    ));
    assert!(matches!(
        second.remove(&name("blue")),
        Err(RemoveError::Unknown(_))
    ));
    assert!(first.names.directory().join(&network).exists());
    first.remove(&network).unwrap();
    assert!(!first.names.directory().join(&network).exists());
    assert_eq!(first.iter().count(), 0);
}

#[test]
fn a_deleted_name_leads_to_the_same_namespace_again() {
    let mut store = store();
    let network = name("network-1");
    let netns = store.ensure(&network).unwrap();
    let path = store.names.directory().join(&network);
    assert!(store.restore().is_empty(), "nothing is lost yet");

    store.names.unbind(&network).unwrap();
    let restored = store.restore();
    assert!(
        matches!(&restored[..], [Restored { result: Ok(()), .. }]),
        "{restored:?}"
    );
    assert_eq!(Netns::open(&path).unwrap().identity(), netns.identity());

    umount2(&path, MntFlags::MNT_DETACH).unwrap();
    assert_eq!(store.restore().len(), 1, "an empty file is no name");
    assert_eq!(Netns::open(&path).unwrap().identity(), netns.identity());
    assert!(store.restore().is_empty());
}

#[test]
fn a_name_that_somebody_else_took_is_left_alone() {
    let mut mine = store();
    let network = name("network-1");
    mine.ensure(&network).unwrap();
    let path = mine.names.directory().join(&network);

    mine.names.unbind(&network).unwrap();
    let mut theirs = Namespaces::in_directory(mine.names.directory().to_owned());
    let other = theirs.ensure(&network).unwrap();
    let restored = mine.restore();
    assert!(matches!(restored[0].result, Err(RestoreError::Taken)));
    assert_eq!(Netns::open(&path).unwrap().identity(), other.identity());
    assert!(matches!(mine.remove(&network), Err(RemoveError::Taken(_))));

    theirs.remove(&network).unwrap();
    fs::write(&path, "somebody's notes").unwrap();
    assert!(matches!(mine.restore()[0].result, Err(RestoreError::Taken)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's notes");
    assert!(theirs.ensure(&network).is_err());
}

#[test]
fn an_empty_file_from_a_maker_that_was_killed_is_taken_over() {
    let mut store = store();
    fs::create_dir_all(store.names.directory()).unwrap();
    fs::write(store.names.directory().join("network-1"), "").unwrap();
    assert!(store.ensure(&name("network-1")).is_ok());
}
