//! The plain relay on tokio: a current-thread runtime on each thread, as it shards best.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::BUFFER_BYTES;

pub(super) fn relay(listener: std::net::TcpListener, to: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("cannot start tokio")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            if let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, to));
            }
        }
    })
}

async fn serve(client: TcpStream, to: SocketAddr) {
    let Ok(upstream) = TcpStream::connect(to).await else {
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
    tokio::spawn(copy(from_upstream, to_client));
    copy(from_client, to_upstream).await;
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
