//! Where a rule sends clients.

use std::num::NonZeroU16;

use engine_http::rules::{self, RedirectStatus};
use serde_json::{Value, json};

use crate::{
    document::{Content, Fields, Spot},
    field::{Field, number},
    problem::Problems,
    section::Key,
    state::part::quoted,
};

/// The word for the same address with TLS.
const HTTPS: &str = "https";
/// Longest location in bytes.
const LOCATION_BYTES_MAX: usize = 4096;
/// The status when none is written: clients may keep it, and repeat the request as it was.
const STATUS: RedirectStatus = RedirectStatus::PermanentRedirect;
const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// A redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    to: Box<str>,
    status: RedirectStatus,
    /// For `https` alone.
    port: Option<NonZeroU16>,
    made: rules::Redirect,
}

impl Redirect {
    /// Whether it is to the same address with TLS, and so for requests without it.
    pub fn is_to_https(&self) -> bool {
        &*self.to == HTTPS
    }

    /// As the engine does it.
    pub fn redirect(&self) -> rules::Redirect {
        self.made.clone()
    }
}

fn read_to(spot: &Spot<'_>, problems: &mut Problems) -> Option<Box<str>> {
    let to = quoted(spot, problems)?;
    if to.len() > LOCATION_BYTES_MAX {
        spot.error(
            problems,
            format_args!("a location has at most {LOCATION_BYTES_MAX} bytes"),
        );
        return None;
    }
    if to != HTTPS {
        // The status does not matter to whether a location is good.
        if let Err(error) = rules::Redirect::new(STATUS, to) {
            spot.error(problems, error);
            return None;
        }
    }
    Some(to.into())
}

fn read_status(spot: &Spot<'_>, problems: &mut Problems) -> Option<RedirectStatus> {
    let status = RedirectStatus::from_code(number(spot, problems, "status")?);
    if status.is_none() {
        spot.error(problems, "a redirect has status 301, 302, 303, 307 or 308");
    }
    status
}

fn make(to: Box<str>, status: RedirectStatus, port: Option<NonZeroU16>) -> Option<Redirect> {
    let made = match &*to {
        HTTPS => rules::Redirect::to_https(status, port.map_or(443, NonZeroU16::get)),
        // Checked when it was read.
        location => rules::Redirect::new(status, location).ok()?,
    };
    Some(Redirect {
        to,
        status,
        port,
        made,
    })
}

impl Field for Redirect {
    const SYNTAX: &'static str = "`https`, a location, or a map of `to`, `status`, `port`";
    const KEYS: &'static [Key] = &[];

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let Content::Map(_) = &spot.node.content else {
            return make(read_to(spot, problems)?, STATUS, None);
        };
        let fields = Fields::open(spot, &["to", "status", "port"], problems)?;
        let present = |key| fields.find(key).filter(|spot| !spot.is_null());
        let status = match present("status") {
            Some(spot) => read_status(spot, problems),
            None => Some(STATUS),
        };
        let port = match present("port") {
            Some(spot) => NonZeroU16::read(spot, problems).map(Some),
            None => Some(None),
        };
        let to = fields.need("to", problems);
        let to = to.and_then(|spot| read_to(spot, problems))?;
        if port.flatten().is_some() && &*to != HTTPS {
            spot.error_with_hint(
                problems,
                "`port` is for `\"to\": \"https\"`",
                "write it in `to`",
            );
        }
        make(to, status?, port?)
    }

    fn write(&self) -> Value {
        if self.status == STATUS && self.port.is_none() {
            return Value::from(&*self.to);
        }
        let mut map = json!({ "to": self.to });
        if self.status != STATUS {
            map["status"] = self.status.code().into();
        }
        if let Some(port) = self.port {
            map["port"] = port.get().into();
        }
        map
    }

    fn schema() -> Value {
        let to = json!({ "type": "string", "minLength": 1, "maxLength": LOCATION_BYTES_MAX });
        let mut statuses: Vec<Value> = STATUSES.iter().map(|status| json!(status)).collect();
        statuses.push(Value::Null);
        json!({ "oneOf": [to, {
            "type": "object",
            "properties": {
                "to": to,
                "status": { "enum": statuses, "description": "308 by default." },
                "port": {
                    "type": ["integer", "null"], "minimum": 1, "maximum": 65535,
                    "description": "The port of `https`; 443 by default.",
                },
            },
            "required": ["to"],
            "additionalProperties": false,
        }] })
    }
}
