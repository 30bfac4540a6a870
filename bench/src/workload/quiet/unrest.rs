//! Networks that come and go, and questions about the accounts.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{accounts::Day, gateway::Gateway, workload::traffic::ask_for_the_day};

/// Time between two questions about the accounts.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What goes on beside the exchanges, until it is stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unrest<'a> {
    pub(super) gateway: &'a Gateway,
    /// What is desired now, and many networks.
    pub(super) document: &'a str,
    pub(super) day: Day,
    pub(super) stop: &'a AtomicBool,
}

impl Unrest<'_> {
    /// Applies the document and goes back, without a pause; gives the changes in a second.
    ///
    /// # Errors
    /// When a change is refused or degraded.
    pub(super) fn change(self) -> Result<f64> {
        let api = &self.gateway.api;
        let first = api.ask("GET", "/api/v1/status", None)?;
        let mut back = first["generation"]["desired"].clone();
        let (start, mut changes) = (Instant::now(), 0.0);
        while !self.is_over() {
            api.apply(self.document)?;
            let path = format!("/api/v1/rollback/{back}?wait=true");
            let answer = api.ask("POST", &path, None)?;
            let generation = answer.get("generation");
            back = generation.context("no generation")?.clone();
            changes += 2.0;
        }
        Ok(changes / start.elapsed().as_secs_f64())
    }

    /// Asks for the day of one network ten times a second; gives how often in a second.
    ///
    /// # Errors
    /// When a question is not answered.
    pub(super) fn ask(self) -> Result<f64> {
        let (start, mut questions) = (Instant::now(), 0.0);
        while !self.is_over() {
            ask_for_the_day(self.gateway, self.day)?;
            questions += 1.0;
            thread::sleep(ASK_EVERY);
        }
        Ok(questions / start.elapsed().as_secs_f64())
    }

    fn is_over(self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
