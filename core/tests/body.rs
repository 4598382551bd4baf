//! Bodies of each origin: what they tell about their length, and what reading them gives.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::future::{block_on, yield_now};
use futures_lite::{StreamExt, stream};
use gearshift_core::{Body, BodyError, Bytes, HeaderMap, HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full, StreamBody};

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

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

/// A future of trailers for [`Body::with_trailers`], which is not ready at first.
async fn later(map: HeaderMap) -> Option<Result<HeaderMap, BodyError>> {
    yield_now().await;
    Some(Ok(map))
}

/// Bodies with the content and the trailers that follow.
fn trailed() -> Vec<(&'static str, HeaderMap, Box<dyn Fn() -> Body>)> {
    let sum = || fields(&[("x-sum", "1")]);
    let frames = |frames: Vec<Frame<Bytes>>| {
        Body::from_http(StreamBody::new(stream::iter(frames.into_iter().map(Ok::<_, BodyError>))))
    };
    vec![
        ("abc", sum(), Box::new(move || Body::from("abc").with_trailers(later(sum())))),
        ("abc", sum(), Box::new(move || full("abc").with_trailers(later(sum())))),
        ("", sum(), Box::new(move || Body::empty().with_trailers(later(sum())))),
        ("abc", sum(), Box::new(move || streamed(&["", "a", "bc"]).with_trailers(later(sum())))),
        ("abc", sum(), Box::new(move || Body::from_http(Body::from("abc").with_trailers(later(sum()))))),
        ("abc", sum(), Box::new(move || frames(vec![Frame::data("abc".into()), Frame::trailers(sum())]))),
        ("", sum(), Box::new(move || frames(vec![Frame::trailers(sum())]))),
        // The trailers end the body.
        (
            "a",
            sum(),
            Box::new(move || {
                frames(vec![
                    Frame::data("a".into()),
                    Frame::trailers(HeaderMap::new()),
                    Frame::trailers(sum()),
                ])
            }),
        ),
        // Later trailers replace earlier ones.
        (
            "a",
            fields(&[("x-sum", "2"), ("x-sum", "3"), ("x-other", "1")]),
            Box::new(move || {
                let first = fields(&[("x-sum", "1"), ("x-other", "1")]);
                let second = fields(&[("x-sum", "2"), ("x-sum", "3")]);
                Body::from("a").with_trailers(later(first)).with_trailers(later(second))
            }),
        ),
        (
            "a",
            sum(),
            Box::new(move || Body::from("a").with_trailers(later(sum())).with_trailers(async { None })),
        ),
    ]
}

#[test]
fn trailers_follow_the_data_in_each_way_of_reading() {
    for (nth, (content, trailers, make)) in trailed().into_iter().enumerate() {
        let case = format!("{nth}, {content:?}");
        let body = make();
        assert_eq!(body.remaining(), None, "{case}: a length would exclude trailers");
        assert!(!body.is_empty() && !body.is_end_stream() && body.size_hint().exact().is_none(), "{case}");
        assert_eq!(block_on(body.bytes(3)).expect("no error"), content, "{case}");
        block_on(async {
            // All frames.
            let collected = BodyExt::collect(make()).await.expect("no error");
            assert_eq!(collected.trailers(), Some(&trailers), "{case}");
            assert_eq!(collected.to_bytes(), content, "{case}");
            // The data first. The end is seen twice.
            let (mut body, mut read) = (make(), Vec::new());
            while let Some(piece) = body.chunk().await {
                read.extend_from_slice(&piece.expect("no error"));
            }
            assert!(body.chunk().await.is_none(), "{case}");
            assert_eq!(read, content.as_bytes(), "{case}");
            assert_eq!(body.remaining(), None, "{case}: trailers follow");
            assert_eq!(body.trailers().await.expect("no error").as_ref(), Some(&trailers), "{case}");
            assert!(body.trailers().await.expect("no error").is_none() && body.is_empty(), "{case}");
            // The trailers at once.
            let mut body = make();
            assert_eq!(body.trailers().await.expect("no error").as_ref(), Some(&trailers), "{case}");
            assert!(body.chunk().await.is_none(), "{case}");
        });
        let (mut reader, mut text) = (make().reader(), String::new());
        reader.read_to_string(&mut text).expect("no error");
        assert_eq!(text, content, "{case}");
        assert_eq!(reader.trailers().expect("no error").as_ref(), Some(&trailers), "{case}");
        assert_eq!(reader.trailers().expect("no error"), None, "{case}");
    }
}

#[test]
fn a_body_without_trailers_has_none_after_its_end() {
    let none = || Body::from("abc").with_trailers(async { None });
    let once = || {
        Body::from_stream(Box::pin(futures_lite::stream::unfold(0, async |n| match n {
            0 => Some((Ok::<_, BodyError>(Bytes::from("abc")), 1)),
            1 => None,
            _ => panic!("polled after its end"),
        })))
    };
    let makes: [Make; 4] = [|| "abc".into(), || full("abc"), || streamed(&["a", "bc"]), Body::empty];
    for body in makes.into_iter().map(|make| make()).chain([none(), once()]) {
        block_on(async {
            let mut body = body;
            while body.chunk().await.transpose().expect("no error").is_some() {}
            for _ in 0..3 {
                assert_eq!(body.trailers().await.expect("no error"), None);
                assert!(body.chunk().await.is_none());
            }
        });
    }
}

#[test]
fn errors_of_trailers_reach_the_reader() {
    let fails = || Body::from("abc").with_trailers(async { Some(Err(BodyError::Source("no sum".into()))) });
    block_on(async {
        let mut body = fails();
        assert_eq!(body.chunk().await.expect("a piece").expect("no error"), "abc");
        assert_eq!(
            body.trailers().await.expect_err("an error").to_string(),
            "the body's source failed: no sum"
        );
        assert!(fails().bytes(10).await.is_err());
    });
    let broken = || Body::from_stream(stream::iter([Ok(Bytes::from("a")), Err("broken")]));
    let mut body = broken().with_trailers(async { panic!("the data did not end") });
    assert!(block_on(body.trailers()).is_err());
}
