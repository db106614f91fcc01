//! The relay's record: what an app that knows one URL needs to reach the relay, signed with the relay's key.
//!
//! Served as `/.well-known/tabpeer.json`. The signature is ed25519 over the ASCII prefix [`SIGNATURE_PREFIX`] and the
//! record without `signature` in the form of RFC 8785 (JSON Canonicalization Scheme: members sorted, no white space).
//! Only objects, arrays, strings, booleans and integers occur, so none of the scheme's rules on fractions are needed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey};
use libp2p::multiaddr::Multiaddr;
use serde_json::{Map, Value, json};

/// Keeps a signature from meaning anything elsewhere.
pub const SIGNATURE_PREFIX: &str = "tabpeer-relay-record:";
/// How long a record may be believed; shorter than the life of any certificate hash in it.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Version of the record's fields.
const VERSION: u64 = 1;

/// What a record says.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    pub addresses: &'a [Multiaddr],
    /// 0 is unlimited.
    pub circuit_bytes: u64,
    pub circuit_seconds: u64,
    pub reservations: usize,
    pub features: &'a [&'a str],
}

/// Why a record is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    #[error("the record cannot be signed: {0}")]
    Signing(String),
    #[error("the record's field `{0}` is missing or has another type")]
    Field(&'static str),
    #[error("the record's key does not belong to its peer id")]
    Key,
    #[error("the record's signature is wrong")]
    Signature,
    #[error("the record is not valid at this time")]
    Time,
}

impl Record<'_> {
    /// The record as it is served.
    pub fn sign(&self, identity: &Keypair, now: SystemTime) -> Result<Value, RecordError> {
        let public = identity.public();
        let issued = unix_seconds(now);
        let addresses: Vec<_> = self.addresses.iter().map(Multiaddr::to_string).collect();
        let mut record = json!({
            "version": VERSION,
            "peerId": public.to_peer_id().to_string(),
            "addresses": addresses,
            "limits": {
                "circuitBytes": self.circuit_bytes,
                "circuitSeconds": self.circuit_seconds,
                "reservations": self.reservations,
            },
            "features": self.features,
            "issuedAt": issued,
            "expiresAt": issued.saturating_add(LIFETIME.as_secs()),
            "publicKey": STANDARD.encode(public.encode_protobuf()),
        });
        let signature = identity
            .sign(&signed_bytes(&record))
            .map_err(|error| RecordError::Signing(error.to_string()))?;
        if let Value::Object(members) = &mut record {
            members.insert("signature".into(), STANDARD.encode(signature).into());
        }
        Ok(record)
    }
}

/// Checks a record that was fetched and returns whose it is.
pub fn verify(record: &Value, now: SystemTime) -> Result<PeerId, RecordError> {
    let mut unsigned: Map<String, Value> =
        record.as_object().ok_or(RecordError::Field("record"))?.clone();
    let signature = unsigned
        .remove("signature")
        .and_then(|value| STANDARD.decode(value.as_str()?).ok())
        .ok_or(RecordError::Field("signature"))?;
    let unsigned = Value::Object(unsigned);
    let public = unsigned["publicKey"]
        .as_str()
        .and_then(|text| STANDARD.decode(text).ok())
        .and_then(|bytes| PublicKey::try_decode_protobuf(&bytes).ok())
        .ok_or(RecordError::Field("publicKey"))?;
    let peer: PeerId = unsigned["peerId"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .ok_or(RecordError::Field("peerId"))?;
    if public.to_peer_id() != peer {
        return Err(RecordError::Key);
    }
    if !public.verify(&signed_bytes(&unsigned), &signature) {
        return Err(RecordError::Signature);
    }
    let issued = unsigned["issuedAt"].as_u64().ok_or(RecordError::Field("issuedAt"))?;
    let expires = unsigned["expiresAt"].as_u64().ok_or(RecordError::Field("expiresAt"))?;
    let slack = Duration::from_secs(300).as_secs();
    if unix_seconds(now).saturating_add(slack) < issued || unix_seconds(now) >= expires {
        return Err(RecordError::Time);
    }
    Ok(peer)
}

fn signed_bytes(unsigned: &Value) -> Vec<u8> {
    let mut text = String::from(SIGNATURE_PREFIX);
    write_canonical(unsigned, &mut text);
    text.into_bytes()
}

/// Sorts by itself: serde_json keeps the order of insertion as soon as any crate of the build asks it to. Member names
/// are ASCII, for which the order of bytes is the order of UTF-16 units that the scheme wants.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|left, right| left.0.cmp(right.0));
            text.push('{');
            for (index, (name, member)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write_canonical(member, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_canonical(item, text);
            }
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn signed() -> (Keypair, Value) {
        let identity = Keypair::ed25519_from_bytes([3; 32]).unwrap();
        let addresses = ["/ip4/127.0.0.1/tcp/4002/ws".parse().unwrap()];
        let record = Record {
            addresses: &addresses,
            circuit_bytes: 0,
            circuit_seconds: 604_800,
            reservations: 2048,
            features: &["relay", "kad"],
        };
        let value = record.sign(&identity, now()).unwrap();
        (identity, value)
    }

    #[test]
    fn a_signed_record_verifies() {
        let (identity, record) = signed();
        assert_eq!(verify(&record, now()), Ok(identity.public().to_peer_id()));
        let again: Value = serde_json::from_str(&record.to_string()).unwrap();
        assert_eq!(verify(&again, now()), Ok(identity.public().to_peer_id()));
    }

    #[test]
    fn any_change_breaks_it() {
        let (_, record) = signed();
        for (pointer, other) in [
            ("/addresses/0", json!("/ip4/127.0.0.2/tcp/4002/ws")),
            ("/limits/circuitBytes", json!(1)),
            ("/expiresAt", json!(9_999_999_999_u64)),
            ("/version", json!(2)),
        ] {
            let mut changed = record.clone();
            *changed.pointer_mut(pointer).unwrap() = other;
            assert_eq!(verify(&changed, now()), Err(RecordError::Signature), "{pointer}");
        }
        let mut stranger = record.clone();
        stranger["peerId"] = json!(Keypair::generate_ed25519().public().to_peer_id().to_string());
        assert_eq!(verify(&stranger, now()), Err(RecordError::Key));
        assert_eq!(verify(&record, now() + LIFETIME), Err(RecordError::Time));
        assert_eq!(verify(&json!([]), now()), Err(RecordError::Field("record")));
    }

    /// What a verifier in another language has to sign or check.
    #[test]
    fn canonical_form() {
        let value = json!({"b": [1, true, "\u{e9}\n\""], "a": {"z": {}, "y": []}});
        let mut text = String::new();
        write_canonical(&value, &mut text);
        assert_eq!(text, "{\"a\":{\"y\":[],\"z\":{}},\"b\":[1,true,\"\u{e9}\\n\\\"\"]}");
    }
}
