//! A relay's signed record, `GET /.well-known/tabpeer.json` (wire.md §8): how an app that knows one
//! URL learns the relay's id and its current addresses.
//!
//! The signature is ed25519 by the relay's key over [`SIGNED_PREFIX`] followed by the record as JSON
//! without its `signature`: keys sorted at every level, no whitespace. It is computed from what was
//! received, so that fields which this version does not know are covered too.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use libp2p::{
    Multiaddr, PeerId,
    identity::{Keypair, PublicKey},
};
use serde_json::{Map, Value};

use super::address;
use crate::platform::{Carrier, Dialer};

/// Where a relay serves its record.
pub const RECORD_PATH: &str = "/.well-known/tabpeer.json";
/// The largest record that is read.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
/// The most addresses that a record may name.
pub const MAX_RECORD_ADDRESSES: usize = 64;
/// The most features that a record may name.
const MAX_RECORD_FEATURES: usize = 64;
/// How far a relay's clock may be ahead of ours, in seconds.
const CLOCK_SKEW: u64 = 300;
/// What precedes the record in the signed text, so that no other signature of the key fits.
const SIGNED_PREFIX: &str = "tabpeer-relay-record:";
const VERSION: u64 = 1;

/// What a relay says of itself, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRecord {
    pub peer: PeerId,
    /// As the relay listed them, without the peer's id; addresses of unknown form are left out.
    pub addresses: Vec<Multiaddr>,
    pub limits: RelayLimits,
    pub features: Vec<String>,
    /// Seconds since 1970.
    pub issued_at: u64,
    /// Seconds since 1970.
    pub expires_at: u64,
}

/// What a relay grants a circuit; 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayLimits {
    pub circuit_bytes: u64,
    pub circuit_seconds: u64,
    pub reservations: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the relay's record has {0} bytes, more than {MAX_RECORD_BYTES}")]
    TooLarge(usize),
    #[error("the relay's record is not valid JSON: {0}")]
    Json(String),
    #[error("the relay's record has no valid field {0:?}")]
    Field(&'static str),
    #[error("the relay's record is of version {0}, this peer knows {VERSION}")]
    Version(u64),
    #[error("the relay's record names {0} addresses, more than {MAX_RECORD_ADDRESSES}")]
    TooManyAddresses(usize),
    #[error("the relay's record names the peer {named} but carries the key of {actual}")]
    WrongPeer { named: PeerId, actual: PeerId },
    #[error("the signature of the relay {0}'s record is wrong")]
    Signature(PeerId),
    #[error("the relay's record expired at {expires_at} (it is {now} now, seconds since 1970)")]
    Expired { expires_at: u64, now: u64 },
    #[error("the relay's record is from the future: {issued_at} (it is {now} now)")]
    NotYetValid { issued_at: u64, now: u64 },
}

impl RelayRecord {
    /// Parses and verifies; `now` in seconds since 1970.
    pub fn parse(text: &[u8], now: u64) -> Result<Self, RecordError> {
        if text.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge(text.len()));
        }
        let value: Value =
            serde_json::from_slice(text).map_err(|e| RecordError::Json(e.to_string()))?;
        let Value::Object(object) = value else { return Err(RecordError::Field("(object)")) };

        let version = number(&object, "version")?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let peer = verify(&object)?;
        let issued_at = number(&object, "issuedAt")?;
        let expires_at = number(&object, "expiresAt")?;
        if expires_at <= now {
            return Err(RecordError::Expired { expires_at, now });
        }
        if issued_at > now.saturating_add(CLOCK_SKEW) {
            return Err(RecordError::NotYetValid { issued_at, now });
        }
        Ok(Self {
            peer,
            addresses: addresses(&object, peer)?,
            limits: limits(&object),
            features: features(&object),
            issued_at,
            expires_at,
        })
    }

    /// The addresses that can be dialled from here, best first.
    pub fn usable_addresses(&self, dialer: Dialer) -> Vec<Multiaddr> {
        let direct = self.addresses.iter().filter(|a| Carrier::of(a).is_some()).cloned();
        dialer.usable(direct, MAX_RECORD_ADDRESSES)
    }
}

/// Signs `record` as `keypair`: fills in `peerId`, `publicKey` and `signature`.
pub fn sign(
    mut record: Map<String, Value>,
    keypair: &Keypair,
) -> Result<Map<String, Value>, libp2p::identity::SigningError> {
    let public = keypair.public();
    record.insert("peerId".into(), Value::String(public.to_peer_id().to_string()));
    record.insert("publicKey".into(), Value::String(BASE64.encode(public.encode_protobuf())));
    record.remove("signature");
    let signature = keypair.sign(signed_text(&record).as_bytes())?;
    record.insert("signature".into(), Value::String(BASE64.encode(signature)));
    Ok(record)
}

fn verify(object: &Map<String, Value>) -> Result<PeerId, RecordError> {
    let key = BASE64
        .decode(string(object, "publicKey")?)
        .ok()
        .and_then(|bytes| PublicKey::try_decode_protobuf(&bytes).ok())
        .ok_or(RecordError::Field("publicKey"))?;
    let signature =
        BASE64.decode(string(object, "signature")?).map_err(|_| RecordError::Field("signature"))?;
    let named: PeerId =
        string(object, "peerId")?.parse().map_err(|_| RecordError::Field("peerId"))?;
    let actual = key.to_peer_id();
    if named != actual {
        return Err(RecordError::WrongPeer { named, actual });
    }
    if !key.verify(signed_text(object).as_bytes(), &signature) {
        return Err(RecordError::Signature(actual));
    }
    Ok(actual)
}

fn signed_text(object: &Map<String, Value>) -> String {
    let mut text = SIGNED_PREFIX.to_owned();
    write_object(object.iter().filter(|(key, _)| *key != "signature"), &mut text);
    text
}

/// JSON with sorted keys. `serde_json` alone would not do: whether its map keeps the order of the
/// text is a feature that any crate of the build can switch on.
fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => write_object(object.iter(), out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn write_object<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut String) {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(key, _)| *key);
    out.push('{');
    for (i, (key, value)) in fields.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&Value::String(key.clone()).to_string());
        out.push(':');
        write_canonical(value, out);
    }
    out.push('}');
}

fn addresses(object: &Map<String, Value>, peer: PeerId) -> Result<Vec<Multiaddr>, RecordError> {
    let Some(Value::Array(items)) = object.get("addresses") else {
        return Err(RecordError::Field("addresses"));
    };
    if items.len() > MAX_RECORD_ADDRESSES {
        return Err(RecordError::TooManyAddresses(items.len()));
    }
    Ok(items
        .iter()
        .filter_map(|item| item.as_str()?.parse::<Multiaddr>().ok())
        .filter(|address| address::peer_of(address).is_none_or(|named| named == peer))
        .map(address::without_peer)
        .collect())
}

fn limits(object: &Map<String, Value>) -> RelayLimits {
    let field = |name| object.get("limits").and_then(|l| l.get(name)?.as_u64()).unwrap_or(0);
    RelayLimits {
        circuit_bytes: field("circuitBytes"),
        circuit_seconds: field("circuitSeconds"),
        reservations: field("reservations"),
    }
}

fn features(object: &Map<String, Value>) -> Vec<String> {
    let Some(Value::Array(items)) = object.get("features") else { return Vec::new() };
    items.iter().take(MAX_RECORD_FEATURES).filter_map(|i| Some(i.as_str()?.to_owned())).collect()
}

fn number(object: &Map<String, Value>, name: &'static str) -> Result<u64, RecordError> {
    object.get(name).and_then(Value::as_u64).ok_or(RecordError::Field(name))
}

fn string<'a>(object: &'a Map<String, Value>, name: &'static str) -> Result<&'a str, RecordError> {
    object.get(name).and_then(Value::as_str).ok_or(RecordError::Field(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn keypair() -> Keypair {
        Keypair::ed25519_from_bytes([7; 32]).expect("32 bytes are a key")
    }

    fn signed(change: impl FnOnce(&mut Map<String, Value>)) -> Value {
        let Value::Object(mut object) = json!({
            "version": 1,
            "addresses": [
                "/ip4/127.0.0.1/tcp/4001",
                "/ip4/127.0.0.1/tcp/4002/ws",
                "/ip4/127.0.0.1/udp/4003/quic-v1/webtransport",
                "not an address",
            ],
            "limits": {"circuitBytes": 0, "circuitSeconds": 86400, "reservations": 100},
            "features": ["routing"],
            "issuedAt": NOW - 10,
            "expiresAt": NOW + 10,
            "later": {"b": [1, null, "ü\n\"", true], "a": {}},
        }) else {
            panic!("an object")
        };
        change(&mut object);
        Value::Object(sign(object, &keypair()).expect("signs"))
    }

    fn parse(value: &Value) -> Result<RelayRecord, RecordError> {
        RelayRecord::parse(value.to_string().as_bytes(), NOW)
    }

    #[test]
    fn a_signed_record_is_read() {
        let record = parse(&signed(|_| ())).expect("valid");
        assert_eq!(record.peer, keypair().public().to_peer_id());
        assert_eq!(record.addresses.len(), 3);
        assert_eq!(record.limits.circuit_seconds, 86400);
        assert_eq!(record.features, ["routing"]);
        let browser = Dialer::Browser { https: false, webtransport: true };
        let usable = record.usable_addresses(browser);
        assert_eq!(usable.first().map(Carrier::of), Some(Some(Carrier::WebTransport)));
        assert_eq!(usable.len(), 2);
    }

    #[test]
    fn the_order_and_the_spacing_of_the_text_do_not_matter() {
        let value = signed(|_| ());
        let pretty = serde_json::to_string_pretty(&value).expect("prints");
        assert!(RelayRecord::parse(pretty.as_bytes(), NOW).is_ok());
        let Value::Object(object) = &value else { panic!("an object") };
        let backwards: Vec<String> =
            object.iter().rev().map(|(k, v)| format!("{}:{v}", Value::String(k.clone()))).collect();
        let text = format!("{{{}}}", backwards.join(" , "));
        assert!(RelayRecord::parse(text.as_bytes(), NOW).is_ok());
    }

    #[test]
    fn the_signed_text_is_what_the_format_says() {
        let Value::Object(object) =
            json!({"b": {"d": 1, "c": [true, "x"]}, "a": "ü", "signature": 1})
        else {
            panic!("an object")
        };
        assert_eq!(
            signed_text(&object),
            r#"tabpeer-relay-record:{"a":"ü","b":{"c":[true,"x"],"d":1}}"#
        );
    }

    #[test]
    fn any_change_breaks_the_signature() {
        let original = signed(|_| ());
        for (field, value) in [
            ("addresses", json!(["/ip4/10.0.0.1/tcp/1/ws"])),
            ("expiresAt", json!(NOW + 1000)),
            ("later", json!({"a": {}, "b": [1, null, "other", true]})),
            ("added", json!(1)),
        ] {
            let mut changed = original.clone();
            changed[field] = value;
            let result = parse(&changed);
            assert_eq!(
                result,
                Err(RecordError::Signature(keypair().public().to_peer_id())),
                "{field}"
            );
        }
        let mut removed = original;
        removed.as_object_mut().expect("an object").remove("later");
        assert!(matches!(parse(&removed), Err(RecordError::Signature(_))));
    }

    #[test]
    fn another_peers_id_is_refused() {
        let mut value = signed(|_| ());
        value["peerId"] = json!(PeerId::random().to_string());
        assert!(matches!(parse(&value), Err(RecordError::WrongPeer { .. })));
    }

    #[test]
    fn time_and_bounds() {
        let expired = signed(|r| drop(r.insert("expiresAt".into(), json!(NOW))));
        assert!(matches!(parse(&expired), Err(RecordError::Expired { .. })));
        let future = signed(|r| drop(r.insert("issuedAt".into(), json!(NOW + 3600))));
        assert!(matches!(parse(&future), Err(RecordError::NotYetValid { .. })));
        let many = signed(|r| {
            r.insert("addresses".into(), json!(vec!["/ip4/127.0.0.1/tcp/1"; 65]));
        });
        assert_eq!(parse(&many), Err(RecordError::TooManyAddresses(65)));
        let version = signed(|r| drop(r.insert("version".into(), json!(2))));
        assert_eq!(parse(&version), Err(RecordError::Version(2)));
        let large = vec![b' '; MAX_RECORD_BYTES + 1];
        assert_eq!(RelayRecord::parse(&large, NOW), Err(RecordError::TooLarge(large.len())));
    }

    #[test]
    fn malformed_records_are_errors() {
        for text in ["", "[]", "1", "{}", r#"{"version":1}"#, r#"{"version":-1}"#, "{\"version\":1"]
        {
            assert!(RelayRecord::parse(text.as_bytes(), NOW).is_err(), "{text}");
        }
        for field in ["publicKey", "signature", "peerId", "issuedAt", "expiresAt", "addresses"] {
            let mut value = signed(|_| ());
            value[field] = json!(true);
            assert!(parse(&value).is_err(), "{field}");
        }
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        assert!(RelayRecord::parse(deep.as_bytes(), NOW).is_err());
    }
}
