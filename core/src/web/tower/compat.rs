//! Bodies of responses that need tokio.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use async_compat::Compat;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::proto::BoxError;
use crate::proto::body::Body;

/// Converts a body that may use tokio when it is polled or dropped. A body of this crate stays what it is.
pub(super) fn body<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if std::any::TypeId::of::<B>() == std::any::TypeId::of::<Body>() || body.is_end_stream() {
        return Body::from_http(body);
    }
    Body::from_http(Within(Compat::new(Box::pin(body))))
}

/// A body that is polled within a runtime of tokio.
struct Within<B>(Compat<Pin<Box<B>>>);

impl<B: http_body::Body> http_body::Body for Within<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let body = self.0.get_mut();
        pin!(Compat::new(poll_fn(|cx| body.as_mut().poll_frame(cx)))).poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.get_ref().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.get_ref().size_hint()
    }
}
