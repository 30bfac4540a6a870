use super::*;

/// One listener that forwards, one that routes two names.
pub(super) fn job() -> Job {
    let target = |port| SocketAddr::from(([127, 0, 0, 1], port));
    Job {
        listeners: vec![
            Listener {
                port: 7,
                routing: Routing::Forward(target(9)),
            },
            Listener {
                port: 8,
                routing: Routing::ByName(vec![
                    ("a.test".into(), target(10)),
                    ("b.test".into(), target(11)),
                ]),
            },
        ],
        namespace: None,
    }
}

#[test]
fn every_configuration_names_every_listener_and_target() {
    for peer in Peer::value_variants() {
        let dir = tempfile::tempdir().unwrap();
        let mut job = job();
        if !peer.can_forward() {
            job.listeners.remove(0);
        }
        let mut command = Command::new("true");
        match peer {
            Peer::Ringway => ringway::prepare(&mut command, &job, dir.path()),
            Peer::Haproxy => haproxy::prepare(&mut command, &job, false, dir.path()),
            Peer::HaproxySplice => haproxy::prepare(&mut command, &job, true, dir.path()),
            Peer::Envoy => envoy::prepare(&mut command, &job, dir.path()),
            Peer::Nginx => nginx::prepare(&mut command, &job, dir.path()),
            Peer::Traefik => traefik::prepare(&mut command, &job, dir.path()),
            Peer::Sozu => sozu::prepare(&mut command, &job, dir.path()),
            Peer::Sniproxy => sniproxy::prepare(&mut command, &job, dir.path()),
        }
        .unwrap();
        let files = fs::read_dir(dir.path()).unwrap();
        let text: String = files
            .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
            .collect();
        let text = text.replace("\\\\.", ".");
        for part in ["a.test", "b.test", "10", "11"] {
            assert!(text.contains(part), "{peer:?} lacks {part}: {text}");
        }
        if peer.can_forward() {
            let target = ["127.0.0.1:9", "\"port_value\":9"];
            assert!(
                target.iter().any(|part| text.contains(part)),
                "{peer:?}: {text}"
            );
        }
    }
}
