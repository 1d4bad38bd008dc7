//! Chores of this workspace: `cargo run -p xtask -- page [--release]` builds the page into `dist/`.

mod build;
mod describe;

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

const USAGE: &str = "usage: cargo run -p xtask -- page [--release]";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["page"] => build::page(&workspace()?, false),
        ["page", "--release"] => build::page(&workspace()?, true),
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
