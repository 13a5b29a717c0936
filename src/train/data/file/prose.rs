//! Plain text, in pieces: a tokenizer takes seventy times the memory of what it is given at once.

use super::{Content, Kind};
use crate::error::{Error, Result};
use crate::train::data::decode::Input;
use std::io::{BufRead, Read};
use std::path::PathBuf;

pub(super) const KIND: Kind = Kind { is: |_, _| true, open };

/// Endings that say that a file is text; a table in one of the others (but the first: none) is known by a whole row.
pub(super) const ENDINGS: [&str; 5] = ["", "txt", "text", "md", "rst"];

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// Bytes before a piece that are given with it, so that its first token is what it would be in the whole text.
const CONTEXT: usize = 512;

fn open(input: Input) -> Result<Content> {
    let path = input.path.clone();
    Ok(Content::Prose(Prose {
        path,
        reader: input.into_reader(),
        text: String::new(),
        raw: Vec::new(),
        at: 0,
        ended: false,
    }))
}

/// A text that is read piece by piece.
pub(in crate::train::data) struct Prose {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    /// What was read and is not handed out, after its context.
    text: String,
    /// Bytes of half a character at the end.
    raw: Vec<u8>,
    /// Bytes of context in `text`.
    at: usize,
    ended: bool,
}

/// A part of a text.
pub(in crate::train::data) struct Piece {
    /// What stands before it, and it.
    pub text: String,
    /// Bytes of what stands before it.
    pub context: usize,
}

impl Prose {
    /// The next piece; they end where a line ends and the next begins without white space.
    ///
    /// # Errors
    /// When the file cannot be read or is not UTF-8.
    pub fn next(&mut self) -> Result<Option<Piece>> {
        while !self.ended && self.text.len() - self.at < 2 * PIECE {
            let mut some = std::mem::take(&mut self.raw);
            let before = some.len();
            let read = self.reader.by_ref().take(PIECE as u64).read_to_end(&mut some);
            read.map_err(|error| Error::read(&self.path, "read", &error))?;
            self.ended = some.len() == before;
            let whole = match std::str::from_utf8(&some) {
                Ok(text) => text.len(),
                Err(error) if error.error_len().is_none() && !self.ended => error.valid_up_to(),
                Err(_) => return Err(Error::file(&self.path, "not UTF-8 text; save it as UTF-8")),
            };
            // A carriage return waits for what follows it.
            let keep = if !self.ended && some[..whole].ends_with(b"\r") { whole - 1 } else { whole };
            self.raw = some.split_off(keep);
            let text = String::from_utf8(some).map_err(|_| Error::file(&self.path, "not UTF-8 text"))?;
            self.text.push_str(&text.replace("\r\n", "\n"));
        }
        if self.text.len() == self.at {
            return Ok(None);
        }
        let end = if self.ended && self.text.len() - self.at <= 2 * PIECE { self.text.len() } else { self.cut() };
        let piece = Piece { text: self.text[..end].to_owned(), context: self.at };
        let mut keep = end.saturating_sub(CONTEXT);
        while !self.text.is_char_boundary(keep) {
            keep += 1;
        }
        // From the beginning of a line, where there is one.
        if keep > 0
            && let Some(line) = self.text[keep..end].find('\n').filter(|line| keep + line + 1 < end)
        {
            keep += line + 1;
        }
        self.text.drain(..keep);
        self.at = end - keep;
        Ok(Some(piece))
    }

    /// Where a piece of about [`PIECE`] bytes ends.
    fn cut(&self) -> usize {
        let bytes = self.text.as_bytes();
        let (low, high) = (self.at + PIECE, (self.at + 2 * PIECE).min(bytes.len() - 1));
        let bare = |at: &usize| !bytes[*at].is_ascii_whitespace() && self.text.is_char_boundary(*at);
        let line = (low..high).find(|at| bytes[at - 1] == b'\n' && bare(at));
        let word = || (low..high).find(|at| bytes[*at] == b' ' && !bytes[at - 1].is_ascii_whitespace());
        let any = || (low..=high).find(|at| self.text.is_char_boundary(*at));
        line.or_else(word).or_else(any).unwrap_or(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text() {
        let text = "one line öäü\r\nanother\n\n  and more\n".repeat(40_000);
        let reader = Box::new(std::io::Cursor::new(text.clone().into_bytes()));
        let mut prose =
            Prose { path: PathBuf::new(), reader, text: String::new(), raw: Vec::new(), at: 0, ended: false };
        let (mut whole, mut count) = (String::new(), 0);
        while let Some(piece) = prose.next().unwrap() {
            assert!(piece.text.len() <= 3 * PIECE && piece.context <= CONTEXT);
            assert!(whole.ends_with(&piece.text[..piece.context]));
            assert!(whole.is_empty() || whole.ends_with('\n') && !piece.text[piece.context..].starts_with([' ', '\n']));
            whole.push_str(&piece.text[piece.context..]);
            count += 1;
        }
        assert!(count > 3);
        assert_eq!(whole, text.replace("\r\n", "\n"));
    }
}
