//! Chores of this workspace: `cargo run -p xtask -- page [--release [DIRECTORY]]` builds the page into `dist/` or
//! the directory; `cargo run -p xtask -- agree` shows that Trunk builds the same one. Called `wasm-bindgen`, it is that.

mod agree;
mod bindgen;
mod build;
mod describe;

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

const USAGE: &str = "usage: cargo run -p xtask -- {page [--release [DIRECTORY]] | agree}";

fn main() -> Result<()> {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if Path::new(&name)
        .file_stem()
        .is_some_and(|n| n == "wasm-bindgen")
    {
        return bindgen::command(&args);
    }
    match args.as_slice() {
        ["page"] => build::page(&workspace()?, false, None).map(drop),
        ["page", "--release"] => build::page(&workspace()?, true, None).map(drop),
        ["page", "--release", dir] => {
            let workspace = workspace()?;
            build::page(&workspace, true, Some(&workspace.join(dir))).map(drop)
        }
        ["agree"] => agree::agree(&workspace()?),
        _ => bail!("{USAGE}"),
    }
}

/// The directory of the workspace: two above this crate's own.
fn workspace() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map(Path::to_path_buf)
        .context("xtask has moved out of its workspace")
}
