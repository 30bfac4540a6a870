use super::*;
use crate::linux::{
    rtnl::Rtnl,
    socket::{Family, Socket},
};

#[test]
fn a_burst_of_changes_is_one_notice_within_a_tenth_of_a_second() {
    let directory = crate::private::directory();
    std::fs::create_dir(&directory).unwrap();
    let watch = Watch::start(&directory).unwrap();
    let begun = Instant::now();
    for number in 0..20 {
        std::fs::write(directory.join(format!("network-{number}")), "").unwrap();
    }
    let notices = watch.notices();
    let told = notices.recv_timeout(Duration::from_secs(2));
    assert_eq!(told, Ok(Notice::Names));
    assert!(begun.elapsed() >= GATHERING, "it was gathered");
    assert!(notices.recv_timeout(2 * GATHERING).is_err(), "told once");
}

#[test]
fn what_is_no_longer_followed_is_not_told() {
    let directory = crate::private::directory();
    std::fs::create_dir(&directory).unwrap();
    let mut watch = Watch::start(&directory).unwrap();
    let netns = Netns::create().unwrap();
    let network = NetworkKey::new(1).unwrap();
    let [socket] = Socket::open(&netns, [Family::Route]).unwrap();
    let mut rtnl = Rtnl::new(socket);
    let index = rtnl.link("lo").unwrap().unwrap().index;
    watch.follow(network, &netns, None).unwrap();
    rtnl.raise(index).unwrap();
    let notices = watch.notices();
    let told = notices.recv_timeout(Duration::from_secs(2));
    assert_eq!(told, Ok(Notice::Network(network)));
    while notices.recv_timeout(2 * GATHERING).is_ok() {}
    watch.unfollow(network);
    rtnl.lower(index).unwrap();
    assert!(notices.recv_timeout(2 * GATHERING).is_err());
}
