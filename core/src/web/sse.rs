//! Server-sent events (WHATWG HTML, 9.2): a response that the server continues for as long as it has something to say.
//!
//! ```
//! # extern crate gearshift_core as gearshift;
//! use std::time::Duration;
//!
//! use gearshift::sse::{Event, Sse};
//! use gearshift::{Request, Runtime};
//! # use futures_lite::stream;
//!
//! async fn ticks(request: Request) -> Sse {
//!     let runtime: Runtime = request.runtime().clone();
//!     // A browser that has lost the connection says which event it has seen last.
//!     let first = request.last_event_id().and_then(|id| id.parse().ok()).map_or(0, |last: u64| last + 1);
//!     let pause = runtime.clone();
//!     let events = stream::unfold(first, move |n| {
//!         let pause = pause.clone();
//!         async move {
//!             pause.sleep(Duration::from_secs(1)).await;
//!             Some((Event::new("tick").id(n.to_string()), n + 1))
//!         }
//!     });
//!     Sse::new(&runtime, events)
//! }
//! # drop(ticks);
//! ```

use std::fmt::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use http::header::{self, HeaderName, HeaderValue};

use crate::proto::body::Body;
use crate::proto::into_response::IntoResponse;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::proto::{BoxError, BoxFuture};
use crate::runtime::clock::after;
use crate::runtime::handle::Runtime;

/// The default of [`Sse::keep_alive`]: 15 seconds, which the standard recommends (WHATWG HTML, 9.2.7).
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A comment without text, which browsers ignore.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// One event.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use std::time::Duration;
///
/// use gearshift::sse::Event;
///
/// let event = Event::new("first line\nsecond line").event("news").id("7").retry(Duration::from_secs(2));
/// assert_eq!(
///     event.to_string(),
///     "event: news\nid: 7\nretry: 2000\ndata: first line\ndata: second line\n\n"
/// );
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The lines before the data.
    fields: String,
    data: Option<String>,
}

impl Event {
    /// Creates an event with `data`. A page receives it as `message`, unless [`Event::event`] gives it another name.
    ///
    /// Each line of `data` becomes one field. A page receives the same text with `\n` as the end of each line:
    /// `\r\n` and `\r` are line ends in this format, too.
    pub fn new(data: impl Into<String>) -> Event {
        Event { fields: String::new(), data: Some(data.into()) }
    }

    /// Creates an event with `value` in JSON as its data.
    ///
    /// # Errors
    /// If `value` cannot be serialised.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Event, serde_json::Error> {
        serde_json::to_string(value).map(Event::new)
    }

    /// Creates a comment, which browsers ignore.
    pub fn comment(text: &str) -> Event {
        let mut event = Event::default();
        for line in lines(text) {
            event.add("", line);
        }
        event
    }

    /// Sets the name of the event, for which a page listens. Line ends in `name` become spaces.
    pub fn event(mut self, name: impl AsRef<str>) -> Event {
        self.add("event", &one_line(name.as_ref()));
        self
    }

    /// Sets the identifier of the event, which the browser repeats in `Last-Event-ID` when it connects again. Line ends
    /// and the character U+0000 in `id` become spaces: a browser ignores an identifier with that character.
    pub fn id(mut self, id: impl AsRef<str>) -> Event {
        self.add("id", &one_line(id.as_ref()).replace('\0', " "));
        self
    }

    /// Sets how long the browser waits before it connects again, in whole milliseconds.
    pub fn retry(mut self, pause: Duration) -> Event {
        self.add("retry", &pause.as_millis().to_string());
        self
    }

    fn add(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.fields, "{name}: {value}");
    }
}

/// The event as it is sent.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fields)?;
        for line in self.data.as_deref().into_iter().flat_map(lines) {
            writeln!(f, "data: {line}")?;
        }
        f.write_char('\n')
    }
}

/// An event with the text as its data.
impl From<&str> for Event {
    fn from(data: &str) -> Event {
        Event::new(data)
    }
}

/// An event with the text as its data.
impl From<String> for Event {
    fn from(data: String) -> Event {
        Event::new(data)
    }
}

/// The lines of `text`, which end with `\r\n`, `\n` or `\r`. There is at least one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else { return rest.take() };
        let after = &text[end..];
        rest = Some(after.strip_prefix("\r\n").unwrap_or(&after[1..]));
        Some(&text[..end])
    })
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// An item of the stream of [`Sse::new`]: an [`Event`], text that becomes one, or a `Result` with one of these.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::BoxError;
/// use gearshift::sse::{Event, IntoEvent};
///
/// /// A change of a document.
/// struct Change(u64, String);
///
/// impl IntoEvent for Change {
///     fn into_event(self) -> Result<Event, BoxError> {
///         Ok(Event::new(self.1).id(self.0.to_string()).event("change"))
///     }
/// }
/// # drop(Change(1, String::new()).into_event());
/// ```
pub trait IntoEvent {
    /// Converts the item.
    ///
    /// # Errors
    /// The error of an item that is one. It cuts the connection.
    fn into_event(self) -> Result<Event, BoxError>;
}

impl IntoEvent for Event {
    fn into_event(self) -> Result<Event, BoxError> {
        Ok(self)
    }
}

impl IntoEvent for String {
    fn into_event(self) -> Result<Event, BoxError> {
        Ok(self.into())
    }
}

impl IntoEvent for &str {
    fn into_event(self) -> Result<Event, BoxError> {
        Ok(self.into())
    }
}

impl<T: IntoEvent, E: Into<BoxError>> IntoEvent for Result<T, E> {
    fn into_event(self) -> Result<Event, BoxError> {
        self.map_err(Into::into)?.into_event()
    }
}

/// A response that sends the events of a stream, as `text/event-stream`.
///
/// While the stream has no event, the response holds no thread, on any backend. It ends when the stream ends, when the
/// peer leaves, and when the server begins to stop; a browser then connects again by itself.
///
/// The response has `Cache-Control: no-cache`, and `X-Accel-Buffering: no`, without which nginx and the proxies that
/// follow its example keep events back.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use futures_lite::stream;
/// use gearshift::sse::{Event, Sse};
/// use gearshift::{Request, Router};
///
/// let router = Router::new().get("/events", async |request: Request| {
///     let events = stream::iter([Event::new("hello"), Event::new("again").event("greeting")]);
///     Sse::new(request.runtime(), events)
/// });
/// # drop(router);
/// ```
pub struct Sse {
    events: Events,
}

impl Sse {
    /// Creates a response from a stream of events. `runtime` is that of the request; it provides the timer and the
    /// stop of the server.
    pub fn new<S>(runtime: &Runtime, events: S) -> Sse
    where
        S: Stream<Item: IntoEvent> + Send + 'static,
    {
        Sse {
            events: Events {
                events: Box::pin(Converted(Box::pin(events))),
                runtime: runtime.clone(),
                stopping: Some(Box::pin(runtime.stopping())),
                interval: Some(KEEP_ALIVE),
                sent: None,
                timer: None,
            },
        }
    }

    /// Sets after how long a silence a comment is sent, or that there are no comments. The default is [`KEEP_ALIVE`].
    /// Comments keep proxies from closing the connection, and reveal a peer that has left.
    ///
    /// # Panics
    /// If the interval is zero.
    #[track_caller]
    pub fn keep_alive(mut self, interval: Option<Duration>) -> Sse {
        assert_ne!(interval, Some(Duration::ZERO), "the time between comments is longer than zero");
        self.events.interval = interval;
        self
    }

    /// Sets whether the response ends when the server begins to stop. The default is true.
    ///
    /// With false, the stream waits for [`Runtime::stopping`](crate::Runtime::stopping) itself, and may send last
    /// events. It has the grace period for this.
    pub fn end_on_stop(mut self, end: bool) -> Sse {
        if !end {
            self.events.stopping = None;
        }
        self
    }
}

impl fmt::Debug for Sse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sse").field("keep_alive", &self.events.interval).finish_non_exhaustive()
    }
}

impl IntoResponse for Sse {
    fn into_response(self) -> Response {
        const STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");
        const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
        const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
        Response::new(Body::from_stream(self.events))
            .with_header(header::CONTENT_TYPE, STREAM)
            .with_header(header::CACHE_CONTROL, NO_CACHE)
            .with_header(BUFFERING, HeaderValue::from_static("no"))
    }
}

impl Request {
    /// The identifier of the last event that the peer has received, if the request continues an event stream: the value
    /// of `Last-Event-ID`. `None` without it, or if it is not UTF-8.
    ///
    /// ```
    /// # extern crate gearshift_core as gearshift;
    /// use gearshift::{Method, Request};
    ///
    /// assert_eq!(Request::new(Method::GET, "/events", "").last_event_id(), None);
    /// ```
    pub fn last_event_id(&self) -> Option<&str> {
        self.header("last-event-id")
    }
}

/// The items of a stream as events.
struct Converted<S>(Pin<Box<S>>);

impl<S: Stream<Item: IntoEvent>> Stream for Converted<S> {
    type Item = Result<Event, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx).map(|item| item.map(IntoEvent::into_event))
    }
}

/// The body of the response.
struct Events {
    events: Pin<Box<dyn Stream<Item = Result<Event, BoxError>> + Send>>,
    runtime: Runtime,
    /// `None` if the stream ends by itself at a stop.
    stopping: Option<BoxFuture<()>>,
    interval: Option<Duration>,
    /// When the last event or comment was sent, or when the stream was first polled.
    sent: Option<Instant>,
    /// Present while it waits. It is moved when it fires, and not for each event.
    timer: Option<BoxFuture<()>>,
}

impl Stream for Events {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Some(stopping) = &mut this.stopping
            && stopping.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = this.events.as_mut().poll_next(cx) {
            this.sent = this.interval.map(|_| this.runtime.now());
            return Poll::Ready(item.map(|event| Ok(event?.to_string().into())));
        }
        let Some(interval) = this.interval else { return Poll::Pending };
        loop {
            let sent = *this.sent.get_or_insert_with(|| this.runtime.now());
            let due = after(sent, interval);
            let timer = this.timer.get_or_insert_with(|| this.runtime.sleep_until(due));
            std::task::ready!(timer.as_mut().poll(cx));
            this.timer = None;
            let now = this.runtime.now();
            if now >= due {
                this.sent = Some(now);
                return Poll::Ready(Some(Ok(COMMENT)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn no_value_breaks_the_framing() {
        for (event, expected) in [
            (Event::new(""), "data: \n\n"),
            (Event::new("a\nb\r\nc\rd"), "data: a\ndata: b\ndata: c\ndata: d\n\n"),
            (Event::new("a\n\nb\n"), "data: a\ndata: \ndata: b\ndata: \n\n"),
            (Event::new("x").event("a\nid: 1\r\r\nb"), "event: a id: 1   b\ndata: x\n\n"),
            (Event::new("x").id("1\n\n\0data: y"), "id: 1   data: y\ndata: x\n\n"),
            (Event::new(" x"), "data:  x\n\n"),
            (Event::comment("one\ntwo"), ": one\n: two\n\n"),
            (Event::default().retry(Duration::from_millis(1500)), "retry: 1500\n\n"),
        ] {
            assert_eq!(event.to_string(), expected);
        }
    }

    #[test]
    fn an_item_is_an_event_text_or_a_result() {
        let failed: Result<Event, &str> = Err("no");
        assert_eq!(failed.into_event().expect_err("an error").to_string(), "no");
        for event in [
            Event::new("x").into_event(),
            "x".into_event(),
            "x".to_owned().into_event(),
            Ok::<_, Infallible>(Event::new("x")).into_event(),
        ] {
            assert_eq!(event.expect("an event"), Event::new("x"));
        }
    }
}
