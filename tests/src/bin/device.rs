//! Ringway's WireGuard device on its own, as `wireguard-go` is one: `device NAME` makes the link in
//! the namespace that it is started in, `wg` and `ip` configure it, and it ends with its standard
//! input. It does without the offloads that follow the name: `no-datagrams`, `no-segments` or
//! `no-link` (more and more of what the link does), `no-send`, `no-receive`.
#![forbid(unsafe_code)]

use std::{env, io, num::NonZeroUsize};

use anyhow::{Context as _, Result, bail};
use engine_sys::netns::Netns;
use engine_wireguard::{Key, Offload, Offloads, Open, Pool};

fn main() -> Result<()> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().context("which name is it to have?")?;
    let mut offloads = Offloads::ALL;
    for argument in arguments {
        match argument.as_str() {
            "no-datagrams" => offloads.link = Offload::TcpEcn,
            "no-segments" => offloads.link = Offload::Header,
            "no-link" => offloads.link = Offload::None,
            "no-send" => offloads.send = false,
            "no-receive" => offloads.receive = false,
            other => bail!("{other} is no offload"),
        }
    }
    let here = Netns::current()?;
    let pool = Pool::start(NonZeroUsize::MIN)?.with_offloads(offloads);
    let _device = pool.open(Open {
        name: &name,
        tenant: &here,
        host: &here,
        mtu: 1_420,
        listen_port: 0,
        private_key: Key::ZERO,
    })?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
