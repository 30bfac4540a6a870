//! The body of a request: a document, of bounded size, in bounded time, in bounded memory.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::BodyExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    refusal::Refusal,
    room::Work,
    shared::{BODY_UNIT_BYTES, Shared},
};

/// A document that was sent, and the memory that it may take.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) text: String,
    pub(crate) memory: Option<OwnedSemaphorePermit>,
}

impl FromRequest<Arc<Shared>> for Document {
    type Rejection = Refusal;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        refuse_encoded(request.headers())?;
        let limits = &shared.settings.limits;
        let max = limits.body_bytes_max.in_memory();
        let declared = request.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse().ok());
        if declared.is_some_and(|bytes: usize| bytes > max) {
            return Err(too_large(max));
        }
        // Half a document is no request yet: its connection may have to give way.
        let work = request.extensions().get::<Arc<Work>>().cloned();
        let _reading = work.as_ref().map(Work::read_body);
        let collected = collect(request.into_body(), max, &shared.body_units);
        let Ok(collected) = timeout(limits.body_timeout, collected).await else {
            return Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                "the body of the request did not come in time",
            ));
        };
        let (bytes, memory) = collected?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Refusal::bad_request(format!("the body is not UTF-8 from its byte {at} on"))
        })?;
        Ok(Self { text, memory })
    }
}

/// A document is taken as it is: one that is said to be encoded would be read as something else (RFC 9110
/// section 8.4).
fn refuse_encoded(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let error = "a document is taken without `Content-Encoding`";
    Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error))
}

async fn collect(
    mut body: Body,
    max: usize,
    units: &Arc<Semaphore>,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Refusal> {
    let mut bytes = Vec::new();
    let mut memory: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Refusal::bad_request(format!("the body of the request broke off: {error}"))
        })?;
        // Trailers say nothing that is needed.
        let data: Bytes = frame.into_data().unwrap_or_default();
        if bytes.len() + data.len() > max {
            return Err(too_large(max));
        }
        let has = memory.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let needed = (bytes.len() + data.len()).div_ceil(BODY_UNIT_BYTES);
        let more = u32::try_from(needed.saturating_sub(has)).unwrap_or(u32::MAX);
        let more = Arc::clone(units)
            .try_acquire_many_owned(more)
            .map_err(|_none_left| Refusal::unavailable("too many large requests at once"))?;
        match &mut memory {
            Some(memory) => memory.merge(more),
            None => memory = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, memory))
}

fn too_large(max: usize) -> Refusal {
    let error = format!("the body of a request has at most {max} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoded_document_is_not_taken_for_a_plain_one() {
        let with = |encodings: &[&'static str]| {
            let named =
                |encoding: &&'static str| (header::CONTENT_ENCODING, encoding.parse().unwrap());
            refuse_encoded(&encodings.iter().map(named).collect())
        };
        for fine in [&[][..], &["identity"], &["Identity"]] {
            assert!(with(fine).is_ok(), "{fine:?}");
        }
        for encoded in [&["gzip"][..], &["identity", "br"], &["identity, gzip"]] {
            assert!(with(encoded).is_err(), "{encoded:?}");
        }
    }
}
