//! Bodies of responses of services.

use std::any::TypeId;
#[cfg(feature = "async-compat")]
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::proto::BoxError;
use crate::proto::body::Body;

/// The longest body that is taken from a service before its head is sent, in bytes.
const MAX_WHOLE: u64 = 64 << 10;

/// Converts the body of a response.
///
/// If the body says that it is short, its first frame is taken at once. Most often that is all of it: the response is
/// then sent whole, with one write.
pub(super) fn convert<B>(body: B, cx: &mut Context<'_>) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if TypeId::of::<B>() == TypeId::of::<Body>() || body.is_end_stream() {
        return Body::from_http(body);
    }
    let size = body.size_hint();
    let mut body = Box::pin(body);
    let mut first = None;
    if let Some(len) = size.exact().filter(|len| *len <= MAX_WHOLE) {
        first = match body.as_mut().poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.len() as u64 == len && body.is_end_stream() => return Body::from(data),
                Ok(data) => Some(Some(Ok(Frame::data(data)))),
                Err(frame) => Some(Some(Ok(frame))),
            },
            Poll::Ready(end) => Some(end.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => None,
        };
    }
    Body::from_http(Rest { size: first.is_some().then_some(size), first, body: hold(body) })
}

#[cfg(feature = "async-compat")]
type Held<B> = async_compat::Compat<Pin<Box<B>>>;
#[cfg(not(feature = "async-compat"))]
type Held<B> = Pin<Box<B>>;

/// The body, which may use tokio also when it is dropped.
fn hold<B>(body: Pin<Box<B>>) -> Held<B> {
    #[cfg(feature = "async-compat")]
    return async_compat::Compat::new(body);
    #[cfg(not(feature = "async-compat"))]
    body
}

/// The result of a poll of a body that is not pending.
type Polled = Option<Result<Frame<Bytes>, BoxError>>;

/// A body after its first poll.
struct Rest<B> {
    /// The size at the first poll, until its result is taken.
    size: Option<SizeHint>,
    /// The result of the first poll.
    first: Option<Polled>,
    body: Held<B>,
}

impl<B> Unpin for Rest<B> {}

impl<B> http_body::Body for Rest<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
        if let Some(first) = self.first.take() {
            self.size = None;
            return Poll::Ready(first);
        }
        #[cfg(feature = "async-compat")]
        let polled = {
            let body = self.body.get_mut();
            let frame = poll_fn(|cx| body.as_mut().poll_frame(cx));
            std::pin::pin!(async_compat::Compat::new(frame)).poll(cx)
        };
        #[cfg(not(feature = "async-compat"))]
        let polled = self.body.as_mut().poll_frame(cx);
        polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.inner().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.size.unwrap_or_else(|| self.inner().size_hint())
    }
}

impl<B> Rest<B> {
    fn inner(&self) -> &B {
        #[cfg(feature = "async-compat")]
        return self.body.get_ref();
        #[cfg(not(feature = "async-compat"))]
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use futures_lite::future::block_on;
    use http::HeaderMap;

    use super::*;

    /// A body with this many bytes left whose polls give these results.
    struct Scripted(u64, VecDeque<Poll<Polled>>);

    impl http_body::Body for Scripted {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Polled> {
            let polled = self.1.pop_front().unwrap_or(Poll::Ready(None));
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    self.0 -= frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                Poll::Ready(_) => (),
                Poll::Pending => cx.waker().wake_by_ref(),
            }
            polled
        }

        fn is_end_stream(&self) -> bool {
            self.1.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }

    fn data(text: &'static str) -> Poll<Polled> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }

    fn converted(size: u64, polls: impl Into<VecDeque<Poll<Polled>>>) -> Body {
        convert(Scripted(size, polls.into()), &mut Context::from_waker(Waker::noop()))
    }

    fn text(body: Body) -> String {
        block_on(body.text()).expect("a body that can be read")
    }

    #[test]
    fn a_short_body_is_taken_at_once() {
        let body = converted(5, [data("hello")]);
        assert_eq!(format!("{body:?}"), "Body(5 bytes)");
        assert_eq!(text(body), "hello");
    }

    #[test]
    fn a_body_that_does_not_end_with_its_first_frame_loses_nothing() {
        let body = converted(5, [data("hel"), Poll::Pending, data("lo")]);
        assert_eq!(body.remaining(), Some(5));
        assert_eq!(text(body), "hello");
        let body = converted(5, [Poll::Pending, data("hello"), Poll::Ready(None)]);
        assert_eq!(body.remaining(), Some(5));
        assert_eq!(text(body), "hello");
    }

    #[test]
    fn trailers_follow_a_first_frame_that_is_all_of_the_data() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]);
        let mut body =
            converted(5, [data("hello"), Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))))]);
        assert_eq!(block_on(body.trailers()).expect("a body that can be read"), Some(trailers));
    }

    #[test]
    fn a_body_that_fails_or_ends_at_once_is_not_complete() {
        let body = converted(5, [Poll::Ready(Some(Err("failed".into())))]);
        assert!(block_on(body.text()).is_err());
        let body = converted(5, [Poll::Ready(None), Poll::Ready(None)]);
        assert_eq!(body.remaining(), Some(5));
    }

    #[test]
    fn a_long_body_is_not_taken() {
        let long = "x".repeat(MAX_WHOLE as usize + 1);
        let polls = [Poll::Ready(Some(Ok(Frame::data(long.into()))))];
        let body = converted(MAX_WHOLE + 1, polls);
        assert!(format!("{body:?}").starts_with("Body(stream"), "{body:?}");
    }
}
