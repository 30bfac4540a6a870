//! Answers of HTTP/1.1 as clients of this bench read them: whole once their body is as long as
//! their head says.

use anyhow::{Context, Result, bail};

/// What a whole answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Bytes of head and body.
    pub(crate) length: usize,
    pub(crate) status: u16,
    /// Bytes of the head, its empty line included.
    pub(crate) head: usize,
}

/// The answer that `read` begins with; `None` while its head or its body is not all there.
///
/// # Errors
/// When it is no answer of HTTP, or does not say how long it is.
pub(crate) fn whole(read: &[u8]) -> Result<Option<Whole>> {
    let Some(head) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&read[..head]);
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|line| line.get(..3));
    let Some(status) = status.and_then(|status| status.parse().ok()) else {
        bail!("the answer is {line:?}");
    };
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let (_, length) = fields
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .context("the answer does not say how long it is")?;
    let body: usize = length.trim().parse().context("the length is no number")?;
    let head = head + 4;
    let length = head + body;
    Ok((read.len() >= length).then_some(Whole {
        length,
        status,
        head,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP";
        for cut in [0, 20, 40, text.len() - 5] {
            assert_eq!(whole(&text[..cut]).unwrap(), None, "{cut}");
        }
        let read = whole(text).unwrap().unwrap();
        assert_eq!(&text[read.head..read.length], b"first");
        assert_eq!(read.status, 200);
    }

    #[test]
    fn an_answer_that_does_not_say_how_long_it_is_is_none() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(whole(chunked).is_err());
        assert!(whole(b"SSH-2.0-x\r\n\r\n").is_err());
    }
}
