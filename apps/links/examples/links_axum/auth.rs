//! Bearer authentication for a group of routes.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum_extra::TypedHeader;
use axum_extra::headers::Authorization;
use axum_extra::headers::authorization::Bearer;

use crate::state::Links;

pub(crate) fn layer(router: Router<Links>, links: &Links) -> Router<Links> {
    router.layer(from_fn_with_state(links.clone(), only_with_token))
}

async fn only_with_token(
    State(links): State<Links>,
    token: Option<TypedHeader<Authorization<Bearer>>>,
    request: Request,
    next: Next,
) -> Response {
    match token.is_some_and(|token| token.token() == links.token) {
        true => next.run(request).await,
        false => (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")], "no token").into_response(),
    }
}
