//! What is done at a stop.

use std::sync::Arc;

use crate::state::Links;

pub(crate) async fn save(links: Arc<Links>) {
    if let Err(error) = links.store.save() {
        tracing::error!("the links were not saved: {error}");
    }
}
