//! How long a rule waits, and what it repeats.

use std::time::Duration;

use engine_http::{retry, rules};

use crate::{section::Check, state::part::part};

part! {
    /// How long a rule waits for an upstream, and for a client's content.
    pub struct Timeouts {
        /// Timeout for connecting to one target.
        connect: Option<Duration> where in "10ms"..="5m", r#""1s""#;
        /// Timeout for the response head, after the last byte of the request.
        answer: Option<Duration> where in "10ms"..="1d", r#""10s""#;
        /// Timeout for the next byte of a body, in either direction.
        idle: Option<Duration> where in "10ms"..="7d", r#""30s""#;
        /// Timeout for the next byte of an upgraded connection, such as a WebSocket.
        upgraded_idle: Option<Duration> where in "10ms"..="7d", r#""1h""#;
        /// Timeout for the whole exchange, from the request head to the last byte of the response;
        /// by default none. It does not apply to upgraded connections.
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
        /// Maximum retries of one request, each with another target if there is one.
        max: u32 = "1" where in "0"..="10", "2";
        /// Retry budget: retries in percent of the requests of the rule.
        percent: u32 = "20" where in "0"..="100", "10";
        /// Retries per second of each worker that are always within the budget.
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
