//! `/tabpeer/peer-exchange/1.0.0`: two peers on a topic tell each other who else is on it and where.
//!
//! Gossipsub names subscribers to their neighbours, a relay its clients to each other ([`super::roster`]);
//! who is at different relays learns of each other by a third who is at both ([`super::introductions`]
//! says who tells whom). One stream is one exchange about one topic: whoever opens it writes a message,
//! the other answers with one, and does not if it is not on the topic itself. A message is its length as
//! an unsigned varint, then a protobuf message:
//!
//! | field | what |
//! |---|---|
//! | 1 | the topic, a string |
//! | 2 | somebody on it, repeated: a message with its id (1, bytes) and addresses (2, binary multiaddrs, repeated) |
//!
//! Fields that are not known are skipped; what is too long or too much is refused, not cut. What is said
//! proves nothing: whoever is dialled because of it shows who it is, and by gossipsub which topics it is on.

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use super::{MAX_TOPIC_NAME, check_name, rate::Flow};
use crate::content::varint::{Field, Fields, VarintError, read_varint, write_bytes, write_varint};

pub const PROTOCOL: StreamProtocol = StreamProtocol::new("/tabpeer/peer-exchange/1.0.0");
/// Peers that one message names.
pub const MAX_NAMED: usize = 16;
/// Addresses of each.
pub const MAX_ADDRESSES: usize = 4;
/// Bytes of an address.
pub const MAX_ADDRESS: usize = 512;
/// Bytes of a peer's id.
const MAX_ID: usize = 64;
/// The longest message without its length.
pub const MAX_MESSAGE: usize =
    MAX_TOPIC_NAME + MAX_NAMED * (MAX_ID + MAX_ADDRESSES * (MAX_ADDRESS + 3) + 8) + 8;
/// Exchanges that one peer may begin with us.
pub const ASK_FLOW: Flow = Flow::of_messages(1, 32);
/// Peers whom one peer names that we dial for it,
pub const TELLER_FLOW: Flow = Flow::of_messages(1, 16);
/// and whom all together name.
pub const TELLERS_FLOW: Flow = Flow::of_messages(2, 64);
/// Peers that we dial to begin an exchange, in so many seconds: each costs a circuit, which a relay
/// grants but some of, and whoever is told passes it on.
pub const DIAL_FLOW: Flow = Flow::of_messages(1, 8);
pub const DIAL_UNIT: u32 = 30;
/// Peers of whom it is remembered how much they ask.
pub const MAX_ASKERS: usize = 1024;

/// What one side says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub peers: Vec<Named>,
}

/// Somebody on the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub peer: PeerId,
    pub addresses: Vec<Multiaddr>,
}

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    #[error("an exchange of more than {MAX_MESSAGE} bytes")]
    TooLong,
    #[error("an exchange that is no message: {0}")]
    Protobuf(#[from] VarintError),
    #[error("an exchange with a wrong {0}")]
    Field(&'static str),
    #[error("an exchange with too many {0}")]
    TooMany(&'static str),
}

impl Message {
    /// With its length in front. What is over a limit is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        write_bytes(&mut body, 1, self.topic.as_bytes());
        for named in self.peers.iter().take(MAX_NAMED) {
            let mut peer = Vec::new();
            write_bytes(&mut peer, 1, &named.peer.to_bytes());
            let addresses = named.addresses.iter().map(Multiaddr::as_ref);
            let short = addresses.filter(|address: &&[u8]| address.len() <= MAX_ADDRESS);
            short.take(MAX_ADDRESSES).for_each(|address| write_bytes(&mut peer, 2, address));
            write_bytes(&mut body, 2, &peer);
        }
        let mut message = Vec::with_capacity(body.len() + 3);
        write_varint(&mut message, body.len() as u64);
        message.extend_from_slice(&body);
        message
    }

    /// Reads a message without its length.
    pub fn decode(body: Vec<u8>) -> Result<Self, ExchangeError> {
        if body.len() > MAX_MESSAGE {
            return Err(ExchangeError::TooLong);
        }
        let mut fields = Fields::new(body.into());
        let (mut topic, mut peers) = (None, Vec::new());
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(name)) => {
                    let name = std::str::from_utf8(&name).ok();
                    let name = name.filter(|name| check_name(name).is_ok());
                    topic = Some(name.ok_or(ExchangeError::Field("topic"))?.to_owned());
                }
                (2, Field::Bytes(named)) => {
                    if peers.len() == MAX_NAMED {
                        return Err(ExchangeError::TooMany("peers"));
                    }
                    peers.push(Named::decode(named)?);
                }
                _ => {}
            }
        }
        Ok(Self { topic: topic.ok_or(ExchangeError::Field("topic"))?, peers })
    }
}

impl Named {
    fn decode(message: Bytes) -> Result<Self, ExchangeError> {
        let mut fields = Fields::new(message);
        let (mut peer, mut addresses, mut count) = (None, Vec::new(), 0);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(id)) => {
                    let id = (id.len() <= MAX_ID).then(|| PeerId::from_bytes(&id).ok()).flatten();
                    peer = Some(id.ok_or(ExchangeError::Field("peer"))?);
                }
                (2, Field::Bytes(address)) => {
                    count += 1;
                    if count > MAX_ADDRESSES {
                        return Err(ExchangeError::TooMany("addresses"));
                    }
                    if address.len() > MAX_ADDRESS {
                        return Err(ExchangeError::Field("address"));
                    }
                    // An address of a kind that is not known here is no mistake of the peer's.
                    addresses.extend(Multiaddr::try_from(address.to_vec()).ok());
                }
                _ => {}
            }
        }
        Ok(Self { peer: peer.ok_or(ExchangeError::Field("peer"))?, addresses })
    }
}

/// The length of the message that begins with `bytes`; `None`: more bytes are needed to know.
pub fn frame(bytes: &[u8]) -> Result<Option<usize>, ExchangeError> {
    let Some((len, _)) = read_varint(bytes)? else { return Ok(None) };
    match usize::try_from(len) {
        Ok(len) if len <= MAX_MESSAGE => Ok(Some(len)),
        _ => Err(ExchangeError::TooLong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(addresses: usize) -> Named {
        let address = |port| format!("/ip4/127.0.0.1/tcp/{port}/ws").parse().expect("an address");
        Named { peer: PeerId::random(), addresses: (1..=addresses).map(address).collect() }
    }

    fn decode(framed: &[u8]) -> Result<Message, ExchangeError> {
        let (len, start) = read_varint(framed).expect("a varint").expect("whole");
        assert_eq!(frame(framed), Ok(Some(len as usize)));
        assert_eq!(len as usize, framed.len() - start);
        Message::decode(framed[start..].to_vec())
    }

    fn body(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        parts.iter().for_each(|(number, bytes)| write_bytes(&mut body, *number, bytes));
        body
    }

    #[test]
    fn messages_come_as_they_were_sent() {
        for peers in [vec![], vec![named(0)], vec![named(1), named(MAX_ADDRESSES)]] {
            let message = Message { topic: "röom".into(), peers };
            assert_eq!(decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn what_is_too_much_is_not_sent() {
        let mut peers: Vec<Named> = (0..MAX_NAMED + 1).map(|_| named(MAX_ADDRESSES + 1)).collect();
        let label = "x".repeat(200);
        let long = format!("/dns/{label}/tcp/1/tls/sni/{label}/ws/p2p-circuit/dns/{label}");
        peers[0].addresses.insert(0, long.parse().expect("an address"));
        assert!(peers[0].addresses[0].len() > MAX_ADDRESS);
        let sent = Message { topic: "t".into(), peers };
        let came = decode(&sent.encode()).expect("a message");
        assert_eq!(came.peers.len(), MAX_NAMED);
        for (came, sent) in came.peers.iter().zip(&sent.peers) {
            let whole = sent.addresses.iter().filter(|address| address.len() <= MAX_ADDRESS);
            assert!(came.addresses.iter().eq(whole.take(MAX_ADDRESSES)));
        }
    }

    #[test]
    fn the_longest_message_fits() {
        let label = "x".repeat(MAX_ADDRESS - 12);
        let long: Multiaddr = format!("/dns/{label}/tcp/1").parse().expect("an address");
        assert!(long.len() <= MAX_ADDRESS && long.len() > MAX_ADDRESS - 8);
        let named = Named { addresses: vec![long; MAX_ADDRESSES], ..named(0) };
        let peers = vec![named; MAX_NAMED];
        let message = Message { topic: "x".repeat(MAX_TOPIC_NAME), peers };
        assert_eq!(decode(&message.encode()), Ok(message));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        use ExchangeError::{Field, Protobuf, TooLong, TooMany};
        let id = PeerId::random().to_bytes();
        let peer = body(&[(1, &id)]);
        let decode = |parts: &[(u32, &[u8])]| Message::decode(body(parts)).map(|m| m.peers.len());
        assert_eq!(decode(&[(1, b"t"), (2, &peer), (3, b"unknown")]), Ok(1));
        assert_eq!(decode(&[(2, &peer)]), Err(Field("topic")));
        assert_eq!(decode(&[(1, b"")]), Err(Field("topic")));
        assert_eq!(decode(&[(1, &[0xff])]), Err(Field("topic")));
        assert_eq!(decode(&[(1, &[b'x'; MAX_TOPIC_NAME + 1])]), Err(Field("topic")));
        assert_eq!(decode(&[(1, b"t"), (2, b"")]), Err(Field("peer")));
        assert_eq!(decode(&[(1, b"t"), (2, &body(&[(1, b"id")]))]), Err(Field("peer")));
        let long = body(&[(1, &id), (2, &[0; MAX_ADDRESS + 1])]);
        assert_eq!(decode(&[(1, b"t"), (2, &long)]), Err(Field("address")));
        let odd = body(&[(1, &id), (2, &[0xff; 9])]);
        assert_eq!(decode(&[(1, b"t"), (2, &odd)]), Ok(1), "an address of another kind");
        let mut many = vec![(1, &id[..])];
        many.extend([(2, &[4, 127, 0, 0, 1][..]); MAX_ADDRESSES + 1]);
        assert_eq!(decode(&[(1, b"t"), (2, &body(&many))]), Err(TooMany("addresses")));
        let mut many = vec![(1, &b"t"[..])];
        many.extend([(2, &peer[..]); MAX_NAMED + 1]);
        assert_eq!(decode(&many), Err(TooMany("peers")));
        assert_eq!(Message::decode(vec![0; MAX_MESSAGE + 1]), Err(TooLong));
        assert_eq!(Message::decode(vec![0x0a, 9]), Err(Protobuf(VarintError::Truncated)));
        assert_eq!(frame(&[0xff, 0xff, 0x7f]), Err(TooLong));
        assert_eq!(frame(&[0xff; 10]), Err(Protobuf(VarintError::BadVarint)));
        assert_eq!(frame(&[0xff]), Ok(None));
    }
}
