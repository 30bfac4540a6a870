//! A device on its own, as `wireguard-go` is one: `device NAME` makes the link in the namespace that
//! it is started in, `wg` and `ip` configure it, and it ends with its standard input.

use std::{env, error::Error, io, num::NonZeroUsize};

use engine_sys::netns::Netns;
use engine_wireguard::{Key, Open, Pool};

fn main() -> Result<(), Box<dyn Error>> {
    let name = env::args().nth(1).ok_or("which name is it to have?")?;
    let here = Netns::current()?;
    let pool = Pool::start(NonZeroUsize::MIN)?;
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
