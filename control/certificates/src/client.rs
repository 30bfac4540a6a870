//! HTTP requests to directories and to whoever is asked about a name.
//!
//! Each request has a connection of its own: there are some ten of them for a certificate that
//! lasts for weeks, and a connection that is kept may be dead when the next one is made.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::{reading, reason};

/// Longest body of an answer: a chain of certificates has some ten thousand bytes.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long one request to a directory may take, from the name's look-up to the end of the answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// The URL has no host, or a scheme that is not spoken.
    #[error("{url} is no http or https URL with a host")]
    Url {
        /// What was asked for.
        url: String,
    },
    /// There is no connection.
    #[error("connecting to {host}")]
    Connect {
        /// Where.
        host: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The server is not verified, or speaks no TLS.
    #[error("speaking TLS with {host}")]
    Tls {
        /// Where.
        host: String,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The answer is no HTTP, or ended early.
    #[error("asking {host}")]
    Http {
        /// Where.
        host: String,
        /// What is wrong.
        source: legacy::Error,
    },
    /// The answer is too long, or ended early.
    #[error("reading the answer of {host}")]
    Body {
        /// Where.
        host: String,
        /// What is wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It took too long.
    #[error("{host} did not answer within {} s", timeout.as_secs())]
    Timeout {
        /// Where.
        host: String,
        /// How long that was.
        timeout: Duration,
    },
}

/// The server wants to be left alone (429 or 503).
#[derive(Debug, thiserror::Error)]
#[error("the directory asks for patience: {detail}")]
pub(crate) struct Busy {
    /// For how many seconds, if it says so.
    pub(crate) seconds: Option<u64>,
    /// What it says.
    detail: String,
}

/// The server refuses, and does not say why in the way that directories do (RFC 8555 section 6.7).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is {status} without a reason: is this a directory's URL?")]
struct NoReason {
    status: StatusCode,
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file with the roots cannot be read, or has none.
    #[error("reading the roots in {}", path.display())]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The versions of TLS do not go with the cryptography.
    #[error("preparing TLS")]
    Tls(#[source] rustls::Error),
}

/// Makes requests. Clones share what servers are verified by.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    timeout: Duration,
}

impl Client {
    /// One that verifies servers by the certificates that browsers trust.
    pub(crate) fn new() -> Result<Self, ClientError> {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        Self::by(RootCertStore::from_iter(roots))
    }

    /// One that verifies servers by the certificates in a PEM file.
    pub(crate) async fn trusting(roots: &Path) -> Result<Self, ClientError> {
        let pem = reading::file(roots, reading::PEM_BYTES_MAX).await;
        let found = pem.and_then(|pem| roots_of(&pem));
        Self::by(found.map_err(|source| ClientError::Roots {
            path: roots.to_owned(),
            source,
        })?)
    }

    fn by(roots: RootCertStore) -> Result<Self, ClientError> {
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(ClientError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self {
            http,
            timeout: REQUEST_TIMEOUT,
        })
    }

    /// The same with less patience, or more.
    pub(crate) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The status of a GET.
    pub(crate) async fn look(&self, url: &str) -> Result<StatusCode, RequestError> {
        let uri: Uri = url.parse().map_err(|_| RequestError::Url {
            url: reason::plain(url),
        })?;
        let mut request = Request::new(BodyWrapper::<Bytes>::default());
        *request.uri_mut() = uri;
        let answer = self.ask(request).await?;
        Ok(answer.status())
    }

    async fn ask(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, RequestError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        match timeout(self.timeout, self.exchange(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(RequestError::Timeout {
                host,
                timeout: self.timeout,
            }),
        }
    }

    async fn exchange(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Result<Response<Bytes>, RequestError> {
        let uri = request.uri();
        let spoken = [Scheme::HTTP, Scheme::HTTPS];
        let is_spoken = uri.scheme().is_some_and(|scheme| spoken.contains(scheme));
        let Some(host) = uri.host().filter(|_| is_spoken).map(str::to_owned) else {
            return Err(RequestError::Url {
                url: uri.to_string(),
            });
        };
        match self.http.request(request).await {
            Ok(answer) => collect(answer, &host).await,
            Err(error) => Err(RequestError::of(error, host)),
        }
    }
}

impl RequestError {
    /// Says how far it came.
    fn of(error: legacy::Error, host: String) -> Self {
        if !error.is_connect() {
            return Self::Http {
                host,
                source: error,
            };
        }
        if let Some(source) = behind::<rustls::Error>(&error) {
            let source = source.clone();
            return Self::Tls { host, source };
        }
        let source = match behind::<io::Error>(&error) {
            Some(found) => match found.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::new(found.kind(), found.to_string()),
            },
            None => io::Error::other(error),
        };
        Self::Connect { host, source }
    }
}

/// The first error of this kind in what is behind an error.
fn behind<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        // An error of the system hides what it is made of from `source`.
        let inside = cause.downcast_ref().and_then(io::Error::get_ref);
        next = match inside {
            Some(inside) if inside.is::<E>() => return inside.downcast_ref(),
            Some(inside) if inside.is::<io::Error>() => Some(inside),
            Some(_) | None => cause.source(),
        };
    }
    None
}

async fn collect(answer: Response<Incoming>, host: &str) -> Result<Response<Bytes>, RequestError> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|source| RequestError::Body {
        host: host.to_owned(),
        source,
    })?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let answer = client.ask(request).await;
            let answer = answer.map_err(|error| instant_acme::Error::Other(error.into()))?;
            if let Some(busy) = Busy::of(&answer) {
                return Err(instant_acme::Error::Other(busy.into()));
            }
            if let Some(error) = NoReason::of(&answer) {
                return Err(instant_acme::Error::Other(error.into()));
            }
            let (parts, body) = answer.into_parts();
            Ok(BytesResponse {
                parts,
                body: Box::new(body),
            })
        })
    }
}

impl Busy {
    fn of(answer: &Response<Bytes>) -> Option<Self> {
        let status = answer.status();
        if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        let after = answer.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok());
        let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("it does not say why");
        Some(Self {
            seconds: after.and_then(|after| seconds(after, SystemTime::now())),
            detail: reason::plain(detail),
        })
    }
}

impl NoReason {
    fn of(answer: &Response<Bytes>) -> Option<Self> {
        let status = answer.status();
        let is_refusal = status.is_client_error() || status.is_server_error();
        let problem: Result<Map<String, Value>, _> = serde_json::from_slice(answer.body());
        (is_refusal && problem.is_err()).then_some(Self { status })
    }
}

/// What `Retry-After` says: seconds, or a date (RFC 9110 section 10.2.3).
fn seconds(after: &str, now: SystemTime) -> Option<u64> {
    if let Ok(seconds) = after.trim().parse() {
        return Some(seconds);
    }
    let date = httpdate::parse_http_date(after.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default().as_secs())
}

fn roots_of(pem: &[u8]) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    if roots.is_empty() {
        return Err(io::Error::other("there is no certificate in it"));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn patience_is_asked_for_in_seconds_or_until_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(seconds(" 120", now), Some(120));
        let date = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(seconds(date, now), Some(60));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(0));
        assert_eq!(seconds("soon", now), None);
    }

    #[tokio::test]
    async fn no_connection_is_told_from_no_tls_and_from_no_answer() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = Client::new().unwrap();
        std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(b"SSH-2.0-no\r\n").unwrap();
            }
        });
        let tls = client.look(&format!("https://127.0.0.1:{port}/")).await;
        assert!(matches!(tls, Err(RequestError::Tls { .. })), "{tls:?}");
        let http = client.look(&format!("http://127.0.0.1:{port}/")).await;
        assert!(matches!(http, Err(RequestError::Http { .. })), "{http:?}");
        let nobody = client.look("http://127.0.0.1:1/").await.unwrap_err();
        let reason = reason::of(&nobody);
        assert_eq!(
            reason,
            "connecting to 127.0.0.1: Connection refused (os error 111)"
        );
        let other = client.look("ftp://127.0.0.1/").await;
        assert!(matches!(other, Err(RequestError::Url { .. })), "{other:?}");
    }

    #[test]
    fn a_refusal_has_a_reason_or_is_said_to_have_none() {
        let answer = |status, body: &'static str| {
            let mut answer = Response::new(Bytes::from(body));
            *answer.status_mut() = status;
            NoReason::of(&answer).map(|error| error.to_string())
        };
        let problem = r#"{ "type": "urn:ietf:params:acme:error:malformed" }"#;
        assert_eq!(answer(StatusCode::BAD_REQUEST, problem), None);
        assert_eq!(answer(StatusCode::NO_CONTENT, ""), None);
        // Its first word would be read as JSON.
        let page = answer(StatusCode::NOT_FOUND, "404 page not found").unwrap();
        assert!(page.contains("404 Not Found"), "{page}");
    }
}
