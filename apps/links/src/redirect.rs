//! A short link leads to its URL.

use gearshift::{Request, Response, Router, sync};

use crate::state::Links;

pub(crate) fn routes() -> Router {
    Router::new().get("/go/{name}", sync(go))
}

fn go(request: Request) -> Option<Response> {
    let link = request.state::<Links>().store.get(&request.param("name")?)?;
    Some(Response::temporary_redirect(link.url))
}
