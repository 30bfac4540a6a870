//! Certificates that the gateway obtains by itself, from a real directory: Pebble, which refuses
//! every fifth good nonce. Its challenge server answers DNS, and has every name lead to the lab.
//!
//! How the workers wait does not matter here, so every test runs once.

mod demand;
mod files;
mod front;
mod names;
mod orders;
mod pebble;
mod renewal;
mod scale;
mod zone;

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::runner::main_once(
        &[
            orders::TESTS,
            names::TESTS,
            zone::TESTS,
            renewal::TESTS,
            demand::TESTS,
            scale::TESTS,
            files::TESTS,
        ]
        .concat(),
    )
}
