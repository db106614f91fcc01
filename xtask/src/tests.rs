//! `cargo xtask test`: each part in order, timed, with the runners' closing lines repeated at the end.

use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::demo::{build_relay, build_site};
use crate::package::{self, Profile};
use crate::workspace::{cargo, metadata, root};
use crate::{Result, process, setup};

/// Chromium's switches in tests. QUIC stays on: WebTransport needs it.
const CHROMIUM_SWITCHES: [&str; 7] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// The tests that run in a browser, by file; those inside the library run natively.
const WEB_TESTS: &str = "browser_*";

/// One binary's tests in a browser, in seconds; the runner's own 20 are short on a loaded machine.
const WEB_TIMEOUT: &str = "300";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Lint,
    Native,
    Web,
    E2e,
    Interop,
}

impl Part {
    const ALL: [Self; 5] = [Self::Lint, Self::Native, Self::Web, Self::E2e, Self::Interop];

    fn name(self) -> &'static str {
        match self {
            Self::Lint => "lint",
            Self::Native => "native",
            Self::Web => "web",
            Self::E2e => "e2e",
            Self::Interop => "interop",
        }
    }

    fn parse(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|part| part.name() == name);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(" ");
            format!("no test part `{name}`; there are: {names}").into()
        })
    }
}

/// Runs the named parts, or all; stops at the first that fails and says so after the closing lines.
pub fn run(names: &[String], profile: Profile, only: Option<&str>) -> Result<()> {
    let parts = match names {
        [] => Part::ALL.to_vec(),
        names => names.iter().map(|name| Part::parse(name)).collect::<Result<Vec<_>>>()?,
    };
    let mut report = Report::default();
    let mut outcome = Ok(());
    for part in parts {
        let started = Instant::now();
        println!("\n━━ {}", part.name());
        outcome = match part {
            Part::Lint => lint(&mut report),
            Part::Native => native(&mut report),
            Part::Web => web(&mut report),
            Part::E2e => e2e(&mut report, profile, only),
            Part::Interop => interop(&mut report, profile, only),
        };
        report.end_part(part, &outcome, started.elapsed());
        if outcome.is_err() {
            break;
        }
    }
    report.print();
    outcome
}

fn lint(report: &mut Report) -> Result<()> {
    setup::wasm_target()?;
    setup::npm("tests")?;
    process::run("cargo fmt --check", cargo().args(["fmt", "--all", "--check"]))?;
    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    process::run("clippy, native", &mut clippy)?;
    let mut clippy = cargo();
    clippy.args(["clippy", "--package", "tabpeer", "--lib", "--test", WEB_TESTS, "--locked"]);
    clippy.args(["--target", "wasm32-unknown-unknown", "--", "-D", "warnings"]);
    process::run("clippy, wasm", &mut clippy)?;
    if process::succeeds(cargo().args(["deny", "--version"])) {
        // Advisories are fetched from the network, so they are not part of a test.
        let mut deny = cargo();
        deny.args(["deny", "--workspace", "check", "licenses", "bans", "sources"]);
        process::run("cargo deny", &mut deny)?;
        report.line("cargo deny: licenses, bans and sources ok".into());
    } else {
        report.line("cargo deny: not installed, skipped (`cargo install cargo-deny`)".into());
    }
    process::run("scripts and type declarations", node("tests/lint.mjs").current_dir(root()))
}

fn native(report: &mut Report) -> Result<()> {
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--locked"]);
    let ended = process::run_keeping("cargo test", &mut tests, is_rust_closing_line)?;
    report.runner("native", ended)
}

fn web(report: &mut Report) -> Result<()> {
    setup::wasm_target()?;
    let programs = setup::wasm_bindgen()?;
    let browser = setup::browser()?;
    let capabilities = metadata()?.target.join("webdriver.json");
    let options = json!({ "binary": browser.chromium, "args": CHROMIUM_SWITCHES });
    std::fs::write(&capabilities, json!({ "goog:chromeOptions": options }).to_string())?;

    let mut tests = cargo();
    tests.args(["test", "--package", "tabpeer", "--locked", "--target", "wasm32-unknown-unknown"]);
    tests.args(["--test", WEB_TESTS]);
    tests
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER",
            programs.join("wasm-bindgen-test-runner"),
        )
        .env("WASM_BINDGEN_USE_BROWSER", "1")
        .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", &capabilities)
        .env("WASM_BINDGEN_TEST_DRIVER_TIMEOUT", "60")
        .env("WASM_BINDGEN_TEST_TIMEOUT", WEB_TIMEOUT);
    browser.name_in(&mut tests);
    let ended = process::run_keeping("cargo test in Chromium", &mut tests, is_rust_closing_line)?;
    report.runner("web", ended)
}

fn e2e(report: &mut Report, profile: Profile, only: Option<&str>) -> Result<()> {
    setup::npm("www")?;
    package::build(profile)?;
    let site = build_site()?;
    scripts(report, Part::E2e, only, |tests| {
        tests.env("TABPEER_SITE", site);
    })
}

/// With Kubo and Helia, which `setup` installs.
fn interop(report: &mut Report, profile: Profile, only: Option<&str>) -> Result<()> {
    let python = setup::kubo()?;
    package::build(profile)?;
    scripts(report, Part::Interop, only, |tests| {
        tests.env("TABPEER_KUBO_PYTHON", python);
    })
}

/// The test files of `tests/<part>`, one after the other, against the built package and relay.
fn scripts(
    report: &mut Report,
    part: Part,
    only: Option<&str>,
    prepare: impl FnOnce(&mut Command),
) -> Result<()> {
    setup::npm("tests")?;
    let browser = setup::browser()?;
    let relay = build_relay()?;

    let folder = part.name();
    let mut files: Vec<String> = std::fs::read_dir(root().join("tests").join(folder))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".test.mjs") && only.is_none_or(|text| name.contains(text)))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(
            format!("no file of tests/{folder} matches `{}`", only.unwrap_or_default()).into()
        );
    }
    let mut tests = Command::new("node");
    // One file at a time: each starts browsers and a relay, and the tests measure time-outs.
    let closing = metadata()?.target.join(format!("{folder}.tap"));
    tests.args(["--test", "--test-concurrency=1"]);
    tests.args([
        "--test-reporter=spec",
        "--test-reporter-destination=stdout",
        "--test-reporter=tap",
    ]);
    tests.arg(format!("--test-reporter-destination={}", closing.display()));
    tests.args(&files).current_dir(root().join("tests"));
    tests.env("TABPEER_RELAY", relay).env("TABPEER_PKG", package::folder());
    prepare(&mut tests);
    browser.name_in(&mut tests);
    let title = format!("node --test, {folder}");
    let (status, _) = process::run_keeping(&title, &mut tests, |_| false)?;
    let tap = std::fs::read_to_string(&closing)?;
    let kept = tap.lines().filter(|line| is_node_closing_line(line)).map(str::to_string).collect();
    report.runner(folder, (status, kept))
}

fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script);
    command
}

fn is_rust_closing_line(line: &str) -> bool {
    // cargo test ends each binary with such a line; those without tests say nothing of interest.
    line.starts_with("test result:") && !line.contains(" 0 passed; 0 failed; 0 ignored")
}

fn is_node_closing_line(line: &str) -> bool {
    ["# tests ", "# pass ", "# fail ", "# cancelled ", "# skipped ", "# todo ", "# duration_ms "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// What is repeated at the end, when the long output has scrolled away.
#[derive(Default)]
struct Report {
    lines: Vec<String>,
}

impl Report {
    fn line(&mut self, line: String) {
        println!("{line}");
        self.lines.push(line);
    }

    fn runner(&mut self, part: &str, (status, kept): (ExitStatus, Vec<String>)) -> Result<()> {
        self.lines.extend(kept);
        if status.success() { Ok(()) } else { Err(format!("the {part} tests failed").into()) }
    }

    fn end_part(&mut self, part: Part, outcome: &Result<()>, took: Duration) {
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        self.lines.push(format!("{}: {word} in {:.0} s", part.name(), took.as_secs_f64()));
    }

    fn print(&self) {
        println!("\n━━ closing lines");
        for line in &self.lines {
            println!("{line}");
        }
    }
}
