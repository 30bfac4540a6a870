//! A message, and where its content ends.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// A request or an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first line.
    pub line: String,
    /// Names as they were written, and values.
    pub fields: Vec<(String, String)>,
    /// The content, without its framing.
    pub body: Vec<u8>,
    /// Fields behind chunked content.
    pub trailers: Vec<(String, String)>,
}

/// Where the content of a message ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// Behind the last chunk.
    Chunked,
    /// With the connection.
    UntilEnd,
}

impl Message {
    /// The method of a request.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of an answer.
    ///
    /// # Errors
    /// When its first line is not a status line.
    pub fn status(&self) -> Result<u16> {
        let rest = self.line.strip_prefix("HTTP/1.1 ");
        let rest = rest.with_context(|| format!("the status line {:?}", self.line))?;
        let (status, _) = rest
            .split_once(' ')
            .with_context(|| format!("the status line {:?}", self.line))?;
        ensure!(status.len() == 3, "the status {status:?}");
        Ok(status.parse()?)
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter();
        let named = named.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field; `None` where it is not there, or several times.
    pub fn field(&self, name: &str) -> Option<&str> {
        match *self.all(name) {
            [value] => Some(value),
            _ => None,
        }
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The content as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// Makes sure of the status.
    ///
    /// # Errors
    /// When it is another one.
    pub fn expect(&self, status: u16) -> Result<&Self> {
        ensure!(self.status()? == status, "{}: {}", self.line, self.text());
        Ok(self)
    }

    /// Whether the connection ends with this message.
    pub fn closes(&self) -> bool {
        let options = self.all("connection");
        let mut options = options.iter().flat_map(|value| value.split(','));
        options.any(|option| option.trim().eq_ignore_ascii_case("close"))
    }

    fn content(&self) -> Result<Option<Content>> {
        let (lengths, codings) = (self.all("content-length"), self.all("transfer-encoding"));
        Ok(match (&*lengths, &*codings) {
            ([], []) => None,
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Some(Content::Chunked),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(Content::Length(length.parse()?))
            }
            _ => bail!("ambiguous framing: {:?}", self.fields),
        })
    }
}

impl Content {
    /// Of a request.
    ///
    /// # Errors
    /// When its fields leave room for two opinions.
    pub fn of_request(request: &Message) -> Result<Self> {
        Ok(request.content()?.unwrap_or(Self::None))
    }

    /// Of the answer to a method.
    ///
    /// # Errors
    /// When its fields leave room for two opinions.
    pub fn of_answer(answer: &Message, method: &str) -> Result<Self> {
        let status = answer.status()?;
        let declared = answer.content()?;
        let none = status < 200 || matches!(status, 204 | 304) || method == "HEAD";
        if status < 200 || status == 204 {
            ensure!(declared.is_none(), "{status} with content: {answer:?}");
        }
        Ok(match declared {
            _ if none => Self::None,
            Some(content) => content,
            None => Self::UntilEnd,
        })
    }
}
