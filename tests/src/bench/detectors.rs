//! How fast detectors read, in this process and on one core.

use std::time::Instant;

use retrace_policy::detect::{Detector, Detectors};

use super::{Plan, Samples};
use crate::customers;

/// Text that is read, in bytes.
const TEXT_BYTES: usize = 16 * 1024 * 1024;

/// One kind of text.
#[derive(Debug)]
pub struct Reading {
    /// What the text is.
    pub name: &'static str,
    /// MB (10^6 bytes) a second.
    pub rate: Samples,
    /// Findings in each MB.
    pub findings: usize,
}

/// Reads text with and without hits.
#[must_use]
pub fn measure(plan: &Plan) -> Vec<Reading> {
    let prose =
        "The order was shipped on 2026-11-24 to Lisbon; customer 4711 asked for 12.50 back, and got it.\n";
    let json = "{\"id\": 100234, \"state\": \"open\", \"tags\": [\"new\", \"eu-west-1\"], \"amount\": 1499.00, \"note\": null}\n";
    let texts = [
        ("prose and numbers, no hits", prose.to_owned()),
        ("JSON, no hits", json.to_owned()),
        (
            "a hit in about 1,000 bytes",
            format!("{}jane.doe@example.com 4111 1111 1111 1111\n", prose.repeat(18)),
        ),
        ("customers with e-mail and card in each row", customers(5000)),
    ];
    texts.into_iter().map(|(name, text)| reading(plan, name, &text)).collect()
}

fn reading(plan: &Plan, name: &'static str, text: &str) -> Reading {
    let text = text.repeat(TEXT_BYTES / text.len() + 1).into_bytes();
    let detectors = Detectors::new(Detector::ALL);
    let mut rate = Samples::default();
    let mut found = Vec::new();
    for _ in 0..=plan.rounds {
        found.clear();
        let start = Instant::now();
        // As values are read: row by row.
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            detectors.find(line, &mut found);
        }
        #[allow(clippy::cast_precision_loss, reason = "a few million bytes")]
        let megabytes = text.len() as f64 / 1e6;
        rate.push(megabytes / start.elapsed().as_secs_f64());
    }
    Reading { name, rate, findings: found.len() * 1_000_000 / text.len() }
}
