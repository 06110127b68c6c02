//! Values planted in the target, and the search for them.

use std::path::Path;

use retrace_tests::{Gate, files_under, payment_card};

/// A card number in groups of four.
pub(crate) fn grouped(card: &str, separator: &str) -> String {
    let groups: Vec<_> =
        card.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(separator)
}

/// One value, in every form in which it would be a leak.
pub(crate) struct Canary {
    name: String,
    needles: Vec<Vec<u8>>,
}

impl Canary {
    /// A card number: with and without separators, without its last four digits, as a binary bigint, and in hex.
    pub(crate) fn card(number: &str) -> Self {
        let hidden = &number[..number.len() - 4];
        let mut forms: Vec<Vec<u8>> = [hidden.to_owned(), grouped(hidden, " "), grouped(hidden, "-")]
            .iter()
            .map(|form| form.as_bytes().to_vec())
            .collect();
        forms.push(number.parse::<i64>().expect("up to 18 digits").to_be_bytes().to_vec());
        Self::of(number, forms)
    }

    /// A text, such as the local part of an e-mail address, a token's secret or a password.
    pub(crate) fn text(text: &str) -> Self {
        Self::of(text, vec![text.as_bytes().to_vec()])
    }

    fn of(name: &str, forms: Vec<Vec<u8>>) -> Self {
        let hex =
            |form: &Vec<u8>| form.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
        let needles = forms.iter().map(hex).collect::<Vec<_>>().into_iter().chain(forms).collect();
        Self { name: name.to_owned(), needles }
    }

    /// Whether `bytes` hold it, letters in either case.
    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        let bytes = bytes.to_ascii_lowercase();
        self.needles.iter().any(|needle| {
            let needle = needle.to_ascii_lowercase();
            bytes.windows(needle.len()).any(|window| window == needle)
        })
    }
}

/// Fails if `bytes`, which `place` gave, hold one of `canaries`.
#[track_caller]
pub(crate) fn assert_none_in(place: &str, bytes: &[u8], canaries: &[Canary]) {
    for canary in canaries {
        if canary.is_in(bytes) {
            panic!("{} is in {place}: {}", canary.name, around(bytes, canary));
        }
    }
}

/// What stands near the leak, to find where it came from.
fn around(bytes: &[u8], canary: &Canary) -> String {
    let lower = bytes.to_ascii_lowercase();
    let at = canary.needles.iter().find_map(|needle| {
        let needle = needle.to_ascii_lowercase();
        lower.windows(needle.len()).position(|window| window == needle)
    });
    let at = at.unwrap_or_default();
    let near = &bytes[at.saturating_sub(120)..bytes.len().min(at + 120)];
    String::from_utf8_lossy(near).escape_debug().to_string()
}

/// Searches everything the gate wrote: log, lake as files and as SQL shows every column of every event, standard output
/// and standard error. Private keys and tokens beside the configuration are no evidence and are left out.
#[track_caller]
pub(crate) fn assert_none_written(gate: &Gate, canaries: &[Canary]) {
    let data = gate.dir().join("data");
    let files = files_under(&data);
    assert!(files.len() >= 2, "log and lake should be under {}: {files:?}", data.display());
    for file in files {
        // A segment may be removed by truncation between the listing and the reading.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        assert_none_in(&file.display().to_string(), &bytes, canaries);
    }
    let events = gate.retrace(&["sql", "--format", "csv", "SELECT * FROM events"]).expect_ok();
    assert!(events.lines().count() > 1, "no events: {events}");
    assert_none_in("the events", events.as_bytes(), canaries);
    assert_none_in("what retrace up said", &gate.said(), canaries);
}

/// The files of the lake, of which there is at least one once the gate has stopped.
#[track_caller]
pub(crate) fn parquet_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = files_under(folder);
    files.retain(|file| file.extension().is_some_and(|extension| extension == "parquet"));
    assert!(!files.is_empty(), "no Parquet file under {}", folder.display());
    files
}

#[test]
fn cards_of_the_tests_have_their_check_digit() {
    for number in ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117"] {
        assert_eq!(payment_card(&number[..number.len() - 1]), number);
    }
    assert_eq!(grouped("4111111111111111", " "), "4111 1111 1111 1111");
}

#[test]
fn a_canary_is_seen_in_each_of_its_forms() {
    let canary = Canary::card("4111111111111111");
    for seen in
        ["x4111111111111111", "4111 1111 1111 ", "4111-1111-1111-1111", "34313131313131313131313131313131"]
    {
        assert!(canary.is_in(seen.as_bytes()), "{seen}");
    }
    assert!(canary.is_in(&[&[7], 4_111_111_111_111_111_i64.to_be_bytes().as_slice()].concat()));
    assert!(!canary.is_in(b"************1111"));
    assert!(Canary::text("ada.lovelace").is_in(b"ADA.Lovelace@example.com"));
}
