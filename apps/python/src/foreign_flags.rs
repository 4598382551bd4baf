//! The flags of gunicorn and uvicorn that have another form here, or that do not exist here.
//!
//! Flags that only have another name are aliases in `command.rs`.

use std::ffi::{OsStr, OsString};

use crate::command;

/// The end of the names of files that `--access-log` takes as a separate argument.
const LOG_SUFFIXES: [&str; 3] = [".log", ".txt", ".json"];

/// What to use instead of flags that do not exist here.
const INSTEAD: &[(&[&str], &str)] = &[
    (&["-c"], "write the settings as TOML, and name the file with --config"),
    (&["-t"], "use --timeout, the time for one request on an event loop; a process that hangs is not killed"),
    (&["-D", "--daemon"], "let systemd or a container start it"),
    (&["-p", "--pid"], "the log has the number of the process, and systemd needs no file"),
    (
        &["-u", "--user", "-g", "--group", "--initgroups"],
        "start it as that user, as User= and Group= of systemd do",
    ),
    (&["-m", "--umask"], "use --unix-mode for a Unix socket, and UMask= of systemd for the rest"),
    (&["-n", "--name"], "the name of the process is that of Python"),
    (&["-e", "--env", "--env-file"], "set the variables before the start, as Environment= of systemd does"),
    (&["--preload"], "each process imports the application itself"),
    (
        &["--max-requests", "--max-requests-jitter", "--limit-max-requests", "--limit-max-requests-jitter"],
        "processes are not replaced after a number of requests; with --workers, SIGHUP replaces them",
    ),
    (&["--limit-concurrency", "--worker-connections"], "use --max-connections with --overload refuse"),
    (&["--worker-class"], "use --backend: sequential is sync, threadpool is gthread, mio is for ASGI"),
    (&["--worker-tmp-dir", "--reuse-port", "--no-sendfile"], "leave it out, because nothing here needs it"),
    (&["--timeout-worker-healthcheck"], "use --start-timeout; a process that hangs later is not killed"),
    (&["--reload-engine", "--reload-delay"], "use --reload alone"),
    (
        &["--reload-extra-file", "--reload-include", "--reload-exclude"],
        "use --reload-dir; files with the suffix .py are watched",
    ),
    (&["--limit-request-line"], "use --max-request-line"),
    (&["--limit-request-fields"], "use --max-fields"),
    (&["--limit-request-field_size"], "use --max-field"),
    (&["--h11-max-incomplete-event-size"], "use --max-head"),
    (
        &["--error-logfile", "--log-file", "--log-syslog", "--log-syslog-to", "--capture-output"],
        "the log goes to standard error, which the shell or systemd redirects",
    ),
    (
        &["--log-config", "--log-config-json", "--logger-class", "--use-colors", "--no-use-colors"],
        "the application sets up its own logs; the server has --log-level and --access-log-format",
    ),
    (&["--access-logformat"], "use --access-log-format: plain, common, combined or json"),
    (
        &["--statsd-host", "--statsd-prefix", "--dogstatsd-tags"],
        "use --metrics-bind, in the format of Prometheus",
    ),
    (
        &["--proxy-headers", "--no-proxy-headers"],
        "use --forwarded-allow-ips: the header fields of the proxies named there are read, and no others",
    ),
    (&["--proxy-protocol", "--proxy-allow-from"], "use --proxy-protocol-from"),
    (&["--ca-certs", "--ssl-ca-certs"], "use --tls-client-ca"),
    (&["--cert-reqs", "--ssl-cert-reqs"], "use --tls-client-auth"),
    (
        &["--ciphers", "--ssl-ciphers", "--ssl-version"],
        "TLS 1.2 and 1.3 are spoken, with ciphers that are not weak",
    ),
    (&["--ssl-keyfile-password"], "decrypt the key with: openssl pkey -in KEY -out FILE"),
    (&["--http"], "there is one parser; for HTTP/2 there is --http2"),
    (&["--ws", "--ws-max-queue"], "there is one implementation of WebSocket, with a queue of a fixed size"),
    (
        &["--header", "--server-header", "--date-header"],
        "use middleware, --no-server-header or --no-date-header",
    ),
];

/// The kinds of workers of gunicorn, with the backend of the same model.
const WORKER_CLASSES: &[(&str, &str)] = &[
    ("sync", "sequential"),
    ("gthread", "threadpool"),
    ("gevent", "threadpool"),
    ("eventlet", "threadpool"),
    ("tornado", "mio"),
    ("asgi", "mio"),
    ("uvicorn.workers.UvicornWorker", "mio"),
    ("uvicorn_worker.UvicornWorker", "mio"),
];

/// The arguments, with those of gunicorn and uvicorn in the form that they have here.
///
/// # Errors
/// A flag does not exist here. The text is one line that says what to use instead.
pub(crate) fn translated(args: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let mut translated = Vec::with_capacity(args.len());
    let (mut host, mut port, mut no_target) = (None, None, None);
    let mut args = args.into_iter().peekable();
    translated.extend(args.next());
    while let Some(arg) = args.next() {
        let (name, given) = match arg.to_str().and_then(|text| text.split_once('=')) {
            Some((name, value)) => (name.to_owned(), Some(OsString::from(value))),
            None => (arg.to_string_lossy().into_owned(), None),
        };
        if let Some(why) = instead(&name) {
            return Err(why);
        }
        let mut value = || given.clone().or_else(|| args.next()).unwrap_or_default();
        match name.as_str() {
            "--host" => host = Some(value()),
            "--port" => port = Some(value()),
            "-b" | "--bind" => translated.extend(["--bind".into(), address(value())]),
            "--uds" => translated.extend(["--bind".into(), joined("unix:", &value())]),
            "--fd" => translated.extend(["--bind".into(), joined("fd://", &value())]),
            "--log-level" => translated.extend(["--log-level".into(), level(value())]),
            "--access-logfile" => translated.push(joined("--access-log=", &value())),
            "--access-log" if given.is_none() => {
                // Without this, it would take the application for the name of a file.
                let target = args.next_if(|next| is_target(&next.to_string_lossy()));
                no_target = args.peek().filter(|_| target.is_none()).cloned();
                translated.push(joined("--access-log=", &target.unwrap_or_else(|| "true".into())));
            }
            "--" => {
                translated.push(arg);
                translated.extend(args);
                break;
            }
            _ => translated.push(arg),
        }
    }
    if host.is_some() || port.is_some() {
        let mut address = host.unwrap_or_else(|| "127.0.0.1".into());
        if address.to_string_lossy().contains(':') && !address.to_string_lossy().starts_with('[') {
            address = joined("[", &address);
            address.push("]");
        }
        address.push(":");
        address.push(port.unwrap_or_else(|| "8000".into()));
        let at = translated.len().min(1);
        translated.splice(at..at, ["--bind".into(), address]);
    }
    match no_target.as_deref().map(OsStr::to_string_lossy) {
        Some(word) if !word.starts_with('-') && !word.contains(':') && command::has_surplus(&translated) => {
            Err(format!(
                "'{word}' behind --access-log was taken for MODULE:NAME; write --access-log={word}, or a FILE with a / \
                 or the suffix .log, or - for standard output"
            ))
        }
        _ => Ok(translated),
    }
}

/// Why a flag does not exist here, and what to use instead.
fn instead(name: &str) -> Option<String> {
    // A short flag may have its value behind it: `-t30`.
    let short = name.get(..2).filter(|short| short.starts_with('-') && *short != "--");
    let name = short.unwrap_or(name);
    let (_, instead) = INSTEAD.iter().find(|(names, _)| names.contains(&name))?;
    Some(format!("{name} does not exist here: {instead}"))
}

/// Whether the argument behind `--access-log` is its value: a path with a directory or the suffix of a log, `-`, or a
/// word for true or false.
fn is_target(text: &str) -> bool {
    let is_word = ["true", "false", "yes", "no", "on", "off", "1", "0"].contains(&text);
    is_word || text == "-" || text.contains('/') || LOG_SUFFIXES.iter().any(|suffix| text.ends_with(suffix))
}

/// Reads the name of a backend, which is not that of a kind of workers.
pub(crate) fn backend(name: &str) -> Result<String, String> {
    match WORKER_CLASSES.iter().find(|(class, _)| name == *class) {
        Some((_, backend)) => Err(format!("a kind of workers of gunicorn; use the backend {backend}")),
        None => Ok(name.to_owned()),
    }
}

fn joined(prefix: &str, value: &OsStr) -> OsString {
    let mut joined = OsString::from(prefix);
    joined.push(value);
    joined
}

/// An address, where `:PORT` is that port of all addresses of IPv4.
fn address(text: OsString) -> OsString {
    match text.to_string_lossy().starts_with(':') {
        true => joined("0.0.0.0", &text),
        false => text,
    }
}

/// The level of the log for the words of gunicorn and uvicorn.
fn level(word: OsString) -> OsString {
    match word.to_str() {
        Some("warning") => "warn".into(),
        Some("critical") => "error".into(),
        _ => word,
    }
}
