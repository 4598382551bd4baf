//! A session in a signed cookie.

use gearshift::cookie::{Cookie, SameSite};
use gearshift::{Refusal, Request, Response, Router, StatusCode, sync};
use serde::Deserialize;

use crate::state::Links;

pub(crate) fn routes() -> Router {
    Router::new().post("/login", login).get("/me", sync(me))
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

async fn login(request: Request) -> Result<Response, Refusal> {
    let links = request.state::<Links>();
    let Login { user } = request.form().await?;
    let cookie = Cookie::build(("session", user)).path("/").http_only(true).same_site(SameSite::Lax);
    Ok(Response::redirect("/me").with_signed_cookie(&links.key, cookie))
}

fn me(request: Request) -> Result<String, StatusCode> {
    let session = request.signed_cookie(&request.state::<Links>().key, "session");
    Ok(format!("Hello, {}!", session.ok_or(StatusCode::UNAUTHORIZED)?.value()))
}
