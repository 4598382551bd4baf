//! A claim about resizing images in place and in the thread pool.

use super::blocking::{neighbours, p99};
use super::{App, Check, every};
use crate::claims::pictures::picture;
use crate::claims::{Measured, finding};
use crate::format::{number, time};
use crate::load::{Pacing, Request, Traffic};
use crate::results::Finding;

/// The neighbours' p99 has to be this many times higher beside resizing in place.
const TIMES: f64 = 2.0;

pub(super) const BELONG_IN_THE_THREAD_POOL: Check = Check {
    app: App::FastApi,
    statement: "Resizing images belongs in the thread pool, because Pillow releases the GIL: in an `async def` view, \
                neighbours wait at least twice as long",
    wanted: Some(false),
    of: every,
    package: Some("pillow"),
    trials: || {
        let picture = picture();
        let beside = |path: &str| {
            let request = Request::post(path, picture.clone());
            neighbours("/plaintext", Some(Traffic::new(1, request, Pacing::Closed)))
        };
        vec![neighbours("/plaintext", None), beside("/resize"), beside("/resize/in-place")]
    },
    judge: |measured, _| measured.iter().map(judged).collect(),
};

fn judged(one: &Measured<'_>) -> Finding {
    let [alone, pool, in_place] = p99(one);
    let times = in_place / pool.max(1.0);
    let text = format!(
        "neighbours' p99 {} alone, {} beside the pool, {} in place: {} times",
        time(alone),
        time(pool),
        time(in_place),
        number(times)
    );
    finding(one.subject, text, format!("at least {} times", number(TIMES)), times / TIMES)
}
