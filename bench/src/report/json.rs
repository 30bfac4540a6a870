//! Results as JSON: every sample, and the summaries for whoever does not want to compute.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::results::{Results, Summary};

#[derive(Serialize)]
struct Kept<'a> {
    #[serde(flatten)]
    results: &'a Results,
    summaries: Vec<Summary>,
}

/// Writes a file of results.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(results: &Results, path: &Path) -> Result<()> {
    let kept = Kept {
        results,
        summaries: results.summaries(),
    };
    let mut text = serde_json::to_string_pretty(&kept)?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("cannot write {path:?}"))
}

/// Reads a file of results; the summaries follow from the samples.
///
/// # Errors
/// When it is not such a file.
pub(super) fn read(path: &Path) -> Result<Results> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path:?}"))?;
    serde_json::from_str(&text).with_context(|| format!("{path:?} is not a file of results"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn results_read_back_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        write(&example(), &path).unwrap();
        assert_eq!(read(&path).unwrap(), example());
        assert!(fs::read_to_string(&path).unwrap().contains("subject_ratio"));
    }
}
