//! A chart with lines, one for each subject, as an SVG of its own: drawn in the page's colours, named at the lines' ends,
//! and small enough that its text is still read on a telephone.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::axis::Axis;
use super::roster::Roster;
use crate::format::{Unit, shorten};

/// The width of every drawing, in its own units; a telephone shows about as many pixels.
pub(super) const WIDTH: f64 = 360.0;
/// Characters of a name that fit beside a drawing.
pub(super) const NAME: usize = 11;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 256.0;
const TOP: f64 = 10.0;
/// Between the names at the lines' ends.
const APART: f64 = 15.0;

/// What to draw. `x` and `y` are laid out by [`Chart::draw`].
pub(super) struct Chart<'a> {
    /// Unique on the page.
    pub(super) id: String,
    pub(super) title: &'a str,
    /// What there is to see, for whoever does not see it.
    pub(super) description: String,
    pub(super) x: Axis,
    /// Figures on the x axis and what stands there.
    pub(super) x_ticks: Vec<(f64, String)>,
    pub(super) x_name: &'a str,
    pub(super) y: Axis,
    pub(super) unit: Unit,
    pub(super) lines: Vec<Line<'a>>,
}

/// One subject's.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// Where it goes, from left to right.
    pub(super) way: Vec<(f64, f64)>,
    /// What was measured of it, from left to right.
    pub(super) spots: Vec<Spot>,
}

/// A figure of a line, with the least and the most of its rounds.
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// Whether it may be more than that.
    pub(super) at_least: bool,
    /// What it is, in words.
    pub(super) words: String,
}

impl Chart<'_> {
    pub(super) fn draw(self, roster: &Roster<'_>) -> Markup {
        let bottom = TOP + (self.lines.len() as f64 * APART).max(176.0);
        let height = bottom + 40.0;
        let x = self.x.between(LEFT + 6.0, RIGHT - 6.0);
        let y = self.y.between(bottom, TOP + 4.0);
        let (title, description) = (format!("{}-t", self.id), format!("{}-d", self.id));
        let ends: Vec<(f64, f64)> = self.lines.iter().filter_map(|line| line.way.last().copied()).collect();
        let labels = settle(ends.iter().map(|(_, end)| y.place(*end)).collect(), TOP, bottom);
        html! {
            svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-labelledby={ (title) " " (description) } {
                title id=(title) { (self.title) }
                desc id=(description) { (self.description) }
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
                    path class={ "band " (roster.class(line.name)) } d=(band(line, &x, &y)) {}
                }
                @for line in &self.lines {
                    g class=(roster.class(line.name)) {
                        path class="line" d=(way(line.way.iter().map(|(a, b)| (x.place(*a), y.place(*b))))) {}
                        @for spot in &line.spots {
                            path class=(if spot.at_least { "dot hollow" } else { "dot" })
                                d=(roster.shape(line.name, x.place(spot.x), y.place(spot.median))) {
                                title { (spot.words) }
                            }
                        }
                    }
                }
                @for ((line, (end_x, end_y)), label) in self.lines.iter().zip(&ends).zip(&labels) {
                    g class=(roster.class(line.name)) {
                        path class="leader" d=(format!(
                            "M{} {}L{} {label}H{}", x.place(*end_x) + 5.0, y.place(*end_y), RIGHT + 4.0, RIGHT + 8.0
                        )) {}
                        path class="dot" d=(roster.shape(line.name, RIGHT + 14.0, *label)) {}
                        text class="name" x=(RIGHT + 22.0) y=(label + 4.0) {
                            (shorten(line.name, NAME)) title { (line.name) }
                        }
                    }
                }
            }
        }
    }
}

/// From the least to the most of each round, as an area.
fn band(line: &Line<'_>, x: &Axis, y: &Axis) -> String {
    let there = line.spots.iter().map(|spot| (x.place(spot.x), y.place(spot.max)));
    let back = line.spots.iter().rev().map(|spot| (x.place(spot.x), y.place(spot.min)));
    let mut path = way(there.chain(back));
    path.push('z');
    path
}

fn way(places: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in places {
        let command = if path.is_empty() { 'M' } else { 'L' };
        write!(path, "{command}{x} {y}").expect("a string takes what is written");
    }
    if path.is_empty() { "M0 0".into() } else { path }
}

/// Moves labels as little as it takes for them to be apart, between `top` and `bottom`. In the order they came.
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
    fn labels_settle_apart_and_in_order() {
        let settled = settle(vec![100.0, 100.0, 101.0, 20.0], 0.0, 120.0);
        assert_eq!(settled, [90.0, 105.0, 120.0, 20.0]);
        assert_eq!(settle(vec![], 0.0, 1.0), Vec::<f64>::new());
    }
}
