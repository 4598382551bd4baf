//! The service of this crate on axum and its own server, part by part, to compare with.

mod api;
mod assets;
mod auth;
mod cors;
mod events;
mod files;
mod form;
mod gzip;
mod logging;
mod periodic;
mod redirect;
mod request_id;
mod session;
mod socket;
mod state;
mod stop;
#[cfg(test)]
mod tests;
mod timeout;
mod title;

use std::env;
use std::io;
use std::time::Duration;

use axum::Router;
use links::store::Settings;
use tokio::net::TcpListener;

use state::Links;

#[tokio::main]
async fn main() -> io::Result<()> {
    tracing_subscriber::fmt::init();
    let directory = env::temp_dir();
    let links = Links::open(Settings {
        links: directory.join("links.json"),
        files: directory.join("files"),
        token: env::var("LINKS_TOKEN").map_err(io::Error::other)?,
        titles: "http://127.0.0.1:8001/".to_owned(),
        key: env::var("LINKS_KEY").map_err(io::Error::other)?.into_bytes(),
        timeout: Duration::from_secs(10),
    })?;
    periodic::start(&links);
    stop::serve(TcpListener::bind("127.0.0.1:8000").await?, links).await
}

/// All routes. The last layer sees a request first.
fn router(links: &Links) -> Router {
    let mut router = Router::new()
        .nest("/api", auth::layer(api::routes(), links))
        .merge(assets::routes())
        .merge(events::routes())
        .merge(files::routes(links))
        .merge(form::routes())
        .merge(redirect::routes())
        .merge(session::routes())
        .merge(socket::routes())
        .merge(title::routes());
    router = timeout::layer(router, links);
    for layer in [gzip::layer, cors::layer, logging::layer, request_id::layer] {
        router = layer(router);
    }
    router.with_state(links.clone())
}
