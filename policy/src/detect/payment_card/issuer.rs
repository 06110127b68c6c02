//! Who issues which numbers.
//!
//! Sources: ISO/IEC 7812-1 for the form; the networks' published ranges as collected in Wikipedia's "Payment card
//! number" (Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay, Maestro, Mir, RuPay, Troy, Verve,
//! Napas, Uzcard, Humo, Borica, GPN, Switch). Where sources differ the wider range is taken.

/// Digits of a number that tell its issuer.
const PREFIX_DIGITS: usize = 6;

/// A range of numbers: six-digit prefixes, inclusive, and the lengths they come in.
struct Issuer {
    first: u32,
    last: u32,
    /// Bit n is set if numbers of n digits exist.
    lengths: u32,
    /// The same for the lengths that nearly all cards have.
    usual: u32,
}

const fn issuer(first: u32, last: u32, lengths: &[u32], usual: u32) -> Issuer {
    let mut bits = 0;
    let mut at = 0;
    while at < lengths.len() {
        bits |= 1 << lengths[at];
        at += 1;
    }
    Issuer { first, last, lengths: bits, usual: 1 << usual }
}

/// In order of the first digits.
const ISSUERS: [Issuer; 22] = [
    issuer(194_600, 194_699, &[16, 17, 18, 19], 16),         // GPN
    issuer(220_000, 220_499, &[16, 17, 18, 19], 16),         // Mir
    issuer(220_500, 220_599, &[16], 16),                     // Borica
    issuer(222_100, 272_099, &[16], 16),                     // Mastercard
    issuer(300_000, 305_999, &[14, 15, 16, 17, 18, 19], 14), // Diners Club
    issuer(309_500, 309_599, &[14, 15, 16, 17, 18, 19], 14), // Diners Club
    issuer(340_000, 349_999, &[15], 15),                     // American Express
    issuer(352_800, 358_999, &[16, 17, 18, 19], 16),         // JCB, LankaPay, RuPay
    issuer(353_000, 353_999, &[16], 16),                     // RuPay
    issuer(360_000, 369_999, &[14, 15, 16, 17, 18, 19], 14), // Diners Club
    issuer(370_000, 379_999, &[15], 15),                     // American Express
    issuer(380_000, 399_999, &[14, 15, 16, 17, 18, 19], 14), // Diners Club, Hipercard
    issuer(400_000, 499_999, &[13, 16, 19], 16),             // Visa
    issuer(490_300, 493_699, &[18], 16),                     // Switch
    issuer(500_000, 509_999, &[12, 13, 14, 15, 16, 17, 18, 19], 16), // Maestro, Verve, RuPay
    issuer(510_000, 559_999, &[16], 16),                     // Mastercard
    issuer(560_000, 699_999, &[12, 13, 14, 15, 16, 17, 18, 19], 16), // Maestro, Discover, UnionPay, RuPay
    issuer(810_000, 829_999, &[16, 17, 18, 19], 16),         // UnionPay, RuPay
    issuer(860_000, 860_099, &[16], 16),                     // Uzcard
    issuer(970_400, 970_499, &[16, 19], 16),                 // Napas
    issuer(979_200, 979_299, &[16], 16),                     // Troy
    issuer(986_000, 986_099, &[16], 16),                     // Humo
];

/// Which lengths of an issuer are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lengths {
    /// All that exist.
    All,
    /// The one that nearly all its cards have.
    Usual,
}

/// Whether these digits, each 0 to 9, are a card's: known issuer, a length it uses, right check digit.
pub(super) fn is_card(digits: &[u8], lengths: Lengths) -> bool {
    is_issued(digits, lengths) && luhn(digits)
}

/// Whether some issuer uses this prefix with this length.
fn is_issued(digits: &[u8], lengths: Lengths) -> bool {
    if digits.len() < PREFIX_DIGITS || digits.len() > super::DIGITS_MAX {
        return false;
    }
    let prefix = digits[..PREFIX_DIGITS].iter().fold(0, |sum, digit| sum * 10 + u32::from(*digit));
    ISSUERS.iter().any(|issuer| {
        let allowed = if lengths == Lengths::All { issuer.lengths } else { issuer.usual };
        (issuer.first..=issuer.last).contains(&prefix) && allowed & (1 << digits.len()) != 0
    })
}

/// The check of ISO/IEC 7812-1, annex B.
fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits.iter().rev().enumerate().map(|(index, digit)| luhn_value(index, *digit)).sum();
    sum.is_multiple_of(10)
}

/// What a digit adds to the sum of the check, `index` digits before the last one.
pub(super) fn luhn_value(index: usize, digit: u8) -> u32 {
    match (index % 2, u32::from(digit)) {
        (0, value) => value,
        (_, value) if value > 4 => value * 2 - 9,
        (_, value) => value * 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_digit_or_two_swapped_neighbours_fail_the_check() {
        let card: Vec<u8> = b"4012888888881881".iter().map(|byte| byte - b'0').collect();
        assert!(luhn(&card));
        for at in 0..card.len() {
            for other in 1..10 {
                let mut changed = card.clone();
                changed[at] = (changed[at] + other) % 10;
                assert!(!luhn(&changed));
            }
        }
        let mut swapped = card.clone();
        swapped.swap(0, 1);
        assert!(!luhn(&swapped));
    }

    #[test]
    fn the_share_of_issued_prefixes_is_what_the_documentation_says() {
        for len in super::super::DIGITS_MIN..=super::super::DIGITS_MAX {
            let issued = (0..1_000_000_u32)
                .filter(|prefix| {
                    let mut digits = vec![0; len];
                    for (index, digit) in digits.iter_mut().take(PREFIX_DIGITS).enumerate() {
                        *digit = u8::try_from(prefix / 10_u32.pow(5 - index as u32) % 10).expect("a digit");
                    }
                    is_issued(&digits, Lengths::All)
                })
                .count();
            let percent_max = match len {
                16 => 42,
                19 => 32,
                _ => 25,
            };
            assert!(issued <= percent_max * 10_000, "{issued} of a million with {len} digits");
        }
    }
}
