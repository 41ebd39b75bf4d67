//! STOMP 1.2: frames, a decoder for streams, heart-beats, and a client over TCP or TLS.
//!
//! Input is untrusted: every line, header and body has a bound, and a protocol violation ends the connection with an
//! error that explains it.

mod client;
mod decode;
mod frame;
mod heartbeat;

pub use client::{Client, ClientError, ClientOptions, ToSend};
pub use decode::{Decoder, DecoderLimits, FrameError, Item};
pub use frame::{Command, Frame};
pub use heartbeat::{HeartBeat, HeartBeatError};
