//! What the DHT server remembers: provider and value records, both bounded and both forgotten when they expire.
//!
//! libp2p-kad's own in-memory store is bounded too, but never removes another peer's provider record, so one full of
//! closed tabs would refuse every new one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
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
        // The newest take the place of the oldest: tabs come and go, and a day is long.
        if let Some(kept) = self.providers.get(&record.key)
            && kept.len() >= MAX_PROVIDERS_PER_KEY
            && let Some(oldest) = kept.first().map(|kept| kept.provider)
        {
            self.remove_provider(&record.key.clone(), &oldest);
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
        let newest: Vec<PeerId> = (0..MAX_PROVIDERS_PER_KEY).map(|_| PeerId::random()).collect();
        for peer in (0..100).map(|_| PeerId::random()).chain(newest.clone()) {
            store.add_provider(record(1, peer, LONG)).unwrap();
        }
        let kept = store.providers(&RecordKey::new(&[1]));
        assert_eq!(kept.iter().map(|record| record.provider).collect::<Vec<_>>(), newest);
        assert_eq!(kept[0].addresses.len(), MAX_ADDRESSES_PER_PROVIDER);
        store.remove_provider(&RecordKey::new(&[1]), &kept[0].provider);
        assert_eq!(store.places.len(), MAX_PROVIDERS_PER_KEY - 1);
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
