//! Requests that are taken, and more that are not.

mod accepted;
mod properties;
mod refused;

use super::*;

pub(super) fn read_with<'a>(bytes: &'a [u8], limits: &Limits) -> Reading<Request<'a>> {
    read(bytes, limits, &mut Scan::default())
}

pub(super) fn refusal(bytes: &[u8]) -> Result<Request<'_>, Refusal> {
    match read_with(bytes, &Limits::default()) {
        Reading::Head(request) => Ok(request),
        Reading::Refused(refusal) => Err(refusal),
        Reading::NeedMore => panic!("{:?} is not whole", String::from_utf8_lossy(bytes)),
    }
}
