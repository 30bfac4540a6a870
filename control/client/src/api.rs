//! The API as its client sees it: one request over one connection, one bounded answer.

mod address;
mod connection;
mod error;
mod query;
mod token;

pub(crate) use self::{
    address::Address,
    error::{ApiError, Refusal},
    query::Query,
    token::{Token, TokenError},
};

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
};
use serde::de::DeserializeOwned;

use self::connection::{Cause, Client, client};
use crate::{console::note, show::printable};

/// Bytes of an answer. A day of fine rows of a thousand peers is some 60 MiB; who needs more asks
/// for a shorter span, or for hours.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What came of a change before this one, which took longer than its client waited.
const EARLIER_CHANGE: &str = "ringway-earlier-change";

/// Where the API is, what opens it, and how long one request may take.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    address: Address,
    client: Client,
    token: Option<Token>,
    timeout: Duration,
}

/// One request, without what every request has.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(header::HeaderName, String)>,
    pub(crate) body: Bytes,
}

/// An answer with a status of 2xx.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            target: target.into(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn post(target: impl Into<String>, body: Bytes) -> Self {
        Self {
            method: Method::POST,
            target: target.into(),
            headers: Vec::new(),
            body,
        }
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Answer {
    /// The answer as a value.
    ///
    /// # Errors
    /// When it is not of that form: another version of Ringway answers, or another program.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(ApiError::Form)
    }
}

impl Api {
    /// The API at `address`; nothing is connected yet.
    pub(crate) fn new(address: Address, token: Option<Token>, timeout: Duration) -> Self {
        Self {
            client: client(&address),
            address,
            token,
            timeout,
        }
    }

    /// Asks and reads the whole answer, within the timeout.
    ///
    /// # Errors
    /// Says whether the API could not be reached, or what it refused.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, ApiError> {
        let exchange = async {
            let response = self.send(call).await?;
            let status = response.status();
            if let Some(outcome) = response.headers().get(EARLIER_CHANGE) {
                let outcome = String::from_utf8_lossy(outcome.as_bytes());
                note(&format!(
                    "an earlier change that was not answered in time: {}",
                    printable(&outcome)
                ));
            }
            let body = self.collect(response.into_body()).await?;
            if status.is_success() {
                Ok(Answer { body })
            } else {
                Err(ApiError::Refused(Refusal::read(status, body)))
            }
        };
        self.within(exchange).await
    }

    /// Asks for an answer that does not end; the timeout holds for its beginning.
    ///
    /// # Errors
    /// As [`Api::call`].
    pub(crate) async fn open(&self, call: Call) -> Result<Incoming, ApiError> {
        let exchange = async {
            let response = self.send(call).await?;
            let status = response.status();
            if status == StatusCode::OK {
                return Ok(response.into_body());
            }
            let body = self.collect(response.into_body()).await?;
            Err(ApiError::Refused(Refusal::read(status, body)))
        };
        self.within(exchange).await
    }

    async fn within<T>(
        &self,
        exchange: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| {
                Err(ApiError::Late {
                    address: self.address.clone(),
                    timeout: self.timeout,
                })
            })
    }

    async fn send(&self, call: Call) -> Result<Response<Incoming>, ApiError> {
        let request = self.request(call)?;
        let sent = self.client.request(request).await;
        sent.map_err(Cause::of).map_err(|source| {
            let address = self.address.clone();
            match source.is_connect() {
                true => ApiError::Connect { address, source },
                false => ApiError::Exchange { address, source },
            }
        })
    }

    fn request(&self, call: Call) -> Result<Request<Full<Bytes>>, ApiError> {
        let mut request = Request::builder()
            .method(call.method)
            .uri(format!("http://{}{}", self.address.host(), call.target))
            .header(
                header::USER_AGENT,
                concat!("ringway/", env!("CARGO_PKG_VERSION")),
            );
        if !call.body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.bearer());
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(call.body)).map_err(ApiError::Ask)
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, ApiError> {
        match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(ApiError::Long {
                limit: ANSWER_BYTES_MAX,
            }),
            Err(source) => Err(ApiError::Broken {
                address: self.address.clone(),
                source,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
