//! Files that claim to be huge, or that become it, cost little. A separate program with one test, since it counts
//! the bytes that the whole process allocates.

use std::alloc::System;
use std::io::Cursor;
use std::time::Duration;

use gearshift::{Backend, TestServer};
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageEncoder, ImageFormat};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use test_support::client::{Answer, Client};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// How long one read of a client may take while the server decodes.
const PATIENCE: Duration = Duration::from_secs(60);
/// What refusing a file may cost, in bytes; what they claim is a hundred times as much.
const LITTLE: usize = 4 << 20;
/// What a colour profile unpacks to, in bytes; the decoder is to stop at half of that.
const PROFILE: usize = 192 << 20;

#[test]
fn a_bomb_costs_little_memory() {
    let table = [
        ("a PNG of 60,000 by 60,000", png_of(60_000, 60_000)),
        ("a PNG of 2^31 - 1 by 1", png_of(0x7FFF_FFFF, 1)),
        ("a PNG of 16,000 by 16,000", png_of(16_000, 16_000)),
        ("a PNG of 20,000 by 1", png_of(20_000, 1)),
        ("a JPEG of 65,500 by 65,500", jpeg_of(65_500, 65_500)),
        ("a JPEG of 16,000 by 16,000", jpeg_of(16_000, 16_000)),
        ("a WebP of 16,000 by 16,000", webp_of(16_000, 16_000)),
        ("a WebP of 8 by 8 with a frame of 16,000 by 16,000", webp_with_frame(16_000, 16_000)),
    ];
    for backend in Backend::available() {
        let server = TestServer::start(*backend, thumbnails::app()).expect("it starts");
        for (what, file) in &table {
            for route in ["/thumbnail", "/thumbnail/in-place"] {
                let (answer, allocated) = cost(&server, route, file);
                assert_eq!(answer.status, 422, "{what}: {}", answer.text());
                assert!(
                    answer.field("Content-Type").is_some_and(|kind| kind.starts_with("text/plain")),
                    "{what}"
                );
                assert!(allocated < LITTLE, "{what}: {allocated} bytes");
            }
        }
        server.stop().expect("it stops");
    }
    // It takes a while, and is the decoder's doing alone: once is enough. The picture itself is sound.
    let server = TestServer::start(Backend::available()[0], thumbnails::app()).expect("it starts");
    let (answer, allocated) = cost(&server, "/thumbnail", &png_with_profile(PROFILE));
    assert_eq!((answer.status, answer.field("Content-Type")), (200, Some("image/png")));
    assert!(allocated < PROFILE, "{allocated} bytes");
}

/// The answer to a file, and how many bytes were allocated for it, by the server and here.
fn cost(server: &TestServer, route: &str, file: &[u8]) -> (Answer, usize) {
    let region = Region::new(ALLOCATOR);
    let mut client = Client::connect_with(server.addr(), PATIENCE);
    let length = file.len();
    client.send(format!("POST {route}?w=8&h=8 HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"));
    client.send(file);
    let answer = client.answer();
    (answer, region.change().bytes_allocated)
}

/// A picture of 8 by 8 pixels.
fn small(format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    DynamicImage::new_rgb8(8, 8).write_to(&mut file, format).expect("a format that is compiled in");
    file.into_inner()
}

/// A PNG that says it has this size.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut file = small(ImageFormat::Png);
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&file[12..29]);
    file[29..33].copy_from_slice(&crc.to_be_bytes());
    file
}

/// CRC-32 as in PNG (RFC 2083, 15).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc: u32, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A JPEG that says it has this size.
fn jpeg_of(width: u16, height: u16) -> Vec<u8> {
    let mut file = small(ImageFormat::Jpeg);
    let frame = file.windows(2).position(|two| two == [0xFF, 0xC0]).expect("a baseline frame");
    file[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    file[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    file
}

/// A lossless WebP that says it has this size.
fn webp_of(width: u32, height: u32) -> Vec<u8> {
    let mut file = small(ImageFormat::WebP);
    assert_eq!((&file[12..16], file[20]), (&b"VP8L"[..], 0x2F));
    let size = (width - 1) | (height - 1) << 14;
    file[21..25].copy_from_slice(&size.to_le_bytes());
    file
}

/// A WebP of 8 by 8 pixels (RFC 9649, 2.7) whose one frame says it has this size.
fn webp_with_frame(width: u16, height: u16) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBPVP8X\x0A\0\0\0\0\0\0\0\x07\0\0\x07\0\0VP8 \0\x10\0\0".to_vec();
    // A key frame that is shown, with a first partition of 64 bytes.
    file.extend([0x10, 0x08, 0x00, 0x9D, 0x01, 0x2A]);
    file.extend(width.to_le_bytes());
    file.extend(height.to_le_bytes());
    file.resize(30 + 8 + 4096, 0);
    let size = u32::try_from(file.len() - 8).expect("it is small");
    file[4..8].copy_from_slice(&size.to_le_bytes());
    file
}

/// A small PNG with a colour profile of so many zeros.
fn png_with_profile(zeros: usize) -> Vec<u8> {
    let picture = DynamicImage::new_rgb8(8, 8);
    let mut file = Vec::new();
    let mut encoder = PngEncoder::new(&mut file);
    encoder.set_icc_profile(vec![0; zeros]).expect("PNG has profiles");
    encoder.write_image(picture.as_bytes(), 8, 8, picture.color().into()).expect("it is encoded");
    assert!(file.len() < zeros / 100 && file.len() > small(ImageFormat::Png).len());
    file
}
