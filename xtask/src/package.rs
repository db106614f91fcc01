//! Builds the npm package: the wasm by cargo, its bindings by wasm-bindgen, the skin from `src/js`.
//!
//! What counts is the size after compression: that is what a visitor downloads. The npm profile
//! therefore compiles the standard library anew ([`SMALL_STD`]), and wasm-opt leaves out what only
//! the raw file gains by ([`WASM_OPT`]), and like functions are put next to each other ([`order`]).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{self, Metadata, cargo, root};
use crate::{Result, order, process, setup};

/// What the wasm and the scripts may weigh together after gzip, in bytes.
const BUDGET: u64 = 988_000;

/// The standard library compiled for size, without the texts of panics: in wasm a panic is the end of
/// the module, and the trap's stack says where. Together they save a tenth after compression. These
/// flags are not stable yet; the toolchain is pinned, and RUSTC_BOOTSTRAP lets it take them.
const SMALL_STD: [&str; 2] =
    ["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"];
const SMALL_FLAGS: &str = "-Ctarget-feature=+simd128 -Zlocation-detail=none -Zfmt-debug=shallow \
                           -Zunstable-options -Cpanic=immediate-abort";
/// Its passes for size but those that make the raw file smaller and the compressed one larger: one
/// place that calls a function is like another, the function inlined into it is like nothing.
const WASM_OPT: [&str; 8] = [
    "-Oz",
    "--skip-pass=inlining-optimizing",
    "--skip-pass=simplify-locals",
    "--skip-pass=simplify-locals-nostructure",
    "--skip-pass=local-cse",
    "--skip-pass=memory-packing",
    "--duplicate-function-elimination",
    "--reorder-locals",
];
const WASM_FEATURES: [&str; 7] = [
    "--enable-simd",
    "--enable-bulk-memory",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-multivalue",
];

/// Copied next to the generated files.
const SKIN: [&str; 6] =
    ["index.js", "errors.js", "fetch.js", "file.js", "segments.js", "index.d.ts"];
const PAPERS: [&str; 3] = ["README.md", "LICENSE-MIT", "LICENSE-APACHE"];
const GENERATED: [&str; 2] = ["tabpeer.js", "tabpeer_bg.wasm"];

/// How the wasm is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What is published: small, slow to build.
    Npm,
    /// Quick to build, large and slow to run.
    Dev,
}

impl Profile {
    pub fn from_flag(dev: bool) -> Self {
        if dev { Self::Dev } else { Self::Npm }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Dev => "dev",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Dev => "debug",
        }
    }
}

/// Where the built package is.
pub fn folder() -> PathBuf {
    root().join("pkg")
}

/// Where the package is built for benches: with more exports than the published one has.
pub fn bench_folder() -> Result<PathBuf> {
    Ok(workspace::metadata()?.target.join("bench-pkg"))
}

/// Builds `pkg/`, prints its size and fails above the budget.
pub fn build(profile: Profile) -> Result<()> {
    build_into(&folder(), profile, &[])?;
    check_size(&folder(), profile)
}

/// Builds [`bench_folder`].
pub fn build_for_benches(profile: Profile) -> Result<()> {
    build_into(&bench_folder()?, profile, &["--features", "bench"])
}

fn build_into(pkg: &Path, profile: Profile, features: &[&str]) -> Result<()> {
    setup::wasm_target()?;
    setup::node()?;
    let programs = setup::wasm_bindgen()?;
    let metadata = workspace::metadata()?;

    let mut compile = cargo();
    compile.args(["build", "--package", "tabpeer", "--lib", "--locked"]);
    compile
        .args(["--target", "wasm32-unknown-unknown", "--profile", profile.name()])
        .args(features);
    // RUSTFLAGS would silently replace the flags (simd128) of .cargo/config.toml.
    compile.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    if profile == Profile::Npm {
        setup::rust_src()?;
        setup::npm("tests")?;
        compile.args(SMALL_STD).env("RUSTC_BOOTSTRAP", "1");
        compile.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", SMALL_FLAGS);
    }
    process::run(&format!("compiling the wasm ({} profile)", profile.name()), &mut compile)?;

    let wasm =
        metadata.target.join("wasm32-unknown-unknown").join(profile.folder()).join("tabpeer.wasm");
    if pkg.exists() {
        std::fs::remove_dir_all(pkg)?;
    }
    std::fs::create_dir_all(pkg)?;
    let mut bindgen = Command::new(programs.join("wasm-bindgen"));
    bindgen.arg(&wasm).arg("--out-dir").arg(pkg).args(["--out-name", "tabpeer", "--target", "web"]);
    process::run("wasm-bindgen", &mut bindgen)?;
    if profile == Profile::Npm {
        optimize(&pkg.join("tabpeer_bg.wasm"))?;
    }

    for file in SKIN {
        copy(&root().join("src/js").join(file), &pkg.join(file))?;
    }
    for file in PAPERS {
        copy(&root().join(file), &pkg.join(file))?;
    }
    std::fs::write(pkg.join("package.json"), manifest(&metadata))?;
    Ok(())
}

/// Two runs, because the order is made of what the first leaves.
fn optimize(wasm: &Path) -> Result<()> {
    let program = root().join("tests/node_modules/.bin/wasm-opt");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(WASM_FEATURES).args(arguments).arg(wasm).arg("-o").arg(wasm);
        command
    };
    process::run("wasm-opt", run(&["--debuginfo"]).args(WASM_OPT))?;
    process::announce("ordering the functions");
    std::fs::write(wasm, order::name_by_likeness(&std::fs::read(wasm)?)?)?;
    process::run(
        "wasm-opt, in that order",
        &mut run(&["--reorder-functions-by-name", "--strip-debug", "--strip-producers"]),
    )
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map_err(|error| format!("copying {}: {error}", from.display()))?;
    Ok(())
}

/// A template, because the order counts: of several conditions in `exports` the first that fits is taken.
const MANIFEST: &str = r#"{
  "name": "tabpeer",
  "version": @version@,
  "description": @description@,
  "license": @license@,
  "repository": { "type": "git", "url": @repository@ },
  "keywords": ["libp2p", "ipfs", "peer-to-peer", "webassembly", "offline"],
  "type": "module",
  "main": "./index.js",
  "types": "./index.d.ts",
  "exports": {
    ".": { "types": "./index.d.ts", "default": "./index.js" },
    "./tabpeer_bg.wasm": "./tabpeer_bg.wasm",
    "./package.json": "./package.json"
  },
  "files": @files@,
  "sideEffects": false
}
"#;

fn manifest(metadata: &Metadata) -> String {
    let repository = format!("git+{}.git", metadata.repository);
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    MANIFEST
        .replace(
            "@files@",
            &serde_json::json!([&SKIN[..], &GENERATED, &PAPERS].concat()).to_string(),
        )
        .replace("@version@", &quoted(&metadata.version))
        .replace("@description@", &quoted(&metadata.description))
        .replace("@license@", &quoted(&metadata.license))
        .replace("@repository@", &quoted(&repository))
}

/// Prints the size of what a page downloads. The numbers come from Node's zlib, the same code that
/// servers and content networks compress with.
fn check_size(pkg: &Path, profile: Profile) -> Result<()> {
    const MEASURE: &str = r#"
        const fs = require("node:fs"), path = require("node:path"), zlib = require("node:zlib");
        const root = process.argv[1], rows = [];
        for (const name of fs.readdirSync(root, { recursive: true }).sort()) {
            if (!/\.(wasm|m?js)$/.test(name)) continue;
            const bytes = fs.readFileSync(path.join(root, name));
            const gzip = zlib.gzipSync(bytes, { level: 9 }).length;
            rows.push({ name, raw: bytes.length, gzip, brotli: zlib.brotliCompressSync(bytes).length });
        }
        console.log(JSON.stringify(rows));"#;
    let text = process::capture(Command::new("node").args(["--eval", MEASURE, "--"]).arg(pkg))?;
    let rows: serde_json::Value = serde_json::from_str(&text)?;
    let mut total = [0_u64; 3];
    println!("{:<24}{:>12}{:>12}{:>12}", "pkg/ (bytes)", "raw", "gzip", "brotli");
    for row in rows.as_array().into_iter().flatten() {
        let sizes =
            ["raw", "gzip", "brotli"].map(|column| row[column].as_u64().unwrap_or_default());
        print_sizes(row["name"].as_str().unwrap_or_default(), sizes);
        for (sum, size) in total.iter_mut().zip(sizes) {
            *sum += size;
        }
    }
    print_sizes("together", total);
    let [_, gzip, _] = total;
    if profile == Profile::Dev {
        println!("a dev build: the budget of {BUDGET} bytes is for the npm profile");
        return Ok(());
    }
    if gzip > BUDGET {
        return Err(format!(
            "the package weighs {gzip} bytes after gzip, {} above the budget of {BUDGET}",
            gzip - BUDGET
        )
        .into());
    }
    println!("{:.1} % of the budget of {BUDGET} bytes (gzip)", gzip as f64 * 100.0 / BUDGET as f64);
    Ok(())
}

fn print_sizes(name: &str, [raw, gzip, brotli]: [u64; 3]) {
    println!("{name:<24}{raw:>12}{gzip:>12}{brotli:>12}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_json_with_the_types_first() {
        let metadata = Metadata {
            version: "1.2.3".into(),
            license: "MIT".into(),
            description: "says \"hello\"".into(),
            repository: "https://example.org/x".into(),
            target: PathBuf::new(),
        };
        let text = manifest(&metadata);
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["description"], "says \"hello\"");
        assert_eq!(value["version"], "1.2.3");
        assert!(text.find("\"types\": \"./index.d.ts\", \"default\"").is_some());
    }
}
