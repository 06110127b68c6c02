//! Numbers that states give to people, if they have a check.
//!
//! # What counts
//! | country | number | written | in one run |
//! |---|---|---|---|
//! | Belgium | national number, mod 97 and a date | `yy.mm.dd-xxx.cc` | 11 digits |
//! | Brazil | CPF, two check digits | `ddd.ddd.ddd-dd` | 11 digits |
//! | China | resident id, ISO 7064 mod 11-2, date | – | 17 digits and a digit or X |
//! | Finland | henkilötunnus, mod 31 and a date | `ddmmyy-xxxc`, every century's sign | the same |
//! | France | NIR, mod 97 and a month | groups of 1 2 2 2 3 3 2 | 15 digits, also `2A`, `2B` |
//! | Germany | Steuer-ID, ISO 7064 mod 11-10, one digit repeated | groups of 2 3 3 3 | 11 digits |
//! | India | Aadhaar, Verhoeff | groups of 4 4 4 | 12 digits near the word |
//! | Italy | codice fiscale, check letter, date | – | 16 letters and digits |
//! | Netherlands | BSN, mod 11 | groups of 4 2 3 | 9 digits near the word |
//! | Norway | fødselsnummer, two check digits, date | groups of 6 5 | 11 digits |
//! | Poland | PESEL, mod 10 and a date | – | 11 digits |
//! | Spain | DNI, NIE, mod 23 | dash or space before the letter | 8 digits (or X, Y, Z and 7) and a letter |
//! | Sweden | personnummer, Luhn and a date | `yymmdd-xxxx`, `yyyymmdd-xxxx` | 10 or 12 digits |
//! | United Kingdom | NHS number, mod 11 | groups of 3 3 4 | 10 digits near the word |
//!
//! Groups have one space, dash, dot or slash between two of them. No letter or digit stands beside a number, and it is
//! not part of a longer one in groups. Dates may have the additions of people without residence or with a temporary
//! number.
//!
//! # What does not
//! Numbers without a check (Denmark since 2007, the United Kingdom's NINO), and what stands without its word where the
//! table asks for one. The fraction of a decimal number.
//!
//! # False positives
//! Of random digits in one run and without a word beside them, at most 3 % of those with 11 are taken, 1.5 % of those
//! with 10 and 0.2 % of every other length; a test counts them. One in 23 runs of eight digits with a letter behind them
//! is a DNI.

mod check;

use super::digits::{Grouped, Run, grouped, is_fraction, is_whole, values};
use super::keywords::{Keyword, Keywords};
use super::{Detector, Finding, chars};

/// Characters that a partial mask keeps.
const VISIBLE_CHARS: usize = 2;

/// A number in groups that begins at `start`, where the text is known to go on with groups of `first` and `second` digits.
pub(super) fn find_written(
    text: &[u8],
    start: usize,
    (first, second): (usize, usize),
    found: &mut Vec<Finding>,
) {
    let read = |counts: &[usize], is_right: fn(&[u8]) -> bool| {
        grouped(text, start, counts)
            .filter(|number: &Grouped| is_right(number.digits()))
            .map(|number| number.end)
    };
    let end = match (first, second) {
        (1, 2) => read(&[1, 2, 2, 2, 3, 3, 2], check::france),
        (2, 2) => read(&[2, 2, 2, 3, 2], check::belgium),
        (2, 3) => read(&[2, 3, 3, 3], check::germany),
        (3, 3) => read(&[3, 3, 3, 2], check::brazil).or_else(|| read(&[3, 3, 4], check::nhs)),
        (4, 2) => read(&[4, 2, 3], check::netherlands),
        (4, 4) => read(&[4, 4, 4], check::india),
        (6 | 8, 4) => read(&[first, 4], check::sweden),
        (6, 5) => read(&[6, 5], check::norway),
        _ => None,
    };
    let Some(end) = end else { return };
    if chars::is_word_start(text, start) && chars::is_word_end(text, end) && is_whole(text, start, end) {
        found.push(Finding { detector: Detector::NationalId, range: start..end });
    }
}

/// A number in one run, of which these digits are all or most.
pub(super) fn find_bare(text: &[u8], run: &Run, near: &mut Keywords<'_>, found: &mut Vec<Finding>) {
    let Run { start, end, before } = *run;
    // Tables are full of these, and most of them are long.
    if before == b'.' && is_fraction(text, start) {
        return;
    }
    let after = text.get(end).copied().unwrap_or(b' ');
    let range = match end - start {
        2 if before.is_ascii_alphabetic() && after.is_ascii_alphabetic() => italy(text, start),
        6 if check::is_finnish_sign(after) => finland(text, start).or_else(|| corsica(text, start)),
        7 | 8 => spain(text, run),
        17 if matches!(after, b'X' | b'x') => china(text, start),
        9..=12 | 15 | 18 if !after.is_ascii_alphanumeric() && chars::is_word_start(text, start) => {
            let is_number = is_number_of_digits(&text[start..end]) || near_its_word(text, start, end, near);
            is_number.then_some(start..end)
        }
        _ => None,
    };
    let Some(range) = range else { return };
    let is_apart = chars::is_word_start(text, range.start)
        && chars::is_word_end(text, range.end)
        && is_whole(text, range.start, range.end);
    if is_apart {
        found.push(Finding { detector: Detector::NationalId, range });
    }
}

/// Whether a run of digits is a number whose check says enough by itself.
fn is_number_of_digits(run: &[u8]) -> bool {
    match run.len() {
        10 => values::<10>(run).is_some_and(|digits| check::sweden(&digits)),
        11 => values::<11>(run).is_some_and(|digits| {
            [check::belgium, check::norway, check::poland, check::brazil, check::germany]
                .into_iter()
                .any(|is_right| is_right(&digits))
        }),
        12 => values::<12>(run).is_some_and(|digits| check::sweden(&digits)),
        15 => values::<15>(run).is_some_and(|digits| check::france(&digits)),
        18 => values::<18>(run).is_some_and(|digits| check::china(&digits)),
        _ => false,
    }
}

fn near_its_word(text: &[u8], start: usize, end: usize, near: &mut Keywords<'_>) -> bool {
    let run = &text[start..end];
    let (keyword, is_right) = match run.len() {
        9 => (Keyword::Bsn, values::<9>(run).is_some_and(|digits| check::netherlands(&digits))),
        10 => (Keyword::Nhs, values::<10>(run).is_some_and(|digits| check::nhs(&digits))),
        12 => (Keyword::Aadhaar, values::<12>(run).is_some_and(|digits| check::india(&digits))),
        _ => return false,
    };
    is_right && near.has(keyword, start..end)
}

type Range = std::ops::Range<usize>;

/// Six letters before the two digits of the year.
fn italy(text: &[u8], year: usize) -> Option<Range> {
    const CHARS: usize = 16;
    let start = year.checked_sub(6)?;
    let code = text.get(start..start + CHARS)?;
    check::italy(code).then_some(start..start + CHARS)
}

/// Six digits of a date, a sign for the century, three digits and the check character.
fn finland(text: &[u8], start: usize) -> Option<Range> {
    const CHARS: usize = 11;
    let id = text.get(start..start + CHARS)?;
    check::finland(id).then_some(start..start + CHARS)
}

/// A French number whose department is `2A` or `2B`.
fn corsica(text: &[u8], start: usize) -> Option<Range> {
    const CHARS: usize = 15;
    let number = text.get(start..start + CHARS)?;
    check::corsica(number).then_some(start..start + CHARS)
}

/// Eight digits and a letter, or X, Y or Z, seven digits and a letter; a dash or space may stand beside a letter.
fn spain(text: &[u8], run: &Run) -> Option<Range> {
    let end = run.end + usize::from(matches!(text.get(run.end), Some(b'-' | b' ')));
    let letter = text.get(end).filter(|byte| byte.is_ascii_alphabetic())?.to_ascii_uppercase();
    let (start, first) = if run.end - run.start == 8 {
        (run.start, 0)
    } else {
        let start = run.start.checked_sub(if run.before == b'-' { 2 } else { 1 })?;
        let first = b"XYZ".iter().position(|letter| *letter == text[start].to_ascii_uppercase())?;
        (start, first as u32)
    };
    check::spain(first, &text[run.start..run.end], letter).then_some(start..end + 1)
}

/// Seventeen digits and X.
fn china(text: &[u8], start: usize) -> Option<Range> {
    const DIGITS: usize = 17;
    let mut digits = values::<DIGITS>(&text[start..start + DIGITS])?.to_vec();
    if !matches!(text.get(start + DIGITS), Some(b'X' | b'x')) {
        return None;
    }
    digits.push(10);
    check::china(&digits).then_some(start..start + DIGITS + 1)
}

/// Letters and digits without separators. A Swedish number has its century left out, since it is written with and
/// without it.
pub(super) fn canonical(matched: &[u8]) -> Vec<u8> {
    let mut canonical = super::written::canonical(matched);
    let digits: Option<Vec<u8>> =
        canonical.iter().map(|byte| byte.is_ascii_digit().then(|| byte - b'0')).collect();
    if digits.is_some_and(|digits| digits.len() == 12 && check::sweden(&digits)) {
        canonical.drain(..2);
    }
    canonical
}

/// The last two characters; the others become `*`, separators stay.
pub(super) fn partial(matched: &[u8], out: &mut Vec<u8>) {
    super::written::hide_all_but(matched, 0, VISIBLE_CHARS, out);
}
