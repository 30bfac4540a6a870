//! What a run leaves behind: JSON, plots and tables.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::results::Results;

mod json;
pub(crate) mod markdown;
mod svg;

/// Writes `DATE-WORKLOAD.json` and `.svg` into `folder`.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(results: &Results, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {folder:?}"))?;
    let stem = format!("{}-{}", results.date, results.workload);
    json::write(results, &folder.join(format!("{stem}.json")))?;
    svg::write(results, &folder.join(format!("{stem}.svg")))
}

/// Around what is written by hand in the page, and stays there.
const SUMMARY_BEGIN: &str = "<!-- summary:begin -->\n";
const SUMMARY_END: &str = "<!-- summary:end -->\n";

/// Writes `README.md` from the newest results of each workload in `folder`. Its summary stays.
///
/// # Errors
/// When a file of results cannot be read, or the page not be written.
pub(crate) fn write_page(folder: &Path) -> Result<()> {
    let mut newest: Vec<Results> = Vec::new();
    for file in result_files(folder)? {
        let results = json::read(&file)?;
        newest.retain(|other| other.workload != results.workload);
        newest.push(results);
    }
    let path = folder.join("README.md");
    let old = fs::read_to_string(&path).unwrap_or_default();
    let page = markdown::page(&newest, &summary(&old));
    fs::write(&path, page).with_context(|| format!("cannot write {path:?}"))
}

/// The summary of a page with its marks; nothing where there is none.
fn summary(page: &str) -> String {
    let begin = page.split_once(SUMMARY_BEGIN);
    let text = begin.and_then(|(_, rest)| rest.split_once(SUMMARY_END));
    text.map(|(text, _)| format!("\n{SUMMARY_BEGIN}{text}{SUMMARY_END}"))
        .unwrap_or_default()
}

/// The files of results, oldest first: their names begin with the date.
fn result_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {folder:?}"))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn the_page_has_the_newest_results_of_each_workload() {
        let dir = tempfile::tempdir().unwrap();
        let old = Results {
            date: "2026-10-01".into(),
            title: "An old title".into(),
            ..example()
        };
        let other = Results {
            workload: "relay".into(),
            title: "Another title".into(),
            ..example()
        };
        for results in [&example(), &old, &other] {
            write(results, dir.path()).unwrap();
        }
        let summary = format!("\n{SUMMARY_BEGIN}By hand.\n{SUMMARY_END}");
        fs::write(dir.path().join("README.md"), format!("Old.\n{summary}Old.")).unwrap();
        write_page(dir.path()).unwrap();
        let page = fs::read_to_string(dir.path().join("README.md")).unwrap();
        assert!(page.contains(&summary) && !page.contains("Old."), "{page}");
        assert!(page.contains("ClientHello connections") && page.contains("Another title"));
        assert!(!page.contains("An old title"), "{page}");
    }
}
