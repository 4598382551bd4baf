//! Pictures made smaller, in place and on the compute pool.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use super::blocking::neighbours;
use super::{Check, Measured, event_loop, finding};
use crate::format::{number, time};
use crate::load::{Ask, Pace, Traffic};
use crate::results::Finding;
use crate::serve::Served;
use crate::trial::Trial;

/// Large enough to take some tens of milliseconds.
const SIZE: (u32, u32) = (1600, 1200);
/// How many times longer neighbours wait beside who does it in place.
const TIMES: f64 = 2.0;

pub(super) const BELONG_ON_THE_COMPUTE_POOL: Check = Check {
    statement: "Making pictures smaller belongs on the compute pool: in place, neighbours wait at least twice as long",
    of: event_loop,
    trials: |cores| {
        let picture = picture();
        let beside = |path: &str| {
            let ask = Ask::post(format!("{path}?w=200&h=200"), picture.clone());
            neighbours(Served::Thumbnails, "/", Some(Traffic::new(cores, ask, Pace::Closed)))
        };
        let alone: Trial = neighbours(Served::Thumbnails, "/", None);
        vec![alone, beside("/thumbnail"), beside("/thumbnail/in-place")]
    },
    judge: |measured, _| measured.iter().map(judged).collect(),
};

fn judged(one: &Measured<'_>) -> Finding {
    let [alone, pool, in_place] = [0, 1, 2].map(|trial: usize| one.measures[trial].latency.p99.median);
    let times = in_place / pool.max(1.0);
    let said = format!(
        "neighbours' p99 {} alone, {} beside the pool, {} in place: {} times",
        time(alone),
        time(pool),
        time(in_place),
        number(times)
    );
    finding(one.subject, said, format!("at least {} times", number(TIMES)), times / TIMES)
}

/// A gradient, as a PNG.
fn picture() -> Vec<u8> {
    let shade = |x: u32, y: u32| Rgb([x, y, x ^ y].map(|value| u8::try_from(value % 256).unwrap_or(0)));
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(SIZE.0, SIZE.1, shade));
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).expect("memory takes whatever is written");
    file.into_inner()
}
