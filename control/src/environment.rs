//! The process's own environment.

use control_api::boot::{Source, VARIABLE_PREFIX};

/// The environment that the process was started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Environment;

impl Source for Environment {
    fn variables(&self) -> Vec<(String, String)> {
        // What is not UTF-8 is refused by its key, like any other wrong value.
        std::env::vars_os()
            .map(|(name, value)| {
                (
                    name.to_string_lossy().into(),
                    value.to_string_lossy().into(),
                )
            })
            .filter(|(name, _): &(String, String)| name.starts_with(VARIABLE_PREFIX))
            .collect()
    }
}
