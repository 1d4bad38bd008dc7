//! The description of the page that Trunk reads as well: `Trunk.toml` and the `data-trunk` elements of the HTML file
//! it names. Only what this page uses is understood; anything else is an error, so that the two ways cannot drift
//! apart in silence.

use anyhow::{Context as _, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// What `Trunk.toml` says.
pub(crate) struct Settings {
    /// The HTML file, relative to the workspace.
    pub(crate) html: PathBuf,
    /// Where the page goes, relative to the workspace.
    pub(crate) dist: PathBuf,
    /// Prefix of every address in the page.
    pub(crate) base: String,
    /// Goes to the end of the head; `{base}`, `{js}` and `{wasm}` are replaced.
    pub(crate) preload: String,
    /// Goes to the end of the body.
    pub(crate) script: String,
}

/// Reads `Trunk.toml`.
pub(crate) fn settings(text: &str) -> Result<Settings> {
    let all: toml::Table = text.parse()?;
    let build = all
        .get("build")
        .and_then(toml::Value::as_table)
        .context("no [build]")?;
    let get = |key: &str| -> Result<String> {
        let value = build.get(key).and_then(toml::Value::as_str);
        Ok(value.with_context(|| format!("no build.{key}"))?.to_owned())
    };
    ensure!(
        build.get("no_sri").and_then(toml::Value::as_bool) == Some(true),
        "build.no_sri must be true: xtask writes no digests into the page"
    );
    Ok(Settings {
        html: get("target")?.into(),
        dist: get("dist")?.into(),
        base: get("public_url")?,
        preload: get("pattern_preload")?,
        script: get("pattern_script")?,
    })
}

/// One thing the page is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// The Rust program: package binary and the cargo profile of a release.
    Rust {
        bin: String,
        release_profile: String,
    },
    /// A file whose name gets a hash; the element stays, with that name in `attribute`.
    Hashed {
        href: String,
        attribute: &'static str,
    },
    /// A file that keeps its name; the element goes.
    CopyFile(String),
    /// A directory that keeps its name; the element goes.
    CopyDir(String),
}

/// An element with `data-trunk`, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// What it asks for.
    pub(crate) part: Part,
    /// Byte range in the HTML text, a closing `</script>` included.
    pub(crate) range: std::ops::Range<usize>,
    /// The attributes that stay.
    attributes: Vec<(String, Option<String>)>,
}

impl Element {
    /// The element as the browser gets it, or nothing.
    pub(crate) fn render(&self, address: &str) -> String {
        let Part::Hashed { attribute, .. } = &self.part else {
            return String::new();
        };
        let (name, end) = if *attribute == "src" {
            ("script", "></script>")
        } else {
            ("link", " />")
        };
        let mut out = format!("<{name}");
        for (key, value) in &self.attributes {
            let value = if key == attribute {
                Some(address)
            } else {
                value.as_deref()
            };
            out.push(' ');
            out.push_str(key);
            if let Some(value) = value {
                out.push_str(&format!("=\"{value}\""));
            }
        }
        out + end
    }
}

/// Finds the `data-trunk` elements of an HTML file. Values must be in double quotes.
pub(crate) fn elements(html: &str) -> Result<Vec<Element>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = html
        .get(from..)
        .and_then(|rest| rest.find('<'))
        .map(|at| at + from)
    {
        let end = html
            .get(start..)
            .and_then(|rest| rest.find('>'))
            .context("a tag does not end")?
            + start
            + 1;
        let tag = html.get(start..end).unwrap_or_default();
        from = end;
        let (_, attributes) = self::tag(tag)?;
        if !attributes.iter().any(|(name, _)| name == "data-trunk") {
            continue;
        }
        let is_script = tag.starts_with("<script");
        let end = if is_script {
            let close = html.get(end..).unwrap_or_default();
            ensure!(close.starts_with("</script>"), "inline script in {tag}");
            end + "</script>".len()
        } else {
            end
        };
        from = end;
        let value = |key: &str| -> Result<String> {
            let found = attributes.iter().find(|(name, _)| name == key);
            let value = found.and_then(|(_, value)| value.clone());
            value.with_context(|| format!("no {key} in {tag}"))
        };
        let part = if is_script {
            Part::Hashed {
                href: value("src")?,
                attribute: "src",
            }
        } else {
            match value("rel")?.as_str() {
                "rust" => Part::Rust {
                    bin: value("data-bin")?,
                    release_profile: value("data-cargo-profile-release")?,
                },
                "css" | "icon" => Part::Hashed {
                    href: value("href")?,
                    attribute: "href",
                },
                "copy-file" => Part::CopyFile(value("href")?),
                "copy-dir" => Part::CopyDir(value("href")?),
                other => bail!("rel=\"{other}\" is not understood by xtask"),
            }
        };
        let attributes = attributes
            .into_iter()
            .filter(|(name, _)| !name.starts_with("data-"))
            .map(|(name, value)| {
                let css = name == "rel" && value.as_deref() == Some("css");
                (
                    name,
                    if css {
                        Some("stylesheet".to_owned())
                    } else {
                        value
                    },
                )
            })
            .collect();
        found.push(Element {
            part,
            range: start..end,
            attributes,
        });
    }
    Ok(found)
}

/// The attributes of a tag, with their values, in order.
pub(crate) type Attributes = Vec<(String, Option<String>)>;

/// The name and the attributes of a tag. Values must be in double quotes.
pub(crate) fn tag(tag: &str) -> Result<(&str, Attributes)> {
    let inner = tag
        .trim_start_matches('<')
        .trim_end_matches('>')
        .trim_end_matches('/');
    let (name, rest) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
    let mut rest = rest.trim_start();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if let Some(quoted) = after.strip_prefix('=') {
            let quoted = quoted
                .strip_prefix('"')
                .with_context(|| format!("a value without double quotes in {tag}"))?;
            let (value, after) = quoted
                .split_once('"')
                .with_context(|| format!("a value does not end in {tag}"))?;
            found.push((name.to_owned(), Some(value.to_owned())));
            rest = after.trim_start();
        } else {
            found.push((name.to_owned(), None));
            rest = after.trim_start();
        }
    }
    Ok((name, found))
}

/// All files below a directory, sorted.
pub(crate) fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in
            std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                dirs.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_page_itself_is_understood() {
        let settings = settings(include_str!("../../../Trunk.toml")).unwrap();
        assert_eq!(settings.html, Path::new("static/index.html"));
        let html = include_str!("../../../static/index.html");
        let parts = elements(html).unwrap();
        let programs = parts.iter().filter(|e| matches!(e.part, Part::Rust { .. }));
        assert_eq!(programs.count(), 1);
        for element in &parts {
            let text = &html[element.range.clone()];
            assert!(text.starts_with('<') && text.ends_with('>') && text.contains("data-trunk"));
        }
    }

    #[test]
    fn nothing_inline_stands_in_the_page() {
        let html = include_str!("../../../static/index.html");
        assert!(!html.contains("<style"), "the policy forbids inline styles");
        assert!(
            !html.contains(" style="),
            "the policy forbids inline styles"
        );
        for script in html.split("<script").skip(1) {
            let (_, body) = script.split_once('>').unwrap();
            assert!(
                body.starts_with("</script>"),
                "the policy forbids inline scripts"
            );
        }
    }

    #[test]
    fn a_stylesheet_gets_its_hashed_name_and_loses_what_only_trunk_reads() {
        let html = r#"<link data-trunk rel="css" href="a/b.css" data-integrity="none" />"#;
        let found = elements(html).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].render("/b-1.css"),
            r#"<link rel="stylesheet" href="/b-1.css" />"#
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for html in [
            r#"<link data-trunk rel="tailwind-css" href="x" />"#,
            "<link data-trunk rel=css />",
            r#"<script data-trunk src="a">alert(1)</script>"#,
            r#"<link data-trunk rel="css" />"#,
            "<link data-trunk",
        ] {
            assert!(elements(html).is_err(), "{html}");
        }
    }
}
