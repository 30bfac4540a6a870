//! What many devices and many peers cost at rest: `many DEVICES PEERS [awake]` opens that many
//! devices, each with that many peers, in namespaces of its own. It prints the memory, and the
//! processor time of ten seconds in which their state is asked for every second and of ten at rest.
//! With `awake`, each peer is to be kept in touch with and never answers.
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::{
    env,
    error::Error,
    fs,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use engine_sys::netns::Netns;
use engine_wireguard::{Change, Key, Open, PeerChange, Pool};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u16>().ok());
    let devices = number(1).unwrap_or(500);
    let peers = u32::from(number(2).unwrap_or(10));
    let awake = arguments.iter().any(|text| text == "awake");
    let directory = env::temp_dir().join(format!("many-{}", std::process::id()));
    let pool = Pool::start_in(NonZeroUsize::MIN, &directory)?;
    let (tenant, host) = (Netns::create()?, Netns::create()?);
    let start = (memory()?, Instant::now());
    let mut opened = Vec::new();
    for device in 0..devices {
        opened.push(pool.open(Open {
            name: &format!("wg{device}"),
            tenant: &tenant,
            host: &host,
            mtu: 1_420,
            listen_port: 0,
            private_key: Key::new([7; 32]),
        })?);
    }
    let open = (memory()?, start.1.elapsed());
    let begun = Instant::now();
    for device in &opened {
        let peers = (0..peers).map(|peer| change(peer, awake));
        device.configure(Change {
            peers: peers.collect(),
            ..Change::default()
        })?;
    }
    let configured = (memory()?, begun.elapsed());
    report(
        "opening a device",
        open.0 - start.0,
        open.1,
        u32::from(devices),
    );
    let all = u32::from(devices) * peers;
    report("a peer", configured.0 - open.0, configured.1, all);
    measure("asked every second", || {
        opened
            .iter()
            .try_for_each(|device| device.state().map(drop))
    })?;
    measure("at rest", || Ok(()))?;
    println!("{} KiB more for everything", (memory()? - start.0) / 1_024);
    drop(opened);
    drop(pool);
    Ok(fs::remove_dir_all(&directory)?)
}

fn change(peer: u32, awake: bool) -> PeerChange {
    let [a, b, c, d] = peer.to_be_bytes();
    let mut key = [9; 32];
    key[..4].copy_from_slice(&[a, b, c, d]);
    PeerChange {
        allowed_ips: vec![std::net::IpAddr::from([10, b, c, d]).into()],
        endpoint: awake.then(|| ([127, 0, 0, 1], 9).into()),
        keep_alive: awake.then_some(25),
        ..PeerChange::new(key.into())
    }
}

fn report(what: &str, bytes: u64, time: Duration, count: u32) {
    let each = (bytes / u64::from(count.max(1)), time / count.max(1));
    println!(
        "{what}: {} bytes, {:?}; {count} in {time:?}",
        each.0, each.1
    );
}

fn measure(
    what: &str,
    mut work: impl FnMut() -> Result<(), engine_wireguard::Gone>,
) -> Result<(), Box<dyn Error>> {
    let before = processor_time()?;
    for _ in 0..10 {
        let begun = Instant::now();
        work()?;
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    let spent = processor_time()?.saturating_sub(before);
    println!("{what}: {spent:?} of processor time in 10 s");
    Ok(())
}

/// The resident set (proc(5), statm).
fn memory() -> Result<u64, Box<dyn Error>> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).ok_or("statm")?;
    Ok(pages.parse::<u64>()? * 4_096)
}

/// User and system time of all threads (getrusage(2)).
fn processor_time() -> Result<Duration, Box<dyn Error>> {
    use nix::sys::{resource, time::TimeValLike as _};
    let usage = resource::getrusage(resource::UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}
