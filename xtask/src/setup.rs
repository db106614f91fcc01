//! Installs what the other commands need, each part only when it is missing.
//!
//! Every command asks for the parts it uses, so a fresh clone needs no separate step, and a second
//! run costs a few file look-ups.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::workspace::{cache, cargo, locked_version, root};
use crate::{Result, process};

const WASM: &str = "wasm32-unknown-unknown";

/// A download that timed out is tried again this often.
const ATTEMPTS: u32 = 4;

/// The oldest Node.js, as major and minor version, that the bundler of the page runs on.
const NODE: (u32, u32) = (20, 19);

/// The oldest Python that the launcher of Kubo runs on.
const PYTHON: (u32, u32) = (3, 10);

/// Everything, for `cargo xtask setup`.
pub fn everything() -> Result<()> {
    wasm_target()?;
    rust_src()?;
    println!("wasm target: {WASM}, with its sources");
    println!("wasm-bindgen: {}", wasm_bindgen()?.display());
    npm("tests")?;
    npm("www")?;
    println!("npm packages: tests, www");
    println!("Kubo: for {}", kubo()?.display());
    let browser = browser()?;
    println!("browser: {}, {}", browser.chromium.display(), browser.driver.display());
    Ok(())
}

/// The standard library for wasm.
pub fn wasm_target() -> Result<()> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(root()).args(["--print", "target-libdir", "--target", WASM]);
    if process::capture(&mut rustc).is_ok_and(|folder| Path::new(folder.trim()).is_dir()) {
        return Ok(());
    }
    retry(&format!("adding the target {WASM}"), || {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(root()).args(["target", "add", WASM]);
        rustup
    })
}

/// The standard library's sources, to compile it for size.
pub fn rust_src() -> Result<()> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(root()).args(["--print", "sysroot"]);
    let sysroot = PathBuf::from(process::capture(&mut rustc)?.trim());
    if sysroot.join("lib/rustlib/src/rust/library/std").is_dir() {
        return Ok(());
    }
    retry("adding the component rust-src", || {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(root()).args(["component", "add", "rust-src"]);
        rustup
    })
}

/// The folder with `wasm-bindgen` and `wasm-bindgen-test-runner`, of exactly the locked version.
pub fn wasm_bindgen() -> Result<PathBuf> {
    let version = locked_version("wasm-bindgen")?;
    let folder = cache()?.join(format!("wasm-bindgen-{version}"));
    let programs = folder.join("bin");
    let complete = ["wasm-bindgen", "wasm-bindgen-test-runner"]
        .iter()
        .all(|program| programs.join(program).is_file());
    if !complete {
        retry(
            &format!("installing wasm-bindgen-cli {version} (once, about five minutes)"),
            || {
                let mut install = cargo();
                install.args(["install", "wasm-bindgen-cli", "--locked", "--force"]);
                install.args(["--version", &format!("={version}")]).arg("--root").arg(&folder);
                // Its build must not be mixed up with the clone's own flags and directories.
                install.current_dir("/").env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
                install
            },
        )?;
    }
    Ok(programs)
}

/// The packages of one folder's lock file, installed once per content of that file.
pub fn npm(folder: &str) -> Result<()> {
    node()?;
    let folder = root().join(folder);
    let lock = std::fs::read(folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules/.tabpeer-installed");
    if std::fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    retry(&format!("npm ci in {}", folder.display()), || {
        let mut npm = Command::new("npm");
        npm.current_dir(&folder).args(["ci", "--no-audit", "--no-fund"]);
        npm
    })?;
    Ok(std::fs::write(stamp, lock)?)
}

/// Node.js itself is the one thing that is asked for, not installed.
pub fn node() -> Result<()> {
    let needed = format!("Node.js {}.{} or later with npm is needed", NODE.0, NODE.1);
    let version = process::capture(Command::new("node").arg("--version"))
        .map_err(|error| format!("{needed}: {error}"))?;
    match major_and_minor(&version) {
        Some(found) if found >= NODE => Ok(()),
        _ => Err(format!("{needed}, this is {}", version.trim()).into()),
    }
}

/// The Python that has Kubo, for the tests with it: an environment of its own, made once per content of the list.
pub fn kubo() -> Result<PathBuf> {
    let wanted = root().join("tests/interop/requirements.txt");
    let list = std::fs::read(&wanted)?;
    let mut hasher = DefaultHasher::new();
    list.hash(&mut hasher);
    let folder = cache()?.join(format!("interop-{:016x}", hasher.finish()));
    let python = folder.join("bin/python");
    let stamp = folder.join("installed");
    // The environment breaks when the system gets another Python.
    if std::fs::read(&stamp).is_ok_and(|installed| installed == list)
        && process::succeeds(Command::new(&python).arg("--version"))
    {
        return Ok(python);
    }
    let condition = format!("import sys; sys.exit(sys.version_info < {PYTHON:?})");
    if !process::succeeds(Command::new("python3").args(["-c", &condition])) {
        return Err(format!("Python {}.{} or later is needed", PYTHON.0, PYTHON.1).into());
    }
    // Debian's Python comes without what makes environments.
    if !process::succeeds(Command::new("python3").args(["-c", "import ensurepip"])) {
        debian(&["python3-venv"])?;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(&folder);
    process::run("making a Python environment", &mut venv)?;
    retry("installing Kubo (once, 90 MB)", || {
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        // Its own dependencies are for its Python interface, which is not used.
        pip.args(["--require-hashes", "--no-deps", "--requirement"]).arg(&wanted);
        pip
    })?;
    std::fs::write(stamp, list)?;
    Ok(python)
}

/// The browser that the tests drive.
pub struct Browser {
    pub chromium: PathBuf,
    pub driver: PathBuf,
}

impl Browser {
    /// Tells a child where the browser is.
    pub fn name_in(&self, command: &mut Command) {
        command.env("TABPEER_CHROMIUM", &self.chromium).env("CHROMEDRIVER", &self.driver);
    }
}

/// Finds Chromium and its driver, or installs Debian's.
pub fn browser() -> Result<Browser> {
    if let Some(browser) = find_browser() {
        return Ok(browser);
    }
    debian(&["chromium", "chromium-driver"])?;
    find_browser().ok_or_else(|| {
        "Chromium and chromedriver are needed: install them (Debian: `apt-get install chromium \
         chromium-driver`) or name them in TABPEER_CHROMIUM and TABPEER_CHROMEDRIVER"
            .into()
    })
}

/// Installs Debian's packages where that can be done unasked; elsewhere the caller finds them missing.
fn debian(packages: &[&str]) -> Result<()> {
    if on_path("apt-get").is_none() {
        return Ok(());
    }
    let administrator = rustix::process::geteuid().is_root();
    if !administrator && !process::succeeds(Command::new("sudo").args(["-n", "true"])) {
        return Ok(());
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new(if administrator { "apt-get" } else { "sudo" });
        if !administrator {
            command.args(["-n", "apt-get"]);
        }
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    retry("apt-get update", || apt(&["update", "-q"]))?;
    retry(&format!("installing {}", packages.join(", ")), || {
        let mut install = apt(&["install", "-q", "-y", "--no-install-recommends"]);
        install.args(packages);
        install
    })
}

fn find_browser() -> Option<Browser> {
    let find = |variable: &str, names: &[&str]| match std::env::var_os(variable) {
        Some(path) => Some(PathBuf::from(path)),
        None => names.iter().find_map(|name| on_path(name)),
    };
    Some(Browser {
        chromium: find("TABPEER_CHROMIUM", &["chromium", "chromium-browser", "google-chrome"])?,
        driver: find("TABPEER_CHROMEDRIVER", &["chromedriver"])?,
    })
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn retry(title: &str, command: impl Fn() -> Command) -> Result<()> {
    let mut attempt = 1;
    loop {
        match process::run(title, &mut command()) {
            Ok(()) => return Ok(()),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(error) => {
                let pause = Duration::from_secs(2 << attempt);
                println!("{error}; trying again in {} s", pause.as_secs());
                thread::sleep(pause);
                attempt += 1;
            }
        }
    }
}

fn major_and_minor(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_major_and_minor() {
        assert_eq!(major_and_minor("v20.20.2\n"), Some((20, 20)));
        assert_eq!(major_and_minor("what"), None);
        assert!(major_and_minor("v20.9.0") < Some(NODE));
        assert!(major_and_minor("v22.0.0") >= Some(NODE));
    }
}
