//! What is being measured: a bar on a terminal, a line for each scenario elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the bar's clock is drawn.
const TICK: Duration = Duration::from_millis(250);
const TEMPLATE: &str = "{elapsed_precise} {bar:24} {pos}/{len}  {wide_msg}";

/// Tells a user on standard error how far it is.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
}

impl Progress {
    /// For so many steps.
    pub fn new(steps: usize) -> Progress {
        let plain = !std::io::stderr().is_terminal();
        let target = if plain { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        if !plain {
            bar.enable_steady_tick(TICK);
        }
        Progress { bar, plain }
    }

    /// Something that is to be read later, too.
    pub fn say(&self, what: &str) {
        if self.plain {
            // Nobody is left to be told that nobody reads.
            let _ = writeln!(std::io::stderr(), "{what}");
        } else {
            self.bar.println(what);
        }
    }

    /// Something larger begins.
    pub fn begin(&self, what: &str) {
        if self.plain {
            let done = self.bar.position() * 100 / self.bar.length().unwrap_or(1).max(1);
            let _ = writeln!(std::io::stderr(), "{done:3}% {what}");
        }
    }

    /// A step begins.
    pub fn step(&self, what: String) {
        self.bar.set_message(what);
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
