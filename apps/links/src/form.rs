//! A page with a form, and what the form sends.

use gearshift::{Refusal, Request, Response, Router, StatusCode, sync};

use crate::state::Links;

const PAGE: &str = "<form method=post><input name=name><input name=url><button>Add</button></form>";

pub(crate) fn routes() -> Router {
    Router::new().get("/new", sync(|_| Response::html(PAGE))).post("/new", create)
}

async fn create(request: Request) -> Result<Response, Refusal> {
    let links = request.state::<Links>();
    links.store.add(request.form().await?).ok_or(StatusCode::CONFLICT)?;
    Ok(Response::redirect("/new"))
}
