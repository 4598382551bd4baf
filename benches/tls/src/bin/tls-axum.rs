//! The measured routes on axum, with axum-server for TLS: `tls-axum PORT CERTIFICATE KEY`. It has one worker.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::routing::get;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("usage: tls-axum PORT CERTIFICATE KEY");
    let (port, certificate, key) = (next(), next(), next());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().expect("PORT is a number")));
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("it is the first");
    let large = tls::large();
    let app = Router::new()
        .route("/plaintext", get(async || "Hello, World!"))
        .route("/large", get(async move || large.clone()));
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(async {
        let config = RustlsConfig::from_pem_file(certificate, key).await?;
        let acceptor = RustlsAcceptor::new(config).acceptor(NoDelayAcceptor);
        axum_server::bind(address).acceptor(acceptor).serve(app.into_make_service()).await
    })
}
