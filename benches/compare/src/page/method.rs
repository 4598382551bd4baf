//! How it was measured: enough for a reader to judge the figures, and to take them again.

use maud::{Markup, html};

use crate::results::Results;

use super::roster::Roster;
use crate::format::{NOTHING, Unit, date, duration, several};

pub(super) fn method(results: &Results, roster: &Roster<'_>) -> Markup {
    let machine = &results.machine;
    html! {
        section {
            h2 id="method" { "How it was measured" }
            p {
                "Every load was put on every server " (times(results.rounds)) ", for " (duration(results.duration))
                " each, the servers taking turns, so that what happens to the machine meanwhile happens to all. Figures are "
                "medians over these rounds; the range below a figure, the band around a line and the whisker on a bar are "
                "the least and the most. Latency counts from when a request was due, not from when it could be sent, so that "
                "waiting for a server that is busy is part of it. A hollow mark, or ≥, is the least that "
                "it can be: a rate at which the generator was the bottleneck, or a latency of requests that had no answer "
                "when the time was over."
            }
            dl class="facts" {
                (fact("Command", html! { code { (results.command) } }))
                (fact("Began", html! { time datetime=(results.began) { (date(&results.began)) } }))
                (fact("Took", html! { (duration(results.seconds)) }))
                (fact("Rounds", html! { (results.rounds) " of " (duration(results.duration)) }))
                (fact("Generator", html! { (results.generator) }))
                (fact("Gearshift", html! { (results.version) }))
                (fact("Processor", html! { (machine.cpu) ", " (several(machine.cores, "core")) }))
                (fact("Servers on", html! { (pinned(&machine.server_cores)) }))
                (fact("Generator on", html! { (pinned(&machine.generator_cores)) }))
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
                                    th scope="row" { (roster.badge(&subject.name)) }
                                    td { (if subject.model.is_empty() { NOTHING } else { &subject.model }) }
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

fn pinned(cores: &[usize]) -> String {
    let list: Vec<String> = cores.iter().map(usize::to_string).collect();
    match &list[..] {
        [] => "any core".into(),
        [one] => format!("core {one}"),
        _ => format!("cores {}", list.join(", ")),
    }
}
