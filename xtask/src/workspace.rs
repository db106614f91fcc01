//! Where things are: the clone, its target directory, the tools' cache, versions in the lock file.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::{Result, process};

/// The clone's top directory.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        // cargo says it at run time too, which holds when several clones share a target directory.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let manifest = PathBuf::from(manifest);
        manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
    });
    &ROOT
}

/// A cargo command in the clone, with the cargo that runs this program.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// What cargo knows of the root package and of the target directory, wherever it is configured.
pub struct Metadata {
    pub version: String,
    pub license: String,
    pub description: String,
    pub repository: String,
    pub target: PathBuf,
}

/// Asks cargo for [`Metadata`].
pub fn metadata() -> Result<Metadata> {
    let text = process::capture(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    let package = all["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == "tabpeer"))
        .ok_or("cargo metadata names no package `tabpeer`")?;
    let field = |name: &str| package[name].as_str().unwrap_or_default().to_string();
    Ok(Metadata {
        version: field("version"),
        license: field("license"),
        description: field("description"),
        repository: field("repository"),
        target: all["target_directory"].as_str().ok_or("cargo names no target directory")?.into(),
    })
}

/// The version that Cargo.lock holds for `package`, so that a tool can never differ from its library.
pub fn locked_version(package: &str) -> Result<String> {
    let lock = std::fs::read_to_string(root().join("Cargo.lock"))?;
    version_in_lock(&lock, package)
        .ok_or_else(|| format!("Cargo.lock has no package `{package}`").into())
}

/// Where tools are installed that belong to no clone in particular.
pub fn cache() -> Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor a home directory is set")?;
    Ok(base.join("tabpeer"))
}

fn version_in_lock(lock: &str, package: &str) -> Option<String> {
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    let version = lines.next()?.strip_prefix("version = \"")?;
    version.strip_suffix('"').map(str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_whole_name_only() {
        let lock = "[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.58\"\n\n\
                    [[package]]\nname = \"wasm-bindgen\"\nversion = \"0.2.108\"\n";
        assert_eq!(version_in_lock(lock, "wasm-bindgen").as_deref(), Some("0.2.108"));
        assert_eq!(version_in_lock(lock, "wasm"), None);
    }

    #[test]
    fn this_clone_locks_wasm_bindgen() {
        assert!(locked_version("wasm-bindgen").is_ok());
    }
}
