//! The relay's record: what an app that knows one URL needs to reach the relay, signed with the relay's key.
//!
//! Served as `/.well-known/tabpeer.json`. How it is signed and read stands with those who read it, in
//! [`tabpeer::network::relay_record`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::identity::{Keypair, SigningError};
use libp2p::multiaddr::Multiaddr;
use serde_json::{Map, Value, json};
use tabpeer::network::relay_record;

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

impl Record<'_> {
    /// The record as it is served.
    pub fn sign(&self, identity: &Keypair, now: SystemTime) -> Result<Value, SigningError> {
        let issued = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let addresses: Vec<_> = self.addresses.iter().map(Multiaddr::to_string).collect();
        let limits = json!({
            "circuitBytes": self.circuit_bytes,
            "circuitSeconds": self.circuit_seconds,
            "reservations": self.reservations,
        });
        let members = [
            ("version", VERSION.into()),
            ("addresses", addresses.into()),
            ("limits", limits),
            ("features", json!(self.features)),
            ("issuedAt", issued.into()),
            ("expiresAt", issued.saturating_add(LIFETIME.as_secs()).into()),
        ];
        let record: Map<String, Value> =
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        relay_record::sign(record, identity).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use tabpeer::network::relay_record::{RecordError, RelayRecord};

    use super::*;

    #[test]
    fn peers_believe_it_for_as_long_as_it_says() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let identity = Keypair::ed25519_from_bytes([3; 32]).unwrap();
        let record = Record {
            addresses: &["/ip4/127.0.0.1/tcp/4002/ws".parse().unwrap()],
            circuit_bytes: 0,
            circuit_seconds: 604_800,
            reservations: 2048,
            features: &["relay", "kad"],
        };
        let text = record.sign(&identity, now).unwrap().to_string();
        let read = RelayRecord::parse(text.as_bytes(), 1_800_000_000).unwrap();
        assert_eq!(read.peer, identity.public().to_peer_id());
        assert_eq!(read.addresses, record.addresses);
        assert_eq!((read.limits.circuit_seconds, read.limits.reservations), (604_800, 2048));
        assert_eq!(read.features, record.features);
        let late = RelayRecord::parse(text.as_bytes(), 1_800_000_000 + LIFETIME.as_secs());
        assert!(matches!(late, Err(RecordError::Expired { .. })), "{late:?}");
    }
}
