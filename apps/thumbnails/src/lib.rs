//! Makes pictures smaller: a tenth of a second of a core for each request, on strangers' files.
//!
//! What it teaches is that an upload and its work are two things. The upload waits, so it is awaited, up to a limit;
//! the work burns, so it goes to [`Runtime::compute`], whose threads also bound how many pictures are unpacked at
//! once. `/thumbnail/in-place` leaves that out, which is all the same on a blocking backend, and on an event loop
//! stops everybody else on it.
//!
//! `cargo run --release -p thumbnails -- --backend mio`

use std::io::{self, Cursor};

use fast_image_resize::Resizer;
use gearshift::http::HeaderValue;
use gearshift::{Bytes, Refusal, Request, Response, Router, Runtime, StatusCode, header, sync};
use image::{ColorType, DynamicImage, ImageError, ImageFormat, ImageReader, Limits};

/// The largest file, in bytes.
pub const MOST_BYTES: usize = 16 << 20;
/// The widest and the highest picture, in pixels.
pub const MOST_PIXELS: u32 = 16_384;
/// The largest picture unpacked, in bytes: 33 megapixels in colour. Decoders may need some times as much meanwhile.
pub const MOST_UNPACKED: u64 = 96 << 20;
/// The widest and the highest thumbnail, in pixels.
pub const MOST_THUMBNAIL: u32 = 2048;

/// What there is to ask.
const PAGE: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>thumbnails</title>\
    <style>:root{color-scheme:light dark}body{margin:10vh auto;max-width:44rem;font:16px/1.6 system-ui}</style>\
    <h1>thumbnails</h1><p>A PNG, JPEG or WebP, made to fit into <code>w</code> by <code>h</code> pixels:\
    <pre>curl --data-binary @picture.jpg 'http://127.0.0.1:8000/thumbnail?w=320&amp;h=320' -o small.jpg</pre>\
    <p><code>/thumbnail/in-place</code> does the same on the thread of the connections: the mistake.</html>\n";

/// The application, on whichever backend `runtime` belongs to.
pub fn app(runtime: Runtime) -> Router {
    Router::new()
        .get("/", sync(|_| Response::html(PAGE)))
        .post("/thumbnail", move |request: Request| {
            let runtime = runtime.clone();
            async move {
                let (file, most) = upload(request).await?;
                runtime.compute(move || thumbnail(&file, most)).await
            }
        })
        .post("/thumbnail/in-place", async |request: Request| {
            let (file, most) = upload(request).await?;
            thumbnail(&file, most)
        })
}

/// Width and height, in pixels.
type Size = (u32, u32);

/// The file, and the size that its thumbnail may have. The latter is judged before anything of the former is read.
async fn upload(request: Request) -> Result<(Bytes, Size), Refusal> {
    let most = (side(&request, "w")?, side(&request, "h")?);
    Ok((request.into_body().bytes(MOST_BYTES).await?, most))
}

fn side(request: &Request, name: &str) -> Result<u32, Refusal> {
    let pixels = request.query_param(name).and_then(|pixels| pixels.parse().ok());
    pixels.filter(|pixels| (1..=MOST_THUMBNAIL).contains(pixels)).ok_or_else(|| {
        let why = format!("{name} is to be given in pixels, from 1 to {MOST_THUMBNAIL}");
        Refusal::new(StatusCode::BAD_REQUEST, why)
    })
}

/// The picture in `file` at no more than the size `most`, in the format it came in.
fn thumbnail(file: &[u8], most: Size) -> Result<Response, Refusal> {
    let (format, picture) = unpack(file).map_err(refusal)?;
    let (width, height) = fit((picture.width(), picture.height()), most);
    let mut small = DynamicImage::new(width, height, picture.color());
    let mut packed = Vec::new();
    Resizer::new().resize(&picture, &mut small, None).map_err(failure)?;
    small.write_to(&mut Cursor::new(&mut packed), format).map_err(failure)?;
    Ok(Response::new(packed)
        .with_value(header::CONTENT_TYPE, HeaderValue::from_static(format.to_mime_type())))
}

/// Decodes a file after what it says of its size was found to be within the limits.
fn unpack(file: &[u8]) -> Result<(ImageFormat, DynamicImage), ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MOST_PIXELS);
    limits.max_image_height = Some(MOST_PIXELS);
    limits.max_alloc = Some(MOST_UNPACKED);
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

/// Checks that a JPEG is all there. The decoder would fill up with grey what is not.
fn has_end(file: &[u8]) -> Result<(), ImageError> {
    // Neither marker can stand in the data of a scan (ITU-T T.81, B.1.1.5); a preview in the head has both.
    let last = |marker: [u8; 2]| file.windows(2).rposition(|two| two == marker);
    let ends = last([0xFF, 0xD9]) > last([0xFF, 0xDA]);
    ends.then_some(()).ok_or_else(|| ImageError::IoError(io::ErrorKind::UnexpectedEof.into()))
}

/// Checks the size of each lossy frame of a WebP (RFC 6386, 9.1; RFC 9649, 2.5). The decoder would unpack it before
/// it compares that with the size of the picture.
fn has_frames_within(file: &[u8], limits: &Limits) -> Result<(), ImageError> {
    let frames = file.windows(18).filter(|at| at.starts_with(b"VP8 ") && at[11..14] == [0x9D, 0x01, 0x2A]);
    for frame in frames {
        let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
        let (width, height) = (side(frame[14], frame[15]), side(frame[16], frame[17]));
        limits.clone().reserve_buffer(width, height, ColorType::Rgb8)?;
    }
    Ok(())
}

/// The largest size within `most` that has the proportions of `size` and is not larger than it.
fn fit(size: Size, most: Size) -> Size {
    let ratio = |most: u32, side: u32| f64::from(most) / f64::from(side);
    let scale = ratio(most.0, size.0).min(ratio(most.1, size.1)).min(1.0);
    let scaled = |side: u32| (f64::from(side) * scale).round().max(1.0) as u32;
    (scaled(size.0), scaled(size.1))
}

/// What is wrong with a file: it is no picture we know, larger than it may be, or broken.
fn refusal(error: ImageError) -> Refusal {
    let status = match &error {
        ImageError::Unsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ImageError::Limits(_) => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::BAD_REQUEST,
    };
    Refusal::new(status, error.to_string())
}

/// What went wrong with a picture that was sound.
fn failure(error: impl std::error::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
