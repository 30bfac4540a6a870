use super::*;

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
    let network = NonZeroU16::MIN;
    let raise = |state| {
        crate::links::within(&netns, async |links| links.set("lo", state).await).unwrap();
    };
    watch.follow(network, &netns, None).unwrap();
    raise(crate::links::State::Up);
    let notices = watch.notices();
    let told = notices.recv_timeout(Duration::from_secs(2));
    assert_eq!(told, Ok(Notice::Network(network)));
    while notices.recv_timeout(2 * GATHERING).is_ok() {}
    watch.unfollow(network);
    raise(crate::links::State::Down);
    assert!(notices.recv_timeout(2 * GATHERING).is_err());
}
