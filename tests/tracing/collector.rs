//! A subscriber that keeps all spans and events of the process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use test_support::wait_until;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The target of the events of the tests.
pub(crate) const TARGET: &str = "a test";

static KEPT: Mutex<Kept> = Mutex::new(Kept { spans: Vec::new(), open: None, events: Vec::new() });

struct Kept {
    spans: Vec<Span>,
    /// The indices of the spans that are not closed.
    open: Option<HashMap<Id, usize>>,
    events: Vec<(String, Option<usize>)>,
}

/// A span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: &'static str,
    pub(crate) fields: BTreeMap<&'static str, String>,
    /// The fields that were recorded again. An exporter to OpenTelemetry appends them instead of replacing them.
    again: Vec<&'static str>,
    /// The parent, as an index.
    parent: Option<usize>,
    /// The threads that are inside of the span.
    inside: Vec<ThreadId>,
    pub(crate) is_closed: bool,
}

impl Span {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(crate) fn parent(&self) -> Option<Span> {
        self.parent.map(|parent| kept().spans[parent].clone())
    }

    /// Whether no thread is inside of the span.
    pub(crate) fn is_left(&self) -> bool {
        self.inside.is_empty()
    }
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The spans of requests with this path, in the order in which they began.
pub(crate) fn requests(path: &str) -> Vec<Span> {
    let is_one = |span: &&Span| span.name == "request" && span.field("url.path") == Some(path);
    kept().spans.iter().filter(is_one).cloned().collect()
}

/// Waits for the end of the one request with this path.
pub(crate) fn closed(path: &str) -> Span {
    wait_until("the span is closed", || requests(path).iter().any(|span| span.is_closed));
    let spans = requests(path);
    assert_eq!(spans.len(), 1, "{spans:?}");
    assert!(spans[0].is_left(), "{:?}", spans[0]);
    // The name of the span is no attribute.
    assert!(spans[0].again.iter().all(|name| *name == "otel.name"), "{:?}", spans[0]);
    spans[0].clone()
}

/// Waits for the event with this message, which is there once. Returns the path of the request in whose span it was.
pub(crate) fn path_of_event(message: &str) -> Option<String> {
    let found = || {
        kept().events.iter().filter(|(text, _)| text == message).map(|(_, span)| *span).collect::<Vec<_>>()
    };
    wait_until("the event is there", || !found().is_empty());
    let found = found();
    assert_eq!(found.len(), 1, "{message}");
    let kept = kept();
    let mut span = found[0];
    while let Some(at) = span {
        if kept.spans[at].name == "request" {
            return kept.spans[at].field("url.path").map(str::to_owned);
        }
        span = kept.spans[at].parent;
    }
    None
}

/// Makes the process keep its spans and events.
pub(crate) fn keep() {
    kept().open = Some(HashMap::new());
    let subscriber = tracing_subscriber::registry().with(Collector);
    tracing::subscriber::set_global_default(subscriber).expect("the process has no other subscriber");
}

struct Collector;

/// The fields of a span or event as text.
struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collector {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("gearshift::") || metadata.target() == TARGET
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(Level::DEBUG.into())
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let parent = context.span(id).and_then(|span| span.parent()).map(|parent| parent.id());
        let mut kept = kept();
        let parent = parent.and_then(|parent| kept.open.as_ref()?.get(&parent).copied());
        let at = kept.spans.len();
        let name = attributes.metadata().name();
        kept.spans.push(Span {
            name,
            fields,
            again: Vec::new(),
            parent,
            inside: Vec::new(),
            is_closed: false,
        });
        let _ = kept.open.as_mut().map(|open| open.insert(id.clone(), at));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        values.record(&mut Fields(&mut fields));
        with(id, |span| {
            for (name, value) in fields {
                if span.fields.insert(name, value).is_some() {
                    span.again.push(name);
                }
            }
        });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let span = context.event_span(event).map(|span| span.id());
        let mut kept = kept();
        let at = span.and_then(|span| kept.open.as_ref()?.get(&span).copied());
        kept.events.push((fields.remove("message").unwrap_or_default(), at));
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        let here = thread::current().id();
        with(id, |span| span.inside.push(here));
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        let here = thread::current().id();
        with(id, |span| {
            let at =
                span.inside.iter().rposition(|thread| *thread == here).expect("the thread has entered it");
            span.inside.remove(at);
        });
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        with(&id, |span| span.is_closed = true);
        let _ = kept().open.as_mut().map(|open| open.remove(&id));
    }
}

fn with(id: &Id, change: impl FnOnce(&mut Span)) {
    let mut kept = kept();
    if let Some(at) = kept.open.as_ref().and_then(|open| open.get(id).copied()) {
        change(&mut kept.spans[at]);
    }
}
