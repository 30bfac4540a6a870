//! Which target a request goes to, and which one next.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use engine_core::{
    balance::{Balance, HashOn},
    endpoint::Endpoint,
    ids::NetworkId,
};
use engine_http::{
    health::Ejection,
    retry::Retries,
    rules::{Policy, Secure, Sticky},
};

use crate::front::http::tests::bench::{Gateway, Reply, Site, Upstream, body, ok, status};

/// An address where nobody listens.
fn refused() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn never_ejects() -> Ejection {
    Ejection {
        failures: 0,
        ..Ejection::default()
    }
}

#[test]
fn a_target_that_refuses_knows_nothing_so_even_a_post_goes_to_the_next() {
    let upstream = Upstream::named("up");
    let mut gateway = Gateway::start(Site::proxy(
        &[refused(), upstream.address],
        Policy {
            ejection: never_ejects(),
            ..Policy::default()
        },
    ));
    for _ in 0..4 {
        let answer = gateway.ask("POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        assert_eq!((status(&answer), body(&answer)), (200, "up"));
    }
    assert_eq!(
        gateway.counted().retries,
        0,
        "these were no further attempts"
    );
}

#[test]
fn only_what_is_safe_is_sent_again_and_only_as_often_as_the_rule_says() {
    let closing = Upstream::start(|_| Reply::Close);
    let upstream = Upstream::named("up");
    let policy = |max| Policy {
        retries: Retries {
            max,
            ..Retries::default()
        },
        ejection: never_ejects(),
        ..Policy::default()
    };
    let targets = [closing.address, upstream.address];
    let mut gateway = Gateway::start(Site::proxy(&targets, policy(1)));
    for _ in 0..4 {
        assert_eq!(body(&gateway.get("/", "")), "up");
    }
    assert_eq!(
        gateway.counted().retries,
        2,
        "every second one progress to the other first"
    );
    let post = "POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let mut statuses: Vec<u16> = (0..2).map(|_| status(&gateway.ask(post))).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
    gateway.publish(Site::proxy(&targets, policy(0)));
    let mut statuses: Vec<u16> = (0..2).map(|_| status(&gateway.get("/", ""))).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 502]);
}

#[test]
fn what_is_repeated_has_a_budget() {
    let closing = Upstream::start(|_| Reply::Close);
    let policy = Policy {
        retries: Retries {
            max: 1,
            percent: 0,
            floor: 0,
        },
        ..Policy::default()
    };
    let mut gateway = Gateway::start(Site::proxy(&[closing.address], policy));
    assert_eq!(status(&gateway.get("/", "")), 502);
    assert_eq!(gateway.counted().retries, 0);
    assert_eq!(closing.heads().len(), 1);
}

#[test]
fn a_stale_connection_of_the_pool_is_nobodys_failure() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // Each connection answers once, and is closed when it is asked again.
    let upstream = Upstream::start(move |head| {
        if head.contains("/second") && count.fetch_add(1, SeqCst) == 0 {
            return Reply::Close;
        }
        ok("fine")
    });
    let policy = Policy {
        retries: Retries {
            max: 0,
            ..Retries::default()
        },
        ..Policy::default()
    };
    let mut gateway = Gateway::start(Site::proxy(&[upstream.address], policy));
    assert_eq!(body(&gateway.get("/first", "")), "fine");
    assert_eq!(body(&gateway.get("/second", "")), "fine");
    assert_eq!(upstream.connections(), 2);
    let counted = gateway.counted();
    assert_eq!((counted.upstreams_reused, counted.upstreams_opened), (1, 2));
    assert_eq!(counted.retries, 0);
}

#[test]
fn a_target_that_fails_is_left_out() {
    let closing = Upstream::start(|_| Reply::Close);
    let upstream = Upstream::named("up");
    let policy = Policy {
        ejection: Ejection {
            failures: 2,
            base: Duration::from_secs(3600),
            max: Duration::from_secs(3600),
            ..Ejection::default()
        },
        ..Policy::default()
    };
    let mut gateway = Gateway::start(Site::proxy(&[closing.address, upstream.address], policy));
    for _ in 0..20 {
        assert_eq!(body(&gateway.get("/", "")), "up");
    }
    assert_eq!(closing.heads().len(), 2);
    assert_eq!(gateway.counted().ejections, 1);
}

#[test]
fn targets_that_all_fail_requests_are_known_to_until_one_answers() {
    let is_well = Arc::new(AtomicBool::new(false));
    let upstream = || {
        let is_well = Arc::clone(&is_well);
        Upstream::start(move |_| match is_well.load(SeqCst) {
            true => ok("up"),
            false => Reply::Close,
        })
    };
    let (one, two) = (upstream(), upstream());
    let policy = || Policy {
        ejection: Ejection {
            failures: 3,
            base: Duration::from_secs(3600),
            max: Duration::from_secs(3600),
            ..Ejection::default()
        },
        ..Policy::default()
    };
    let mut gateway = Gateway::start(Site::proxy(&[one.address, two.address], policy()));
    let failing = |gateway: &Gateway| {
        let mut routes = gateway.engine.snapshot().routes();
        let targets = &routes.next().unwrap().targets;
        let failing = targets.iter().filter(|target| target.health.is_failing());
        failing.count()
    };
    assert_eq!(status(&gateway.get("/", "")), 502);
    assert_eq!(failing(&gateway), 0, "one failure is none");
    // One of the two is ejected, and the other is the last one and is not.
    for _ in 0..20 {
        assert_eq!(status(&gateway.get("/", "")), 502);
    }
    assert_eq!(gateway.counted().ejections, 1);
    assert_eq!(failing(&gateway), 2);
    gateway.publish(Site::proxy(&[one.address, two.address], policy()));
    assert_eq!(failing(&gateway), 2, "it outlives a publication");
    is_well.store(true, SeqCst);
    assert_eq!(body(&gateway.get("/", "")), "up");
    assert_eq!(failing(&gateway), 1);
}

#[test]
fn a_cookie_keeps_a_client_with_its_target_while_that_is_there() {
    let (one, two) = (Upstream::named("one"), Upstream::named("two"));
    let targets = [one.address, two.address];
    let sticky = |targets: &[SocketAddr]| {
        let targets: Vec<Endpoint> = targets.iter().copied().map(Endpoint::from).collect();
        Sticky::new("at", None, Secure::No, &[7; 32], (NetworkId(1), &targets)).unwrap()
    };
    let policy = |targets: &[_]| Policy {
        sticky: Some(sticky(targets)),
        ..Policy::default()
    };
    let mut gateway = Gateway::start(Site::proxy(&targets, policy(&targets)));
    let first = gateway.get("/", "");
    let cookie = first
        .lines()
        .find_map(|line| line.strip_prefix("Set-Cookie: "))
        .unwrap_or_else(|| panic!("{first}"));
    let cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let home = body(&first).to_owned();
    for _ in 0..7 {
        let answer = gateway.get("/", &cookie);
        assert_eq!(body(&answer), home);
        assert!(!answer.contains("Set-Cookie"), "it has one: {answer}");
    }
    // Requests that stay take no turn from those that do not.
    assert_ne!(body(&gateway.get("/", "")), home);
    let left = match &*home {
        "one" => [refused(), two.address],
        _ => [one.address, refused()],
    };
    gateway.publish(Site::proxy(&left, policy(&left)));
    let answer = gateway.get("/", &cookie);
    assert_ne!(body(&answer), home);
    assert!(
        answer.contains("Set-Cookie: at="),
        "it has a new home: {answer}"
    );
}

#[test]
fn the_same_value_goes_to_the_same_target() {
    let upstreams = [
        Upstream::named("one"),
        Upstream::named("two"),
        Upstream::named("three"),
    ];
    let targets = upstreams.each_ref().map(|upstream| upstream.address);
    let gateway = Gateway::start(Site {
        balance: Balance::Consistent(HashOn::Path),
        ..Site::proxy(&targets, Policy::default())
    });
    let mut met = BTreeSet::new();
    for path in 0..24 {
        let path = format!("/{path}");
        let home = body(&gateway.get(&path, "")).to_owned();
        assert_eq!(body(&gateway.get(&path, "")), home);
        met.insert(home);
    }
    assert_eq!(met.len(), 3, "{met:?}");
}

#[test]
fn the_less_busy_of_two_is_asked() {
    let (slow, quick) = (
        Upstream::start(|_| Reply::Silence),
        Upstream::named("quick"),
    );
    let gateway = Gateway::start(Site {
        balance: Balance::PowerOfTwo,
        ..Site::proxy(&[slow.address, quick.address], Policy::default())
    });
    // With two targets the draw is always between both: once one is busy, the other is asked. One
    // request at a time, until one is with the slow target.
    let mut client = gateway.connect();
    while slow.heads().is_empty() {
        let request = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
        client.write_all(request).unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        let mut answer = [0; 1024];
        let is_answered = loop {
            match client.read(&mut answer) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(_) if slow.heads().is_empty() => {}
                Err(_) => break false,
            }
        };
        if is_answered {
            client = gateway.connect();
        }
    }
    for _ in 0..20 {
        assert_eq!(body(&gateway.get("/", "")), "quick");
    }
}
