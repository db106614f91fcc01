//! The nodes of a sharded directory: in which slot a name belongs, and how a shard's links and
//! bitfield are written (UnixFS specification, "dag-pb HAMTDirectory"). How a directory is edited
//! with them is in [`super::directory`].

mod murmur3;

use bytes::Bytes;
use cid::Cid;

use super::dagpb::{PbLink, PbNode};
use super::unixfs::{HAMT_FANOUT, Kind, MURMUR3_X64_64, Mtime, UnixFs};

pub use murmur3::murmur3_x64_64;

/// Slots of a shard as a power of two, from 2 up to [`HAMT_FANOUT`]; the same in a whole directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fanout {
    bits: u32,
}

/// Where a shard is in its directory: `depth` levels down, where the hashes of all names begin with
/// the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub fanout: Fanout,
    pub depth: u32,
    /// A hash of which the first `depth` × bits bits count.
    pub hash: u64,
}

/// POSIX metadata that a directory's root node may carry. Kept as it is when the directory is
/// edited: there is no clock here to tell a new modification time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    pub mode: Option<u32>,
    pub mtime: Option<Mtime>,
}

/// A shard's links by slot, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardNode {
    pub fanout: Fanout,
    pub stat: Stat,
    pub slots: Vec<(u8, ShardLink)>,
}

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShardLink {
    /// An entry of the directory, its name without the prefix.
    Entry(PbLink),
    /// A shard one level down.
    Shard { cid: Cid, tsize: u64 },
}

/// Why a node is not a shard of a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HamtError {
    #[error("its fanout is not a power of two up to {HAMT_FANOUT}, or differs from its parent's")]
    Fanout,
    #[error("its hash function is not murmur3-x64-64")]
    HashType,
    #[error("it lies deeper than a hash has bits")]
    TooDeep,
    #[error("link {0:?} has no slot prefix, or one out of order")]
    Prefix(String),
    #[error("entry {0:?} is in a slot where its hash does not belong")]
    Misplaced(String),
    #[error("its bitfield does not agree with its links")]
    Bitfield,
}

impl Fanout {
    /// What we make.
    pub const DEFAULT: Self = Self { bits: HAMT_FANOUT.trailing_zeros() };

    pub fn new(slots: u64) -> Result<Self, HamtError> {
        if !(2..=HAMT_FANOUT).contains(&slots) || !slots.is_power_of_two() {
            return Err(HamtError::Fanout);
        }
        Ok(Self { bits: slots.trailing_zeros() })
    }

    pub fn slots(self) -> u64 {
        1 << self.bits
    }

    /// Levels that a 64-bit hash suffices for.
    pub fn max_depth(self) -> u32 {
        u64::BITS / self.bits
    }

    /// Hexadecimal digits before a link's name.
    fn digits(self) -> usize {
        if self.bits > 4 { 2 } else { 1 }
    }

    /// The link name of `slot` for an entry called `name`, or for a shard when that is empty.
    pub fn link_name(self, slot: u8, name: &str) -> String {
        format!("{slot:0width$X}{name}", width = self.digits())
    }
}

impl Place {
    /// The top of a directory.
    pub fn root(fanout: Fanout) -> Self {
        Self { fanout, depth: 0, hash: 0 }
    }

    /// The slot of a name with this hash; `None` below the last level.
    pub fn slot(self, hash: u64) -> Option<u8> {
        let shift = u64::BITS.checked_sub(self.fanout.bits * (self.depth + 1))?;
        Some((hash >> shift & (self.fanout.slots() - 1)) as u8)
    }

    /// The place of the shard in `slot`; `None` if a hash has no bits left to tell names apart there.
    pub fn below(self, slot: u8) -> Option<Self> {
        let depth = self.depth + 1;
        if depth >= self.fanout.max_depth() {
            return None;
        }
        let hash = self.hash | u64::from(slot) << (u64::BITS - self.fanout.bits * depth);
        Some(Self { depth, hash, ..self })
    }

    /// Whether a name with this hash may be in this shard, and in `slot` of it.
    fn holds(self, hash: u64, slot: u8) -> bool {
        let used = self.fanout.bits * self.depth;
        let same = used == 0 || (hash ^ self.hash) >> (u64::BITS - used) == 0;
        same && self.slot(hash) == Some(slot)
    }
}

impl ShardNode {
    /// Reads a shard strictly: prefixes ascending, each entry where its hash belongs (so no name can
    /// appear twice in a directory), and the bitfield telling exactly the slots of the links.
    /// `place` is `None` for the root of a directory, which chooses the fanout.
    pub fn decode(node: PbNode, data: &UnixFs, place: Option<Place>) -> Result<Self, HamtError> {
        if data.hash_type != Some(MURMUR3_X64_64) {
            return Err(HamtError::HashType);
        }
        let fanout = Fanout::new(data.fanout.unwrap_or(0))?;
        let place = place.unwrap_or(Place::root(fanout));
        if place.fanout != fanout {
            return Err(HamtError::Fanout);
        }
        let mut slots = Vec::with_capacity(node.links.len().min(fanout.slots() as usize));
        let mut field = Bitfield::default();
        for link in node.links {
            let slot = slot_of(fanout, &link.name)
                .filter(|slot| slots.last().is_none_or(|(last, _)| last < slot))
                .ok_or_else(|| HamtError::Prefix(link.name.clone()))?;
            field.set(slot);
            slots.push((slot, ShardLink::read(place, slot, link)?));
        }
        let given = data.data.as_deref().unwrap_or_default();
        if field.significant() != trim(given) || given.len() as u64 > (fanout.slots() / 8).max(1) {
            return Err(HamtError::Bitfield);
        }
        Ok(Self { fanout, stat: Stat { mode: data.mode, mtime: data.mtime }, slots })
    }
}

impl ShardLink {
    fn read(place: Place, slot: u8, link: PbLink) -> Result<Self, HamtError> {
        // The prefix is hexadecimal digits, so this is a character boundary.
        let name = link.name.get(place.fanout.digits()..).unwrap_or_default();
        if name.is_empty() {
            place.below(slot).ok_or(HamtError::TooDeep)?;
            return Ok(Self::Shard { cid: link.cid, tsize: link.tsize });
        }
        if !place.holds(murmur3_x64_64(name.as_bytes()), slot) {
            return Err(HamtError::Misplaced(name.to_owned()));
        }
        Ok(Self::Entry(PbLink { name: name.to_owned(), ..link }))
    }
}

/// The block of a shard with these links, given by ascending slot with their prefixed names.
pub fn encode_shard(
    fanout: Fanout,
    stat: Stat,
    links: impl Iterator<Item = (u8, PbLink)>,
) -> PbNode {
    let mut field = Bitfield::default();
    let links = links
        .map(|(slot, link)| {
            field.set(slot);
            link
        })
        .collect();
    let mut data = UnixFs::new(Kind::HamtShard);
    let bits = field.significant();
    data.data = (!bits.is_empty()).then(|| Bytes::copy_from_slice(bits));
    (data.hash_type, data.fanout) = (Some(MURMUR3_X64_64), Some(fanout.slots()));
    (data.mode, data.mtime) = (stat.mode, stat.mtime);
    PbNode { links, data: Some(data.encode()) }
}

/// The slot that a link's prefix names: upper-case digits only, as everybody writes them.
fn slot_of(fanout: Fanout, name: &str) -> Option<u8> {
    let prefix = name.as_bytes().get(..fanout.digits())?;
    let mut slot = 0u64;
    for digit in prefix {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        slot = slot << 4 | u64::from(value);
    }
    (slot < fanout.slots()).then_some(slot as u8)
}

/// One bit per slot, as a big-endian number without leading zeros.
#[derive(Default)]
struct Bitfield {
    bytes: [u8; 32],
}

impl Bitfield {
    fn set(&mut self, slot: u8) {
        self.bytes[31 - usize::from(slot / 8)] |= 1 << (slot % 8);
    }

    fn significant(&self) -> &[u8] {
        trim(&self.bytes)
    }
}

/// `bytes` without leading zeros. (A reader must not mind them; go-bitfield leaves them out.)
fn trim(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::block::{RAW, cid_of, sha256};
    use cid::Version;

    fn link(name: &str) -> PbLink {
        PbLink { cid: cid_of(Version::V1, RAW, &sha256(b"x")), name: name.into(), tsize: 1 }
    }

    /// A shard with one entry called "470.txt", which belongs in slot 00.
    fn shard() -> (PbNode, UnixFs) {
        let entry = link(&Fanout::DEFAULT.link_name(0, "470.txt"));
        let node = encode_shard(Fanout::DEFAULT, Stat::default(), [(0, entry)].into_iter());
        let data = UnixFs::decode(&node.data.clone().unwrap_or_default()).expect("what we wrote");
        (node, data)
    }

    #[test]
    fn a_shard_reads_back() {
        let (node, data) = shard();
        assert_eq!(data.data.as_deref(), Some(&[1u8][..]));
        let read = ShardNode::decode(node, &data, None).expect("a shard");
        assert_eq!(read.slots, vec![(0, ShardLink::Entry(link("470.txt")))]);
    }

    #[test]
    fn slots_take_the_bits_of_a_hash_from_the_top() {
        let hash = 0x0123_4567_89ab_cdef;
        let mut place = Place::root(Fanout::DEFAULT);
        for slot in [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd] {
            assert_eq!(place.slot(hash), Some(slot));
            place = place.below(slot).expect("a level");
        }
        assert_eq!(place.slot(hash), Some(0xef));
        assert_eq!(place.below(0xef), None);
        let five_bits = Place::root(Fanout::new(32).expect("a power of two"));
        assert_eq!(five_bits.slot(hash), Some(0));
        assert_eq!(five_bits.below(0).and_then(|p| p.slot(hash)), Some(0b00100));
    }

    #[test]
    fn prefixes_are_upper_case_and_as_wide_as_the_fanout_needs() {
        for (slots, slot, name) in [(256, 10, "0Ax"), (32, 31, "1Fx"), (16, 10, "Ax"), (8, 7, "7x")]
        {
            let fanout = Fanout::new(slots).expect("a power of two");
            assert_eq!(fanout.link_name(slot, "x"), name);
            assert_eq!(slot_of(fanout, name), Some(slot));
        }
        assert_eq!(slot_of(Fanout::DEFAULT, "0ax"), None);
        assert_eq!(slot_of(Fanout::DEFAULT, "0"), None);
        assert_eq!(slot_of(Fanout::DEFAULT, "é"), None);
        assert!(slot_of(Fanout::new(8).expect("a power of two"), "8x").is_none());
        for bad in [0, 1, 3, 100, 512, 1 << 40] {
            assert_eq!(Fanout::new(bad), Err(HamtError::Fanout));
        }
    }

    #[test]
    fn shards_that_lie_are_refused() {
        let (node, data) = shard();
        let with = |change: &dyn Fn(&mut PbNode, &mut UnixFs)| {
            let (mut node, mut data) = (node.clone(), data.clone());
            change(&mut node, &mut data);
            ShardNode::decode(node, &data, None)
        };
        assert_eq!(with(&|_, d| d.hash_type = Some(0x12)), Err(HamtError::HashType));
        assert_eq!(with(&|_, d| d.fanout = Some(1024)), Err(HamtError::Fanout));
        assert_eq!(with(&|_, d| d.fanout = None), Err(HamtError::Fanout));
        for wrong in [&[3u8][..], &[], &[2], &[1; 33], &[1, 1]] {
            let lie = with(&|_, d| d.data = Some(Bytes::copy_from_slice(wrong)));
            assert_eq!(lie, Err(HamtError::Bitfield), "{wrong:?}");
        }
        assert!(with(&|_, d| d.data = Some(Bytes::from_static(&[0, 1]))).is_ok());
        let twice = with(&|n, _| n.links.push(n.links[0].clone()));
        assert!(matches!(twice, Err(HamtError::Prefix(_))));
        let misplaced = with(&|n, _| n.links[0].name = "01470.txt".into());
        assert!(matches!(misplaced, Err(HamtError::Misplaced(_))));
        let place = Place::root(Fanout::DEFAULT).below(7);
        assert!(matches!(ShardNode::decode(node, &data, place), Err(HamtError::Misplaced(_))));
    }
}
