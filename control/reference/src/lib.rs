//! The reference pages: Markdown files beside this crate, which `ringway help` prints as well.
//!
//! Part of a page is generated from the code that it describes. The tests of the crate that has that code call
//! [`compare`], which fails when the page says something else, and writes the page when
//! `RINGWAY_WRITE_REFERENCE` is set.
#![forbid(unsafe_code)]

use std::{env, fs, path::Path};

/// Set to anything, it has [`compare`] write the page instead of comparing it.
pub const WRITE_VARIABLE: &str = "RINGWAY_WRITE_REFERENCE";

const BEGIN: &str = "<!-- generated:begin -->\n";
const END: &str = "<!-- generated:end -->\n";

/// A page of the reference.
#[derive(Debug)]
pub struct Page {
    /// What `ringway help` calls it; the file is `NAME.md`.
    pub name: &'static str,
    /// What it is about, in a few words.
    pub about: &'static str,
    text: &'static str,
}

/// Every page.
pub const PAGES: [Page; 7] = [
    Page {
        name: "boot",
        about: "Keys of the boot file",
        text: include_str!("../boot.md"),
    },
    Page {
        name: "state",
        about: "Keys of the state document",
        text: include_str!("../state.md"),
    },
    Page {
        name: "cli",
        about: "Commands, options and exit statuses",
        text: include_str!("../cli.md"),
    },
    Page {
        name: "api",
        about: "Requests of the API, roles, and what can be degraded",
        text: include_str!("../api.md"),
    },
    Page {
        name: "metrics",
        about: "Metrics of /metrics",
        text: include_str!("../metrics.md"),
    },
    Page {
        name: "operations",
        about: "Files, signals, drain, logs, accounts, certificates",
        text: include_str!("../operations.md"),
    },
    Page {
        name: "behaviour",
        about: "What happens to a connection and to a request",
        text: include_str!("../behaviour.md"),
    },
];

/// The page of that name.
pub fn page(name: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.name == name)
}

impl Page {
    /// The page for a terminal: without the marks that only tools need.
    pub fn text(&self) -> String {
        self.text.replace(BEGIN, "").replace(END, "")
    }
}

/// Compares the generated part of a page's file with what the code says now, or writes it into the file when
/// [`WRITE_VARIABLE`] is set.
///
/// # Errors
/// Says how to write the page when it is out of date, and what is wrong with the file.
pub fn compare(name: &str, generated: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.md"));
    let said = |error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(&path).map_err(said)?;
    let now = replaced(&text, generated)
        .ok_or_else(|| format!("{} has no generated part", path.display()))?;
    if now == text {
        return Ok(());
    }
    if env::var_os(WRITE_VARIABLE).is_some() {
        return fs::write(&path, now).map_err(said);
    }
    Err(format!(
        "{} is out of date; this test writes it when {WRITE_VARIABLE}=1 is set",
        path.display()
    ))
}

fn replaced(text: &str, generated: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let generated = generated.trim_end();
    Some(format!("{before}{BEGIN}{generated}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_generated_part_is_replaced() {
        let text = format!("before\n{BEGIN}old\n{END}after\n");
        let now = format!("before\n{BEGIN}new\n{END}after\n");
        assert_eq!(replaced(&text, "new\n\n"), Some(now.clone()));
        assert_eq!(replaced(&now, "new"), Some(now));
        assert_eq!(replaced("no marks\n", "new"), None);
    }

    #[test]
    fn pages_begin_with_a_title_and_are_printed_without_marks() {
        for page in &PAGES {
            assert!(page.text.starts_with("# "), "{}", page.name);
            assert!(!page.text().contains("<!--"), "{}", page.name);
        }
        assert!(page("boot").is_some() && page("x").is_none());
    }

    #[test]
    fn documents_for_operators_are_short_and_plain() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        assert!(readme.len() <= 15_000, "{} bytes", readme.len());
        let pages = PAGES.iter().map(|page| (page.name, page.text.to_owned()));
        for (name, text) in pages.chain([("README", readme)]) {
            let text = text.to_lowercase();
            for word in [
                "whoever",
                " be it ",
                "unless written",
                "ends here",
                "nobody declared",
            ] {
                assert!(!text.contains(word), "{name}: {word}");
            }
        }
    }

    /// Links between the documents lead to files that are there.
    #[test]
    fn links_lead_to_files() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let own = PAGES.map(|page| format!("control/reference/{}.md", page.name));
        let others = [
            "README.md",
            "DESIGN.md",
            "CONTRIBUTING.md",
            "bench/METHOD.md",
            "bench/results/README.md",
        ];
        for file in own.iter().map(String::as_str).chain(others) {
            let path = root.join(file);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
            for link in text.split("](").skip(1) {
                let link = link.split([')', '#']).next().unwrap_or_default();
                if link.is_empty() || link.contains("://") {
                    continue;
                }
                let target = path.parent().unwrap_or(&root).join(link);
                assert!(target.exists(), "{file}: {link}");
            }
        }
    }
}
