//! OpenTelemetry: the subscriber that makes its spans, and the fields that carry a trace from one service to another.

use gearshift::http::{HeaderName, HeaderValue};
use gearshift::{HeaderMap, Request, trace};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Span;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;

/// Makes the spans of this process those of `provider`. The spans of connections have the level `DEBUG` and are not
/// among them, so that each request without a `traceparent` begins a trace.
///
/// # Panics
/// If the process has a subscriber already.
pub fn start(provider: &SdkTracerProvider) {
    // The name of a span changes when the router has chosen the route. An activated context would fix it before.
    let layer =
        tracing_opentelemetry::layer().with_tracer(provider.tracer("traced")).with_context_activation(false);
    let subscriber = tracing_subscriber::registry().with(LevelFilter::INFO).with(layer);
    tracing::subscriber::set_global_default(subscriber).expect("the process has no other subscriber");
    trace::on_request(|span, request| {
        let parent = TraceContextPropagator::new().extract(&Fields(request));
        // The only failure is that of a span that is not recorded.
        let _ = span.set_parent(parent);
    });
}

/// Adds the fields of the current span to a call.
pub(crate) fn inject(headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Carrier(headers));
}

/// The fields of a request. A `traceparent` that is not valid is none.
struct Fields<'a>(&'a Request);

impl Extractor for Fields<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.trace_context()?;
        self.0.headers().get_str(key)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

/// The fields of a call, which carry its trace.
struct Carrier<'a>(&'a mut HeaderMap);

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
