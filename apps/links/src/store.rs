//! The links in memory, and the settings of the service. Nothing in here belongs to a server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

/// The number of events that a slow listener may be behind.
const EVENTS: usize = 64;

/// What an operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the uploaded files.
    pub files: PathBuf,
    /// The file in which the links are kept.
    pub links: PathBuf,
    /// The token of the JSON API.
    pub token: String,
    /// The URL of the service that knows the titles of pages.
    pub titles: String,
    /// The key of the sessions, of at least 64 random bytes.
    pub key: Vec<u8>,
    /// The longest time until a response begins.
    pub timeout: Duration,
}

/// A link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The name, which is unique.
    pub name: String,
    /// The URL to which the name leads.
    pub url: String,
}

/// The links. Clones share them.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    links: Mutex<BTreeMap<String, Link>>,
    added: broadcast::Sender<Link>,
    path: PathBuf,
}

impl Store {
    /// Reads the links from a file, if it exists.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(path: PathBuf) -> io::Result<Store> {
        let links = match File::open(&path) {
            Ok(file) => serde_json::from_reader(BufReader::new(file))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let added = broadcast::channel(EVENTS).0;
        Ok(Store(Arc::new(Inner { links: Mutex::new(links), added, path })))
    }

    /// Writes the links to the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let json = serde_json::to_vec(&*self.links())?;
        std::fs::write(&self.0.path, json)
    }

    /// Adds a link, and returns it. `None` if its name is taken.
    pub fn add(&self, link: Link) -> Option<Link> {
        let mut links = self.links();
        if links.contains_key(&link.name) {
            return None;
        }
        links.insert(link.name.clone(), link.clone());
        // Nobody may listen.
        let _ = self.0.added.send(link.clone());
        Some(link)
    }

    /// The link with this name.
    pub fn get(&self, name: &str) -> Option<Link> {
        self.links().get(name).cloned()
    }

    /// Removes the link with this name, and returns it.
    pub fn remove(&self, name: &str) -> Option<Link> {
        self.links().remove(name)
    }

    /// Receives the links that are added from now on.
    pub fn added(&self) -> broadcast::Receiver<Link> {
        self.0.added.subscribe()
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<String, Link>> {
        self.0.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
