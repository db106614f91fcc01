//! Named import profiles: everything that decides which CID a file or directory gets
//! (IPIP-0499 "UnixFS CID Profiles", and Kubo's `ipfs add --cid-version=1 --raw-leaves`).

use std::fmt;
use std::str::FromStr;

use cid::Version;

use super::layout::Layout;

/// A set of import parameters that other implementations know by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// IPIP-0499's `unixfs-v1-2025`; Helia's and (from 0.40) Kubo's profile of that name.
    #[default]
    UnixfsV1_2025,
    /// What Kubo makes of `--cid-version=1 --raw-leaves` with its older defaults.
    KuboV1Raw,
    /// IPIP-0499's `unixfs-v0-2015`: Kubo's default for CIDv0.
    UnixfsV0_2015,
}

/// When a flat directory becomes a HAMT shard: strictly above this many bytes (IPIP-0499, "HAMT
/// threshold behavior").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardRule {
    /// Length of the flat directory's serialized block.
    BlockBytes(usize),
    /// Sum over the links of the lengths of name and CID.
    LinkBytes(usize),
}

/// The one shard threshold that all profiles share, in bytes.
pub const SHARD_THRESHOLD: usize = 256 << 10;

/// A profile name that nobody defined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no import profile is called {0:?}: there are unixfs-v1-2025, kubo-v1-raw, unixfs-v0-2015")]
pub struct UnknownProfile(pub String);

impl Profile {
    pub const ALL: [Self; 3] = [Self::UnixfsV1_2025, Self::KuboV1Raw, Self::UnixfsV0_2015];

    pub const fn name(self) -> &'static str {
        match self {
            Self::UnixfsV1_2025 => "unixfs-v1-2025",
            Self::KuboV1Raw => "kubo-v1-raw",
            Self::UnixfsV0_2015 => "unixfs-v0-2015",
        }
    }

    /// How files are cut and linked.
    pub const fn layout(self) -> Layout {
        match self {
            Self::UnixfsV1_2025 => Layout::of_profile(1 << 20, 1024, Version::V1, true),
            Self::KuboV1Raw => Layout::of_profile(256 << 10, 174, Version::V1, true),
            Self::UnixfsV0_2015 => Layout::of_profile(256 << 10, 174, Version::V0, false),
        }
    }

    /// CID version of files' dag-pb nodes and of directories.
    pub const fn version(self) -> Version {
        self.layout().version()
    }

    pub const fn shard_rule(self) -> ShardRule {
        match self {
            Self::UnixfsV1_2025 => ShardRule::BlockBytes(SHARD_THRESHOLD),
            Self::KuboV1Raw | Self::UnixfsV0_2015 => ShardRule::LinkBytes(SHARD_THRESHOLD),
        }
    }
}

impl From<Profile> for Layout {
    fn from(profile: Profile) -> Self {
        profile.layout()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| UnknownProfile(name.chars().take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_no_others() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        assert_eq!("unixfs-v2".parse::<Profile>(), Err(UnknownProfile("unixfs-v2".into())));
        assert_eq!(Profile::default().name(), "unixfs-v1-2025");
    }
}
