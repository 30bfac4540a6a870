use std::fs;

use super::*;

pub(super) fn table() -> Table {
    let server = |port| SocketAddr::from(([127, 0, 0, 1], port));
    Table {
        port: 7,
        routes: 3,
        per_network: 2,
        servers: [server(11), server(12), server(13)],
    }
}

#[test]
fn every_configuration_has_every_host_and_server() {
    for peer in [Peer::Ringway, Peer::Haproxy, Peer::Envoy] {
        let dir = tempfile::tempdir().unwrap();
        prepare(peer, &mut Command::new("true"), &table(), dir.path()).unwrap();
        let folders = [dir.path().to_owned(), dir.path().join("discovery")];
        let files = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        let files = files.flatten().map(|file| file.unwrap().path());
        let text: String = files
            .filter_map(|file| fs::read_to_string(file).ok())
            .collect();
        let text = text.replace("\"port_value\":", "127.0.0.1:");
        let hosts = (0..3).map(host);
        let servers = [11, 12, 13].map(|port| format!("127.0.0.1:{port}"));
        for part in hosts.chain(servers) {
            // Ringway has no server that no rule names.
            let unused = peer == Peer::Ringway && part.ends_with(":12");
            assert!(
                unused || text.contains(&part),
                "{peer:?} lacks {part}: {text}"
            );
        }
    }
}

#[test]
fn a_file_of_routes_follows_the_changes() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("true");
    let mut file = envoy::prepare(&mut command, &table(), dir.path()).unwrap();
    let read = || -> serde_json::Value {
        let text = fs::read_to_string(dir.path().join("discovery/routes.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let cluster_of = |n: usize| {
        read()["resources"][0]["virtual_hosts"][n]["routes"][0]["route"]["cluster"].clone()
    };
    file.prepare(1, Edit::Change(Server::Second)).unwrap();
    assert_eq!(cluster_of(1), "first");
    file.hand_over().unwrap();
    assert_eq!([cluster_of(0), cluster_of(1)], ["first", "second"]);
    file.prepare(1, Edit::Remove).unwrap();
    file.hand_over().unwrap();
    let hosts = read()["resources"][0]["virtual_hosts"]
        .as_array()
        .map(Vec::len);
    assert_eq!(hosts, Some(3));
}
