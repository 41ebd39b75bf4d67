//! Reads a body that is never refused for its length: it cuts what is too long while the body arrives.
//!
//! An agent reports the result of its commands only once. So long texts end with a mark, long lists are cut after their
//! first items, and the retained part of a body fits in memory whatever was sent. The result is read like any other
//! JSON.

use axum::body::Body;
use futures::StreamExt;

use super::error::ApiError;

/// Ends a text that was cut.
pub const CUT: &str = "… [cut]";

/// Bytes of one text, as JSON spells it.
const TEXT_BYTES_MAX: usize = 128 << 10;

/// Bytes of a text that is never cut: names of fields, ids.
const SHORT_BYTES: usize = 256;

/// Bytes of a number or a word, and blanks are not kept at all.
const WORD_BYTES_MAX: usize = 128;

/// Depth at which reading ends: bodies are flat.
const DEPTH_MAX: usize = 16;

/// Reads the body of a request, cut to what may be kept: about so many bytes, and so many items of each list. A mark follows
/// the last item of a list that was cut.
pub async fn shortened(body: Body, bytes: usize, items: usize) -> Result<Vec<u8>, ApiError> {
    let mut cutter = Cutter::new(bytes, items);
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| ApiError::Malformed("The request body could not be read.".to_owned()))?;
        for byte in chunk {
            cutter.take(byte);
        }
        if cutter.too_deep {
            break;
        }
    }
    Ok(cutter.kept)
}

/// Where in a text it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Text {
    Outside,
    /// Between two characters.
    Within,
    /// So many bytes of an escape are still to come.
    Escaped(u8),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    List,
    Object,
}

/// Cuts JSON, byte by byte.
struct Cutter {
    kept: Vec<u8>,
    bytes_max: usize,
    items_max: usize,
    text: Text,
    /// Bytes of the text, number or word that is being read.
    length: usize,
    /// The text has been cut: the rest is skipped.
    cut: bool,
    /// The last escape was the first half of a character.
    half: bool,
    /// The digits of the escape that is being read.
    digits: [u8; 4],
    /// Each list or object that is open, with the commas in it so far.
    open: Vec<(Kind, usize)>,
    /// The depth at which items are skipped.
    skipped: Option<usize>,
    too_deep: bool,
}

impl Cutter {
    fn new(bytes_max: usize, items_max: usize) -> Self {
        Self {
            kept: Vec::new(),
            bytes_max,
            items_max,
            text: Text::Outside,
            length: 0,
            cut: false,
            half: false,
            digits: [0; 4],
            open: Vec::new(),
            skipped: None,
            too_deep: false,
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.skipped.is_none() {
            self.kept.push(byte);
        }
    }

    fn take(&mut self, byte: u8) {
        match self.text {
            Text::Outside => self.outside(byte),
            Text::Within => self.within(byte),
            Text::Escaped(more) => self.escaped(byte, more),
        }
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                (self.text, self.length, self.cut, self.half) = (Text::Within, 0, false, false);
                self.keep(byte);
            }
            b'[' | b'{' => {
                self.keep(byte);
                self.open.push((if byte == b'[' { Kind::List } else { Kind::Object }, 0));
                self.length = 0;
                self.too_deep |= self.open.len() > DEPTH_MAX;
            }
            b']' | b'}' => {
                if self.skipped == Some(self.open.len()) {
                    self.skipped = None;
                }
                self.open.pop();
                self.length = 0;
                self.keep(byte);
            }
            b',' => {
                self.length = 0;
                let depth = self.open.len();
                let over = depth > 1 && self.kept.len() >= self.bytes_max;
                let Some((kind, commas)) = self.open.last_mut() else { return self.keep(byte) };
                *commas += 1;
                let full = over || *commas >= self.items_max;
                let marked = full && *kind == Kind::List;
                if !full || marked {
                    self.keep(byte);
                }
                if marked {
                    ["\"", CUT, "\""].concat().bytes().for_each(|byte| self.keep(byte));
                }
                if full && self.skipped.is_none() {
                    self.skipped = Some(depth);
                }
            }
            // Two words with a blank between them are no JSON, and must not become one word.
            b' ' | b'\t' | b'\n' | b'\r' if self.length == 0 => {}
            _ => {
                self.length += 1;
                if self.length <= WORD_BYTES_MAX {
                    self.keep(byte);
                }
            }
        }
    }

    fn within(&mut self, byte: u8) {
        if byte == b'"' {
            (self.text, self.length) = (Text::Outside, 0);
            self.keep(byte);
            return;
        }
        // Nothing is cut within a character: neither between its bytes nor between its two escapes.
        let begins = byte & 0b1100_0000 != 0b1000_0000 && !(self.half && byte == b'\\');
        let over = self.kept.len() >= self.bytes_max && self.length >= SHORT_BYTES;
        let full = self.length >= TEXT_BYTES_MAX || over;
        if full && begins && !self.cut {
            self.cut = true;
            CUT.bytes().for_each(|byte| self.keep(byte));
        }
        if byte == b'\\' {
            self.text = Text::Escaped(1);
        } else {
            self.half = false;
        }
        self.put(byte);
    }

    fn escaped(&mut self, byte: u8, more: u8) {
        self.text = match (more, byte) {
            (1, b'u') if self.digits[0] == 0 => {
                self.digits[0] = 1;
                Text::Escaped(5)
            }
            _ => {
                if let (2..=5, Some(place)) = (more, self.digits.get_mut(usize::from(5 - more))) {
                    *place = byte.to_ascii_lowercase();
                }
                match more {
                    1 => self.escape_ends(false),
                    2 => self.escape_ends(self.digits[0] == b'd' && matches!(self.digits[1], b'8'..=b'b')),
                    more => Text::Escaped(more - 1),
                }
            }
        };
        self.put(byte);
    }

    fn escape_ends(&mut self, half: bool) -> Text {
        (self.digits, self.half) = ([0; 4], half && !self.half);
        Text::Within
    }

    fn put(&mut self, byte: u8) {
        if !self.cut {
            self.length += 1;
            self.keep(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cut(text: &str, bytes: usize, items: usize) -> Vec<u8> {
        let mut cutter = Cutter::new(bytes, items);
        text.bytes().for_each(|byte| cutter.take(byte));
        cutter.kept
    }

    fn read(text: &str, bytes: usize, items: usize) -> Value {
        let kept = cut(text, bytes, items);
        serde_json::from_slice(&kept).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&kept)))
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        for value in [
            json!({"a": [1, -2.5e-7, true, null, "x"], "b": {"c": [[], {}]}, "d": ""}),
            json!(["\"", "\\", "\\\"", "\u{1}\n\t", "ä€😀", "a,b]c}d"]),
            json!(7),
        ] {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                assert_eq!(read(&text, 1 << 20, 100), value);
            }
        }
        assert_eq!(read(r#"["😀é"]"#, 1 << 20, 10), json!(["😀é"]));
        // What is no JSON does not become some by it.
        for text in ["{\"a\": tr ue}", "[1 2]", "{", "[1,]", "\"x"] {
            let kept = cut(text, 1 << 20, 100);
            assert!(serde_json::from_slice::<Value>(&kept).is_err(), "{text}: {}", String::from_utf8_lossy(&kept));
        }
    }

    #[test]
    fn long_lists_keep_their_first_items_and_a_mark() {
        let text = json!({"a": (0..5_000).collect::<Vec<_>>(), "b": [[1, 2, 3, 4, 5], 6], "c": "end"}).to_string();
        let read = read(&text, 1 << 20, 3);
        assert_eq!(read, json!({"a": [0, 1, 2, CUT], "b": [[1, 2, 3, CUT], 6], "c": "end"}));
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_what_follows_is_read() {
        for unit in ["x", "ä", "€", "😀", "\\u00e9", "\\ud83d\\ude00", "\\\\", "\\\"", "a\\n"] {
            for lead in ["", "1", "12", "123", "1234", "12345"] {
                let text = format!("{{\"a\": \"{lead}{}\", \"success\": true}}", unit.repeat(TEXT_BYTES_MAX + 1));
                let read = read(&text, 1 << 20, 10);
                let kept = read["a"].as_str().unwrap();
                assert!(kept.ends_with(CUT) && kept.len() <= TEXT_BYTES_MAX + 32, "{unit} {}", kept.len());
                assert_eq!(read["success"], true);
            }
        }
    }

    #[test]
    fn nothing_makes_it_keep_more_than_it_may() {
        let texts = json!({"a": vec!["y".repeat(1_000); 1_000], "b": "z".repeat(1_000)}).to_string();
        let kept = cut(&texts, 10_000, 1_000);
        assert!(kept.len() < 10_600, "{}", kept.len());
        let read: Value = serde_json::from_slice(&kept).unwrap();
        let list = read["a"].as_array().unwrap();
        assert_eq!((list.len(), list.last()), (11, Some(&json!(CUT))));
        assert_eq!(read["b"], json!("z".repeat(SHORT_BYTES) + CUT));
        for endless in ["1".repeat(1 << 20), "[".repeat(1 << 10), " ".repeat(1 << 20), "[1,".repeat(10)] {
            assert!(cut(&endless, 10_000, 10).len() <= 1 << 10);
        }
    }
}
