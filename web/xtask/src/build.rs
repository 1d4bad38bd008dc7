//! Building the page: cargo, wasm-bindgen, names with hashes, compression.

use crate::bindgen;
use crate::describe::{self, Part};
use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-unknown-unknown";

/// Written beside the page: what it was made from. The same again means nothing to do.
const STAMP: &str = ".made-from";

/// Raise it when the same input gives another page.
const RECIPE: &str = "1";

/// Builds the page into `dist`, or where the description says: `dist/`. Gives the directory.
pub(crate) fn page(workspace: &Path, release: bool, dist: Option<&Path>) -> Result<PathBuf> {
    let trunk = std::fs::read_to_string(workspace.join("Trunk.toml")).context("Trunk.toml")?;
    let settings = describe::settings(&trunk).context("Trunk.toml")?;
    let html_path = workspace.join(&settings.html);
    let html =
        std::fs::read_to_string(&html_path).with_context(|| settings.html.display().to_string())?;
    let elements =
        describe::elements(&html).with_context(|| settings.html.display().to_string())?;
    let source = html_path
        .parent()
        .context("the HTML file has no directory")?;
    let dist = match dist {
        Some(dist) => dist.to_path_buf(),
        None => workspace.join(&settings.dist),
    };

    let mut programs = elements.iter().filter_map(|e| match &e.part {
        Part::Rust {
            bin,
            release_profile,
        } => Some((bin.as_str(), release_profile.as_str())),
        _ => None,
    });
    let (bin, release_profile) = programs.next().context("the page names no program")?;
    ensure!(programs.next().is_none(), "the page names two programs");
    let profile = if release { release_profile } else { "dev" };
    let wasm = compile(workspace, bin, profile)?;
    let optimiser = if release { wasm_opt(workspace) } else { None };

    // Everything the page is made from decides whether there is anything to do.
    let mut seen = Sha256::new();
    for text in [
        RECIPE,
        profile,
        &trunk,
        optimiser.as_ref().map_or("", |o| &o.version),
    ] {
        add(&mut seen, text.as_bytes());
    }
    for file in describe::files_below(source)? {
        add(&mut seen, file.to_string_lossy().as_bytes());
        add(&mut seen, &std::fs::read(&file)?);
    }
    add(&mut seen, &std::fs::read(&wasm)?);
    let stamp = hex::encode(seen.finalize());
    if std::fs::read_to_string(dist.join(STAMP)).is_ok_and(|old| old == stamp) {
        println!("page: nothing changed, {} stands", dist.display());
        return Ok(dist);
    }

    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let (js, wasm) = bind(bin, &wasm, optimiser.as_ref())?;
    // The JavaScript names the file it loads only as a default that boot.js overrides.
    let wasm_name = hashed(&format!("{bin}_bg.wasm"), &wasm);
    let js_name = hashed(&format!("{bin}.js"), &js);
    files.insert(wasm_name.clone(), wasm);
    files.insert(js_name.clone(), js);

    let fill = |pattern: &str| {
        let pattern = pattern.replace("{base}", &settings.base);
        pattern
            .replace("{js}", &js_name)
            .replace("{wasm}", &wasm_name)
    };
    let mut page = html.clone();
    for element in elements.iter().rev() {
        let address = match &element.part {
            Part::Rust { .. } => String::new(),
            Part::Hashed { href, .. } => {
                let bytes = read(source, href)?;
                let name = href.rsplit('/').next().unwrap_or(href);
                let name = hashed(name, &bytes);
                files.insert(name.clone(), bytes);
                format!("{}{name}", settings.base)
            }
            Part::CopyFile(href) => {
                let name = href.rsplit('/').next().unwrap_or(href);
                files.insert(name.to_owned(), read(source, href)?);
                String::new()
            }
            Part::CopyDir(href) => {
                let dir = source.join(href);
                let above = dir.parent().context("a directory to copy has no name")?;
                for file in describe::files_below(&dir)? {
                    let name = file
                        .strip_prefix(above)?
                        .to_string_lossy()
                        .replace('\\', "/");
                    files.insert(name, std::fs::read(&file)?);
                }
                String::new()
            }
        };
        page.replace_range(element.range.clone(), &element.render(&address));
    }
    for (before, addition) in [
        ("</head>", fill(&settings.preload)),
        ("</body>", fill(&settings.script)),
    ] {
        let at = page
            .find(before)
            .with_context(|| format!("no {before} in the page"))?;
        page.insert_str(at, &addition);
    }
    files.insert("index.html".to_owned(), page.into_bytes());
    let weight = if release {
        Some(compress(&mut files)?)
    } else {
        None
    };

    write(&dist, &files, &stamp)?;
    match weight {
        Some((plain, brotli)) => println!(
            "page: {} kB, {} kB with brotli, in {}",
            plain / 1000,
            brotli / 1000,
            dist.display()
        ),
        None => println!("page: in {}", dist.display()),
    }
    Ok(dist)
}

fn add(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn read(source: &Path, href: &str) -> Result<Vec<u8>> {
    std::fs::read(source.join(href))
        .with_context(|| format!("cannot read {href}, which the page names"))
}

/// `name.ext` becomes `name-0123456789abcdef.ext`: a name that may be cached for ever.
fn hashed(name: &str, bytes: &[u8]) -> String {
    let hash = hex::encode(Sha256::digest(bytes));
    let hash = hash.get(..16).unwrap_or(&hash);
    match name.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}-{hash}.{extension}"),
        None => format!("{name}-{hash}"),
    }
}

/// Compiles the program and returns where it lies.
fn compile(workspace: &Path, bin: &str, profile: &str) -> Result<PathBuf> {
    // Without the target's std, the script beside this crate finds a way to have it.
    let script = workspace.join("web/wasm-toolchain.sh");
    let mut command = if has_target() {
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    } else {
        let mut command = Command::new(&script);
        command.arg("cargo");
        command
    };
    command.current_dir(workspace).args([
        "build",
        "--quiet",
        "--locked",
        "-p",
        bin,
        "--bin",
        bin,
        "--target",
        TARGET,
        "--profile",
        profile,
    ]);
    println!("page: compiling {bin} ({profile})");
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the page's program does not compile");
    }
    let dir = if profile == "dev" { "debug" } else { profile };
    Ok(target_dir(workspace)
        .join(TARGET)
        .join(dir)
        .join(format!("{bin}.wasm")))
}

/// Where cargo puts what it makes.
pub(crate) fn target_dir(workspace: &Path) -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => workspace.join(dir),
        None => workspace.join("target"),
    }
}

fn has_target() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    output.is_ok_and(|o| {
        let dir = PathBuf::from(String::from_utf8_lossy(&o.stdout).trim());
        std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
    })
}

/// Makes the JavaScript side, and shrinks the program if there is something to do it with.
fn bind(bin: &str, wasm: &Path, optimiser: Option<&WasmOpt>) -> Result<(Vec<u8>, Vec<u8>)> {
    let out = wasm.with_extension("bindgen");
    bindgen::generate(bin, wasm, &out)?;
    let made = out.join(format!("{bin}_bg.wasm"));
    let program = match optimiser {
        Some(optimiser) => optimiser.run(&made)?,
        None => std::fs::read(&made)?,
    };
    let snippets = out.join("snippets");
    ensure!(
        !snippets.exists(),
        "the page carries JavaScript snippets, which xtask does not place"
    );
    Ok((std::fs::read(out.join(format!("{bin}.js")))?, program))
}

/// An optimiser known not to break pages.
struct WasmOpt {
    path: PathBuf,
    version: String,
}

/// Oldest version that is trusted. Debian 12's 108 exits without a word and leaves a page that dies at start.
const OLDEST_WASM_OPT: u32 = 120;

/// npm's binaryen in the workspace, or what `WASM_OPT` names. Never one from PATH.
fn wasm_opt(workspace: &Path) -> Option<WasmOpt> {
    let path = match std::env::var_os("WASM_OPT") {
        Some(path) => PathBuf::from(path),
        None => workspace.join("node_modules/.bin/wasm-opt"),
    };
    let output = Command::new(&path).arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let number = version
        .split_whitespace()
        .find_map(|word| word.parse::<u32>().ok())?;
    (number >= OLDEST_WASM_OPT).then_some(WasmOpt { path, version })
}

impl WasmOpt {
    fn run(&self, wasm: &Path) -> Result<Vec<u8>> {
        let out = wasm.with_extension("opt.wasm");
        println!("page: {}", self.version);
        let status = Command::new(&self.path)
            .arg("-Oz")
            .arg(wasm)
            .arg("-o")
            .arg(&out)
            .status()?;
        ensure!(status.success(), "wasm-opt failed");
        Ok(std::fs::read(out)?)
    }
}

/// Adds `.br` and `.gz` beside every file that gains from it. Returns the plain and the brotli weight of the page.
fn compress(files: &mut BTreeMap<String, Vec<u8>>) -> Result<(usize, usize)> {
    let mut added = Vec::new();
    let (mut plain, mut weight) = (0, 0);
    for (name, bytes) in &*files {
        let mut brotli = Vec::new();
        let params = brotli::enc::BrotliEncoderParams {
            quality: 11,
            lgwin: 22,
            ..Default::default()
        };
        brotli::BrotliCompress(&mut bytes.as_slice(), &mut brotli, &params)?;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(bytes)?;
        let gzip = gzip.finish()?;
        plain += bytes.len();
        weight += brotli.len().min(bytes.len());
        for (suffix, packed) in [("br", brotli), ("gz", gzip)] {
            if packed.len() < bytes.len() {
                added.push((format!("{name}.{suffix}"), packed));
            }
        }
    }
    files.extend(added);
    Ok((plain, weight))
}

/// Brings the directory to exactly these files, and touches none that is right already.
fn write(dist: &Path, files: &BTreeMap<String, Vec<u8>>, stamp: &str) -> Result<()> {
    std::fs::create_dir_all(dist)?;
    // A page that is half written must not look finished.
    let _ = std::fs::remove_file(dist.join(STAMP));
    for old in describe::files_below(dist)? {
        let name = old.strip_prefix(dist)?.to_string_lossy().replace('\\', "/");
        if !files.contains_key(&name) {
            std::fs::remove_file(&old)?;
        }
    }
    for (name, bytes) in files {
        let path = dist.join(name);
        if std::fs::read(&path).is_ok_and(|old| old == *bytes) {
            continue;
        }
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    std::fs::write(dist.join(STAMP), stamp)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_the_content() {
        assert_ne!(hashed("a.css", b"1"), hashed("a.css", b"2"));
        assert_eq!(hashed("a.css", b"1"), hashed("a.css", b"1"));
        assert!(hashed("a.css", b"1").ends_with(".css"));
    }

    #[test]
    fn only_what_gains_is_compressed() {
        let mut files = BTreeMap::from([
            ("long".to_owned(), vec![b'a'; 10_000]),
            ("short".to_owned(), b"a".to_vec()),
        ]);
        let (plain, packed) = compress(&mut files).unwrap();
        assert_eq!(plain, 10_001);
        assert!(packed < 200);
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["long", "long.br", "long.gz", "short"]);
    }
}
