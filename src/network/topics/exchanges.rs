//! Exchanges with other peers about who is on a topic
//! ([`exchange`](crate::messaging::topics::exchange)): one task for each, which asks the event loop.

use std::sync::{Arc, Weak};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::Happened;
use crate::boxmap::BoxMap;
use crate::messaging::topics::{
    exchange::{ASK_FLOW, DIAL_FLOW, DIAL_UNIT, MAX_ASKERS, Message, PROTOCOL, frame},
    introductions::{Allowance, Introduction, MAX_EXCHANGES, Reach},
    rate::{Meter, Meters},
};
use crate::network::{IncomingStreams, event_loop::EventLoop, streams::Stream, wanted::Waiter};
use crate::platform::{
    task,
    time::{Duration, timeout},
};

/// How long an exchange may take, once there is a stream.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Exchanges begun by others at a time; what is more is reset.
const MAX_SERVED: usize = 16;
/// Reports that wait for the event loop; then the exchanges wait.
const REPORT_QUEUE: usize = 16;

/// What the task of an exchange reports.
#[derive(Debug)]
pub enum Report {
    /// A peer has said this and waits for the answer; a dropped reply is none.
    Asked { peer: PeerId, message: Message, reply: oneshot::Sender<Vec<u8>> },
    /// An exchange of ours has ended.
    Ended { peer: PeerId, topic: String, answer: Option<Message> },
}

pub struct Exchanges {
    incoming: IncomingStreams,
    /// Who is served; each holds the other end while it is.
    serving: BoxMap<PeerId, Weak<()>>,
    /// Dials for exchanges, counted in [`DIAL_UNIT`]s.
    dials: Meter,
    askers: Meters,
    begun: usize,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

impl Exchanges {
    pub fn new(incoming: IncomingStreams) -> Self {
        let (sender, reports) = mpsc::channel(REPORT_QUEUE);
        let (serving, askers) = (BoxMap::new(), Meters::new(ASK_FLOW, MAX_ASKERS));
        let dials = Meter::new(DIAL_FLOW, Duration::ZERO);
        Self { incoming, serving, dials, askers, begun: 0, sender, reports }
    }

    pub(super) async fn next(&mut self) -> Happened {
        tokio::select! {
            Some((peer, stream)) = self.incoming.next() => Happened::Asking(peer, stream),
            Some(report) = self.reports.recv() => Happened::Exchange(report),
            // There is always a sender, the one in here.
            else => std::future::pending().await,
        }
    }

    /// How many more of ours may begin.
    pub fn room(&self) -> usize {
        MAX_EXCHANGES.saturating_sub(self.begun)
    }

    /// What of ours may begin now.
    fn allowance(&self, now: Duration) -> Allowance {
        let mut then = self.dials.clone();
        let dial_at = match then.take(DIAL_FLOW, 0, now / DIAL_UNIT) {
            true => now,
            false => then.room_at(DIAL_FLOW, 0).saturating_mul(DIAL_UNIT),
        };
        Allowance { exchanges: self.room(), dial_at }
    }

    /// To be held while `peer` is served, if it is: one exchange of each at a time.
    fn admit(&mut self, peer: PeerId, now: Duration) -> Option<Arc<()>> {
        let asks = self.askers.take(peer, 0, now);
        self.serving.retain(|_, serving| serving.strong_count() > 0);
        if !asks || self.serving.len() >= MAX_SERVED || self.serving.contains_key(&peer) {
            return None;
        }
        let served = Arc::new(());
        self.serving.insert(peer, Arc::downgrade(&served));
        Some(served)
    }
}

impl EventLoop {
    pub(super) fn begin_exchanges(&mut self, now: Duration) {
        let (own, mut due) = (*self.swarm.local_peer_id(), Vec::new());
        let (connections, keeper) = (&self.connections, &self.keeper);
        let exchanges = &mut self.topics.exchanges;
        let mut may = exchanges.allowance(now);
        for (topic, there) in &mut self.topics.rooms {
            let presence = &there.presence;
            let reach = |peer| {
                if connections.best(peer).is_some() {
                    let speaks = connections.supports(peer, &PROTOCOL) == Some(true);
                    return speaks.then_some(Reach::Connected);
                }
                // It says what it speaks when it is dialled. A relay that nobody here has chosen may
                // name whom it likes: that costs us no dials.
                let ours = presence.relays_of(peer).any(|relay| keeper.index_of(relay).is_some());
                ours.then_some(Reach::Dial)
            };
            for introduction in there.introductions.due(presence, own, reach, may, now) {
                if connections.best(introduction.peer).is_none() {
                    exchanges.dials.take(DIAL_FLOW, 0, now / DIAL_UNIT);
                }
                exchanges.begun += 1;
                may = exchanges.allowance(now);
                due.push((topic.clone(), introduction));
            }
        }
        for (topic, Introduction { peer, others }) in due {
            let peers = self.named(&topic, others);
            let message = Message { topic: topic.clone(), peers }.encode();
            let (reply, opened) = oneshot::channel();
            let reports = self.topics.exchanges.sender.clone();
            self.want(peer, None, Waiter::Stream(PROTOCOL, reply));
            drop(task::spawn(async move {
                let answer = match opened.await {
                    Ok(Ok(stream)) => {
                        timeout(EXCHANGE_TIMEOUT, ask(stream, message)).await.unwrap_or_default()
                    }
                    _ => None,
                };
                let _ = reports.send(Report::Ended { peer, topic, answer }).await;
            }));
        }
    }

    pub(super) fn on_asking(&mut self, peer: PeerId, stream: Stream) {
        let now = self.now();
        let Some(served) = self.topics.exchanges.admit(peer, now) else {
            tracing::debug!(%peer, "it asks too often who is on a topic");
            return;
        };
        let reports = self.topics.exchanges.sender.clone();
        drop(task::spawn(async move {
            let _ = timeout(EXCHANGE_TIMEOUT, serve(peer, stream, reports)).await;
            drop(served);
        }));
    }

    pub(super) fn on_exchange(&mut self, report: Report) {
        let now = self.now();
        match report {
            Report::Asked { peer, message: Message { topic, peers }, reply } => {
                let Some(room) = self.topics.rooms.get_mut(&topic) else { return };
                let named: Vec<PeerId> = peers.iter().map(|named| named.peer).collect();
                let others = room.introductions.answer(&room.presence, peer, &named, now);
                self.told_of(peer, &topic, peers);
                let peers = self.named(&topic, others);
                let _ = reply.send(Message { topic, peers }.encode());
            }
            Report::Ended { peer, topic, answer } => {
                self.topics.exchanges.begun = self.topics.exchanges.begun.saturating_sub(1);
                let answer = answer.filter(|answer| answer.topic == topic);
                if let Some(room) = self.topics.rooms.get_mut(&topic) {
                    room.introductions.done(peer, answer.is_some(), now);
                }
                if let Some(answer) = answer {
                    self.told_of(peer, &topic, answer.peers);
                }
            }
        }
    }
}

async fn ask(mut stream: Stream, message: Vec<u8>) -> Option<Message> {
    stream.write_all(&message).await.ok()?;
    // The other side reads no further than the message.
    stream.flush().await.ok()?;
    let answer = read(&mut stream).await?;
    let _ = stream.close().await;
    Some(answer)
}

async fn serve(peer: PeerId, mut stream: Stream, reports: mpsc::Sender<Report>) -> Option<()> {
    let message = read(&mut stream).await?;
    let (reply, answer) = oneshot::channel();
    reports.send(Report::Asked { peer, message, reply }).await.ok()?;
    stream.write_all(&answer.await.ok()?).await.ok()?;
    stream.close().await.ok()
}

/// What is no message, and one that does not come, is nothing.
async fn read(stream: &mut Stream) -> Option<Message> {
    let mut header = Vec::new();
    let len = loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok()?;
        header.extend_from_slice(&byte);
        if let Some(len) = frame(&header).ok()? {
            break len;
        }
    };
    let mut body = vec![0; len];
    stream.read_exact(&mut body).await.ok()?;
    Message::decode(body).ok()
}
