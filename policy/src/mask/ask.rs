use super::Masker;
use crate::detect::{Detector, Finding};

/// The first 128 bits of a keyed hash over a value and its kind.
pub type Fingerprint = [u8; 16];

impl Masker {
    /// The fingerprints that `value` has, or a value in it, in whatever was masked: one for each detector that finds
    /// something, or of the whole as the one `kind` that is named. None if nothing is found.
    ///
    /// Whoever may ask this may try values, so it needs a right of its own.
    #[must_use]
    pub fn fingerprints_of(&self, value: &str, kind: Option<Detector>) -> Vec<Fingerprint> {
        let text = value.as_bytes();
        let mut found = Vec::new();
        match kind {
            Some(detector) => found.push(Finding { detector, range: 0..text.len() }),
            None => self.detectors.find(text, &mut found),
        }
        let fingerprint = |it: Finding| self.key.fingerprint(it.detector, &text[it.range]);
        let mut fingerprints: Vec<Fingerprint> = found.into_iter().map(fingerprint).collect();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        fingerprints
    }

    /// The fingerprint that `value` has as the whole value of a column that the mask of this name hides.
    #[must_use]
    pub fn fingerprint_in_column(&self, value: &str, mask: &str) -> Fingerprint {
        self.key.of_column(mask, value.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FingerprintKey;
    use super::*;

    #[test]
    fn a_value_asked_for_has_the_fingerprint_that_its_mask_left_however_it_is_written() {
        let masker = Masker::everything(FingerprintKey::new(b"key"));
        let asked = masker.fingerprints_of("4111 1111 1111 1111", None);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked, masker.fingerprints_of("4111111111111111", None));
        assert_eq!(asked, masker.fingerprints_of("4111111111111111", Some(Detector::PaymentCard)));
        assert_ne!(asked, masker.fingerprints_of("4111111111111111", Some(Detector::Email)));
        assert_ne!(asked, masker.fingerprints_of("5500005555555559", None));
        assert!(masker.fingerprints_of("nothing of interest", None).is_empty());
        let other = Masker::everything(FingerprintKey::new(b"other"));
        assert_ne!(
            asked,
            other.fingerprints_of("4111111111111111", None),
            "it tells nothing without the key"
        );
    }
}
