//! The plain relay on tokio-uring: a baseline, nothing more; it has no maintainer.

use std::{
    net::{Shutdown, SocketAddr},
    rc::Rc,
};

use anyhow::Result;
use tokio_uring::{
    buf::BoundedBuf,
    net::{TcpListener, TcpStream},
};

use super::{BUFFER_BYTES, RING_ENTRIES};

pub(super) fn relay(listener: std::net::TcpListener, to: SocketAddr) -> Result<()> {
    tokio_uring::builder().entries(RING_ENTRIES).start(async {
        let listener = TcpListener::from_std(listener);
        loop {
            if let Ok((client, _)) = listener.accept().await {
                tokio_uring::spawn(serve(client, to));
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
    let (client, upstream) = (Rc::new(client), Rc::new(upstream));
    tokio_uring::spawn(copy(Rc::clone(&upstream), Rc::clone(&client)));
    copy(client, upstream).await;
}

async fn copy(from: Rc<TcpStream>, to: Rc<TcpStream>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let (read, back) = from.read(buffer).await;
        let Ok(count @ 1..) = read else {
            break;
        };
        let (written, back) = to.write_all(back.slice(..count)).await;
        if written.is_err() {
            break;
        }
        buffer = back.into_inner();
    }
    let _ = to.shutdown(Shutdown::Write);
}
