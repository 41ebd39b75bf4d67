//! A STOMP frame and its bytes on the wire.

use std::fmt;

/// The command of a frame, from client or server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// A client opens a connection; also spelled `STOMP`.
    Connect,
    /// The server accepts it.
    Connected,
    /// A client sends a message.
    Send,
    /// A client wants the messages of a queue.
    Subscribe,
    /// It wants them no more.
    Unsubscribe,
    /// It has dealt with a message.
    Ack,
    /// It has not.
    Nack,
    /// Transactions.
    Begin,
    /// Transactions.
    Commit,
    /// Transactions.
    Abort,
    /// A client goes.
    Disconnect,
    /// The server delivers a message.
    Message,
    /// The server has dealt with a frame.
    Receipt,
    /// The server gives up on the connection.
    Error,
}

const WORDS: [(Command, &str); 14] = [
    (Command::Connect, "CONNECT"),
    (Command::Connected, "CONNECTED"),
    (Command::Send, "SEND"),
    (Command::Subscribe, "SUBSCRIBE"),
    (Command::Unsubscribe, "UNSUBSCRIBE"),
    (Command::Ack, "ACK"),
    (Command::Nack, "NACK"),
    (Command::Begin, "BEGIN"),
    (Command::Commit, "COMMIT"),
    (Command::Abort, "ABORT"),
    (Command::Disconnect, "DISCONNECT"),
    (Command::Message, "MESSAGE"),
    (Command::Receipt, "RECEIPT"),
    (Command::Error, "ERROR"),
];

impl Command {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        WORDS.iter().find(|(command, _)| *command == self).map_or("", |(_, word)| word)
    }

    /// Reads the word; `STOMP` is `CONNECT`.
    pub fn parse(word: &[u8]) -> Option<Self> {
        if word == b"STOMP" {
            return Some(Self::Connect);
        }
        WORDS.iter().find(|(_, known)| known.as_bytes() == word).map(|(command, _)| *command)
    }

    /// Whether a frame of this kind may have a body.
    pub fn has_body(self) -> bool {
        matches!(self, Self::Send | Self::Message | Self::Error)
    }

    /// Whether header values are written with escapes; the two that open a connection are not, for the sake of STOMP 1.0.
    pub(super) fn escapes(self) -> bool {
        !matches!(self, Self::Connect | Self::Connected)
    }
}

/// A frame. Of a header that is given twice, the first counts.
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub command: Command,
    /// Headers in order, without escapes.
    pub headers: Vec<(String, String)>,
    /// The body; empty for most frames.
    pub body: Vec<u8>,
}

impl fmt::Debug for Frame {
    /// Without what could be secret: passcodes and bodies.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<(&str, &str)> =
            self.headers.iter().filter(|(name, _)| name != "passcode").map(|(n, v)| (n.as_str(), v.as_str())).collect();
        f.debug_struct("Frame")
            .field("command", &self.command)
            .field("headers", &shown)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

impl Frame {
    /// A frame without headers or body.
    pub fn new(command: Command) -> Self {
        Self { command, headers: Vec::new(), body: Vec::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The bytes on the wire, with `content-length` where there is a body.
    ///
    /// Headers of the two frames that open a connection cannot hold line ends; those are left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.headers.len() * 48 + self.body.len());
        bytes.extend_from_slice(self.command.as_str().as_bytes());
        bytes.push(b'\n');
        for (name, value) in self.headers.iter().filter(|(name, _)| name != "content-length") {
            self.write_text(&mut bytes, name);
            bytes.push(b':');
            self.write_text(&mut bytes, value);
            bytes.push(b'\n');
        }
        if self.command.has_body() && !self.body.is_empty() {
            bytes.extend_from_slice(format!("content-length:{}\n", self.body.len()).as_bytes());
        }
        bytes.push(b'\n');
        if self.command.has_body() {
            bytes.extend_from_slice(&self.body);
        }
        bytes.push(0);
        bytes
    }

    fn write_text(&self, bytes: &mut Vec<u8>, text: &str) {
        for byte in text.bytes() {
            match byte {
                // No header can hold it in any form.
                0 => {}
                b'\n' | b'\r' if !self.command.escapes() => {}
                b'\n' if self.command.escapes() => bytes.extend_from_slice(b"\\n"),
                b'\r' if self.command.escapes() => bytes.extend_from_slice(b"\\r"),
                b':' if self.command.escapes() => bytes.extend_from_slice(b"\\c"),
                b'\\' if self.command.escapes() => bytes.extend_from_slice(b"\\\\"),
                other => bytes.push(other),
            }
        }
    }
}
