//! The topics of the relay's clients: it carries what they subscribe to, so that two browsers hear each other without a
//! connection of their own, and tells each who else is there (`tabpeer::messaging::topics::roster`).
//!
//! [`carried`] decides, bounded; this drives gossipsub and the streams of the rosters.

pub mod carried;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::AsyncWriteExt;
use libp2p::PeerId;
use libp2p::gossipsub::{Event, IdentTopic, MessageAcceptance};
use tabpeer::messaging::topics::judge::{Judge, Verdict};
use tabpeer::messaging::topics::roster;
use tabpeer::network::Stream;
use tabpeer::network::gossip::{Gate, Gossip};
use tabpeer::network::peers::PeerStreams;
use tokio::sync::mpsc;

use self::carried::{Carried, Step};
use crate::streams::{Command, RelayStreams};

/// Frames that wait for one client; one that does not read them is let go, and asks again.
const FRAME_QUEUE: usize = 1024;
/// How long one frame may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The score of a client that is not heard: below every threshold of gossipsub's.
const UNHEARD: f64 = -1000.0;
/// After so many heartbeats in a row in which its queue was full, a client is disconnected: it holds a queue's worth of
/// messages.
const MAX_SLOW_BEATS: u32 = 15;
/// Two such heartbeats further apart are not in a row.
const SLOW_BEAT: Duration = Duration::from_secs(3);

/// What the event loop knows of topics.
pub struct Topics {
    gate: Gate,
    carried: Carried<mpsc::Sender<Bytes>>,
    judge: Judge,
    /// Clients whose queue was full: in how many heartbeats, and the last.
    slow: BTreeMap<PeerId, (u32, Instant)>,
    started: Instant,
}

impl Topics {
    pub fn new(gate: Gate) -> Self {
        Self {
            gate,
            carried: Carried::default(),
            judge: Judge::default(),
            slow: BTreeMap::new(),
            started: Instant::now(),
        }
    }

    /// Handles an event of gossipsub's. Returns a client that is to be disconnected.
    pub fn handle(&mut self, gossip: &mut Gossip, event: Event) -> Option<PeerId> {
        let now = self.started.elapsed();
        match event {
            Event::Message { propagation_source, message_id, message } => {
                let acceptance = match message.source {
                    None => MessageAcceptance::Reject,
                    Some(author) => {
                        let bytes = message.data.len();
                        match self.judge.judge(author, propagation_source, false, bytes, now) {
                            Verdict::Take => MessageAcceptance::Accept,
                            Verdict::Drop => MessageAcceptance::Ignore,
                            Verdict::Punish => {
                                tracing::info!(peer = %propagation_source, "not heard for a while: it floods");
                                gossip.set_application_score(&propagation_source, UNHEARD);
                                MessageAcceptance::Ignore
                            }
                        }
                    }
                };
                gossip.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            Event::Subscribed { peer_id, topic } => {
                let steps = self.carried.subscribed(peer_id, topic.as_str(), now);
                self.perform(gossip, steps);
            }
            Event::Unsubscribed { peer_id, topic } => {
                let steps = self.carried.unsubscribed(peer_id, topic.as_str(), now);
                self.perform(gossip, steps);
            }
            Event::SlowPeer { peer_id, .. } => return self.slow(peer_id),
            Event::GossipsubNotSupported { .. } => {}
        }
        None
    }

    /// A client reads who is on its topics from now on.
    pub fn listen(&mut self, gossip: &mut Gossip, client: PeerId, frames: mpsc::Sender<Bytes>) {
        let steps = self.carried.listening(client, frames);
        self.perform(gossip, steps);
    }

    pub fn disconnected(&mut self, gossip: &mut Gossip, client: PeerId) {
        self.slow.remove(&client);
        let steps = self.carried.disconnected(client, self.started.elapsed());
        self.perform(gossip, steps);
    }

    /// Leaves topics that nobody has come back to, and hears those again who were not heard.
    pub fn tick(&mut self, gossip: &mut Gossip) {
        let now = self.started.elapsed();
        for peer in self.judge.pardoned(now) {
            gossip.set_application_score(&peer, 0.0);
        }
        let steps = self.carried.tick(now);
        self.perform(gossip, steps);
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_wake(&self) -> Option<Instant> {
        let wakes = [self.judge.next_wake(), self.carried.next_wake()];
        wakes.into_iter().flatten().min().map(|at| self.started + at)
    }

    fn perform(&mut self, gossip: &mut Gossip, steps: Vec<Step<mpsc::Sender<Bytes>>>) {
        for step in steps {
            match step {
                Step::Carry(topic) => {
                    self.gate.open(&topic);
                    // It refuses names that are too long; those were not let in.
                    if let Err(error) = gossip.subscribe(&IdentTopic::new(topic.clone())) {
                        tracing::warn!(topic, %error, "a topic is not carried");
                    }
                }
                Step::Leave(topic) => {
                    self.gate.shut(&topic);
                    gossip.unsubscribe(&IdentTopic::new(topic));
                }
                Step::Tell { client, listener, frame } => {
                    if listener.try_send(frame).is_err() {
                        tracing::debug!(peer = %client, "it does not read who is on its topics");
                        self.carried.deaf(client);
                    }
                }
            }
        }
    }

    fn slow(&mut self, peer: PeerId) -> Option<PeerId> {
        let now = Instant::now();
        let (beats, last) = self.slow.entry(peer).or_insert((0, now));
        *beats = if now - *last <= SLOW_BEAT { *beats + 1 } else { 1 };
        *last = now;
        (*beats >= MAX_SLOW_BEATS).then_some(peer)
    }
}

/// Accepts the streams of clients that want to know who is on their topics, until the relay ends.
pub async fn serve(streams: RelayStreams, commands: mpsc::Sender<Command>) {
    let Ok(mut incoming) = streams.accept(roster::PROTOCOL).await else { return };
    while let Some((client, stream)) = incoming.next().await {
        let (frames, queue) = mpsc::channel(FRAME_QUEUE);
        if commands.send(Command::Listen { client, frames }).await.is_err() {
            return;
        }
        drop(tokio::spawn(write(stream, queue)));
    }
}

/// Writes until the client is let go or does not read.
async fn write(mut stream: Stream, mut frames: mpsc::Receiver<Bytes>) {
    while let Some(frame) = frames.recv().await {
        let written = async {
            stream.write_all(&frame).await?;
            if frames.is_empty() { stream.flush().await } else { Ok(()) }
        };
        if !matches!(tokio::time::timeout(WRITE_TIMEOUT, written).await, Ok(Ok(()))) {
            return;
        }
    }
}
