//! Decodes frames from a stream that may be split anywhere.
//!
//! The decoder buffers at most one unfinished line or body within its bounds, whatever the input; after the first error
//! it stops.

use super::frame::{Command, Frame};

/// The longest command line, bytes.
const COMMAND_BYTES_MAX: usize = 16;

/// Bounds of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderLimits {
    /// Headers of a frame.
    pub headers_max: usize,
    /// Bytes of one header line.
    pub header_bytes_max: usize,
    /// Bytes of a body.
    pub body_bytes_max: usize,
}

impl Default for DecoderLimits {
    fn default() -> Self {
        Self { headers_max: 32, header_bytes_max: 4 << 10, body_bytes_max: 256 << 10 }
    }
}

/// What breaks the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first line is no command.
    #[error("unknown command {0:?}")]
    UnknownCommand(String),
    /// The first line does not end.
    #[error("a command has at most {COMMAND_BYTES_MAX} bytes")]
    CommandTooLong,
    /// More headers than allowed.
    #[error("a frame has at most {0} headers")]
    TooManyHeaders(usize),
    /// A header that does not end.
    #[error("a header has at most {0} bytes")]
    HeaderTooLong(usize),
    /// A header without a colon, or with nothing before it.
    #[error("a header is name:value")]
    HeaderWithoutName,
    /// A zero byte or a lone carriage return in a header or command.
    #[error("a zero byte or a lone carriage return stands in a header or command")]
    ControlByte,
    /// A backslash followed by something that the protocol does not know.
    #[error("undefined escape in a header: only \\r, \\n, \\c and \\\\ are known")]
    Escape,
    /// Bytes that are no UTF-8.
    #[error("a header is not UTF-8")]
    Utf8,
    /// A length that is no number.
    #[error("content-length is no number of bytes")]
    ContentLength,
    /// A longer body than allowed.
    #[error("a body has at most {0} bytes")]
    BodyTooLong(usize),
    /// A body on a frame that has none.
    #[error("{0} has no body")]
    UnexpectedBody(&'static str),
    /// The byte after a body of a given length is not zero.
    #[error("the body is longer than content-length says")]
    MissingEnd,
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A frame.
    Frame(Frame),
    /// One or more line ends between frames.
    HeartBeat,
}

#[derive(Debug)]
enum State {
    /// Between frames.
    Between,
    /// In the first line.
    Command,
    /// In the headers.
    Headers,
    /// In a body of known length: so many bytes are missing.
    Counted(usize),
    /// In a body that ends with a zero byte.
    Open,
    /// After a body of known length.
    End,
    /// After an error.
    Broken(FrameError),
}

/// Reads frames out of a stream.
#[derive(Debug)]
pub struct Decoder {
    limits: DecoderLimits,
    state: State,
    line: Vec<u8>,
    frame: Option<Frame>,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    pub fn new(limits: DecoderLimits) -> Self {
        Self { limits, state: State::Between, line: Vec::new(), frame: None }
    }

    /// Takes the next bytes of the stream and says what they complete, in order.
    ///
    /// # Errors
    /// The protocol is broken; so is the decoder from then on. Frames completed before that in the same bytes are lost,
    /// as the connection is.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Item>, FrameError> {
        let mut items = Vec::new();
        let mut left = bytes;
        while !left.is_empty() {
            match self.step(left, &mut items) {
                Ok(taken) => left = &left[taken..],
                Err(error) => {
                    (self.line, self.frame) = (Vec::new(), None);
                    self.state = State::Broken(error.clone());
                    return Err(error);
                }
            }
        }
        Ok(items)
    }

    /// Bytes that it keeps of an unfinished frame.
    pub fn kept_bytes(&self) -> usize {
        let frame = self.frame.as_ref().map_or(0, |frame| {
            frame.body.len() + frame.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        });
        self.line.len() + frame
    }

    /// Whether it stands between two frames.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Between) && self.line.is_empty()
    }

    /// Takes some bytes and says how many, at least one.
    fn step(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<usize, FrameError> {
        match &self.state {
            State::Broken(error) => Err(error.clone()),
            State::Between => self.between(bytes, items),
            State::Command => self.command(bytes),
            State::Headers => self.header(bytes),
            State::Counted(missing) => {
                let taken = (*missing).min(bytes.len());
                let missing = missing - taken;
                self.body(&bytes[..taken])?;
                self.state = if missing == 0 { State::End } else { State::Counted(missing) };
                Ok(taken)
            }
            State::Open => self.open_body(bytes, items),
            State::End if bytes[0] == 0 => {
                self.finish(items);
                Ok(1)
            }
            State::End => Err(FrameError::MissingEnd),
        }
    }

    fn between(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<usize, FrameError> {
        let first = bytes[0];
        // A carriage return is kept until the line feed after it.
        if self.line == b"\r" && first != b'\n' {
            return Err(FrameError::ControlByte);
        }
        match first {
            b'\n' => {
                self.line.clear();
                if items.last() != Some(&Item::HeartBeat) {
                    items.push(Item::HeartBeat);
                }
                Ok(1)
            }
            b'\r' => {
                self.line.push(first);
                Ok(1)
            }
            _ => {
                self.state = State::Command;
                self.command(bytes)
            }
        }
    }

    /// Adds to the unfinished line; true if it is complete. Its line end is removed.
    fn take_line(&mut self, bytes: &[u8], max: usize, too_long: FrameError) -> Result<(usize, bool), FrameError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        // One more for the carriage return.
        let room = max + 1 - self.line.len().min(max + 1);
        // A zero byte is refused where it stands: what sends it may never send a line end.
        if part.iter().take(room).any(|byte| *byte == 0) {
            return Err(FrameError::ControlByte);
        }
        if part.len() > room {
            return Err(too_long);
        }
        self.line.extend_from_slice(part);
        if end.is_none() {
            return Ok((part.len(), false));
        }
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if self.line.len() > max {
            return Err(too_long);
        }
        if self.line.contains(&b'\r') {
            return Err(FrameError::ControlByte);
        }
        Ok((part.len() + 1, true))
    }

    fn command(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let (taken, whole) = self.take_line(bytes, COMMAND_BYTES_MAX, FrameError::CommandTooLong)?;
        if whole {
            let unknown = || FrameError::UnknownCommand(String::from_utf8_lossy(&self.line).into_owned());
            let command = Command::parse(&self.line).ok_or_else(unknown)?;
            self.line.clear();
            self.frame = Some(Frame::new(command));
            self.state = State::Headers;
        }
        Ok(taken)
    }

    fn header(&mut self, bytes: &[u8]) -> Result<usize, FrameError> {
        let max = self.limits.header_bytes_max;
        let (taken, whole) = self.take_line(bytes, max, FrameError::HeaderTooLong(max))?;
        let Some(frame) = self.frame.as_mut().filter(|_| whole) else { return Ok(taken) };
        if self.line.is_empty() {
            self.state = self.body_state()?;
            return Ok(taken);
        }
        if frame.headers.len() >= self.limits.headers_max {
            return Err(FrameError::TooManyHeaders(self.limits.headers_max));
        }
        let colon = self.line.iter().position(|byte| *byte == b':').filter(|at| *at > 0);
        let colon = colon.ok_or(FrameError::HeaderWithoutName)?;
        let escapes = frame.command.escapes();
        let name = text(&self.line[..colon], escapes)?;
        let value = text(&self.line[colon + 1..], escapes)?;
        frame.headers.push((name, value));
        self.line.clear();
        Ok(taken)
    }

    fn body_state(&self) -> Result<State, FrameError> {
        let Some(length) = self.frame.as_ref().and_then(|frame| frame.header("content-length")) else {
            return Ok(State::Open);
        };
        let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let length: usize = length.parse().ok().filter(|_| digits).ok_or(FrameError::ContentLength)?;
        if length > self.limits.body_bytes_max {
            return Err(FrameError::BodyTooLong(self.limits.body_bytes_max));
        }
        Ok(if length == 0 { State::End } else { State::Counted(length) })
    }

    fn open_body(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<usize, FrameError> {
        let Some(end) = bytes.iter().position(|byte| *byte == 0) else {
            self.body(bytes)?;
            return Ok(bytes.len());
        };
        self.body(&bytes[..end])?;
        self.finish(items);
        Ok(end + 1)
    }

    fn body(&mut self, bytes: &[u8]) -> Result<(), FrameError> {
        let Some(frame) = self.frame.as_mut().filter(|_| !bytes.is_empty()) else { return Ok(()) };
        if !frame.command.has_body() {
            return Err(FrameError::UnexpectedBody(frame.command.as_str()));
        }
        if frame.body.len() + bytes.len() > self.limits.body_bytes_max {
            return Err(FrameError::BodyTooLong(self.limits.body_bytes_max));
        }
        frame.body.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, items: &mut Vec<Item>) {
        items.extend(self.frame.take().map(Item::Frame));
        self.state = State::Between;
    }
}

/// A header's text without escapes. A colon may stand in a value as it is: common clients write it so.
fn text(bytes: &[u8], escapes: bool) -> Result<String, FrameError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FrameError::Utf8)?;
    if !escapes || !text.contains('\\') {
        return Ok(text.to_owned());
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        plain.push(match letters.next() {
            Some('r') => '\r',
            Some('n') => '\n',
            Some('c') => ':',
            Some('\\') => '\\',
            _ => return Err(FrameError::Escape),
        });
    }
    Ok(plain)
}
