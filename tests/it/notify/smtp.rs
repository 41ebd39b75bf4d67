//! A fixture, no mail server: it takes just what the client says and fails as it is told to, which a real one does not do
//! on demand.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::support::Letter;

/// How the fixture behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes every mail.
    Takes,
    /// Answers RCPT with this.
    RefusesRecipient(&'static str),
    /// Takes the connection and says nothing.
    Stalls,
    /// Hangs up in the middle of the mail.
    Drops,
    /// Takes the mail, and hangs up before it says so.
    TakesAndHangsUp,
    /// Takes the mail, and never says so.
    TakesAndStalls,
}

/// The fixture.
pub struct Fixture {
    pub address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    taken: watch::Receiver<Vec<Letter>>,
    connections: watch::Receiver<usize>,
}

impl Fixture {
    pub async fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manner = Arc::new(Mutex::new(manner));
        let (taken, seen) = watch::channel(Vec::new());
        let (opened, connections) = watch::channel(0);
        let shared = Arc::clone(&manner);
        tokio::spawn(async move {
            let taken = Arc::new(taken);
            while let Ok((stream, _)) = listener.accept().await {
                opened.send_modify(|count| *count += 1);
                let (manner, taken) = (*shared.lock().unwrap(), Arc::clone(&taken));
                tokio::spawn(async move {
                    // The client may hang up at any point.
                    let _ = talk(stream, manner, &taken).await;
                });
            }
        });
        Self { address, manner, taken: seen, connections }
    }

    pub fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub fn taken(&self) -> Vec<Letter> {
        self.taken.borrow().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until so many mails have been taken.
    pub async fn has_taken(&self, count: usize) {
        self.taken.clone().wait_for(|mails| mails.len() >= count).await.unwrap();
    }
}

async fn talk(stream: TcpStream, manner: Manner, taken: &watch::Sender<Vec<Letter>>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    if manner == Manner::Stalls {
        // Reads until the client gives up.
        while lines.next_line().await?.is_some() {}
        return Ok(());
    }
    say(&mut write, "220 fixture").await?;
    while let Some(line) = lines.next_line().await? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        match (verb.as_str(), manner) {
            ("RCPT", Manner::RefusesRecipient(answer)) => say(&mut write, answer).await?,
            ("EHLO" | "MAIL" | "RCPT" | "RSET" | "NOOP", _) => say(&mut write, "250 fixture").await?,
            ("DATA", Manner::Drops) => {
                say(&mut write, "354 go on").await?;
                lines.next_line().await?;
                return Ok(());
            }
            ("DATA", _) => {
                say(&mut write, "354 go on").await?;
                let mut mail = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    mail.push_str(&line);
                    mail.push_str("\r\n");
                }
                taken.send_modify(|mails| mails.push(Letter::read(&mail)));
                match manner {
                    Manner::TakesAndHangsUp => return Ok(()),
                    Manner::TakesAndStalls => while lines.next_line().await?.is_some() {},
                    _ => say(&mut write, "250 taken").await?,
                }
            }
            ("QUIT", _) => return say(&mut write, "221 bye").await,
            _ => say(&mut write, "502 what?").await?,
        }
    }
    Ok(())
}

async fn say(write: &mut OwnedWriteHalf, answer: &str) -> std::io::Result<()> {
    write.write_all(format!("{answer}\r\n").as_bytes()).await
}
