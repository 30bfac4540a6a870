use control_api::answer::{Backend, Degradation, Reason, Relayed, Traffic, WireGuardStatus};

use super::*;

fn chapter(name: &'static str, hostname: &'static str, port: u16) -> Chapter {
    Chapter {
        names: Names { name, hostname },
        port,
        process: 7,
        peer: PeerStatus {
            endpoint: Some(super::super::address(40_000)),
            connected: true,
            ..PeerStatus::default()
        },
        handshake_age: Some(1),
        visit: Visit {
            text: format!("I am {name}, and so on"),
            sent: 10,
            received: 20,
        },
        accounts: Accounts {
            relayed: Relayed {
                bytes_in: 10,
                bytes_out: 20,
                connections: 1,
            },
            carried: Traffic { rx: 300, tx: 200 },
        },
    }
}

fn report() -> Report {
    Report {
        gateway: super::super::address(8443),
        gateway_process: 6,
        facts: Facts {
            driver: "epoll".to_owned(),
            workers: 2,
            wireguard: WireGuardStatus {
                backend: Some(Backend::Userspace),
                reason: "the kernel has no module".to_owned(),
            },
        },
        applied: Applied {
            generation: 1,
            changed: true,
            dry_run: false,
            steps: vec![],
            degraded: vec![],
            warnings: vec![],
        },
        chapters: vec![
            chapter("blue", "blue.example", 51_820),
            chapter("green", "green.example", 51_821),
        ],
        certificate: "/tmp/ca.pem".into(),
        socket: "/run/ringway-demo/api.sock".into(),
        process: 42,
        program: "ringway".to_owned(),
        stays: true,
    }
}

fn text(report: &Report) -> String {
    let mut out = Vec::new();
    text::write(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_wrong_makes_the_whole_wrong_in_both_forms() {
    let right = report();
    assert!(text(&right).contains("every byte is accounted"));
    assert!(!text(&right).contains('✗'));
    assert_eq!(json::of(&right)["ok"], true);
    let wrongs: [fn(&mut Chapter); 8] = [
        |chapter| chapter.peer.connected = false,
        |chapter| chapter.visit.text = "I am blue, and so on".to_owned(),
        |chapter| chapter.visit.text.clear(),
        |chapter| chapter.accounts.relayed.connections = 2,
        |chapter| chapter.accounts.relayed.bytes_in = 9,
        |chapter| chapter.accounts.relayed.bytes_out = 21,
        |chapter| chapter.accounts.carried.rx = 20,
        |chapter| chapter.accounts.carried.tx = 0,
    ];
    for (number, wrong) in wrongs.into_iter().enumerate() {
        let mut report = report();
        wrong(&mut report.chapters[1]);
        assert!(text(&report).contains("NOT AS IT SHOULD BE"), "{number}");
        let json = json::of(&report);
        assert_eq!(json["ok"], false, "{number}");
        assert_eq!(json["tenants"][0]["ok"], true, "{number}");
        assert_eq!(json["tenants"][1]["ok"], false, "{number}");
    }
}

#[test]
fn a_network_that_is_not_as_declared_is_told() {
    let mut report = report();
    report.applied.degraded.push(Degradation::new(
        Reason::NetworkFailed,
        "network-51820",
        "there is no TUN",
    ));
    assert!(!report.is_right());
    assert!(text(&report).contains("network-51820: there is no TUN"));
}

#[test]
fn the_lines_to_try_lead_into_the_demos_own_mount_namespace() {
    let text = text(&report());
    for line in [
        "curl --cacert /tmp/ca.pem --resolve blue.example:8443:127.0.0.1 https://blue.example:8443/",
        "ringway status --api unix:/proc/42/root/run/ringway-demo/api.sock",
        "ringway top --api unix:/proc/42/root/run/ringway-demo/api.sock",
        "nsenter --target 42 --mount ip netns exec network-51821 ip address",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[test]
fn a_demo_that_ends_invites_to_nothing() {
    let mut report = report();
    report.stays = false;
    assert!(!text(&report).contains("curl"));
}
