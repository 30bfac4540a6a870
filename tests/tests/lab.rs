//! The lab itself: what the other suites stand on.

use std::{
    net::{SocketAddr, TcpStream},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use tests::{
    lab::{Lab, MACHINE, MACHINE_V6, TENANT},
    server::Server,
    stream, tests, tls,
};

fn main() -> ExitCode {
    tests::runner::main(tests![
        tenants_with_the_same_addresses_do_not_see_each_other
    ])
}

fn tenants_with_the_same_addresses_do_not_see_each_other(lab: &mut Lab) -> Result<()> {
    let client = lab.authority().client()?;
    for (port, name) in [(51_820, "blue.example"), (51_821, "green.example")] {
        let tenant = lab.tenant(port)?;
        let site = tls::site(lab.authority().server(name)?, name);
        let server = Server::start(tenant.listen(443)?, site)?;
        for address in [MACHINE.into(), MACHINE_V6.into()] {
            let dial = || Ok(TcpStream::connect(SocketAddr::new(address, 443))?.into());
            let dialed = TcpStream::from(tenant.netns.enter(dial)?);
            stream::patient(&dialed)?;
            ensure!(tls::get(&client, name, dialed)? == name);
        }
        // Connections are told in the order in which they end.
        let seen = [server.next()?, server.next()?].map(|from| from.ip().to_canonical());
        ensure!(seen.contains(&TENANT.into()), "the machine saw {seen:?}");
    }
    Ok(())
}
