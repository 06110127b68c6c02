//! Data that looks like somebody's.

use std::fmt::Write;

const GIVEN: [&str; 10] =
    ["Ada", "Grace", "Barbara", "Edsger", "Donald", "Frances", "Alan", "Radia", "Ken", "Margaret"];
const FAMILY: [&str; 8] = ["Meyer", "Okafor", "Silva", "Tanaka", "Novak", "Khan", "Larsen", "Moreau"];

/// A payment card number: `prefix` and its Luhn check digit (ISO/IEC 7812-1, annex B).
#[must_use]
pub fn payment_card(prefix: &str) -> String {
    let digits = prefix.bytes().rev().map(|digit| u32::from(digit - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(index, digit)| match index % 2 {
            0 if digit > 4 => 2 * digit - 9,
            0 => 2 * digit,
            _ => digit,
        })
        .sum();
    format!("{prefix}{}", (10 - sum % 10) % 10)
}

/// A psql script that makes the table `customers` with `count` rows.
#[must_use]
pub fn customers(count: u32) -> String {
    let mut script = String::from(
        "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text, card text, city text);\n\
         COPY customers FROM STDIN;\n",
    );
    for id in 1..=count {
        let given = GIVEN[id as usize % GIVEN.len()];
        let family = FAMILY[id as usize / GIVEN.len() % FAMILY.len()];
        let email = format!("{}.{}{id}@example.com", given.to_lowercase(), family.to_lowercase());
        // Thinned out, so that neighbours share no digits that would tell them apart from a mask.
        let card = payment_card(&format!("4{:014}", u64::from(id) * 7_919_000_017 % 100_000_000_000_000));
        let city = ["Lisbon", "Oslo", "Lagos", "Kyoto"][id as usize % 4];
        writeln!(script, "{id}\t{given} {family}\t{email}\t{card}\t{city}").expect("a String takes all");
    }
    script.push_str("\\.\n");
    script
}
