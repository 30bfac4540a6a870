//! `top`: a live view of the gateway.
//!
//! ```text
//!   look task ── Status each second ─►┐
//!   key thread ── Action ────────────►├─► Model (pure) ─► view::draw (pure) ─► terminal
//!   signals ─────────────────────────►┘
//! ```

mod key;
mod model;
mod rows;
mod screen;
mod view;

use std::time::{Duration, Instant};

use control_api::answer::Status;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::MissedTickBehavior,
};

use self::{
    model::{Flow, Model},
    screen::Screen,
};
use crate::{
    api::{Api, ApiError, Call},
    console::now,
    error::{VerbError, chain},
    exit::Exit,
    verb::TopArgs,
    verbs,
};

/// Looks and keys that may wait to be drawn.
const WAITING_MAX: usize = 16;

/// One look at the gateway.
type Look = (Instant, Result<Status, ApiError>);

/// Shows the gateway until the user or a signal ends it.
///
/// # Errors
/// When the first look fails, or there is no terminal. Later looks that fail are shown.
pub(crate) async fn run(args: &TopArgs) -> Result<Exit, VerbError> {
    let api = verbs::reach(&args.reach)?;
    let mut model = Model::default();
    model.look(look(&api).await?, Instant::now(), now());
    let mut ends = Ends::catch().map_err(VerbError::Terminal)?;
    let mut screen = Screen::open().map_err(VerbError::Terminal)?;
    let mut actions = key::read(WAITING_MAX);
    let interval = Duration::from_secs(args.interval.into());
    let mut looks = look_each(api, interval);
    loop {
        screen.draw(&model).map_err(VerbError::Terminal)?;
        tokio::select! {
            () = ends.wait() => return Ok(Exit::Done),
            Some((at, looked)) = looks.recv() => match looked {
                Ok(status) => model.look(status, at, now()),
                Err(error) => model.fail(chain(&error)),
            },
            action = actions.recv() => match action.map(|action| model.act(action)) {
                Some(Flow::Go) => {}
                // Without keys it could not be ended.
                Some(Flow::Quit) | None => return Ok(Exit::Done),
            },
        }
    }
}

async fn look(api: &Api) -> Result<Status, ApiError> {
    api.call(Call::get("/api/v1/status")).await?.read()
}

/// Looks again and again, in a task of its own: a slow answer does not keep keys waiting.
fn look_each(api: Api, interval: Duration) -> mpsc::Receiver<Look> {
    let (sender, looks) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once; one look has been shown already.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let looked = look(&api).await;
            if sender.send((Instant::now(), looked)).await.is_err() {
                return;
            }
        }
    });
    looks
}

/// The signals that end it, with the terminal as it was.
struct Ends([Signal; 3]);

impl Ends {
    fn catch() -> std::io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        ]))
    }

    async fn wait(&mut self) {
        let [terminate, hangup, interrupt] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
