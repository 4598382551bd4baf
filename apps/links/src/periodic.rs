//! A task that saves the links from time to time.

use std::time::Duration;

use gearshift::Runtime;

use crate::state::Links;

pub(crate) fn start(runtime: &Runtime, links: &Links) {
    let (store, pool) = (links.store.clone(), runtime.clone());
    let save = move || {
        let (store, pool) = (store.clone(), pool.clone());
        async move {
            if let Err(error) = pool.blocking(move || store.save()).await {
                tracing::error!("the links were not saved: {error}");
            }
        }
    };
    runtime.every(Duration::from_secs(60), save).detach();
}
