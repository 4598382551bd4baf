//! Bearer authentication for a group of routes.

use gearshift::middleware::map_request;
use gearshift::{IntoResponse, Request, Router, StatusCode};

use crate::state::Links;

pub(crate) fn layer(router: Router) -> Router {
    router.wrap(map_request(only_with_token))
}

fn only_with_token(request: Request) -> Result<Request, impl IntoResponse> {
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    match token == Some(&request.state::<Links>().token) {
        true => Ok(request),
        false => Err((StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")], "no token")),
    }
}
