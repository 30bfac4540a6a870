//! How requests are spread over the targets of a rule, as a word.

use engine_core::balance::{Balance, HashOn};
use engine_http::is_token;
use serde_json::{Value, json};

use crate::{
    document::Spot, field::Field, problem::Problems, state::part::quoted, word::printable,
};

const WORDS: [(&str, Balance); 5] = [
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
    ("power_of_two", Balance::PowerOfTwo),
    ("hash:source", Balance::Consistent(HashOn::Source)),
    ("hash:path", Balance::Consistent(HashOn::Path)),
];
const HEADER: &str = "hash:header:";
const COOKIE: &str = "hash:cookie:";

fn parse(text: &str) -> Option<Balance> {
    if let Some((_, balance)) = WORDS.iter().find(|(word, _)| *word == text) {
        return Some(balance.clone());
    }
    let named = |prefix| {
        let name = text.strip_prefix(prefix)?;
        (name.len() <= 128 && is_token(name.as_bytes())).then_some(name)
    };
    if let Some(name) = named(HEADER) {
        let name = name.to_ascii_lowercase();
        return Some(Balance::Consistent(HashOn::Field(name.into())));
    }
    let name = named(COOKIE)?;
    Some(Balance::Consistent(HashOn::Cookie(name.into())))
}

impl Field for Balance {
    const SYNTAX: &'static str = "`round_robin`, `least_connections`, `power_of_two`, `hash:source`, \
         `hash:path`, `hash:header:NAME` or `hash:cookie:NAME`";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let text = quoted(spot, problems)?;
        let balance = parse(text);
        if balance.is_none() {
            let message = format!("`{}` is no way to spread requests", printable(text));
            spot.error_with_hint(problems, message, format!("write {}", Self::SYNTAX));
        }
        balance
    }

    fn write(&self) -> Value {
        match self {
            Self::Consistent(HashOn::Field(name)) => format!("{HEADER}{name}").into(),
            Self::Consistent(HashOn::Cookie(name)) => format!("{COOKIE}{name}").into(),
            other @ (Self::RoundRobin
            | Self::LeastConnections
            | Self::PowerOfTwo
            | Self::Consistent(_)) => {
                let mut words = WORDS.iter();
                let word = words.find(|(_, balance)| balance == other);
                word.map(|(word, _)| *word).into()
            }
        }
    }

    fn schema() -> Value {
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        json!({
            "type": "string",
            "pattern": format!(
                "^({}|hash:(header|cookie):[A-Za-z0-9!#$%&'*+.^_`|~-]{{1,128}})$",
                words.join("|"),
            ),
        })
    }
}
