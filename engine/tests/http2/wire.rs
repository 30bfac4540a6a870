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

/// Frames of HTTP/2 as bytes (RFC 9113 section 6), where what is done is what h2 would not do.
pub(crate) mod frames {
    use std::{
        io::{self, Read as _, Write as _},
        net::{Shutdown, TcpListener, TcpStream},
        thread,
    };

    pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;

    /// END_STREAM, and ACK of SETTINGS and PING.
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;

    /// SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2).
    pub(crate) fn window(size: u32) -> Vec<u8> {
        [&[0, 4][..], &size.to_be_bytes()].concat()
    }

    /// The head of `GET` for a short path of `http://a.example`, by the static table (RFC 7541 appendix
    /// A).
    pub(crate) fn get(path: &str) -> Vec<u8> {
        let length = u8::try_from(path.len()).unwrap();
        [
            b"\x82\x86\x41\x09a.example\x04",
            &[length][..],
            path.as_bytes(),
        ]
        .concat()
    }

    /// `:status: 200`, by the static table (RFC 7541 appendix A).
    pub(crate) const STATUS_200: &[u8] = b"\x88";

    pub(crate) struct Frame {
        pub(crate) kind: u8,
        pub(crate) flags: u8,
        pub(crate) stream: u32,
        pub(crate) payload: Vec<u8>,
    }

    pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    pub(crate) fn next(from: &mut impl io::Read) -> io::Result<Frame> {
        let mut head = [0; 9];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        from.read_exact(&mut payload)?;
        Ok(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..9].try_into().unwrap()),
            payload,
        })
    }

    /// What has to be answered whatever it is about: settings and pings.
    pub(crate) fn duty(frame_: &Frame) -> Vec<u8> {
        match frame_.kind {
            SETTINGS | PING if frame_.flags & END_STREAM == 0 => {
                let payload: &[u8] = match frame_.kind {
                    PING => &frame_.payload,
                    _ => &[],
                };
                frame(frame_.kind, END_STREAM, 0, payload)
            }
            _ => Vec::new(),
        }
    }

    /// What is sent for a frame; an error is the last that is sent at all.
    pub(crate) type Reply = Result<Vec<u8>, Vec<u8>>;

    /// Serves each connection by a thread, which replies to its frames by what is made for it.
    pub(crate) fn serve<F>(listener: TcpListener, make: impl Fn() -> F + Send + 'static)
    where
        F: FnMut(&Frame) -> Reply + Send + 'static,
    {
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let each = make();
                thread::spawn(move || drop(run(&stream, each)));
            }
        });
    }

    fn run(stream: &TcpStream, mut each: impl FnMut(&Frame) -> Reply) -> io::Result<()> {
        let mut reader = io::BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        reader.read_exact(&mut vec![0; PREFACE.len()])?;
        writer.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        loop {
            let frame = next(&mut reader)?;
            writer.write_all(&duty(&frame))?;
            match each(&frame) {
                Ok(bytes) => writer.write_all(&bytes)?,
                Err(last) => {
                    writer.write_all(&last)?;
                    stream.shutdown(Shutdown::Write)?;
                    // With bytes unread, the kernel would throw away what was not sent yet.
                    return io::copy(&mut reader, &mut io::sink()).map(drop);
                }
            }
        }
    }
}
