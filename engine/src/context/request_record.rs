//! One ended request, for the request log.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use engine_core::outcome::Outcome;
use engine_http::{
    log::{self, VALUE_BYTES_MAX},
    method::Version,
    request::Request,
};

use crate::context::account::RouteName;

/// One ended request, as the request log tells it.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    pub(crate) time: Duration,
    pub(crate) client: SocketAddr,
    pub(crate) version: Version,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) content: (u64, u64),
    pub(crate) times: Times,
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) attempts: u32,
    pub(crate) route: Option<Arc<RouteName>>,
    pub(crate) texts: Texts,
    /// The version of TLS that the client speaks.
    pub(crate) tls: Option<&'static str>,
    pub(crate) outcome: Outcome,
}

/// What the client and others wrote, cut to what is logged, one behind the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    ends: [u16; Text::COUNT],
    present: [bool; Text::COUNT],
}

/// Which text. They are written in this order.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Text {
    Id,
    Method,
    Target,
    Host,
    UserAgent,
    Referer,
    TraceId,
    User,
}

impl Text {
    const COUNT: usize = 8;
}

/// How long the parts of a request took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) whole: Duration,
    pub(crate) connect: Option<Duration>,
    pub(crate) head: Option<Duration>,
    pub(crate) answer: Option<Duration>,
}

impl Texts {
    /// Adds the next text. Those between the one before and it are not there.
    pub(crate) fn put(&mut self, text: Text, value: &[u8]) {
        self.put_parts(text, &[value]);
    }

    pub(crate) fn put_some(&mut self, text: Text, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.put(text, value);
        }
    }

    pub(crate) fn put_target(&mut self, request: &Request<'_>) {
        let path = request.target.path.as_bytes();
        match request.target.query {
            Some(query) => self.put_parts(Text::Target, &[path, b"?", query.as_bytes()]),
            None => self.put(Text::Target, path),
        }
    }

    pub(crate) fn put_parts(&mut self, text: Text, parts: &[&[u8]]) {
        let from = self.bytes.len();
        for part in parts {
            let room = VALUE_BYTES_MAX - (self.bytes.len() - from);
            self.bytes.extend_from_slice(&part[..part.len().min(room)]);
        }
        // Eight texts of at most 2 KiB.
        let end = u16::try_from(self.bytes.len()).unwrap_or(u16::MAX);
        self.ends[text as usize..].fill(end);
        self.present[text as usize] = true;
    }

    fn get(&self, text: Text) -> Option<&[u8]> {
        let index = text as usize;
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let range = usize::from(from)..usize::from(self.ends[index]);
        self.present[index].then(|| self.bytes.get(range))?
    }

    /// A text that is ASCII by its making.
    fn word(&self, text: Text) -> Option<&str> {
        std::str::from_utf8(self.get(text)?).ok()
    }
}

impl RequestRecord {
    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The line of the request log.
    pub fn line(&self) -> log::Record<'_> {
        let texts = &self.texts;
        log::Record {
            time: self.time,
            remote_addr: self.client,
            user: texts.word(Text::User),
            host: texts.get(Text::Host),
            method: texts.get(Text::Method).unwrap_or_default(),
            target: texts.get(Text::Target).unwrap_or_default(),
            version: self.version,
            status: self.status.unwrap_or(0),
            reason: self.reason,
            body_bytes_received: self.content.0,
            body_bytes_sent: self.content.1,
            request_time: self.times.whole,
            upstream_connect_time: self.times.connect,
            upstream_header_time: self.times.head,
            upstream_response_time: self.times.answer,
            upstream_addr: self.upstream,
            attempts: self.attempts,
            network: self.route.as_ref().map(|route| &*route.network_name),
            route: self.route.as_ref().map(|route| &*route.label),
            request_id: texts.word(Text::Id).unwrap_or_default(),
            trace_id: texts.word(Text::TraceId),
            tls: self.tls,
            user_agent: texts.get(Text::UserAgent),
            referer: texts.get(Text::Referer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_those_that_are_absent_stay_so() {
        let mut texts = Texts::default();
        texts.put(Text::Id, b"1");
        texts.put(Text::Target, &[b'x'; 3000]);
        texts.put(Text::Referer, b"");
        texts.put(Text::User, b"ada");
        assert_eq!(texts.get(Text::Id), Some(&b"1"[..]));
        assert_eq!(texts.get(Text::Method), None);
        assert_eq!(
            texts.get(Text::Target).map(<[u8]>::len),
            Some(VALUE_BYTES_MAX)
        );
        assert_eq!(texts.get(Text::Host), None);
        assert_eq!(texts.get(Text::Referer), Some(&b""[..]));
        assert_eq!(texts.word(Text::User), Some("ada"));
    }
}
