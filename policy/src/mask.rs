//! The masking module: the one place that makes [`Masked`] values.
//!
//! [`Masker`] holds the rules of one target. [`ContentBuilder`] takes a response apart value by value, hands back what
//! the client may see and keeps what the record may. [`command`] does the same for what the client sends. Both copies
//! come from the same scan, so that they cannot disagree about what was found.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the masking module that the ban on by_masking speaks of"
)]

pub mod command;

mod ask;
mod base64;
mod cell;
mod column;
mod content;
mod escapes;
mod hex;
mod json;
mod token;

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use retrace_proto::Masked;
use retrace_proto::wire::{Asserted, Mask, MaskAction, MaskKind};
use sha2::Sha256;

use crate::detect::{self, Detector, Detectors, Finding};

pub use ask::Fingerprint;
pub use cell::{Cell, ClientText, ColumnText};
pub use column::{HIDDEN, HiddenColumn};
pub use content::{
    ContentBuilder, DIAGNOSTIC_TEXT_BYTES_MAX, MASKS_PER_VALUE_MAX, RULE_NAME_BYTES_MAX, RawField,
};
pub use token::TokenDomain;

/// What stands for a value that could not be inspected on a target with masks.
pub const UNREADABLE: &str = "[unreadable]";

/// One `[[mask]]` of the configuration, as far as it speaks of one target.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, which every mask it causes carries.
    pub name: String,
    /// What it looks for.
    pub detectors: Vec<Detector>,
    /// What it puts instead: redact, token or partial.
    pub action: MaskAction,
}

/// The key of the fingerprints and tokens (HMAC-SHA-256, RFC 2104). It does not print.
#[derive(Clone)]
pub struct FingerprintKey(Hmac<Sha256>);

impl FingerprintKey {
    /// Takes the key's bytes, of any length.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    /// The first 128 bits of HMAC(key, kind ‖ 0 ‖ canonical value). No kind is called `token`.
    fn fingerprint(&self, detector: Detector, matched: &[u8]) -> [u8; 16] {
        self.mac([detector.name().as_bytes(), &[0], &detect::canonical(detector, matched)])
    }

    /// Appends the token of a value in its canonical form: `tok_<kind>_` and 22 letters and digits, made of the first 128
    /// bits of HMAC(key, `token` ‖ 0 ‖ domain ‖ 0 ‖ value). No token equals a fingerprint: their inputs begin differently.
    pub fn token(&self, domain: TokenDomain<'_>, canonical: &[u8], out: &mut Vec<u8>) {
        let bits = self.mac([b"token\0", &domain.to_bytes(), &[0], canonical]);
        token::write(domain.kind(), bits, out);
    }

    fn mac<const N: usize>(&self, parts: [&[u8]; N]) -> [u8; 16] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        let full = mac.finalize().into_bytes();
        let mut bits = [0; 16];
        bits.copy_from_slice(&full[..16]);
        bits
    }
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey([secret])")
    }
}

/// The masking rules of one target, ready to apply.
#[derive(Clone, Debug)]
pub struct Masker {
    detectors: Detectors,
    /// Per detector the strictest rule: redact before token before partial, then the earlier one.
    strictest: HashMap<Detector, (MaskAction, Arc<str>)>,
    key: FingerprintKey,
}

/// Something to replace: where it stands in the input, and by which rule.
#[derive(Clone, Debug)]
struct Hit {
    range: Range<usize>,
    detector: Detector,
    action: MaskAction,
    rule: Arc<str>,
    /// Put quotes around what stands instead.
    quote: bool,
    /// The value itself, where the text shows it otherwise or only a part of it stands here.
    decoded: Option<Vec<u8>>,
}

impl Masker {
    /// Compiles the rules that apply to one target.
    #[must_use]
    pub fn new(rules: &[Rule], key: FingerprintKey) -> Self {
        let mut strictest: HashMap<Detector, (MaskAction, Arc<str>)> = HashMap::new();
        for rule in rules {
            for detector in &rule.detectors {
                let stricter = strictest
                    .get(detector)
                    .is_none_or(|(action, _)| strictness(rule.action) > strictness(*action));
                if stricter {
                    strictest.insert(*detector, (rule.action, rule.name.as_str().into()));
                }
            }
        }
        Self { detectors: Detectors::new(strictest.keys().copied()), strictest, key }
    }

    /// Every detector, redacting: for texts that belong to no target, such as a statement asked of the evidence.
    #[must_use]
    pub fn everything(key: FingerprintKey) -> Self {
        let rule = Rule {
            name: "default".to_owned(),
            detectors: Detector::ALL.to_vec(),
            action: MaskAction::Redact,
        };
        Self::new(&[rule], key)
    }

    /// Whether no rule applies, so that nothing is ever replaced.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.detectors.is_empty()
    }

    /// Masks a text of the traffic that stands alone.
    #[must_use]
    pub fn mask_string(&self, text: &str) -> Masked<String> {
        let mut masks = MaskList::default();
        let mut out = Vec::new();
        let sink = Sink { place: Place::default(), out: &mut out, masks: &mut masks };
        let changed = self.mask_into(text.as_bytes(), sink);
        Masked::by_masking(if changed { into_text(&out).0 } else { text.to_owned() })
    }

    /// Masks what a client says of itself.
    #[must_use]
    pub fn mask_asserted(&self, name: &str, value: &str) -> Masked<Asserted> {
        let [name, value] = [name, value].map(|text| self.mask_string(text).into_inner());
        Masked::by_masking(Asserted { name, value })
    }

    /// Masks a setting that the target reports. Also says what the client may see of its value, where that is not the value.
    #[must_use]
    pub fn mask_setting(&self, name: &[u8], value: &[u8]) -> (Masked<Asserted>, Option<Vec<u8>>) {
        let mut unlisted = MaskList::default();
        let mut out = Vec::new();
        let sink = Sink { place: Place::default(), out: &mut out, masks: &mut unlisted };
        let for_client = self.mask_said_into(value, ColumnText::Any, sink).then_some(out);
        let value = into_text(for_client.as_deref().unwrap_or(value)).0;
        let name = self.mask_string(&into_text(name).0).into_inner();
        (Masked::by_masking(Asserted { name, value }), for_client)
    }

    /// Finds what must be replaced, in order, without overlaps. Where two detectors claim the same bytes, their union
    /// is one hit under the stricter action.
    fn hits(&self, text: &[u8]) -> Vec<Hit> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut findings: Vec<Finding> = Vec::new();
        self.detectors.find(text, &mut findings);
        let mut found: Vec<Hit> = Vec::new();
        found.extend(findings.into_iter().map(|finding| self.hit(finding)));
        self.find_behind_escapes(text, &mut found);
        for (run, decoded) in hex::runs(text).chain(base64::runs(text)) {
            found.extend(self.hit_in_encoding(run, &decoded));
        }
        if found.is_empty() { found } else { joined(found) }
    }

    /// What shows only when escapes of JSON are undone. It is hidden with its escapes, and never in part.
    fn find_behind_escapes(&self, text: &[u8], found: &mut Vec<Hit>) {
        let Some(unescaped) = escapes::Unescaped::of(text) else { return };
        let mut findings: Vec<Finding> = Vec::new();
        self.detectors.find(&unescaped.text, &mut findings);
        let plain = found.len();
        for finding in findings {
            let range = unescaped.written(&finding.range);
            // Of hits in the order of their starts, at most one of each detector can reach over this one.
            let before = found[..plain].partition_point(|hit| hit.range.start <= range.start);
            let is_known = range.len() == finding.range.len()
                || found[before.saturating_sub(Detector::ALL.len())..before]
                    .iter()
                    .any(|hit| hit.detector == finding.detector && hit.range.end >= range.end);
            if is_known {
                continue;
            }
            let value = unescaped.text[finding.range.clone()].to_vec();
            let hit = self.hit(Finding { range, ..finding });
            let action = if hit.action == MaskAction::Partial { MaskAction::Redact } else { hit.action };
            found.push(Hit { action, decoded: Some(value), ..hit });
        }
    }

    fn hit(&self, finding: Finding) -> Hit {
        let (action, rule) = &self.strictest[&finding.detector];
        Hit {
            range: finding.range,
            detector: finding.detector,
            action: *action,
            rule: rule.clone(),
            quote: false,
            decoded: None,
        }
    }

    /// What bytes printed as hex or base64 hold. They are hidden whole.
    fn hit_in_encoding(&self, run: Range<usize>, decoded: &[u8]) -> Option<Hit> {
        let mut findings = Vec::new();
        self.detectors.find(decoded, &mut findings);
        let first = findings.into_iter().next()?;
        let value = decoded[first.range.clone()].to_vec();
        let hit = self.hit(Finding { range: run, ..first });
        Some(Hit { action: MaskAction::Redact, decoded: Some(value), ..hit })
    }

    /// Appends `text` to the sink with everything replaced that was found. Returns whether anything was; if not, nothing
    /// is appended.
    fn mask_into(&self, text: &[u8], sink: Sink<'_>) -> bool {
        self.replace_hits(text, &self.hits(text), sink)
    }

    /// Like [`Masker::mask_into`] for what a target says. Where there are masks, text that is not UTF-8 cannot be looked
    /// into, since another encoding can write digits and letters in other bytes; so it is hidden.
    fn mask_said_into(&self, text: &[u8], allows: ColumnText, sink: Sink<'_>) -> bool {
        self.replace(self.look(text, std::str::from_utf8(text).is_ok(), allows), text, sink)
    }

    /// Looks for what a text of a target has to hide.
    fn look(&self, text: &[u8], is_utf8: bool, allows: ColumnText) -> Found {
        if self.is_empty() {
            return Found::Nothing;
        }
        if !is_utf8 {
            return Found::Unreadable(allows);
        }
        let mut hits = self.hits(text);
        if hits.is_empty() {
            return Found::Nothing;
        }
        if allows == ColumnText::Json {
            // What stands outside a string is replaced by a string, so that JSON it stays.
            json::cut_at_quotes(text, &mut hits);
            json::quote_bare(text, &mut hits);
        }
        Found::Hits(hits)
    }

    /// Appends `text` to the sink with what was found replaced. Returns whether anything was; if not, nothing is appended.
    fn replace(&self, found: Found, text: &[u8], sink: Sink<'_>) -> bool {
        match found {
            Found::Nothing => false,
            Found::Hits(hits) => self.replace_hits(text, &hits, sink),
            Found::Unreadable(allows) => {
                let begin = sink.out.len();
                match allows {
                    ColumnText::Json => sink.out.extend_from_slice(format!("\"{UNREADABLE}\"").as_bytes()),
                    ColumnText::Any | ColumnText::Typed => sink.out.extend_from_slice(UNREADABLE.as_bytes()),
                }
                sink.masks.push_unreadable(sink.place, sink.out.len() - begin);
                true
            }
        }
    }

    fn replace_hits(&self, text: &[u8], hits: &[Hit], sink: Sink<'_>) -> bool {
        if hits.is_empty() {
            return false;
        }
        let Sink { place, out, masks } = sink;
        let begin = out.len() - place.offset_bytes as usize;
        let mut at = 0;
        for hit in hits {
            let matched = &text[hit.range.clone()];
            out.extend_from_slice(&text[at..hit.range.start]);
            let start = out.len() - begin;
            if hit.quote {
                out.push(b'"');
            }
            let value = hit.decoded.as_deref().unwrap_or(matched);
            if hit.action == MaskAction::Token {
                let canonical = detect::canonical(hit.detector, value);
                self.key.token(TokenDomain::Detector(hit.detector), &canonical, out);
            } else {
                detect::replacement(hit.detector, hit.action, matched, out);
            }
            if hit.quote {
                out.push(b'"');
            }
            let end = out.len() - begin;
            if masks.has_place() {
                masks.push(hit, self.key.fingerprint(hit.detector, value), place, start..end);
            } else {
                masks.omitted += 1;
            }
            at = hit.range.end;
        }
        out.extend_from_slice(&text[at..]);
        true
    }
}

/// What a text of a target has to hide.
enum Found {
    Nothing,
    Hits(Vec<Hit>),
    /// All of it, since it cannot be looked into.
    Unreadable(ColumnText),
}

/// Hits in order without overlaps. Where two claim the same bytes, their union is one.
fn joined(mut found: Vec<Hit>) -> Vec<Hit> {
    found.sort_by_key(|hit| hit.range.start);
    let mut hits: Vec<Hit> = Vec::with_capacity(found.len());
    for hit in found {
        match hits.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                if last.detector != hit.detector || hit.decoded.is_some() || last.decoded.is_some() {
                    // Neither knows which part of the union it may show.
                    last.action = MaskAction::Redact;
                }
                last.range.end = last.range.end.max(hit.range.end);
            }
            _ => hits.push(hit),
        }
    }
    hits
}

/// How much an action hides: of a token nothing can be read, but equal values can be told. What is not known hides all.
fn strictness(action: MaskAction) -> u8 {
    match action {
        MaskAction::Partial => 0,
        MaskAction::Token => 1,
        MaskAction::Redact | MaskAction::Unspecified => 2,
    }
}

/// Where a masked text goes, and where its masks are noted.
struct Sink<'a> {
    place: Place,
    out: &'a mut Vec<u8>,
    masks: &'a mut MaskList,
}

/// Where in its event a masked text stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    row: u32,
    column: u32,
    /// Bytes of the same text that were appended to the output before.
    offset_bytes: u32,
}

/// The masks of one event and their fingerprints, each fingerprint once. So many are listed of each value; the rest is
/// counted, and costs no fingerprint either.
#[derive(Clone, Debug, Default)]
struct MaskList {
    masks: Vec<Mask>,
    fingerprints: FingerprintSet,
    listed_max: usize,
    omitted: u32,
}

impl MaskList {
    /// A value begins of which at most so many masks are listed.
    fn begin_value(&mut self, listed_max: usize) {
        self.listed_max = self.masks.len() + listed_max;
        self.omitted = 0;
    }

    fn has_place(&self) -> bool {
        self.masks.len() < self.listed_max
    }

    fn push(&mut self, hit: &Hit, fingerprint: [u8; 16], place: Place, at: Range<usize>) {
        let index = self.fingerprints.index_of(fingerprint);
        self.masks.push(Mask {
            row: place.row,
            column: place.column,
            start_inclusive: bounded(at.start),
            end_exclusive: bounded(at.end),
            kind: hit.detector.kind().into(),
            action: hit.action.into(),
            rule: hit.rule.to_string(),
            fingerprint_index: Some(index),
        });
    }

    /// Notes a value that was hidden since it could not be inspected. It has no fingerprint.
    fn push_unreadable(&mut self, place: Place, bytes: usize) {
        if !self.has_place() {
            self.omitted += 1;
            return;
        }
        self.masks.push(Mask {
            row: place.row,
            column: place.column,
            start_inclusive: 0,
            end_exclusive: bounded(bytes),
            kind: MaskKind::Unreadable.into(),
            action: MaskAction::Redact.into(),
            rule: String::new(),
            fingerprint_index: None,
        });
    }
}

/// Fingerprints in order of first appearance, without repeats.
#[derive(Clone, Debug, Default)]
struct FingerprintSet {
    order: Vec<[u8; 16]>,
    index: HashMap<[u8; 16], u32>,
}

impl FingerprintSet {
    fn index_of(&mut self, fingerprint: [u8; 16]) -> u32 {
        *self.index.entry(fingerprint).or_insert_with(|| {
            self.order.push(fingerprint);
            bounded(self.order.len() - 1)
        })
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.index.clear();
        self.order.drain(..).map(|fingerprint| Bytes::copy_from_slice(&fingerprint)).collect()
    }
}

/// A count that the limits on messages keep far below 2³².
fn bounded(count: usize) -> u32 {
    u32::try_from(count).expect("bounded by the limit on a message's bytes")
}

/// Bytes as text for the record: what is not UTF-8 stands as `\xNN`, and the second value says that it does.
fn into_text(bytes: &[u8]) -> (String, bool) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (text.to_owned(), false);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    (text, true)
}

#[cfg(test)]
mod tests;
