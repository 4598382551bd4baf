//! Pictures of every kind, and files that are none, on every backend that is compiled in.

use image::{DynamicImage, GenericImageView, ImageFormat};
use thumbnails::MAX_BYTES;

use crate::client::{each_backend, encode, file, last_answer, picture, post, send_head};

const FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP];
const ROUTES: [&str; 2] = ["/thumbnail", "/thumbnail/in-place"];

#[test]
fn every_format_comes_back_as_itself_and_smaller() {
    each_backend(|server| {
        for format in FORMATS {
            let file = file(format, 300, 200);
            for route in ROUTES {
                let answer = post(server, &format!("{route}?w=60&h=60"), &file);
                assert_eq!((answer.status, answer.field("Content-Type")), (200, Some(format.to_mime_type())));
                let small = image::load_from_memory_with_format(&answer.body, format).expect("a picture");
                assert_eq!(small.dimensions(), (60, 40));
                let [left, right] = [small.get_pixel(5, 20).0, small.get_pixel(54, 20).0];
                assert!(left[0] > 240 && left[2] < 15, "{format:?} {left:?}");
                assert!(right[2] > 240 && right[0] < 15, "{format:?} {right:?}");
            }
        }
    });
}

#[test]
fn every_kind_of_pixel_is_kept() {
    let colour = picture(40, 20);
    let kinds: [DynamicImage; 8] = [
        colour.to_luma8().into(),
        colour.to_luma_alpha8().into(),
        colour.to_rgb8().into(),
        colour.to_rgba8().into(),
        colour.to_luma16().into(),
        colour.to_luma_alpha16().into(),
        colour.to_rgb16().into(),
        colour.to_rgba16().into(),
    ];
    each_backend(|server| {
        for kind in &kinds {
            let answer = post(server, "/thumbnail?w=10&h=10", &encode(kind, ImageFormat::Png));
            let small = image::load_from_memory(&answer.body).expect("a picture");
            assert_eq!((small.dimensions(), small.color()), ((10, 5), kind.color()));
        }
    });
}

/// The size of a picture, the requested size, and the size of the thumbnail.
const SIZES: [((u32, u32), (u32, u32), (u32, u32)); 8] = [
    ((300, 200), (60, 2048), (60, 40)),
    ((300, 200), (2048, 60), (90, 60)),
    ((300, 200), (150, 100), (150, 100)),
    ((300, 200), (300, 200), (300, 200)),
    // A thumbnail is never larger than its picture, and never empty.
    ((30, 20), (2048, 2048), (30, 20)),
    ((1000, 1), (10, 10), (10, 1)),
    ((1, 1000), (10, 10), (1, 10)),
    ((3, 2), (1, 1), (1, 1)),
];

#[test]
fn the_proportions_stay() {
    each_backend(|server| {
        for (size, most, expected) in SIZES {
            let target = format!("/thumbnail?w={}&h={}", most.0, most.1);
            let answer = post(server, &target, &file(ImageFormat::Png, size.0, size.1));
            let small = image::load_from_memory(&answer.body).expect("a picture");
            assert_eq!(small.dimensions(), expected, "{size:?} into {most:?}");
        }
    });
}

#[test]
fn an_invalid_size_is_refused() {
    let file = file(ImageFormat::Png, 4, 4);
    each_backend(|server| {
        for query in [
            "",
            "?",
            "?w=1",
            "?h=1",
            "?w=0&h=1",
            "?w=1&h=0",
            "?w=2049&h=1",
            "?w=1&h=99999999999",
            "?w=-1&h=1",
        ] {
            for route in ROUTES {
                let answer = post(server, &format!("{route}{query}"), &file);
                assert_eq!(answer.status, 400, "{query}");
                assert!(answer.text().ends_with("must be a number of pixels from 1 to 2048"), "{query}");
            }
        }
    });
}

#[test]
fn a_file_that_is_not_a_picture_is_refused() {
    let broken = |format| {
        let mut file = file(format, 600, 400);
        let from = file.len() / 2;
        file[from..].fill(0x55);
        file
    };
    let truncated = |format| {
        let mut file = file(format, 600, 400);
        file.truncate(file.len() * 2 / 3);
        file
    };
    let mut table = vec![
        ("nothing", Vec::new(), 415),
        ("text", b"What a picture!".to_vec(), 415),
        ("garbage", (0..=255).cycle().take(100_000).collect(), 415),
        ("a format that is not compiled in", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec(), 415),
    ];
    for format in FORMATS {
        let whole = file(format, 600, 400);
        table.push(("a signature", whole[..12].to_vec(), 400));
        table.push(("a cut file", truncated(format), 400));
        table.push(("a broken file", broken(format), 400));
    }
    each_backend(|server| {
        for (what, file, status) in &table {
            for route in ROUTES {
                let answer = post(server, &format!("{route}?w=8&h=8"), file);
                assert_eq!(answer.status, *status, "{what}: {}", answer.text());
                assert!(!answer.body.is_empty(), "{what}");
            }
        }
    });
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    each_backend(|server| {
        for route in ROUTES {
            let target = format!("{route}?w=8&h=8");
            // By its length, before it is sent.
            let length = format!("Content-Length: {}", MAX_BYTES + 1);
            assert_eq!(last_answer(send_head(server, &target, &length)).status, 413);
            // By what has arrived.
            let mut client = send_head(server, &target, "Transfer-Encoding: chunked");
            let chunk = vec![0; MAX_BYTES / 16];
            for _ in 0..=16 {
                client.send(format!("{:x}\r\n", chunk.len()));
                client.send(&chunk);
                client.send("\r\n");
            }
            assert_eq!(last_answer(client).status, 413);
        }
    });
}
