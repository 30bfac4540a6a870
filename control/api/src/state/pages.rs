//! What a network answers in place of the gateway's own error bodies.

use std::{collections::BTreeMap, sync::Arc};

use engine_http::answer::{Code, Page, Pages};
use serde_json::{Map, Value, json};

use super::part::quoted;
use crate::{
    document::{Content, Duplicates, Fields, Spot},
    field::Field,
    problem::Problems,
    word::printable,
};

/// Longest body of an error in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Longest media type in bytes.
const TYPE_BYTES_MAX: usize = 128;
/// The media type when none is written.
const HTML: &str = "text/html; charset=utf-8";

/// Bodies by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages(BTreeMap<u16, ErrorPage>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct ErrorPage {
    content_type: Box<str>,
    body: Box<str>,
}

impl ErrorPages {
    /// As the engine answers them; `None` if there are none.
    pub fn pages(&self) -> Option<Arc<Pages>> {
        if self.0.is_empty() {
            return None;
        }
        let mut pages = Pages::default();
        for (status, page) in &self.0 {
            // Checked when it was read.
            let _ = pages.insert(*status, page.page());
        }
        Some(Arc::new(pages))
    }
}

impl ErrorPage {
    fn page(&self) -> Page {
        Page {
            content_type: (&*self.content_type).into(),
            body: self.body.as_bytes().into(),
        }
    }
}

fn statuses() -> Vec<u16> {
    let mut statuses: Vec<u16> = Code::ALL.iter().map(|code| code.status()).collect();
    statuses.dedup();
    statuses
}

fn read_status(entry: &Spot<'_>, problems: &mut Problems) -> Option<u16> {
    let known = statuses();
    let status = known
        .iter()
        .find(|status| status.to_string() == entry.key());
    if status.is_none() {
        let key = printable(entry.key());
        let list: Vec<String> = known.iter().map(ToString::to_string).collect();
        entry.error_with_hint(
            problems,
            format_args!("the gateway never answers `{key}` by itself"),
            format!("it answers {}", list.join(", ")),
        );
    }
    status.copied()
}

fn read_page(spot: &Spot<'_>, problems: &mut Problems) -> Option<ErrorPage> {
    let Content::Map(_) = &spot.node.content else {
        return Some(ErrorPage {
            content_type: HTML.into(),
            body: read_body(spot, problems)?,
        });
    };
    let fields = Fields::open(spot, &["content_type", "body"], problems)?;
    let content_type = match fields.find("content_type").filter(|spot| !spot.is_null()) {
        Some(spot) => quoted(spot, problems),
        None => Some(HTML),
    };
    let body = fields.need("body", problems);
    let body = body.and_then(|spot| read_body(spot, problems));
    let content_type = content_type?;
    let is_type = content_type.len() <= TYPE_BYTES_MAX && content_type.contains('/');
    if !is_type || !content_type.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        spot.error(
            problems,
            "`content_type`: a media type is expected, such as text/html",
        );
        return None;
    }
    Some(ErrorPage {
        content_type: content_type.into(),
        body: body?,
    })
}

fn read_body(spot: &Spot<'_>, problems: &mut Problems) -> Option<Box<str>> {
    let body = quoted(spot, problems)?;
    if body.len() > BODY_BYTES_MAX {
        spot.error(
            problems,
            format_args!("a body has at most {BODY_BYTES_MAX} bytes"),
        );
        return None;
    }
    Some(body.into())
}

impl Field for ErrorPages {
    const SYNTAX: &'static str = "map of status to HTML, or to a map of `content_type`, `body`";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let entries = spot.entries(Duplicates::Refused, problems)?;
        let pages: Vec<Option<(u16, ErrorPage)>> = entries
            .iter()
            .map(|entry| {
                let status = read_status(entry, problems);
                status.zip(read_page(entry, problems))
            })
            .collect();
        pages.into_iter().collect::<Option<_>>().map(Self)
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn write(&self) -> Value {
        let pages = self.0.iter().map(|(status, page)| {
            let body = Value::from(&*page.body);
            let page = match &*page.content_type {
                HTML => body,
                other => json!({ "content_type": other, "body": body }),
            };
            (status.to_string(), page)
        });
        Value::Object(Map::from_iter(pages))
    }

    fn schema() -> Value {
        let body = json!({ "type": "string", "maxLength": BODY_BYTES_MAX });
        let page = json!({ "oneOf": [body, {
            "type": "object",
            "properties": {
                "content_type": {
                    "type": ["string", "null"], "pattern": "^[ -~]*/[ -~]*$", "maxLength": TYPE_BYTES_MAX,
                },
                "body": body,
            },
            "required": ["body"],
            "additionalProperties": false,
        }] });
        let statuses = statuses()
            .into_iter()
            .map(|status| (status.to_string(), page.clone()));
        json!({
            "type": "object",
            "properties": Map::from_iter(statuses),
            "additionalProperties": false,
        })
    }
}
