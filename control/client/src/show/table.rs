//! Aligned columns.

use comfy_table::{CellAlignment, ContentArrangement, presets};

use super::paint::{Colour, Paint, printable};

/// Spaces between columns.
const GAP: u16 = 2;

/// Which side a column's texts are flush with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// One field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    colour: Colour,
}

impl Cell {
    /// A text in a colour.
    pub(crate) fn coloured(text: impl Into<String>, colour: Colour) -> Self {
        Self {
            text: text.into(),
            colour,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::coloured(text, Colour::Plain)
    }
}

/// Rows under a heading, each column as wide as its widest text.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(columns: [(&'static str, Side); N]) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; control characters are taken out of its texts.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len(), "one cell for each column");
        let clean = cells.into_iter().map(|cell| Cell {
            text: printable(&cell.text).into_owned(),
            ..cell
        });
        self.rows.push(clean.collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As [`Table::render`], but nothing without rows.
    pub(crate) fn render_rows(&self, paint: Paint) -> String {
        match self.is_empty() {
            true => String::new(),
            false => self.render(paint),
        }
    }

    /// Every line ends with a line feed and without spaces.
    pub(crate) fn render(&self, paint: Paint) -> String {
        let line = |cells: &[Cell]| -> Vec<String> {
            let texts = cells.iter();
            texts
                .map(|cell| paint.paint(cell.colour, &cell.text))
                .collect()
        };
        let heading = self.columns.iter();
        let heading: Vec<Cell> = heading
            .map(|(name, _)| Cell::coloured(*name, Colour::Faint))
            .collect();
        let mut table = comfy_table::Table::new();
        // A pipe is as wide as a terminal is not: lines are never broken.
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(line(&heading))
            .add_rows(self.rows.iter().map(|row| line(row)));
        for (column, (_, side)) in table.column_iter_mut().zip(&self.columns) {
            column.set_padding((0, GAP));
            column.set_cell_alignment(match side {
                Side::Left => CellAlignment::Left,
                Side::Right => CellAlignment::Right,
            });
        }
        format!("{}\n", table.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            ("NAME", Side::Left),
            ("BYTES", Side::Right),
            ("", Side::Left),
        ]);
        table.row(["a".into(), "1 B".into(), "x".into()]);
        table.row([
            Cell::coloured("longer", Colour::Bad),
            "100 KiB".into(),
            Cell::default(),
        ]);
        table
    }

    #[test]
    fn columns_are_aligned_and_lines_end_without_spaces() {
        assert_eq!(
            table().render(Paint::PLAIN),
            "NAME      BYTES\na           1 B  x\nlonger  100 KiB\n"
        );
    }

    #[test]
    fn colours_do_not_change_the_widths() {
        let coloured = table().render(Paint::COLOURS);
        assert!(coloured.contains("\x1b[31mlonger\x1b[0m  100 KiB\n"));
        assert!(coloured.contains("a           1 B  x\n"));
    }

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        let mut table = Table::new([("NAME", Side::Left)]);
        table.row(["\x1b[2Jhello\n".into()]);
        assert_eq!(
            table.render(Paint::PLAIN),
            "NAME\n\u{fffd}[2Jhello\u{fffd}\n"
        );
    }
}
