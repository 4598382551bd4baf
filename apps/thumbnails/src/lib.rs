//! Makes thumbnails of pictures that strangers upload. A request takes a core about a tenth of a second.
//!
//! The application shows how to separate an upload from its computation. The handler awaits the upload, up to a size
//! limit. The computation runs on [`Runtime::compute`](gearshift::Runtime::compute), whose threads also limit how many
//! pictures are decoded at once. The route `/thumbnail/in-place` computes on the thread of the connection. On a
//! blocking backend this makes no difference; on an event loop it stalls all other connections of that loop.
//!
//! `cargo run --release -p thumbnails -- --backend mio`

use std::io::{self, Cursor};

use fast_image_resize::Resizer;
use gearshift::http::HeaderValue;
use gearshift::{Bytes, Refusal, Request, Response, Router, StatusCode, header, sync};
use image::{ColorType, DynamicImage, ImageError, ImageFormat, ImageReader, Limits};

/// The maximum size of a file, in bytes.
pub const MAX_BYTES: usize = 16 << 20;
/// The maximum width and height of a picture, in pixels.
pub const MAX_PIXELS: u32 = 16_384;
/// The maximum size of a decoded picture, in bytes: 33 megapixels in colour. A decoder may need several times as much
/// memory while it works.
pub const MAX_DECODED: u64 = 96 << 20;
/// The maximum width and height of a thumbnail, in pixels.
pub const MAX_THUMBNAIL: u32 = 2048;

/// The page that describes the routes.
const PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>thumbnails</title>\
    <style>:root{color-scheme:light dark}body{margin:10vh auto;max-width:44rem;font:16px/1.6 system-ui}</style>\
    <h1>thumbnails</h1><p>Scales a PNG, JPEG or WebP down to at most <code>w</code> by <code>h</code> pixels:\
    <pre>curl --data-binary @picture.jpg 'http://127.0.0.1:8000/thumbnail?w=320&amp;h=320' -o small.jpg</pre>\
    <p><code>/thumbnail/in-place</code> makes the mistake: it does the same on the thread of the connection.</html>\n";

/// The application.
pub fn app() -> Router {
    Router::new()
        .get("/", sync(|_| Response::html(PAGE)))
        .post("/thumbnail", async |request: Request| {
            let runtime = request.runtime().clone();
            let (file, max) = upload(request).await?;
            runtime.compute(move || thumbnail(&file, max)).await
        })
        .post("/thumbnail/in-place", async |request: Request| {
            let (file, max) = upload(request).await?;
            thumbnail(&file, max)
        })
}

/// Width and height, in pixels.
type Size = (u32, u32);

/// Reads the file, and the maximum size of its thumbnail. The size is checked before the file is read.
async fn upload(request: Request) -> Result<(Bytes, Size), Refusal> {
    let max = (side(&request, "w")?, side(&request, "h")?);
    Ok((request.into_body().bytes(MAX_BYTES).await?, max))
}

fn side(request: &Request, name: &str) -> Result<u32, Refusal> {
    let pixels = request.query_param(name).and_then(|pixels| pixels.parse().ok());
    pixels.filter(|pixels| (1..=MAX_THUMBNAIL).contains(pixels)).ok_or_else(|| {
        let why = format!("{name} must be a number of pixels from 1 to {MAX_THUMBNAIL}");
        Refusal::new(StatusCode::BAD_REQUEST, why)
    })
}

/// Scales the picture in `file` down to at most the size `max`. The format stays the same.
fn thumbnail(file: &[u8], max: Size) -> Result<Response, Refusal> {
    let (format, picture) = decode(file).map_err(refusal)?;
    let (width, height) = fit((picture.width(), picture.height()), max);
    let mut small = DynamicImage::new(width, height, picture.color());
    let mut encoded = Vec::new();
    Resizer::new().resize(&picture, &mut small, None).map_err(failure)?;
    small.write_to(&mut Cursor::new(&mut encoded), format).map_err(failure)?;
    Ok(Response::new(encoded)
        .with_header(header::CONTENT_TYPE, HeaderValue::from_static(format.to_mime_type())))
}

/// Decodes a file. The sizes that the file claims are checked against the limits first.
fn decode(file: &[u8]) -> Result<(ImageFormat, DynamicImage), ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_PIXELS);
    limits.max_image_height = Some(MAX_PIXELS);
    limits.max_alloc = Some(MAX_DECODED);
    let format = image::guess_format(file)?;
    match format {
        ImageFormat::Jpeg => has_end(file)?,
        ImageFormat::WebP => has_frames_within(file, &limits)?,
        _ => {}
    }
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    reader.limits(limits);
    Ok((format, reader.decode()?))
}

/// Checks that a JPEG is complete. The decoder would fill a missing part with grey.
fn has_end(file: &[u8]) -> Result<(), ImageError> {
    // Neither marker occurs in the data of a scan (ITU-T T.81, B.1.1.5). A preview in the header contains both.
    let last = |marker: [u8; 2]| file.windows(2).rposition(|two| two == marker);
    let ends = last([0xFF, 0xD9]) > last([0xFF, 0xDA]);
    ends.then_some(()).ok_or_else(|| ImageError::IoError(io::ErrorKind::UnexpectedEof.into()))
}

/// Checks the size of each lossy frame of a WebP (RFC 6386, 9.1; RFC 9649, 2.5). The decoder decodes a frame before it
/// compares the size with that of the picture.
fn has_frames_within(file: &[u8], limits: &Limits) -> Result<(), ImageError> {
    let frames = file.windows(18).filter(|at| at.starts_with(b"VP8 ") && at[11..14] == [0x9D, 0x01, 0x2A]);
    for frame in frames {
        let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
        let (width, height) = (side(frame[14], frame[15]), side(frame[16], frame[17]));
        limits.clone().reserve_buffer(width, height, ColorType::Rgb8)?;
    }
    Ok(())
}

/// The largest size within `max` and within `size` that has the proportions of `size`.
fn fit(size: Size, max: Size) -> Size {
    let ratio = |max: u32, side: u32| f64::from(max) / f64::from(side);
    let scale = ratio(max.0, size.0).min(ratio(max.1, size.1)).min(1.0);
    let scaled = |side: u32| (f64::from(side) * scale).round().max(1.0) as u32;
    (scaled(size.0), scaled(size.1))
}

/// The response to an invalid file: its format is unknown, it is too large, or it is broken.
fn refusal(error: ImageError) -> Refusal {
    let status = match &error {
        ImageError::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ImageError::Limits(_) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::BAD_REQUEST,
    };
    Refusal::new(status, error.to_string())
}

/// The response if a valid picture cannot be scaled or encoded.
fn failure(error: impl std::error::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
