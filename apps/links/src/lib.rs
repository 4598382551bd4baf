//! Short links: a service of the parts that most services have. Each part is a file, so that it can be compared with
//! the same part on axum, in `examples/links_axum`. The table is in `README.md`.

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
pub mod store;
#[cfg(test)]
mod tests;
mod timeout;
mod title;

use gearshift::{App, Router, Runtime};

pub use state::Links;
use store::Settings;

/// The service. Its start reads the links, and its stop writes them.
pub fn app(settings: Settings) -> App {
    let start = async |_: Runtime| {
        let links = Links::open(settings)?;
        Ok((router(&links), links))
    };
    App::start_with_state(start).every(periodic::PERIOD, periodic::save).on_stop(stop::save)
}

/// All routes. The first layer sees a request first.
fn router(links: &Links) -> Router {
    let mut router = Router::new();
    for layer in [request_id::layer, logging::layer, cors::layer, gzip::layer] {
        router = layer(router);
    }
    timeout::layer(router, links)
        .nest("/api", auth::layer(api::routes()))
        .merge(assets::routes())
        .merge(events::routes())
        .merge(files::routes(links))
        .merge(form::routes())
        .merge(redirect::routes())
        .merge(session::routes())
        .merge(socket::routes())
        .merge(title::routes())
}
