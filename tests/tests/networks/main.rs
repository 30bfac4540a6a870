//! What the control plane promises about networks: made as declared, kept as declared, taken up
//! again after any end, and every byte known. The peers are wireguard-go, boringtun and gotatun.
//!
//! How the workers wait does not matter here, so every test runs once.

mod accounts;
mod alarms;
mod changes;
mod conformance;
mod drift;
mod owners;
mod peers;
mod restart;

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::runner::main_once(
        &[
            conformance::TESTS,
            peers::TESTS,
            changes::TESTS,
            drift::TESTS,
            owners::TESTS,
            restart::TESTS,
            accounts::TESTS,
            alarms::TESTS,
        ]
        .concat(),
    )
}
