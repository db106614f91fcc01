//! What one peer tells another about itself on `/tabpeer/capabilities/1.0.0`: one stream for each
//! message, on it the length as an unsigned varint, then a protobuf message.
//!
//! | field | what |
//! |---|---|
//! | 1 | DID, a string |
//! | 2 | kind of IPFS node: 1 tabpeer, 2 kubo, 3 helia, 4 gateway-only |
//! | 3 | enabled: 1 if it serves content at all |
//! | 4 | URL of a public gateway, repeated |
//! | 5 | swarm address, a binary multiaddr, repeated |
//! | 6 | bytes per second that it wants to send at most; absent: no limit |
//! | 7, 8 | bits of the filter of its content, and how many positions an element has |
//! | 9 | sequence number, growing with each change |
//!
//! Fields that are not known are skipped. Lists that are too long are refused, not cut.

use bytes::Bytes;
use libp2p::Multiaddr;

use super::{
    bloom::{Bloom, BloomError, MAX_FILTER},
    did::MAX_DID,
};
use crate::content::varint::{
    Field, Fields, VarintError, read_varint, write_bytes, write_uint, write_varint,
};

pub const PROTOCOL: &str = "/tabpeer/capabilities/1.0.0";
/// Gateways that a peer names.
pub const MAX_GATEWAYS: usize = 8;
/// Addresses that a peer names.
pub const MAX_ADDRESSES: usize = 16;
/// Longest URL of a gateway.
pub const MAX_URL: usize = 512;
/// Longest binary multiaddr.
pub const MAX_ADDRESS: usize = 512;
/// Longest message without its length: the largest filter and all else at its longest.
pub const MAX_MESSAGE: usize =
    MAX_FILTER + MAX_GATEWAYS * MAX_URL + MAX_ADDRESSES * MAX_ADDRESS + MAX_DID + 256;

/// What software a peer runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpfsKind {
    Tabpeer,
    Kubo,
    /// Or another program on js-libp2p.
    Helia,
    /// It has no node of its own and goes through gateways.
    GatewayOnly,
}

/// What a peer says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerCapabilities {
    /// That of its key: another one is not believed.
    pub did: Option<String>,
    pub kind: IpfsKind,
    /// It serves content.
    pub enabled: bool,
    pub gateways: Vec<String>,
    pub swarm_addresses: Vec<Multiaddr>,
    /// Bytes per second.
    pub bandwidth_limit: Option<u64>,
    /// The roots of the files and directories that it has.
    pub content: Option<Bloom>,
    /// Grows with each change.
    pub sequence: u64,
}

/// Why a message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("capabilities of more than {MAX_MESSAGE} bytes")]
    TooLong,
    #[error("capabilities that are no message: {0}")]
    Protobuf(#[from] VarintError),
    #[error("capabilities with a wrong {0}")]
    Field(&'static str),
    #[error("capabilities with too many {0}")]
    TooMany(&'static str),
    #[error("capabilities with {0}")]
    Filter(#[from] BloomError),
}

impl IpfsKind {
    pub const ALL: [Self; 4] = [Self::Tabpeer, Self::Kubo, Self::Helia, Self::GatewayOnly];

    /// As the app sees it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tabpeer => "tabpeer",
            Self::Kubo => "kubo",
            Self::Helia => "helia",
            Self::GatewayOnly => "gateway-only",
        }
    }

    /// Told from what a peer calls itself in identify.
    pub fn of_agent(agent: &str) -> Option<Self> {
        let is = |names: &[&str]| names.iter().any(|name| agent.starts_with(name));
        if is(&["tabpeer"]) {
            Some(Self::Tabpeer)
        } else if is(&["kubo", "go-ipfs"]) {
            Some(Self::Kubo)
        } else if is(&["helia", "@helia", "js-libp2p"]) {
            Some(Self::Helia)
        } else {
            None
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Tabpeer => 1,
            Self::Kubo => 2,
            Self::Helia => 3,
            Self::GatewayOnly => 4,
        }
    }
}

impl PeerCapabilities {
    /// What can be said of a peer that says nothing itself.
    pub fn inferred(kind: IpfsKind, did: Option<String>, enabled: bool) -> Self {
        Self {
            did,
            kind,
            enabled,
            gateways: Vec::new(),
            swarm_addresses: Vec::new(),
            bandwidth_limit: None,
            content: None,
            sequence: 0,
        }
    }

    /// The message with its length. What is over a limit is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(did) = self.did.as_ref().filter(|did| did.len() <= MAX_DID) {
            write_bytes(&mut body, 1, did.as_bytes());
        }
        write_uint(&mut body, 2, self.kind.number());
        write_uint(&mut body, 3, self.enabled.into());
        let gateways = self.gateways.iter().filter(|url| is_gateway(url));
        gateways.take(MAX_GATEWAYS).for_each(|url| write_bytes(&mut body, 4, url.as_bytes()));
        let addresses = self.swarm_addresses.iter().map(Multiaddr::as_ref);
        let short = addresses.filter(|address: &&[u8]| address.len() <= MAX_ADDRESS);
        short.take(MAX_ADDRESSES).for_each(|address| write_bytes(&mut body, 5, address));
        if let Some(limit) = self.bandwidth_limit {
            write_uint(&mut body, 6, limit);
        }
        if let Some(content) = &self.content {
            write_bytes(&mut body, 7, content.bits());
            write_uint(&mut body, 8, content.hashes().into());
        }
        write_uint(&mut body, 9, self.sequence);
        let mut message = Vec::with_capacity(body.len() + 3);
        write_varint(&mut message, body.len() as u64);
        message.extend_from_slice(&body);
        message
    }

    /// Reads a message without its length.
    pub fn decode(body: &[u8]) -> Result<Self, MessageError> {
        if body.len() > MAX_MESSAGE {
            return Err(MessageError::TooLong);
        }
        // Copied, so that a small filter does not keep the whole buffer.
        let mut fields = Fields::new(Bytes::copy_from_slice(body));
        let (mut kind, mut filter, mut hashes) = (None, None, None);
        let mut out = Self::inferred(IpfsKind::Tabpeer, None, false);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Bytes(did)) => out.did = Some(text(&did, MAX_DID, "DID")?),
                (2, Field::Uint(number)) => {
                    let known = IpfsKind::ALL.into_iter().find(|kind| kind.number() == number);
                    kind = Some(known.ok_or(MessageError::Field("kind"))?);
                }
                (3, Field::Uint(enabled)) => out.enabled = enabled != 0,
                (4, Field::Bytes(url)) => {
                    if out.gateways.len() == MAX_GATEWAYS {
                        return Err(MessageError::TooMany("gateways"));
                    }
                    let url = text(&url, MAX_URL, "gateway")?;
                    if !is_gateway(&url) {
                        return Err(MessageError::Field("gateway"));
                    }
                    out.gateways.push(url);
                }
                (5, Field::Bytes(address)) => {
                    if out.swarm_addresses.len() == MAX_ADDRESSES {
                        return Err(MessageError::TooMany("addresses"));
                    }
                    if address.len() > MAX_ADDRESS {
                        return Err(MessageError::Field("address"));
                    }
                    // An address of a kind that is not known here is no mistake of the peer's.
                    out.swarm_addresses.extend(Multiaddr::try_from(address.to_vec()).ok());
                }
                (6, Field::Uint(limit)) => out.bandwidth_limit = Some(limit),
                (7, Field::Bytes(bits)) => filter = Some(bits),
                (8, Field::Uint(count)) => hashes = Some(count),
                (9, Field::Uint(sequence)) => out.sequence = sequence,
                _ => {}
            }
        }
        out.kind = kind.ok_or(MessageError::Field("kind"))?;
        out.content = match (filter, hashes) {
            (Some(bits), Some(hashes)) => Some(Bloom::from_parts(bits, hashes)?),
            (None, None) => None,
            _ => return Err(MessageError::Field("filter")),
        };
        Ok(out)
    }
}

/// The length of the message that begins with `bytes`, and where it begins; `None`: more bytes are
/// needed to know.
pub fn frame(bytes: &[u8]) -> Result<Option<(usize, usize)>, MessageError> {
    let Some((len, header)) = read_varint(bytes)? else { return Ok(None) };
    match usize::try_from(len) {
        Ok(len) if len <= MAX_MESSAGE => Ok(Some((len, header))),
        _ => Err(MessageError::TooLong),
    }
}

fn text(bytes: &[u8], max: usize, what: &'static str) -> Result<String, MessageError> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= max);
    let text = text.filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or(MessageError::Field(what))
}

fn is_gateway(url: &str) -> bool {
    url.len() <= MAX_URL && (url.starts_with("https://") || url.starts_with("http://"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::block::{RAW, cid_of, sha256},
        exchange::capabilities::bloom::Element,
    };
    use proptest::prelude::*;

    fn full() -> PeerCapabilities {
        let cid = |i: u32| cid_of(cid::Version::V1, RAW, &sha256(&i.to_be_bytes()));
        let content: Vec<Element> = (0..300).filter_map(|i| Element::of(&cid(i))).collect();
        PeerCapabilities {
            did: Some("did:key:z6MkExample".into()),
            kind: IpfsKind::GatewayOnly,
            enabled: true,
            gateways: vec!["https://gateway.example".into(), "http://127.0.0.1:8080/".into()],
            swarm_addresses: vec!["/ip4/127.0.0.1/tcp/4001/ws".parse().expect("an address")],
            bandwidth_limit: Some(1 << 40),
            content: Some(Bloom::of(content.into_iter())),
            sequence: u64::MAX,
        }
    }

    fn body(capabilities: &PeerCapabilities) -> Vec<u8> {
        let message = capabilities.encode();
        let (len, header) = frame(&message).expect("a length").expect("whole");
        assert_eq!(message.len(), len + header);
        message[header..].to_vec()
    }

    #[test]
    fn capabilities_round_trip() {
        for kind in IpfsKind::ALL {
            for capabilities in
                [PeerCapabilities { kind, ..full() }, PeerCapabilities::inferred(kind, None, false)]
            {
                let decoded = PeerCapabilities::decode(&body(&capabilities));
                assert_eq!(decoded, Ok(capabilities));
            }
        }
    }

    #[test]
    fn what_is_over_a_limit_is_not_sent_and_not_accepted() {
        let mut too_much = full();
        too_much.gateways = vec!["https://a.example".into(); MAX_GATEWAYS + 1];
        too_much.gateways.insert(0, format!("https://{}", "a".repeat(MAX_URL)));
        too_much.gateways.insert(0, "javascript:alert(1)".into());
        too_much.swarm_addresses = vec!["/memory/1".parse().expect("one"); MAX_ADDRESSES + 1];
        too_much.did = Some("d".repeat(MAX_DID + 1));
        let decoded = PeerCapabilities::decode(&body(&too_much)).expect("cut");
        assert_eq!(decoded.gateways.len(), MAX_GATEWAYS);
        assert_eq!(decoded.swarm_addresses.len(), MAX_ADDRESSES);
        assert_eq!(decoded.did, None);

        let with = |more: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = body(&full());
            more(&mut bytes);
            PeerCapabilities::decode(&bytes).expect_err("refused")
        };
        let gateways = |out: &mut Vec<u8>| {
            (0..MAX_GATEWAYS).for_each(|_| write_bytes(out, 4, b"https://a.example"));
        };
        assert_eq!(with(&gateways), MessageError::TooMany("gateways"));
        let addresses = |out: &mut Vec<u8>| {
            let address: Multiaddr = "/memory/1".parse().expect("an address");
            (0..MAX_ADDRESSES).for_each(|_| write_bytes(out, 5, address.as_ref()));
        };
        assert_eq!(with(&addresses), MessageError::TooMany("addresses"));
        let wrong = |what| MessageError::Field(what);
        assert_eq!(with(&|out| write_uint(out, 2, 9)), wrong("kind"));
        assert_eq!(with(&|out| write_bytes(out, 4, b"ftp://a.example")), wrong("gateway"));
        assert_eq!(with(&|out| write_bytes(out, 1, b"did:\n")), wrong("DID"));
        assert_eq!(with(&|out| write_bytes(out, 5, &[1; MAX_ADDRESS + 1])), wrong("address"));
        assert_eq!(with(&|out| write_bytes(out, 7, &[0; 65])), BloomError::Size(65).into());
        assert_eq!(with(&|out| write_uint(out, 8, 0)), BloomError::Hashes(0).into());
        assert_eq!(PeerCapabilities::decode(&[0; MAX_MESSAGE + 1]), Err(MessageError::TooLong));
        assert_eq!(PeerCapabilities::decode(&[]), Err(wrong("kind")));
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        let mut bytes = body(&full());
        write_uint(&mut bytes, 100, 7);
        write_bytes(&mut bytes, 101, b"more");
        assert_eq!(PeerCapabilities::decode(&bytes), Ok(full()));
    }

    #[test]
    fn the_largest_message_fits_its_limit() {
        let mut largest = full();
        largest.did = Some("d".repeat(MAX_DID));
        largest.gateways = vec![format!("https://{}", "a".repeat(MAX_URL - 8)); MAX_GATEWAYS];
        largest.content = Bloom::from_parts(vec![0x11; MAX_FILTER].into(), 16).ok();
        let longest = format!("/dns4/{}/tcp/65535", "a".repeat(MAX_ADDRESS - 7));
        let longest: Multiaddr = longest.parse().expect("an address");
        largest.swarm_addresses = vec![longest; MAX_ADDRESSES];
        let decoded = PeerCapabilities::decode(&body(&largest)).expect("it fits");
        assert_eq!(decoded.gateways.len(), MAX_GATEWAYS);
        assert!(decoded.content.is_some());
    }

    #[test]
    fn a_length_over_the_limit_is_refused_at_once() {
        let mut bytes = Vec::new();
        write_varint(&mut bytes, MAX_MESSAGE as u64 + 1);
        assert_eq!(frame(&bytes), Err(MessageError::TooLong));
        assert_eq!(frame(&bytes[..1]), Ok(None));
        assert!(frame(&[0xff; 10]).is_err());
    }

    #[test]
    fn kinds_are_told_from_agents() {
        for (agent, kind) in [
            ("kubo/0.22.0/", Some(IpfsKind::Kubo)),
            ("go-ipfs/0.12.0/", Some(IpfsKind::Kubo)),
            ("helia/7.1.0 libp2p/3.3.0 node/20", Some(IpfsKind::Helia)),
            ("js-libp2p/3.3.0 browser", Some(IpfsKind::Helia)),
            ("tabpeer/0.1.0", Some(IpfsKind::Tabpeer)),
            ("tabpeer-relay/0.1.0", Some(IpfsKind::Tabpeer)),
            ("", None),
            ("my-kubo", None),
        ] {
            assert_eq!(IpfsKind::of_agent(agent), kind, "{agent}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_what_is_read_is_written_alike(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = PeerCapabilities::decode(&bytes) {
                prop_assert_eq!(PeerCapabilities::decode(&body(&read)), Ok(read));
            }
            let _ = frame(&bytes);
        }

        #[test]
        fn no_change_of_a_message_panics(at in 0usize..900, byte in any::<u8>(), cut in 0usize..900) {
            let mut bytes = body(&full());
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut.max(1));
            let _ = PeerCapabilities::decode(&bytes);
        }
    }
}
