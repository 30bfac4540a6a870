//! How long a rule waits, and what it repeats.

use std::time::Duration;

use engine_http::{retry, rules};

use crate::{section::Check, state::part::part};

part! {
    /// How long a rule waits for an upstream, and for a client's content.
    pub struct Timeouts {
        /// For a connection to one target.
        connect: Option<Duration> where in "10ms"..="5m", r#""1s""#;
        /// For the head of the answer, from the last byte of the request on.
        answer: Option<Duration> where in "10ms"..="1d", r#""10s""#;
        /// For the next byte of content, in either direction.
        idle: Option<Duration> where in "10ms"..="7d", r#""30s""#;
        /// For the next byte of an upgraded connection, such as a WebSocket.
        upgraded_idle: Option<Duration> where in "10ms"..="7d", r#""1h""#;
        /// For all of it, from the head of the request to the last byte of the answer; for ever
        /// unless written. Upgraded connections are not bound by it.
        whole: Option<Duration> where in "10ms"..="7d", r#""5m""#;
    }
}

impl Check for Timeouts {}

impl Timeouts {
    /// As the engine keeps them.
    pub fn timeouts(&self) -> rules::Timeouts {
        rules::Timeouts {
            connect: self.connect,
            answer: self.answer,
            idle: self.idle,
            upgraded_idle: self.upgraded_idle,
            whole: self.whole,
        }
    }
}

part! {
    /// What is repeated when a target fails.
    pub struct Retries {
        /// Further attempts for one request, each with another target if there is one.
        max: u32 = "1" where in "0"..="10", "2";
        /// Further attempts in percent of the requests of the rule, on the long run.
        percent: u32 = "20" where in "0"..="100", "10";
        /// Further attempts a second of each worker that are possible without other requests.
        floor: u32 = "10" where in "0"..="1000", "5";
    }
}

impl Check for Retries {}

impl Retries {
    /// As the engine counts them.
    pub fn retries(&self) -> retry::Retries {
        retry::Retries {
            max: u8::try_from(self.max).unwrap_or(u8::MAX),
            percent: u8::try_from(self.percent).unwrap_or(100),
            floor: u16::try_from(self.floor).unwrap_or(u16::MAX),
        }
    }
}
