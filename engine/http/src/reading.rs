//! What the bytes of a head amount to so far.

use crate::{refusal::Refusal, scan::Ended};

/// The result of reading a head. Everything but [`Reading::NeedMore`] is final: it does not depend
/// on what follows, nor on how the bytes were cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// The beginning of a head.
    NeedMore,
    /// A whole head.
    Head(T),
    /// No head that is taken.
    Refused(Refusal),
}

impl<T> Reading<T> {
    /// Reads the head that a scan found.
    pub(crate) fn of(ended: Ended, read: impl FnOnce(usize, usize) -> Result<T, Refusal>) -> Self {
        match ended {
            Ended::NeedMore => Self::NeedMore,
            Ended::Refused(refusal) => Self::Refused(refusal),
            Ended::Head { start, end } => match read(start, end) {
                Ok(head) => Self::Head(head),
                Err(refusal) => Self::Refused(refusal),
            },
        }
    }
}
