//! The live view: what is drawn of a model, and what keys do to it.

use std::time::{Duration, Instant};

use control_api::answer::Status;
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers},
};

use super::{
    key::{self, Action},
    model::{Flow, Model},
    view,
};
use crate::show::tests::gateway;

/// The same gateway a second later, after some traffic.
fn later() -> Status {
    let mut status = gateway();
    let network = status.networks.get_mut(&51820).unwrap();
    network.bytes_in += 2048;
    network.bytes_out += 1024 * 1024;
    network.routes[0].bytes_out += 1024 * 1024;
    network.routes[0].opened += 7;
    for peer in network.peers.values_mut() {
        peer.tx += 512;
    }
    status.workers[0].bytes_out += 1024 * 1024;
    status.workers[0].accepted += 7;
    status
}

fn model() -> Model {
    let mut model = Model::default();
    let begin = Instant::now();
    model.look(gateway(), begin, 999_999);
    model.look(later(), begin + Duration::from_secs(1), 1_000_000);
    model
}

fn press(model: &mut Model, keys: &[KeyCode]) -> Flow {
    let mut flow = Flow::Go;
    for key in keys {
        let event = Event::Key(KeyEvent::new(*key, KeyModifiers::NONE));
        flow = model.act(key::action(&event).unwrap());
    }
    flow
}

fn draw(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let cells = buffer.content().chunks(usize::from(width));
    cells
        .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>())
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[test]
fn everything_has_its_place_on_80_by_24() {
    let expected = "\
ringway 0.1.0 · up 1 d 1 h · generation 12, running 11 · WireGuard: kernel
2 networks · 3 connections, 7/s new · in 0 B/s · out 1.0 MiB/s · 1 degraded
┌ Networks (2) ────────────────────────────────────────────────────────────────┐
│NETWORK▾ STATE       PEERS   RECEIVED       SENT   CONNS         IN        OUT│
│   51820 ok            1/2      0 B/s  1.0 KiB/s       3  2.0 KiB/s  1.0 MiB/s│
│   51822 degraded        -          -          -       0      0 B/s      0 B/s│";
    let lines = draw(&model(), 80, 24);
    assert_eq!(lines[..6].join("\n"), expected);
    assert_eq!(
        lines[12],
        "└──────────────────────────────────────────────────────────────────────────────┘"
    );
    assert_eq!(
        lines[13],
        "┌ Peers Routes of network-51820 · Workers ─────────────────────────────────────┐"
    );
    assert!(
        lines[15].starts_with("│2juzbPd8m9D… never"),
        "{}",
        lines[15]
    );
    assert!(
        lines[16].contains("12 s ago") && lines[16].contains("512 B/s"),
        "{}",
        lines[16]
    );
    assert!(lines[23].ends_with("q quit"), "{}", lines[23]);
}

#[test]
fn no_size_is_too_small_to_draw() {
    for (width, height) in [(1, 1), (10, 3), (40, 5), (80, 7), (300, 100)] {
        draw(&model(), width, height);
        draw(&Model::default(), width, height);
    }
}

#[test]
fn tab_shows_routes_and_workers() {
    let mut model = model();
    press(&mut model, &[KeyCode::Tab]);
    let routes = draw(&model, 80, 24);
    assert!(routes[15].contains("shop.example.com"), "{}", routes[15]);
    assert!(routes[15].contains("1.0 MiB/s"), "{}", routes[15]);
    press(&mut model, &[KeyCode::Tab]);
    let workers = draw(&model, 80, 24);
    assert!(workers[14].contains("GENERATION"), "{}", workers[14]);
    assert!(workers[15].contains("1.0 MiB/s"), "{}", workers[15]);
}

#[test]
fn a_selected_network_stays_selected_wherever_it_is_sorted_to() {
    let mut model = model();
    let selected = |model: &Model| {
        let rows = model.networks();
        rows[model.position(&rows)].port
    };
    assert_eq!(selected(&model), 51820);
    press(&mut model, &[KeyCode::Down]);
    assert_eq!(selected(&model), 51822);
    press(&mut model, &[KeyCode::Down, KeyCode::End]);
    assert_eq!(selected(&model), 51822, "there is none below");
    press(&mut model, &[KeyCode::Char('r')]);
    assert_eq!(model.networks()[0].port, 51822);
    assert_eq!(selected(&model), 51822);
    press(&mut model, &[KeyCode::Home]);
    assert_eq!(selected(&model), 51822);
}

#[test]
fn the_busiest_network_comes_first_when_sorted_by_traffic() {
    let mut model = model();
    let begin = Instant::now();
    let mut busy = later();
    model.look(busy.clone(), begin, 0);
    busy.networks.get_mut(&51822).unwrap().bytes_out += 1;
    model.look(busy, begin + Duration::from_secs(1), 0);
    let first = |model: &Model| model.networks()[0].port;
    assert_eq!(first(&model), 51820);
    press(&mut model, &[KeyCode::Char('s'); 5]);
    assert_eq!(first(&model), 51822);
    press(&mut model, &[KeyCode::Char('s')]);
    assert_eq!(first(&model), 51820, "by name again");
}

#[test]
fn a_filter_is_written_kept_and_cleared() {
    let mut model = model();
    let ports =
        |model: &Model| -> Vec<u16> { model.networks().iter().map(|row| row.port).collect() };
    press(
        &mut model,
        &"/qhosts".chars().map(KeyCode::Char).collect::<Vec<_>>(),
    );
    assert!(ports(&model).is_empty(), "q is a letter of the filter");
    assert!(draw(&model, 80, 24)[23].starts_with("/qhosts"));
    press(&mut model, &[KeyCode::Backspace; 6]);
    press(
        &mut model,
        &"shop.".chars().map(KeyCode::Char).collect::<Vec<_>>(),
    );
    press(&mut model, &[KeyCode::Enter]);
    assert_eq!(ports(&model), [51820], "by a route's name");
    press(&mut model, &[KeyCode::Esc]);
    assert_eq!(ports(&model), [51820, 51822]);
}

#[test]
fn a_gateway_that_began_again_has_no_rates_yet() {
    let mut model = model();
    let mut again = gateway();
    again.started += 1;
    model.look(again, Instant::now() + Duration::from_secs(2), 0);
    assert_eq!(model.networks()[0].bytes_out, 0);
}

#[test]
fn a_counter_that_went_back_is_no_traffic() {
    let mut model = Model::default();
    let begin = Instant::now();
    model.look(later(), begin, 0);
    model.look(gateway(), begin + Duration::from_secs(1), 0);
    assert_eq!(model.networks()[0].bytes_out, 0);
}

#[test]
fn what_was_seen_last_stays_when_the_gateway_is_gone() {
    let mut model = model();
    model.fail("no connection".into());
    let lines = draw(&model, 80, 24);
    assert_eq!(lines[23], "no connection");
    assert!(lines[4].contains("51820"));
    model.look(later(), Instant::now(), 0);
    assert!(draw(&model, 80, 24)[23].contains("quit"));
}

#[test]
fn nothing_moves_while_it_is_paused() {
    let mut model = model();
    press(&mut model, &[KeyCode::Char('p')]);
    model.look(Status::default(), Instant::now(), 0);
    let lines = draw(&model, 80, 24);
    assert!(lines[2].contains("PAUSED"), "{}", lines[2]);
    assert!(lines[4].contains("51820"));
}

#[test]
fn q_and_control_c_end_it() {
    let mut model = model();
    assert_eq!(press(&mut model, &[KeyCode::Char('x')]), Flow::Go);
    assert_eq!(press(&mut model, &[KeyCode::Char('q')]), Flow::Quit);
    let control_c = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert_eq!(key::action(&control_c), Some(Action::Quit));
}
