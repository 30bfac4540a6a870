//! A gigabyte each way beside every other implementation, by its digest at both ends.

use anyhow::{Context as _, Result};
use serde_json::json;
use tests::{
    lab::Lab,
    peer::{Client, Keys, Uplink},
    random::Random,
    runner::{Test, say},
    tests,
};

use crate::scene::{self, Family, PORT, Tunnel};

pub(crate) const TESTS: &[Test] = tests![
    a_gigabyte_each_way_passes_with_wireguard_go: 240,
    a_gigabyte_each_way_passes_with_boringtun: 240,
    a_gigabyte_each_way_passes_with_gotatun: 240,
    a_gigabyte_each_way_passes_between_two_of_ours: 240,
];

/// For a kernel that has the module.
pub(crate) const WITH_MODULE: &[Test] =
    tests![a_gigabyte_each_way_passes_with_the_kernels_device: 900];

/// How many MiB pass each way with one client: an emulated machine is given fewer.
const MEBIBYTES: &str = "LAB_DIGEST_MEBIBYTES";

fn bytes() -> Result<u64> {
    let mebibytes = match std::env::var(MEBIBYTES) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{MEBIBYTES}={text}"))?,
        Err(_) => 1024_u64,
    };
    Ok(mebibytes << 20)
}

fn a_gigabyte_each_way_passes_with_wireguard_go(lab: &mut Lab) -> Result<()> {
    passes_with(lab, Client::WireGuardGo)
}

fn a_gigabyte_each_way_passes_with_boringtun(lab: &mut Lab) -> Result<()> {
    passes_with(lab, Client::BoringTun)
}

fn a_gigabyte_each_way_passes_with_gotatun(lab: &mut Lab) -> Result<()> {
    passes_with(lab, Client::GotaTun)
}

fn a_gigabyte_each_way_passes_between_two_of_ours(lab: &mut Lab) -> Result<()> {
    passes_with(lab, Client::OURS)
}

fn a_gigabyte_each_way_passes_with_the_kernels_device(lab: &mut Lab) -> Result<()> {
    passes_with(lab, Client::Kernel)
}

/// A quarter of the gigabyte for each pair of families, inside and outside; the one over IPv6 with a
/// secret beside the keys.
fn passes_with(lab: &mut Lab, client: Client) -> Result<()> {
    let mut random = Random::from_environment();
    let secret = Keys::preshared()?;
    let mut tunnels = [
        Tunnel::new(lab, client, PORT)?,
        Tunnel::new(lab, client, PORT + 1)?,
    ];
    let [_, Tunnel { network, peer }] = &mut tunnels;
    network.document["peers"][&peer.keys.public]["preshared_key"] = secret.as_str().into();
    let gateway = scene::start(lab, json!({}), &tunnels)?;
    for (outside, tunnel) in Family::BOTH.into_iter().zip(&tunnels) {
        tunnel.meet_at(
            outside,
            tunnel.network.port,
            Uplink {
                preshared_key: (outside == Family::V6).then_some(&secret),
                ..tunnel.network.uplink()
            },
        )?;
        for inside in Family::BOTH {
            let what = || format!("{inside:?} inside, {outside:?} outside");
            let ends = tunnel.join(inside).with_context(what)?;
            let passed = ends
                .pass_both_ways(bytes()? / 4, &mut random)
                .with_context(what)?;
            ends.end().with_context(what)?;
            let [up, down] = passed.map(|passed| passed.gigabits());
            let what = what();
            say(&format!("  {client:?}, {what}: {up:.2} and {down:.2} Gb/s"));
        }
    }
    scene::end(&gateway)
}
