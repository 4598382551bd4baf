//! A claim about resizing images in place and on the compute pool.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

use super::blocking::neighbours;
use super::{Check, Measured, event_loop, finding};
use crate::format::{number, time};
use crate::load::{Pacing, Request, Traffic};
use crate::results::Finding;
use crate::serve::Application;
use crate::trial::Trial;

/// An image that takes some tens of milliseconds to resize.
const SIZE: (u32, u32) = (1600, 1200);
/// The other clients' p99 has to be this many times higher beside resizing in place.
const TIMES: f64 = 2.0;

pub(super) const BELONG_ON_THE_COMPUTE_POOL: Check = Check {
    statement: "Image resizing belongs on the compute pool: in place, other clients wait at least twice as long",
    of: event_loop,
    trials: |cores| {
        let picture = picture();
        let beside = |path: &str| {
            let request = Request::post(format!("{path}?w=200&h=200"), picture.clone());
            neighbours(Application::Thumbnails, "/", Some(Traffic::new(cores, request, Pacing::Closed)))
        };
        let alone: Trial = neighbours(Application::Thumbnails, "/", None);
        vec![alone, beside("/thumbnail"), beside("/thumbnail/in-place")]
    },
    judge: |measured, _| measured.iter().map(judged).collect(),
};

fn judged(one: &Measured<'_>) -> Finding {
    let [alone, pool, in_place] = [0, 1, 2].map(|trial: usize| one.measures[trial].latency.p99.median);
    let times = in_place / pool.max(1.0);
    let text = format!(
        "other clients' p99 {} alone, {} beside the pool, {} in place: {} times",
        time(alone),
        time(pool),
        time(in_place),
        number(times)
    );
    finding(one.subject, text, format!("at least {} times", number(TIMES)), times / TIMES)
}

/// A gradient, as a PNG file.
pub(crate) fn picture() -> Vec<u8> {
    let shade = |x: u32, y: u32| Rgb([x, y, x ^ y].map(|value| u8::try_from(value % 256).unwrap_or(0)));
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(SIZE.0, SIZE.1, shade));
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, ImageFormat::Png).expect("writing to memory cannot fail");
    file.into_inner()
}
