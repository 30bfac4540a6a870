//! HTTP/2 on a connection: many requests at a time, each a task of its own.
//!
//! ```text
//!   connection's task:  ByteStream ◄► h2 ──► a stream ──► rt::spawn ─┐
//!   stream's task:  head ► decide ► admit ► exchange ► account ◄────┘
//! ```
//!
//! Frames, HPACK and flow control are h2's; what heads mean is engine-http's. Heads are written out
//! once as checked lines, so a request goes through the same rules as one of HTTP/1, and leaves in
//! the same form. Nothing runs but on the worker's own thread: h2's wake-ups come from there too.

pub(crate) mod session;
pub(crate) mod stream;
mod window;

use std::rc::Rc;

use bytes::Bytes;
use engine_core::outcome::Outcome;

use crate::{
    context::FlowContext,
    exchange::{client_info::ClientInfo, connection::Connection},
    front::http2::{session::Session, window::Window},
    transport::{
        http2::{
            ByteStream, SEND_BUFFER_BYTES,
            control_frames::{Allowance, Side},
            held::Held,
        },
        linger::{Linger, linger},
        read_ahead::ReadAhead,
    },
};

/// Serves a connection of HTTP/2, of which `ahead` was received.
pub(crate) async fn serve(
    connection: &Connection<'_>,
    client_info: ClientInfo,
    ahead: ReadAhead,
) -> Result<Outcome, Outcome> {
    let FlowContext {
        worker,
        listener,
        slot,
        ..
    } = connection.flow;
    let streams = connection.streams;
    // The waits below have deadlines of their own, and requests have theirs.
    slot.watch_idle(&worker.live, std::time::Duration::MAX);
    slot.closes_gracefully();
    let mut transport = ByteStream::new(Rc::clone(&streams.client), ahead);
    let flood = Rc::default();
    let allowance = Allowance::of(&worker.shared.limits.http2);
    transport.watch((Side::Client, allowance), Rc::clone(&flood));
    let left = transport.left();
    let held = Rc::new(Held::new(&worker.room));
    transport.hold(Rc::clone(&held));
    let limits = &worker.shared.limits.http2;
    let stream_window = limits.client_window(worker.room.level());
    let handshake = builder(connection, stream_window).handshake::<_, Bytes>(transport);
    let mut driver = slot
        .within(&worker.live, listener.hello_timeout, handshake)
        .await
        .map_err(|_| Outcome::HelloTimeout)?
        .map_err(|error| match error.is_io() {
            true => Outcome::ClientReset,
            false => Outcome::BadRequest,
        })?;
    let session = Rc::new(Session::new(connection, client_info, (flood, left, held)));
    let mut window = Window::new(&worker.room, stream_window);
    let outcome = session.run(connection, (&mut driver, &mut window)).await;
    // Ends the streams that are left.
    drop(driver);
    linger(connection, Linger::SHORT).await;
    Ok(outcome)
}

/// Streams that the gateway has reset, and that frames may still come for, which are remembered.
const RESETS_REMEMBERED_MAX: usize = 50;

/// Streams that a client has reset before the gateway looked at them. With more the connection ends
/// (CVE-2023-44487).
const UNSEEN_RESETS_MAX: usize = 20;

/// Streams of a connection that the gateway has reset because of the client's errors. With more the
/// connection ends (CVE-2025-8671).
const ERRORS_MAX: usize = 1024;

/// Memory for the fields that a client refers back to (RFC 7541 section 4.2), the default of RFC
/// 9113 section 6.5.2.
const HEADER_TABLE_BYTES: u32 = 4096;

/// How h2 treats clients. What it does by default anyway is said here as well.
fn builder(connection: &Connection<'_>, stream_window: u32) -> h2::server::Builder {
    let worker = connection.worker;
    let limits = &worker.shared.limits;
    let head_max = u32::try_from(limits.http_head.head_bytes_max).unwrap_or(u32::MAX);
    let small = usize::try_from(limits.http2.connection_window / 2).unwrap_or(usize::MAX);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.http2.streams_max)
        .initial_window_size(stream_window)
        .data_frame_budget(small)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(head_max)
        .header_table_size(HEADER_TABLE_BYTES)
        .max_concurrent_reset_streams(RESETS_REMEMBERED_MAX)
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .enable_connect_protocol();
    builder
}
