//! Which addresses the relay tells others: pure, from what it listens on and what the operator set.

use std::net::IpAddr;

use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};

/// Without the peer id, in a stable order.
///
/// What the operator set is told and nothing else. Otherwise everything listened on is, except that loopback and
/// link-local addresses are left out as soon as there are others: to a browser elsewhere they mean its own machine.
pub fn announced(listened: &[Multiaddr], configured: &[Multiaddr]) -> Vec<Multiaddr> {
    if !configured.is_empty() {
        let hashes = certificate_hashes(listened);
        return configured.iter().map(|address| with_hashes(address, &hashes)).collect();
    }
    let mut told: Vec<_> = listened.iter().filter(|address| !is_local(address)).cloned().collect();
    if told.is_empty() {
        told = listened.to_vec();
    }
    told.sort_by_key(Multiaddr::to_string);
    told.dedup();
    told
}

pub fn with_peer(addresses: &[Multiaddr], peer: PeerId) -> Vec<Multiaddr> {
    addresses.iter().map(|address| address.clone().with(Protocol::P2p(peer))).collect()
}

/// Every WebTransport listener has the same certificates.
fn certificate_hashes(listened: &[Multiaddr]) -> Vec<Protocol<'static>> {
    let of = |address: &Multiaddr| -> Vec<_> {
        address
            .iter()
            .filter(|part| matches!(part, Protocol::Certhash(_)))
            .map(Protocol::acquire)
            .collect()
    };
    listened.iter().map(of).find(|hashes| !hashes.is_empty()).unwrap_or_default()
}

fn with_hashes(address: &Multiaddr, hashes: &[Protocol<'static>]) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::WebTransport)) {
        for hash in hashes {
            address.push(hash.clone());
        }
    }
    address
}

fn is_local(address: &Multiaddr) -> bool {
    let ip: IpAddr = match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return false,
    };
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "/certhash/uEiCaDd1Ca1A8IVJ3hsIxIyi11cwxaDKqzVrBkGJbKZU5ng";

    fn parse(texts: &[&str]) -> Vec<Multiaddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn loopback_is_told_only_when_it_is_all_there_is() {
        let both = parse(&["/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.2/tcp/1", "/ip6/fe80::1/tcp/1"]);
        assert_eq!(announced(&both, &[]), parse(&["/ip4/192.168.1.2/tcp/1"]));
        assert_eq!(announced(&both[..1], &[]), both[..1]);
    }

    #[test]
    fn what_the_operator_set_replaces_the_rest_and_gets_the_hashes() {
        let listened = parse(&[
            &format!("/ip4/10.0.0.1/udp/4003/quic-v1/webtransport{HASH}"),
            "/ip4/10.0.0.1/tcp/1",
        ]);
        let configured = parse(&[
            "/ip4/192.0.2.7/udp/4003/quic-v1/webtransport",
            "/dns4/example.org/tcp/443/wss",
        ]);
        let expected = parse(&[
            &format!("/ip4/192.0.2.7/udp/4003/quic-v1/webtransport{HASH}"),
            "/dns4/example.org/tcp/443/wss",
        ]);
        assert_eq!(announced(&listened, &configured), expected);
    }
}
