//! Pictures of people and groups: which ones are shown, and how a new one is cut.

/// The side of a picture that is sent to others, in pixels: sharp at 128 px on a dense screen, and small enough to
/// travel inside a request, whose room is a DHT value (64 kB).
pub(crate) const SIDE: u32 = 256;

/// A new picture's longest data URL, in bytes. Every member keeps each version of it for ever.
pub(crate) const LONGEST: usize = 40_000;

/// JPEG qualities that are tried until the picture is short enough.
pub(crate) const QUALITIES: [f64; 5] = [0.86, 0.74, 0.6, 0.45, 0.3];

/// The largest file that is read for a picture, in bytes.
pub(crate) const LARGEST_FILE: f64 = 30e6;

/// Pictures come from others: only plain image formats inside the address itself are ever shown.
pub(crate) fn is_shown(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("data:image/") else {
        return false;
    };
    let Some((kind, data)) = rest.split_once(";base64,") else {
        return false;
    };
    matches!(kind, "png" | "jpeg" | "jpg" | "webp" | "gif")
        && !data.is_empty()
        && data
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
}

/// The square of a picture that is kept: its middle, as x, y and side.
pub(crate) fn middle(width: u32, height: u32) -> (u32, u32, u32) {
    let side = width.min(height);
    ((width - side) / 2, (height - side) / 2, side)
}

/// The side of the square it becomes: never larger than it was.
pub(crate) fn side(square: u32) -> u32 {
    square.clamp(1, SIDE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_pictures_inside_the_address_are_shown() {
        assert!(is_shown("data:image/jpeg;base64,/9j/4A=="));
        for bad in [
            "",
            "https://example.org/a.png",
            "data:image/svg+xml;base64,PHN2Zz4=",
            "data:text/html;base64,PGI+",
            "data:image/png;base64,",
            "data:image/png,abc",
            "data:image/png;base64,a b",
            "data:image/png;base64,a\");x",
        ] {
            assert!(!is_shown(bad), "{bad}");
        }
    }

    #[test]
    fn the_middle_is_kept() {
        assert_eq!(middle(400, 300), (50, 0, 300));
        assert_eq!(middle(300, 401), (0, 50, 300));
        assert_eq!(middle(0, 10), (0, 5, 0));
        assert_eq!((side(4_000), side(64), side(0)), (256, 64, 1));
    }
}
