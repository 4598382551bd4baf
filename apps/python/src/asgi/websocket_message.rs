//! The messages of a WebSocket: those that `send` is called with as Rust values, and those that `receive` returns.
//!
//! Reading and making them calls methods of Python objects, and allocates. Either may run code of the application,
//! which may call `send` again. The lock of the WebSocket is therefore not held.

use bytes::Bytes;
use gearshift::ws::{self, close_code};
use gearshift::{Response, StatusCode};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::asgi::message::{flag, for_each_field, head, required};
use crate::asgi::socket::Received;
use crate::fields::{add_field, with_bytes};

/// A message that `send` is called with.
pub(super) enum Message {
    /// `websocket.accept`: the sub-protocol, and a response with the fields.
    Accept(Option<String>, Response),
    /// `websocket.send`.
    Send(ws::Message),
    /// `websocket.close`: the code and the reason.
    Close(u16, String),
    /// `websocket.http.response.start`.
    Start(Response),
    /// `websocket.http.response.body`. The flag is whether more of the body follows.
    Body(Bytes, bool),
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// `TypeError`, `KeyError` or `ValueError`, which say what is wrong with it.
    pub(super) fn read(message: &Bound<'_, PyDict>) -> PyResult<Message> {
        let py = message.py();
        let kind = required(message, intern!(py, "type"))?;
        let kind = kind.cast::<PyString>()?.to_str()?;
        match kind {
            "websocket.accept" => {
                let protocol = present(message, intern!(py, "subprotocol"))?;
                let protocol = protocol.map(|protocol| protocol.extract::<String>()).transpose()?;
                let mut fields = Response::status_only(StatusCode::OK);
                for_each_field(message, |name, value| {
                    match name.eq_ignore_ascii_case(b"sec-websocket-protocol") {
                        true => Err(PyValueError::new_err("the sub-protocol is the key `subprotocol`")),
                        false => add_field(&mut fields, name, value),
                    }
                })?;
                Ok(Message::Accept(protocol, fields))
            }
            "websocket.send" => {
                if let Some(text) = present(message, intern!(py, "text"))? {
                    return Ok(Message::Send(ws::Message::text(text.cast::<PyString>()?.to_str()?)));
                }
                let bytes = present(message, intern!(py, "bytes"))?
                    .ok_or_else(|| PyValueError::new_err("websocket.send has neither text nor bytes"))?;
                let bytes = with_bytes(&bytes, "the bytes of a message", Bytes::copy_from_slice)?;
                Ok(Message::Send(ws::Message::binary(bytes)))
            }
            "websocket.close" => {
                let code = present(message, intern!(py, "code"))?;
                let code = code.map_or(Ok(close_code::NORMAL), |code| code.extract())?;
                let reason = present(message, intern!(py, "reason"))?;
                let reason = reason.map_or(Ok(String::new()), |reason| reason.extract())?;
                Ok(Message::Close(code, reason))
            }
            "websocket.http.response.start" => Ok(Message::Start(head(message)?)),
            "websocket.http.response.body" => {
                let body = match message.get_item(intern!(py, "body"))? {
                    Some(body) => with_bytes(&body, "the body of a message", Bytes::copy_from_slice)?,
                    None => Bytes::new(),
                };
                Ok(Message::Body(body, flag(message, intern!(py, "more_body"))?))
            }
            _ => Err(PyValueError::new_err(format!("a WebSocket has no message {kind:?}"))),
        }
    }

    /// The type of the message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Message::Accept(..) => "websocket.accept",
            Message::Send(_) => "websocket.send",
            Message::Close(..) => "websocket.close",
            Message::Start(_) => "websocket.http.response.start",
            Message::Body(..) => "websocket.http.response.body",
        }
    }
}

/// A key that a message may have. `None` stands for a missing one.
fn present<'py>(
    message: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(message.get_item(key)?.filter(|value| !value.is_none()))
}

/// The message for what was received; `None` if there is nothing.
pub(super) fn received(py: Python<'_>, received: Received) -> PyResult<Option<Py<PyAny>>> {
    let message = PyDict::new(py);
    match received {
        Received::Nothing => return Ok(None),
        Received::Connect => message.set_item(intern!(py, "type"), intern!(py, "websocket.connect"))?,
        Received::Closed(code, reason) => {
            message.set_item(intern!(py, "type"), intern!(py, "websocket.disconnect"))?;
            message.set_item(intern!(py, "code"), code)?;
            message.set_item(intern!(py, "reason"), reason)?;
        }
        Received::Message(received) => {
            message.set_item(intern!(py, "type"), intern!(py, "websocket.receive"))?;
            match received {
                ws::Message::Text(text) => message.set_item(intern!(py, "text"), &*text)?,
                ws::Message::Binary(bytes) => {
                    message.set_item(intern!(py, "bytes"), PyBytes::new(py, &bytes))?;
                }
                // Control frames do not come here.
                _ => {}
            }
        }
    }
    Ok(Some(message.into_any().unbind()))
}
