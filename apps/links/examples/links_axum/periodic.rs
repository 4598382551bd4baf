//! A task that saves the links from time to time.

use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::state::Links;

pub(crate) fn start(links: &Links) {
    let store = links.store.clone();
    tokio::spawn(async move {
        let mut period = tokio::time::interval(Duration::from_secs(60));
        loop {
            period.tick().await;
            let store = store.clone();
            if let Ok(Err(error)) = spawn_blocking(move || store.save()).await {
                tracing::error!("the links were not saved: {error}");
            }
        }
    });
}
