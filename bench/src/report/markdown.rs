//! Results as Markdown tables.

use std::fmt::Write;

use crate::results::{Figure, Results};

/// One page of several workloads, with a summary of them.
pub(crate) fn page(all: &[Results], summary: &str) -> String {
    let mut text = String::from(
        "# The league\n\nWritten by `scripts/bench`; [METHOD.md](../METHOD.md) says what is \
         measured and how. Each cell is the median of all rounds with least and greatest in \
         brackets. The columns with ÷ show the subject's figure divided by this row's: the ratio \
         of medians, and in brackets the median of the ratios within each round.\n",
    );
    text.push_str(summary);
    for results in all {
        text.push('\n');
        text.push_str(&section(results));
    }
    text
}

/// One workload: its tables, aims, and what it was measured on.
pub(crate) fn section(results: &Results) -> String {
    let mut text = format!("## {}: {}\n", results.workload, results.title);
    for case in results.cases() {
        // Writing to a string does not fail.
        let _ = write!(text, "\n### {}\n\n{}", escape(case), table(results, case));
    }
    if !results.verdicts.is_empty() {
        text.push_str("\nAims:\n\n");
    }
    for verdict in &results.verdicts {
        let word = if verdict.reached {
            "reached"
        } else {
            "**not reached**"
        };
        let _ = writeln!(text, "- {word}: {}", escape(&verdict.text));
    }
    for (name, reason) in &results.absent {
        let _ = write!(text, "\n{name}: absent ({reason}).");
    }
    let versions: Vec<_> = results
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"))
        .collect();
    let _ = write!(
        text,
        "\n{}; {} rounds of {} s; {}.",
        results.date,
        results.rounds,
        results.seconds,
        results.machine.line()
    );
    if !versions.is_empty() {
        let _ = write!(text, " {}.", versions.join(", "));
    }
    text.push('\n');
    text
}

fn table(results: &Results, case: &str) -> String {
    let contestants = results.contestants(case);
    let figures = results.figures_of(case);
    let mut text = String::from("| |");
    let (ratio, line) = if results.compared {
        (" ÷ |", "---:|---:|")
    } else {
        ("", "---:|")
    };
    for figure in &figures {
        let _ = write!(text, " {}, {} |{ratio}", figure.name, figure.unit);
    }
    text.push_str("\n|---|");
    text.push_str(&line.repeat(figures.len()));
    text.push('\n');
    let mut notes = String::new();
    for contestant in contestants {
        let faults = results.faults(case, contestant);
        let mark = if faults.is_empty() { "" } else { " ⚠" };
        let _ = write!(text, "| {contestant}{mark} |");
        for figure in &figures {
            text.push_str(&cells(results, case, contestant, figure));
        }
        text.push('\n');
        for fault in faults {
            let _ = writeln!(notes, "- ⚠ {contestant}: {}", escape(fault));
        }
    }
    if !notes.is_empty() {
        text.push('\n');
        text.push_str(&notes);
    }
    text
}

fn cells(results: &Results, case: &str, contestant: &str, figure: &Figure) -> String {
    let summary = results.summary(case, contestant, figure);
    let value = summary.as_ref().map_or_else(String::new, |summary| {
        let spread = summary.spread;
        let [median, min, max] = [spread.median, spread.min, spread.max].map(number);
        format!(" {median} ({min}–{max})")
    });
    if !results.compared {
        return format!("{value} |");
    }
    let ratio = summary.and_then(|summary| summary.subject_ratio);
    let ratio = ratio.map_or_else(String::new, |ratio| {
        format!(" {:.2} ({:.2})", ratio.of_medians, ratio.per_round)
    });
    format!("{value} |{ratio} |")
}

/// Three significant digits, and thousands set apart.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1000.0 {
        let digits = format!("{value:.0}");
        let (sign, digits) = digits
            .strip_prefix('-')
            .map_or(("", &digits[..]), |rest| ("-", rest));
        let groups: Vec<_> = digits
            .as_bytes()
            .rchunks(3)
            .rev()
            .map(String::from_utf8_lossy)
            .collect();
        return format!("{sign}{}", groups.join(","));
    }
    let decimals = match size {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// Text that Markdown leaves as it is, on one line.
fn escape(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut escaped = String::with_capacity(line.len());
    for letter in line.chars() {
        if matches!(letter, '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{results::tests::example, target::Verdict};

    #[test]
    fn a_table_shows_median_spread_ratios_and_faults() {
        let text = section(&example());
        assert!(
            text.contains("| Ringway | 12,000 (10,800–13,200) | |"),
            "{text}"
        );
        assert!(
            text.contains("| HAProxy ⚠ | 10,000 (9,000–11,000) | 1.20 (1.20) |"),
            "{text}"
        );
        assert!(text.contains("- ⚠ HAProxy: 2 wrong answers"), "{text}");
        assert!(text.contains("sozu: absent (not installed)"), "{text}");
        assert!(text.contains("64 \\<connections\\>"), "{text}");
    }

    #[test]
    fn different_work_has_no_column_of_ratios() {
        let results = Results {
            compared: false,
            ..example()
        };
        let text = section(&results);
        assert!(
            text.contains("| | connections, /s | proxy CPU, µs/connection |"),
            "{text}"
        );
        assert!(
            text.contains("| Ringway | 12,000 (10,800–13,200) | 83.3"),
            "{text}"
        );
    }

    #[test]
    fn an_aim_that_is_not_reached_is_said_so() {
        let mut results = example();
        results.verdicts.push(Verdict {
            text: "faster than light".into(),
            reached: false,
        });
        assert!(section(&results).contains("- **not reached**: faster than light"));
    }

    #[test]
    fn numbers_have_three_digits_and_groups() {
        for (value, text) in [
            (1_234_567.8, "1,234,568"),
            (-1000.4, "-1,000"),
            (999.4, "999"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1234, "0.123"),
            (0.0, "0.000"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
