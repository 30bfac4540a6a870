//! Whatever changes underneath is put right within two seconds, and nobody else notices.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tests::{
    flow::Flow,
    gateway::Gateway,
    lab::{Lab, tls},
    leak::nothing_is_left,
    network::Network,
    peer::{Client, Keys, Peer},
    runner::Test,
    server::{self, Server},
    tests,
    tool::Tool,
    wait::within,
};

pub(crate) const TESTS: &[Test] = tests![
    what_is_changed_by_hand_is_put_right: 120,
    a_peer_that_is_changed_by_hand_is_put_right,
    a_name_that_is_deleted_is_made_again,
];

const NAME: &str = "blue.example";
const PORT: u16 = 50_000;
/// How long a repair may take: two seconds, and as much again for the looks at it, each of which
/// runs a dozen programs on a machine that may be busy.
const REPAIR: Duration = Duration::from_secs(4);

/// One network with two peers, the second of which serves.
struct Scene {
    gateway: Arc<Gateway>,
    network: Network,
    first: Peer,
    second: Peer,
    _server: Server<u64>,
}

impl Scene {
    fn new(lab: &mut Lab) -> Result<Self> {
        let (first, second) = (lab.peer(Client::BoringTun)?, lab.peer(Client::WireGuardGo)?);
        let mut network = Network::new(PORT)?;
        network.invite(&first, 2)?;
        network.invite(&second, 3)?;
        // Beyond the device's own prefix, so that it needs a route.
        network.admit(
            &first.keys.public,
            &[
                "10.0.0.2/32",
                "fd00::2/128",
                "192.0.2.0/24",
                "2001:db8::/64",
            ],
        );
        network.publish(NAME, "10.0.0.3:443");
        let gateway = lab.gateway(tls(json!({})), network.state())?;
        network.meet(&first)?;
        network.meet(&second)?;
        Ok(Self {
            _server: Server::start(second.listen(443)?, server::echo)?,
            gateway,
            network,
            first,
            second,
        })
    }

    /// Everything that Ringway set, as `ip`, `nft` and `wg` show it.
    fn setting(&self) -> Result<String> {
        let device = self.network.device();
        let script = format!(
            "ip -brief address show dev {device}; ip -brief link show dev {device} | cut -d' ' -f1; \
             ip route show; ip -6 route show dev {device}; nft list ruleset; \
             cat /proc/sys/net/ipv4/ip_forward; ip -brief link show dev lo; \
             wg show {device} private-key; wg show {device} listen-port; \
             wg show {device} allowed-ips | sort; wg show {device} preshared-keys | sort; \
             wg show {device} persistent-keepalive | sort"
        );
        let shell = Tool::new("sh", "-c").argument(script);
        shell.run_in(&self.network.netns()?)
    }

    fn end(self) -> Result<()> {
        self.gateway.api().apply(&json!({}))?;
        nothing_is_left(&self.gateway)
    }
}

fn what_is_changed_by_hand_is_put_right(lab: &mut Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let before = scene.setting()?;
    let mut flow = Flow::open(NAME)?;
    let device = scene.network.device();
    for change in [
        format!("ip address delete fd00::1/64 dev {device}"),
        format!("ip address delete 10.0.0.1/24 dev {device}"),
        format!("ip address add 10.99.0.1/24 dev {device}"),
        format!("ip link set {device} down"),
        format!("ip link set {device} mtu 1300"),
        format!("ip route delete 192.0.2.0/24 dev {device}"),
        format!("ip -6 route delete 2001:db8::/64 dev {device}"),
        "nft flush ruleset".to_owned(),
        "ip link set lo down".to_owned(),
        "nft insert rule inet ringway input accept".to_owned(),
        "echo 0 > /proc/sys/net/ipv4/ip_forward".to_owned(),
        format!("ip link delete {device}"),
        format!("ip link delete {device}; nft flush ruleset; ip link set lo down"),
    ] {
        let by_hand = Tool::new("sh", "-c").argument(&change);
        by_hand.run_in(&scene.network.netns()?)?;
        within(REPAIR, &format!("put right: {change}"), || {
            (scene.setting().ok()? == before).then_some(())
        })
        .with_context(|| format!("before:\n{before}\nnow:\n{:?}", scene.setting()))?;
        flow.still_lives().with_context(|| change.clone())?;
        Flow::open(NAME)?.end().context(change)?;
    }
    flow.end()?;
    scene.first.wait_for_ping("10.0.0.1")?;
    scene.end()
}

fn a_peer_that_is_changed_by_hand_is_put_right(lab: &mut Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let before = scene.setting()?;
    let mut flow = Flow::open(NAME)?;
    let device = scene.network.device();
    let first = &scene.first.keys.public;
    let (stranger, other) = (Keys::generate()?, Keys::generate()?);
    for change in [
        format!("wg set {device} peer {first} allowed-ips 10.9.9.9/32"),
        format!("wg set {device} peer {first} persistent-keepalive 0"),
        format!("wg genpsk | wg set {device} peer {first} preshared-key /dev/stdin"),
        format!("wg set {device} peer {first} remove"),
        format!(
            "wg set {device} peer {} allowed-ips 10.0.0.9/32",
            stranger.public
        ),
        format!(
            "wg set {device} peer {} allowed-ips 10.0.0.2/32",
            stranger.public
        ),
        format!(
            "echo {} | wg set {device} private-key /dev/stdin",
            other.private
        ),
        format!("wg set {device} listen-port 40001"),
    ] {
        let by_hand = Tool::new("sh", "-c").argument(&change);
        by_hand.run_in(&scene.network.netns()?)?;
        within(REPAIR, &format!("put right: {change}"), || {
            (scene.setting().ok()? == before).then_some(())
        })?;
        flow.still_lives().with_context(|| change.clone())?;
        scene.second.wait_for_ping("10.0.0.1")?;
    }
    flow.end()?;
    scene.first.wait_for_ping("10.0.0.1")?;
    scene.end()
}

fn a_name_that_is_deleted_is_made_again(lab: &mut Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let before = (scene.network.netns()?.identity(), scene.setting()?);
    let mut flow = Flow::open(NAME)?;
    for _ in 0..3 {
        // It unmounts the name and then removes it, and fails where it is mounted again in between.
        within(REPAIR, "the name is deleted", || {
            let delete = Tool::new("ip", &format!("netns delete {}", scene.network.name()));
            delete.run().ok()
        })?;
        within(REPAIR, "the name is made again", || {
            let now = (
                scene.network.netns().ok()?.identity(),
                scene.setting().ok()?,
            );
            (now == before).then_some(())
        })?;
        flow.still_lives()?;
    }
    flow.end()?;
    ensure!(scene.second.pings("10.0.0.1")?);
    scene.end()
}
