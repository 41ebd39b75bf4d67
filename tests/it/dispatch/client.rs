//! An agent's end of the built-in broker: STOMP in a WebSocket, as the site agent's library speaks it.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use sluice::dispatch::stomp::{Command, Decoder, DecoderLimits, Frame, Item};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// What ends a test that waits in vain; nothing is measured by it.
const IN_VAIN: Duration = Duration::from_mins(1);

/// A connection.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    decoder: Decoder,
    items: VecDeque<Item>,
}

impl Client {
    /// Opens the WebSocket; nothing is said yet.
    pub async fn open(address: std::net::SocketAddr) -> Self {
        Self::open_at(&format!("ws://{address}/rmqws-stomp")).await
    }

    /// The same somewhere else.
    pub async fn open_at(url: &str) -> Self {
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "v10.stomp, v11.stomp, v12.stomp".parse().unwrap());
        let (socket, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "v12.stomp");
        Self { socket, decoder: Decoder::new(DecoderLimits::default()), items: VecDeque::new() }
    }

    /// The same where it may be that nobody answers.
    pub async fn try_open_at(url: &str) -> Option<Self> {
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "v12.stomp".parse().unwrap());
        let (socket, _) = connect_async(request).await.ok()?;
        Some(Self { socket, decoder: Decoder::new(DecoderLimits::default()), items: VecDeque::new() })
    }

    /// Opens it and logs in.
    pub async fn connect(address: std::net::SocketAddr, vhost: &str, login: &str, passcode: &str) -> Self {
        Self::connect_to(&format!("ws://{address}/rmqws-stomp"), vhost, login, passcode).await
    }

    /// The same somewhere else.
    pub async fn connect_to(url: &str, vhost: &str, login: &str, passcode: &str) -> Self {
        let mut client = Self::open_at(url).await;
        client.send(&Self::hello(vhost, login, passcode)).await;
        let answer = client.frame().await.expect("an answer");
        assert_eq!(answer.command, Command::Connected, "{answer:?} {}", String::from_utf8_lossy(&answer.body));
        assert_eq!((answer.header("version"), answer.header("heart-beat")), (Some("1.2"), Some("10000,10000")));
        client
    }

    /// The frame that logs in, as the agent's library writes it.
    pub fn hello(vhost: &str, login: &str, passcode: &str) -> Frame {
        Frame::new(Command::Connect)
            .with("accept-version", "1.2")
            .with("heart-beat", "10000,10000")
            .with("host", vhost)
            .with("login", login)
            .with("passcode", passcode)
    }

    pub async fn send(&mut self, frame: &Frame) {
        self.send_raw(&frame.encode()).await;
    }

    /// Sends bytes as they are, in one message.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        // The other side may have closed already; what it said before that is still read.
        let _ = self.socket.send(Message::Binary(bytes.to_vec().into())).await;
    }

    pub async fn subscribe(&mut self, queue: &str, ack: &str) {
        self.subscribe_as(queue, ack, &[]).await;
    }

    /// The same with further headers.
    pub async fn subscribe_as(&mut self, queue: &str, ack: &str, headers: &[(&str, &str)]) {
        let frame = Frame::new(Command::Subscribe)
            .with("id", queue)
            .with("destination", format!("/amq/queue/{queue}"))
            .with("ack", ack)
            .with("receipt", "subscribed");
        let frame = headers.iter().fold(frame, |frame, (name, value)| frame.with(name, *value));
        self.send(&frame).await;
        // A message may come before the receipt does.
        let mut early = VecDeque::new();
        loop {
            let frame = self.frame().await.expect("a receipt");
            if frame.command == Command::Receipt {
                break;
            }
            assert_eq!(frame.command, Command::Message, "{frame:?} {}", String::from_utf8_lossy(&frame.body));
            early.push_back(Item::Frame(frame));
        }
        early.append(&mut self.items);
        self.items = early;
    }

    /// The next item; none if the other side closed.
    pub async fn item(&mut self) -> Option<Item> {
        let until = tokio::time::Instant::now() + IN_VAIN;
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(item);
            }
            let message = tokio::time::timeout_at(until, self.socket.next()).await.expect("nothing came")?;
            let bytes = match message.ok()? {
                Message::Text(text) => text.as_bytes().to_vec(),
                Message::Binary(bytes) => bytes.to_vec(),
                Message::Close(_) => return None,
                _ => continue,
            };
            self.items.extend(self.decoder.feed(&bytes).unwrap());
        }
    }

    /// The next frame, heart-beats aside; none if the other side closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Item::Frame(frame) = self.item().await? {
                return Some(frame);
            }
        }
    }

    /// The next message's frame and body.
    pub async fn message(&mut self) -> (Frame, Value) {
        let frame = self.frame().await.expect("a message");
        assert_eq!(frame.command, Command::Message, "{frame:?} {}", String::from_utf8_lossy(&frame.body));
        let body = serde_json::from_slice(&frame.body).unwrap();
        (frame, body)
    }

    /// The error with which the other side ends, after which nothing comes.
    pub async fn refusal(mut self) -> String {
        loop {
            let frame = self.frame().await.expect("an error frame");
            if frame.command == Command::Error {
                assert_eq!(self.frame().await, None, "closed after an error");
                return String::from_utf8(frame.body).unwrap();
            }
        }
    }

    /// Closes the WebSocket without a word of STOMP.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
    }

    /// Says goodbye.
    pub async fn disconnect(&mut self) {
        self.send(&Frame::new(Command::Disconnect).with("receipt", "bye")).await;
        while let Some(frame) = self.frame().await {
            if frame.command == Command::Receipt {
                assert_eq!(frame.header("receipt-id"), Some("bye"));
                return;
            }
        }
        panic!("no receipt");
    }
}
