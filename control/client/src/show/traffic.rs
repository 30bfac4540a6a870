//! Accounts.

use std::collections::BTreeMap;

use control_api::answer::{Relayed, RoutesTraffic, Traffic, TrafficInfo};

use super::{Cell, Colour, Paint, Side, Table, bytes, clock, count};

/// What the peers received and sent; a line for each time when `times` is wanted.
pub(crate) fn traffic(answer: &TrafficInfo, times: bool, paint: Paint) -> String {
    if answer.networks.is_empty() {
        return nothing(answer.start_time);
    }
    let mut table = Table::new([
        ("NETWORK", Side::Left),
        ("PEER", Side::Left),
        ("TIME", Side::Left),
        ("RECEIVED", Side::Right),
        ("SENT", Side::Right),
    ]);
    let mut row = |network: &str, peer: Cell, time: String, sum: Traffic| {
        table.row([
            network.into(),
            peer,
            time.into(),
            bytes(sum.rx).into(),
            bytes(sum.tx).into(),
        ]);
    };
    for (name, network) in &answer.networks {
        row(name, all("all peers"), String::new(), network.traffic);
        for (key, peer) in &network.devices {
            row("", key.as_str().into(), last(&peer.times), peer.traffic);
            for (time, part) in peer.times.iter().filter(|_| times) {
                row("", Cell::default(), clock(*time), *part);
            }
        }
    }
    row("total", Cell::default(), String::new(), answer.traffic);
    format!(
        "{}{}",
        asked(answer.start_time, answer.stop_time),
        table.render(paint)
    )
}

/// What was relayed; a line for each time when `times` is wanted.
pub(crate) fn routes_traffic(answer: &RoutesTraffic, times: bool, paint: Paint) -> String {
    if answer.networks.is_empty() {
        return nothing(answer.start_time);
    }
    let mut table = Table::new([
        ("NETWORK", Side::Left),
        ("ROUTE", Side::Left),
        ("CLIENT", Side::Left),
        ("TIME", Side::Left),
        ("CONNS", Side::Right),
        ("IN", Side::Right),
        ("OUT", Side::Right),
    ]);
    let mut row = |place: [Cell; 3], time: String, sum: Relayed| {
        let [network, route, client] = place;
        table.row([
            network,
            route,
            client,
            time.into(),
            count(sum.connections).into(),
            bytes(sum.bytes_in).into(),
            bytes(sum.bytes_out).into(),
        ]);
    };
    let none = Cell::default;
    for (name, network) in &answer.networks {
        let place = [name.as_str().into(), all("all routes"), none()];
        row(place, String::new(), network.traffic);
        for (label, route) in &network.routes {
            let place = [none(), label.as_str().into(), all("all clients")];
            row(place, String::new(), route.traffic);
            for (address, client) in &route.clients {
                let place = [none(), none(), address.as_str().into()];
                row(place, last(&client.times), client.traffic);
                for (time, part) in client.times.iter().filter(|_| times) {
                    row([none(), none(), none()], clock(*time), *part);
                }
            }
        }
    }
    row(
        ["total".into(), none(), none()],
        String::new(),
        answer.traffic,
    );
    format!(
        "{}{}",
        asked(answer.start_time, answer.stop_time),
        table.render(paint)
    )
}

fn all(what: &str) -> Cell {
    Cell::coloured(what, Colour::Faint)
}

/// The newest time of a series.
fn last<T>(times: &BTreeMap<u64, T>) -> String {
    times
        .last_key_value()
        .map(|(at, _)| clock(*at))
        .unwrap_or_default()
}

fn nothing(start: u64) -> String {
    match start {
        0 => "no traffic yet\n".into(),
        start => format!("no traffic after {}\n", clock(start)),
    }
}

/// The span of time, and how to go on from its end.
fn asked(start: u64, stop: u64) -> String {
    let from = match start {
        0 => "the beginning".to_owned(),
        start => clock(start),
    };
    format!(
        "after {from} until {} (--since {stop} goes on from there)\n",
        clock(stop)
    )
}
