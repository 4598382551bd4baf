//! The state that all handlers share.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::extract::FromRef;
use axum_extra::extract::cookie::Key;
use links::store::{Settings, Store};

/// The state of the service.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) store: Store,
    pub(crate) files: PathBuf,
    pub(crate) token: String,
    pub(crate) titles: String,
    pub(crate) client: reqwest::Client,
    pub(crate) key: Key,
    pub(crate) timeout: Duration,
}

impl Links {
    pub(crate) fn open(settings: Settings) -> io::Result<Links> {
        Ok(Links {
            store: Store::open(settings.links)?,
            files: settings.files,
            token: settings.token,
            titles: settings.titles,
            client: reqwest::Client::new(),
            key: Key::from(&settings.key),
            timeout: settings.timeout,
        })
    }
}

impl FromRef<Links> for Key {
    fn from_ref(links: &Links) -> Key {
        links.key.clone()
    }
}
