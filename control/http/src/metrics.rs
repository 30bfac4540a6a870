//! Everything that is counted, in the classic text format of Prometheus, or in that of OpenMetrics 1.0
//! for those who ask for it.
//!
//! The table of metrics is the only list of them: the answer is made from it, and so is the
//! reference page.

mod classic;
mod samples;
mod scene;
mod table;

use std::{fmt, fmt::Write as _, sync::Arc};

use axum::http::{HeaderMap, header};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};
pub(crate) use table::METRICS;

use self::scene::Scene;
use crate::shared::Shared;

/// Of the answer to those who ask for it (OpenMetrics 1.0, "Content type").
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

/// Everything, and in which format it is.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) content_type: &'static str,
    pub(crate) text: String,
}

/// Writes everything in the format that a request asks for.
pub(crate) fn render(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Rendered, fmt::Error> {
    let scene = Scene::of(shared);
    if !wants_open_metrics(headers) {
        return Ok(Rendered {
            content_type: classic::CONTENT_TYPE,
            text: classic::render(&scene),
        });
    }
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(scene)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(Rendered {
        content_type: OPEN_METRICS,
        text,
    })
}

/// Whether `Accept` names OpenMetrics, and nothing else with more weight (RFC 9110 section 12.5.1).
/// `*/*` does not name it.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter();
    let ranges = lines.filter_map(|line| line.to_str().ok());
    let (mut open, mut classic) = (0.0_f32, 0.0_f32);
    for range in ranges.flat_map(|line| line.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
        let weight: f32 = weight.unwrap_or(1.0);
        match name.as_str() {
            "application/openmetrics-text" => open = open.max(weight),
            "text/plain" => classic = classic.max(weight),
            _ => {}
        }
    }
    open > 0.0 && open >= classic
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
