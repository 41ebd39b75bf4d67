//! Opens the inputs: files and standard input, plain or compressed (gzip, xz, Zstandard), UTF-8 or UTF-16.
//!
//! The first bytes of an input decide its kind, not its name. Decompression streams; the dictionary of xz is bounded.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::ImportError;
use super::looks;

const BUFFER: usize = 256 * 1024;

/// Memory that an xz file may ask for, in KiB: `xz -9` needs 64 MiB.
const XZ_MEMORY_KIB: u32 = 256 * 1024;

/// An input that is ready to be read as UTF-8.
pub struct Input {
    /// Its name in messages.
    pub name: String,
    /// When the file was last changed, seconds since 1970; none for standard input.
    pub modified_s: Option<i64>,
    /// It was UTF-16.
    pub utf16: bool,
    pub(super) reader: Box<dyn BufRead>,
    pub(super) taken: Arc<AtomicU64>,
}

impl Input {
    /// A file, or standard input for `-`.
    ///
    /// # Errors
    /// The file cannot be opened, or is of a kind that is not read.
    pub fn open(name: &str) -> Result<Self, ImportError> {
        if name == "-" {
            return Self::of("standard input", io::stdin(), None);
        }
        let failed = |source| ImportError::Io { name: name.to_owned(), source };
        let file = File::open(name).map_err(failed)?;
        let modified = file.metadata().and_then(|meta| meta.modified()).ok();
        let since_1970 = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        Self::of(name, file, since_1970.and_then(|since| i64::try_from(since.as_secs()).ok()))
    }

    /// What `source` holds.
    ///
    /// # Errors
    /// It cannot be read, or is of a kind that is not read.
    pub fn of(name: &str, source: impl Read + 'static, modified_s: Option<i64>) -> Result<Self, ImportError> {
        let taken = Arc::new(AtomicU64::new(0));
        let counted = Counted { source, taken: Arc::clone(&taken) };
        let failed = |source| ImportError::Io { name: name.to_owned(), source };
        let mut reader: Box<dyn BufRead> = Box::new(BufReader::with_capacity(BUFFER, counted));
        let mut first = [0_u8; 8];
        // A packed file in a packed file is nobody's wish.
        reader = peek(reader, &mut first).map_err(failed)?;
        if let Some(unpacked) = unpacking(first) {
            reader = Box::new(BufReader::with_capacity(BUFFER, unpacked(reader).map_err(failed)?));
            reader = peek(reader, &mut first).map_err(failed)?;
        }
        if let Some(what) = looks::of_bytes(&first) {
            return Err(ImportError::Kind { name: name.to_owned(), what });
        }
        let order = utf16_order(first);
        if let Some(order) = order {
            let utf8 = Utf16 { source: reader, order, high: None, ready: Vec::new(), given: 0 };
            reader = Box::new(BufReader::with_capacity(BUFFER, utf8));
        }
        Ok(Self { name: name.to_owned(), modified_s, utf16: order.is_some(), reader, taken })
    }
}

/// Counts what is taken from a source, packed as it is.
struct Counted<R> {
    source: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Looks at the first bytes, and puts them back.
fn peek(mut reader: Box<dyn BufRead>, first: &mut [u8; 8]) -> io::Result<Box<dyn BufRead>> {
    *first = [0; 8];
    let mut seen = 0;
    while seen < first.len() {
        match reader.read(&mut first[seen..]) {
            Ok(0) => break,
            Ok(read) => seen += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let again: Chain<Cursor<Vec<u8>>, Box<dyn BufRead>> = Cursor::new(first[..seen].to_vec()).chain(reader);
    Ok(Box::new(again))
}

type Unpack = fn(Box<dyn BufRead>) -> io::Result<Box<dyn Read>>;

fn unpacking(first: [u8; 8]) -> Option<Unpack> {
    match first {
        [0x1f, 0x8b, ..] => Some(|packed| Ok(Box::new(flate2::bufread::MultiGzDecoder::new(packed)))),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            Some(|packed| Ok(Box::new(lzma_rust2::XzReader::new_mem_limit(packed, true, XZ_MEMORY_KIB))))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(|packed| Ok(Box::new(zstd::Decoder::with_buffer(packed)?))),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

/// By its mark, else by the zeros beside the letters of a header.
fn utf16_order(first: [u8; 8]) -> Option<ByteOrder> {
    match first {
        [0xff, 0xfe, ..] | [1..=0x7f, 0, 1..=0x7f, 0, ..] => Some(ByteOrder::Little),
        [0xfe, 0xff, ..] | [0, 1..=0x7f, 0, 1..=0x7f, ..] => Some(ByteOrder::Big),
        _ => None,
    }
}

/// UTF-16 as UTF-8; half a pair becomes the replacement character, as does a last odd byte.
struct Utf16<R> {
    source: R,
    order: ByteOrder,
    high: Option<u16>,
    ready: Vec<u8>,
    given: usize,
}

impl<R: BufRead> Utf16<R> {
    fn unit(&mut self) -> io::Result<Option<u16>> {
        let mut pair = [0_u8; 2];
        let mut seen = 0;
        while seen < 2 {
            match self.source.read(&mut pair[seen..]) {
                Ok(0) if seen == 0 => return Ok(None),
                Ok(0) => return Ok(Some(0xfffd)),
                Ok(read) => seen += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(match self.order {
            ByteOrder::Little => u16::from_le_bytes(pair),
            ByteOrder::Big => u16::from_be_bytes(pair),
        }))
    }

    fn push(&mut self, units: impl IntoIterator<Item = u16>) {
        for decoded in char::decode_utf16(units) {
            let mut bytes = [0; 4];
            let text = decoded.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut bytes);
            self.ready.extend_from_slice(text.as_bytes());
        }
    }
}

impl<R: BufRead> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() {
            self.ready.clear();
            self.given = 0;
            while self.ready.len() < BUFFER / 4 {
                let unit = self.unit()?;
                match (self.high.take(), unit) {
                    (None, None) => break,
                    (None, Some(high @ 0xd800..=0xdbff)) => self.high = Some(high),
                    (None, Some(unit)) => self.push([unit]),
                    (Some(high), Some(low @ 0xdc00..=0xdfff)) => self.push([high, low]),
                    (Some(high), other) => {
                        self.push([high]);
                        match other {
                            Some(next @ 0xd800..=0xdbff) => self.high = Some(next),
                            other => self.push(other),
                        }
                    }
                }
            }
        }
        let read = buffer.len().min(self.ready.len() - self.given);
        buffer[..read].copy_from_slice(&self.ready[self.given..self.given + read]);
        self.given += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read, Write};

    use super::Input;

    const TEXT: &str = "JobID|Account\n1|Zoë 😀\n";

    fn read(bytes: Vec<u8>) -> (String, bool) {
        let mut input = Input::of("in", Cursor::new(bytes), None).expect("readable");
        let mut text = String::new();
        input.reader.read_to_string(&mut text).expect("text");
        (text, input.utf16)
    }

    #[test]
    fn packed_files_are_unpacked_by_their_first_bytes_even_in_several_parts() {
        let gz = |text: &str| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(text.as_bytes()).expect("written");
            packed.finish().expect("finished")
        };
        let zst = |text: &str| zstd::encode_all(text.as_bytes(), 1).expect("packed");
        assert_eq!(read([gz(TEXT), gz(TEXT)].concat()).0, TEXT.repeat(2));
        assert_eq!(read([zst(TEXT), zst(TEXT)].concat()).0, TEXT.repeat(2));
    }

    #[test]
    fn utf_16_is_read_in_both_orders_with_and_without_a_mark() {
        let units = || TEXT.encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        for bytes in [&[0xff, 0xfe][..], &[]].map(|mark| [mark, &little].concat()) {
            let (text, utf16) = read(bytes);
            assert_eq!((text.trim_start_matches('\u{feff}'), utf16), (TEXT, true));
        }
        let (text, _) = read([&[0xfe, 0xff][..], &big].concat());
        assert_eq!(text.trim_start_matches('\u{feff}'), TEXT);
        let (halves, _) = read(vec![0xff, 0xfe, b'a', 0, 0, 0xd8, b'b', 0, 0, 0xd8, 7]);
        assert_eq!(halves, "\u{feff}a\u{fffd}b\u{fffd}\u{fffd}");
        assert_eq!(read(TEXT.as_bytes().to_vec()), (TEXT.to_owned(), false));
        assert_eq!(read(Vec::new()).0, "");
    }

    #[test]
    fn other_kinds_are_named() {
        let kind = |bytes: &[u8]| match Input::of("in", Cursor::new(bytes.to_vec()), None) {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        };
        assert!(kind(b"PK\x03\x04rest").contains("in: a zip archive"));
        assert!(kind(b"BZh91AY").contains("bzcat"));
    }
}
