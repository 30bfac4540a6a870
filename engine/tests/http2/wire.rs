//! What clients of HTTP/2 and upstreams of HTTP/1 do again and again.

use std::{
    io,
    net::{TcpListener, TcpStream},
    thread,
};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

/// Serves each connection of an upstream by a thread of its own.
pub(crate) fn serve(listener: TcpListener, each: impl Fn(TcpStream) + Clone + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(stream));
        }
    });
}

/// Reads a head with its empty line; `None` at the end of the connection.
pub(crate) fn head(reader: &mut impl io::BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// All content of a response, and its trailers.
pub(crate) async fn whole(mut content: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(piece) = content.data().await {
        let piece = piece.unwrap();
        bytes.extend_from_slice(&piece);
        content
            .flow_control()
            .release_capacity(piece.len())
            .unwrap();
    }
    (bytes, content.trailers().await.unwrap())
}

/// Sends all of it, as the windows allow.
pub(crate) async fn send_all(stream: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.unwrap().unwrap().min(bytes.len());
        stream.send_data(bytes.split_to(room), false).unwrap();
    }
}
