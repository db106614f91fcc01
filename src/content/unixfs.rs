//! The UnixFS message inside a dag-pb node (UnixFS specification, "dag-pb Node").

use bytes::Bytes;

use super::varint::{Field, Fields, VarintError, write_bytes, write_uint, write_varint};

/// Multicodec of murmur3-x64-64, the hash of sharded directories.
pub const MURMUR3_X64_64: u64 = 0x22;
/// Fanout of the sharded directories that we make, and the largest that we read.
pub const HAMT_FANOUT: u64 = 256;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A leaf of an old file; read like a file, never made.
    Raw,
    Directory,
    File,
    Symlink,
    HamtShard,
}

/// A UnixFS message. Fields that do not apply to `kind` are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixFs {
    pub kind: Kind,
    /// A file's own bytes, a symlink's target, or a shard's bitfield.
    pub data: Option<Bytes>,
    /// Bytes of the file below this node, its own included.
    pub file_size: Option<u64>,
    /// Bytes of the file below each link, in order.
    pub block_sizes: Vec<u64>,
    pub hash_type: Option<u64>,
    pub fanout: Option<u64>,
    /// POSIX mode bits.
    pub mode: Option<u32>,
    pub mtime: Option<Mtime>,
}

/// A modification time: seconds since 1970 and nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mtime {
    pub seconds: i64,
    pub nanos: Option<u32>,
}

/// Why a node's data is not UnixFS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnixFsError {
    #[error("not UnixFS: {0}")]
    Protobuf(#[from] VarintError),
    #[error("not UnixFS: {0}")]
    Shape(&'static str),
}

impl UnixFs {
    /// A message of this kind with nothing else in it.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            data: None,
            file_size: None,
            block_sizes: Vec::new(),
            hash_type: None,
            fanout: None,
            mode: None,
            mtime: None,
        }
    }

    /// Reads a message; unknown fields are refused, so that what we read we can also write.
    pub fn decode(message: &Bytes) -> Result<Self, UnixFsError> {
        let mut fields = Fields::new(message.clone());
        let mut kind = None;
        let mut out = Self::new(Kind::Raw);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Uint(n)) if kind.is_none() => kind = Some(Kind::from_number(n)?),
                (2, Field::Bytes(data)) if out.data.is_none() => out.data = Some(data),
                (3, Field::Uint(n)) if out.file_size.is_none() => out.file_size = Some(n),
                (4, Field::Uint(n)) => out.block_sizes.push(n),
                (4, Field::Bytes(packed)) => push_packed(&mut out.block_sizes, &packed)?,
                (5, Field::Uint(n)) if out.hash_type.is_none() => out.hash_type = Some(n),
                (6, Field::Uint(n)) if out.fanout.is_none() => out.fanout = Some(n),
                (7, Field::Uint(n)) if out.mode.is_none() => {
                    let mode = u32::try_from(n);
                    out.mode = Some(mode.map_err(|_| UnixFsError::Shape("a mode above 32 bits"))?);
                }
                (8, Field::Bytes(time)) if out.mtime.is_none() => {
                    out.mtime = Some(Mtime::decode(time)?)
                }
                _ => return Err(UnixFsError::Shape("an unknown or doubled field")),
            }
            if out.block_sizes.len() > super::dagpb::MAX_LINKS {
                return Err(UnixFsError::Shape("too many block sizes"));
            }
        }
        out.kind = kind.ok_or(UnixFsError::Shape("no type"))?;
        Ok(out)
    }

    /// The message in field order, as Kubo and Helia write it.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(
            32 + self.data.as_ref().map_or(0, Bytes::len) + self.block_sizes.len() * 5,
        );
        write_uint(&mut out, 1, self.kind.number());
        if let Some(data) = &self.data {
            write_bytes(&mut out, 2, data);
        }
        for (number, value) in
            [(3, self.file_size)].into_iter().chain(self.block_sizes.iter().map(|n| (4, Some(*n))))
        {
            if let Some(value) = value {
                write_uint(&mut out, number, value);
            }
        }
        for (number, value) in
            [(5, self.hash_type), (6, self.fanout), (7, self.mode.map(u64::from))]
        {
            if let Some(value) = value {
                write_uint(&mut out, number, value);
            }
        }
        if let Some(mtime) = self.mtime {
            write_bytes(&mut out, 8, &mtime.encode());
        }
        out.into()
    }
}

impl Kind {
    fn from_number(n: u64) -> Result<Self, UnixFsError> {
        Ok(match n {
            0 => Self::Raw,
            1 => Self::Directory,
            2 => Self::File,
            4 => Self::Symlink,
            5 => Self::HamtShard,
            _ => return Err(UnixFsError::Shape("an unknown type")),
        })
    }

    pub(super) fn number(self) -> u64 {
        match self {
            Self::Raw => 0,
            Self::Directory => 1,
            Self::File => 2,
            Self::Symlink => 4,
            Self::HamtShard => 5,
        }
    }
}

impl Mtime {
    fn decode(message: Bytes) -> Result<Self, UnixFsError> {
        let mut fields = Fields::new(message);
        let (mut seconds, mut nanos) = (None, None);
        while let Some(field) = fields.next()? {
            match field {
                (1, Field::Uint(n)) if seconds.is_none() => seconds = Some(n as i64),
                (2, Field::Fixed32(n)) if nanos.is_none() && n < 1_000_000_000 => nanos = Some(n),
                _ => return Err(UnixFsError::Shape("a bad modification time")),
            }
        }
        Ok(Self {
            seconds: seconds.ok_or(UnixFsError::Shape("a modification time without seconds"))?,
            nanos,
        })
    }

    fn encode(self) -> Vec<u8> {
        let mut out = Vec::new();
        write_uint(&mut out, 1, self.seconds as u64);
        if let Some(nanos) = self.nanos {
            write_varint(&mut out, 2 << 3 | 5);
            out.extend_from_slice(&nanos.to_le_bytes());
        }
        out
    }
}

fn push_packed(sizes: &mut Vec<u64>, packed: &[u8]) -> Result<(), UnixFsError> {
    let mut rest = packed;
    while !rest.is_empty() {
        let (value, len) = super::varint::read_varint(rest)?.ok_or(VarintError::Truncated)?;
        sizes.push(value);
        rest = &rest[len..];
        if sizes.len() > super::dagpb::MAX_LINKS {
            return Err(UnixFsError::Shape("too many block sizes"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let mut file = UnixFs::new(Kind::File);
        file.data = Some(Bytes::from_static(b"abc"));
        file.file_size = Some(3);
        file.block_sizes = vec![1, 2];
        file.mode = Some(0o644);
        file.mtime = Some(Mtime { seconds: -5, nanos: Some(7) });
        let mut shard = UnixFs::new(Kind::HamtShard);
        shard.data = Some(Bytes::from_static(&[1, 0]));
        (shard.hash_type, shard.fanout) = (Some(MURMUR3_X64_64), Some(HAMT_FANOUT));
        for message in [UnixFs::new(Kind::Directory), file, shard] {
            assert_eq!(UnixFs::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn garbage_is_refused() {
        for bad in [
            &[][..],
            &[8, 9],
            &[8, 1, 8, 1],
            &[0x22, 1, 0x80],
            &[8, 1, 0x42, 0],
            &[8, 1, 0x38, 0x80, 0x80, 0x80, 0x80, 0x10],
        ] {
            assert!(UnixFs::decode(&Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }
}
