//! What each client moved through each target of a route: the bytes of the route's counters, told
//! apart by who sent and who took them.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
};

use ahash::RandomState;

use crate::context::account::{RouteName, RouteTally};

/// What one client moved through one target since it was last reported.
#[derive(Clone, Debug)]
pub(crate) struct ClientReport {
    pub(crate) route: Arc<RouteName>,
    pub(crate) target: IpAddr,
    /// Absent for all those beyond the bound.
    pub(crate) client: Option<IpAddr>,
    pub(crate) connections: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// The counters that the connections of one client to one target share.
#[derive(Debug)]
pub(crate) struct ClientTally {
    route: Arc<RouteName>,
    target: IpAddr,
    client: Option<IpAddr>,
    connections: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    is_dirty: Cell<bool>,
}

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// From the client.
    In(u64),
    /// To the client.
    Out(u64),
}

type Key = (*const RouteName, IpAddr, Option<IpAddr>);

/// The clients of one worker that have connections, or had some since the last report.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    max: usize,
    by_key: RefCell<HashMap<Key, Rc<ClientTally>, RandomState>>,
    dirty: RefCell<Vec<Rc<ClientTally>>>,
}

impl Clients {
    /// At most `max` are told apart at once.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// The counters of a client that got a connection to a target.
    pub(crate) fn open(
        &self,
        route: &RouteTally,
        target: IpAddr,
        client: IpAddr,
    ) -> Rc<ClientTally> {
        let mut by_key = self.by_key.borrow_mut();
        // Each entry holds its route's name, so the pointer is that name's as long as it is a key.
        let name = Arc::as_ptr(&route.name);
        let apart = (name, target, Some(client));
        let client = (by_key.len() < self.max || by_key.contains_key(&apart)).then_some(client);
        let tally = by_key.entry((name, target, client)).or_insert_with(|| {
            Rc::new(ClientTally {
                route: Arc::clone(&route.name),
                target,
                client,
                connections: Cell::new(0),
                bytes_in: Cell::new(0),
                bytes_out: Cell::new(0),
                is_dirty: Cell::new(false),
            })
        });
        tally.connections.set(tally.connections.get() + 1);
        let tally = Rc::clone(tally);
        drop(by_key);
        self.touch(&tally);
        tally
    }

    pub(crate) fn count(&self, client: &Rc<ClientTally>, moved: Moved) {
        let (cell, bytes) = match moved {
            Moved::In(bytes) => (&client.bytes_in, bytes),
            Moved::Out(bytes) => (&client.bytes_out, bytes),
        };
        cell.set(cell.get() + bytes);
        self.touch(client);
    }

    /// Has it looked at by the next report: to be told, or to be forgotten.
    pub(crate) fn touch(&self, client: &Rc<ClientTally>) {
        if !client.is_dirty.replace(true) {
            self.dirty.borrow_mut().push(Rc::clone(client));
        }
    }

    /// Everything since the last report. Who has no connection any more is forgotten.
    pub(crate) fn report(&self) -> Vec<ClientReport> {
        let mut by_key = self.by_key.borrow_mut();
        let mut reports = Vec::new();
        for client in self.dirty.take() {
            client.is_dirty.set(false);
            let report = client.take();
            if report.connections + report.bytes_in + report.bytes_out > 0 {
                reports.push(report);
            }
            // The map's and this one: no connection holds it.
            if Rc::strong_count(&client) == 2 {
                by_key.remove(&(Arc::as_ptr(&client.route), client.target, client.client));
            }
        }
        reports
    }
}

impl ClientTally {
    fn take(&self) -> ClientReport {
        ClientReport {
            route: Arc::clone(&self.route),
            target: self.target,
            client: self.client,
            connections: self.connections.take(),
            bytes_in: self.bytes_in.take(),
            bytes_out: self.bytes_out.take(),
        }
    }
}

#[cfg(test)]
mod tests {
    use engine_core::ids::{NetworkId, RouteId};

    use super::*;

    fn route() -> RouteTally {
        RouteTally {
            name: Arc::new(RouteName {
                id: RouteId(1),
                label: "a.example".into(),
                network: NetworkId(7),
                network_name: "network-7".into(),
            }),
            counted: RefCell::default(),
            is_dirty: Cell::new(false),
            turn: Cell::new(0),
            outliers: crate::context::outliers::OutlierDetection::default(),
        }
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn clients_and_targets_are_told_apart_and_nothing_is_told_twice() {
        let (clients, route) = (Clients::new(8), route());
        let first = clients.open(&route, address(2), address(101));
        let second = clients.open(&route, address(2), address(102));
        let elsewhere = clients.open(&route, address(3), address(101));
        clients.count(&first, Moved::In(5));
        clients.count(&first, Moved::Out(50));
        clients.count(&second, Moved::In(7));
        clients.count(&elsewhere, Moved::In(9));
        let mut reports = clients.report();
        reports.sort_by_key(|report| (report.target, report.client));
        let told: Vec<_> = reports
            .iter()
            .map(|r| (r.target, r.client, r.connections, r.bytes_in, r.bytes_out))
            .collect();
        assert_eq!(
            told,
            [
                (address(2), Some(address(101)), 1, 5, 50),
                (address(2), Some(address(102)), 1, 7, 0),
                (address(3), Some(address(101)), 1, 9, 0),
            ]
        );
        assert!(clients.report().is_empty());
    }

    #[test]
    fn beyond_the_bound_clients_are_counted_together() {
        let (clients, route) = (Clients::new(2), route());
        let held: Vec<_> = (1..=4)
            .map(|last| clients.open(&route, address(2), address(last)))
            .collect();
        held.iter()
            .for_each(|client| clients.count(client, Moved::In(1)));
        let reports = clients.report();
        let together: u64 = reports
            .iter()
            .filter(|report| report.client.is_none())
            .map(|report| report.bytes_in)
            .sum();
        assert_eq!((reports.len(), together), (3, 2));
    }

    #[test]
    fn a_client_without_connections_is_told_a_last_time_and_forgotten() {
        let (clients, route) = (Clients::new(8), route());
        let client = clients.open(&route, address(2), address(1));
        clients.report();
        assert_eq!(clients.by_key.borrow().len(), 1);
        clients.count(&client, Moved::Out(3));
        clients.touch(&client);
        drop(client);
        assert_eq!(clients.report()[0].bytes_out, 3);
        assert!(clients.by_key.borrow().is_empty());
    }
}
