//! What is done at a stop.

use std::io;

use tokio::net::TcpListener;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

use crate::router;
use crate::state::Links;

pub(crate) async fn serve(listener: TcpListener, links: Links) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    };
    axum::serve(listener, router(&links)).with_graceful_shutdown(stop).await?;
    links.store.save()
}
