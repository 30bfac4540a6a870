//! Bodies that a network has in place of the gateway's own.

use std::{collections::BTreeMap, sync::Arc};

use crate::code::Code;

/// What a network answers in place of the gateway's own bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    pub(crate) pages: BTreeMap<u16, Page>,
}

/// A body, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its media type.
    pub content_type: Arc<str>,
    /// Its bytes.
    pub body: Arc<[u8]>,
}

/// Why a page cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// A status that the gateway does not answer with.
    #[error("the gateway never answers {status} by itself")]
    Status {
        /// The status.
        status: u16,
    },
    /// A media type with a control character, or none.
    #[error("the media type of the page for {status} is malformed")]
    ContentType {
        /// The page's status.
        status: u16,
    },
}

impl Pages {
    /// Puts a page in place of the body of all answers with a status.
    ///
    /// # Errors
    /// Says why a page cannot be used.
    pub fn insert(&mut self, status: u16, page: Page) -> Result<(), PageError> {
        if !Code::ALL.iter().any(|code| code.status() == status) {
            return Err(PageError::Status { status });
        }
        let media = page.content_type.as_bytes();
        if media.is_empty() || !media.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(PageError::ContentType { status });
        }
        self.pages.insert(status, page);
        Ok(())
    }
}
