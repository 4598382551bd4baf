//! What a handler sees and gives: [`Request`], [`Response`], and the [`Body`] of either.

mod body;
mod content;
mod fields;
mod params;
mod request;
mod response;

pub use body::{Body, BodyError, BodyReader};
pub(crate) use body::{BodySource, Inner as BodyInner};
pub use content::ContentError;
pub(crate) use fields::{FieldSpan, FieldSpans, Span};
pub use fields::{Fields, FieldsIter};
pub use params::ParamError;
pub(crate) use request::Head;
pub use request::{HeadTooLarge, Request};
pub use response::Response;
pub(crate) use response::Upgrade;
