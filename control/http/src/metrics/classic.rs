//! The classic text format of Prometheus, version 0.0.4 (prometheus.io, "Exposition formats"): what
//! scrapers and their checkers take that do not ask for OpenMetrics.

use std::fmt::Write as _;

use super::{Kind, METRICS, Metric, Sample, Scene, Value};

/// Of the answer.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn render(scene: &Scene) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let (name, help) = (metric.shown(), metric.help);
        // What always is 1 is a gauge here.
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge | Kind::Info => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a string cannot fail; nor below.
        let _ = writeln!(text, "# HELP {name} {}", escaped(help, false));
        let _ = writeln!(text, "# TYPE {name} {kind}");
        for sample in (metric.samples)(scene) {
            write(metric, &name, &sample, &mut text);
        }
    }
    text
}

fn write(metric: &Metric, name: &str, sample: &Sample, text: &mut String) {
    let labels = metric.labels.iter().zip(&sample.labels);
    let labels: Vec<String> = labels
        .map(|(label, value)| format!("{label}=\"{}\"", escaped(value, true)))
        .collect();
    let with = |first: Option<String>| {
        let all: Vec<&str> = first.iter().chain(&labels).map(String::as_str).collect();
        match all.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", all.join(",")),
        }
    };
    let _ = match &sample.value {
        Value::Count(_) | Value::Level(_) if metric.kind == Kind::Info => {
            writeln!(text, "{name}{} 1", with(None))
        }
        Value::Count(count) => writeln!(text, "{name}{} {count}", with(None)),
        Value::Level(level) => writeln!(text, "{name}{} {}", with(None), number(*level)),
        Value::Sizes {
            sum,
            count,
            buckets,
        } => {
            let mut below = 0;
            for (bound, more) in buckets {
                below += more;
                let le = with(Some(format!("le=\"{}\"", number(*bound))));
                let _ = writeln!(text, "{name}_bucket{le} {below}");
            }
            let (all, sum) = (with(None), number(*sum));
            let _ = writeln!(text, "{name}_sum{all} {sum}");
            writeln!(text, "{name}_count{all} {count}")
        }
    };
}

fn number(number: f64) -> String {
    match number {
        number if number == f64::INFINITY => "+Inf".to_owned(),
        number if number == f64::NEG_INFINITY => "-Inf".to_owned(),
        // With a point, as OpenMetrics has it: whoever reads both finds the same lines.
        number => format!("{number:?}"),
    }
}

fn escaped(text: &str, is_quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    match is_quoted {
        true => text.replace('"', "\\\""),
        false => text,
    }
}
