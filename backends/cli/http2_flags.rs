//! The flags of HTTP/2.

use gearshift_core::Http2;

use super::values;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Http2Flags {
    /// Whether HTTP/2 is spoken where the backend has it: auto or off [default: auto]
    #[arg(long, value_name = "WORD", env = "GEARSHIFT_HTTP2", value_parser = is_enabled)]
    http2: Option<bool>,

    /// Maximum number of requests at once on a connection of HTTP/2 [default: 100]
    #[arg(long, value_name = "N", env = "GEARSHIFT_HTTP2_MAX_STREAMS", value_parser = count)]
    http2_max_streams: Option<u32>,

    /// Maximum number of requests that a client of HTTP/2 gives up, beyond those that were answered [default: 200]
    #[arg(long, value_name = "N", env = "GEARSHIFT_HTTP2_MAX_RESETS", value_parser = count)]
    http2_max_resets: Option<u32>,

    /// Bytes of one request body of HTTP/2 that may wait for the handler, 16k or more [default: 256k]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_HTTP2_STREAM_WINDOW", value_parser = stream_window)]
    http2_stream_window: Option<u32>,

    /// Bytes of all request bodies of a connection of HTTP/2 that may wait for handlers, 65535 or more [default: 1m]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_HTTP2_CONNECTION_WINDOW")]
    #[arg(value_parser = connection_window)]
    http2_connection_window: Option<u32>,

    /// Maximum number of bytes of each response of HTTP/2 that are buffered for a slow client, 16k or more [default:
    /// 64k]
    #[arg(long, value_name = "SIZE", env = "GEARSHIFT_HTTP2_SEND_BUFFER", value_parser = send_buffer)]
    http2_send_buffer: Option<usize>,
}

fn is_enabled(text: &str) -> Result<bool, String> {
    match text {
        "auto" => Ok(true),
        "off" => Ok(false),
        _ => Err("not auto or off".to_owned()),
    }
}

fn count(text: &str) -> Result<u32, String> {
    values::count(text)?.try_into().map_err(|_| "too large".to_owned())
}

fn stream_window(text: &str) -> Result<u32, String> {
    window(text, Http2::FRAME)
}

fn connection_window(text: &str) -> Result<u32, String> {
    window(text, Http2::MIN_CONNECTION_WINDOW)
}

fn send_buffer(text: &str) -> Result<usize, String> {
    Ok(window(text, Http2::FRAME)? as usize)
}

fn window(text: &str, min: u32) -> Result<u32, String> {
    let bytes = values::size(text)?;
    match (min..=Http2::MAX_WINDOW).contains(&bytes) {
        true => Ok(bytes),
        false => Err(format!("not between {min} and {}", Http2::MAX_WINDOW)),
    }
}

impl Http2Flags {
    /// Sets the settings for which there is a flag.
    pub(crate) fn set(&self, http2: &mut Http2) {
        super::settings::set(&mut http2.enabled, self.http2);
        super::settings::set(&mut http2.max_streams, self.http2_max_streams);
        super::settings::set(&mut http2.max_resets, self.http2_max_resets);
        super::settings::set(&mut http2.stream_window, self.http2_stream_window);
        super::settings::set(&mut http2.connection_window, self.http2_connection_window);
        super::settings::set(&mut http2.send_buffer, self.http2_send_buffer);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: Http2Flags,
    }

    fn http2(flags: &str) -> Option<Http2> {
        let args = std::iter::once("program").chain(flags.split_whitespace());
        let mut http2 = Http2::default();
        Program::try_parse_from(args).ok()?.flags.set(&mut http2);
        Some(http2)
    }

    #[test]
    fn each_flag_sets_its_setting() {
        assert_eq!(http2(""), Some(Http2::default()));
        let flags = "--http2 off --http2-max-streams 1 --http2-max-resets 2 --http2-stream-window 20k \
                     --http2-connection-window 65535 --http2-send-buffer 16k";
        assert_eq!(
            format!("{:?}", http2(flags).expect("the flags are valid")),
            "Http2 { enabled: false, max_streams: 1, max_resets: 2, stream_window: 20480, connection_window: 65535, \
             send_buffer: 16384 }"
        );
    }

    #[test]
    fn values_with_which_no_server_can_run_are_refused() {
        for flags in [
            "--http2 on",
            "--http2-max-streams 0",
            "--http2-max-streams 4294967296",
            "--http2-max-resets 0",
            "--http2-stream-window 16383",
            "--http2-stream-window 2g",
            "--http2-connection-window 65534",
            "--http2-send-buffer 16383",
            "--http2-send-buffer 2g",
        ] {
            assert_eq!(http2(flags), None, "{flags}");
        }
    }
}
