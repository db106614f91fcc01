//! Paths inside a directory tree, checked once where they come in.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Longest path in bytes (Linux's PATH_MAX).
pub const MAX_PATH: usize = 4096;
/// Longest part in bytes (NAME_MAX of the file systems that such trees are exported to).
pub const MAX_NAME: usize = 255;
/// Most parts of a path.
pub const MAX_PARTS: usize = 64;
/// How much of a refused path its error repeats, in characters.
const MAX_QUOTED: usize = 100;

/// A relative unix path without anything that means something else than a name: no empty parts,
/// no `.` or `..`, no control characters. The empty path is the root of the tree.
///
/// Ordered part by part, so that what is below a directory follows it directly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct TreePath(String);

/// A path that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {path:?} cannot be used: {reason}")]
pub struct PathError {
    /// The path, shortened if it is long.
    pub path: String,
    pub reason: PathReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathReason {
    #[error("it is empty, which stands for the root itself")]
    Root,
    #[error("a part of it is empty")]
    EmptyPart,
    #[error("`.` and `..` are not names")]
    Dots,
    #[error("it has a control character in it")]
    Control,
    #[error("a part of it has more than {MAX_NAME} bytes")]
    NameTooLong,
    #[error("it has more than {MAX_PATH} bytes")]
    TooLong,
    #[error("it has more than {MAX_PARTS} parts")]
    TooDeep,
}

impl TreePath {
    /// The root of a tree.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads the path of something inside a tree. One leading `/` is ignored.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        match Self::parse_or_root(path)? {
            root if root.is_root() => Err(refuse(path, PathReason::Root)),
            path => Ok(path),
        }
    }

    /// Like [`TreePath::parse`], where the empty path and `/` are the root.
    pub fn parse_or_root(path: &str) -> Result<Self, PathError> {
        let inner = path.strip_prefix('/').unwrap_or(path);
        if inner.is_empty() {
            return Ok(Self::root());
        }
        if inner.len() > MAX_PATH {
            return Err(refuse(path, PathReason::TooLong));
        }
        if inner.split('/').count() > MAX_PARTS {
            return Err(refuse(path, PathReason::TooDeep));
        }
        match inner.split('/').find_map(|part| check_name(part).err()) {
            Some(reason) => Err(refuse(path, reason)),
            None => Ok(Self(inner.to_owned())),
        }
    }

    /// The path of `name` in this directory. `name` is one part, without a `/`.
    pub fn join(&self, name: &str) -> Result<Self, PathError> {
        let joined = if self.is_root() { name.to_owned() } else { format!("{self}/{name}") };
        match name.contains('/') || name.is_empty() {
            true => Err(refuse(&joined, PathReason::EmptyPart)),
            false => Self::parse(&joined),
        }
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names on the way down; none for the root.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The directory that this is in; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let parent = self.0.rsplit_once('/').map_or("", |(parent, _)| parent);
        (!self.is_root()).then(|| Self(parent.to_owned()))
    }

    /// The last part; `None` for the root.
    pub fn name(&self) -> Option<&str> {
        self.parts().next_back()
    }
}

/// Whether `name` can be one part of a path.
pub fn check_name(name: &str) -> Result<(), PathReason> {
    match name {
        "" => Err(PathReason::EmptyPart),
        "." | ".." => Err(PathReason::Dots),
        _ if name.len() > MAX_NAME => Err(PathReason::NameTooLong),
        _ if name.contains('/') => Err(PathReason::EmptyPart),
        _ if name.chars().any(char::is_control) => Err(PathReason::Control),
        _ => Ok(()),
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TreePath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::parse(path)
    }
}

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(other.parts())
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn refuse(path: &str, reason: PathReason) -> PathError {
    PathError { path: path.chars().take(MAX_QUOTED).collect(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_knows_its_parts() {
        let path = TreePath::parse("/a/b c/ü.txt").expect("a path");
        assert_eq!(path.to_string(), "a/b c/ü.txt");
        assert!(path.parts().eq(["a", "b c", "ü.txt"]));
        assert_eq!(path.name(), Some("ü.txt"));
        let parents: Vec<String> =
            std::iter::successors(path.parent(), TreePath::parent).map(|p| p.to_string()).collect();
        assert_eq!(parents, ["a/b c", "a", ""]);
        assert_eq!((TreePath::root().name(), TreePath::root().parts().count()), (None, 0));
        assert_eq!(TreePath::root().join("a").and_then(|a| a.join("b c")), "a/b c".parse());
    }

    #[test]
    fn the_root_is_a_path_only_where_it_may_be() {
        for root in ["", "/"] {
            assert_eq!(TreePath::parse_or_root(root), Ok(TreePath::root()));
            assert_eq!(TreePath::parse(root).map_err(|error| error.reason), Err(PathReason::Root));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let (long, deep) = ("x".repeat(256), "a/".repeat(64) + "a");
        let whole = ["y".repeat(255).as_str(); 17].join("/");
        for (path, reason) in [
            ("a//b", PathReason::EmptyPart),
            ("//a", PathReason::EmptyPart),
            ("a/", PathReason::EmptyPart),
            ("a/../b", PathReason::Dots),
            (".", PathReason::Dots),
            ("a/b\0", PathReason::Control),
            ("a\nb", PathReason::Control),
            ("a\u{85}b", PathReason::Control),
            (&long, PathReason::NameTooLong),
            (&deep, PathReason::TooDeep),
            (&whole, PathReason::TooLong),
        ] {
            let error = TreePath::parse_or_root(path).expect_err(path);
            assert_eq!(error.reason, reason, "{path}");
            assert!(path.starts_with(&error.path));
        }
        assert!(TreePath::parse(&long[1..]).is_ok() && TreePath::parse(&deep[2..]).is_ok());
        for name in ["", "a/b", "..", "/"] {
            assert!(TreePath::root().join(name).is_err(), "{name}");
        }
        for name in ["...", ".hidden", "a\\b", "~", " "] {
            assert!(TreePath::parse(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn order_keeps_a_directory_and_its_contents_together() {
        let mut paths = ["a-b", "a/z", "a", "", "a/b/c", "b"]
            .map(|path| TreePath::parse_or_root(path).expect("a path"));
        paths.sort();
        assert_eq!(paths.map(|path| path.to_string()), ["", "a", "a/b/c", "a/z", "a-b", "b"]);
    }
}
