//! A session in a signed cookie.

use axum::http::StatusCode;
use axum::response::Redirect;
use axum::routing::{get, post};
use axum::{Form, Router};
use axum_extra::extract::SignedCookieJar;
use axum_extra::extract::cookie::{Cookie, SameSite};
use serde::Deserialize;

use crate::state::Links;

pub(crate) fn routes() -> Router<Links> {
    Router::new().route("/login", post(login)).route("/me", get(me))
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

async fn login(jar: SignedCookieJar, Form(Login { user }): Form<Login>) -> (SignedCookieJar, Redirect) {
    let cookie = Cookie::build(("session", user)).path("/").http_only(true).same_site(SameSite::Lax);
    (jar.add(cookie), Redirect::to("/me"))
}

async fn me(jar: SignedCookieJar) -> Result<String, StatusCode> {
    let session = jar.get("session");
    Ok(format!("Hello, {}!", session.ok_or(StatusCode::UNAUTHORIZED)?.value()))
}
