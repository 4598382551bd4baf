//! The table of a server's connections, and the tokens by which the poller speaks of them.
//!
//! A place in the table is used again, so a token says which use of the place it means: news that comes late finds
//! nobody, and never a stranger.

use mio::Token;
use slab::Slab;

/// Bits of a token that say the place; those above say which use of it. The highest bit is left to other tokens.
const PLACE_BITS: u32 = usize::BITS / 8 * 5;
const PLACE_MASK: usize = (1 << PLACE_BITS) - 1;
const USE_MASK: usize = (1 << (usize::BITS - 1 - PLACE_BITS)) - 1;

/// Connections by token.
#[derive(Debug)]
pub struct Connections<C> {
    places: Slab<(Token, C)>,
    uses: usize,
}

impl<C> Connections<C> {
    /// The highest token ever given, so that those above are free for other things.
    pub const LAST: Token = Token(usize::MAX >> 1);

    /// An empty table.
    pub fn new() -> Connections<C> {
        Connections { places: Slab::new(), uses: 0 }
    }

    /// The token of the next [`Connections::insert`].
    pub fn next_token(&self) -> Token {
        Token(((self.uses & USE_MASK) << PLACE_BITS) | self.places.vacant_key())
    }

    /// Adds a connection under [`Connections::next_token`].
    pub fn insert(&mut self, connection: C) {
        let token = self.next_token();
        self.places.insert((token, connection));
        self.uses = self.uses.wrapping_add(1);
    }

    /// The connection of this token, if it is still there.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut C> {
        match self.places.get_mut(token.0 & PLACE_MASK) {
            Some((held, connection)) if *held == token => Some(connection),
            _ => None,
        }
    }

    /// Takes out the connection of this token, if it is still there.
    pub fn remove(&mut self, token: Token) -> Option<C> {
        self.get_mut(token)?;
        Some(self.places.remove(token.0 & PLACE_MASK).1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All of them, with their tokens.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Token, &mut C)> {
        self.places.iter_mut().map(|(_, (token, connection))| (*token, connection))
    }
}

impl<C> Default for Connections<C> {
    fn default() -> Connections<C> {
        Connections::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_token_does_not_reach_the_next_user_of_its_place() {
        let mut connections = Connections::new();
        let first = connections.next_token();
        connections.insert("first");
        assert_eq!(connections.remove(first), Some("first"));
        let second = connections.next_token();
        connections.insert("second");
        assert_eq!(first.0 & PLACE_MASK, second.0 & PLACE_MASK, "the place is used again");
        assert_eq!(connections.get_mut(first), None);
        assert_eq!(connections.remove(first), None);
        assert_eq!(connections.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn tokens_stay_below_those_of_listeners_however_many_were_given() {
        let mut connections = Connections::new();
        connections.uses = usize::MAX;
        let last = connections.next_token();
        connections.insert("last");
        assert!(last <= Connections::<&str>::LAST);
        assert_eq!(connections.get_mut(last), Some(&mut "last"));
        assert_eq!(connections.next_token(), Token(1), "uses are counted from 0 again");
    }

    #[test]
    fn unknown_tokens_find_nobody() {
        let mut connections = Connections::<()>::new();
        assert_eq!(connections.get_mut(Connections::<()>::LAST), None);
        assert!(connections.is_empty());
    }
}
