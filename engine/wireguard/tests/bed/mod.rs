//! A test bed: two hosts joined by a cable, a tenant on each, and a device for each tenant.
#![allow(dead_code, reason = "each suite uses a part of it")]

use std::{
    io,
    net::IpAddr,
    num::NonZeroUsize,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use engine_sys::netns::Netns;
use engine_wireguard::{Change, Device, Key, Offloads, Open, PeerChange, Pool, PublicKey};
use futures::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::address::{AddressAttribute, AddressFlags},
};
use tempfile::TempDir;

/// How long anything in here may take before a test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One end: a host, a tenant on it, and the tenant's device.
pub(crate) struct Side {
    pub(crate) host: Netns,
    pub(crate) tenant: Netns,
    pub(crate) device: Device,
    pub(crate) key: Key,
    /// The host's addresses on the cable.
    pub(crate) outside: [IpAddr; 2],
    /// The tenant's addresses.
    pub(crate) inside: [IpAddr; 2],
}

/// Two ends.
pub(crate) struct Bed {
    pub(crate) sides: [Side; 2],
    pub(crate) pool: Pool,
    sockets: TempDir,
}

impl Bed {
    /// Both ends with addresses and nothing configured.
    pub(crate) fn new() -> Self {
        Self::with(Offloads::ALL)
    }

    /// The same, with some offloads.
    pub(crate) fn with(offloads: Offloads) -> Self {
        Self::on(NonZeroUsize::new(2).unwrap(), offloads)
    }

    /// The same, on a number of threads.
    pub(crate) fn on(threads: NonZeroUsize, offloads: Offloads) -> Self {
        let sockets = TempDir::new().unwrap();
        let pool = Pool::start_in(threads, sockets.path()).unwrap();
        let pool = pool.with_offloads(offloads);
        let hosts = [Netns::create().unwrap(), Netns::create().unwrap()];
        join(&hosts[0], &hosts[1]);
        let mut number = 0_u8;
        let sides = hosts.map(|host| {
            number += 1;
            side(host, number, &pool)
        });
        Self {
            sides,
            pool,
            sockets,
        }
    }

    /// Makes each the other's peer, who knows where the other is by the address of that family.
    pub(crate) fn introduce(&self, family: usize, keep_alive: u16) {
        for (number, side) in self.sides.iter().enumerate() {
            let other = &self.sides[1 - number];
            let port = other.device.state().unwrap().listen_port;
            let mut peer = PeerChange::new(other.key.public());
            peer.endpoint = Some((other.outside[family], port).into());
            peer.keep_alive = Some(keep_alive);
            peer.allowed_ips = other.inside.map(IpNet::from).to_vec();
            let change = Change {
                peers: vec![peer],
                ..Change::default()
            };
            side.device.configure(change).unwrap();
        }
    }

    /// One more device, in other namespaces.
    pub(crate) fn open(&self, name: &str, tenant: &Netns, host: &Netns, key: Key) -> Device {
        open(&self.pool, name, tenant, host, key)
    }

    /// The socket that configures a device.
    pub(crate) fn socket(&self, side: usize) -> PathBuf {
        let name = format!("{}.sock", self.sides[side].device.name());
        self.sockets.path().join(name)
    }

    /// The public key of a side.
    pub(crate) fn public_key(&self, side: usize) -> PublicKey {
        self.sides[side].key.public()
    }
}

fn side(host: Netns, number: u8, pool: &Pool) -> Side {
    let address = |text: String| -> IpAddr { text.parse().unwrap() };
    let tenant = Netns::create().unwrap();
    let key = Key::new([number; 32]).clamped();
    let name = format!("wg{number}");
    let device = open(pool, &name, &tenant, &host, key.clone());
    let inside = [
        address(format!("10.0.0.{number}")),
        address(format!("fd00::{number}")),
    ];
    furnish(&tenant, &name, &inside, [24, 64]);
    Side {
        outside: [
            address(format!("192.0.2.{number}")),
            address(format!("2001:db8::{number}")),
        ],
        host,
        tenant,
        device,
        key,
        inside,
    }
}

fn open(pool: &Pool, name: &str, tenant: &Netns, host: &Netns, private_key: Key) -> Device {
    let open = Open {
        name,
        tenant,
        host,
        mtu: 1_420,
        listen_port: 0,
        private_key,
    };
    pool.open(open).unwrap()
}

fn join(left: &Netns, right: &Netns) {
    links(left, async |handle| {
        let pair = LinkVeth::new("cable", "away").build();
        handle.link().add(pair).execute().await?;
        let away = LinkMessageBuilder::<LinkUnspec>::new()
            .name("away")
            .setns_by_fd(right.as_fd().as_raw_fd())
            .build();
        handle.link().set(away).execute().await
    });
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    let left_addresses = [address("192.0.2.1"), address("2001:db8::1")];
    let right_addresses = [address("192.0.2.2"), address("2001:db8::2")];
    furnish(left, "cable", &left_addresses, [24, 64]);
    furnish(right, "away", &right_addresses, [24, 64]);
}

/// Gives a link its addresses and sets it up.
pub(crate) fn furnish(netns: &Netns, name: &str, addresses: &[IpAddr], lengths: [u8; 2]) {
    links(netns, async |handle| {
        let mut found = handle.link().get().match_name(name).execute();
        let index = found.try_next().await?.map(|link| link.header.index);
        let index = index.ok_or(rtnetlink::Error::RequestFailed)?;
        for (address, length) in addresses.iter().zip(lengths) {
            let mut request = handle.address().add(index, *address, length);
            if address.is_ipv6() {
                let flags = AddressAttribute::Flags(AddressFlags::Nodad);
                request.message_mut().attributes.push(flags);
            }
            request.execute().await?;
        }
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(index).up();
        handle.link().set(up.build()).execute().await
    });
}

/// Runs a command of nft(8) in a namespace, and answers what it says.
pub(crate) fn nft(netns: &Netns, command: &str) -> String {
    let output = netns
        .run(|| Command::new("nft").arg(command).output())
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Deletes a link.
pub(crate) fn delete(netns: &Netns, name: &str) {
    links(netns, async |handle| {
        let mut found = handle.link().get().match_name(name).execute();
        let index = found.try_next().await?.map(|link| link.header.index);
        let index = index.ok_or(rtnetlink::Error::RequestFailed)?;
        handle.link().del(index).execute().await
    });
}

/// Whether a namespace has a link of that name.
pub(crate) fn has_link(netns: &Netns, name: &str) -> bool {
    let mut there = false;
    links(netns, async |handle| {
        let mut found = handle.link().get().match_name(name).execute();
        there = found.try_next().await.is_ok_and(|link| link.is_some());
        Ok(())
    });
    there
}

fn links(netns: &Netns, work: impl AsyncFnOnce(&Handle) -> Result<(), rtnetlink::Error> + Send) {
    let done = netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            work(&handle).await.map_err(io::Error::other)
        })
    });
    done.unwrap();
}

/// Asks again and again until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
