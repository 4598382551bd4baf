//! Forms with files, `multipart/form-data` (RFC 7578), by the crate `multer`.
//!
//! `multer` reads from its source until the source is not ready, and looks for the head of a field in all that it has
//! read. The source that it gets here ends each read after one chunk, so that a fast peer fills no memory, and limits
//! how much may arrive before a head is complete.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::{HeaderMap, StatusCode, header};

use crate::proto::body::{Body, BodyError};
use crate::proto::request::Request;
use crate::web::content::{text, unsupported};
use crate::web::refusal::Refusal;

const FORM_DATA: &str = "multipart/form-data";

impl Request {
    /// Reads a `multipart/form-data` body (RFC 7578), the format of HTML forms with files, field by field.
    ///
    /// The fields arrive while the handler reads them: a handler that does not read stops the peer through TCP flow
    /// control, and a large file takes no memory. [`Limits::body`](crate::Limits::body) limits the whole body;
    /// [`body_limit`](Request::body_limit) limits the fields that are collected by [`Field::bytes`] and
    /// [`Field::text`], all together.
    ///
    /// # Errors
    /// [`Refusal`] with 415 if the `Content-Type` is another one, with 400 if it has no boundary.
    pub fn multipart(self) -> Result<Multipart, Refusal> {
        let content_type = self.header(header::CONTENT_TYPE).unwrap_or_default();
        let boundary = multer::parse_boundary(content_type).map_err(|error| match error {
            multer::Error::NoBoundary => Refusal::new(StatusCode::BAD_REQUEST, error.to_string()),
            _ => unsupported(FORM_DATA),
        })?;
        // RFC 2046, 5.1.1.
        if boundary.is_empty() || boundary.len() > 70 {
            return Err(Refusal::new(
                StatusCode::BAD_REQUEST,
                "the boundary does not have 1 to 70 characters",
            ));
        }
        let collectable = self.body_limit();
        let head_room = Arc::new(AtomicUsize::new(Multipart::MAX_FIELD_HEAD));
        let source = Source { body: self.into_body(), is_resting: false, head_room: head_room.clone() };
        Ok(Multipart {
            fields: multer::Multipart::new(source, boundary),
            current: None,
            size: 0,
            head_room,
            count: 0,
            max_fields: Multipart::DEFAULT_MAX_FIELDS,
            field_limit: Multipart::DEFAULT_FIELD_LIMIT,
            collectable,
        })
    }
}

/// The fields of a form with files; see [`Request::multipart`].
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Refusal, Request};
///
/// async fn upload(request: Request) -> Result<String, Refusal> {
///     let mut form = request.multipart()?.with_field_limit(64 << 20);
///     let (mut title, mut size) = (String::new(), 0);
///     while let Some(mut field) = form.next_field().await? {
///         match field.name() {
///             Some("title") => title = field.text().await?,
///             Some("file") => {
///                 while let Some(chunk) = field.chunk().await? {
///                     size += chunk.len();
///                 }
///             }
///             _ => {}
///         }
///     }
///     Ok(format!("{title}: {size}"))
/// }
/// # let body = "--x\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nA\r\n--x\r\nContent-Disposition: \
/// #     form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\n12345\r\n--x--\r\n";
/// # futures_lite::future::block_on(async {
/// let request = Request::post("/").with_header("content-type", "multipart/form-data; boundary=x");
/// assert_eq!(upload(request.with_body(body)).await?, "A: 5");
/// # Ok::<(), Refusal>(())
/// # }).unwrap();
/// ```
pub struct Multipart {
    fields: multer::Multipart<'static>,
    /// The field that was given out last. `multer` gives out the next one after it is dropped.
    current: Option<multer::Field<'static>>,
    /// The number of bytes that were read of the current field.
    size: u64,
    /// The number of bytes that may still arrive before the head of the next field is complete.
    head_room: Arc<AtomicUsize>,
    /// The number of fields that were given out.
    count: usize,
    max_fields: usize,
    field_limit: u64,
    /// The number of bytes that may still be collected in memory.
    collectable: usize,
}

impl Multipart {
    /// The default of [`with_max_fields`](Multipart::with_max_fields): 100.
    pub const DEFAULT_MAX_FIELDS: usize = 100;
    /// The default of [`with_field_limit`](Multipart::with_field_limit) in bytes: 2 GiB, which also is the default of
    /// [`Limits::body`](crate::Limits::body).
    pub const DEFAULT_FIELD_LIMIT: u64 = 2 << 30;
    /// The largest head of a field: names and values of its header fields, in bytes. A larger one is answered with 413.
    /// No more than this and one chunk is read for a head, or for the text before the first boundary.
    pub const MAX_FIELD_HEAD: usize = 8 * 1024;

    /// Sets the largest number of fields. A form with more is answered with 413.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Refusal, Request};
    /// # fn read(request: Request) -> Result<(), Refusal> {
    /// let form = request.multipart()?.with_max_fields(3);
    /// # drop(form);
    /// # Ok(())
    /// # }
    /// # drop(read);
    /// ```
    pub fn with_max_fields(mut self, fields: usize) -> Multipart {
        self.max_fields = fields;
        self
    }

    /// Sets the largest content of one field in bytes, also of a field that is skipped. A larger one is answered with
    /// 413.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// # use gearshift::{Refusal, Request};
    /// # fn read(request: Request) -> Result<(), Refusal> {
    /// let form = request.multipart()?.with_field_limit(10 << 20);
    /// # drop(form);
    /// # Ok(())
    /// # }
    /// # drop(read);
    /// ```
    pub fn with_field_limit(mut self, bytes: u64) -> Multipart {
        self.field_limit = bytes;
        self
    }

    /// Waits for the next field; returns `None` at the end of the form. The rest of the field before it is skipped.
    ///
    /// # Errors
    /// [`Refusal`] with 400 if the body is malformed or ends early, with 413 if it exceeds a limit, or with
    /// [`BodyError::status`] if reading fails.
    pub async fn next_field(&mut self) -> Result<Option<Field<'_>>, Refusal> {
        while self.chunk().await?.is_some() {}
        self.current = None;
        self.head_room.store(Multipart::MAX_FIELD_HEAD, Ordering::Relaxed);
        let next = self.fields.next_field().await.map_err(refusal)?;
        let Some(next) = next else { return Ok(None) };
        // All of the head may have arrived with the chunk that exceeds the limit.
        let head: usize = next.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if head > Multipart::MAX_FIELD_HEAD {
            return Err(head_too_large());
        }
        if self.count == self.max_fields {
            let why = format!("the form has more than {} fields", self.max_fields);
            return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        self.head_room.store(usize::MAX, Ordering::Relaxed);
        (self.current, self.size) = (Some(next), 0);
        self.count += 1;
        Ok(Some(Field(self)))
    }

    /// Waits for the next piece of the current field.
    async fn chunk(&mut self) -> Result<Option<Bytes>, Refusal> {
        let Some(current) = &mut self.current else { return Ok(None) };
        loop {
            let Some(chunk) = current.chunk().await.map_err(refusal)? else { return Ok(None) };
            self.size = self.size.saturating_add(chunk.len() as u64);
            if self.size > self.field_limit {
                let why = format!("a field of the form has more than {} bytes", self.field_limit);
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }
}

impl fmt::Debug for Multipart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multipart").field("fields_read", &self.count).finish_non_exhaustive()
    }
}

/// A field of a form, whose content may still be arriving. See [`Multipart`] for an example.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::{Refusal, Request};
///
/// /// Counts the bytes of all files in a form, without collecting them.
/// async fn size(request: Request) -> Result<String, Refusal> {
///     let mut size = 0;
///     let mut form = request.multipart()?;
///     while let Some(mut field) = form.next_field().await? {
///         if field.file_name().is_some() {
///             while let Some(chunk) = field.chunk().await? {
///                 size += chunk.len();
///             }
///         }
///     }
///     Ok(size.to_string())
/// }
/// # drop(size);
/// ```
// Invariant: the form has a current field.
pub struct Field<'f>(&'f mut Multipart);

impl Field<'_> {
    fn inner(&self) -> &multer::Field<'static> {
        self.0.current.as_ref().expect("a field is current while it is borrowed")
    }

    /// The name of the field; `None` if the peer has left it out, against RFC 7578, 4.2.
    pub fn name(&self) -> Option<&str> {
        self.inner().name()
    }

    /// The name of the file as the peer knows it; `None` for a field that is no file. It is any text: an application
    /// does not use it as a path.
    pub fn file_name(&self) -> Option<&str> {
        self.inner().file_name()
    }

    /// The media type that the peer claims; `None` if it claims none, or one that is malformed.
    pub fn content_type(&self) -> Option<&str> {
        self.inner().content_type().map(AsRef::as_ref)
    }

    /// All header fields of the form field.
    pub fn headers(&self) -> &HeaderMap {
        self.inner().headers()
    }

    /// Waits for the next piece of the content; returns `None` at its end.
    ///
    /// # Errors
    /// As [`Multipart::next_field`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Refusal> {
        self.0.chunk().await
    }

    /// Waits for the whole content. All fields of the form that are collected have at most
    /// [`Request::body_limit`](crate::Request::body_limit) bytes together.
    ///
    /// # Errors
    /// [`Refusal`] with 413 if the limit is exceeded; else as [`Multipart::next_field`].
    pub async fn bytes(self) -> Result<Bytes, Refusal> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.0.chunk().await? {
            let too_large = BodyError::TooLarge { limit: self.0.collectable as u64 };
            self.0.collectable = self.0.collectable.checked_sub(chunk.len()).ok_or(too_large)?;
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Waits for the whole content as text, under the same limit as [`Field::bytes`].
    ///
    /// # Errors
    /// [`Refusal`] with 400 if the content is not UTF-8; else as [`Field::bytes`].
    pub async fn text(self) -> Result<String, Refusal> {
        text(self.bytes().await?)
    }
}

impl fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field").field("headers", self.headers()).finish_non_exhaustive()
    }
}

/// The body as the source of `multer`.
struct Source {
    body: Body,
    /// Whether the last poll returned a chunk. The next one returns none, which ends the read of `multer`.
    is_resting: bool,
    head_room: Arc<AtomicUsize>,
}

impl Stream for Source {
    type Item = Result<Bytes, Refusal>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.is_resting) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = self.head_room.load(Ordering::Relaxed);
        if room == 0 {
            return Poll::Ready(Some(Err(head_too_large())));
        }
        let chunk = ready!(self.body.poll_chunk(cx)?);
        if let Some(chunk) = &chunk {
            self.is_resting = true;
            if room != usize::MAX {
                self.head_room.store(room.saturating_sub(chunk.len()), Ordering::Relaxed);
            }
        }
        Poll::Ready(chunk.map(Ok))
    }
}

fn head_too_large() -> Refusal {
    let why = format!("the head of a field of the form has more than {} bytes", Multipart::MAX_FIELD_HEAD);
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, why)
}

/// The refusal of a body that `multer` cannot read.
fn refusal(error: multer::Error) -> Refusal {
    let error = match error {
        multer::Error::StreamReadFailed(source) => match source.downcast::<Refusal>() {
            Ok(refusal) => return *refusal,
            Err(source) => multer::Error::StreamReadFailed(source),
        },
        error => error,
    };
    Refusal::new(StatusCode::BAD_REQUEST, format!("the form is not valid: {error}"))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use futures_lite::future::block_on;

    use super::*;
    use crate::proto::BoxError;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    /// A request whose body arrives in pieces of `len` bytes.
    fn request(content_type: &str, body: impl AsRef<[u8]>, len: usize) -> Request {
        let chunks = body.as_ref().chunks(len).map(|chunk| Ok::<_, BoxError>(Bytes::copy_from_slice(chunk)));
        let body = Body::from_stream(Chunks(chunks.collect()));
        Request::post("/").with_header("content-type", content_type).with_body(body)
    }

    struct Chunks(VecDeque<Result<Bytes, BoxError>>);

    impl Stream for Chunks {
        type Item = Result<Bytes, BoxError>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.pop_front())
        }
    }

    fn field(name: &str, content: &str) -> String {
        format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    /// The names and contents of all fields.
    async fn all(mut form: Multipart) -> Result<Vec<(String, String)>, Refusal> {
        let mut all = Vec::new();
        while let Some(field) = form.next_field().await? {
            all.push((field.name().unwrap_or_default().to_owned(), field.text().await?));
        }
        Ok(all)
    }

    fn read(
        body: impl AsRef<[u8]>,
        change: fn(Multipart) -> Multipart,
    ) -> Result<Vec<(String, String)>, Refusal> {
        block_on(async { all(change(request(TYPE, body, 7).with_body_limit(10).multipart()?)).await })
    }

    #[test]
    fn fields_have_names_types_and_contents_however_they_arrive() {
        let file = "--XX\r\ncontent-type: image/png\r\n\
                    Content-Disposition: form-data; name=file; filename=\"a b.png\"\r\n\r\n\r\n--X\r\n--XY\r\n\r\n";
        let body = format!("preamble\r\n{}{file}{}--XX--\r\nepilogue", field("é", ""), field("last", "ü"));
        for len in 1..body.len() + 1 {
            block_on(async {
                let mut form = request(TYPE, &body, len).multipart().expect("a form");
                let field = form.next_field().await.expect("a form").expect("a field");
                assert_eq!((field.name(), field.file_name(), field.content_type()), (Some("é"), None, None));
                assert_eq!(field.text().await.expect("text"), "");
                let mut field = form.next_field().await.expect("a form").expect("a field");
                assert_eq!((field.name(), field.file_name()), (Some("file"), Some("a b.png")));
                assert_eq!((field.content_type(), field.headers().len()), (Some("image/png"), 2));
                let mut content = Vec::new();
                while let Some(chunk) = field.chunk().await.expect("content") {
                    assert!(!chunk.is_empty());
                    content.extend_from_slice(&chunk);
                }
                assert_eq!(content, b"\r\n--X\r\n--XY\r\n");
                assert_eq!(field.chunk().await.expect("the end"), None);
                let field = form.next_field().await.expect("a form").expect("a field");
                assert_eq!(field.text().await.expect("text"), "ü");
                assert!(form.next_field().await.expect("the end").is_none());
            });
        }
    }

    #[test]
    fn a_field_that_is_not_read_is_skipped() {
        let body = [field("a", &"x".repeat(100)), field("b", "y"), "--XX--".to_owned()].concat();
        block_on(async {
            let mut form = request(TYPE, &body, 7).multipart().expect("a form");
            assert_eq!(form.next_field().await.expect("a form").expect("a field").name(), Some("a"));
            assert_eq!(form.next_field().await.expect("a form").expect("a field").name(), Some("b"));
            assert!(form.next_field().await.expect("a form").is_none());
        });
    }

    #[test]
    fn each_limit_is_a_413_and_what_is_within_it_is_read() {
        let form = |fields: &[String]| fields.concat() + "--XX--\r\n";
        let status = |body: String, change| read(body, change).map_err(|refusal| refusal.status());
        let same = |form| form;
        let two = |len| form(&[field("a", &"x".repeat(len)), field("b", "12345")]);
        // The fields that are collected have 10 bytes together.
        assert_eq!(status(two(5), same).expect("two fields").len(), 2);
        assert_eq!(status(two(6), same), Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(status(two(5), |form| form.with_max_fields(2)).expect("two fields").len(), 2);
        assert_eq!(status(two(5), |form| form.with_max_fields(1)), Err(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(status(two(5), |form| form.with_field_limit(5)).expect("two fields").len(), 2);
        assert_eq!(status(two(5), |form| form.with_field_limit(4)), Err(StatusCode::PAYLOAD_TOO_LARGE));
        let many = |count| form(&vec![field("a", ""); count]);
        let default = Multipart::DEFAULT_MAX_FIELDS;
        assert_eq!(status(many(default), same).expect("all fields").len(), default);
        assert_eq!(status(many(default + 1), same), Err(StatusCode::PAYLOAD_TOO_LARGE));
        let head = |len: usize| form(&[field(&"x".repeat(len), "")]);
        assert_eq!(status(head(Multipart::MAX_FIELD_HEAD - 100), same).expect("a field").len(), 1);
        for endless in [head(Multipart::MAX_FIELD_HEAD + 100), "x".repeat(Multipart::MAX_FIELD_HEAD + 100)] {
            assert_eq!(status(endless, same), Err(StatusCode::PAYLOAD_TOO_LARGE));
        }
    }

    #[test]
    fn a_fast_peer_fills_no_memory() {
        let body = field("a", &"x".repeat(100_000)) + "--XX--";
        block_on(async {
            let mut form = request(TYPE, &body, 1000).multipart().expect("a form");
            let mut field = form.next_field().await.expect("a form").expect("a field");
            while let Some(chunk) = field.chunk().await.expect("content") {
                assert!(chunk.len() <= 2000, "{} bytes were read at once", chunk.len());
            }
        });
    }

    #[test]
    fn a_body_that_is_no_form_is_refused() {
        let status = |refusal: Refusal| refusal.status().as_u16();
        for (content_type, expected) in [
            ("multipart/form-data; boundary=XX", None),
            ("Multipart/Form-Data; charset=utf-8; boundary=\"XX\"", None),
            ("multipart/form-data", Some(400)),
            ("multipart/form-data; boundary=", Some(400)),
            (&format!("multipart/form-data; boundary={}", "x".repeat(71)), Some(400)),
            ("multipart/mixed; boundary=XX", Some(415)),
            ("application/x-www-form-urlencoded", Some(415)),
            ("", Some(415)),
            ("é", Some(415)),
        ] {
            let outcome = request(content_type, "--XX--", 100).multipart();
            assert_eq!(outcome.err().map(status), expected, "{content_type}");
        }
        assert_eq!(Request::post("/").multipart().err().map(status), Some(415));
        let complete = field("a", "b") + "--XX--";
        assert_eq!(read(&complete, |form| form).expect("a form"), [("a".to_owned(), "b".to_owned())]);
        for len in 0..complete.len() {
            assert_eq!(
                read(&complete[..len], |form| form).map_err(status),
                Err(400),
                "{:?}",
                &complete[..len]
            );
        }
        for body in ["--XXx", "--XX\r\nno colon\r\n\r\n\r\n--XX--", "--XX\r\na: \0\r\n\r\n\r\n--XX--"] {
            assert_eq!(read(body, |form| form).map_err(status), Err(400), "{body:?}");
        }
        let not_text = [field("a", "").trim_end().as_bytes(), b"\r\n\r\n\xff\r\n--XX--"].concat();
        assert_eq!(read(not_text, |form| form).map_err(status), Err(400));
    }

    #[test]
    fn an_error_of_the_body_has_its_status() {
        let chunks = [Ok(Bytes::from(field("a", "b"))), Err(BoxError::from("failed"))];
        let body = Body::from_stream(Chunks(chunks.into_iter().collect()));
        let request = Request::post("/").with_header("content-type", TYPE).with_body(body);
        let refusal = block_on(async { all(request.multipart()?).await }).expect_err("the body fails");
        assert_eq!(refusal.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
