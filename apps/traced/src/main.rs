//! `cargo run -p traced -- --backend mio`, then `curl 127.0.0.1:8000/via/8000/5`.

use std::process::ExitCode;

use gearshift::cli;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;

fn main() -> ExitCode {
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(opentelemetry_stdout::SpanExporter::default())
        .with_resource(Resource::builder().with_service_name("traced").build())
        .build();
    traced::start(&provider);
    let status = cli::run(traced::app);
    if let Err(error) = provider.shutdown() {
        eprintln!("the last spans are lost: {error}");
    }
    status
}
