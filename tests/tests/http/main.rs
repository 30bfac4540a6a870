//! What the HTTP proxy promises, seen from outside: strict peers on both sides, real programs, and
//! the real gateway between them. Each part of the promise is one module; every test runs on both
//! drivers.

mod content;
mod differential;
mod exchange;
mod floods;
mod heads;
mod http2;
mod keep_alive;
mod life;
mod limits;
mod names;
mod parts;
mod requests;
mod responses;
mod routes;
mod targets;
mod upgrade;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use serde_json::json;
use tests::{
    gateway::Gateway,
    http::{Message, Then, Upstream, Wire},
    lab::{Lab, http},
};

/// The host that most requests ask for.
const NAME: &str = "blue.example";

fn main() -> ExitCode {
    tests::runner::main(
        &[
            keep_alive::TESTS,
            exchange::TESTS,
            heads::TESTS,
            content::TESTS,
            upgrade::TESTS,
            limits::TESTS,
            requests::TESTS,
            responses::TESTS,
            life::TESTS,
            parts::TESTS,
            differential::TESTS,
            http2::TESTS,
            floods::TESTS,
            routes::TESTS,
            names::TESTS,
            targets::TESTS,
        ]
        .concat(),
    )
}

/// One worker, one tenant, and an upstream of its that serves [`NAME`].
fn serve(
    lab: &mut Lab,
    keys: serde_json::Value,
    answer: impl Fn(&Message, &mut Wire) -> Result<Then> + Clone + Send + 'static,
) -> Result<(Upstream, Arc<Gateway>)> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, answer)?;
    let state = tenant.state(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] }));
    Ok((upstream, lab.gateway(http(keys), state)?))
}
