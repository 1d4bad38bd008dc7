//! The page: built into the binary in a release, read from `dist/` while developing.
//!
//! In a release there is a table of names and nothing that could join a path. Compressed forms
//! were made at build time; where a client takes none, the gzip form is unpacked.

use super::guard::is_guarded;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use std::borrow::Cow;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

/// One file of the page, as the build script lays it down.
pub struct Embedded {
    /// Below `dist/`, with `/`.
    pub path: &'static str,
    /// SHA-256 of the content, shortened.
    pub etag: &'static str,
    /// As it is; empty where compressed forms are there.
    pub plain: &'static [u8],
    /// In brotli; empty where that saves nothing.
    pub br: &'static [u8],
    /// In gzip; empty where that saves nothing.
    pub gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// Where the page comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assets {
    /// From the binary.
    Embedded,
    /// From a directory, read anew at each request.
    Dir(PathBuf),
}

impl Assets {
    /// The directory that was asked for, or what is built in, or `dist/` here or in the source.
    pub fn find(dist: Option<PathBuf>) -> Self {
        if let Some(dir) = dist {
            return Self::Dir(dir);
        }
        if !EMBEDDED.is_empty() {
            return Self::Embedded;
        }
        let here = PathBuf::from("dist");
        if here.join("index.html").is_file() {
            return Self::Dir(here);
        }
        Self::Dir(PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../dist"
        )))
    }

    fn get(&self, path: &str, accepts: &Accepts) -> Option<Asset> {
        match self {
            Self::Embedded => {
                let at = EMBEDDED.binary_search_by(|e| e.path.cmp(path)).ok()?;
                EMBEDDED.get(at).map(|e| embedded(e, accepts))
            }
            Self::Dir(dir) => {
                if !path.split('/').all(is_plain_name) {
                    return None;
                }
                let file = dir.join(path);
                let meta = std::fs::metadata(&file).ok().filter(|m| m.is_file())?;
                let changed = meta.modified().ok()?;
                let age = changed.duration_since(std::time::UNIX_EPOCH).ok()?;
                Some(Asset {
                    etag: format!("W/\"{:x}-{:x}\"", age.as_nanos(), meta.len()),
                    encoding: None,
                    bytes: Cow::Owned(std::fs::read(file).ok()?),
                })
            }
        }
    }
}

/// A part of a path that means nothing but a file.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

struct Asset {
    etag: String,
    encoding: Option<&'static str>,
    bytes: Cow<'static, [u8]>,
}

fn embedded(e: &'static Embedded, accepts: &Accepts) -> Asset {
    let asset = |encoding: Option<&'static str>, bytes| Asset {
        etag: format!(
            "\"{}{}\"",
            e.etag,
            encoding.map_or("", |e| if e == "br" { "-b" } else { "-g" })
        ),
        encoding,
        bytes,
    };
    if accepts.br && !e.br.is_empty() {
        return asset(Some("br"), Cow::Borrowed(e.br));
    }
    if accepts.gzip && !e.gzip.is_empty() {
        return asset(Some("gzip"), Cow::Borrowed(e.gzip));
    }
    if e.plain.is_empty() && !e.gzip.is_empty() {
        let mut plain = Vec::new();
        // Our own bytes, made at build time: no bomb.
        if flate2::read::GzDecoder::new(e.gzip)
            .read_to_end(&mut plain)
            .is_ok()
        {
            return asset(None, Cow::Owned(plain));
        }
    }
    asset(None, Cow::Borrowed(e.plain))
}

/// What a client can unpack.
#[derive(Debug, Default, PartialEq, Eq)]
struct Accepts {
    br: bool,
    gzip: bool,
}

impl Accepts {
    fn of(headers: &HeaderMap) -> Self {
        let mut accepts = Self::default();
        let values = headers.get_all(header::ACCEPT_ENCODING);
        for part in values
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
        {
            let mut words = part.split(';').map(str::trim);
            let name = words.next().unwrap_or_default();
            let refused = words.any(|w| {
                w.strip_prefix("q=")
                    .is_some_and(|q| q.trim_matches(['0', '.']).is_empty())
            });
            match name {
                "br" => accepts.br = !refused,
                "gzip" => accepts.gzip = !refused,
                _ => {}
            }
        }
        accepts
    }
}

/// Content types by extension; with `nosniff` they have to be right.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, e)| e) {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "wasm" => "application/wasm",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" | "ftl" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Whether the name changes with the content: a part of 8 or more hexadecimal digits before the
/// extension, as the build writes it (`app-0f3a….js`, `app-0f3a…_bg.wasm`).
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((stem, _)) = name.rsplit_once('.') else {
        return false;
    };
    stem.split(['-', '_', '.'])
        .skip(1)
        .any(|part| part.len() >= 8 && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

pub(super) async fn serve(State(assets): State<Arc<Assets>>, request: Request<Body>) -> Response {
    if is_guarded(request.uri().path()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        let allow = [(header::ALLOW, "GET, HEAD")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow).into_response();
    }
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let headers = request.headers().clone();
    let answer = tokio::task::spawn_blocking(move || respond(&assets, &path, &headers)).await;
    answer.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn respond(assets: &Assets, path: &str, headers: &HeaderMap) -> Response {
    let accepts = Accepts::of(headers);
    let path = if path.is_empty() { "index.html" } else { path };
    let found = assets.get(path, &accepts).map(|a| (path, a));
    // A name without an extension is a place within the page.
    let is_place = !path.rsplit('/').next().unwrap_or(path).contains('.');
    let found = match found {
        None if is_place => assets
            .get("index.html", &accepts)
            .map(|a| ("index.html", a)),
        found => found,
    };
    let Some((path, asset)) = found else {
        return if is_place || path == "index.html" {
            no_page()
        } else {
            StatusCode::NOT_FOUND.into_response()
        };
    };
    let cache = if is_hashed(path) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|tag| tag.trim() == asset.etag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        match asset.bytes {
            Cow::Borrowed(bytes) => Body::from(Bytes::from_static(bytes)),
            Cow::Owned(bytes) => Body::from(bytes),
        }
        .into_response()
    };
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, content_type(path));
    set(header::CACHE_CONTROL, cache);
    set(header::ETAG, &asset.etag);
    set(header::VARY, "Accept-Encoding");
    if let Some(encoding) = asset.encoding {
        set(header::CONTENT_ENCODING, encoding);
    }
    response
}

/// The bridge runs, but there is no page to show.
fn no_page() -> Response {
    let text = "The bridge runs, but this build has no page: dist/index.html is missing. \
                Build the page first, or name its directory with --dist.\n";
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::NOT_FOUND, kind, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_change_with_their_content_are_known() {
        for hashed in [
            "starling-web-0f3a9b12cd45ef67.js",
            "starling-web-0f3a9b12cd45ef67_bg.wasm",
            "snippets/a-0f3a9b12.css",
        ] {
            assert!(is_hashed(hashed), "{hashed}");
        }
        for plain in [
            "index.html",
            "app.js",
            "deadbeef.js",
            "icon-192.png",
            "locales/en.json",
        ] {
            assert!(!is_hashed(plain), "{plain}");
        }
    }

    #[test]
    fn nothing_outside_the_directory_is_served() {
        let dir = tempfile::tempdir().expect("a directory");
        let dist = dir.path().join("dist");
        std::fs::create_dir(&dist).expect("to make");
        std::fs::write(dir.path().join("secret"), "x").expect("to write");
        std::fs::write(dist.join("index.html"), "<p>").expect("to write");
        std::fs::write(dist.join(".env"), "x").expect("to write");
        let assets = Assets::Dir(dist);
        let accepts = Accepts::default();
        assert!(assets.get("index.html", &accepts).is_some());
        for bad in [
            "../secret",
            "/etc/passwd",
            "a/../index.html",
            ".env",
            "",
            "%2e%2e/secret",
            "a\\b",
            "index.html/",
        ] {
            assert!(assets.get(bad, &accepts).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_a_client_takes() {
        let of = |text: &str| {
            let mut h = HeaderMap::new();
            h.insert(
                header::ACCEPT_ENCODING,
                HeaderValue::from_str(text).expect("a value"),
            );
            let a = Accepts::of(&h);
            (a.br, a.gzip)
        };
        assert_eq!(of("gzip, deflate, br, zstd"), (true, true));
        assert_eq!(of("gzip;q=1.0, br;q=0"), (false, true));
        assert_eq!(of("br;q=0.000"), (false, false));
        assert_eq!(of("identity"), (false, false));
    }

    static PAGE: &[u8] = b"hello hello hello hello";

    #[test]
    fn a_compressed_file_is_unpacked_for_who_takes_none() {
        use std::io::Write as _;
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gz.write_all(PAGE).expect("to pack");
        let gz: &'static [u8] = Box::leak(gz.finish().expect("to pack").into_boxed_slice());
        let e: &'static Embedded = Box::leak(Box::new(Embedded {
            path: "a",
            etag: "e",
            plain: b"",
            br: b"",
            gzip: gz,
        }));
        let plain = embedded(e, &Accepts::default());
        assert_eq!((plain.bytes.as_ref(), plain.encoding), (PAGE, None));
        let packed = embedded(
            e,
            &Accepts {
                br: true,
                gzip: true,
            },
        );
        assert_eq!(packed.encoding, Some("gzip"));
        assert_ne!(packed.etag, plain.etag);
    }
}
