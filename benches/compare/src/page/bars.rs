//! A bar chart with one bar per server, in one or more groups, for loads without an order and for single loads.
//! Latencies span decades, so they are dots on a logarithmic axis, where the length of a bar has no meaning.

use maud::{Markup, html};

use super::axis::{Axis, apart};
use super::chart::{NAME, WIDTH, drawing};
use super::legend::Legend;
use crate::format::{Unit, shorten};

const FROM: f64 = 102.0;
const TO: f64 = 288.0;
const ROW: f64 = 21.0;
const HEAD: f64 = 24.0;
/// Characters of a group's label that fit above it.
const LABEL: usize = 48;

/// A bar chart.
pub(super) struct Bars<'a> {
    /// An id that is unique on the page.
    pub(super) id: String,
    pub(super) title: &'a str,
    /// The content of the chart in tooltip, for screen readers.
    pub(super) description: String,
    pub(super) unit: Unit,
    /// The axis of a dot chart; `None` for bars.
    pub(super) dots: Option<Axis>,
    pub(super) groups: Vec<Group<'a>>,
}

/// The bars of one load.
pub(super) struct Group<'a> {
    /// Empty if there is only one group.
    pub(super) label: &'a str,
    pub(super) rows: Vec<Row<'a>>,
}

/// The bar of one server.
pub(super) struct Row<'a> {
    pub(super) name: &'a str,
    /// `None` if the figure was not measured.
    pub(super) bar: Option<Bar>,
}

/// A figure with the range of its rounds.
pub(super) struct Bar {
    /// Share of the bar that is solid; the rest is pale. `None` if the share is unknown.
    pub(super) solid: Option<f64>,
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    /// The tooltip.
    pub(super) tooltip: String,
}

impl Bars<'_> {
    pub(super) fn draw(self, legend: &Legend<'_>) -> Markup {
        let bars = || self.groups.iter().flat_map(|group| &group.rows).filter_map(|row| row.bar.as_ref());
        let axis = match &self.dots {
            Some(axis) => axis.clone(),
            None => Axis::from_zero(bars().flat_map(|bar| [bar.median, bar.max])),
        }
        .between(FROM, TO);
        let mut bottom = 4.0;
        let mut rows = Vec::new();
        let mut heads = Vec::new();
        let mut stretches = Vec::new();
        for group in &self.groups {
            if !group.label.is_empty() {
                heads.push((bottom + 15.0, group.label));
                bottom += HEAD;
            }
            let from = bottom;
            for row in &group.rows {
                rows.push((bottom + ROW / 2.0, row));
                bottom += ROW;
            }
            stretches.push((from, bottom));
            bottom += 8.0;
        }
        let height = bottom + if self.dots.is_some() { 16.0 } else { 0.0 };
        let ticks = apart(&axis, &axis.ticks(), 52.0);
        let content = html! {
            @if self.dots.is_some() {
                @for tick in ticks {
                    path class="grid" d=(rule(axis.place(tick), &stretches)) {}
                    text class="tick middle" x=(axis.place(tick)) y=(bottom + 10.0) { (self.unit.tick(tick)) }
                }
            } @else {
                path class="base" d=(rule(FROM, &stretches)) {}
            }
            @for (at, label) in heads {
                text class="head" x="0" y=(at) { (shorten(label, LABEL)) title { (label) } }
            }
            @for (at, row) in rows {
                g class=(legend.class(row.name)) {
                    path class="dot" d=(legend.shape(row.name, 6.0, at)) {}
                    text class="name" x="15" y=(at + 4.0) { (shorten(row.name, NAME)) title { (row.name) } }
                    @match &row.bar {
                        Some(bar) => (self.bar(bar, &axis, at, legend.shape(row.name, axis.place(bar.median), at))),
                        None => text class="tick" x=(FROM + 6.0) y=(at + 4.0) { "not measured" },
                    }
                }
            }
        };
        drawing(&self.id, self.title, &self.description, height, &content)
    }

    fn bar(&self, bar: &Bar, axis: &Axis, at: f64, dot: String) -> Markup {
        let part = |from: f64, to: f64| {
            let (from, to) = (axis.place(from), axis.place(to));
            format!("M{from} {}H{to}v10H{from}z", at - 5.0)
        };
        let whisker = {
            let (min, max) = (axis.place(bar.min), axis.place(bar.max));
            format!("M{min} {at}H{max}M{min} {y}v6M{max} {y}v6", y = at - 3.0)
        };
        html! {
            @if self.dots.is_some() {
                path class="whisker" d=(whisker) {}
                path class="dot" d=(dot) { title { (bar.tooltip) } }
            } @else {
                @let border = bar.median * bar.solid.unwrap_or(1.0);
                path class=(if bar.solid.is_some() { "solid" } else { "unknown" }) d=(part(0.0, border)) {
                    title { (bar.tooltip) }
                }
                @if border < bar.median {
                    path class="pale" d=(part(border, bar.median)) { title { (bar.tooltip) } }
                }
                @if bar.min < bar.max { path class="whisker over" d=(whisker) {} }
            }
            text class="figure end" x=(WIDTH - 2.0) y=(at + 4.0) { (self.unit.write(bar.median)) }
        }
    }
}

/// Vertical lines beside the rows, interrupted at the group labels.
fn rule(x: f64, stretches: &[(f64, f64)]) -> String {
    stretches.iter().map(|(from, to)| format!("M{x} {from}V{to}")).collect()
}
