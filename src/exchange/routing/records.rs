//! Provider records, read leniently: what is odd in one is left out, and the rest counts.

use cid::Cid;
use libp2p::{Multiaddr, PeerId};
use serde_json::Value;

use super::{MAX_ADDRESSES, MAX_PROTOCOLS, MAX_PROVIDERS, MAX_TEXT, Provider, merge};
use crate::{
    network::address::{peer_of, without_peer},
    platform::Dialer,
};

/// Most addresses looked at in a record.
const MAX_LISTED: usize = 64;
/// Multicodec of a libp2p key, for peer ids written as CIDs.
const LIBP2P_KEY: u64 = 0x72;

/// The records of an answer: one JSON object with a list of them, or a record in each line. `None`:
/// it is neither.
pub fn parse(body: &[u8], dialer: Dialer) -> Option<Vec<Provider>> {
    let mut all = Vec::new();
    let mut add = |record: &Value| {
        if let Some(provider) = provider(record, dialer) {
            merge(&mut all, provider);
        }
    };
    if let Ok(Value::Object(whole)) = serde_json::from_slice(body)
        && let Some(list) = whole.get("Providers")
    {
        match list {
            Value::Array(records) => records.iter().take(MAX_PROVIDERS).for_each(add),
            Value::Null => {}
            _ => return None,
        }
        return Some(all);
    }
    let mut understood = body.trim_ascii().is_empty();
    for line in body.split(|byte| *byte == b'\n').take(MAX_PROVIDERS) {
        if let Ok(record @ Value::Object(_)) = serde_json::from_slice(line) {
            understood = true;
            add(&record);
        }
    }
    understood.then_some(all)
}

/// A record of the schema `peer`, or of the older `bitswap`.
fn provider(record: &Value, dialer: Dialer) -> Option<Provider> {
    let peer = peer_id(record.get("ID")?.as_str()?)?;
    let addresses = texts(record, "Addrs").take(MAX_LISTED).filter_map(|text| {
        let address: Multiaddr = text.parse().ok()?;
        peer_of(&address).is_none_or(|named| named == peer).then(|| without_peer(address))
    });
    let addresses = dialer.usable(addresses, MAX_ADDRESSES);
    let older = record.get("Protocol").and_then(Value::as_str).filter(|name| fits(name));
    let protocols = texts(record, "Protocols").chain(older).take(MAX_PROTOCOLS);
    Some(Provider { peer, addresses, protocols: protocols.map(str::to_owned).collect() })
}

fn texts<'a>(record: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    let list = record.get(field).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).filter(|text| fits(text))
}

fn fits(text: &str) -> bool {
    text.len() <= MAX_TEXT
}

fn peer_id(text: &str) -> Option<PeerId> {
    if !fits(text) {
        return None;
    }
    text.parse().ok().or_else(|| {
        let cid: Cid = text.parse().ok()?;
        let key = cid.codec() == LIBP2P_KEY;
        key.then(|| PeerId::from_bytes(&cid.hash().to_bytes()).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12D3KooWR7EfNv5SLtgjMRjUwR8AvNu3hP4fLrtSa9fmHHXKYWNG";

    fn native(body: &str) -> Option<Vec<Provider>> {
        parse(body.as_bytes(), Dialer::Native)
    }

    #[test]
    fn both_formats_and_both_schemas_are_read() {
        let record = format!(
            r#"{{"Schema":"peer","ID":"{ID}","Addrs":["/ip4/1.2.3.4/tcp/4001","/ip4/1.2.3.4/udp/4001/quic-v1",
            "/ip4/1.2.3.4/tcp/4001/p2p/{ID}","/dns/a.example/tcp/443/wss"],"Protocols":["transport-bitswap"],"x":[1]}}"#
        )
        .replace('\n', "");
        let cid = Cid::new_v1(LIBP2P_KEY, *ID.parse::<PeerId>().expect("an id").as_ref());
        let older =
            format!(r#"{{"Schema":"bitswap","ID":"{cid}","Protocol":"transport-bitswap"}}"#);
        let expected = Provider {
            peer: ID.parse().expect("an id"),
            addresses: ["/ip4/1.2.3.4/tcp/4001", "/dns/a.example/tcp/443/wss"]
                .map(|text| text.parse().expect("an address"))
                .to_vec(),
            protocols: vec!["transport-bitswap".into()],
        };
        let listed = format!(r#"{{"Providers":[{older},{record}]}}"#);
        assert_eq!(native(&listed), Some(vec![expected.clone()]));
        for lines in [record.clone(), format!("{older}\n{record}\n"), format!("{record}\n{{\"cut")]
        {
            assert_eq!(native(&lines), Some(vec![expected.clone()]));
        }
        let page = Dialer::Browser { https: true, webtransport: false };
        let seen = parse(record.as_bytes(), page).expect("records");
        assert_eq!(seen[0].addresses, expected.addresses[1..]);
    }

    #[test]
    fn what_is_odd_is_left_out() {
        let odd = format!(
            r#"{{"Providers":[1,null,{{}},{{"ID":"x"}},{{"ID":5}},{{"ID":"{ID}","Addrs":[7,"nonsense","/ip4/1.2.3.4/tcp/1/p2p/{}"],
            "Protocols":"none"}}]}}"#,
            PeerId::random()
        );
        let peer = ID.parse().expect("an id");
        let bare = Provider { peer, addresses: Vec::new(), protocols: Vec::new() };
        assert_eq!(native(&odd), Some(vec![bare]));
        assert_eq!(native(r#"{"Providers":null}"#), Some(Vec::new()));
        assert_eq!(native(" \n"), Some(Vec::new()));
        for nothing in ["<html>", "[1]", r#"{"Providers":3}"#, r#"{"Providers":[{"ID""#] {
            assert_eq!(native(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_list_has_a_bound() {
        let records: Vec<String> =
            (0..300).map(|_| format!(r#"{{"ID":"{}"}}"#, PeerId::random())).collect();
        let listed = format!(r#"{{"Providers":[{}]}}"#, records.join(","));
        assert_eq!(native(&listed).map(|all| all.len()), Some(MAX_PROVIDERS));
        assert_eq!(native(&records.join("\n")).map(|all| all.len()), Some(MAX_PROVIDERS));
    }
}
