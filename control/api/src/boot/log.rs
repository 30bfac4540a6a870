//! What is written about connections and about the gateway itself.

use std::{fmt, num::NonZeroU32, path::PathBuf, str::FromStr};

use crate::{
    field::{text_field, words},
    section::{Check, section},
};

section! {
    /// Connection records go to `file`, request records to `requests`, operational logs to stderr.
    pub struct Log {
        /// The format of connection records and operational logs: one JSON object per line.
        format: LogFormat = "json";
        /// The least severe operational log that is written.
        level: LogLevel = "info", reload;
        /// Where connection records go: `stdout`, `none`, or a file. Ringway appends to the file
        /// and reopens it at SIGHUP and SIGUSR1. Relative to the boot file's folder.
        file: LogFile = "stdout";
        /// Where request records go, one for each HTTP request: `stdout`, `none`, or a file as
        /// above. Unless it is `none`, a request without trace context starts a trace
        /// (`traceparent`).
        requests: LogFile = "none";
        /// The format of request records: one JSON object per line, or the Common Log Format.
        requests_format: RequestFormat = "json";
        /// Connection records that may wait for their writer, and as many request records. Beyond
        /// the limit they are dropped and counted.
        queue_records_max: NonZeroU32 = "65536" in "1"..="16777216";
    }
}

impl Check for Log {}

words! {
    /// The form of logs.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// The form of request records.
    pub enum RequestFormat {
        /// One JSON object a line.
        Json = "json",
        /// As NCSA's server wrote them: `host ident user [time] "request" status bytes`.
        Common = "common",
    }
}

words! {
    /// The least severe log that is written.
    pub enum LogLevel {
        /// What needs somebody now.
        Error = "error",
        /// What needs somebody some time.
        Warn = "warn",
        /// What the gateway does.
        Info = "info",
        /// Why single connections ended.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

/// Where connection records go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogFile {
    /// Standard output.
    Stdout,
    /// Nowhere: none are made.
    None,
    /// A file that is appended to.
    Path(PathBuf),
}

/// Why a text names no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`stdout`, `none` or the path of a file is expected")]
pub struct LogFileError;

impl FromStr for LogFile {
    type Err = LogFileError;

    fn from_str(text: &str) -> Result<Self, LogFileError> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "none" => Ok(Self::None),
            text if text.is_empty() || text.contains('\0') => Err(LogFileError),
            text => Ok(Self::Path(text.into())),
        }
    }
}

impl fmt::Display for LogFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::None => f.write_str("none"),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

text_field!(LogFile, "`stdout`, `none` or a path");
