//! PEM text: read leniently, written in exactly one form.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use zeroize::Zeroizing;

/// Characters of base64 in a line, as RFC 7468 and every writer of Jami has it.
const LINE: usize = 64;

/// Calls `each` with the bytes of every block of this label. What stands around the
/// blocks is skipped: certificates come out of the DHT with a msgpack header before them.
/// `None` from a block means that it is not base64, or has no end.
pub(crate) fn blocks<'a>(
    text: &'a [u8],
    label: &str,
) -> impl Iterator<Item = Option<Zeroizing<Vec<u8>>>> + use<'a> {
    let begin = format!("-----BEGIN {label}-----");
    let end = format!("-----END {label}-----");
    let mut rest = text;
    core::iter::from_fn(move || {
        let body = rest.get(find(rest, begin.as_bytes())?.checked_add(begin.len())?..)?;
        let Some(len) = find(body, end.as_bytes()) else {
            rest = &[];
            return Some(None);
        };
        let digits: Zeroizing<Vec<u8>> = Zeroizing::new(
            body.get(..len)?
                .iter()
                .copied()
                .filter(|b| !b.is_ascii_whitespace())
                .collect(),
        );
        rest = body.get(len.checked_add(end.len())?..)?;
        Some(BASE64_STANDARD.decode(&*digits).ok().map(Zeroizing::new))
    })
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}

/// One block, lines ending in LF, the last one too.
pub(crate) fn write(label: &str, der: &[u8]) -> Zeroizing<String> {
    let digits = Zeroizing::new(BASE64_STANDARD.encode(der));
    // Room for everything at once: growing would leave copies of a key behind.
    let breaks = digits.len() / LINE;
    let frame = label.len().saturating_mul(2).saturating_add(40);
    let room = digits.len().saturating_add(breaks).saturating_add(frame);
    let mut out = Zeroizing::new(String::with_capacity(room));
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    let mut digits: &str = &digits;
    while !digits.is_empty() {
        let (line, rest) = digits.split_at_checked(LINE).unwrap_or((digits, ""));
        out.push_str(line);
        out.push('\n');
        digits = rest;
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}
