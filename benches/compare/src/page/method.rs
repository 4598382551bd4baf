//! The method: what a reader needs to judge the figures and to repeat the measurement.

use maud::{Markup, html};

use crate::results::{Results, core_list};

use super::legend::Legend;
use crate::columns;
use crate::format::{MISSING, Unit, date, duration, several};

pub(super) fn method(results: &Results, legend: &Legend<'_>) -> Markup {
    let machine = &results.machine;
    html! {
        section {
            h2 id="method" { "How it was measured" }
            p {
                "Each load was applied to each server " (times(results.rounds)) ", for " (duration(results.duration))
                " each. The servers took turns, so that disturbances of the machine affect all of them. Figures are "
                "medians of these rounds. The range below a figure, the band around a line and the whisker on a bar "
                "show the minimum and the maximum. Latency counts from when a request was due, not from when it was "
                "sent, so it includes waiting for a busy server. A hollow mark or ≥ is a lower bound: the generator "
                "was the bottleneck, or some requests had no response at the end of the measurement."
            }
            dl class="facts" {
                (fact("Command", html! { code { (results.command) } }))
                (fact("Began", html! { time datetime=(results.began) { (date(&results.began)) } }))
                (fact("Took", html! { (duration(results.seconds)) }))
                (fact("Rounds", html! { (results.rounds) " of " (duration(results.duration)) }))
                (fact("Generator", html! { (results.generator) }))
                (fact("Gearshift", html! { (results.version) }))
                @if let Some(packages) = columns::python(results) { (fact("Packages", html! { (packages) })) }
                (fact("Processor", html! { (machine.cpu) ", " (several(machine.cores, "core")) }))
                (fact("Servers on", html! { (core_list(&machine.server_cores)) }))
                (fact("Generator on", html! { (core_list(&machine.generator_cores)) }))
                (fact("Memory", html! { (Unit::Bytes.write(machine.memory_kib as f64 * 1024.0)) }))
                (fact("Kernel", html! { (machine.kernel) }))
            }
            @if !results.subjects.is_empty() {
                h3 id="servers" { "Servers" }
                div class="wide" tabindex="0" role="region" aria-labelledby="servers" {
                    table class="servers" {
                        thead { tr { th scope="col" { "Server" } th scope="col" { "Model" } th scope="col" { "Started by" } } }
                        tbody {
                            @for subject in &results.subjects {
                                tr {
                                    th scope="row" { (legend.badge(&subject.name)) }
                                    td { (if subject.model.is_empty() { MISSING } else { &subject.model }) }
                                    td { code { (subject.command) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn fact(name: &str, text: Markup) -> Markup {
    html! { div { dt { (name) } dd { (text) } } }
}

fn times(rounds: usize) -> String {
    match rounds {
        1 => "once".into(),
        2 => "twice".into(),
        rounds => format!("{rounds} times"),
    }
}
