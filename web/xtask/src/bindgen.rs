//! wasm-bindgen as a library, and as the command that Trunk wants to call.
//!
//! Building `wasm-bindgen-cli` takes minutes, and it is a thin shell around the library that xtask is built with
//! anyway. So xtask answers to the name `wasm-bindgen` as well, for the few arguments that Trunk gives it.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// Makes the JavaScript side of a program, and the program that fits it, in the directory `out`.
pub(crate) fn generate(bin: &str, wasm: &Path, out: &Path) -> Result<()> {
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen
        .input_path(wasm)
        .out_name(bin)
        .typescript(false)
        .web(true)?;
    bindgen.generate(out).context("wasm-bindgen")
}

/// Answers as `wasm-bindgen` does. What it cannot do is an error, so that nothing is left out in silence.
pub(crate) fn command(args: &[&str]) -> Result<()> {
    if args == ["--version"] {
        println!("wasm-bindgen {}", wasm_bindgen_shared::version());
        return Ok(());
    }
    let (mut out, mut name, mut wasm) = (None, None, None);
    let (mut web, mut typescript) = (false, true);
    for arg in args {
        match arg.split_once('=') {
            Some(("--target", "web")) => web = true,
            Some(("--out-dir", dir)) => out = Some(PathBuf::from(dir)),
            Some(("--out-name", n)) => name = Some(n),
            _ if *arg == "--no-typescript" => typescript = false,
            None if !arg.starts_with('-') && wasm.is_none() => wasm = Some(PathBuf::from(arg)),
            _ => bail!("wasm-bindgen: xtask does not know {arg}"),
        }
    }
    if !web || typescript {
        bail!("wasm-bindgen: xtask knows only --target=web with --no-typescript");
    }
    match (name, wasm, out) {
        (Some(name), Some(wasm), Some(out)) => generate(name, &wasm, &out),
        _ => bail!("wasm-bindgen: no --out-name, no --out-dir or no program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_an_error() {
        for args in [
            &["--target=web", "--out-dir=o", "--out-name=n", "p.wasm"] as &[_],
            &["--target=bundler", "--no-typescript"],
            &["--target=web", "--no-typescript", "--out-dir=o", "p.wasm"],
            &["--target=web", "--no-typescript", "--weak-refs"],
            &[],
        ] {
            assert!(command(args).is_err(), "{args:?}");
        }
    }
}
