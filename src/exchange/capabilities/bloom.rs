//! The filter in which a peer tells what it has: small, never wrong about what is in it, wrong
//! about one in a hundred of what is not.
//!
//! Content CIDs are hashes already, so nothing is hashed again: the positions are made by double
//! hashing from the first sixteen bytes of the digest (Kirsch and Mitzenmacher), which any two
//! implementations compute alike. Only the digest counts, so both CID versions of a block and all
//! its codecs are the same element, as they are to Bitswap.

use bytes::Bytes;

use crate::content::block::{Cid, IDENTITY};

/// Smallest filter; sizes go up from here by doubling.
pub const MIN_FILTER: usize = 64;
/// Largest filter, ours or another's.
pub const MAX_FILTER: usize = 64 << 10;
/// Positions of an element in the filters that we make.
pub const HASHES: u8 = 7;
/// Most positions of an element in another's filter.
pub const MAX_HASHES: u8 = 16;
/// Bits per element of our filters, at least: with [`HASHES`] positions this is the least whole
/// number that keeps wrong answers below 1 %.
const BITS_PER_ELEMENT: usize = 10;
/// Elements of our largest filter.
pub const MAX_ELEMENTS: usize = MAX_FILTER * 8 / BITS_PER_ELEMENT;
/// A filter that is wrong more often than this says nothing: it is full, or it was sent by somebody
/// who wants to be asked for everything.
pub const MAX_FALSE_POSITIVES: f64 = 0.05;
/// Bytes of a digest that the positions are made of.
const DIGEST_USED: usize = 16;

/// What of a CID goes into a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element([u8; DIGEST_USED]);

/// A Bloom filter of multihashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bloom {
    /// A power of two of them.
    bits: Bytes,
    hashes: u8,
    ones: u32,
}

/// Why bytes are not a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BloomError {
    #[error("a filter of {0} bytes: it must be a power of two from {MIN_FILTER} to {MAX_FILTER}")]
    Size(usize),
    #[error("a filter with {0} positions for an element: it must be 1 to {MAX_HASHES}")]
    Hashes(u64),
}

impl Element {
    /// `None` for what is no hash: an inline CID.
    pub fn of(cid: &Cid) -> Option<Self> {
        let digest = (cid.hash().code() != IDENTITY).then(|| cid.hash().digest())?;
        digest.first_chunk().copied().map(Self)
    }

    /// Byte and mask of each position in `len` bytes, a power of two.
    fn positions(self, hashes: u8, len: usize) -> impl Iterator<Item = (usize, u8)> {
        let half = u128::from_le_bytes(self.0);
        // The second half is made odd, so that the steps reach every position of a power of two.
        let (first, step) = (half as u64, (half >> 64) as u64 | 1);
        let last = (len * 8) as u64 - 1;
        let position = move |i: u8| first.wrapping_add(step.wrapping_mul(u64::from(i))) & last;
        (0..hashes).map(position).map(|at| ((at >> 3) as usize, 1 << (at & 7)))
    }
}

impl Bloom {
    /// The filter of `content`, in the smallest size that fits. Of more than [`MAX_ELEMENTS`] the
    /// rest is left out.
    pub fn of(content: impl ExactSizeIterator<Item = Element>) -> Self {
        let elements = content.len().min(MAX_ELEMENTS);
        let size = (elements * BITS_PER_ELEMENT).div_ceil(8).next_power_of_two();
        let mut bits = vec![0; size.clamp(MIN_FILTER, MAX_FILTER)];
        for element in content.take(elements) {
            for (byte, mask) in element.positions(HASHES, bits.len()) {
                if let Some(byte) = bits.get_mut(byte) {
                    *byte |= mask;
                }
            }
        }
        let ones = count_ones(&bits);
        Self { bits: bits.into(), hashes: HASHES, ones }
    }

    /// A filter as it was received.
    pub fn from_parts(bits: Bytes, hashes: u64) -> Result<Self, BloomError> {
        let len = bits.len();
        if !len.is_power_of_two() || !(MIN_FILTER..=MAX_FILTER).contains(&len) {
            return Err(BloomError::Size(len));
        }
        let known = u8::try_from(hashes).ok().filter(|hashes| (1..=MAX_HASHES).contains(hashes));
        let hashes = known.ok_or(BloomError::Hashes(hashes))?;
        let ones = count_ones(&bits);
        Ok(Self { bits, hashes, ones })
    }

    pub fn bits(&self) -> &Bytes {
        &self.bits
    }

    pub fn hashes(&self) -> u8 {
        self.hashes
    }

    /// Whether `cid` may be in it: if not, it certainly is not.
    pub fn may_contain(&self, cid: &Cid) -> bool {
        let set = |(byte, mask)| self.bits.get(byte).is_some_and(|bits: &u8| bits & mask != 0);
        Element::of(cid)
            .is_some_and(|element| element.positions(self.hashes, self.bits.len()).all(set))
    }

    /// How much of it is set, from 0 to 1.
    pub fn fill(&self) -> f64 {
        f64::from(self.ones) / (self.bits.len() * 8) as f64
    }

    /// How often it is wrong about what is not in it.
    pub fn false_positives(&self) -> f64 {
        self.fill().powi(i32::from(self.hashes))
    }

    /// Whether its answers are worth anything.
    pub fn is_telling(&self) -> bool {
        self.false_positives() <= MAX_FALSE_POSITIVES
    }
}

fn count_ones(bits: &[u8]) -> u32 {
    bits.iter().map(|byte| byte.count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::block::{DAG_PB, RAW, cid_of, sha256};
    use cid::Version;

    fn filter(content: &[Cid]) -> Bloom {
        let elements: Vec<_> = content.iter().filter_map(Element::of).collect();
        Bloom::of(elements.into_iter())
    }

    fn cids(range: std::ops::Range<u32>) -> Vec<Cid> {
        range.map(|i| cid_of(Version::V1, RAW, &sha256(&i.to_be_bytes()))).collect()
    }

    #[test]
    fn what_is_in_it_is_always_found_and_little_else() {
        for count in [0u32, 1, 51, 52, 1000, 6553, 20_000] {
            let content = cids(0..count);
            let filter = filter(&content);
            assert!(content.iter().all(|cid| filter.may_contain(cid)), "{count}");
            let others = cids(1_000_000..1_010_000);
            let wrong = others.iter().filter(|cid| filter.may_contain(cid)).count();
            assert!(wrong <= 150, "{wrong} of 10000 with {count}");
            assert!(filter.is_telling());
            assert!(filter.bits().len() <= (count as usize * 5 / 2).max(MIN_FILTER), "{count}");
        }
    }

    #[test]
    fn versions_and_codecs_of_a_block_are_one_element() {
        let digest = sha256(b"x");
        let filter = filter(&[cid_of(Version::V0, DAG_PB, &digest)]);
        assert!(filter.may_contain(&cid_of(Version::V1, RAW, &digest)));
    }

    #[test]
    fn its_bits_are_those_of_the_definition() {
        // 64 bytes are 512 bits: positions are (a + i b) mod 512, a and b little-endian halves.
        let cid = cid_of(Version::V1, RAW, &sha256(b"hello world"));
        let digest = sha256(b"hello world");
        let half = |at: usize| u64::from_le_bytes(digest[at..at + 8].try_into().expect("eight"));
        let mut bits = [0u8; 64];
        for i in 0..7 {
            let at = half(0).wrapping_add((half(8) | 1).wrapping_mul(i)) % 512;
            bits[at as usize / 8] |= 1 << (at % 8);
        }
        assert_eq!(&filter(&[cid]).bits()[..], &bits);
    }

    #[test]
    fn a_filter_that_has_everything_is_not_believed() {
        let all = Bloom::from_parts(vec![0xff; 256].into(), 7).expect("a filter");
        assert!(all.may_contain(&cids(0..1)[0]) && !all.is_telling());
        let half = Bloom::from_parts(vec![0x55; 256].into(), 1).expect("a filter");
        assert!(!half.is_telling());
        let none = Bloom::from_parts(vec![0; 256].into(), 16).expect("a filter");
        assert!(none.is_telling() && !none.may_contain(&cids(0..1)[0]));
    }

    #[test]
    fn the_largest_filter_is_full_but_telling() {
        let content = cids(0..MAX_ELEMENTS as u32 + 100);
        let filter = filter(&content);
        assert_eq!(filter.bits().len(), MAX_FILTER);
        assert!(filter.is_telling() && filter.false_positives() < 0.0105);
        assert!(content.iter().take(MAX_ELEMENTS).all(|cid| filter.may_contain(cid)));
    }

    #[test]
    fn other_sizes_and_counts_are_refused() {
        for len in [0, 1, 63, 65, 96, MAX_FILTER + 1, MAX_FILTER * 2] {
            let refused = Bloom::from_parts(vec![0; len].into(), 7);
            assert_eq!(refused, Err(BloomError::Size(len)));
        }
        for hashes in [0, 17, 263, u64::MAX] {
            let refused = Bloom::from_parts(vec![0; 64].into(), hashes);
            assert_eq!(refused, Err(BloomError::Hashes(hashes)));
        }
    }

    #[test]
    fn inline_content_is_in_no_filter() {
        let inline: Cid = "bafkqaaa".parse().expect("a CID");
        let filter = filter(&[inline]);
        assert!(!filter.may_contain(&inline) && filter.fill() == 0.0);
    }
}
