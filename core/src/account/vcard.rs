//! Profiles: vCards of version 2.1 as Jami writes them, read with tolerance.

use base64::prelude::{BASE64_STANDARD, Engine as _};

/// Longest profile that is read, in bytes. Our own limit: the clients store pictures in
/// their original size.
pub const MAX_VCARD_LEN: usize = 8 * 1024 * 1024;

/// Most lines of a profile. Our own limit: a profile has half a dozen.
const MAX_LINES: usize = 1000;

/// Why a text is no profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VCardError {
    /// Too long.
    #[error("the profile is longer than {MAX_VCARD_LEN} bytes or {MAX_LINES} lines")]
    TooLarge,
    /// Not UTF-8.
    #[error("the profile is not text")]
    NotText,
    /// No `BEGIN:VCARD`.
    #[error("not a vCard")]
    NotVCard,
}

/// The picture of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Photo {
    /// `PNG` or `JPEG`, as the writer says; not checked against the data.
    pub kind: String,
    /// The image file.
    pub data: Vec<u8>,
}

/// A profile: its lines, in order. Unknown ones are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VCard {
    lines: Vec<(String, String)>,
}

impl VCard {
    /// A profile with a name.
    pub fn new(display_name: &str) -> Self {
        let mut out = Self::default();
        out.set("FN", display_name);
        out
    }

    /// Reads a profile.
    ///
    /// # Errors
    /// The reason why it is none.
    pub fn parse(text: &[u8]) -> Result<Self, VCardError> {
        if text.len() > MAX_VCARD_LEN {
            return Err(VCardError::TooLarge);
        }
        let text = core::str::from_utf8(text).map_err(|_| VCardError::NotText)?;
        let mut lines: Vec<(String, String)> = Vec::new();
        let mut begun = false;
        for line in text.split('\n') {
            let line = line.trim_end_matches('\r');
            if line.trim_end().eq_ignore_ascii_case("BEGIN:VCARD") {
                begun = true;
            } else if line.trim_end().eq_ignore_ascii_case("END:VCARD") {
                break;
            } else if begun {
                if let Some(more) = line.strip_prefix([' ', '\t']) {
                    if let Some((_, value)) = lines.last_mut() {
                        value.push_str(more);
                    }
                } else if let Some((key, value)) = line.split_once(':') {
                    if lines.len() == MAX_LINES {
                        return Err(VCardError::TooLarge);
                    }
                    lines.push((key.to_owned(), value.to_owned()));
                }
            }
        }
        if !begun {
            return Err(VCardError::NotVCard);
        }
        // What frames a profile is written anew; folded lines could smuggle in another frame.
        lines.retain(|(key, _)| {
            let frame = ["BEGIN", "END", "VERSION"];
            !frame.iter().any(|f| key.eq_ignore_ascii_case(f))
        });
        Ok(Self { lines })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.lines
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
    }

    /// Sets a key. Line breaks in the value become spaces: they would begin other keys.
    pub fn set(&mut self, key: &str, value: &str) {
        let value = value.replace(['\r', '\n'], " ");
        match self.lines.iter_mut().find(|(k, _)| k == key) {
            Some(line) => line.1 = value,
            None => self.lines.push((key.to_owned(), value)),
        }
    }

    /// The display name; empty when there is none.
    pub fn display_name(&self) -> &str {
        self.get("FN").unwrap_or_default()
    }

    /// The picture, if there is one that can be decoded.
    pub fn photo(&self) -> Option<Photo> {
        let (key, value) = self.lines.iter().find(|(k, _)| k.starts_with("PHOTO"))?;
        let digits: String = value.chars().filter(|c| !c.is_whitespace()).collect();
        Some(Photo {
            kind: key
                .split(';')
                .find_map(|part| part.strip_prefix("TYPE="))
                .unwrap_or_default()
                .to_owned(),
            data: BASE64_STANDARD.decode(digits).ok()?,
        })
    }

    /// Sets or removes the picture.
    pub fn set_photo(&mut self, photo: Option<&Photo>) {
        self.lines.retain(|(key, _)| !key.starts_with("PHOTO"));
        if let Some(photo) = photo {
            let key = format!("PHOTO;ENCODING=BASE64;TYPE={}", photo.kind);
            self.set(&key, &BASE64_STANDARD.encode(&photo.data));
        }
    }

    /// The lines between begin and end, without the version.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// The text: lines end in LF, the last one has no end, as the desktop client writes it.
impl core::fmt::Display for VCard {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("BEGIN:VCARD\nVERSION:2.1\n")?;
        for (key, value) in &self.lines {
            writeln!(f, "{key}:{value}")?;
        }
        f.write_str("END:VCARD")
    }
}
