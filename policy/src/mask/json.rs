use std::ops::Range;

use memchr::memchr;

use super::Hit;

/// Cuts every hit that reaches over the end of a string into its parts within strings and the bare tokens between: what
/// stands for it must not take the quotes away. A hit's value stays that of the whole. Linear in the text's length.
pub(super) fn cut_at_quotes(text: &[u8], hits: &mut Vec<Hit>) {
    let mut in_string = false;
    let mut at = 0;
    let mut cut = Vec::with_capacity(hits.len());
    for hit in hits.drain(..) {
        if memchr(b'"', &text[hit.range.clone()]).is_none() {
            cut.push(hit);
            continue;
        }
        let mut piece = hit.range.start;
        while at < hit.range.end {
            match text[at] {
                b'\\' if in_string => at += 1,
                b'"' => {
                    push_pieces(text, &hit, piece..at, in_string, &mut cut);
                    in_string = !in_string;
                    piece = piece.max(at + 1);
                }
                _ => {}
            }
            at += 1;
        }
        push_pieces(text, &hit, piece..hit.range.end, in_string, &mut cut);
    }
    *hits = cut;
}

/// What of a hit stands in one string, or in bare tokens between two.
fn push_pieces(text: &[u8], hit: &Hit, range: Range<usize>, in_string: bool, cut: &mut Vec<Hit>) {
    if range.is_empty() {
        return;
    }
    let value = || Some(hit.decoded.clone().unwrap_or_else(|| text[hit.range.clone()].to_vec()));
    let piece = |range: Range<usize>| {
        if range == hit.range { hit.clone() } else { Hit { range, decoded: value(), ..hit.clone() } }
    };
    if in_string {
        cut.push(piece(range));
        return;
    }
    let mut at = range.start;
    while at < range.end {
        let len = bare(text[at..range.end].iter());
        if len > 0 {
            cut.push(piece(at..at + len));
        }
        at += len.max(1);
    }
}

/// Widens every hit that stands outside a JSON string (RFC 8259, section 7) to the whole bare token around it, and marks
/// it to be quoted. Hits that come to overlap so are joined. Linear in the text's length.
pub(super) fn quote_bare(text: &[u8], hits: &mut Vec<Hit>) {
    let mut in_string = false;
    let mut at = 0;
    let mut kept: Vec<Hit> = Vec::with_capacity(hits.len());
    for mut hit in hits.drain(..) {
        while at < hit.range.start {
            match text[at] {
                b'\\' if in_string => at += 1,
                b'"' => in_string = !in_string,
                _ => {}
            }
            at += 1;
        }
        if !in_string {
            if let Some(last) = kept.last_mut().filter(|last| last.quote && last.range.end >= hit.range.start)
            {
                // The token around the last hit reaches over this one.
                last.range.end = last.range.end.max(hit.range.end);
                continue;
            }
            let floor = kept.last().map_or(0, |last| last.range.end);
            hit.quote = true;
            hit.range.start -= bare(text[floor..hit.range.start].iter().rev());
            hit.range.end += bare(text[hit.range.end..].iter());
        }
        kept.push(hit);
    }
    *hits = kept;
}

/// How many bytes of a bare token (a number, or a bare word) come next.
fn bare<'a>(bytes: impl Iterator<Item = &'a u8>) -> usize {
    bytes.take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')).count()
}
