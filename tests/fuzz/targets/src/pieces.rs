//! Ways to chop the bytes of a peer.

use crate::input::Choices;

/// The bytes of a peer, piece by piece.
pub(crate) struct Pieces<'a> {
    rest: &'a [u8],
    cuts: Cuts<'a>,
}

#[derive(Clone)]
pub(crate) enum Cuts<'a> {
    /// All at once.
    None,
    /// Each byte alone.
    All,
    /// Where the script says.
    Some(Choices<'a>),
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(wire: &'a [u8], cuts: Cuts<'a>) -> Pieces<'a> {
        Pieces { rest: wire, cuts }
    }

    /// The bytes that have not arrived.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let n = match &mut self.cuts {
            Cuts::None => usize::MAX,
            Cuts::All => 1,
            Cuts::Some(choices) => match choices.byte() {
                0 => usize::MAX,
                n @ 1..=200 => usize::from(n),
                n => usize::from(n) * 16,
            },
        };
        let (piece, rest) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = rest;
        Some(piece)
    }
}
