//! Assigns each server a colour, a dash pattern and a shape. Servers can be told apart without seeing colours.

use maud::{Markup, html};

use crate::results::Results;

/// Number of colours and shapes. Further servers reuse a colour with another dash pattern.
const STYLES: usize = 8;

/// The names of the servers in the order of the report.
#[derive(Debug)]
pub(super) struct Legend<'a> {
    names: Vec<&'a str>,
}

impl<'a> Legend<'a> {
    /// The servers under comparison, then other servers that occur in the results.
    pub(super) fn of(results: &'a Results) -> Legend<'a> {
        let listed = results.subjects.iter().map(|subject| &subject.name);
        let points = results.scenarios.iter().flat_map(|scenario| &scenario.points);
        let measured = points.flat_map(|point| &point.measures).map(|measure| &measure.subject);
        let spoken_of =
            results.claims.iter().flat_map(|claim| &claim.findings).map(|finding| &finding.subject);
        let changed = results.changes.iter().map(|change| &change.subject);
        let mut names: Vec<&str> = Vec::new();
        for name in listed.chain(measured).chain(spoken_of).chain(changed) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        Legend { names }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().copied()
    }

    /// The classes for a server's colour and dash pattern.
    pub(super) fn class(&self, name: &str) -> String {
        let place = self.position(name);
        format!("s{} d{}", place % STYLES, (place + place / STYLES) % STYLES)
    }

    /// A server's shape around a position, as a path.
    pub(super) fn shape(&self, name: &str, x: f64, y: f64) -> String {
        let path = match self.position(name) % STYLES {
            0 => "m-3.4-3.4h6.8v6.8h-6.8z",
            1 => "m0-4.6 4.4 7.8h-8.8z",
            2 => "m0-4.8 4.8 4.8-4.8 4.8-4.8-4.8z",
            3 => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
            4 => "m0 4.6 4.4-7.8h-8.8z",
            5 => "m-1.5-4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z",
            6 => "m-4.6-2h9.2v4h-9.2z",
            _ => "m0-4.8 4.5 3.3-1.7 5.3h-5.6l-1.7-5.3z",
        };
        format!("M{x} {y}{path}")
    }

    /// Shape and name, for text and tables. The style sheet truncates a long name.
    pub(super) fn badge(&self, name: &str) -> Markup {
        html! {
            span class={ "badge " (self.class(name)) } {
                svg class="mark" viewBox="-6 -6 12 12" aria-hidden="true" { path class="dot" d=(self.shape(name, 0.0, 0.0)) {} }
                span title=[(name.chars().count() > 20).then_some(name)] { (name) }
            }
        }
    }

    /// The badges of several servers.
    pub(super) fn badges<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Markup {
        html! { @for (nth, name) in names.into_iter().enumerate() { @if nth > 0 { " " } (self.badge(name)) } }
    }

    fn position(&self, name: &str) -> usize {
        self.names.iter().position(|known| *known == name).unwrap_or(self.names.len())
    }
}
