//! Shows that both ways to the page agree: it is built with Trunk and with xtask, from the same description and the same
//! program, and compared. Names may differ in the hashes they carry, since each way has a hash of its own.

use crate::{build, describe};
use anyhow::{Context as _, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Builds both and compares.
pub(crate) fn agree(workspace: &Path) -> Result<()> {
    let dir = build::target_dir(workspace).join("both-ways");
    let (theirs, tools) = (dir.join("trunk"), dir.join("tools"));
    let ours = build::page(workspace, false, None)?;
    trunk(workspace, &theirs, &tools)?;
    let differences = compare(&read(&ours)?, &read(&theirs)?)?;
    if differences.is_empty() {
        println!("page: Trunk and xtask agree on every file");
        return Ok(());
    }
    bail!(
        "Trunk and xtask build different pages, see {}:\n{}",
        dir.display(),
        differences.join("\n")
    )
}

/// Builds the page with Trunk, which finds this program under the name of wasm-bindgen.
fn trunk(workspace: &Path, dist: &Path, tools: &Path) -> Result<()> {
    std::fs::create_dir_all(tools)?;
    let own = std::env::current_exe()?;
    let link = tools.join("wasm-bindgen");
    let _ = std::fs::remove_file(&link);
    #[cfg(unix)]
    std::os::unix::fs::symlink(&own, &link)?;
    #[cfg(not(unix))]
    std::fs::copy(&own, link.with_extension("exe"))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(
        [tools.to_path_buf()]
            .into_iter()
            .chain(std::env::split_paths(&path)),
    )?;
    let output = Command::new("trunk")
        .args(["--quiet", "build", "--offline", "--dist"])
        .arg(dist)
        .env("PATH", path)
        // Trunk takes "1" for no answer to a yes-or-no question.
        .env_remove("NO_COLOR")
        .current_dir(workspace)
        .output()
        .context("Trunk does not start: `./dev test` installs it")?;
    ensure!(
        output.status.success(),
        "Trunk failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

type Files = BTreeMap<String, Vec<u8>>;

/// The files of a page, by their names without hashes.
fn read(dist: &Path) -> Result<Files> {
    let mut files = Files::new();
    for path in describe::files_below(dist)? {
        let name = path
            .strip_prefix(dist)?
            .to_string_lossy()
            .replace('\\', "/");
        if name.starts_with('.') {
            continue;
        }
        let plain = without_hashes(&name);
        ensure!(
            files.insert(plain, std::fs::read(&path)?).is_none(),
            "two files in {} differ only in a hash: {name}",
            dist.display()
        );
    }
    Ok(files)
}

/// What differs, in words.
fn compare(ours: &Files, theirs: &Files) -> Result<Vec<String>> {
    let mut out = Vec::new();
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        match (ours.get(name), theirs.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (Some(a), Some(b)) if name.ends_with(".html") => {
                let (a, b) = (outline(a)?, outline(b)?);
                out.extend(
                    a.difference(&b)
                        .map(|p| format!("{name}: only xtask has {p}"))
                        .chain(
                            b.difference(&a)
                                .map(|p| format!("{name}: only Trunk has {p}")),
                        ),
                );
            }
            (Some(a), Some(b)) => out.push(format!(
                "{name}: {} bytes by xtask, {} by Trunk",
                a.len(),
                b.len()
            )),
            (Some(_), None) => out.push(format!("{name}: only xtask has it")),
            _ => out.push(format!("{name}: only Trunk has it")),
        }
    }
    Ok(out)
}

/// A text without what hashes add to names: `-` and 8 to 16 hexadecimal digits before `.`, `_` or the end.
fn without_hashes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('-') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = from.get(1..).unwrap_or_default();
        let digits = after
            .bytes()
            .take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            .count();
        let tail = after.get(digits..).unwrap_or_default();
        let ends = tail.is_empty() || tail.starts_with(['.', '_']);
        if (8..=16).contains(&digits) && ends {
            rest = tail;
        } else {
            out.push('-');
            rest = after;
        }
    }
    out + rest
}

/// What a page consists of, whatever order its attributes are in and however it is spaced: its elements, each with the
/// place among those of the same name, and its texts.
fn outline(html: &[u8]) -> Result<BTreeSet<String>> {
    let html = without_hashes(std::str::from_utf8(html).context("the page is no text")?);
    let mut parts = BTreeSet::new();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let mut rest = html.as_str();
    while let Some((text, after)) = rest.split_once('<') {
        let text = text.trim();
        if !text.is_empty() {
            parts.insert(format!("the text {text:?}"));
        }
        let end = if after.starts_with("!--") { "-->" } else { ">" };
        let (tag, after) = after.split_once(end).context("a tag does not end")?;
        rest = after;
        if tag.starts_with('/') {
            continue;
        }
        let whole = format!("<{tag}>");
        let (name, attributes) = describe::tag(&whole)?;
        let name = name.to_lowercase();
        let number = count.entry(name.clone()).or_default();
        *number += 1;
        let attributes: BTreeSet<String> = attributes
            .into_iter()
            .map(|(key, value)| format!("{key}={:?}", value.unwrap_or_default()))
            .collect();
        let attributes: Vec<String> = attributes.into_iter().collect();
        parts.insert(format!("{name} {number}: {}", attributes.join(" ")));
    }
    let text = rest.trim();
    if !text.is_empty() {
        parts.insert(format!("the text {text:?}"));
    }
    Ok(parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hashes_leave_names() {
        for (name, plain) in [
            (
                "starling-web-0123456789abcdef_bg.wasm",
                "starling-web_bg.wasm",
            ),
            (
                "starling-web_bg-0123456789abcdef.wasm",
                "starling-web_bg.wasm",
            ),
            ("boot-c0ffee00.js", "boot.js"),
            ("first-run-0123456789abcde.css", "first-run.css"),
            ("first-run.css", "first-run.css"),
            ("a-decade.css", "a-decade.css"),
            ("x-0123456789abcdef0.css", "x-0123456789abcdef0.css"),
        ] {
            assert_eq!(without_hashes(name), plain);
        }
    }

    #[test]
    fn pages_are_compared_by_what_they_say() {
        let page = |html: &str| Files::from([("index.html".to_owned(), html.as_bytes().to_vec())]);
        let one = page("<p>\n <link rel=\"a\" href=\"/x-0123456789abcdef.css\" />\n</p>");
        let same = page("<p><link href=\"/x-fedcba9876543210.css\" rel=\"a\"/></p>");
        assert_eq!(compare(&one, &same).unwrap(), Vec::<String>::new());
        for other in [
            "<p><link href=\"/y-fedcba9876543210.css\" rel=\"a\"/></p>",
            "<p><link href=\"/x-fedcba9876543210.css\" rel=\"a\" integrity=\"sha\"/></p>",
            "<p><link rel=\"a\" href=\"/x-fedcba9876543210.css\"/>words</p>",
            "<p></p>",
        ] {
            assert!(!compare(&one, &page(other)).unwrap().is_empty(), "{other}");
        }
    }

    #[test]
    fn a_file_too_many_or_other_bytes_are_named() {
        let one = Files::from([("a.js".to_owned(), vec![1]), ("b.js".to_owned(), vec![1])]);
        let other = Files::from([("a.js".to_owned(), vec![2]), ("c.js".to_owned(), vec![1])]);
        assert_eq!(
            compare(&one, &other).unwrap(),
            [
                "a.js: 1 bytes by xtask, 1 by Trunk",
                "b.js: only xtask has it",
                "c.js: only Trunk has it"
            ]
        );
    }
}
