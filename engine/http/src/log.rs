//! The request log: one line for each request, as JSON or in the Common Log Format.
//!
//! What strangers send is escaped so that it can neither end a line nor a value.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use crate::{date::Date, method::Version};

/// Longest value that is written of a field or a target; the rest is cut off.
pub const VALUE_BYTES_MAX: usize = 2048;

/// What is written about one request. What is not known is left out of JSON, and `-` in the Common
/// Log Format.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When the request came, since the epoch.
    pub time: Duration,
    /// The client.
    pub remote_addr: SocketAddr,
    /// The name that basic authentication took.
    pub user: Option<&'a str>,
    /// The host, as it was sent.
    pub host: Option<&'a [u8]>,
    /// The method.
    pub method: &'a [u8],
    /// The target, as it was sent.
    pub target: &'a [u8],
    /// The version that the client speaks.
    pub version: Version,
    /// The status of the answer; 0 if the client went before there was one.
    pub status: u16,
    /// Why the gateway answered by itself, or refused.
    pub reason: Option<&'a str>,
    /// Bytes of content that the client sent.
    pub body_bytes_received: u64,
    /// Bytes of content that the client got.
    pub body_bytes_sent: u64,
    /// From the first byte of the head to the last of the answer.
    pub request_time: Duration,
    /// For connections to upstreams, all attempts together.
    pub upstream_connect_time: Option<Duration>,
    /// From the request to the head of the upstream's answer.
    pub upstream_header_time: Option<Duration>,
    /// From the request to the end of the upstream's answer.
    pub upstream_response_time: Option<Duration>,
    /// The target that answered, or failed last.
    pub upstream_addr: Option<SocketAddr>,
    /// How often it was tried.
    pub attempts: u32,
    /// The tenant.
    pub network: Option<&'a str>,
    /// The rule's label.
    pub route: Option<&'a str>,
    /// The request's id.
    pub request_id: &'a str,
    /// The trace's id, in hexadecimal.
    pub trace_id: Option<&'a str>,
    /// TLS version and suite.
    pub tls: Option<&'a str>,
    /// `User-Agent`
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`
    pub referer: Option<&'a [u8]>,
}

impl Record<'_> {
    /// Appends the record as a JSON object on a line of its own.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object { out, first: true };
        object.raw(
            "time",
            format_args!("\"{}\"", Date::of(self.time).rfc_3339()),
        );
        object.raw("remote_addr", format_args!("\"{}\"", self.remote_addr));
        object.text("user", self.user.map(str::as_bytes));
        object.text("host", self.host);
        object.text("method", Some(self.method));
        object.text("target", Some(self.target));
        object.text("protocol", Some(self.version.as_str().as_bytes()));
        object.raw("status", format_args!("{}", self.status));
        object.text("reason", self.reason.map(str::as_bytes));
        object.raw(
            "body_bytes_received",
            format_args!("{}", self.body_bytes_received),
        );
        object.raw("body_bytes_sent", format_args!("{}", self.body_bytes_sent));
        object.seconds("request_time", Some(self.request_time));
        object.seconds("upstream_connect_time", self.upstream_connect_time);
        object.seconds("upstream_header_time", self.upstream_header_time);
        object.seconds("upstream_response_time", self.upstream_response_time);
        if let Some(upstream) = self.upstream_addr {
            object.raw("upstream_addr", format_args!("\"{upstream}\""));
        }
        object.raw("attempts", format_args!("{}", self.attempts));
        object.text("network", self.network.map(str::as_bytes));
        object.text("route", self.route.map(str::as_bytes));
        object.text("request_id", Some(self.request_id.as_bytes()));
        object.text("trace_id", self.trace_id.map(str::as_bytes));
        object.text("tls", self.tls.map(str::as_bytes));
        object.text("user_agent", self.user_agent);
        object.text("referer", self.referer);
        out.extend_from_slice(b"}\n");
    }

    /// Appends the record in the Common Log Format: `host ident user [time] "request" status
    /// bytes`, as NCSA's server wrote it.
    pub fn write_common(&self, out: &mut Vec<u8>) {
        // Writing to a vector cannot fail.
        let _ = write!(out, "{} - ", self.remote_addr.ip());
        match self.user {
            Some(user) => escape_common(user.as_bytes(), out),
            None => out.push(b'-'),
        }
        let _ = write!(out, " [{}] \"", Date::of(self.time).common());
        escape_common(self.method, out);
        out.push(b' ');
        escape_common(self.target, out);
        let _ = write!(out, " {}\" {} ", self.version.as_str(), self.status);
        match self.body_bytes_sent {
            0 => out.push(b'-'),
            bytes => crate::octet::write_decimal(out, bytes),
        }
        out.push(b'\n');
    }
}

/// A JSON object that is being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        let open = if std::mem::take(&mut self.first) {
            '{'
        } else {
            ','
        };
        let _ = write!(self.out, "{open}\"{key}\":");
    }

    fn raw(&mut self, key: &str, value: std::fmt::Arguments<'_>) {
        self.key(key);
        let _ = self.out.write_fmt(value);
    }

    fn text(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.key(key);
            let text = String::from_utf8_lossy(cut(value));
            let _ = serde_json::to_writer(&mut *self.out, &*text);
        }
    }

    fn seconds(&mut self, key: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.raw(
                key,
                format_args!("{}.{:06}", value.as_secs(), value.subsec_micros()),
            );
        }
    }
}

fn cut(value: &[u8]) -> &[u8] {
    &value[..value.len().min(VALUE_BYTES_MAX)]
}

/// Writes visible ASCII but quote and backslash as it is, and everything else as `\xhh`. Spaces
/// too: a user name with one would shift the fields behind it.
fn escape_common(value: &[u8], out: &mut Vec<u8>) {
    for byte in cut(value) {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'!'..=b'~' => out.push(*byte),
            _ => {
                out.extend_from_slice(b"\\x");
                out.extend_from_slice(&crate::octet::hex_digits(*byte));
            }
        }
    }
}

#[cfg(test)]
mod tests;
