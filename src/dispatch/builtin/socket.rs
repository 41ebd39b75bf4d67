//! One WebSocket: bytes to frames and back, heart-beats both ways, and disconnection of slow or silent peers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Builtin;
use super::conversation::{Breach, Conversation};
use crate::dispatch::stomp::{Decoder, Frame, Item};

/// How often what is due is looked at.
const TICK: Duration = Duration::from_millis(500);

/// How many times the agreed interval the other side may be silent.
const SILENCE: u32 = 3;

/// Why a connection ends.
enum End {
    /// The other side is gone, or said goodbye.
    Gone,
    /// It broke a rule, which the error names.
    Breach(Breach),
    /// It did not take what was sent to it.
    Slow,
    /// The service goes down.
    Stopping,
}

/// When it was looked last at what has to be looked at again and again.
struct Looked {
    at_token: Instant,
    at_life: Instant,
}

/// What the loop keeps of one connection.
struct Link {
    socket: WebSocket,
    write_within: Duration,
    heard: Instant,
    /// When the other side was last sent something that is a sign of life to it.
    spoke: Instant,
}

impl Link {
    async fn write(&mut self, message: Message) -> Result<(), End> {
        // A ping is answered by the other side's library, and is no heart-beat to who waits for one.
        let heart_beat = !matches!(message, Message::Ping(_));
        match tokio::time::timeout(self.write_within, self.socket.send(message)).await {
            Ok(Ok(())) => {
                if heart_beat {
                    self.spoke = Instant::now();
                }
                Ok(())
            }
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Slow),
        }
    }

    async fn frame(&mut self, frame: &Frame) -> Result<(), End> {
        let bytes = frame.encode();
        // What a broker sends is text; a frame that is none goes as it is.
        let message = match String::from_utf8(bytes) {
            Ok(text) => Message::Text(text.into()),
            Err(bytes) => Message::Binary(bytes.into_bytes().into()),
        };
        self.write(message).await
    }
}

/// Serves one agent until it leaves, breaks a rule, falls silent or the service ends. `greeted` is notified after a
/// successful login: until then the connection is anonymous.
pub async fn serve(broker: Arc<Builtin>, socket: WebSocket, greeted: impl Fn() + Send, stopping: CancellationToken) {
    let now = Instant::now();
    let write_within = broker.limits.write_within;
    let mut link = Link { socket, write_within, heard: now, spoke: now };
    let mut conversation = Conversation::new(Arc::clone(&broker));
    let end = talk(&broker, &mut link, &mut conversation, &greeted, &stopping).await;
    // What it did not deal with is free for the next connection before this one is closed in good order.
    drop(conversation);
    let code = match end {
        End::Gone => close_code::NORMAL,
        End::Stopping => close_code::AWAY,
        End::Slow => {
            tracing::info!("an agent's connection took nothing for too long and was closed");
            return;
        }
        End::Breach(breach) => {
            tracing::info!(message = &*breach.message, breach.detail, "an agent's connection was closed");
            let _ = link.frame(&breach.frame(None)).await;
            if breach.lingers {
                linger(&mut link, broker.limits.missing_queue_lingers, &stopping).await;
            }
            close_code::POLICY
        }
    };
    close(link, code).await;
}

/// Keeps a connection open after its final error, ignoring its input, until the peer leaves or some time has passed.
/// An agent would otherwise reconnect without a pause, forever; and while it registers its queue, it need not.
async fn linger(link: &mut Link, time: Duration, stopping: &CancellationToken) {
    let gone = async { while let Some(Ok(_)) = link.socket.recv().await {} };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = tokio::time::sleep(time) => {}
        () = gone => {}
    }
}

async fn close(mut link: Link, code: u16) {
    let frame = CloseFrame { code, reason: "".into() };
    let _ = tokio::time::timeout(Duration::from_secs(2), link.socket.send(Message::Close(Some(frame)))).await;
}

async fn talk(
    broker: &Builtin,
    link: &mut Link,
    conversation: &mut Conversation,
    greeted: &(impl Fn() + Send),
    stopping: &CancellationToken,
) -> End {
    let mut decoder = Decoder::new(broker.limits.frame);
    let begun = Instant::now();
    let mut looked = Looked { at_token: begun, at_life: begun };
    let mut known = false;
    let mut ticks = tokio::time::interval(TICK);
    let news = Arc::clone(&conversation.news);
    loop {
        let step = tokio::select! {
            biased;
            () = stopping.cancelled() => Err(End::Stopping),
            incoming = link.socket.recv() => match incoming {
                Some(Ok(message)) => {
                    link.heard = Instant::now();
                    read(link, conversation, &mut decoder, message).await
                }
                Some(Err(_)) | None => Err(End::Gone),
            },
            () = news.notified() => pump(link, conversation).await,
            _ = ticks.tick() => tick(broker, link, conversation, begun, &mut looked).await,
        };
        if let Err(end) = step {
            return end;
        }
        if !known && conversation.is_connected() {
            known = true;
            greeted();
        }
    }
}

async fn read(
    link: &mut Link,
    conversation: &mut Conversation,
    decoder: &mut Decoder,
    message: Message,
) -> Result<(), End> {
    let bytes = match message {
        Message::Text(text) => axum::body::Bytes::from(text),
        Message::Binary(bytes) => bytes,
        // Answered by the library.
        Message::Ping(_) | Message::Pong(_) => return Ok(()),
        Message::Close(_) => return Err(End::Gone),
    };
    let items = decoder.feed(&bytes).map_err(|error| End::Breach(Breach::new("protocol", error.to_string())))?;
    for item in items {
        let Item::Frame(frame) = item else { continue };
        let reaction = conversation.take(&frame).await.map_err(End::Breach)?;
        for frame in &reaction.frames {
            link.frame(frame).await?;
        }
        if reaction.ends {
            return Err(End::Gone);
        }
    }
    Ok(())
}

/// Sends what waits, a turn for each subscription; if there may be more, it will be looked at again.
async fn pump(link: &mut Link, conversation: &mut Conversation) -> Result<(), End> {
    let deliveries = conversation.next().await.map_err(End::Breach)?;
    if !deliveries.is_empty() {
        conversation.news.notify_one();
    }
    for delivery in deliveries {
        let mut sent = 0;
        let mut failed = None;
        for frame in &delivery.frames {
            if let Err(end) = link.frame(frame).await {
                failed = Some(end);
                break;
            }
            sent += 1;
        }
        conversation.delivered(&delivery, sent).await;
        if let Some(end) = failed {
            return Err(end);
        }
    }
    Ok(())
}

/// Heart-beats, and an end to what has gone on too long.
async fn tick(
    broker: &Builtin,
    link: &mut Link,
    conversation: &mut Conversation,
    begun: Instant,
    looked: &mut Looked,
) -> Result<(), End> {
    let limits = &broker.limits;
    if !conversation.is_connected() && begun.elapsed() >= limits.connect_within {
        return Err(End::Breach(Breach::new("protocol", "nobody said CONNECT in time")));
    }
    let patience = conversation.hears_every.unwrap_or(limits.check_every).saturating_mul(SILENCE);
    if link.heard.elapsed() >= patience {
        return Err(End::Breach(Breach::new("silence", "no heart-beat came for too long")));
    }
    if conversation.sends_every.is_some_and(|every| link.spoke.elapsed() + TICK >= every) {
        link.write(Message::Text("\n".into())).await?;
    }
    if looked.at_life.elapsed() >= limits.check_every {
        looked.at_life = Instant::now();
        // A peer without heart-beats still answers a ping.
        link.write(Message::Ping(axum::body::Bytes::new())).await?;
    }
    if looked.at_token.elapsed() >= limits.token_check {
        looked.at_token = Instant::now();
        conversation.check().await.map_err(End::Breach)?;
    }
    Ok(())
}
