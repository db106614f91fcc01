//! Exchanges with other peers about who is on a topic
//! ([`exchange`](crate::messaging::topics::exchange)): one task for each, which asks the event loop.

use std::sync::Arc;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use super::Happened;
use crate::boxmap::BoxMap;
use crate::messaging::topics::{
    exchange::{ASK_FLOW, MAX_ASKERS, Message, PROTOCOL, frame},
    introductions::{Introduction, MAX_EXCHANGES},
    judge::make_room,
    rate::Meter,
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
    /// As many clones as are served.
    served: Arc<()>,
    askers: BoxMap<PeerId, Meter>,
    begun: usize,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

impl Exchanges {
    pub fn new(incoming: IncomingStreams) -> Self {
        let (sender, reports) = mpsc::channel(REPORT_QUEUE);
        let (served, askers) = (Arc::default(), BoxMap::new());
        Self { incoming, served, askers, begun: 0, sender, reports }
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

    fn admits(&mut self, peer: PeerId, now: Duration) -> bool {
        make_room(&mut self.askers, MAX_ASKERS, |meter| meter.is_full(ASK_FLOW, now));
        let asker = self.askers.entry(peer).or_insert_with(|| Meter::new(ASK_FLOW, now));
        asker.take(ASK_FLOW, 0, now) && Arc::strong_count(&self.served) <= MAX_SERVED
    }
}

impl EventLoop {
    pub(super) fn begin_exchanges(&mut self, now: Duration) {
        let (own, mut due) = (*self.swarm.local_peer_id(), Vec::new());
        let mut room = self.topics.exchanges.room();
        let connections = &self.connections;
        // Who is not connected is dialled, and says then what it speaks.
        let speaks = |peer| {
            connections.best(peer).is_none() || connections.supports(peer, &PROTOCOL) == Some(true)
        };
        for (topic, there) in &mut self.topics.rooms {
            for introduction in there.introductions.due(&there.presence, own, speaks, room, now) {
                room -= 1;
                due.push((topic.clone(), introduction));
            }
        }
        for (topic, Introduction { peer, others }) in due {
            self.topics.exchanges.begun += 1;
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
        if !self.topics.exchanges.admits(peer, now) {
            tracing::debug!(%peer, "it asks too often who is on a topic");
            return;
        }
        let reports = self.topics.exchanges.sender.clone();
        let served = self.topics.exchanges.served.clone();
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
