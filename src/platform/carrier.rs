//! By which transport an address goes, and which transports there are where this runs.

use std::{iter::Peekable, net::IpAddr};

use libp2p::{Multiaddr, multiaddr::Protocol};

/// The most protocols in an address that we look at; a longer one is refused.
const MAX_PROTOCOLS: usize = 16;

/// The transport of a direct address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    WebTransport,
    SecureWebSocket,
    WebSocket,
    Tcp,
    /// Another tab of this origin. Of no meaning to anybody else, so such an address is neither told nor
    /// taken from others: it has no rank, and only what found the tab dials it.
    Tab,
}

impl Carrier {
    /// By which transport a direct address goes; `None` for a circuit, for anything that carries more
    /// protocols after the transport than the peer's id, and for transports that we do not have.
    pub fn of(address: &Multiaddr) -> Option<Self> {
        if address.iter().count() > MAX_PROTOCOLS {
            return None;
        }
        let mut rest = address.iter().peekable();
        let carrier = match rest.next()? {
            Protocol::Memory(_) => Self::Tab,
            Protocol::Ip4(_)
            | Protocol::Ip6(_)
            | Protocol::Dns(_)
            | Protocol::Dns4(_)
            | Protocol::Dns6(_) => Self::over_ip(&mut rest)?,
            _ => return None,
        };
        match (rest.next(), rest.next()) {
            (None, _) | (Some(Protocol::P2p(_)), None) => Some(carrier),
            _ => None,
        }
    }

    /// Of what follows the host.
    fn over_ip<'a>(rest: &mut Peekable<impl Iterator<Item = Protocol<'a>>>) -> Option<Self> {
        Some(match rest.next()? {
            Protocol::Tcp(_) => match rest.peek() {
                Some(Protocol::Ws(_)) => {
                    rest.next();
                    Self::WebSocket
                }
                Some(Protocol::Wss(_)) => {
                    rest.next();
                    Self::SecureWebSocket
                }
                Some(Protocol::Tls) => {
                    rest.next();
                    if let Some(Protocol::Sni(_)) = rest.peek() {
                        rest.next();
                    }
                    match rest.next()? {
                        Protocol::Ws(_) => Self::SecureWebSocket,
                        _ => return None,
                    }
                }
                _ => Self::Tcp,
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
                Self::WebTransport
            }
            _ => return None,
        })
    }
}

impl Carrier {
    /// Those that are dialled over a network, from the slowest to set up to the fastest; the secure form
    /// of one has its name.
    const ALL: [Self; 4] = [Self::Tcp, Self::WebSocket, Self::SecureWebSocket, Self::WebTransport];

    /// The transport's name for an app.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebTransport => "webtransport",
            Self::SecureWebSocket | Self::WebSocket => "websocket",
            Self::Tcp => "tcp",
            Self::Tab => "tab",
        }
    }
}

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

impl Dialer {
    /// The transports that there are here.
    pub fn transports(self) -> Vec<&'static str> {
        let here = |carrier: &Carrier| match self {
            Self::Native => *carrier != Carrier::WebTransport,
            Self::Browser { webtransport, .. } => match carrier {
                Carrier::Tcp | Carrier::Tab => false,
                Carrier::WebTransport => webtransport,
                _ => true,
            },
        };
        let mut names: Vec<_> = Carrier::ALL.iter().filter(|c| here(c)).map(|c| c.name()).collect();
        names.dedup();
        names
    }

    /// How soon to try a direct address, lowest first; `None`: it cannot be dialled from here.
    pub fn rank_direct(self, address: &Multiaddr) -> Option<u8> {
        let carrier = Carrier::of(address)?;
        match self {
            Self::Native => match carrier {
                Carrier::Tcp => Some(0),
                Carrier::WebSocket => Some(1),
                Carrier::SecureWebSocket => Some(2),
                Carrier::WebTransport | Carrier::Tab => None,
            },
            Self::Browser { https, webtransport } => match carrier {
                Carrier::WebTransport => webtransport.then_some(0),
                Carrier::SecureWebSocket => Some(1),
                Carrier::WebSocket => (!https || is_loopback(address)).then_some(2),
                Carrier::Tcp | Carrier::Tab => None,
            },
        }
    }
}

/// Whether the address is one of this machine.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    begins(address, "localhost", |ip| ip.is_loopback())
}

/// Whether the address, that of its relay if it is a circuit, is one of this machine or of the local
/// network.
pub fn is_local(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Memory(_)))
        || is_loopback(address)
        || begins(address, "local", |ip| match ip.to_canonical() {
            IpAddr::V4(ip) => {
                ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified()
            }
            IpAddr::V6(ip) => {
                ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified()
            }
        })
}

/// Whether it begins with such an IP, or with a name in such a domain.
fn begins(address: &Multiaddr, domain: &str, is: impl Fn(IpAddr) -> bool) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => is(ip.into()),
        Some(Protocol::Ip6(ip)) => is(ip.into()),
        Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => {
            let rest = name.trim_end_matches('.').strip_suffix(domain);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
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
    fn transports_are_named_once() {
        let browser = |webtransport| Dialer::Browser { https: true, webtransport }.transports();
        assert_eq!(browser(true), ["websocket", "webtransport"]);
        assert_eq!(browser(false), ["websocket"]);
        assert_eq!(Dialer::Native.transports(), ["tcp", "websocket"]);
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
            ("/memory/7", Some(Carrier::Tab)),
            ("/memory/7/p2p/ID", Some(Carrier::Tab)),
            ("/memory/7/ws", None),
            ("/memory/7/p2p/ID/p2p-circuit/p2p/ID", None),
        ];
        for (text, expected) in table {
            assert_eq!(Carrier::of(&address(text)), expected, "{text}");
        }
    }

    #[test]
    fn nobody_dials_a_tab_because_somebody_names_it() {
        let browser = Dialer::Browser { https: true, webtransport: true };
        for dialer in [Dialer::Native, browser] {
            for text in ["/memory/7", "/memory/7/p2p/ID", "/memory/7/p2p/ID/p2p-circuit/p2p/ID"] {
                assert_eq!(dialer.rank(&address(text)), None, "{text}");
            }
        }
    }

    #[test]
    fn addresses_of_this_machine_and_of_the_local_network() {
        let local = [
            "/ip4/127.0.0.1/tcp/1/ws",
            "/ip4/192.168.1.2/tcp/1/ws/p2p/ID/p2p-circuit/p2p/ID",
            "/ip4/10.1.2.3/tcp/1",
            "/ip4/169.254.1.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/::ffff:192.168.1.2/tcp/1",
            "/dns/localhost/tcp/1",
            "/dns4/printer.local./tcp/1",
            "/memory/1",
        ];
        let others = [
            "/ip4/192.0.2.1/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
            "/dns/example.org/tcp/1",
            "/dns/notlocalhost/tcp/1",
        ];
        assert!(local.iter().all(|text| is_local(&address(text))));
        assert!(others.iter().all(|text| !is_local(&address(text))));
    }

    #[test]
    fn a_secure_page_cannot_dial_ws_but_to_its_own_machine() {
        let secure = Dialer::Browser { https: true, webtransport: true };
        let plain = Dialer::Browser { https: false, webtransport: false };
        assert_eq!(secure.rank_direct(&address("/ip4/192.0.2.1/tcp/1/ws")), None);
        assert!(secure.rank_direct(&address("/ip4/127.0.0.1/tcp/1/ws")).is_some());
        assert!(secure.rank_direct(&address("/dns/localhost/tcp/1/ws")).is_some());
        assert!(plain.rank_direct(&address("/ip4/192.0.2.1/tcp/1/ws")).is_some());
        assert_eq!(plain.rank_direct(&address("/ip4/192.0.2.1/udp/1/quic-v1/webtransport")), None);
        assert_eq!(plain.rank_direct(&address("/ip4/192.0.2.1/tcp/1")), None);
        assert_eq!(
            Dialer::Native.rank_direct(&address("/ip4/192.0.2.1/udp/1/quic-v1/webtransport")),
            None
        );
    }
}
