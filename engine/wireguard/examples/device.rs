//! A device on its own, as `wireguard-go` is one: `device NAME [WITHOUT…]` makes the link in the
//! namespace that it is started in, `wg` and `ip` configure it, and it ends with its standard input.
//! What it is to do without: `link`, `ecn`, `udp` (all, congestion marks, UDP: of the link's
//! super-packets), `send`, `receive`.

use std::{env, error::Error, io, num::NonZeroUsize};

use engine_sys::netns::Netns;
use engine_wireguard::{Key, Offload, Offloads, Open, Pool};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().ok_or("which name is it to have?")?;
    let mut offloads = Offloads::ALL;
    for without in arguments {
        match without.as_str() {
            "link" => offloads.link = Offload::None,
            "ecn" => offloads.link = offloads.link.min(Offload::Tcp),
            "udp" => offloads.link = offloads.link.min(Offload::TcpEcn),
            "send" => offloads.send = false,
            "receive" => offloads.receive = false,
            _ => {
                return Err(format!("nothing is called {without} that it could do without").into());
            }
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
