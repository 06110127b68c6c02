//! Recorded text on a terminal. What was recorded may hold anything, and a terminal obeys escape sequences; so every
//! text passes through here, and what a terminal would obey, hide or reorder is shown as what it is.

use std::fmt::Write;

use unicode_width::UnicodeWidthChar;

/// Stands where a text was cut.
pub const CUT_MARK: char = '…';

/// How a tab stands in a text of several lines.
const TAB: &str = "    ";

/// Appends `text` as one line: `\n`, `\t`, `\x1B` and the like stand for controls, `\u{202E}` for bidi controls and
/// invisible format characters.
pub fn push_line(out: &mut String, text: &str) {
    for c in text.chars() {
        push_char(out, c);
    }
}

/// `text` as one line, see [`push_line`].
#[must_use]
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_line(&mut out, text);
    out
}

/// `text` as lines, split at its line feeds alone; tabs stand as spaces.
pub fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split('\n').map(|text| {
        let mut out = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\t' => out.push_str(TAB),
                _ => push_char(&mut out, c),
            }
        }
        out
    })
}

/// `text` safe to print with its lines and tabs as they are: for formats that a program reads, when a person looks on.
#[must_use]
pub fn verbatim(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            _ => push_char(&mut out, c),
        }
    }
    out
}

/// Columns of a terminal that `text`, already safe, takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Cuts `text`, already safe, to `width_max` columns, the last of which is then [`CUT_MARK`].
pub fn cut(text: &mut String, width_max: usize) {
    let mut used = 0;
    let mut fits = 0;
    for (at, c) in text.char_indices() {
        used += char_width(c);
        if used > width_max {
            text.truncate(fits);
            text.push(CUT_MARK);
            return;
        }
        if used < width_max {
            fits = at + c.len_utf8();
        }
    }
}

fn char_width(c: char) -> usize {
    UnicodeWidthChar::width(c).unwrap_or(0)
}

fn push_char(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\0'..='\x1f' | '\x7f' => write!(out, "\\x{:02X}", u32::from(c)).expect("a String takes all"),
        _ if is_obeyed(c) => write!(out, "\\u{{{:X}}}", u32::from(c)).expect("a String takes all"),
        _ => out.push(c),
    }
}

/// Beyond ASCII: what a terminal would obey, reorder by, or show nothing for. Joiners of scripts that need them stay.
fn is_obeyed(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}'             // C1 controls: U+009B begins an escape sequence
        | '\u{ad}'                      // soft hyphen
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // bidi
        | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}' // invisible
        | '\u{2028}' | '\u{2029}'       // line and paragraph separators
        | '\u{fff9}'..='\u{fffb}'       // interlinear annotation
        | '\u{e0000}'..='\u{e0fff}'     // tags and variation selectors, all invisible
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        let cases: &[(&str, &str)] = &[
            ("plain täxt 漢字 🙂", "plain täxt 漢字 🙂"),
            ("\x1b[2J\x1b]0;title\x07", "\\x1B[2J\\x1B]0;title\\x07"),
            ("a\nb\rc\td\0", "a\\nb\\rc\\td\\x00"),
            ("\u{9b}31m", "\\u{9B}31m"),
            ("user\u{202e}nimda", "user\\u{202E}nimda"),
            ("\u{2066}x\u{2069}\u{200f}", "\\u{2066}x\\u{2069}\\u{200F}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200B}width\\u{FEFF}"),
            ("a\u{e0041}b\u{2028}", "a\\u{E0041}b\\u{2028}"),
            ("\x7f\x08", "\\x7F\\x08"),
            ("می\u{200c}خواهم", "می\u{200c}خواهم"),
        ];
        for (text, shown) in cases {
            assert_eq!(line(text), *shown);
        }
    }

    #[test]
    fn no_control_character_survives_but_line_feeds_and_tabs() {
        let everything: String = ('\0'..='\u{ffff}').collect();
        assert!(!line(&everything).chars().any(char::is_control));
        assert!(lines(&everything).all(|line| !line.chars().any(char::is_control)));
        let kept: String = verbatim(&everything).chars().filter(|c| c.is_control()).collect();
        assert_eq!(kept, "\t\n");
    }

    #[test]
    fn a_cut_text_fills_its_width_and_ends_with_the_mark() {
        let cases: &[(&str, usize, &str)] = &[
            ("abcdef", 6, "abcdef"),
            ("abcdef", 5, "abcd…"),
            ("漢字漢字", 8, "漢字漢字"),
            ("漢字漢字", 7, "漢字漢…"),
            ("漢字漢字", 6, "漢字…"),
            ("e\u{301}e\u{301}e\u{301}", 2, "e\u{301}…"),
            ("abc", 1, "…"),
            ("", 1, ""),
        ];
        for (text, width_max, expected) in cases {
            let mut text = (*text).to_owned();
            cut(&mut text, *width_max);
            assert_eq!(text, *expected);
            assert!(width(&text) <= *width_max);
        }
    }
}
