//! A trace through two services, on every backend. The process exports the spans of all tests to one collector.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use gearshift::{Backend, TestServer};
use libtest_mimic::{Arguments, Trial};
use opentelemetry::trace::{SpanKind, Status};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    traced::start(&provider);
    let tests: [(&str, fn(Backend, &InMemorySpanExporter)); 2] =
        [("a_trace_passes_through_two_services", passes), ("a_request_without_a_trace_begins_one", begins)];
    let trials = Backend::available().iter().flat_map(|&backend| {
        let exporter = exporter.clone();
        tests.map(move |(name, test)| {
            let exporter = exporter.clone();
            Trial::test(format!("{backend}::{name}"), move || {
                test(backend, &exporter);
                Ok(())
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn get(server: &TestServer, path: &str, fields: &str) -> String {
    let mut client = TcpStream::connect(server.addr()).expect("the server listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n");
    client.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Waits for the spans that `is_one` selects.
fn spans(exporter: &InMemorySpanExporter, n: usize, is_one: impl Fn(&SpanData) -> bool) -> Vec<SpanData> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut spans = exporter.get_finished_spans().expect("the exporter works");
        spans.retain(&is_one);
        if spans.len() >= n {
            assert_eq!(spans.len(), n, "{spans:?}");
            return spans;
        }
        assert!(Instant::now() < deadline, "{} of {n} spans: {spans:?}", spans.len());
        thread::sleep(Duration::from_millis(2));
    }
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key.as_str() == name).map(|pair| pair.value.to_string())
}

fn passes(backend: Backend, exporter: &InMemorySpanExporter) {
    let first = TestServer::start(backend, traced::app).expect("the server starts");
    let second = TestServer::start(backend, traced::app).expect("the server starts");
    // The port makes the trace that of this test.
    let trace = format!("{:032x}", u128::from(first.addr().port()) << 64 | 1);
    let fields = format!("traceparent: 00-{trace}-00000000000000aa-01\r\ntracestate: a=1\r\n");
    let answer = get(&first, &format!("/via/{}/1", second.addr().port()), &fields);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n499500"), "{answer}");
    let spans = spans(exporter, 2, |span| span.span_context.trace_id().to_string() == trace);
    let named =
        |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{spans:?}"));
    let (via, work) = (named("GET /via/{port}/{ms}"), named("GET /work/{ms}"));
    assert_eq!(via.parent_span_id.to_string(), "00000000000000aa");
    assert_eq!(work.parent_span_id, via.span_context.span_id());
    for span in [via, work] {
        assert_eq!((&span.span_kind, &span.status), (&SpanKind::Server, &Status::Unset));
        assert!(span.parent_span_is_remote);
        assert_eq!(attribute(span, "http.response.status_code").as_deref(), Some("200"));
        assert_eq!(attribute(span, "http.request.method").as_deref(), Some("GET"));
        let routes = span.attributes.iter().filter(|pair| pair.key.as_str() == "http.route");
        assert_eq!(routes.count(), 1, "{:?}", span.attributes);
        assert_eq!(span.span_context.trace_state().header(), "a=1");
    }
    let events: Vec<_> = work.events.iter().map(|event| event.name.to_string()).collect();
    assert_eq!(events, ["the work begins", "the numbers are added"]);
}

fn begins(backend: Backend, exporter: &InMemorySpanExporter) {
    let server = TestServer::start(backend, traced::app).expect("the server starts");
    // No other span has this path: the port is that of the server. The second trace is not valid.
    for fields in ["", "traceparent: 00-00000000000000000000000000000000-00000000000000aa-01\r\n"] {
        let path = format!("/nowhere/{}/{}", server.addr().port(), fields.len());
        let answer = get(&server, &path, fields);
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        let spans = spans(exporter, 1, |span| attribute(span, "url.path").as_deref() == Some(path.as_str()));
        assert_eq!(spans[0].parent_span_id.to_string(), "0".repeat(16));
        assert_eq!(spans[0].name, "GET");
    }
}
