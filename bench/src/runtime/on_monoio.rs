//! The plain relay on monoio.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use monoio::{
    IoUringDriver, LegacyDriver, RuntimeBuilder,
    io::{
        AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, OwnedReadHalf, OwnedWriteHalf, Splitable,
    },
    net::{TcpListener, TcpStream},
};

use super::{BUFFER_BYTES, RING_ENTRIES};

pub(super) fn relay_on_ring(
    listener: std::net::TcpListener,
    to: SocketAddr,
    product_flags: bool,
) -> Result<()> {
    let mut flags = io_uring::IoUring::builder();
    if product_flags {
        engine_sys::probe::ring_flags(&mut flags);
    }
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(RING_ENTRIES)
        .uring_builder(flags)
        .build()
        .context("cannot start monoio on io_uring")?;
    runtime.block_on(accept(listener, to))
}

pub(super) fn relay_on_epoll(listener: std::net::TcpListener, to: SocketAddr) -> Result<()> {
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
        .build()
        .context("cannot start monoio on epoll")?;
    runtime.block_on(accept(listener, to))
}

async fn accept(listener: std::net::TcpListener, to: SocketAddr) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        if let Ok((client, _)) = listener.accept().await {
            monoio::spawn(serve(client, to));
        }
    }
}

async fn serve(client: TcpStream, to: SocketAddr) {
    let Ok(upstream) = TcpStream::connect_addr(to).await else {
        return;
    };
    if client
        .set_nodelay(true)
        .and(upstream.set_nodelay(true))
        .is_err()
    {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    monoio::spawn(copy(from_upstream, to_client));
    copy(from_client, to_upstream).await;
}

async fn copy(mut from: OwnedReadHalf<TcpStream>, mut to: OwnedWriteHalf<TcpStream>) {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let (read, back) = from.read(buffer).await;
        if !matches!(read, Ok(1..)) {
            break;
        }
        let (written, back) = to.write_all(back).await;
        if written.is_err() {
            break;
        }
        buffer = back;
        buffer.clear();
    }
    let _ = to.shutdown().await;
}
