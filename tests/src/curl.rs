//! The API as scripts use it: with curl.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{api::Answer, tool::Tool};

/// Where requests go, and what they carry.
#[derive(Clone, Debug)]
pub struct Curl {
    base: String,
    options: Vec<String>,
}

impl Curl {
    /// To the API behind a socket.
    pub fn through(socket: &Path) -> Self {
        Self {
            base: "http://localhost".to_owned(),
            options: vec!["--unix-socket".to_owned(), socket.display().to_string()],
        }
    }

    /// To the API at an address, such as `http://127.0.0.1:8080`.
    pub fn to(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            options: Vec::new(),
        }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, header: &str) -> Self {
        self.options
            .extend(["--header".to_owned(), header.to_owned()]);
        self
    }

    /// With a token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header(&format!("Authorization: Bearer {token}"))
    }

    /// Asks, and answers whatever comes. The path goes out as it is written.
    ///
    /// # Errors
    /// When no HTTP answer comes.
    pub fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
        let mut curl = Tool::new(
            "curl",
            "--silent --show-error --include --max-time 30 --path-as-is",
        );
        curl = curl.argument("--request").argument(method);
        for option in &self.options {
            curl = curl.argument(option);
        }
        if body.is_some() {
            curl = curl.argument("--data-binary").argument("@-");
            curl = curl
                .argument("--header")
                .argument("Content-Type: application/json");
        }
        let said = curl
            .argument(format!("{}{path}", self.base))
            .run_on(body.unwrap_or_default())?;
        let (head, body) = said.split_once("\r\n\r\n").context("no head")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok(Answer {
            status,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    /// What a GET answers with 200, as JSON.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, None)?
            .ok()
            .with_context(|| path.to_owned())
    }

    /// What a request that changes something answers with 200.
    ///
    /// # Errors
    /// When it is refused.
    pub fn change(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string);
        let answer = self.ask(method, path, body.as_deref())?;
        answer.ok().with_context(|| format!("{method} {path}"))
    }

    /// Makes sure that a request is refused with this status, in the form that all refusals have.
    ///
    /// # Errors
    /// When it is not.
    pub fn refuse(
        &self,
        status: u16,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> Result<Value> {
        let answer = self.ask(method, path, body)?;
        ensure!(
            answer.status == status,
            "{method} {path}: {}: {}",
            answer.status,
            answer.body
        );
        let refusal = answer.json()?;
        let is_whole = refusal["error"].is_string() && refusal["problems"].is_array();
        ensure!(is_whole, "{method} {path}: {refusal}");
        Ok(refusal)
    }
}
