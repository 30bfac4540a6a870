//! A document beside the desired state, in the same words.

use control_api::state::{self, KEPT};
use serde_json::Value;

/// 32 bytes that are a key of nobody's. Rendered again, it is masked.
const ANY_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// The document as the API would answer it once it is applied: the bare map, defaults written out
/// and secrets masked. Nothing when it is not one that this version reads; the API has said then
/// what is wrong with it.
pub(super) fn as_answered(document: &[u8]) -> Option<Value> {
    let mut document: Value = serde_json::from_slice(document).ok()?;
    replace_kept(&mut document);
    let valid = state::parse_masked(&document.to_string()).ok()?;
    Some(valid.value.render_masked())
}

/// What is kept is known to the gateway alone, and is masked in both documents.
fn replace_kept(value: &mut Value) {
    match value {
        Value::String(text) if text == KEPT => ANY_KEY.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(replace_kept),
        // Rules may have anything to keep.
        Value::Object(members) => {
            let others = members.iter_mut().filter(|(key, _)| *key != "routes");
            others.for_each(|(_, member)| replace_kept(member));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_answers_reads_as_itself() {
        let answer = r#"{"51820":{"address":["10.0.0.1/24"],"mtu":1420,"peers":{},
            "private_key":"(kept)","proxy":{"https://a.example.com":["10.0.0.2:443"]}}}"#;
        let read: Value = serde_json::from_str(answer).unwrap();
        assert_eq!(as_answered(answer.as_bytes()), Some(read));
    }

    #[test]
    fn a_document_with_problems_is_the_apis_to_judge() {
        assert_eq!(as_answered(b"{"), None);
        assert_eq!(as_answered(br#"{"0": {}}"#), None);
    }
}
