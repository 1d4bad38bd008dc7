//! The little structure there is in plain text: links, inline code, blocks of code.

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Words as they are.
    Words(String),
    /// An address that can be opened; only `http` and `https`.
    Link(String),
    /// Between single backticks.
    Code(String),
    /// Between lines of three backticks.
    Block(String),
}

/// Cuts a text into its pieces.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut out = Vec::new();
    let parts = fences(text);
    let last = parts.len().saturating_sub(1);
    for (index, part) in parts.into_iter().enumerate() {
        if index % 2 == 1 {
            out.push(Piece::Block(block(part).to_owned()));
            continue;
        }
        // A block stands on lines of its own: the breaks around it are its, not the words'.
        let part = if index > 0 {
            part.strip_prefix('\n').unwrap_or(part)
        } else {
            part
        };
        let part = if index < last {
            part.strip_suffix('\n').unwrap_or(part)
        } else {
            part
        };
        inline(part, &mut out);
    }
    out
}

/// Parts outside (even) and inside (odd) of fences. A fence without an end is words.
fn fences(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.split("```").collect();
    if parts.len() < 3 || parts.len().is_multiple_of(2) {
        return vec![text];
    }
    parts
}

/// The content of a block without the language after its fence and the line breaks around it.
fn block(part: &str) -> &str {
    let first_line_is_language = part.split_once('\n').filter(|(first, _)| {
        first.len() < 20
            && first
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-#.".contains(c))
    });
    let body = first_line_is_language.map_or(part, |(_, rest)| rest);
    body.strip_suffix('\n').unwrap_or(body)
}

fn inline(text: &str, out: &mut Vec<Piece>) {
    let mut rest = text;
    while !rest.is_empty() {
        let link = ["https://", "http://"]
            .iter()
            .filter_map(|scheme| rest.find(scheme))
            .min();
        let code = rest
            .find('`')
            .filter(|at| rest.get(at + 1..).is_some_and(|after| after.contains('`')));
        match (link, code) {
            (Some(at), code) if code.is_none_or(|code| at < code) => {
                let (before, after) = rest.split_at(at);
                words(before, out);
                let (link, after) = after.split_at(link_length(after));
                out.push(Piece::Link(link.to_owned()));
                rest = after;
            }
            (_, Some(at)) => {
                let (before, after) = rest.split_at(at);
                words(before, out);
                let (code, after) = after
                    .get(1..)
                    .and_then(|a| a.split_once('`'))
                    .unwrap_or_default();
                match code.is_empty() {
                    true => words("``", out),
                    false => out.push(Piece::Code(code.to_owned())),
                }
                rest = after;
            }
            _ => {
                words(rest, out);
                rest = "";
            }
        }
    }
}

fn words(text: &str, out: &mut Vec<Piece>) {
    match out.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Words(before)) => before.push_str(text),
        _ => out.push(Piece::Words(text.to_owned())),
    }
}

/// How much of a text that begins with an address is the address: no closing punctuation of the sentence around it.
fn link_length(text: &str) -> usize {
    let end = text
        .find(|c: char| c.is_whitespace() || "<>\"`".contains(c))
        .unwrap_or(text.len());
    let mut link = text.get(..end).unwrap_or_default();
    while let Some(last) = link.chars().next_back() {
        let opens = match last {
            ')' => Some('('),
            ']' => Some('['),
            _ => None,
        };
        let dangling = match opens {
            Some(open) => link.matches(last).count() > link.matches(open).count(),
            None => ".,;:!?'…،؟。，".contains(last),
        };
        if !dangling {
            break;
        }
        link = link.get(..link.len() - last.len_utf8()).unwrap_or_default();
    }
    link.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn w(text: &str) -> Piece {
        Piece::Words(text.into())
    }

    #[test]
    fn a_link_ends_before_the_sentence_does() {
        let link = |s: &str| Piece::Link(s.into());
        assert_eq!(
            pieces("see https://a.org/x."),
            [w("see "), link("https://a.org/x"), w(".")]
        );
        assert_eq!(
            pieces("(https://a.org/b_(c))"),
            [w("("), link("https://a.org/b_(c)"), w(")")]
        );
        assert_eq!(pieces("javascript:alert(1)"), [w("javascript:alert(1)")]);
    }

    #[test]
    fn code_is_kept_as_it_is() {
        assert_eq!(
            pieces("run `a https://b` now"),
            [w("run "), Piece::Code("a https://b".into()), w(" now")]
        );
        assert_eq!(pieces("one ` alone"), [w("one ` alone")]);
        assert_eq!(pieces("``"), [w("``")]);
        let text = "so:\n```rust\nfn main() {}\n```\ndone";
        assert_eq!(
            pieces(text),
            [w("so:"), Piece::Block("fn main() {}".into()), w("done")]
        );
        assert_eq!(pieces("``` open"), [w("``` open")]);
    }

    #[test]
    fn nothing_is_lost() {
        for text in [
            "",
            "a",
            "`a`b`",
            "http://",
            "https://é.org، ok",
            "```a```b```",
            "\u{202e}`x",
        ] {
            let total: String = pieces(text)
                .iter()
                .map(|p| match p {
                    Piece::Words(s) | Piece::Link(s) | Piece::Code(s) | Piece::Block(s) => {
                        s.replace('`', "")
                    }
                })
                .collect();
            assert_eq!(total, text.replace('`', ""), "{text}");
        }
    }
}
