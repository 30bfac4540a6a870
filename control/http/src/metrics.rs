//! Everything that is counted, in the text format of OpenMetrics 1.0, which Prometheus reads.
//!
//! The table of metrics is the only list of them: the answer is made from it, and so is the
//! reference in the README.

mod samples;
mod scene;
mod table;

use std::{fmt, fmt::Write as _, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};
pub(crate) use table::METRICS;

use self::scene::Scene;
use crate::shared::Shared;

/// Of the answer (OpenMetrics 1.0, "Content type").
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the names of all metrics start with.
const PREFIX: &str = "ringway";

/// One metric: its name without the prefix, and where its samples come from.
#[derive(Debug)]
pub(crate) struct Metric {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    samples: fn(&Scene) -> Vec<Sample>,
}

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size; its names end in `_bucket`, `_sum` and `_count`.
    Histogram,
    /// Always 1, with labels that say something; its name ends in `_info`.
    Info,
}

/// One value of a metric, with the values of its labels.
#[derive(Debug)]
pub(crate) struct Sample {
    labels: Vec<String>,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Count(u64),
    Level(f64),
    Sizes {
        sum: f64,
        count: u64,
        /// Upper bound and how many are up to it and above the one before.
        buckets: Vec<(f64, u64)>,
    },
}

/// Writes everything.
pub(crate) fn render(shared: &Arc<Shared>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(Scene::of(shared))));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

/// The list of all metrics in Markdown.
pub fn reference() -> String {
    let mut table = String::from("| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (labels, help, kind) = (labels.join(", "), metric.help, metric.kind.word());
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {kind} | {labels} | {help}. |",
            metric.shown()
        );
    }
    table
}

impl Metric {
    /// The name as it is asked for in Prometheus.
    fn shown(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram => "",
            Kind::Info => "_info",
        };
        format!("{PREFIX}_{}{suffix}", self.name)
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// All metrics at one time.
#[derive(Debug)]
struct Scrape(Scene);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in METRICS {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
            for sample in (metric.samples)(&self.0) {
                debug_assert_eq!(sample.labels.len(), metric.labels.len(), "{}", metric.name);
                let values = sample.labels.iter().map(String::as_str);
                let labels: Vec<(&str, &str)> = metric.labels.iter().copied().zip(values).collect();
                if metric.kind == Kind::Info {
                    family.encode_info(&labels)?;
                } else if labels.is_empty() {
                    sample.value.encode(&mut family)?;
                } else {
                    sample.value.encode(&mut family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => encoder.encode_counter(count, None::<&Exemplar<NoLabelSet, u64>>),
            Self::Level(level) => encoder.encode_gauge(level),
            Self::Sizes {
                sum,
                count,
                buckets,
            } => encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None),
        }
    }
}
