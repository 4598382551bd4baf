//! The flags of WebSockets, under the names that they have in uvicorn.

use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use gearshift::cli;
use gearshift::ws::WebSocketUpgrade;

/// The settings of WebSockets.
#[derive(Clone, Debug, Args)]
pub(crate) struct WebSocketFlags {
    /// Largest message of a WebSocket from the client, after decompression; beyond: closed with 1009
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_WS_MAX_SIZE", default_value = "16m")]
    #[arg(value_parser = cli::size::<usize>)]
    ws_max_size: usize,

    /// Time after which the silent client of a WebSocket is sent a ping, or never
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_WS_PING_INTERVAL", default_value = "20s", value_parser = time)]
    ws_ping_interval: Duration,

    /// Time for the answer to a ping, or never; then the WebSocket is closed. An answer behind messages that the
    /// application does not receive is not waited for
    #[arg(long, value_name = "TIME", env = "GEARSHIFT_WS_PING_TIMEOUT", default_value = "20s", value_parser = time)]
    ws_ping_timeout: Duration,

    /// Whether messages of a WebSocket are compressed, if the client can do that too
    #[arg(long, value_name = "BOOL", env = "GEARSHIFT_WS_PER_MESSAGE_DEFLATE", default_value = "true")]
    #[arg(action = ArgAction::Set, value_parser = BoolishValueParser::new())]
    ws_per_message_deflate: bool,
}

impl WebSocketFlags {
    /// Gives a WebSocket the settings.
    pub(crate) fn apply(&self, upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
        let interval = Some(self.ws_ping_interval).filter(|interval| *interval != Duration::MAX);
        upgrade
            .deflate(self.ws_per_message_deflate)
            .max_message_size(self.ws_max_size)
            .max_frame_size(self.ws_max_size)
            .ping_interval(interval)
            .ping_timeout(self.ws_ping_timeout)
    }
}

/// Reads a time that is not zero, also as seconds with a fraction, as uvicorn does.
fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds.map_or_else(|| cli::duration(text), Ok)? {
        Duration::ZERO => Err("is 0; write never for no limit".to_owned()),
        time => Ok(time),
    }
}
