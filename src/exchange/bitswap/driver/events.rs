//! What the tasks report to the driver, and what it makes of it.

use libp2p::PeerId;

use super::{
    Driver,
    reader::{Permit, ReadEnd, Said},
    writer::{Outgoing, WriteError},
};
use crate::{
    content::block::Block,
    exchange::bitswap::server::{Found, Lookup},
    network::{NetworkError, PeersWatch, Stream},
    platform::time::Duration,
};

/// What the tasks report.
pub(super) enum Event {
    Said {
        peer: PeerId,
        said: Said,
    },
    /// A large message is on its way.
    Receiving {
        peer: PeerId,
    },
    Blocks {
        peer: PeerId,
        blocks: Vec<Block>,
        permit: Option<Permit>,
    },
    ReadEnded {
        peer: PeerId,
        end: ReadEnd,
    },
    Written {
        peer: PeerId,
        number: u64,
        message: Outgoing,
    },
    WriteFailed {
        peer: PeerId,
        number: u64,
        error: WriteError,
    },
    Dialled {
        peer: PeerId,
        stream: Result<Stream, NetworkError>,
    },
    LookedUp {
        lookup: Lookup,
        found: Vec<Found>,
    },
}

impl Driver {
    pub(super) fn on_event(&mut self, event: Event, peers: &PeersWatch) {
        let now = self.now();
        match event {
            Event::Said { peer, said } => {
                let Some(contact) = self.contacts.get_mut(&peer) else { return };
                contact.proven = true;
                self.tell(peer, now);
                self.server.received(peer, said.wants, said.full);
                if !said.presences.is_empty() {
                    self.client.received(peer, Vec::new(), said.presences, now);
                }
            }
            Event::Receiving { peer } => self.client.receiving(peer, now),
            Event::Blocks { peer, blocks, permit } => {
                if let Some(contact) = self.contacts.get_mut(&peer) {
                    let bytes: usize = blocks.iter().map(|block| block.data().len()).sum();
                    contact.traffic.received += bytes as u64;
                }
                self.client.received(peer, blocks, Vec::new(), now);
                drop(permit);
            }
            Event::ReadEnded { peer, end } => {
                if end == ReadEnd::Bad {
                    self.client.misbehaved(peer, now);
                }
                if let Some((count, _)) = self.readers.get_mut(&peer) {
                    *count -= 1;
                    if *count == 0 {
                        self.readers.remove(&peer);
                    }
                }
            }
            Event::Written { peer, number, message } => {
                let Some(contact) = self.contacts.get_mut(&peer) else { return };
                contact.sent(&message);
                if let Some(writer) = contact.writer.as_mut().filter(|w| w.number == number) {
                    writer.written();
                    self.server.sent(peer, message.served);
                    self.talkative.insert(peer);
                }
            }
            Event::WriteFailed { peer, number, error } => {
                let Some(contact) = self.contacts.get_mut(&peer) else { return };
                if contact.writer.as_ref().is_some_and(|writer| writer.number == number) {
                    tracing::debug!(%peer, %error, "nothing can be sent");
                    self.give_up(peer, is_unsupported(&error), now);
                }
            }
            Event::Dialled { peer, stream } => {
                self.dialling.remove(&peer);
                self.meet(peers);
                match (stream, self.contacts.get_mut(&peer)) {
                    (Ok(stream), Some(contact)) => {
                        contact.proven = true;
                        if contact.writer.is_none() {
                            self.start_writer(peer, Some(stream));
                        }
                        self.tell(peer, now);
                    }
                    (Ok(_), None) => {}
                    (Err(error), contact) => {
                        tracing::debug!(%peer, %error, "a provider cannot be reached");
                        if !contact.is_some_and(|contact| contact.told) {
                            self.client.disconnected(peer, now);
                        }
                    }
                }
            }
            Event::LookedUp { lookup, found } => {
                self.lookups -= 1;
                for reply in self.server.found(lookup, found) {
                    self.talkative.insert(reply.peer);
                    if let Some(contact) = self.contacts.get_mut(&reply.peer) {
                        contact.add_reply(reply);
                    }
                }
            }
        }
    }

    /// Nothing can be sent to this peer: it is asked for nothing and served nothing for a while.
    pub(super) fn give_up(&mut self, peer: PeerId, unsupported: bool, now: Duration) {
        if let Some(contact) = self.contacts.get_mut(&peer) {
            contact.failed(now, unsupported);
        }
        self.server.disconnected(peer);
        self.tell(peer, now);
    }
}

fn is_unsupported(error: &WriteError) -> bool {
    matches!(error, WriteError::Open(NetworkError::UnsupportedProtocol { .. }))
}
