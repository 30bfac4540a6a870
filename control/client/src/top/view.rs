//! The picture of a model: a pure function, usable from 80 by 24 cells on.

use ratatui::{
    Frame,
    layout::{Alignment, Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Cell, Paragraph, Row, Table},
};

use control_api::answer::{NetworkState, Status};

use super::{
    model::{Model, Pane, Sort},
    rows::{NetworkRow, PeerRow, RouteRow, WorkerRow},
};
use crate::show::{age, bytes, count, printable, rate, span};

const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);
const HEADING: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let [head, above, below, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let networks = model.networks();
    let position = model.position(&networks);
    if let Some(status) = model.status() {
        frame.render_widget(headline(status, model), head);
    }
    frame.render_widget(network_table(model, &networks, position, above), above);
    let selected = networks.get(position);
    let pane = match (model.pane, selected) {
        (Pane::Peers, Some(network)) => peer_table(model, network, below),
        (Pane::Routes, Some(network)) => route_table(model, network, below),
        (Pane::Workers, _) => worker_table(model, below),
        (Pane::Peers | Pane::Routes, None) => Table::default(),
    };
    frame.render_widget(
        pane.block(Block::bordered().title(pane_title(model.pane, selected))),
        below,
    );
    frame.render_widget(footer(model), foot);
}

fn headline(status: &Status, model: &Model) -> Paragraph<'static> {
    let generation = match status.generation.desired == status.generation.running {
        true => format!("generation {}", status.generation.desired),
        false => format!(
            "generation {}, running {}",
            status.generation.desired, status.generation.running
        ),
    };
    let backend = status
        .wireguard
        .backend
        .map_or("none", |backend| backend.word());
    let first = vec![
        Span::styled(format!("ringway {}", printable(&status.version)), HEADING),
        Span::raw(format!(
            " · up {} · {generation} · WireGuard: {backend}",
            span(status.uptime_seconds)
        )),
    ];
    let workers = model.workers();
    let sum = |amount: fn(&WorkerRow<'_>) -> u64| {
        workers.iter().map(amount).fold(0_u64, u64::saturating_add)
    };
    let mut second = vec![Span::raw(format!(
        "{} networks · {} connections, {}/s new · in {} · out {}",
        status.networks.len(),
        count(sum(|worker| worker.status.connections)),
        count(sum(|worker| worker.accepted)),
        rate(sum(|worker| worker.bytes_in)),
        rate(sum(|worker| worker.bytes_out)),
    ))];
    if !status.degraded.is_empty() {
        let text = format!(" · {} degraded", status.degraded.len());
        second.push(Span::styled(text, Style::new().fg(Color::Red)));
    }
    Paragraph::new(vec![Line::from(first), Line::from(second)])
}

/// A column's name, marked when rows are sorted by it.
fn column(name: &str, sort: Sort, model: &Model) -> Cell<'static> {
    let mark = match (model.sort == sort, model.reversed) {
        (false, _) => "",
        (true, false) => "▾",
        (true, true) => "▴",
    };
    right(format!("{name}{mark}"))
}

fn right(text: impl Into<String>) -> Cell<'static> {
    Cell::new(Line::from(text.into()).alignment(Alignment::Right))
}

/// The rows that a table of this height shows: whole pages, so that lines stay where they are while
/// the selection moves.
fn page<T>(rows: &[T], position: usize, area: Rect) -> &[T] {
    let height = rows_in(area).max(1);
    let start = position / height * height;
    let end = (start + height).min(rows.len());
    rows.get(start..end).unwrap_or_default()
}

/// Two borders and a heading.
fn rows_in(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(3))
}

/// The rows from the line on that was scrolled to, as far as there are any.
fn scrolled<'a, T>(model: &Model, rows: &'a [T], area: Rect) -> &'a [T] {
    let last = rows.len().saturating_sub(rows_in(area));
    rows.get(model.scrolled.min(last)..).unwrap_or_default()
}

fn network_table(
    model: &Model,
    networks: &[NetworkRow<'_>],
    position: usize,
    area: Rect,
) -> Table<'static> {
    let selected = networks.get(position).map(|row| row.port);
    let rows = page(networks, position, area).iter().map(|row| {
        let style = match Some(row.port) == selected {
            true => SELECTED,
            false => Style::new(),
        };
        network_row(row).style(style)
    });
    let widths = [8, 8, 8, 10, 10, 7, 10, 10].map(Constraint::Length);
    let heading = Row::new([
        column("NETWORK", Sort::Name, model),
        Cell::new("STATE"),
        right("PEERS"),
        column("RECEIVED", Sort::Received, model),
        column("SENT", Sort::Sent, model),
        column("CONNS", Sort::Connections, model),
        column("IN", Sort::In, model),
        column("OUT", Sort::Out, model),
    ]);
    let mut title = format!(" Networks ({}) ", networks.len());
    if !model.filter.is_empty() {
        title.push_str(&format!("with \"{}\" ", model.filter));
    }
    if model.paused {
        title.push_str("· PAUSED ");
    }
    Table::new(rows, widths)
        .header(heading.style(HEADING))
        .block(Block::bordered().title(title))
}

fn network_row(row: &NetworkRow<'_>) -> Row<'static> {
    let network = row.status;
    let colour = match network.state {
        NetworkState::Ok => Color::Green,
        NetworkState::Pending => Color::Yellow,
        NetworkState::Degraded => Color::Red,
    };
    let of_device = |text: String| match network.device {
        Some(_) => right(text),
        None => right("-"),
    };
    Row::new([
        right(row.port.to_string()),
        Cell::new(network.state.word()).style(Style::new().fg(colour)),
        of_device(format!("{}/{}", row.peers_connected, network.peers.len())),
        of_device(rate(row.received)),
        of_device(rate(row.sent)),
        right(count(network.connections)),
        right(rate(row.bytes_in)),
        right(rate(row.bytes_out)),
    ])
}

fn pane_title(pane: Pane, network: Option<&NetworkRow<'_>>) -> Line<'static> {
    let name = network.map(|row| printable(&row.status.name).into_owned());
    let tab = |text: &'static str, of: Pane| match of == pane {
        true => Span::styled(text, HEADING),
        false => Span::styled(text, FAINT),
    };
    Line::from(vec![
        Span::raw(" "),
        tab("Peers", Pane::Peers),
        Span::raw(" "),
        tab("Routes", Pane::Routes),
        Span::raw(format!(
            " of {} · ",
            name.as_deref().unwrap_or("no network")
        )),
        tab("Workers", Pane::Workers),
        Span::raw(" "),
    ])
}

fn peer_table(model: &Model, network: &NetworkRow<'_>, area: Rect) -> Table<'static> {
    let peers = model.peers(network);
    let rows = scrolled(model, &peers, area).iter().take(rows_in(area));
    let rows = rows.map(|row| peer_row(row, model.now));
    let widths = [12, 17, 10, 10, 21].map(Constraint::Length);
    let heading = Row::new([
        Cell::new("PEER"),
        Cell::new("HANDSHAKE"),
        right("RECEIVED"),
        right("SENT"),
        Cell::new("ENDPOINT"),
    ]);
    Table::new(rows, widths).header(heading.style(HEADING))
}

fn peer_row(row: &PeerRow<'_>, now: u64) -> Row<'static> {
    let colour = match row.status.connected {
        true => Style::new().fg(Color::Green),
        false => FAINT,
    };
    let handshake = row.status.last_handshake.map(|at| age(now, at));
    let endpoint = row.status.endpoint.map(|at| at.to_string());
    // Eleven letters tell 10,000 peers apart; `ringway status NETWORK` shows whole keys.
    let key: String = row.key.to_string().chars().take(11).chain(['…']).collect();
    Row::new([
        Cell::new(key),
        Cell::new(handshake.unwrap_or_else(|| "never".into())).style(colour),
        right(rate(row.received)),
        right(rate(row.sent)),
        Cell::new(endpoint.unwrap_or_else(|| "-".into())),
    ])
}

fn route_table(model: &Model, network: &NetworkRow<'_>, area: Rect) -> Table<'static> {
    let routes = model.routes(network);
    let rows = scrolled(model, &routes, area).iter().take(rows_in(area));
    let rows = rows.map(route_row);
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Length(9),
    ];
    let heading = Row::new([
        Cell::new("ROUTE"),
        right("CONNS"),
        right("NEW/s"),
        right("IN"),
        right("OUT"),
        right("TOTAL"),
    ]);
    Table::new(rows, widths).header(heading.style(HEADING))
}

fn route_row(row: &RouteRow<'_>) -> Row<'static> {
    let total = row.status.bytes_in.saturating_add(row.status.bytes_out);
    Row::new([
        Cell::new(printable(&row.status.route).into_owned()),
        right(count(row.status.connections)),
        right(count(row.opened)),
        right(rate(row.bytes_in)),
        right(rate(row.bytes_out)),
        right(bytes(total)),
    ])
}

fn worker_table(model: &Model, area: Rect) -> Table<'static> {
    let workers = model.workers();
    let rows = scrolled(model, &workers, area).iter().take(rows_in(area));
    let rows = rows.map(worker_row);
    let widths = [6, 10, 9, 9, 12, 12].map(Constraint::Length);
    let heading = Row::new(["WORKER", "GENERATION", "CONNS", "NEW/s", "IN", "OUT"].map(right));
    Table::new(rows, widths).header(heading.style(HEADING))
}

fn worker_row(row: &WorkerRow<'_>) -> Row<'static> {
    Row::new([
        right(row.status.worker.to_string()),
        right(row.status.generation.to_string()),
        right(count(row.status.connections)),
        right(count(row.accepted)),
        right(rate(row.bytes_in)),
        right(rate(row.bytes_out)),
    ])
}

fn footer(model: &Model) -> Paragraph<'static> {
    if model.writing_filter {
        return Paragraph::new(format!("/{}▏ Enter keeps it, Esc clears it", model.filter));
    }
    if let Some(failure) = &model.failure {
        let style = Style::new().fg(Color::Red);
        return Paragraph::new(printable(failure).into_owned()).style(style);
    }
    let keys = "↑↓ network  Tab pane  PgUp PgDn scroll  s sort  r turn  / find  p pause  q quit";
    Paragraph::new(keys).style(FAINT)
}
