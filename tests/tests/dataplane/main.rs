//! What the data plane promises, seen from outside: real clients, real machines, the real program.
//! Each part of the promise is one module; every test runs on both drivers.

mod bulk;
mod caps;
mod hello;
mod names;
mod proxy_protocol;
mod relay;
mod targets;

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::runner::main(
        &[
            names::TESTS,
            hello::TESTS,
            relay::TESTS,
            bulk::TESTS,
            targets::TESTS,
            proxy_protocol::TESTS,
            caps::TESTS,
        ]
        .concat(),
    )
}
