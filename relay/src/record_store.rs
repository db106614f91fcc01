//! What the DHT server remembers: provider and value records, both bounded and both forgotten when they expire.
//!
//! libp2p-kad's own in-memory store is bounded too, but never removes another peer's provider record, so one full of
//! closed tabs would refuse every new one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{ProviderRecord, Record, RecordKey};

/// Providers kept for one key: what a reply holds.
pub const MAX_PROVIDERS_PER_KEY: usize = 20;
/// Addresses kept of one provider.
pub const MAX_ADDRESSES_PER_PROVIDER: usize = 16;
/// A key is a multihash or a namespaced name.
pub const MAX_KEY_BYTES: usize = 128;
/// An IPNS record with room to spare.
pub const MAX_VALUE_BYTES: usize = 10 * 1024;

/// Bounded memory for the DHT server.
pub struct BoundedStore {
    max_records: usize,
    max_providers: usize,
    records: HashMap<RecordKey, Record>,
    providers: HashMap<RecordKey, Vec<ProviderRecord>>,
    /// One entry per provider record, the next to expire first.
    expiry: BTreeMap<(Option<Instant>, u64), (RecordKey, PeerId)>,
    /// Where a provider record stands in `expiry`.
    places: HashMap<(RecordKey, PeerId), (Option<Instant>, u64)>,
    counter: u64,
    /// Chooses whom to forget, as nobody can foresee.
    random: RandomState,
}

impl BoundedStore {
    pub fn new(max_records: usize, max_providers: usize) -> Self {
        Self {
            max_records,
            max_providers,
            records: HashMap::new(),
            providers: HashMap::new(),
            expiry: BTreeMap::new(),
            places: HashMap::new(),
            counter: 0,
            random: RandomState::new(),
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some((&(Some(expires), _), (key, peer))) = self.expiry.first_key_value()
            && expires <= now
        {
            let (key, peer) = (key.clone(), *peer);
            self.remove_provider(&key, &peer);
        }
    }

    /// Whose record makes room for a new one of a key that has as many as it may. Identities cost nothing, so
    /// it is neither the oldest, which could be made to go, nor the peer that says under its own id where it is.
    fn victim(&self, key: &RecordKey) -> Option<PeerId> {
        let kept = self.providers.get(key)?;
        if kept.len() < MAX_PROVIDERS_PER_KEY {
            return None;
        }
        let others = || {
            let providers = kept.iter().map(|record| record.provider);
            providers.filter(|provider| provider.to_bytes() != key.as_ref())
        };
        let count = others().count().max(1) as u64;
        others().nth((self.random.hash_one(self.counter) % count) as usize)
    }
}

impl RecordStore for BoundedStore {
    type RecordsIter<'a> = Box<dyn Iterator<Item = Cow<'a, Record>> + 'a>;
    type ProvidedIter<'a> = std::iter::Empty<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key).map(Cow::Borrowed)
    }

    fn put(&mut self, record: Record) -> Result<()> {
        if record.value.len() > MAX_VALUE_BYTES || record.key.as_ref().len() > MAX_KEY_BYTES {
            return Err(Error::ValueTooLarge);
        }
        if self.records.len() >= self.max_records && !self.records.contains_key(&record.key) {
            let now = Instant::now();
            self.records.retain(|_, kept| !kept.is_expired(now));
            if self.records.len() >= self.max_records {
                return Err(Error::MaxRecords);
            }
        }
        self.records.insert(record.key.clone(), record);
        Ok(())
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        Box::new(self.records.values().map(Cow::Borrowed))
    }

    fn add_provider(&mut self, mut record: ProviderRecord) -> Result<()> {
        if record.key.as_ref().len() > MAX_KEY_BYTES {
            return Err(Error::ValueTooLarge);
        }
        record.addresses.truncate(MAX_ADDRESSES_PER_PROVIDER);
        self.forget_expired(Instant::now());
        self.remove_provider(&record.key.clone(), &record.provider);
        // The newest is taken always: tabs come and go, and a day is long.
        if let Some(victim) = self.victim(&record.key) {
            self.remove_provider(&record.key.clone(), &victim);
        }
        if self.places.len() >= self.max_providers {
            return Err(Error::MaxProvidedKeys);
        }
        self.counter += 1;
        let place = (record.expires, self.counter);
        self.expiry.insert(place, (record.key.clone(), record.provider));
        self.places.insert((record.key.clone(), record.provider), place);
        self.providers.entry(record.key.clone()).or_default().push(record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.providers.get(key).cloned().unwrap_or_default()
    }

    /// The relay provides nothing itself.
    fn provided(&self) -> Self::ProvidedIter<'_> {
        std::iter::empty()
    }

    fn remove_provider(&mut self, key: &RecordKey, peer: &PeerId) {
        let Some(place) = self.places.remove(&(key.clone(), *peer)) else { return };
        self.expiry.remove(&place);
        if let Some(kept) = self.providers.get_mut(key) {
            kept.retain(|record| record.provider != *peer);
            if kept.is_empty() {
                self.providers.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record(key: u8, peer: PeerId, lives: Duration) -> ProviderRecord {
        ProviderRecord {
            key: RecordKey::new(&[key]),
            provider: peer,
            expires: Some(Instant::now() + lives),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap(); 40],
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn full_of_expired_records_it_takes_new_ones() {
        let mut store = BoundedStore::new(0, 3);
        for key in 0..3 {
            store.add_provider(record(key, PeerId::random(), Duration::ZERO)).unwrap();
        }
        let peer = PeerId::random();
        store.add_provider(record(9, peer, LONG)).unwrap();
        assert_eq!(store.providers(&RecordKey::new(&[9]))[0].provider, peer);
        assert_eq!((store.providers.len(), store.places.len(), store.expiry.len()), (1, 1, 1));
    }

    #[test]
    fn full_of_living_records_it_refuses_but_renews() {
        let mut store = BoundedStore::new(0, 2);
        let peer = PeerId::random();
        store.add_provider(record(1, peer, LONG)).unwrap();
        store.add_provider(record(2, peer, LONG)).unwrap();
        assert!(store.add_provider(record(3, peer, LONG)).is_err());
        store.add_provider(record(1, peer, LONG * 2)).unwrap();
        assert_eq!(store.places.len(), 2);
    }

    #[test]
    fn one_key_and_one_provider_are_bounded() {
        let mut store = BoundedStore::new(0, 1000);
        for peer in (0..100).map(|_| PeerId::random()) {
            store.add_provider(record(1, peer, LONG)).unwrap();
            let kept = store.providers(&RecordKey::new(&[1]));
            assert_eq!(kept.last().unwrap().provider, peer, "the newest is taken");
            assert_eq!((store.places.len(), store.expiry.len()), (kept.len(), kept.len()));
        }
        let kept = store.providers(&RecordKey::new(&[1]));
        assert_eq!(kept.len(), MAX_PROVIDERS_PER_KEY);
        assert_eq!(kept[0].addresses.len(), MAX_ADDRESSES_PER_PROVIDER);
        store.remove_provider(&RecordKey::new(&[1]), &kept[0].provider);
        assert_eq!(store.places.len(), MAX_PROVIDERS_PER_KEY - 1);
    }

    #[test]
    fn nobody_displaces_the_record_that_says_where_a_peer_is() {
        let mut store = BoundedStore::new(0, 1000);
        let peer = PeerId::random();
        let own = |provider| ProviderRecord {
            key: RecordKey::new(&peer.to_bytes()),
            ..record(0, provider, LONG)
        };
        let mut add = |provider| {
            store.add_provider(own(provider)).unwrap();
            store.providers(&own(peer).key).iter().any(|record| record.provider == peer)
        };
        // Neither before it comes nor after.
        (0..30).for_each(|_| assert!(!add(PeerId::random())));
        assert!(add(peer));
        (0..300).for_each(|_| assert!(add(PeerId::random())));
        let kept = MAX_PROVIDERS_PER_KEY;
        assert_eq!(store.providers(&own(peer).key).len(), kept);
        assert_eq!((store.places.len(), store.expiry.len()), (kept, kept));
    }

    #[test]
    fn as_many_new_providers_as_there_is_room_for_do_not_displace_all() {
        let mut store = BoundedStore::new(0, 1000);
        let peers: Vec<_> = (0..2 * MAX_PROVIDERS_PER_KEY).map(|_| PeerId::random()).collect();
        for peer in &peers {
            store.add_provider(record(1, *peer, LONG)).unwrap();
        }
        let kept = store.providers(&RecordKey::new(&[1]));
        // That chance takes exactly the first twenty happens once in forty million times.
        let first = &peers[..MAX_PROVIDERS_PER_KEY];
        assert!(kept.iter().any(|record| first.contains(&record.provider)));
    }

    #[test]
    fn values_are_bounded() {
        let mut store = BoundedStore::new(1, 0);
        let value = |key: u8, length| Record::new(vec![key], vec![0; length]);
        store.put(value(1, 10)).unwrap();
        assert!(store.put(value(2, 10)).is_err());
        store.put(value(1, 20)).unwrap();
        assert!(store.put(value(1, MAX_VALUE_BYTES + 1)).is_err());
    }
}
