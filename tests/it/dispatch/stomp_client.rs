//! The STOMP client against a server that fails as it is told to, which a real one does not do on demand.

use std::time::Duration;

use sluice::dispatch::stomp::{
    Client, ClientError, ClientOptions, Command, Decoder, DecoderLimits, Frame, Item, ToSend,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The server's end of one connection.
struct Server {
    stream: TcpStream,
    decoder: Decoder,
    items: Vec<Item>,
}

impl Server {
    async fn item(&mut self) -> Option<Item> {
        let mut buffer = [0; 4096];
        while self.items.is_empty() {
            let read = self.stream.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
            self.items = self.decoder.feed(&buffer[..read]).unwrap();
        }
        Some(self.items.remove(0))
    }

    async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Item::Frame(frame) = self.item().await? {
                return Some(frame);
            }
        }
    }

    async fn say(&mut self, frame: &Frame) {
        // In pieces, as a network may have it.
        for piece in frame.encode().chunks(5) {
            self.stream.write_all(piece).await.unwrap();
            self.stream.flush().await.unwrap();
        }
    }

    async fn receipt(&mut self, of: &Frame) {
        let id = of.header("receipt").unwrap().to_owned();
        self.say(&Frame::new(Command::Receipt).with("receipt-id", id)).await;
    }
}

fn options(heart_beat_ms: u32) -> ClientOptions {
    ClientOptions {
        host: "v:host".into(),
        login: "sluice".into(),
        passcode: "pass:word\\".to_owned().into(),
        heart_beat_ms,
        answer_within: Duration::from_millis(500),
    }
}

/// A client's end and a server's end, shaken hands.
async fn pair(heart_beat_ms: u32, theirs: &str) -> (Result<Client, ClientError>, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let theirs = theirs.to_owned();
    let accepted = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut server = Server { stream, decoder: Decoder::new(DecoderLimits::default()), items: Vec::new() };
        let hello = server.frame().await.unwrap();
        assert_eq!((hello.header("host"), hello.header("passcode")), (Some("v:host"), Some("pass:word\\")));
        let answer = if theirs == "no" {
            Frame::new(Command::Error).with("message", "Bad CONNECT").with_body("Access refused for user 'sluice'\n")
        } else {
            Frame::new(Command::Connected).with("version", "1.2").with("heart-beat", theirs)
        };
        server.say(&answer).await;
        server
    });
    let stream = TcpStream::connect(address).await.unwrap();
    let client = Client::login(stream, &options(heart_beat_ms)).await;
    (client, accepted.await.unwrap())
}

fn messages(count: usize) -> Vec<ToSend<'static>> {
    (0..count).map(|_| ToSend { destination: "/amq/queue/q".into(), id: "m", body: "{}" }).collect()
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words() {
    let (client, _) = pair(0, "no").await;
    assert_eq!(client.unwrap_err(), ClientError::Server("Bad CONNECT: Access refused for user 'sluice'".into()));
}

#[tokio::test]
async fn each_message_has_its_own_receipt_in_whatever_order() {
    let (client, mut server) = pair(0, "0,0").await;
    let client = client.unwrap();
    let three = messages(3);
    let (outcomes, ()) = tokio::join!(client.send(&three), async {
        let mut frames = Vec::new();
        for _ in 0..3 {
            let frame = server.frame().await.unwrap();
            assert_eq!(
                (frame.command, frame.header("destination"), frame.header("persistent"), &frame.body[..]),
                (Command::Send, Some("/amq/queue/q"), Some("true"), &b"{}"[..])
            );
            frames.push(frame);
        }
        server.receipt(&frames[2]).await;
        server.receipt(&frames[0]).await;
    });
    assert_eq!(outcomes, [Ok(()), Err(ClientError::NoReceipt), Ok(())]);
    assert!(!client.is_closed(), "a receipt that does not come is no end");
    let one = messages(1);
    let (outcomes, ()) = tokio::join!(client.send(&one), async {
        let frame = server.frame().await.unwrap();
        server.receipt(&frame).await;
    });
    assert_eq!(outcomes, [Ok(())]);
    drop(client);
    assert_eq!(server.frame().await.unwrap().command, Command::Disconnect, "it says goodbye");
    assert_eq!(server.frame().await, None);
}

#[tokio::test]
async fn an_error_a_breach_or_a_hang_up_fails_all_that_waits() {
    for (manner, says) in [("error", "the server says: nope"), ("breach", "broke the protocol"), ("hang up", "closed")]
    {
        let (client, mut server) = pair(0, "0,0").await;
        let client = client.unwrap();
        let two = messages(2);
        let (outcomes, ()) = tokio::join!(client.send(&two), async {
            server.frame().await.unwrap();
            match manner {
                "error" => server.say(&Frame::new(Command::Error).with("message", "nope")).await,
                "breach" => server.stream.write_all(b"HELLO\n\n\0").await.unwrap(),
                _ => server.stream.shutdown().await.unwrap(),
            }
        });
        for outcome in outcomes {
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains(says), "{manner}: {error}");
        }
        assert!(client.is_closed(), "{manner}");
        assert!(client.send(&messages(1)).await[0].is_err(), "{manner}");
    }
}

#[tokio::test]
async fn heart_beats_are_sent_and_a_silent_server_is_left() {
    let (client, mut server) = pair(100, "100,100").await;
    let client = client.unwrap();
    for _ in 0..3 {
        assert_eq!(server.item().await, Some(Item::HeartBeat));
    }
    // It promised ten a second and sends none: the client goes.
    while let Some(item) = server.item().await {
        assert!(
            matches!(&item, Item::HeartBeat) || matches!(&item, Item::Frame(f) if f.command == Command::Disconnect)
        );
    }
    assert!(client.is_closed());
}
