//! `events`: follows the stream, over broken connections too.

use std::{ops::ControlFlow, time::Duration};

use control_api::answer::Event;
use futures::StreamExt as _;
use hyper::{
    body::Incoming,
    header::{self, HeaderName},
};

use super::reach;
use crate::{
    api::{Api, ApiError, Call},
    console::{Console, note},
    error::VerbError,
    exit::Exit,
    show, sse,
    verb::EventsArgs,
};

/// Between two attempts; doubled up to the second after each that fails.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What was followed so far.
struct Follower<'a> {
    console: &'a Console,
    /// The last event that was shown, or where to begin.
    after: Option<String>,
    /// How many are still wanted; `None` for all.
    wanted: Option<u64>,
}

/// Shows events until interrupted, or until as many were shown as are wanted.
pub(crate) async fn events(args: &EventsArgs, console: &Console) -> Result<Exit, VerbError> {
    let api = reach(&args.reach)?;
    let mut follower = Follower {
        console,
        after: args.since_id.map(|id| id.to_string()),
        wanted: args.count,
    };
    // Who cannot be reached at first may have been named wrongly.
    let mut stream = open(&api, &follower).await?;
    loop {
        match follower.follow(stream).await? {
            ControlFlow::Break(()) => return Ok(Exit::Done),
            ControlFlow::Continue(why) => note(&format!("{why}; connecting again")),
        }
        stream = open_again(&api, &follower).await?;
    }
}

async fn open(api: &Api, follower: &Follower<'_>) -> Result<Incoming, ApiError> {
    let mut call = Call::get("/api/v1/events").header(header::ACCEPT, "text/event-stream");
    if let Some(id) = &follower.after {
        call = call.header(LAST_EVENT_ID, id);
    }
    api.open(call).await
}

/// Tries until the gateway is back. What it refuses is not tried again.
async fn open_again(api: &Api, follower: &Follower<'_>) -> Result<Incoming, ApiError> {
    let [mut pause, longest] = RETRY;
    loop {
        tokio::time::sleep(pause).await;
        match open(api, follower).await {
            Err(error) if error.exit() == Exit::Unreachable => {
                pause = (pause * 2).min(longest);
            }
            opened_or_refused => return opened_or_refused,
        }
    }
}

impl Follower<'_> {
    /// Shows what one connection brings. Breaks when enough was shown; else says why it ended.
    async fn follow(&mut self, stream: Incoming) -> Result<ControlFlow<(), String>, VerbError> {
        let mut messages = sse::messages(stream);
        loop {
            if self.wanted == Some(0) {
                return Ok(ControlFlow::Break(()));
            }
            match messages.next().await {
                None => return ended("the stream ended"),
                Some(Err(lost)) => return ended(&lost.to_string()),
                Some(Ok(message)) => self.show(message)?,
            }
        }
    }

    fn show(&mut self, message: sse::Message) -> Result<(), VerbError> {
        let written = match (
            self.console.json,
            serde_json::from_str::<Event>(&message.data),
        ) {
            (true, _) => self.console.write_raw(message.data.as_bytes()),
            (false, Ok(event)) => {
                let line = show::event(&event, self.console.paint);
                self.console.write(&format!("{line}\n"))
            }
            // A kind that this version does not know is shown as it came.
            (false, Err(_)) => {
                let line = show::printable(&message.data);
                self.console.write(&format!("{line}\n"))
            }
        };
        written.map_err(VerbError::Output)?;
        self.after = message.id.or(self.after.take());
        self.wanted = self.wanted.map(|left| left.saturating_sub(1));
        Ok(())
    }
}

fn ended(why: &str) -> Result<ControlFlow<(), String>, VerbError> {
    Ok(ControlFlow::Continue(why.to_owned()))
}
