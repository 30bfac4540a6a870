//! Ringway's own WireGuard device beside those of others: every byte of gigabytes, what a peer may
//! expect while it moves and is changed, what strangers may try, and packets of any size.
//!
//! Every gateway here is told to carry the packets itself, so that the suite says the same on a
//! kernel that has the module. How the workers wait does not matter, so every test runs once.

mod digests;
mod fairness;
mod flood;
mod hostile;
mod load;
mod marks;
mod peers;
mod scene;
mod segments;
mod strangers;
mod tools;

use std::process::ExitCode;

use tests::{peer::Client, runner};

fn main() -> ExitCode {
    let mut tests = [
        digests::TESTS,
        peers::TESTS,
        tools::TESTS,
        hostile::TESTS,
        flood::TESTS,
        segments::TESTS,
        marks::TESTS,
        fairness::TESTS,
    ]
    .concat();
    match Client::has_module() {
        Ok(true) => tests.extend([digests::WITH_MODULE, peers::WITH_MODULE].concat()),
        Ok(false) => {}
        Err(error) => {
            runner::say(&format!("error: {error:#}"));
            return ExitCode::FAILURE;
        }
    }
    runner::main_once(&tests)
}
