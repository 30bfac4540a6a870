//! Desired against actual.

use control_api::answer::{
    Degradation, DeviceStatus, NetworkState, NetworkStatus, PeerStatus, Status, StoreStatus,
};

use super::{
    Cell, Colour, Paint, Side, Table, age, bytes, change::degradation, count, paint::printable,
    span,
};

/// Which part of a status is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Everything, a line for each network.
    All,
    /// One network with its peers and routes.
    Network(u16),
    /// One that the gateway refuses: there is no more of it than what is wrong with it.
    Refused(u16),
}

/// The answer to `status`. A network that is not there is the caller's to notice.
pub(crate) fn status(answer: &Status, shown: Shown, now: u64, paint: Paint) -> String {
    match shown {
        Shown::All => overview(answer, now, paint),
        Shown::Network(port) => match answer.networks.get(&port) {
            Some(network) => one(network, now, paint),
            None => String::new(),
        },
        Shown::Refused(port) => degraded(answer, now, paint, |it| it.network == Some(port)),
    }
}

fn overview(answer: &Status, now: u64, paint: Paint) -> String {
    let mut text = headline(answer);
    let sections = [
        networks(answer, paint),
        listeners(answer, paint),
        workers(answer, paint),
        store(&answer.store, now, paint),
        degraded(answer, now, paint, |_| true),
        warnings(answer, paint),
    ];
    for section in sections.iter().filter(|section| !section.is_empty()) {
        text.push('\n');
        text.push_str(section);
    }
    text
}

fn headline(answer: &Status) -> String {
    let generation = answer.generation;
    let running = if generation.desired == generation.running {
        format!("generation {}", generation.desired)
    } else {
        format!(
            "generation {} (workers still run {})",
            generation.desired, generation.running
        )
    };
    let wireguard = match answer.wireguard.backend {
        Some(backend) => format!("WireGuard: {}", backend.word()),
        None => format!("no WireGuard: {}", answer.wireguard.reason),
    };
    let line = format!(
        "ringway {} · up {} · {running} · {wireguard}",
        answer.version,
        span(answer.uptime_seconds)
    );
    format!("{}\n", printable(&line))
}

/// The colour of a network's state.
fn state(state: NetworkState) -> Cell {
    let colour = match state {
        NetworkState::Ok => Colour::Good,
        NetworkState::Pending => Colour::Notice,
        NetworkState::Degraded => Colour::Bad,
    };
    Cell::coloured(state.word(), colour)
}

fn networks(answer: &Status, paint: Paint) -> String {
    let mut table = Table::new([
        ("NETWORK", Side::Right),
        ("STATE", Side::Left),
        ("PEERS", Side::Right),
        ("RECEIVED", Side::Right),
        ("SENT", Side::Right),
        ("CONNS", Side::Right),
        ("IN", Side::Right),
        ("OUT", Side::Right),
    ]);
    for (port, network) in &answer.networks {
        let (rx, tx) = network.peers.values().fold((0_u64, 0_u64), |sum, peer| {
            (sum.0.saturating_add(peer.rx), sum.1.saturating_add(peer.tx))
        });
        let device = |text: String| match network.device {
            Some(_) => text,
            None => "-".into(),
        };
        table.row([
            port.to_string().into(),
            state(network.state),
            device(peers_connected(network)).into(),
            device(bytes(rx)).into(),
            device(bytes(tx)).into(),
            count(network.connections).into(),
            bytes(network.bytes_in).into(),
            bytes(network.bytes_out).into(),
        ]);
    }
    match table.is_empty() {
        true => "no network is declared: `ringway apply FILE` declares some\n".into(),
        false => table.render(paint),
    }
}

/// `3/10`.
fn peers_connected(network: &NetworkStatus) -> String {
    let connected = network.peers.values().filter(|peer| peer.connected).count();
    format!("{connected}/{}", network.peers.len())
}

fn listeners(answer: &Status, paint: Paint) -> String {
    let mut table = Table::new([
        ("LISTENER", Side::Left),
        ("ADDRESS", Side::Left),
        ("PROTOCOL", Side::Left),
        ("ACCEPTED", Side::Right),
    ]);
    for listener in &answer.listeners {
        table.row([
            listener.name.as_str().into(),
            listener.bind.as_str().into(),
            listener.protocol.as_str().into(),
            count(listener.accepted).into(),
        ]);
    }
    table.render_rows(paint)
}

fn workers(answer: &Status, paint: Paint) -> String {
    let mut table = Table::new([
        ("WORKER", Side::Right),
        ("GENERATION", Side::Right),
        ("CONNS", Side::Right),
        ("ACCEPTED", Side::Right),
        ("IN", Side::Right),
        ("OUT", Side::Right),
    ]);
    for worker in &answer.workers {
        table.row([
            worker.worker.to_string().into(),
            worker.generation.to_string().into(),
            count(worker.connections).into(),
            count(worker.accepted).into(),
            bytes(worker.bytes_in).into(),
            bytes(worker.bytes_out).into(),
        ]);
    }
    table.render_rows(paint)
}

fn store(store: &StoreStatus, now: u64, paint: Paint) -> String {
    if store.ok {
        return format!("store: {}\n", bytes(store.bytes));
    }
    let since = store.since.map(|at| format!(" ({})", age(now, at)));
    let why = store.error.as_deref().unwrap_or("the reason is unknown");
    let line = format!("store: not written{}: {why}", since.unwrap_or_default());
    format!("{}\n", paint.paint(Colour::Bad, &printable(&line)))
}

fn degraded(
    answer: &Status,
    now: u64,
    paint: Paint,
    is_shown: impl Fn(&Degradation) -> bool,
) -> String {
    let shown = answer.degraded.iter().filter(|it| is_shown(it));
    let lines = shown.map(|degraded| {
        let since = degraded.since.map(|at| format!(" ({})", age(now, at)));
        let line = degradation(degraded) + &since.unwrap_or_default();
        format!("{}\n", paint.paint(Colour::Bad, &line))
    });
    lines.collect()
}

fn warnings(answer: &Status, paint: Paint) -> String {
    let lines = answer.warnings.iter().map(|warning| {
        let line = format!("warning: {warning}");
        format!("{}\n", paint.paint(Colour::Notice, &printable(&line)))
    });
    lines.collect()
}

fn one(network: &NetworkStatus, now: u64, paint: Paint) -> String {
    let mut text = format!(
        "{} · {} · dialed from {}\n",
        printable(&network.name),
        network.state.word(),
        printable(&network.namespace),
    );
    for reason in &network.reasons {
        let line = format!("degraded: {reason}");
        text.push_str(&paint.paint(Colour::Bad, &printable(&line)));
        text.push('\n');
    }
    if let Some(key) = &network.public_key {
        text.push_str(&format!("public key {key}\n"));
    }
    if let Some(found) = &network.device {
        text.push_str(&device(found));
    }
    for section in [
        peers(network, now, paint),
        routes(network, paint),
        targets(network, now, paint),
    ] {
        if !section.is_empty() {
            text.push('\n');
            text.push_str(&section);
        }
    }
    text
}

fn device(device: &DeviceStatus) -> String {
    let addresses: Vec<String> = device.addresses.iter().map(ToString::to_string).collect();
    let line = format!(
        "device {} · {} · {} · UDP port {} · MTU {} · {}",
        device.name,
        device.backend.word(),
        if device.up { "up" } else { "down" },
        device.listen_port,
        device.mtu,
        match addresses.is_empty() {
            true => "no address".to_owned(),
            false => addresses.join(", "),
        },
    );
    format!("{}\n", printable(&line))
}

fn peers(network: &NetworkStatus, now: u64, paint: Paint) -> String {
    let mut table = Table::new([
        ("PEER", Side::Left),
        ("HANDSHAKE", Side::Left),
        ("RECEIVED", Side::Right),
        ("SENT", Side::Right),
        ("ENDPOINT", Side::Left),
        ("ALLOWED", Side::Left),
    ]);
    for (key, peer) in &network.peers {
        let allowed: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        table.row([
            key.to_string().into(),
            handshake(peer, now),
            bytes(peer.rx).into(),
            bytes(peer.tx).into(),
            peer.endpoint.map_or("-".into(), |at| at.to_string()).into(),
            allowed.join(", ").into(),
        ]);
    }
    table.render_rows(paint)
}

fn handshake(peer: &PeerStatus, now: u64) -> Cell {
    match peer.last_handshake {
        None => Cell::coloured("never", Colour::Faint),
        Some(at) if peer.connected => Cell::coloured(age(now, at), Colour::Good),
        Some(at) => Cell::coloured(age(now, at), Colour::Notice),
    }
}

fn routes(network: &NetworkStatus, paint: Paint) -> String {
    let mut table = Table::new([
        ("ROUTE", Side::Left),
        ("CONNS", Side::Right),
        ("OPENED", Side::Right),
        ("IN", Side::Right),
        ("OUT", Side::Right),
    ]);
    for route in &network.routes {
        table.row([
            route.route.as_str().into(),
            count(route.connections).into(),
            count(route.opened).into(),
            bytes(route.bytes_in).into(),
            bytes(route.bytes_out).into(),
        ]);
    }
    table.render_rows(paint)
}

/// Targets that failed or are down, and how.
fn targets(network: &NetworkStatus, now: u64, paint: Paint) -> String {
    let mut table = Table::new([
        ("TARGET", Side::Left),
        ("CHECKS", Side::Left),
        ("LAST ERROR", Side::Left),
        ("WHEN", Side::Left),
        ("ROUTE", Side::Left),
    ]);
    for route in &network.routes {
        for target in &route.targets {
            let checks = match target.down {
                true => Cell::coloured("down", Colour::Bad),
                false => Cell::coloured("-", Colour::Faint),
            };
            table.row([
                target.target.to_string().into(),
                checks,
                target.last_error.as_deref().unwrap_or("-").into(),
                target
                    .last_error_at
                    .map_or("-".into(), |at| age(now, at))
                    .into(),
                route.route.as_str().into(),
            ]);
        }
    }
    table.render_rows(paint)
}
