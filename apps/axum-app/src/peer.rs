//! axum's `ConnectInfo` on this server. With axum's own server it needs `into_make_service_with_connect_info`.

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::map_request;
use gearshift::RequestContext;

/// Gives the handlers and layers of an application the address of the peer, as `ConnectInfo<SocketAddr>`. Peers on Unix
/// sockets have none.
pub fn with_connect_info(app: Router) -> Router {
    app.layer(map_request(async |mut request: Request| {
        let peer = RequestContext::of(request.extensions()).and_then(|context| context.peer());
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        request
    }))
}
