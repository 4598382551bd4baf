//! The application that the wire cases run against: the demo, and routes under `/test` for cases that the demo has no
//! route for.

use std::io::{self, Read};

use futures_lite::{AsyncReadExt, AsyncWriteExt, stream};
use gearshift::{
    Body, BodyError, Bytes, HeaderMap, HeaderValue, IntoResponse, Request, Response, Router, StatusCode,
    Stream, blocking, header, sync,
};

/// A limit above the size of every body that a case sends.
const NO_LIMIT: usize = 1 << 30;

/// The demo with the routes for tests.
pub fn app() -> Router {
    demo::app()
        .any("/test/method", sync(|request: Request| request.method().as_str().to_owned()))
        .get("/test/target", sync(target))
        .get("/test/hello/{name}", sync(hello))
        .get(
            "/test/rest/{*rest}",
            sync(|request: Request| request.param("rest").map(|rest| rest.into_owned())),
        )
        .get("/test/query", sync(query))
        .get("/test/fields", sync(fields))
        .post("/test/read", async |request: Request| request.into_body().bytes(NO_LIMIT).await)
        .post("/test/read-sync", blocking(read))
        .post("/test/read-trailers", read_trailers)
        .post("/test/read-trailers-sync", blocking(read_trailers_sync))
        .any("/test/trailers/{body}", sync(trailers))
        .post("/test/ignore", sync(|_| "ignored"))
        .post("/test/ignore-async", async |_| "ignored")
        .get("/test/nothing", sync(|_| StatusCode::NO_CONTENT))
        .get("/test/nothing-much", sync(|_| Response::text("no body").with_status(StatusCode::NO_CONTENT)))
        .get("/test/unchanged", sync(unchanged))
        .get("/test/empty", sync(|_| ()))
        .get("/test/interim", sync(|_| StatusCode::PROCESSING))
        .get("/test/close", sync(|_| ("bye").into_response().with_header("connection", "close")))
        .get("/test/own", sync(own))
        .any("/test/answer/{status}/{body}", sync(answer))
        .any("status.test:80", sync(|_| ()))
        .any("text.test:80", sync(|_| "no tunnel"))
        .any("stream.test:80", async |_| answer_with("200", "stream"))
        .any("nothing.test:80", sync(|_| StatusCode::NO_CONTENT))
        .any("refused.test:80", sync(|_| StatusCode::FORBIDDEN))
        .get("/test/sized", async |request: Request| {
            Body::from_reader(request.runtime(), Some(10), &b"0123456789"[..])
        })
        .any("/test/upgrade", sync(|_| upgrade()))
        .post("/test/read-and-upgrade", async |request: Request| {
            request.into_body().bytes(NO_LIMIT).await?;
            Ok::<_, BodyError>(upgrade())
        })
        .get("/test/advertise", sync(|_| "fine".into_response().with_header("upgrade", "test/2")))
        .put("/test/put", sync(|_| StatusCode::CREATED))
        .delete("/test/put", sync(|_| ()))
}

fn target(request: Request) -> String {
    format!("{} {} {:?}", request.target(), request.path(), request.version())
}

fn hello(request: Request) -> Option<String> {
    request.param("name").map(|name| name.into_owned())
}

fn query(request: Request) -> String {
    request.query_pairs().map(|(name, value)| format!("[{name}][{value}]")).collect()
}

/// The values of the fields `X-A`, `X_A` and `X-B`, as they were received.
fn fields(request: Request) -> String {
    let fields = request.headers();
    let shown = ["X-A", "X_A", "X-B"].map(|name| {
        let values: Vec<_> = fields.get_all(name).map(String::from_utf8_lossy).collect();
        format!("{name}={values:?}")
    });
    shown.join(" ")
}

fn read(request: Request) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    request.into_body().reader().read_to_end(&mut body)?;
    Ok(body)
}

/// Answers with the data, a space, and each trailer in brackets, in the order of their names.
async fn read_trailers(request: Request) -> Result<Vec<u8>, BodyError> {
    let (mut body, mut data) = (request.into_body(), Vec::new());
    while let Some(piece) = body.chunk().await {
        data.extend_from_slice(&piece?);
    }
    Ok(with_shown(data, body.trailers().await?))
}

fn read_trailers_sync(request: Request) -> io::Result<Vec<u8>> {
    let (mut reader, mut data) = (request.into_body().reader(), Vec::new());
    reader.read_to_end(&mut data)?;
    Ok(with_shown(data, reader.trailers()?))
}

fn with_shown(mut data: Vec<u8>, trailers: Option<HeaderMap>) -> Vec<u8> {
    let trailers = trailers.unwrap_or_default();
    let mut shown: Vec<_> = trailers
        .iter()
        .map(|(name, value)| format!("[{name}][{}]", value.as_bytes().escape_ascii()))
        .collect();
    shown.sort_by_key(|field| field.split(']').next().map(str::to_owned));
    data.extend_from_slice(format!(" {}", shown.concat()).as_bytes());
    data
}

/// A response with trailers, and with the kind of body that the path names. One of its trailers is not allowed.
fn trailers(request: Request) -> Option<Response> {
    let pieces = || stream::iter(["a", "bc"].map(|piece| Ok::<_, io::Error>(Bytes::from(piece))));
    let body = match &*request.param("body")? {
        "none" => Body::empty(),
        "text" => Body::from("abc"),
        "stream" => Body::from_stream(pieces()),
        _ => return None,
    };
    let body = body.with_trailers(async {
        let mut trailers = HeaderMap::new();
        trailers.append("x-sum", HeaderValue::from_static("1"));
        trailers.append("content-length", HeaderValue::from_static("99"));
        trailers.append("x-sum", HeaderValue::from_static("2"));
        Some(Ok(trailers))
    });
    Some(Response::new(body).with_header("trailer", "x-sum"))
}

fn unchanged(_: Request) -> Response {
    const TAG: HeaderValue = HeaderValue::from_static("\"tag\"");
    Response::status_only(StatusCode::NOT_MODIFIED).with_header(header::ETAG, TAG)
}

/// A response after which the connection echoes all bytes in capitals, up to a full stop.
fn upgrade() -> Response {
    Response::upgrade(HeaderValue::from_static("test/2"), async |mut stream: Stream| {
        let mut byte = [0];
        while byte != *b"." && matches!(stream.read(&mut byte).await, Ok(1)) {
            byte.make_ascii_uppercase();
            if stream.write_all(&byte).await.is_err() {
                return;
            }
        }
    })
}

/// A response that sets fields which the server sets, too.
fn own(_: Request) -> Response {
    Response::new(Bytes::from_static(b"own"))
        .with_header("server", "mine")
        .with_header("content-length", "9")
        .with_header("transfer-encoding", "gzip")
        .with_header("x-twice", "1")
        .append_header("x-twice", "2")
}

/// The response with the status and the kind of body that the path names. `?9` sets `Content-Length: 9`.
fn answer(request: Request) -> Option<Response> {
    let response = answer_with(&request.param("status")?, &request.param("body")?)?;
    Some(match request.query_str() {
        Some(length) => response.with_header("content-length", length),
        None => response,
    })
}

fn answer_with(status: &str, body: &str) -> Option<Response> {
    let piece = || stream::once(Ok::<_, io::Error>(Bytes::from_static(b"piece")));
    let body = match body {
        "none" => Body::empty(),
        "text" => "text!".into(),
        "stream" => Body::from_stream(piece()),
        _ => return None,
    };
    Some(Response::new(body).with_status(status.parse().ok()?))
}

/// Part of the message of every panic that a test causes on purpose. The demo's `/panic` uses the same words.
pub const ON_PURPOSE: &str = "as it was asked to";

/// Installs a panic hook that does not report panics with [`ON_PURPOSE`] in their message.
pub fn silence_panics_on_purpose() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !payload_text(panic).is_some_and(|message| message.contains(ON_PURPOSE)) {
            report(panic);
        }
    }));
}

fn payload_text<'a>(panic: &'a std::panic::PanicHookInfo<'_>) -> Option<&'a str> {
    let payload = panic.payload();
    payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}
