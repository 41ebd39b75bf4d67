//! A STOMP client that keeps one connection and sends on it, with receipts, heart-beats and time-outs.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Command, Decoder, DecoderLimits, Frame, HeartBeat, Item};

/// Frames that wait to be written at most.
const QUEUE_MAX: usize = 256;

/// Bytes read at a time.
const READ_BYTES: usize = 16 << 10;

/// How many times the agreed interval the server may be silent.
const SILENCE: u32 = 3;

/// How a connection is opened, and how long things may take.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The virtual host.
    pub host: String,
    /// Who logs in.
    pub login: String,
    /// With what.
    pub passcode: SecretString,
    /// Heart-beats that are offered and wanted, milliseconds.
    pub heart_beat_ms: u32,
    /// How long the answer to a frame may take.
    pub answer_within: Duration,
}

/// Why a frame, or the connection, failed. After anything but `NoReceipt` the connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The connection broke or was closed.
    #[error("the connection is closed: {0}")]
    Closed(String),
    /// The server said so.
    #[error("the server says: {0}")]
    Server(String),
    /// No answer came in time.
    #[error("no answer came in time")]
    NoReceipt,
}

struct Request {
    bytes: Vec<u8>,
    receipt: String,
    answer: oneshot::Sender<Result<(), ClientError>>,
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct ToSend<'a> {
    /// Where to.
    pub destination: String,
    /// Its id.
    pub id: &'a str,
    /// JSON.
    pub body: &'a str,
}

/// An open connection. Dropped, it says goodbye and closes.
#[derive(Debug)]
pub struct Client {
    requests: mpsc::Sender<Request>,
    answer_within: Duration,
    numbers: std::sync::atomic::AtomicU64,
}

impl Client {
    /// Logs in over a stream that has just been opened.
    pub async fn login<S>(stream: S, options: &ClientOptions) -> Result<Self, ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut link = Link::new(stream);
        let ours = HeartBeat { sends_ms: options.heart_beat_ms, wants_ms: options.heart_beat_ms };
        let hello = Frame::new(Command::Connect)
            .with("accept-version", "1.2")
            .with("host", options.host.as_str())
            .with("login", options.login.as_str())
            .with("passcode", options.passcode.expose_secret())
            .with("heart-beat", ours.to_string());
        let shaken = tokio::time::timeout(options.answer_within, async {
            link.write(&hello.encode()).await?;
            link.frame().await
        });
        let answer = shaken.await.map_err(|_| ClientError::NoReceipt)??;
        if answer.command != Command::Connected {
            return Err(said(&answer));
        }
        let theirs: HeartBeat = answer.header("heart-beat").and_then(|text| text.parse().ok()).unwrap_or_default();
        let beats = (ours.sending(theirs), ours.receiving(theirs));
        let (requests, waiting) = mpsc::channel(QUEUE_MAX);
        let write_within = options.answer_within;
        tokio::spawn(async move { link.run(waiting, beats, write_within).await });
        Ok(Self { requests, answer_within: options.answer_within, numbers: std::sync::atomic::AtomicU64::new(1) })
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.requests.is_closed()
    }

    /// Sends messages in order, each with a receipt; one outcome for each.
    pub async fn send(&self, messages: &[ToSend<'_>]) -> Vec<Result<(), ClientError>> {
        let mut answers = Vec::with_capacity(messages.len());
        for message in messages {
            answers.push(self.request(message).await);
        }
        let until = Instant::now() + self.answer_within;
        let answered = answers.into_iter().map(|answer| async move {
            match tokio::time::timeout_at(until, answer?).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(ClientError::Closed("it ended before the answer".to_owned())),
                Err(_) => Err(ClientError::NoReceipt),
            }
        });
        join_all(answered).await
    }

    async fn request(&self, message: &ToSend<'_>) -> Result<oneshot::Receiver<Result<(), ClientError>>, ClientError> {
        let number = self.numbers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let receipt = format!("r{number}");
        let frame = Frame::new(Command::Send)
            .with("destination", message.destination.as_str())
            .with("persistent", "true")
            .with("durable", "true")
            .with("auto-delete", "false")
            .with("content-type", "application/json")
            .with("x-message-id", message.id)
            .with("receipt", receipt.as_str())
            .with_body(message.body.as_bytes());
        let (answer, answered) = oneshot::channel();
        let request = Request { bytes: frame.encode(), receipt, answer };
        match tokio::time::timeout(self.answer_within, self.requests.send(request)).await {
            Ok(Ok(())) => Ok(answered),
            Ok(Err(_)) => Err(ClientError::Closed("it has ended".to_owned())),
            Err(_) => Err(ClientError::NoReceipt),
        }
    }
}

fn said(frame: &Frame) -> ClientError {
    let body = String::from_utf8_lossy(&frame.body);
    let message = frame.header("message").unwrap_or_default();
    let text = if body.trim().is_empty() { message.to_owned() } else { format!("{message}: {}", body.trim()) };
    ClientError::Server(text.chars().take(500).collect())
}

/// The connection itself.
struct Link<S> {
    stream: S,
    decoder: Decoder,
    items: std::collections::VecDeque<Item>,
    buffer: Vec<u8>,
}

fn broken(error: &std::io::Error) -> ClientError {
    ClientError::Closed(error.to_string())
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    fn new(stream: S) -> Self {
        let decoder = Decoder::new(DecoderLimits::default());
        Self { stream, decoder, items: std::collections::VecDeque::new(), buffer: vec![0; READ_BYTES] }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.stream.write_all(bytes).await.map_err(|error| broken(&error))?;
        self.stream.flush().await.map_err(|error| broken(&error))
    }

    /// Reads once; what came is in `items`.
    async fn read(&mut self) -> Result<(), ClientError> {
        let read = self.stream.read(&mut self.buffer).await.map_err(|error| broken(&error))?;
        if read == 0 {
            return Err(ClientError::Closed("the server closed it".to_owned()));
        }
        let items = self.decoder.feed(&self.buffer[..read]);
        self.items
            .extend(items.map_err(|error| ClientError::Closed(format!("the server broke the protocol: {error}")))?);
        Ok(())
    }

    async fn frame(&mut self) -> Result<Frame, ClientError> {
        loop {
            while let Some(item) = self.items.pop_front() {
                if let Item::Frame(frame) = item {
                    return Ok(frame);
                }
            }
            self.read().await?;
        }
    }

    /// Writes what is asked for and hands out receipts until either side ends.
    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        (sends_every, hears_every): (Option<Duration>, Option<Duration>),
        write_within: Duration,
    ) {
        let mut pending: HashMap<String, oneshot::Sender<Result<(), ClientError>>> = HashMap::new();
        let (mut spoke, mut heard) = (Instant::now(), Instant::now());
        let far = Duration::from_hours(1);
        let end = loop {
            // Half the interval, so that a beat is never late by the time of one look.
            let beat = spoke + sends_every.map_or(far, |every| every / 2);
            let silence = heard + hears_every.map_or(far, |every| every * SILENCE);
            let step = tokio::select! {
                request = requests.recv() => match request {
                    None => break ClientError::Closed("it is not needed any more".to_owned()),
                    Some(request) => {
                        pending.retain(|_, answer| !answer.is_closed());
                        pending.insert(request.receipt, request.answer);
                        spoke = Instant::now();
                        within(write_within, self.write(&request.bytes)).await
                    }
                },
                read = self.read() => {
                    heard = Instant::now();
                    read.and_then(|()| self.receipts(&mut pending))
                }
                () = tokio::time::sleep_until(beat) => {
                    spoke = Instant::now();
                    if sends_every.is_some() { within(write_within, self.write(b"\n")).await } else { Ok(()) }
                }
                () = tokio::time::sleep_until(silence) => {
                    heard = Instant::now();
                    if hears_every.is_some() {
                        Err(ClientError::Closed("the server fell silent".to_owned()))
                    } else {
                        Ok(())
                    }
                }
            };
            if let Err(end) = step {
                break end;
            }
        };
        requests.close();
        for (_, answer) in pending {
            let _ = answer.send(Err(end.clone()));
        }
        while let Ok(request) = requests.try_recv() {
            let _ = request.answer.send(Err(end.clone()));
        }
        let goodbye = async {
            self.write(&Frame::new(Command::Disconnect).encode()).await?;
            self.stream.shutdown().await.map_err(|error| broken(&error))
        };
        let _ = within(Duration::from_secs(2), goodbye).await;
    }

    fn receipts(
        &mut self,
        pending: &mut HashMap<String, oneshot::Sender<Result<(), ClientError>>>,
    ) -> Result<(), ClientError> {
        while let Some(item) = self.items.pop_front() {
            let Item::Frame(frame) = item else { continue };
            match frame.command {
                Command::Receipt => {
                    if let Some(answer) = frame.header("receipt-id").and_then(|id| pending.remove(id)) {
                        let _ = answer.send(Ok(()));
                    }
                }
                Command::Error => return Err(said(&frame)),
                _ => {}
            }
        }
        Ok(())
    }
}

async fn within(time: Duration, write: impl Future<Output = Result<(), ClientError>>) -> Result<(), ClientError> {
    tokio::time::timeout(time, write).await.unwrap_or_else(|_| Err(ClientError::Closed("it takes nothing".to_owned())))
}
