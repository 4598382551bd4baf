//! Shows progress on standard error: a bar on a terminal, otherwise one line per scenario.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Interval at which the bar's clock is redrawn.
const TICK: Duration = Duration::from_millis(250);
const TEMPLATE: &str = "{elapsed_precise} {bar:24} {pos}/{len}  {wide_msg}";

/// The progress of a comparison, shown on standard error.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
}

impl Progress {
    /// Progress of `steps` steps.
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

    /// Prints a line that stays visible.
    pub fn print(&self, text: &str) {
        if self.plain {
            // There is nowhere left to report that standard error is closed.
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            self.bar.println(text);
        }
    }

    /// Begins a scenario or a claim.
    pub fn begin(&self, text: &str) {
        if self.plain {
            let done = self.bar.position() * 100 / self.bar.length().unwrap_or(1).max(1);
            let _ = writeln!(std::io::stderr(), "{done:3}% {text}");
        }
    }

    /// Begins a step.
    pub fn step(&self, text: String) {
        self.bar.set_message(text);
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
