//! Lays the built page into the binary, compressed, for releases (and with the feature `embed`, which
//! keeps such a build apart from others). Any other build reads `dist/` as it runs.

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What compresses; pictures and fonts are compressed already.
const COMPRESSIBLE: &[&str] = &[
    "html",
    "js",
    "mjs",
    "css",
    "wasm",
    "json",
    "webmanifest",
    "svg",
    "txt",
    "ftl",
    "map",
];

fn main() {
    println!("cargo::rerun-if-env-changed=STARLING_DIST");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let release = std::env::var("PROFILE").is_ok_and(|p| p == "release")
        || std::env::var_os("CARGO_FEATURE_EMBED").is_some();
    let mut table = String::from("/// The page, by path.\npub static EMBEDDED: &[Embedded] = &[\n");
    if release {
        let dist = std::env::var_os("STARLING_DIST").map_or_else(
            || {
                Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"))
                    .join("../dist")
            },
            PathBuf::from,
        );
        println!("cargo::rerun-if-changed={}", dist.display());
        let mut files = Vec::new();
        collect(&dist, &mut files);
        // The table is searched by path as text.
        let mut named: Vec<(String, PathBuf)> = files
            .into_iter()
            .filter_map(|f| {
                let name = f.strip_prefix(&dist).ok()?.to_str()?.replace('\\', "/");
                Some((name, f))
            })
            .collect();
        named.sort();
        if !named.iter().any(|(name, _)| name == "index.html") {
            println!(
                "cargo::warning=There is no page in {}; this binary will have none.",
                dist.display()
            );
        }
        for (i, (name, file)) in named.iter().enumerate() {
            embed(&mut table, &out, i, name, file);
        }
    }
    table.push_str("];\n");
    std::fs::write(out.join("embedded.rs"), table).expect("OUT_DIR can be written");
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || name.ends_with(".br") || name.ends_with(".gz") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn embed(table: &mut String, out: &Path, i: usize, name: &str, file: &Path) {
    println!("cargo::rerun-if-changed={}", file.display());
    let plain = std::fs::read(file).expect("a file of the page can be read");
    let extension = file.extension().and_then(|e| e.to_str()).unwrap_or("");
    let (mut br, mut gz) = (Vec::new(), Vec::new());
    if COMPRESSIBLE.contains(&extension) {
        br = brotli(&plain);
        gz = gzip(&plain);
        if gz.len() >= plain.len() {
            (br, gz) = (Vec::new(), Vec::new());
        }
    }
    let put = |suffix: &str, bytes: &[u8]| -> String {
        if bytes.is_empty() {
            return "b\"\"".into();
        }
        let path = out.join(format!("asset-{i}.{suffix}"));
        std::fs::write(&path, bytes).expect("OUT_DIR can be written");
        format!("include_bytes!({:?})", path.display().to_string())
    };
    let etag: String = Sha256::digest(&plain)
        .iter()
        .take(12)
        .fold(String::new(), |mut s, b| {
            let _ = write!(s, "{b:02x}");
            s
        });
    let kept: &[u8] = if gz.is_empty() { &plain } else { &[] };
    let _ = writeln!(
        table,
        "    Embedded {{ path: {name:?}, etag: {etag:?}, plain: {}, br: {}, gzip: {} }},",
        put("plain", kept),
        put("br", &br),
        put("gz", &gz),
    );
}

fn brotli(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // Quality 11, window 2^22: the best a browser unpacks.
    brotli::CompressorWriter::new(&mut out, 1 << 16, 11, 22)
        .write_all(bytes)
        .expect("memory takes it");
    out
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
