//! The gateway's API, as any program would ask it: HTTP/1.1 over its unix socket.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::DeserializeOwned;

/// Longest silence that is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest answer that is read, in bytes: two networks are told in a few thousand.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Where the API is.
#[derive(Clone, Debug)]
pub(super) struct Api {
    socket: PathBuf,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nobody listens, or the connection broke.
    #[error("speaking with the API")]
    Exchange(#[source] io::Error),
    /// The answer is not HTTP, or not whole.
    #[error("the API's answer is no whole HTTP message")]
    Message,
    /// The API says no.
    #[error("the API answers {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it says.
        body: String,
    },
    /// The answer is another one than this version of Ringway gives.
    #[error("the API's answer is not understood")]
    Form(#[source] serde_json::Error),
}

impl Api {
    pub(super) fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What a GET answers.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        read(&self.ask("GET", path, "")?)
    }

    /// What a POST of a JSON document answers.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &str,
    ) -> Result<T, ApiError> {
        read(&self.ask("POST", path, document)?)
    }

    /// Whether the gateway does what is desired; false as well while nobody listens.
    pub(super) fn is_ready(&self) -> Result<bool, ApiError> {
        match self.ask("GET", "/readyz", "") {
            Ok(_) => Ok(true),
            Err(ApiError::Exchange(_) | ApiError::Refused { status: 503, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ask(&self, method: &str, path: &str, document: &str) -> Result<String, ApiError> {
        let exchange = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let length = document.len();
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                 content-type: application/json\r\ncontent-length: {length}\r\n\r\n{document}"
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = exchange().map_err(ApiError::Exchange)?;
        let (status, body) = split(&answer).ok_or(ApiError::Message)?;
        let body = body.to_owned();
        match status {
            200 => Ok(body),
            status => Err(ApiError::Refused { status, body }),
        }
    }
}

/// The status and the body of a message that says how long it is.
fn split(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let length: usize = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, length)| length.trim().parse().ok())?;
    (body.len() == length).then_some((status.parse().ok()?, body))
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T, ApiError> {
    serde_json::from_str(body).map_err(ApiError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_message_is_an_answer() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(split(whole), Some((200, "{}")));
        for broken in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n",
            "SSH-2.0-x\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            assert_eq!(split(broken), None, "{broken:?}");
        }
    }
}
