//! A server for tests: real HTTP over a real socket, with answers that a test sets.

use std::{
    cell::RefCell,
    convert::Infallible,
    io::Write,
    rc::Rc,
    sync::{Arc, Mutex},
};

use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};

use crate::api::Address;

/// What is answered to the next requests.
#[derive(Clone, Debug)]
enum Play {
    Answer(u16, &'static str, String),
    Silence,
    BreakOff,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Method and target.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
struct Scene {
    /// The first is taken by the next request; the last one stays.
    plays: Vec<Play>,
    asked: Vec<Asked>,
}

/// A server that ends with the test.
#[derive(Debug)]
pub(crate) struct Stage {
    address: Address,
    scene: Arc<Mutex<Scene>>,
    accepting: JoinHandle<()>,
    _folder: Option<tempfile::TempDir>,
}

impl Stage {
    pub(crate) async fn tcp() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let scene = Scene::new();
        let playing = scene.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(play(stream, playing.clone()));
            }
        });
        Self {
            address,
            scene,
            accepting,
            _folder: None,
        }
    }

    pub(crate) fn unix() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let scene = Scene::new();
        let playing = scene.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(play(stream, playing.clone()));
            }
        });
        Self {
            address: Address::Unix(path),
            scene,
            accepting,
            _folder: Some(folder),
        }
    }

    pub(crate) fn address(&self) -> Address {
        self.address.clone()
    }

    /// From now on, this is answered.
    pub(crate) fn answer(&self, status: u16, body: impl Into<String>) {
        self.set(vec![Play::Answer(status, "application/json", body.into())]);
    }

    /// These are answered one after the other; the last one again and again.
    pub(crate) fn answers(&self, bodies: &[&str]) {
        let answers = bodies
            .iter()
            .map(|body| Play::Answer(200, "application/json", (*body).to_owned()));
        self.set(answers.collect());
    }

    /// Streams of events, each of which ends; the last one again and again.
    pub(crate) fn streams(&self, bodies: &[&str]) {
        let streams = bodies
            .iter()
            .map(|body| Play::Answer(200, "text/event-stream", (*body).to_owned()));
        self.set(streams.collect());
    }

    pub(crate) fn keep_silent(&self) {
        self.set(vec![Play::Silence]);
    }

    pub(crate) fn break_off(&self) {
        self.set(vec![Play::BreakOff]);
    }

    /// The requests since the last time.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        std::mem::take(&mut self.scene.lock().unwrap().asked)
    }

    /// Listens no more.
    pub(crate) async fn end(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }

    fn set(&self, plays: Vec<Play>) {
        self.scene.lock().unwrap().plays = plays;
    }
}

impl Scene {
    fn new() -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            plays: Vec::new(),
            asked: Vec::new(),
        }))
    }

    fn next(&mut self) -> Play {
        match self.plays.len() {
            0 => Play::Silence,
            1 => self.plays[0].clone(),
            _ => self.plays.remove(0),
        }
    }
}

async fn play(mut stream: impl AsyncRead + AsyncWrite + Unpin, scene: Arc<Mutex<Scene>>) {
    let next = scene.lock().unwrap().next();
    if let Play::BreakOff = next {
        // An answer before the question would be none.
        let _ = stream.read(&mut [0; 4096]).await;
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
        let _ = stream.write_all(half).await;
        return;
    }
    let answer = service_fn(|request| answer(request, next.clone(), scene.clone()));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    play: Play,
    scene: Arc<Mutex<Scene>>,
) -> Result<Response<Full<hyper::body::Bytes>>, Infallible> {
    let line = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let headers = headers.collect();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    scene.lock().unwrap().asked.push(Asked {
        line,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let Play::Answer(status, kind, body) = play else {
        return std::future::pending().await;
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", kind);
    Ok(response.body(Full::new(body.into())).unwrap())
}

/// What was written, kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(Rc<RefCell<Vec<u8>>>);

impl Written {
    /// What was written since the last time.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.take()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
