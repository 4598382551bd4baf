//! The table of ratios, for a comparison of Python servers.

use maud::{Markup, html};

use crate::columns;
use crate::results::Ratio;

/// The section; empty without ratios.
pub(super) fn ratios(ratios: &[Ratio]) -> Markup {
    if ratios.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 id="ratios" { "Ratios" }
            p { (columns::ABOUT_RATIOS) }
            div class="wide" tabindex="0" role="region" aria-labelledby="ratios" {
                table class="changes" {
                    thead { tr { @for name in columns::RATIOS { th scope="col" { (name) } } } }
                    tbody { @for ratio in ratios { tr { @for cell in columns::ratio_cells(ratio) { td { (cell) } } } } }
                }
            }
        }
    }
}
