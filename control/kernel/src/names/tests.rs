use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::private;

fn name(text: &str) -> NamespaceName {
    NamespaceName::parse(text).unwrap()
}

/// Names that only this test sees, and a namespace with a name among them.
fn named(text: &str) -> (Names, NamespaceName, Netns) {
    let names = Names::new(private::directory());
    let (name, netns) = (name(text), Netns::create().unwrap());
    names.bind(&name, &netns).unwrap();
    (names, name, netns)
}

#[test]
fn a_name_leads_to_its_namespace_for_everybody() {
    let (names, network, netns) = named("network-1");
    let found = names.open(&network).unwrap().unwrap();
    assert_eq!(found.identity(), netns.identity());
    assert!(matches!(
        names.look(&network, netns.identity()),
        Found::Same
    ));
    let file = fs::symlink_metadata(names.directory().join(&network)).unwrap();
    assert!(
        file.permissions().mode() & 0o222 == 0,
        "as `ip netns add` makes it"
    );
}

#[test]
fn what_is_not_there_is_not_opened_and_nothing_is_made() {
    let names = Names::new(private::directory());
    assert!(names.open(&name("blue")).unwrap().is_none());
    assert!(!names.directory().join("blue").exists());
}

#[test]
fn a_removed_name_is_free_and_the_namespace_takes_it_again() {
    let (names, network, netns) = named("network-1");
    let path = names.directory().join(&network);
    names.unbind(&network).unwrap();
    assert!(!path.exists());
    assert!(matches!(
        names.look(&network, netns.identity()),
        Found::Nothing
    ));
    names.bind(&network, &netns).unwrap();
    assert_eq!(Netns::open(&path).unwrap().identity(), netns.identity());

    umount2(&path, MntFlags::MNT_DETACH).unwrap();
    let found = names.look(&network, netns.identity());
    assert!(matches!(found, Found::Nothing), "an empty file is no name");
    assert!(names.open(&network).unwrap().is_none());
    names.bind(&network, &netns).unwrap();
    assert_eq!(Netns::open(&path).unwrap().identity(), netns.identity());
}

#[test]
fn a_name_that_somebody_else_took_is_left_alone() {
    let (names, network, netns) = named("network-1");
    let path = names.directory().join(&network);
    names.unbind(&network).unwrap();
    let other = Netns::create().unwrap();
    names.bind(&network, &other).unwrap();
    assert!(matches!(
        names.look(&network, netns.identity()),
        Found::Other
    ));

    names.unbind(&network).unwrap();
    fs::write(&path, "somebody's notes").unwrap();
    assert!(matches!(
        names.look(&network, netns.identity()),
        Found::Other
    ));
    assert!(names.open(&network).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's notes");
}

#[test]
fn an_empty_file_from_a_maker_that_was_killed_is_taken_over() {
    let names = Names::new(private::directory());
    fs::create_dir_all(names.directory()).unwrap();
    fs::write(names.directory().join("network-1"), "").unwrap();
    let (network, netns) = (name("network-1"), Netns::create().unwrap());
    assert!(names.open(&network).unwrap().is_none());
    names.bind(&network, &netns).unwrap();
    let found = names.open(&network).unwrap().unwrap();
    assert_eq!(found.identity(), netns.identity());
}
