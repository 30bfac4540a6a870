//! Results as plots: for each case a row of bar charts, one for each of its first two figures.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{
    coord::Shift,
    prelude::{
        BLACK, Color, DrawingArea, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle,
        SVGBackend, Text, WHITE,
    },
    style::{
        TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::markdown::number;
use crate::{
    results::{Better, Figure, Results, Summary},
    target::DIRECT,
};

/// Figures that are drawn, the most important first.
const FIGURES_SHOWN: usize = 2;

/// Sizes in pixels.
const PANEL_WIDTH: i32 = 520;
const HEADING: i32 = 56;
const TITLE: i32 = 40;
const BAR: i32 = 20;
const GAP: i32 = 8;
const NAME_WIDTH: i32 = 190;
const VALUE_WIDTH: i32 = 80;
/// Sizes of letters, as plotters counts them: a quarter more than pixels.
const LARGE: u32 = 20;
const MEDIUM: u32 = 17;
const SMALL: u32 = 15;

const SUBJECT: RGBColor = RGBColor(0x1f, 0x5f, 0xbf);
const PEER: RGBColor = RGBColor(0x9a, 0xa7, 0xb5);
const BASELINE: RGBColor = RGBColor(0xdd, 0xe2, 0xe8);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws `results` into a file.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(results: &Results, path: &Path) -> Result<()> {
    draw(results, path).map_err(|error| anyhow!("cannot draw {path:?}: {error}"))
}

fn draw(results: &Results, path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let cases = results.cases();
    let height = |case: &&str| HEADING + (BAR + GAP) * whole(results.contestants(case).len()) + GAP;
    let total = TITLE + cases.iter().map(height).sum::<i32>();
    let panels = results.figures.iter().take(FIGURES_SHOWN).count();
    let size = (PANEL_WIDTH * whole(panels), total);
    let area = SVGBackend::new(path, (size.0.unsigned_abs(), size.1.unsigned_abs()));
    let area = area.into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!("{} ({})", results.title, results.date);
    area.draw(&Text::new(title, (8, TITLE / 2), left(LARGE)))?;
    let mut top = TITLE;
    for case in &cases {
        let place = (8, top + HEADING / 4);
        area.draw(&Text::new((*case).to_owned(), place, left(MEDIUM)))?;
        let mut from_left = 0;
        for figure in results.figures_of(case).into_iter().take(FIGURES_SHOWN) {
            let panel = Panel {
                results,
                case,
                figure,
                origin: (from_left, top),
            };
            panel.draw(&area)?;
            from_left += PANEL_WIDTH;
        }
        top += height(case);
    }
    area.present()?;
    Ok(())
}

/// One chart: a case and a figure.
struct Panel<'a> {
    results: &'a Results,
    case: &'a str,
    figure: &'a Figure,
    origin: (i32, i32),
}

impl Panel<'_> {
    fn draw(&self, area: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
        let better = match self.figure.better {
            Better::Higher => "more is better",
            Better::Lower => "less is better",
        };
        let heading = format!("{}, {} ({better})", self.figure.name, self.figure.unit);
        let (x, y) = self.origin;
        area.draw(&Text::new(
            heading,
            (x + 8, y + HEADING * 2 / 3),
            left(SMALL),
        ))?;
        let summaries: Vec<_> = self
            .results
            .contestants(self.case)
            .into_iter()
            .filter_map(|name| self.results.summary(self.case, name, self.figure))
            .collect();
        let longest = summaries
            .iter()
            .map(|summary| summary.spread.max)
            .fold(0.0, f64::max);
        let mut top = y + HEADING;
        for summary in &summaries {
            self.bar(area, summary, longest, top)?;
            top += BAR + GAP;
        }
        Ok(())
    }

    /// A bar to the median, with a line from least to greatest.
    fn bar(
        &self,
        area: &Area<'_>,
        summary: &Summary,
        longest: f64,
        top: i32,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let start = self.origin.0 + NAME_WIDTH;
        let room = PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH;
        let at = |value: f64| start + pixels(value, longest, room);
        let (middle, spread) = (top + BAR / 2, summary.spread);
        let color = match summary.contestant.as_str() {
            name if name == self.results.subject => SUBJECT,
            DIRECT => BASELINE,
            _ => PEER,
        };
        let name = summary.contestant.clone();
        area.draw(&Text::new(name, (start - 8, middle), right(SMALL)))?;
        let corners = [(start, top), (at(spread.median), top + BAR)];
        area.draw(&Rectangle::new(corners, color.filled()))?;
        let line = [(at(spread.min), middle), (at(spread.max), middle)];
        area.draw(&PathElement::new(line, BLACK.stroke_width(1)))?;
        for value in [spread.min, spread.max] {
            let end = [(at(value), middle - 4), (at(value), middle + 4)];
            area.draw(&PathElement::new(end, BLACK.stroke_width(1)))?;
        }
        let place = (at(spread.max) + 6, middle);
        area.draw(&Text::new(number(spread.median), place, left(SMALL)))?;
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a share of the room, which is some hundred pixels"
)]
fn pixels(value: f64, longest: f64, room: i32) -> i32 {
    if longest <= 0.0 {
        return 0;
    }
    ((value / longest).clamp(0.0, 1.0) * f64::from(room)).round() as i32
}

fn left(size: u32) -> TextStyle<'static> {
    style(size, HPos::Left)
}

fn right(size: u32) -> TextStyle<'static> {
    style(size, HPos::Right)
}

fn style(size: u32, side: HPos) -> TextStyle<'static> {
    let font = ("sans-serif", size).into_font();
    TextStyle::from(font).pos(Pos::new(side, VPos::Center))
}

fn whole(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::example;

    #[test]
    fn a_plot_shows_every_contestant_with_its_median() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plot.svg");
        write(&example(), &path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for part in ["Ringway", "HAProxy", "12,000", "10,000", "more is better"] {
            assert!(text.contains(part), "{part} is missing");
        }
        assert!(!text.contains("<connections>"), "not escaped");
    }

    #[test]
    fn the_longest_bar_fills_the_room_and_nothing_has_no_length() {
        assert_eq!(pixels(5.0, 5.0, 200), 200);
        assert_eq!(pixels(0.0, 5.0, 200), 0);
        assert_eq!(pixels(-1.0, 5.0, 200), 0);
        assert_eq!(pixels(1.0, 0.0, 200), 0);
    }
}
