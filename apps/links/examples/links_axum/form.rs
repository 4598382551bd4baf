//! A page with a form, and what the form sends.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Html, Redirect};
use axum::routing::get;
use axum::{Form, Router};
use links::store::Link;

use crate::state::Links;

const PAGE: &str = "<form method=post><input name=name><input name=url><button>Add</button></form>";

pub(crate) fn routes() -> Router<Links> {
    Router::new().route("/new", get(async || Html(PAGE)).post(create))
}

async fn create(State(links): State<Links>, Form(link): Form<Link>) -> Result<Redirect, StatusCode> {
    links.store.add(link).ok_or(StatusCode::CONFLICT)?;
    Ok(Redirect::to("/new"))
}
