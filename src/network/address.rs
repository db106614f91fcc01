//! What an address means to this peer: by which transport it goes, whether that transport exists
//! here, and which of several to try first.
//!
//! `identify` tells a browser every address of a relay, TCP and QUIC included, so nothing enters an
//! address book before it has passed through here.

use std::net::IpAddr;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// The most protocols in an address that we look at; a longer one is refused.
const MAX_PROTOCOLS: usize = 16;

/// Who dials. Decides which transports there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialer {
    /// A native process: TCP and WebSocket.
    Native,
    /// A page or a worker.
    Browser {
        /// Served over https: the browser refuses `ws:` to anything but this machine.
        https: bool,
        /// WebTransport exists, which also needs a secure context.
        webtransport: bool,
    },
}

/// The transport of a direct address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    WebTransport,
    SecureWebSocket,
    WebSocket,
    Tcp,
}

impl Dialer {
    /// How soon to try `address`, lowest first; `None`: it cannot be dialled from here. Of a
    /// circuit, the part up to the relay counts.
    pub fn rank(self, address: &Multiaddr) -> Option<u8> {
        match split_circuit(address) {
            Some((relay, _)) => self.rank_direct(&relay),
            None => self.rank_direct(address),
        }
    }

    fn rank_direct(self, address: &Multiaddr) -> Option<u8> {
        let carrier = carrier(address)?;
        match self {
            Self::Native => match carrier {
                Carrier::Tcp => Some(0),
                Carrier::WebSocket => Some(1),
                Carrier::SecureWebSocket => Some(2),
                Carrier::WebTransport => None,
            },
            Self::Browser { https, webtransport } => match carrier {
                Carrier::WebTransport => webtransport.then_some(0),
                Carrier::SecureWebSocket => Some(1),
                Carrier::WebSocket => (!https || is_loopback(address)).then_some(2),
                Carrier::Tcp => None,
            },
        }
    }

    /// The addresses that can be dialled from here, best first, without duplicates, at most `limit`.
    pub fn usable(
        self,
        addresses: impl IntoIterator<Item = Multiaddr>,
        limit: usize,
    ) -> Vec<Multiaddr> {
        let mut ranked: Vec<(u8, Multiaddr)> = Vec::new();
        for address in addresses {
            if let Some(rank) = self.rank(&address)
                && !ranked.iter().any(|(_, known)| *known == address)
            {
                ranked.push((rank, address));
            }
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.truncate(limit);
        ranked.into_iter().map(|(_, address)| address).collect()
    }
}

/// By which transport a direct address goes; `None` for a circuit, for anything that carries more
/// protocols after the transport than the peer's id, and for transports that we do not have.
pub fn carrier(address: &Multiaddr) -> Option<Carrier> {
    if address.iter().count() > MAX_PROTOCOLS {
        return None;
    }
    let mut rest = address.iter().peekable();
    match rest.next()? {
        Protocol::Ip4(_)
        | Protocol::Ip6(_)
        | Protocol::Dns(_)
        | Protocol::Dns4(_)
        | Protocol::Dns6(_) => {}
        _ => return None,
    }
    let carrier = match rest.next()? {
        Protocol::Tcp(_) => match rest.peek() {
            Some(Protocol::Ws(_)) => {
                rest.next();
                Carrier::WebSocket
            }
            Some(Protocol::Wss(_)) => {
                rest.next();
                Carrier::SecureWebSocket
            }
            Some(Protocol::Tls) => {
                rest.next();
                if let Some(Protocol::Sni(_)) = rest.peek() {
                    rest.next();
                }
                match rest.next()? {
                    Protocol::Ws(_) => Carrier::SecureWebSocket,
                    _ => return None,
                }
            }
            _ => Carrier::Tcp,
        },
        Protocol::Udp(_) => {
            if !matches!(rest.next()?, Protocol::QuicV1 | Protocol::Quic)
                || !matches!(rest.next()?, Protocol::WebTransport)
            {
                return None;
            }
            while let Some(Protocol::Certhash(_)) = rest.peek() {
                rest.next();
            }
            Carrier::WebTransport
        }
        _ => return None,
    };
    match (rest.next(), rest.next()) {
        (None, _) | (Some(Protocol::P2p(_)), None) => Some(carrier),
        _ => None,
    }
}

/// The id at the end of an address.
pub fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// The address without the id at its end.
pub fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if peer_of(&address).is_some() {
        address.pop();
    }
    address
}

/// A circuit's address as the part up to and with the relay's id, and what follows `p2p-circuit`.
pub fn split_circuit(address: &Multiaddr) -> Option<(Multiaddr, Multiaddr)> {
    let mut protocols = address.iter();
    let mut relay = Multiaddr::empty();
    for protocol in protocols.by_ref() {
        if protocol == Protocol::P2pCircuit {
            return Some((relay, protocols.collect()));
        }
        relay.push(protocol);
    }
    None
}

/// The relay that a circuit's address goes through.
pub fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    split_circuit(address).and_then(|(relay, _)| peer_of(&relay))
}

/// The address of `peer` through the relay at `relay_address`.
pub fn through_relay(relay_address: &Multiaddr, relay: PeerId, peer: PeerId) -> Multiaddr {
    circuit(relay_address, relay).with(Protocol::P2p(peer))
}

/// The address to listen on for circuits of the relay at `relay_address`.
pub fn circuit(relay_address: &Multiaddr, relay: PeerId) -> Multiaddr {
    without_peer(relay_address.clone()).with(Protocol::P2p(relay)).with(Protocol::P2pCircuit)
}

fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Protocol::Ip6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
            name == "localhost" || name.ends_with(".localhost")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWR7EfNv5SLtgjMRjUwR8AvNu3hP4fLrtSa9fmHHXKYWNG";

    fn address(text: &str) -> Multiaddr {
        text.replace("ID", ID).parse().expect("a valid address in the test")
    }

    #[test]
    fn carriers() {
        let table = [
            ("/ip4/127.0.0.1/tcp/1", Some(Carrier::Tcp)),
            ("/ip4/127.0.0.1/tcp/1/p2p/ID", Some(Carrier::Tcp)),
            ("/ip6/::1/tcp/1/ws", Some(Carrier::WebSocket)),
            ("/dns4/example.org/tcp/443/wss/p2p/ID", Some(Carrier::SecureWebSocket)),
            ("/dns/example.org/tcp/443/tls/ws/p2p/ID", Some(Carrier::SecureWebSocket)),
            ("/dns/example.org/tcp/443/tls/sni/example.org/ws", Some(Carrier::SecureWebSocket)),
            ("/ip4/1.2.3.4/udp/1/quic-v1/webtransport/p2p/ID", Some(Carrier::WebTransport)),
            ("/ip4/1.2.3.4/udp/1/quic-v1", None),
            ("/ip4/1.2.3.4/udp/1/webrtc-direct", None),
            ("/ip4/127.0.0.1/tcp/1/ws/p2p/ID/p2p-circuit", None),
            ("/ip4/127.0.0.1/tcp/1/ws/p2p/ID/p2p-circuit/p2p/ID", None),
            ("/ip4/127.0.0.1/tcp/1/p2p/ID/p2p-circuit/webrtc/p2p/ID", None),
            ("/ip4/127.0.0.1/tcp/1/ws/ws", None),
            ("/p2p/ID", None),
        ];
        for (text, expected) in table {
            assert_eq!(carrier(&address(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_secure_page_cannot_dial_ws_but_to_its_own_machine() {
        let secure = Dialer::Browser { https: true, webtransport: true };
        let plain = Dialer::Browser { https: false, webtransport: false };
        assert_eq!(secure.rank(&address("/ip4/192.0.2.1/tcp/1/ws")), None);
        assert!(secure.rank(&address("/ip4/127.0.0.1/tcp/1/ws")).is_some());
        assert!(secure.rank(&address("/dns/localhost/tcp/1/ws")).is_some());
        assert!(plain.rank(&address("/ip4/192.0.2.1/tcp/1/ws")).is_some());
        assert_eq!(plain.rank(&address("/ip4/192.0.2.1/udp/1/quic-v1/webtransport")), None);
        assert_eq!(plain.rank(&address("/ip4/192.0.2.1/tcp/1")), None);
        assert_eq!(
            Dialer::Native.rank(&address("/ip4/192.0.2.1/udp/1/quic-v1/webtransport")),
            None
        );
    }

    #[test]
    fn circuits_are_judged_by_their_relay() {
        let through_ws = address("/ip4/127.0.0.1/tcp/1/ws/p2p/ID/p2p-circuit/p2p/ID");
        let through_tcp = address("/ip4/127.0.0.1/tcp/1/p2p/ID/p2p-circuit/p2p/ID");
        let browser = Dialer::Browser { https: false, webtransport: true };
        assert!(browser.rank(&through_ws).is_some());
        assert!(browser.rank(&through_tcp).is_none());
        assert_eq!(relay_of(&through_ws), ID.parse().ok());
        assert_eq!(relay_of(&address("/ip4/127.0.0.1/tcp/1/p2p/ID")), None);
    }

    #[test]
    fn the_best_address_comes_first_and_once() {
        let browser = Dialer::Browser { https: false, webtransport: true };
        let given = [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/127.0.0.1/tcp/2/ws",
            "/dns/a.example/tcp/3/wss",
            "/ip4/127.0.0.1/udp/4/quic-v1/webtransport",
            "/ip4/127.0.0.1/tcp/2/ws",
        ];
        let usable = browser.usable(given.map(address), 8);
        assert_eq!(usable, [3, 2, 1].map(|i: usize| address(given[i])));
        assert_eq!(browser.usable(given.map(address), 1).len(), 1);
    }

    #[test]
    fn circuit_addresses_carry_the_relay_once() {
        let relay: PeerId = ID.parse().expect("a peer id");
        let peer = PeerId::random();
        for base in ["/ip4/127.0.0.1/tcp/1/ws", "/ip4/127.0.0.1/tcp/1/ws/p2p/ID"] {
            assert_eq!(
                through_relay(&address(base), relay, peer).to_string(),
                format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{ID}/p2p-circuit/p2p/{peer}")
            );
        }
    }
}
