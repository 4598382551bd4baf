//! A task that saves the links from time to time.

use std::sync::Arc;
use std::time::Duration;

use gearshift::Runtime;

use crate::state::Links;

pub(crate) const PERIOD: Duration = Duration::from_secs(60);

pub(crate) async fn save(links: Arc<Links>, runtime: Runtime) {
    if let Err(error) = runtime.blocking(move || links.store.save()).await {
        tracing::error!("the links were not saved: {error}");
    }
}
