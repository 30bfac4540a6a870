//! What keys mean.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Another network: so many further, or back.
    Select(isize),
    /// Scroll what is below the networks: so many lines further, or back.
    Scroll(isize),
    /// Show peers, routes or workers next.
    NextPane,
    /// Sort by the next column.
    NextSort,
    /// Sort the other way round.
    Reverse,
    /// Stop and go on.
    Pause,
    /// Begin to write a filter.
    Filter,
    /// A letter of the filter.
    Letter(char),
    /// The filter's last letter was wrong.
    Erase,
    /// The filter is written.
    Enter,
    /// Leave the filter.
    Escape,
    /// End.
    Quit,
    /// The terminal has another size.
    Redraw,
}

/// How long the thread waits for a key before it looks whether anybody still wants one.
const PATIENCE: Duration = Duration::from_millis(250);

/// Reads keys in a thread of their own; it ends with the receiver, or when the terminal does.
pub(super) fn read(waiting_max: usize) -> mpsc::Receiver<Action> {
    let (sender, actions) = mpsc::channel(waiting_max);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let read = event::poll(PATIENCE).and_then(|ready| match ready {
                true => event::read().map(Some),
                false => Ok(None),
            });
            let sent = match read {
                Ok(None) => Ok(()),
                Ok(Some(event)) => match action(&event) {
                    Some(action) => sender.blocking_send(action),
                    None => Ok(()),
                },
                Err(_) => return,
            };
            if sent.is_err() {
                return;
            }
        }
    });
    actions
}

/// What an event means. Letters mean what they say only while no filter is being written: the model
/// knows, so they are passed on as they are.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else a terminal sends means nothing here"
)]
pub(super) fn action(event: &Event) -> Option<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(*key),
        Event::Resize(..) => Some(Action::Redraw),
        _ => None,
    }
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "all other keys mean nothing here"
)]
fn of_key(key: KeyEvent) -> Option<Action> {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if control => Some(Action::Quit),
        KeyCode::Char(_) if control => None,
        KeyCode::Char(letter) => Some(Action::Letter(letter)),
        KeyCode::Up => Some(Action::Select(-1)),
        KeyCode::Down => Some(Action::Select(1)),
        KeyCode::Home => Some(Action::Select(isize::MIN)),
        KeyCode::End => Some(Action::Select(isize::MAX)),
        KeyCode::PageUp => Some(Action::Scroll(-5)),
        KeyCode::PageDown => Some(Action::Scroll(5)),
        KeyCode::Tab => Some(Action::NextPane),
        KeyCode::Backspace => Some(Action::Erase),
        KeyCode::Enter => Some(Action::Enter),
        KeyCode::Esc => Some(Action::Escape),
        _ => None,
    }
}

/// What a letter means while no filter is being written.
pub(super) fn command(letter: char) -> Option<Action> {
    Some(match letter {
        'q' => Action::Quit,
        'j' => Action::Select(1),
        'k' => Action::Select(-1),
        's' => Action::NextSort,
        'r' => Action::Reverse,
        'p' | ' ' => Action::Pause,
        '/' => Action::Filter,
        _ => return None,
    })
}
