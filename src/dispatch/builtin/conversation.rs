//! The conversation on one connection: frames in, frames out. The socket transports them.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Notify;

use super::Builtin;
use crate::admission::Share;
use crate::directory::{Principal, Role};
use crate::dispatch::queues::AgentQueue;
use crate::dispatch::stomp::{Command, Frame, HeartBeat};
use crate::domain::ids::TokenId;

/// What every destination of an agent's queue begins with.
const DESTINATION: &str = "/amq/queue/";

/// Messages that a subscription takes at a time, so that several take turns.
const TURN: usize = 8;

/// How a subscriber says that it has dealt with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AckMode {
    /// By being sent it.
    Auto,
    /// By acknowledging it, and with it all before it.
    Client,
    /// By acknowledging it.
    ClientIndividual,
}

struct Subscription {
    id: String,
    queue: String,
    mode: AckMode,
    /// Messages that the subscriber takes before it has dealt with them; where it acknowledges nothing, no bound.
    prefetch: usize,
    /// Sent and not dealt with, oldest first.
    unsettled: VecDeque<i64>,
}

struct Login {
    vhost: String,
    name: String,
    passcode: SecretString,
    /// Under which name its connections are counted.
    counted: String,
    /// One of those that its token may hold.
    share: Option<Share>,
}

/// What a login opens.
struct Access {
    queues: Vec<AgentQueue>,
    token: TokenId,
}

impl Access {
    fn opens(&self, queue: &str) -> bool {
        self.queues.iter().any(|known| known.queue == queue)
    }
}

/// A reason to end the connection, as sent to the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Breach {
    /// In short.
    pub message: Cow<'static, str>,
    /// In detail.
    pub detail: String,
    /// A queue is not there. The other side comes again at once, so the connection stays open for a while.
    pub lingers: bool,
}

/// Characters of a queue's name that an error repeats at most.
const NAME_CHARS_MAX: usize = 100;

impl Breach {
    pub(super) fn new(message: &'static str, detail: impl Into<String>) -> Self {
        Self { message: message.into(), detail: detail.into(), lingers: false }
    }

    /// The queue is not there, or not for this login, in the words of `RabbitMQ`: an agent that finds `NOT_FOUND` in the
    /// header registers its queue again.
    fn no_queue(queue: &str, vhost: &str) -> Self {
        let short = |name: &str| name.chars().take(NAME_CHARS_MAX).collect::<String>();
        let message = format!("NOT_FOUND - no queue '{}' in vhost '{}'", short(queue), short(vhost));
        Self { message: message.clone().into(), detail: message, lingers: true }
    }

    /// The frame that says so.
    pub(super) fn frame(&self, receipt: Option<&str>) -> Frame {
        let frame =
            Frame::new(Command::Error).with("message", self.message.as_ref()).with("content-type", "text/plain");
        let frame = if self.message == "version" { frame.with("version", "1.2") } else { frame };
        let frame = match receipt {
            Some(receipt) => frame.with("receipt-id", receipt),
            None => frame,
        };
        frame.with_body(self.detail.clone())
    }
}

/// What a frame leads to.
#[derive(Debug, Default)]
pub(super) struct Reaction {
    /// Frames to send.
    pub frames: Vec<Frame>,
    /// The other side has said goodbye.
    pub ends: bool,
}

/// Messages that were made into frames of one subscription; they count as dealt with once they are sent, if that is its mode.
pub(super) struct Delivery {
    pub frames: Vec<Frame>,
    queue: String,
    numbers: Vec<i64>,
    settles: bool,
}

/// One connection.
pub(super) struct Conversation {
    broker: Arc<Builtin>,
    number: u64,
    login: Option<Login>,
    subscriptions: Vec<Subscription>,
    pub(super) news: Arc<Notify>,
    pub(super) sends_every: Option<Duration>,
    pub(super) hears_every: Option<Duration>,
}

impl Conversation {
    pub(super) fn new(broker: Arc<Builtin>) -> Self {
        let number = broker.numbers.fetch_add(1, Ordering::Relaxed);
        Self {
            broker,
            number,
            login: None,
            subscriptions: Vec::new(),
            news: Arc::default(),
            sends_every: None,
            hears_every: None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.login.is_some()
    }

    /// Takes a frame.
    pub(super) async fn take(&mut self, frame: &Frame) -> Result<Reaction, Breach> {
        let mut reaction = Reaction::default();
        match (frame.command, self.is_connected()) {
            (Command::Connect, false) => reaction.frames.push(self.connect(frame).await?),
            (Command::Connect, true) => return Err(Breach::new("protocol", "the connection is open already")),
            (_, false) => return Err(Breach::new("protocol", "the first frame has to be CONNECT or STOMP")),
            (Command::Subscribe, true) => self.subscribe(frame).await?,
            (Command::Unsubscribe, true) => self.unsubscribe(required(frame, "id")?)?,
            (Command::Ack | Command::Nack, true) => self.acknowledge(frame).await?,
            (Command::Disconnect, true) => reaction.ends = true,
            (Command::Send, true) => return Err(Breach::new("refused", "agents receive here and send nothing")),
            (Command::Begin | Command::Commit | Command::Abort, true) => {
                return Err(Breach::new("refused", "there are no transactions here"));
            }
            (other, true) => {
                return Err(Breach::new("protocol", format!("{} is not for a client to send", other.as_str())));
            }
        }
        if let Some(receipt) = frame.header("receipt").filter(|_| frame.command != Command::Connect) {
            reaction.frames.push(Frame::new(Command::Receipt).with("receipt-id", receipt));
        }
        Ok(reaction)
    }

    async fn connect(&mut self, frame: &Frame) -> Result<Frame, Breach> {
        let versions = frame.header("accept-version").unwrap_or("1.0");
        if !versions.split(',').any(|version| version.trim() == "1.2") {
            return Err(Breach::new("version", format!("STOMP 1.2 is spoken here, and not {versions}")));
        }
        let theirs: HeartBeat = match frame.header("heart-beat") {
            None => HeartBeat::default(),
            Some(text) => text.parse().map_err(|error| Breach::new("protocol", format!("{error}")))?,
        };
        let mut login = Login {
            vhost: required(frame, "host")?.to_owned(),
            name: required(frame, "login")?.to_owned(),
            passcode: required(frame, "passcode")?.to_owned().into(),
            counted: String::new(),
            share: None,
        };
        // Whatever is wrong with it, a stranger learns no more than that.
        let access = self.access(&login).await?;
        let access = access.ok_or_else(|| Breach::new("Bad CONNECT", "access refused for this login"))?;
        // A login that is none of a queue may be any word: those of a user are counted together.
        let known = access.queues.iter().any(|queue| queue.login == login.name);
        login.counted.clone_from(if known { &login.name } else { &login.vhost });
        let share = self.broker.tokens.take(access.token.as_uuid());
        login.share = Some(share.map_err(|_| Breach::new("refused", "this token has too many connections open"))?);
        self.broker.enter(&login.counted).map_err(|why| Breach::new("refused", why))?;
        self.login = Some(login);
        let every = self.broker.limits.heart_beat_ms;
        let ours = HeartBeat { sends_ms: every, wants_ms: every };
        (self.sends_every, self.hears_every) = (ours.sending(theirs), ours.receiving(theirs));
        Ok(Frame::new(Command::Connected)
            .with("version", "1.2")
            .with("server", concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .with("session", format!("session-{}", self.number))
            .with("heart-beat", ours.to_string()))
    }

    /// What a login opens; nothing, if its token is not good or not that of whose virtual host it is.
    ///
    /// An agent whose queue is gone gets in all the same, with no queue: then it hears that its queue is not there, and
    /// registers it again.
    async fn access(&self, login: &Login) -> Result<Option<Access>, Breach> {
        let now = self.broker.clock.now();
        let found = self.broker.directory.authenticate(login.passcode.expose_secret(), now).await;
        let principal = found.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "a connection could not be authenticated");
            Breach::new("unavailable", "the directory does not answer; try again")
        })?;
        let receives = |p: &Principal| matches!(p.role, Role::Staff | Role::Agent) && p.user.to_string() == login.vhost;
        let Some(principal) = principal.filter(receives) else { return Ok(None) };
        // Queues belong to the user whose token it is, whatever the login: an agent that registers its queue again goes on
        // with the login that it had.
        let mut queues = self.broker.queues.of_vhost(&login.vhost);
        queues.retain(|queue| owns(&principal, queue));
        Ok(Some(Access { queues, token: principal.token }))
    }

    /// Whether the connection may continue: its token is still valid, and its queues exist.
    pub(super) async fn check(&self) -> Result<(), Breach> {
        let Some(login) = &self.login else { return Ok(()) };
        // Nobody is turned out because the directory is busy.
        let Ok(access) = self.access(login).await else { return Ok(()) };
        let access = access.ok_or_else(|| Breach::new("refused", "the token is no longer valid"))?;
        let gone = self.subscriptions.iter().find(|s| !access.opens(&s.queue));
        gone.map_or(Ok(()), |gone| Err(Breach::no_queue(&gone.queue, &login.vhost)))
    }

    async fn subscribe(&mut self, frame: &Frame) -> Result<(), Breach> {
        let (id, destination) = (required(frame, "id")?, required(frame, "destination")?);
        let mode = match frame.header("ack") {
            None | Some("auto") => AckMode::Auto,
            Some("client") => AckMode::Client,
            Some("client-individual") => AckMode::ClientIndividual,
            Some(other) => return Err(Breach::new("protocol", format!("there is no ack mode {other:?}"))),
        };
        let prefetch = self.prefetch(frame)?;
        if self.subscriptions.iter().any(|s| s.id == id) {
            return Err(Breach::new("protocol", format!("there is a subscription {id:?} already")));
        }
        if self.subscriptions.len() >= self.broker.limits.subscriptions_max {
            return Err(Breach::new("refused", "this connection has too many subscriptions"));
        }
        let queue = destination.strip_prefix(DESTINATION).unwrap_or_default();
        let login = self.login.as_ref().ok_or_else(|| Breach::new("protocol", "not connected"))?;
        if !self.access(login).await?.is_some_and(|access| access.opens(queue)) {
            return Err(Breach::no_queue(queue, &login.vhost));
        }
        self.broker.subscribe(queue, self.number, &self.news);
        self.subscriptions.push(Subscription {
            id: id.to_owned(),
            queue: queue.to_owned(),
            mode,
            prefetch,
            unsettled: VecDeque::new(),
        });
        Ok(())
    }

    /// How many messages a subscriber wants at a time; 0, like nothing, is as many as the broker gives.
    fn prefetch(&self, frame: &Frame) -> Result<usize, Breach> {
        let most = self.broker.limits.unacknowledged_max;
        let Some(text) = frame.header("prefetch-count") else { return Ok(most) };
        let wrong = || Breach::new("protocol", format!("prefetch-count is a number from 0 to 65535, and not {text:?}"));
        match text.trim().parse::<u16>().map_err(|_| wrong())? {
            0 => Ok(most),
            count => Ok(usize::from(count).min(most)),
        }
    }

    fn unsubscribe(&mut self, id: &str) -> Result<(), Breach> {
        let at = self.subscriptions.iter().position(|s| s.id == id);
        let at = at.ok_or_else(|| Breach::new("protocol", format!("there is no subscription {id:?}")))?;
        let gone = self.subscriptions.remove(at);
        let unsettled: Vec<i64> = gone.unsettled.into_iter().collect();
        self.broker.unsubscribe(&gone.queue, self.number, &unsettled);
        Ok(())
    }

    async fn acknowledge(&mut self, frame: &Frame) -> Result<(), Breach> {
        let id = required(frame, "id")?;
        let unknown = || Breach::new("protocol", format!("there is no message to acknowledge with the id {id:?}"));
        let no: i64 = id.parse().map_err(|_| unknown())?;
        let found = self.subscriptions.iter_mut().find(|s| s.unsettled.contains(&no));
        let subscription = found.ok_or_else(unknown)?;
        let numbers: Vec<i64> = if subscription.mode == AckMode::Client {
            let upto = subscription.unsettled.iter().position(|known| *known == no).unwrap_or_default();
            subscription.unsettled.drain(..=upto).collect()
        } else {
            subscription.unsettled.retain(|known| *known != no);
            vec![no]
        };
        let refused = frame.command == Command::Nack;
        let settled = self.broker.settle(&subscription.queue, &numbers, refused).await;
        // Senders that these messages blocked may now send again.
        self.news.notify_one();
        settled.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "an acknowledgement was not kept");
            Breach::new("unavailable", "the acknowledgement could not be kept; connect again")
        })
    }

    /// The next messages of every subscription that may have more; empty if there are none.
    pub(super) async fn next(&mut self) -> Result<Vec<Delivery>, Breach> {
        let mut deliveries = Vec::new();
        for subscription in &mut self.subscriptions {
            let room = match subscription.mode {
                AckMode::Auto => TURN,
                _ => subscription.prefetch.saturating_sub(subscription.unsettled.len()).min(TURN),
            };
            if room == 0 {
                continue;
            }
            let taken = self.broker.take(&subscription.queue, room).await.map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "messages could not be read");
                Breach::new("unavailable", "the queue cannot be read; connect again")
            })?;
            if taken.is_empty() {
                continue;
            }
            let settles = subscription.mode == AckMode::Auto;
            let frame = |message: &super::store::Waiting| {
                let frame = Frame::new(Command::Message)
                    .with("subscription", subscription.id.as_str())
                    .with("destination", format!("{DESTINATION}{}", subscription.queue))
                    .with("message-id", message.id.as_str())
                    .with("content-type", "application/json");
                let frame = if settles { frame } else { frame.with("ack", message.no.to_string()) };
                frame.with_body(message.body.as_bytes())
            };
            let numbers: Vec<i64> = taken.iter().map(|message| message.no).collect();
            let frames = taken.iter().map(frame).collect();
            subscription.unsettled.extend(&numbers);
            deliveries.push(Delivery { frames, queue: subscription.queue.clone(), numbers, settles });
        }
        Ok(deliveries)
    }

    /// The first `sent` frames of a delivery are out.
    pub(super) async fn delivered(&mut self, delivery: &Delivery, sent: usize) {
        if !delivery.settles {
            return;
        }
        let numbers = &delivery.numbers[..sent.min(delivery.numbers.len())];
        if let Err(error) = self.broker.settle(&delivery.queue, numbers, false).await {
            // They are sent again to the next connection: twice is better than not at all.
            tracing::error!(error = &error as &dyn std::error::Error, "a delivery was not kept");
            return;
        }
        for subscription in self.subscriptions.iter_mut().filter(|s| s.queue == delivery.queue) {
            subscription.unsettled.retain(|no| !numbers.contains(no));
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        for subscription in self.subscriptions.drain(..) {
            let unsettled: Vec<i64> = subscription.unsettled.into_iter().collect();
            self.broker.unsubscribe(&subscription.queue, self.number, &unsettled);
        }
        if let Some(login) = &self.login {
            self.broker.leave(&login.counted);
        }
    }
}

/// Whether a principal may open a queue: it is the one that registered it, as staff or as the agent of its offering.
fn owns(principal: &Principal, queue: &AgentQueue) -> bool {
    let role = match principal.role {
        Role::Staff => true,
        Role::Agent => principal.offering == Some(queue.offering),
        _ => false,
    };
    role && principal.user == queue.owner
}

fn required<'f>(frame: &'f Frame, name: &str) -> Result<&'f str, Breach> {
    let missing = || Breach::new("protocol", format!("{} needs the header {name}", frame.command.as_str()));
    frame.header(name).filter(|value| !value.is_empty()).ok_or_else(missing)
}

impl Builtin {
    /// Counts a connection of a login, unless there are as many as there may be.
    fn enter(&self, login: &str) -> Result<(), &'static str> {
        let mut logins = self.logins.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let open = logins.get(login).copied().unwrap_or_default();
        if open >= self.limits.login_connections_max {
            return Err("this login has too many connections open");
        }
        if self.connections() >= self.limits.connections_max {
            return Err("there are too many connections");
        }
        logins.insert(login.to_owned(), open + 1);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn leave(&self, login: &str) {
        let mut logins = self.logins.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(open) = logins.get_mut(login) {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            *open -= 1;
            if *open == 0 {
                logins.remove(login);
            }
        }
    }
}
