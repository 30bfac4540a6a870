use engine_http::{
    edit::{FieldEdits, Rewrite},
    reading::Reading,
};

use super::{pass, plain::Plain, read};
use crate::Input;

/// What a rule says, as lines of an input: `=name:value` sets a field, `+name:value` adds one,
/// `-name` removes one, `/path` is a new prefix, `@host` another host.
#[derive(Default)]
struct Edits<'a> {
    set: Vec<(&'a str, &'a str)>,
    add: Vec<(&'a str, &'a str)>,
    remove: Vec<&'a str>,
    prefix: Option<&'a str>,
    host: Option<&'a str>,
}

impl<'a> Edits<'a> {
    /// Takes the lines in front of the first that is none of them. Gives the rest.
    fn parse(mut bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let mut edits = Self::default();
        while let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            let Ok(line) = std::str::from_utf8(&bytes[..end]) else {
                break;
            };
            match line.chars().next() {
                Some('=') => edits.set.extend(line[1..].split_once(':')),
                Some('+') => edits.add.extend(line[1..].split_once(':')),
                Some('-') => edits.remove.push(&line[1..]),
                Some('/') => edits.prefix = Some(line),
                Some('@') => edits.host = Some(&line[1..]),
                _ => break,
            }
            bytes = &bytes[end + 1..];
        }
        (edits, bytes)
    }
}

/// Reads `input` as the edits of a rule, each ended by NUL, and a request that they are made to.
///
/// # Panics
/// Where the edits of a rule change anything but the fields that they name, the path and the host:
/// where the request ends, what its content is, how many requests there are.
pub fn rewriting(input: &[u8]) {
    let input = Input::parse(input);
    let (edits, bytes) = Edits::parse(input.bytes);
    let Reading::Head(request) = read(bytes) else {
        return;
    };
    let Ok(fields) = FieldEdits::new(&edits.set, &edits.add, &edits.remove) else {
        return;
    };
    let Ok(rewrite) = Rewrite::new(edits.prefix, edits.host) else {
        return;
    };
    let trusted = input.lens().next().is_some_and(|len| len % 2 == 1);
    let Some(plain) = pass(
        &request,
        trusted,
        &FieldEdits::default(),
        &Rewrite::default(),
    ) else {
        return;
    };
    let Some(edited) = pass(&request, trusted, &fields, &rewrite) else {
        return;
    };
    let Reading::Head(again) = read(&edited) else {
        panic!(
            "what was written is refused: {:?}",
            String::from_utf8_lossy(&edited)
        );
    };
    assert_eq!(again.head_len, edited.len(), "something follows the head");
    assert_eq!(again.method, request.method);
    assert_eq!(again.framing, request.framing);
    assert_eq!(again.upgrade, request.upgrade);
    assert_eq!(again.target.query, request.target.query);
    assert_only_edited(&Plain::split(&plain), &Plain::split(&edited), &edits);
}

/// What the gateway writes whatever a rule says.
const OWN: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// The fields after are those before, without those that are set or removed, and with those that
/// are set or added.
fn assert_only_edited(before: &Plain<'_>, after: &Plain<'_>, edits: &Edits<'_>) {
    // `_` and `-` are the same, because upstreams read them so.
    let folded = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    let named = |name: &str| {
        let set = edits.set.iter().map(|(name, _)| name);
        let mut names = set.chain(&edits.remove);
        !OWN.contains(&name) && names.any(|other| folded(other) == folded(name))
    };
    let kept = before
        .fields
        .iter()
        .filter(|(name, _)| !named(name) && name != "host");
    let mut expected: Vec<(String, &[u8])> = kept.cloned().collect();
    for (name, value) in edits.set.iter().chain(&edits.add) {
        expected.push((name.to_ascii_lowercase(), value.as_bytes().trim_ascii()));
    }
    let mut found = after.fields.clone();
    found.retain(|(name, _)| name != "host");
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let host = edits.host.map_or(before.one("host"), str::as_bytes);
    assert_eq!(after.one("host"), host);
}
