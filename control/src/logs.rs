//! Operational logs: what the gateway itself has to say, one JSON object a line, on stderr.
//!
//! `{"time": …, "level": …, "message": …, …}`; the fields of an event follow its message. A field
//! whose name ends in `.json` holds JSON and is written as such, without the ending. Lines wait
//! for the writer in a bounded queue and are dropped when it is full: no worker ever waits for
//! stderr.

use std::{
    fmt::{self, Write as _},
    time::SystemTime,
};

use control_api::boot::LogLevel;
use serde_json::value::RawValue;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

/// Lines that may wait for stderr.
const QUEUE_LINES_MAX: usize = 8192;

/// Crates whose events follow `log.level`; all others only warn.
const OURS: [&str; 6] = [
    "ringway",
    "control",
    "engine",
    "control_kernel",
    "control_plan",
    "engine_sys",
];

/// Crates that warn of what strangers send: theirs are not the gateway's warnings, and a line for each frame
/// would fill the log.
const OF_STRANGERS: [&str; 4] = ["h2", "hickory_proto", "hyper", "rustls"];

/// The open log. What waits is written when it is dropped.
#[derive(Debug)]
pub(crate) struct Logs {
    filter: reload::Handle<Targets, tracing_subscriber::Registry>,
    _writer: WorkerGuard,
}

impl Logs {
    /// Opens the log of the process.
    ///
    /// # Errors
    /// When it is open already.
    pub(crate) fn open(level: LogLevel) -> anyhow::Result<Self> {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(QUEUE_LINES_MAX)
            .thread_name("log")
            .finish(std::io::stderr());
        let (filter, handle) = reload::Layer::new(targets(level));
        let lines = tracing_subscriber::fmt::layer()
            .event_format(JsonLines)
            .with_writer(writer);
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .try_init()?;
        Ok(Self {
            filter: handle,
            _writer: guard,
        })
    }

    /// Changes the least severe level that is written.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // It only fails when the log is gone, and then nothing is left to say.
        let _ = self.filter.reload(targets(level));
    }
}

fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(OURS.map(|name| (name, level)))
        .with_targets(OF_STRANGERS.map(|name| (name, level.min(LevelFilter::ERROR))))
}

/// Formats an event as one JSON object.
#[derive(Debug)]
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = humantime::format_rfc3339_micros(SystemTime::now());
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let message = quoted(&fields.message);
        let rest = fields.rest;
        writeln!(
            writer,
            r#"{{"time":"{time}","level":"{level}","message":{message}{rest}}}"#
        )
    }
}

/// The fields of an event as JSON members, each after a comma.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

impl Fields {
    fn member(&mut self, field: &Field, value: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.rest, ",{}:{value}", quoted(field.name()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
            return;
        }
        let is_json = || serde_json::from_str::<&RawValue>(&text).is_ok();
        match field.name().strip_suffix(".json") {
            // A list as `?` writes it.
            None if text.starts_with('[') && is_json() => self.member(field, &text),
            Some(name) if is_json() => {
                let _ = write!(self.rest, ",{}:{text}", quoted(name));
            }
            Some(_) | None => self.member(field, &quoted(&text)),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, &quoted(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, &value.to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, &value.to_string());
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.member(field, &value.to_string());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.member(field, &value.to_string());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        self.member(field, &serde_json::Value::from(value).to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, &value.to_string());
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Memory {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(level: LogLevel, log: impl FnOnce()) -> Vec<serde_json::Value> {
        let memory = Memory::default();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(JsonLines)
            .with_writer(memory.clone());
        let subscriber = tracing_subscriber::registry()
            .with(targets(level))
            .with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = memory.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn what_strangers_send_has_no_lines_of_a_library() {
        let lines = logged(LogLevel::Info, || {
            tracing::warn!(target: "h2::proto::ping_pong", "recv PING ack that we never sent");
            tracing::warn!(target: "some::library", "a warning");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }

    #[test]
    fn a_line_is_one_json_object_with_its_fields() {
        let lines = logged(LogLevel::Info, || {
            tracing::info!(
                target: "ringway",
                text = "a\n\"b\"",
                number = 7,
                truth = true,
                display = %"shown",
                tree.json = %r#"{"a":[1]}"#,
                broken.json = %"{",
                large = 7_u128,
                share = 0.5,
                list = ?["a", "b\n"],
                address = %"[::1]:80",
                "it {}",
                "works"
            );
        });
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        let mut line = line.clone();
        let time = line["time"].take();
        assert!(humantime::parse_rfc3339(time.as_str().unwrap()).is_ok());
        assert_eq!(
            line,
            serde_json::json!({
                "time": null, "level": "info", "message": "it works", "text": "a\n\"b\"",
                "number": 7, "truth": true, "display": "shown", "tree": {"a": [1]},
                "broken.json": "{", "large": 7, "share": 0.5, "list": ["a", "b\n"],
                "address": "[::1]:80",
            })
        );
    }

    #[test]
    fn the_level_holds_for_ringway_and_others_only_warn() {
        let count = |level| {
            let lines = logged(level, || {
                tracing::debug!(target: "engine::dial", "ours");
                tracing::error!(target: "control::serve", "ours");
                tracing::info!(target: "netlink_proto", "theirs");
                tracing::warn!(target: "netlink_proto", "theirs");
            });
            lines.len()
        };
        let levels = [
            LogLevel::Error,
            LogLevel::Warn,
            LogLevel::Info,
            LogLevel::Debug,
            LogLevel::Trace,
        ];
        assert_eq!(levels.map(count), [1, 2, 2, 3, 3]);
    }
}
