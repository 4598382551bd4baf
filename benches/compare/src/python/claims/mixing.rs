//! Claims about `def` and `async def` views in one application.

use super::{App, Check, every};
use crate::claims::{Measured, closed, finding, fits};
use crate::format::{number, time};
use crate::results::{Finding, Spread};

const CONNECTIONS: usize = 16;
/// Allowed difference, as a share, unless the rounds differ by more.
const TOLERANCE: f64 = 0.05;

pub(super) const FLASK: Check = Check {
    app: App::Flask,
    statement: "Mixing `def` and `async def` costs nothing: an `async def` view takes at most 5% more CPU time than a \
                `def` view",
    wanted: Some(true),
    of: every,
    package: Some("asgiref"),
    trials: || vec![closed(CONNECTIONS, "/plaintext"), closed(CONNECTIONS, "/async")],
    judge: |measured, _| measured.iter().map(|one| costs_nothing(one, ["def", "async def"])).collect(),
};

pub(super) const FASTAPI: Check = Check {
    app: App::FastApi,
    statement: "Mixing `def` and `async def` costs nothing: a `def` view takes at most 5% more CPU time than an \
                `async def` view",
    package: None,
    trials: || vec![closed(CONNECTIONS, "/plaintext"), closed(CONNECTIONS, "/def")],
    judge: |measured, _| measured.iter().map(|one| costs_nothing(one, ["async def", "def"])).collect(),
    ..FLASK
};

/// Compares the CPU time of the second trial with that of the first. `names` are those of the two kinds of view.
fn costs_nothing(one: &Measured<'_>, names: [&str; 2]) -> Finding {
    let [native, foreign] = [0, 1].map(|trial: usize| one.measures[trial].cpu());
    let noise = [&native, &foreign].map(Spread::range).into_iter().fold(TOLERANCE, f64::max);
    let allowed = native.median * (1.0 + noise);
    let text = format!(
        "{} {}, {} {}: {} times",
        names[0],
        time(native.median),
        names[1],
        time(foreign.median),
        number(foreign.median / native.median.max(1e-9))
    );
    finding(one.subject, text, format!("at most {}", time(allowed)), fits(foreign.median, allowed))
}
