//! The checks of each number. Digits are values from 0 to 9.

/// Whether day and month can be a date; `day` and `month` without the additions that a country makes.
fn is_date(day: u32, month: u32) -> bool {
    let days = match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(*digit))
}

fn two(digits: &[u8], at: usize) -> u32 {
    u32::from(digits[at]) * 10 + u32::from(digits[at + 1])
}

fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| u32::from(*digit) * weight).sum()
}

/// Rijksregisternummer: 97 less the rest of the number by 97; who was born from 2000 on has a 2 before it. Months of
/// the bis register have 20 or 40 added.
pub(super) fn belgium(digits: &[u8]) -> bool {
    let (month, day) = (two(digits, 2), two(digits, 4));
    let known = is_date(day, month % 20) && month < 53;
    let body = number(&digits[..9]);
    let check = number(&digits[9..]);
    known && [body, 2_000_000_000 + body].iter().any(|body| 97 - body % 97 == check)
}

/// Cadastro de Pessoas Físicas: two check digits by mod 11. One digit eleven times passes, and is none.
pub(super) fn brazil(digits: &[u8]) -> bool {
    let check = |len: u32| {
        let sum: u32 = (2..)
            .take(len as usize)
            .zip(digits[..len as usize].iter().rev())
            .map(|(w, d)| w * u32::from(*d))
            .sum();
        match sum % 11 {
            0 | 1 => 0,
            rest => 11 - rest,
        }
    };
    digits.iter().any(|digit| *digit != digits[0])
        && check(9) == u32::from(digits[9])
        && check(10) == u32::from(digits[10])
}

/// GB 11643: place, date of birth, sequence, check by ISO 7064 mod 11-2, where 10 is written X.
pub(super) fn china(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 18] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2, 1];
    matches!(digits[0], 1..=9)
        && matches!(two(digits, 6), 18..=20)
        && is_date(two(digits, 12), two(digits, 10))
        && weighted(digits, &WEIGHTS) % 11 == 1
}

/// Henkilötunnus: a date, the century's sign, a number, a character for all nine digits by 31.
pub(super) fn finland(id: &[u8]) -> bool {
    const CHECKS: &[u8; 31] = b"0123456789ABCDEFHJKLMNPRSTUVWXY";
    let [d1, d2, m1, m2, y1, y2, sign, a, b, c, check] = id else { return false };
    let digits = [d1, d2, m1, m2, y1, y2, a, b, c].map(|byte| byte.wrapping_sub(b'0'));
    digits.iter().all(|digit| *digit < 10)
        && is_finnish_sign(*sign)
        && is_date(two(&digits, 0), two(&digits, 2))
        && CHECKS[(number(&digits) % 31) as usize] == check.to_ascii_uppercase()
}

/// Whether a sign can say the century of a henkilötunnus.
pub(super) fn is_finnish_sign(sign: u8) -> bool {
    matches!(sign.to_ascii_uppercase(), b'+' | b'-' | b'A'..=b'F' | b'U'..=b'Y')
}

/// Numéro d'inscription au répertoire: sex, year, month (20 and 30 to 42, 50 and more where it is not known), place, key.
pub(super) fn france(digits: &[u8]) -> bool {
    matches!(digits[0], 1..=4 | 7 | 8)
        && matches!(two(digits, 3), 1..=12 | 20 | 30..=42)
        && 97 - number(&digits[..13]) % 97 == number(&digits[13..])
}

/// A French number of Corsica: `2A` counts as 19, `2B` as 18.
pub(super) fn corsica(written: &[u8]) -> bool {
    let department = match written[5..7] {
        [b'2', b'A' | b'a'] => b"19",
        [b'2', b'B' | b'b'] => b"18",
        _ => return false,
    };
    let digits: Vec<u8> = [&written[..5], department, &written[7..]]
        .concat()
        .iter()
        .map(|byte| byte.wrapping_sub(b'0'))
        .collect();
    digits.iter().all(|digit| *digit < 10) && france(&digits)
}

/// Steueridentifikationsnummer: of the first ten digits one stands there two or three times, the others once at most;
/// check by ISO 7064 mod 11-10.
pub(super) fn germany(digits: &[u8]) -> bool {
    let mut times = [0; 10];
    for digit in &digits[..10] {
        times[usize::from(*digit)] += 1;
    }
    let repeated = times.iter().filter(|times| **times > 1).count();
    let product = digits[..10].iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    digits[0] != 0
        && repeated == 1
        && times.iter().all(|times| *times <= 3)
        && (11 - product) % 10 == u32::from(digits[10])
}

/// Aadhaar: the first digit is not 0 or 1; Verhoeff's check, by the dihedral group of ten elements.
pub(super) fn india(digits: &[u8]) -> bool {
    const PERMUTATION: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let multiply = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b - 5) % 5,
        (false, true) => 5 + (a - 5 + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let sum = digits.iter().rev().enumerate().fold(0, |sum, (index, digit)| {
        let permuted = (0..index % 8).fold(*digit, |digit, _| PERMUTATION[usize::from(digit)]);
        multiply(sum, permuted)
    });
    digits[0] > 1 && sum == 0
}

/// Codice fiscale: six letters of the name, year, month's letter, day (women 40 more), place, check letter. Digits may
/// be written as letters where two people would have the same code, from the last one on.
pub(super) fn italy(code: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let code = code.to_ascii_uppercase();
    let digit = |at: usize| match code[at] {
        byte @ b'0'..=b'9' => Some(u32::from(byte - b'0')),
        byte => b"LMNPQRSTUV".iter().position(|letter| *letter == byte).map(|digit| digit as u32),
    };
    let are_letters = [0, 1, 2, 3, 4, 5, 8, 11, 15].iter().all(|at| code[*at].is_ascii_uppercase());
    let are_digits = [6, 7, 9, 10, 12, 13, 14].iter().all(|at| digit(*at).is_some());
    if !are_letters || !are_digits || !b"ABCDEHLMPRST".contains(&code[8]) {
        return false;
    }
    let day = digit(9).zip(digit(10)).map_or(0, |(tens, ones)| tens * 10 + ones);
    let sum: u32 = code[..15]
        .iter()
        .enumerate()
        .map(|(index, byte)| {
            let value =
                char::from(*byte).to_digit(36).map_or(0, |value| if value > 9 { value - 10 } else { value });
            if index % 2 == 0 { ODD[value as usize] } else { value }
        })
        .sum();
    matches!(day, 1..=31 | 41..=71) && u32::from(code[15] - b'A') == sum % 26
}

/// Burgerservicenummer: weights 9 to 2 and −1, by 11.
pub(super) fn netherlands(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 9] = [9, 8, 7, 6, 5, 4, 3, 2, 10];
    digits.iter().any(|digit| *digit != 0) && weighted(digits, &WEIGHTS).is_multiple_of(11)
}

/// Number of the National Health Service: weights 10 to 1, by 11.
pub(super) fn nhs(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 10] = [10, 9, 8, 7, 6, 5, 4, 3, 2, 1];
    digits.iter().any(|digit| *digit != 0) && weighted(digits, &WEIGHTS).is_multiple_of(11)
}

/// Fødselsnummer: a date (a D-number has 40 added to the day), two check digits by mod 11.
pub(super) fn norway(digits: &[u8]) -> bool {
    const FIRST: [u32; 10] = [3, 7, 6, 1, 8, 9, 4, 5, 2, 1];
    const SECOND: [u32; 11] = [5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1];
    let day = two(digits, 0);
    is_date(if day > 40 { day - 40 } else { day }, two(digits, 2))
        && weighted(digits, &FIRST).is_multiple_of(11)
        && weighted(digits, &SECOND).is_multiple_of(11)
}

/// PESEL: a date whose month says the century (from 1800 on 80 more, from 2000 on 20), weights 1 3 7 9 by 10.
pub(super) fn poland(digits: &[u8]) -> bool {
    const WEIGHTS: [u32; 11] = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1];
    let month = two(digits, 2);
    let month = match month {
        81..=92 => month - 80,
        21..=32 => month - 20,
        month => month,
    };
    is_date(two(digits, 4), month) && weighted(digits, &WEIGHTS).is_multiple_of(10)
}

/// DNI and NIE: the letter that the number by 23 points to.
pub(super) fn spain(first: u32, digits: &[u8], letter: u8) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let number = digits.iter().fold(first, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    LETTERS[(number % 23) as usize] == letter
}

/// Personnummer: a date (a samordningsnummer has 60 added to the day), Luhn over the ten digits without a century.
pub(super) fn sweden(digits: &[u8]) -> bool {
    let short = &digits[digits.len() - 10..];
    let century = digits.len() == 10 || matches!(two(digits, 0), 18..=20);
    let day = two(short, 4);
    let sum: u32 = short
        .iter()
        .enumerate()
        .map(|(index, digit)| match u32::from(*digit) * if index % 2 == 0 { 2 } else { 1 } {
            value @ 10.. => value - 9,
            value => value,
        })
        .sum();
    century && is_date(if day > 60 { day - 60 } else { day }, two(short, 2)) && sum.is_multiple_of(10)
}
