//! Bodies of each origin: what they tell about their length, and what reading them gives.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::future::block_on;
use futures_lite::{StreamExt, stream};
use gearshift_core::{Body, BodyError, Bytes, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};

/// Creates a body of unknown length that gives `pieces`.
fn streamed(pieces: &'static [&'static str]) -> Body {
    Body::from_stream(stream::iter(pieces).map(|piece| Ok::<_, BodyError>(Bytes::from(*piece))))
}

fn full(text: &'static str) -> Body {
    Body::from_http(Full::<Bytes>::from(text))
}

/// Creates each body again for each way to read it.
type Make = fn() -> Body;

/// The content of bodies, their length as far as it is known, their debug output, and bodies of which this is true.
const TABLE: &[(&str, Option<u64>, &str, &[Make])] = &[
    (
        "",
        Some(0),
        "Body(empty)",
        &[Body::empty, Body::default, || ().into(), || "".into(), || b""[..].into(), || full("")],
    ),
    (
        "abc",
        Some(3),
        "Body(3 bytes)",
        &[
            || "abc".into(),
            || b"abc"[..].into(),
            || "abc".to_owned().into(),
            || b"abc".to_vec().into(),
            || Bytes::from("abc").into(),
        ],
    ),
    ("abc", Some(3), "Body(stream, Some(3) left)", &[|| full("abc")]),
    (
        "abc",
        None,
        "Body(stream, None left)",
        &[|| streamed(&["abc"]), || streamed(&["", "a", "", "bc", ""]), || streamed(&["a", "b", "c"])],
    ),
    ("", None, "Body(stream, None left)", &[|| streamed(&[]), || streamed(&["", ""])]),
];

#[test]
fn a_body_tells_its_length_as_far_as_it_is_known() {
    for (content, length, debug, bodies) in TABLE {
        for (n, make) in bodies.iter().enumerate() {
            let case = format!("{content:?}, {debug}, {n}");
            let body = make();
            assert_eq!(body.remaining(), *length, "{case}");
            assert_eq!(body.is_empty(), *length == Some(0), "{case}");
            assert_eq!(body.is_end_stream(), *length == Some(0), "{case}");
            assert_eq!(body.size_hint().exact(), *length, "{case}");
            assert_eq!(format!("{body:?}"), *debug, "{case}");
        }
    }
}

#[test]
fn a_body_gives_its_content_in_each_way_of_reading() {
    for (content, _, debug, bodies) in TABLE {
        for (n, make) in bodies.iter().enumerate() {
            let case = format!("{content:?}, {debug}, {n}");
            let pieces: Vec<Bytes> = block_on(make().try_collect()).expect("no piece is an error");
            assert!(pieces.iter().all(|piece| !piece.is_empty()), "{case}");
            assert_eq!(pieces.concat(), content.as_bytes(), "{case}");
            let collected = block_on(BodyExt::collect(make())).expect("no frame is an error");
            assert_eq!(collected.to_bytes(), content, "{case}");
            block_on(async {
                let mut body = make();
                let mut read = Vec::new();
                while let Some(piece) = body.chunk().await {
                    read.extend_from_slice(&piece.expect("no piece is an error"));
                }
                assert_eq!(read, content.as_bytes(), "{case}");
                assert!(body.chunk().await.is_none(), "{case}: nothing follows the end");
            });
        }
    }
}

#[test]
fn the_whole_body_has_at_most_as_many_bytes_as_the_reader_wants() {
    for (content, _, debug, bodies) in TABLE {
        for (n, make) in bodies.iter().enumerate() {
            for limit in 0..5 {
                let case = format!("{content:?}, {debug}, {n}, limit {limit}");
                match block_on(make().bytes(limit)) {
                    Ok(bytes) => {
                        assert!(content.len() <= limit, "{case}");
                        assert_eq!(bytes, content, "{case}");
                    }
                    Err(BodyError::TooLarge { limit: told }) => {
                        assert!(content.len() > limit, "{case}");
                        assert_eq!(told, limit as u64, "{case}");
                    }
                    Err(error) => panic!("{case}: {error}"),
                }
            }
        }
    }
}

/// A body that is known to have five bytes and must not be read.
struct Untouched;

impl HttpBody for Untouched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        panic!("the body was read")
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(5)
    }
}

#[test]
fn a_body_that_is_known_to_be_too_large_is_not_read() {
    let error = block_on(Body::from_http(Untouched).bytes(4)).expect_err("the body is too large");
    assert!(matches!(error, BodyError::TooLarge { limit: 4 }));
}

#[test]
fn an_error_of_the_source_reaches_the_reader() {
    let pieces = [Ok(Bytes::from("a")), Err("the disk is gone")];
    let mut body = Body::from_stream(stream::iter(pieces));
    block_on(async {
        assert_eq!(body.chunk().await.expect("a piece").expect("no error"), "a");
        let error = body.chunk().await.expect("a piece").expect_err("an error");
        assert_eq!(error.to_string(), "the body's source failed: the disk is gone");
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
    });
}
