//! Certificates that the gateway obtains by itself, from a real directory: Pebble, which refuses
//! every fifth good nonce. Its challenge server answers DNS, and has every name lead to the lab.
//!
//! How the workers wait does not matter here, so every test runs once.

mod files;
mod orders;
mod pebble;
mod renewal;

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::runner::main_once(&[orders::TESTS, renewal::TESTS, files::TESTS].concat())
}
