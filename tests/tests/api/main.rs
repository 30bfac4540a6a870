//! The API as a black box: curl on one side, the answers on the other; and the client verbs as
//! scripts use them. How the workers wait does not matter here, so every test runs once.

mod access;
mod changes;
mod looks;
mod operators;
mod privileges;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::runner::main_once(
        &[
            changes::TESTS,
            looks::TESTS,
            access::TESTS,
            verbs::TESTS,
            operators::TESTS,
            privileges::TESTS,
        ]
        .concat(),
    )
}
