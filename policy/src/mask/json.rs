use super::Hit;

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
