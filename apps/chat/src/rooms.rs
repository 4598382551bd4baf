//! The rooms, their histories, and the bounded queue of each listener.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_channel::{Receiver, Sender};
use futures_lite::Stream;
use gearshift::ws::Utf8Bytes;
use gearshift::{Refusal, StatusCode};
use serde::{Deserialize, Serialize};

use crate::{MAX_BEHIND, MAX_HISTORY, MAX_NAME, MAX_ROOMS, MAX_TEXT};

/// What a person says.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Message {
    from: String,
    text: String,
}

/// A message of a room. A clone is cheap.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    /// The entry as clients receive it: the message and its identifier.
    pub(crate) json: Utf8Bytes,
}

/// All rooms of the server.
#[derive(Default)]
pub(crate) struct Rooms(Mutex<HashMap<String, Arc<Room>>>);

impl Rooms {
    /// Returns the room `name`, which is created if there is none.
    ///
    /// # Errors
    /// 422 for a name that is empty or longer than [`MAX_NAME`]; 503 if there are [`MAX_ROOMS`] with clients.
    pub(crate) fn room(&self, name: &str) -> Result<Arc<Room>, Refusal> {
        check("the name of a room", name, MAX_NAME)?;
        let mut rooms = lock(&self.0);
        if let Some(room) = rooms.get(name) {
            return Ok(room.clone());
        }
        if rooms.len() >= MAX_ROOMS {
            // A request that has its room, but does not listen yet, holds a reference.
            let unused = rooms.iter().filter(|(_, room)| Arc::strong_count(room) == 1);
            let oldest = unused.min_by_key(|(_, room)| lock(&room.0).next).map(|(name, _)| name.clone());
            let full = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "all rooms are in use");
            rooms.remove(&oldest.ok_or_else(full)?);
        }
        let room = Arc::new(Room(Mutex::new(Talk::new(now()))));
        rooms.insert(name.to_owned(), room.clone());
        Ok(room)
    }

    /// The number of listeners in all rooms.
    pub(crate) fn listeners(&self) -> usize {
        lock(&self.0).values().map(|room| lock(&room.0).listeners.len()).sum()
    }
}

/// A room. Each [`Listener`] refers to it.
pub(crate) struct Room(Mutex<Talk>);

struct Talk {
    /// The identifier of the next entry. It is not below the time in milliseconds at which the room was created, so
    /// that the identifiers go on after a restart, and a client that connects again misses nothing.
    next: u64,
    history: VecDeque<Entry>,
    listeners: HashMap<u64, Sender<Entry>>,
    next_listener: u64,
}

impl Talk {
    fn new(next: u64) -> Talk {
        Talk { next, history: VecDeque::new(), listeners: HashMap::new(), next_listener: 0 }
    }
}

impl Room {
    /// Adds a message to the history and to the queue of every listener. A listener whose queue is full is removed: its
    /// stream ends after what the queue holds.
    ///
    /// # Errors
    /// 422 for a name or a text that is empty, or longer than [`MAX_NAME`] or [`MAX_TEXT`].
    pub(crate) fn say(&self, message: &Message) -> Result<(), Refusal> {
        #[derive(Serialize)]
        struct Said<'m> {
            id: u64,
            #[serde(flatten)]
            message: &'m Message,
        }
        check("the name of a person", &message.from, MAX_NAME)?;
        check("the text", &message.text, MAX_TEXT)?;
        let mut talk = lock(&self.0);
        let id = talk.next;
        talk.next += 1;
        let json = serde_json::to_string(&Said { id, message }).expect("strings and a number").into();
        let entry = Entry { id, json };
        talk.listeners.retain(|_, queue| queue.try_send(entry.clone()).is_ok());
        if talk.history.len() == MAX_HISTORY {
            talk.history.pop_front();
        }
        talk.history.push_back(entry);
        Ok(())
    }

    /// Listens to the room: to the history after the entry `after`, and to what is said from now on. Without `after`,
    /// or if it is an identifier that the room has not given, the listener receives the whole history.
    pub(crate) fn listen(self: &Arc<Self>, after: Option<u64>) -> Listener {
        let mut talk = lock(&self.0);
        let after = after.filter(|&after| after < talk.next).unwrap_or(0);
        let missed = talk.history.iter().filter(|entry| entry.id > after).cloned().collect();
        let (sender, queue) = async_channel::bounded(MAX_BEHIND);
        let number = talk.next_listener;
        talk.next_listener += 1;
        talk.listeners.insert(number, sender);
        Listener { missed, queue: Box::pin(queue), room: self.clone(), number }
    }
}

/// The stream of a room's entries for one client. It ends if the client has fallen behind.
pub(crate) struct Listener {
    missed: VecDeque<Entry>,
    queue: Pin<Box<Receiver<Entry>>>,
    room: Arc<Room>,
    /// The key of the queue in [`Talk::listeners`].
    number: u64,
}

impl Stream for Listener {
    type Item = Entry;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Entry>> {
        match self.missed.pop_front() {
            Some(entry) => Poll::Ready(Some(entry)),
            None => self.queue.as_mut().poll_next(cx),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.room.0).listeners.remove(&self.number);
    }
}

fn check(what: &str, text: &str, max: usize) -> Result<(), Refusal> {
    if (1..=max).contains(&text.len()) {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{what} has 1 to {max} bytes")))
}

/// The time in milliseconds. Browsers hold it exactly, as a number.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(1, |since| u64::try_from(since.as_millis()).unwrap_or(1))
}

/// No code that holds a lock panics.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_lite::StreamExt;
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn message(n: usize) -> Message {
        Message { from: "Ada".into(), text: n.to_string() }
    }

    fn room(messages: usize) -> Arc<Room> {
        let room = Rooms::default().room("lobby").expect("a room");
        say(&room, messages);
        room
    }

    fn say(room: &Room, messages: usize) {
        (0..messages).for_each(|n| room.say(&message(n)).expect("a message"));
    }

    /// What waits for `listener`, and whether its stream has ended.
    fn waiting(listener: &mut Listener) -> (Vec<Entry>, bool) {
        let mut entries = Vec::new();
        loop {
            match block_on(poll_once(listener.next())) {
                Some(Some(entry)) => entries.push(entry),
                ended => return (entries, ended.is_some()),
            }
        }
    }

    #[test]
    fn the_history_has_the_latest_entries() {
        let (all, _) = waiting(&mut room(MAX_HISTORY).listen(None));
        assert_eq!(all.len(), MAX_HISTORY);
        assert!(all[0].json.ends_with(r#","from":"Ada","text":"0"}"#), "{all:?}");
        let (latest, _) = waiting(&mut room(MAX_HISTORY + 1).listen(None));
        assert_eq!(latest.len(), MAX_HISTORY);
        assert!(latest[0].json.ends_with(r#""text":"1"}"#), "{latest:?}");
    }

    #[test]
    fn a_listener_goes_on_after_the_entry_that_it_names() {
        let room = room(5);
        let (all, _) = waiting(&mut room.listen(None));
        assert_eq!(waiting(&mut room.listen(Some(all[2].id))).0, all[3..]);
        assert_eq!(waiting(&mut room.listen(Some(all[4].id))).0, []);
        // Identifiers of another start.
        assert_eq!(waiting(&mut room.listen(Some(all[0].id - 1))).0, all);
        assert_eq!(waiting(&mut room.listen(Some(all[4].id + 1))).0, all);
    }

    #[test]
    fn a_listener_that_is_too_far_behind_is_closed_alone() {
        let room = room(3);
        let (mut slow, mut quick) = (room.listen(None), room.listen(None));
        say(&room, MAX_BEHIND);
        assert_eq!(waiting(&mut quick).0.len(), 3 + MAX_BEHIND);
        assert_eq!(lock(&room.0).listeners.len(), 2);
        say(&room, 1);
        assert_eq!(lock(&room.0).listeners.len(), 1);
        assert_eq!((waiting(&mut quick).0.len(), waiting(&mut quick).1), (1, false));
        let (read, has_ended) = waiting(&mut slow);
        assert_eq!((read.len(), has_ended), (3 + MAX_BEHIND, true));
        // The history has the rest.
        let (rest, has_ended) = waiting(&mut room.listen(read.last().map(|entry| entry.id)));
        assert_eq!((rest.len(), has_ended), (1, false));
    }

    #[test]
    fn a_listener_that_is_dropped_has_left() {
        let rooms = Rooms::default();
        let room = rooms.room("lobby").expect("a room");
        let (first, second) = (room.listen(None), room.listen(None));
        assert_eq!(rooms.listeners(), 2);
        drop(first);
        assert_eq!(rooms.listeners(), 1);
        drop(second);
        assert_eq!(rooms.listeners(), 0);
    }

    #[test]
    fn a_room_without_listeners_makes_place_for_another() {
        let rooms = Rooms::default();
        let mut listeners = Vec::new();
        for n in 0..MAX_ROOMS {
            let room = rooms.room(&n.to_string()).expect("there is place");
            say(&room, 1);
            listeners.push(room.listen(None));
        }
        let refusal = rooms.room("one more").err().expect("all rooms have listeners");
        assert_eq!(refusal.status(), StatusCode::SERVICE_UNAVAILABLE);
        listeners.remove(7);
        rooms.room("one more").expect("a room is unused");
        assert_eq!(lock(&rooms.0).len(), MAX_ROOMS);
        assert!(!lock(&rooms.0).contains_key("7"));
    }

    #[test]
    fn names_and_texts_have_limits() {
        let room = room(0);
        let said = |from: usize, text: usize| {
            room.say(&Message { from: "x".repeat(from), text: "x".repeat(text) })
                .map_err(|refusal| refusal.status())
        };
        assert_eq!(said(MAX_NAME, MAX_TEXT), Ok(()));
        for (from, text) in [(0, 1), (1, 0), (MAX_NAME + 1, 1), (1, MAX_TEXT + 1)] {
            assert_eq!(said(from, text), Err(StatusCode::UNPROCESSABLE_ENTITY));
        }
        let rooms = Rooms::default();
        assert!(rooms.room(&"x".repeat(MAX_NAME)).is_ok());
        assert!(rooms.room(&"x".repeat(MAX_NAME + 1)).is_err() && rooms.room("").is_err());
    }
}
