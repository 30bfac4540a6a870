//! The samples of every metric, by area.

mod carried;
mod certificates;
mod gateway;
mod requests;
mod tenants;

use std::fmt::Display;

pub(super) use self::{carried::*, certificates::*, gateway::*, requests::*, tenants::*};
use super::{Sample, Value};

/// A sample of something that only grows.
fn count<const N: usize>(labels: [&dyn Display; N], count: u64) -> Sample {
    Sample {
        labels: labels.iter().map(ToString::to_string).collect(),
        value: Value::Count(count),
    }
}

/// A sample of something that goes up and down. A float holds whole numbers to 2^53 exactly, which
/// is nine petabytes.
fn level<const N: usize>(labels: [&dyn Display; N], level: u64) -> Sample {
    level_of(labels, level as f64)
}

fn level_of<const N: usize>(labels: [&dyn Display; N], level: f64) -> Sample {
    Sample {
        labels: labels.iter().map(ToString::to_string).collect(),
        value: Value::Level(level),
    }
}

/// The two directions of relayed bytes, as the last label.
fn directions(labels: &[String], bytes_in: u64, bytes_out: u64) -> [Sample; 2] {
    [("in", bytes_in), ("out", bytes_out)].map(|(direction, bytes)| Sample {
        labels: labels
            .iter()
            .cloned()
            .chain([direction.to_owned()])
            .collect(),
        value: Value::Count(bytes),
    })
}
