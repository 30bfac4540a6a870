//! What is shown, without a terminal.

use std::time::Instant;

use control_api::answer::Status;

use super::{
    key::{self, Action},
    rows::{NetworkRow, Pair, PeerRow, RouteRow, WorkerRow, rows_of},
};

/// Letters of a filter.
const FILTER_LETTERS_MAX: usize = 64;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// With what is shown now.
    Go,
    /// No more.
    Quit,
}

/// What stands below the networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    /// Of the selected network.
    #[default]
    Peers,
    /// Of the selected network.
    Routes,
    /// Of the gateway.
    Workers,
}

/// By what rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// Ports, keys and names, upwards; all others begin with the greatest.
    #[default]
    Name,
    /// From peers.
    Received,
    /// To peers.
    Sent,
    /// Open now.
    Connections,
    /// From clients.
    In,
    /// To clients.
    Out,
}

/// Two looks at the gateway and what the user made of them.
#[derive(Debug, Default)]
pub(super) struct Model {
    latest: Option<(Instant, Status)>,
    earlier: Option<(Instant, Status)>,
    /// The gateway's clock is taken to be this machine's.
    pub(super) now: u64,
    pub(super) failure: Option<String>,
    pub(super) pane: Pane,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) paused: bool,
    pub(super) filter: String,
    pub(super) writing_filter: bool,
    /// The selected network's port; it stays selected wherever it is sorted to.
    selected: Option<u16>,
    pub(super) scrolled: usize,
}

impl Model {
    /// Takes a look at the gateway.
    pub(super) fn look(&mut self, status: Status, at: Instant, now: u64) {
        self.failure = None;
        if self.paused {
            return;
        }
        self.now = now;
        let restarted = |(_, latest): &(Instant, Status)| latest.started != status.started;
        self.earlier = self.latest.take().filter(|latest| !restarted(latest));
        self.latest = Some((at, status));
    }

    /// The gateway could not be looked at; what was seen last stays.
    pub(super) fn fail(&mut self, why: String) {
        self.failure = Some(why);
    }

    pub(super) fn act(&mut self, action: Action) -> Flow {
        match action {
            Action::Letter(letter) if self.writing_filter => self.write(letter),
            Action::Letter(letter) => {
                return key::command(letter).map_or(Flow::Go, |action| self.act(action));
            }
            Action::Quit => return Flow::Quit,
            Action::Select(by) => self.select(by),
            Action::Scroll(by) => self.scrolled = self.scrolled.saturating_add_signed(by),
            Action::NextPane => {
                self.scrolled = 0;
                self.pane = match self.pane {
                    Pane::Peers => Pane::Routes,
                    Pane::Routes => Pane::Workers,
                    Pane::Workers => Pane::Peers,
                };
            }
            Action::NextSort => self.sort = self.sort.next(),
            Action::Reverse => self.reversed = !self.reversed,
            Action::Pause => self.paused = !self.paused,
            Action::Filter => self.writing_filter = true,
            Action::Erase if self.writing_filter => drop(self.filter.pop()),
            Action::Enter => self.writing_filter = false,
            Action::Escape => {
                self.writing_filter = false;
                self.filter.clear();
            }
            Action::Erase | Action::Redraw => {}
        }
        Flow::Go
    }

    /// What was seen last.
    pub(super) fn status(&self) -> Option<&Status> {
        self.latest.as_ref().map(|(_, status)| status)
    }

    /// The networks that pass the filter, sorted.
    pub(super) fn networks(&self) -> Vec<NetworkRow<'_>> {
        let Some(pair) = self.pair() else {
            return Vec::new();
        };
        let mut rows: Vec<_> = pair
            .networks()
            .filter(|row| self.filter.is_empty() || row.matches(&self.filter))
            .collect();
        self.arrange(&mut rows, |row| match self.sort {
            Sort::Name => 0,
            Sort::Received => row.received,
            Sort::Sent => row.sent,
            Sort::Connections => row.status.connections,
            Sort::In => row.bytes_in,
            Sort::Out => row.bytes_out,
        });
        rows
    }

    /// The position of the selected network among `rows`; the first when it is not there.
    pub(super) fn position(&self, rows: &[NetworkRow<'_>]) -> usize {
        rows.iter()
            .position(|row| Some(row.port) == self.selected)
            .unwrap_or(0)
    }

    /// The peers of a network, sorted.
    pub(super) fn peers(&self, network: &NetworkRow<'_>) -> Vec<PeerRow<'_>> {
        let mut rows = rows_of(self.pair(), |pair| pair.peers(network.port));
        self.arrange(&mut rows, |row| match self.sort {
            Sort::Name | Sort::Connections => 0,
            Sort::Received | Sort::Out => row.received,
            Sort::Sent | Sort::In => row.sent,
        });
        rows
    }

    /// The routes of a network, sorted.
    pub(super) fn routes(&self, network: &NetworkRow<'_>) -> Vec<RouteRow<'_>> {
        let mut rows = rows_of(self.pair(), |pair| pair.routes(network.port));
        self.arrange(&mut rows, |row| match self.sort {
            Sort::Name => 0,
            Sort::Connections => row.status.connections,
            Sort::In | Sort::Sent => row.bytes_in,
            Sort::Out | Sort::Received => row.bytes_out,
        });
        rows
    }

    /// The workers, in the order of their numbers.
    pub(super) fn workers(&self) -> Vec<WorkerRow<'_>> {
        rows_of(self.pair(), |pair| pair.workers())
    }

    fn pair(&self) -> Option<Pair<'_>> {
        let (at, status) = self.latest.as_ref()?;
        Some(Pair::new(status, *at, self.earlier.as_ref()))
    }

    /// Rows come by name. The sort is stable, so that rows that are alike do not jump.
    fn arrange<T>(&self, rows: &mut [T], amount: impl Fn(&T) -> u64) {
        rows.sort_by_key(|row| std::cmp::Reverse(amount(row)));
        if self.reversed {
            rows.reverse();
        }
    }

    fn select(&mut self, by: isize) {
        let rows = self.networks();
        let last = rows.len().saturating_sub(1);
        let position = self.position(&rows).saturating_add_signed(by).min(last);
        self.selected = rows.get(position).map(|row| row.port);
        self.scrolled = 0;
    }

    fn write(&mut self, letter: char) {
        if self.filter.chars().count() < FILTER_LETTERS_MAX && !letter.is_control() {
            self.filter.push(letter);
        }
    }
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::Received,
            Self::Received => Self::Sent,
            Self::Sent => Self::Connections,
            Self::Connections => Self::In,
            Self::In => Self::Out,
            Self::Out => Self::Name,
        }
    }
}
