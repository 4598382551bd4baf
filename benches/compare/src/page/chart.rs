//! A line chart with one line per server, as an SVG whose text is legible on a phone. The names are at the line ends.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::axis::Axis;
use super::legend::Legend;
use crate::format::{Unit, shorten};

/// The width of every chart, in its own units. A phone shows about as many pixels.
pub(super) const WIDTH: f64 = 360.0;
/// Characters of a name that fit beside a chart.
pub(super) const NAME: usize = 11;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 256.0;
const TOP: f64 = 10.0;
/// Distance between the names at the line ends.
const APART: f64 = 15.0;

/// A line chart. [`Chart::draw`] sets the positions of `x` and `y`.
pub(super) struct Chart<'a> {
    /// An id that is unique on the page.
    pub(super) id: String,
    pub(super) title: &'a str,
    /// The content of the chart in tooltip, for screen readers.
    pub(super) description: String,
    pub(super) x: Axis,
    /// Figures on the x axis with their labels.
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) x_name: &'a str,
    pub(super) y: Axis,
    pub(super) unit: Unit,
    pub(super) lines: Vec<Line<'a>>,
}

/// The line of one server.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// The points of the line from left to right.
    pub(super) points: Vec<(f64, f64)>,
    /// The marks on the line from left to right.
    pub(super) marks: Vec<Mark>,
}

/// A figure with the range of its rounds.
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// Whether the figure is a lower bound.
    pub(super) at_least: bool,
    /// The tooltip.
    pub(super) tooltip: String,
}

/// A drawing with its title and description, which screen readers read. `id` is unique on the page.
pub(super) fn drawing(id: &str, title: &str, description: &str, height: f64, content: &Markup) -> Markup {
    let (title_id, description_id) = (format!("{id}-t"), format!("{id}-d"));
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-labelledby={ (title_id) " " (description_id) } {
            title id=(title_id) { (title) }
            desc id=(description_id) { (description) }
            (content)
        }
    }
}

impl Chart<'_> {
    pub(super) fn draw(self, legend: &Legend<'_>) -> Markup {
        let bottom = TOP + (self.lines.len() as f64 * APART).max(176.0);
        let height = bottom + 40.0;
        let x = self.x.between(LEFT + 6.0, RIGHT - 6.0);
        let y = self.y.between(bottom, TOP + 4.0);
        let ends: Vec<(f64, f64)> =
            self.lines.iter().filter_map(|line| line.points.last().copied()).collect();
        let labels = settle(ends.iter().map(|(_, end)| y.place(*end)).collect(), TOP, bottom);
        let content = html! {
            @for tick in y.ticks() {
                path class="grid" d=(format!("M{LEFT} {at}H{RIGHT}", at = y.place(tick))) {}
                text class="tick end" x=(LEFT - 6.0) y=(y.place(tick) + 4.0) { (self.unit.tick(tick)) }
            }
            path class="base" d=(format!("M{LEFT} {bottom}H{RIGHT}")) {}
            @for (tick, text) in &self.x_ticks {
                path class="base" d=(format!("M{} {bottom}v4", x.place(*tick))) {}
                text class="tick middle" x=(x.place(*tick)) y=(bottom + 17.0) { (text) }
            }
            text class="tick middle" x=((LEFT + RIGHT) / 2.0) y=(bottom + 34.0) { (self.x_name) }
            @for line in &self.lines {
                path class={ "band " (legend.class(line.name)) } d=(band(line, &x, &y)) {}
            }
            @for line in &self.lines {
                g class=(legend.class(line.name)) {
                    path class="line" d=(svg_path(line.points.iter().map(|(a, b)| (x.place(*a), y.place(*b))))) {}
                    @for mark in &line.marks {
                        path class=(if mark.at_least { "dot hollow" } else { "dot" })
                            d=(legend.shape(line.name, x.place(mark.x), y.place(mark.median))) {
                            title { (mark.tooltip) }
                        }
                    }
                }
            }
            @for ((line, (end_x, end_y)), label) in self.lines.iter().zip(&ends).zip(&labels) {
                g class=(legend.class(line.name)) {
                    path class="leader" d=(format!(
                        "M{} {}L{} {label}H{}", x.place(*end_x) + 5.0, y.place(*end_y), RIGHT + 4.0, RIGHT + 8.0
                    )) {}
                    path class="dot" d=(legend.shape(line.name, RIGHT + 14.0, *label)) {}
                    text class="name" x=(RIGHT + 22.0) y=(label + 4.0) {
                        (shorten(line.name, NAME)) title { (line.name) }
                    }
                }
            }
        };
        drawing(&self.id, self.title, &self.description, height, &content)
    }
}

/// The area between the minimum and the maximum of the rounds.
fn band(line: &Line<'_>, x: &Axis, y: &Axis) -> String {
    let there = line.marks.iter().map(|mark| (x.place(mark.x), y.place(mark.max)));
    let back = line.marks.iter().rev().map(|mark| (x.place(mark.x), y.place(mark.min)));
    let mut path = svg_path(there.chain(back));
    path.push('z');
    path
}

fn svg_path(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in places {
        let command = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{command}{x} {y}").expect("writing to a string cannot fail");
    }
    if path.is_empty() { "M0 0".into() } else { path }
}

/// Moves labels between `top` and `bottom` until they are [`APART`], and keeps their vertical order.
fn settle(mut places: Vec<f64>, top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|a, b| places[*a].total_cmp(&places[*b]));
    let mut room = top + 4.0;
    for at in &order {
        places[*at] = places[*at].max(room);
        room = places[*at] + APART;
    }
    let mut room = bottom;
    for at in order.iter().rev() {
        places[*at] = places[*at].min(room);
        room = places[*at] - APART;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_settle_without_overlap_and_in_order() {
        let settled = settle(vec![100.0, 100.0, 101.0, 20.0], 0.0, 120.0);
        assert_eq!(settled, [90.0, 105.0, 120.0, 20.0]);
        assert_eq!(settle(vec![], 0.0, 1.0), Vec::<f64>::new());
    }
}
