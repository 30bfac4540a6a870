//! One question without content, on a connection of its own: what health checks are.

use std::{
    cell::Cell,
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;

use crate::transport::{
    Transport,
    http2::{
        ByteStream,
        control_frames::{Allowance, Side},
    },
    read_ahead::ReadAhead,
};

/// What an upstream may send besides its answer.
const ALLOWANCE: Allowance = Allowance {
    burst: 100,
    per_second: 10,
};

/// Asks, and gives the status of the final answer. How long that may take is the caller's to say, who
/// drops this then; the connection ends with it.
///
/// # Errors
/// When the connection breaks, or what comes is not HTTP/2.
pub(crate) async fn ask(
    transport: Transport,
    question: http::Request<()>,
    head_bytes_max: usize,
) -> io::Result<u16> {
    let mut stream = ByteStream::new(Rc::new(transport), ReadAhead::default());
    let flood = Rc::<Cell<_>>::default();
    stream.watch((Side::Upstream, ALLOWANCE), Rc::clone(&flood));
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX));
    let handshake = builder.handshake::<_, Bytes>(stream);
    let (mut sender, mut driver) = handshake.await.map_err(io::Error::other)?;
    let asked = sender.send_request(question, true);
    let (mut answer, _) = asked.map_err(io::Error::other)?;
    poll_fn(|cx| {
        let over = match Pin::new(&mut driver).poll(cx) {
            Poll::Ready(Ok(())) => Some(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Err(error)) => Some(io::Error::other(error)),
            Poll::Pending => flood.get().map(io::Error::other),
        };
        match (Pin::new(&mut answer).poll(cx), over) {
            (Poll::Ready(answer), _) => {
                let status = answer.map(|answer| answer.status().as_u16());
                Poll::Ready(status.map_err(io::Error::other))
            }
            (Poll::Pending, Some(error)) => Poll::Ready(Err(error)),
            (Poll::Pending, None) => Poll::Pending,
        }
    })
    .await
}
