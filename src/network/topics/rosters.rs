//! What relays say of who is on our topics: one stream with each that speaks
//! [`roster`](crate::messaging::topics::roster), read by a task of its own.
//!
//! Whom a relay names, our messages reach through it; so its word counts from when it is on the topic
//! itself. It says that by gossipsub, on another stream, and what comes before that is held.

use futures::AsyncReadExt as _;
use libp2p::PeerId;
use tokio::sync::{mpsc, oneshot};

use crate::boxmap::BoxMap;
use crate::messaging::topics::{
    MAX_MEMBERS, MAX_SOURCES,
    presence::Source,
    roster::{Frame, FrameReader, PROTOCOL},
};
use crate::network::{event_loop::EventLoop, streams::Stream};
use crate::platform::{task, time::Duration};

/// Members whom one relay may name that is none of ours.
const MAX_NAMED_BY_OTHERS: usize = 64;
/// Frames that wait for the event loop; then the relays wait.
const REPORT_QUEUE: usize = 16;
/// How long after a stream has ended the next one is opened.
const RETRY: Duration = Duration::from_secs(2);
/// What is held of one relay, in frames and the peers that they name; a relay that says more without
/// being on those topics is asked again later.
const MAX_HELD: usize = 4 * MAX_MEMBERS;
/// Bytes read at once.
const READ: usize = 8 << 10;

/// What a stream's task reports; `frame` is `None` when it has ended.
#[derive(Debug)]
pub struct Report {
    relay: PeerId,
    stream: u64,
    frame: Option<Frame>,
}

pub struct Rosters {
    /// The relays that tell, or are to be asked again.
    relays: BoxMap<PeerId, State>,
    streams: u64,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
}

enum State {
    /// The task reads as long as there is `_reading`.
    Open {
        stream: u64,
        held: Vec<Frame>,
        _reading: oneshot::Sender<()>,
    },
    Ended {
        retry: Duration,
    },
}

impl Rosters {
    pub fn new() -> Self {
        let (sender, reports) = mpsc::channel(REPORT_QUEUE);
        Self { relays: BoxMap::new(), streams: 0, sender, reports }
    }

    pub async fn next(&mut self) -> Report {
        match self.reports.recv().await {
            Some(report) => report,
            // There is always a sender, the one in here.
            None => std::future::pending().await,
        }
    }

    pub fn next_wake(&self) -> Option<Duration> {
        let retry = |state: &State| match state {
            State::Open { .. } => None,
            State::Ended { retry } => Some(*retry),
        };
        self.relays.values().filter_map(retry).min()
    }

    /// The relay is gone; whether it told us anything.
    pub fn disconnected(&mut self, relay: PeerId) -> bool {
        self.relays.remove(&relay).is_some()
    }
}

impl EventLoop {
    /// Whether the neighbour may be a relay: one of ours, or one that is not reached through another.
    pub(super) fn may_carry(&self, peer: PeerId) -> bool {
        self.keeper.index_of(peer).is_some()
            || self.connections.supports(peer, &PROTOCOL) != Some(false)
                && self.connections.direct(peer).is_some()
    }

    /// Opens a stream with each relay that has none.
    pub(super) fn open_rosters(&mut self) {
        let (now, mut connected) = (self.now(), Vec::new());
        for peer in self.connections.ids() {
            if self.connections.supports(peer, &PROTOCOL) == Some(true)
                && let Some((connection, _)) = self.connections.direct(peer)
            {
                connected.push((peer, connection));
            }
        }
        for (relay, connection) in connected {
            let rosters = &mut self.topics.rosters;
            match rosters.relays.get(&relay) {
                Some(State::Open { .. }) => continue,
                Some(State::Ended { retry }) if *retry > now => continue,
                Some(State::Ended { .. }) => {}
                None if rosters.relays.len() + 1 >= MAX_SOURCES => continue,
                None => {}
            }
            rosters.streams += 1;
            let stream = rosters.streams;
            let (_reading, stopped) = oneshot::channel();
            rosters.relays.insert(relay, State::Open { stream, held: Vec::new(), _reading });
            let (reply, answer) = oneshot::channel();
            let reports = rosters.sender.clone();
            self.swarm.behaviour_mut().streams.open(relay, connection, PROTOCOL, reply);
            drop(task::spawn(async move {
                if let Ok(Ok(opened)) = answer.await {
                    tokio::select! {
                        () = read(opened, relay, stream, &reports) => {}
                        _ = stopped => {}
                    }
                }
                let _ = reports.send(Report { relay, stream, frame: None }).await;
            }));
        }
    }

    pub(super) fn on_roster(&mut self, report: Report) {
        let Report { relay, stream, frame } = report;
        let now = self.now();
        let Some(state) = self.topics.rosters.relays.get_mut(&relay) else { return };
        let State::Open { stream: open, held, .. } = state else { return };
        if *open != stream {
            return;
        }
        if let Some(frame) = frame {
            let Some(room) = self.topics.rooms.get(&frame.topic) else { return };
            if room.neighbours.contains(&relay) {
                return self.named_by(relay, frame);
            }
            held.push(frame);
            let weight = |frame: &Frame| 1 + frame.joined.len() + frame.left.len();
            if held.iter().map(weight).sum::<usize>() <= MAX_HELD {
                return;
            }
        }
        *state = State::Ended { retry: now + RETRY };
        for room in self.topics.rooms.values_mut() {
            room.presence.lost(Source::Relay(relay), now);
        }
    }

    /// The topic is left: what relays have said of it is not for those who subscribe to it again.
    pub(super) fn forget_held(&mut self, topic: &str) {
        for state in self.topics.rosters.relays.values_mut() {
            if let State::Open { held, .. } = state {
                held.retain(|frame| frame.topic != topic);
            }
        }
    }

    /// The relay is on the topic now.
    pub(super) fn on_carried(&mut self, relay: PeerId, topic: &str) {
        let Some(State::Open { held, .. }) = self.topics.rosters.relays.get_mut(&relay) else {
            return;
        };
        let of_topic: Vec<Frame> = held.extract_if(.., |frame| frame.topic == topic).collect();
        for frame in of_topic {
            self.named_by(relay, frame);
        }
    }

    fn named_by(&mut self, relay: PeerId, mut frame: Frame) {
        let Some(room) = self.topics.rooms.get_mut(&frame.topic) else { return };
        let own = *self.swarm.local_peer_id();
        frame.joined.retain(|peer| *peer != own && *peer != relay);
        let source = Source::Relay(relay);
        if self.keeper.index_of(relay).is_none() {
            // Anybody may say that he is a relay: then he may name a few.
            let named = room.presence.sources().filter(|(_, sources)| sources.contains(&source));
            let named = if frame.all { 0 } else { named.count() };
            frame.joined.truncate(MAX_NAMED_BY_OTHERS.saturating_sub(named));
        }
        for peer in frame.left {
            let change = room.presence.gone(peer, source);
            room.tell(change);
        }
        if frame.all {
            for change in room.presence.all(&frame.joined, source) {
                room.tell(Some(change));
            }
        } else {
            for peer in frame.joined {
                let change = room.presence.seen(peer, source);
                room.tell(change);
            }
        }
    }
}

/// Reads until the stream ends, says what is no frame, or the network is closed.
async fn read(mut stream: Stream, relay: PeerId, id: u64, reports: &mpsc::Sender<Report>) {
    // A relay's connection is kept because it is a relay.
    stream.ignore_for_keep_alive();
    let (mut reader, mut buffer) = (FrameReader::default(), vec![0; READ]);
    loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        reader.push(buffer.get(..count).unwrap_or_default());
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    let report = Report { relay, stream: id, frame: Some(frame) };
                    if reports.send(report).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%relay, %error, "a relay's list of peers is not one");
                    return;
                }
            }
        }
    }
}
