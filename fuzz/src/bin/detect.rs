//! Fuzz target: detectors, and that what stands in the place of a finding is not found again.

#![no_main]

use retrace_policy::detect::{Detector, Detectors, replacement};
use retrace_proto::wire::MaskAction;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let detectors = Detectors::new(Detector::ALL);
    let mut found = Vec::new();
    detectors.find(input, &mut found);
    let mut start = 0;
    for finding in &found {
        assert!(finding.range.start >= start, "findings come in order");
        assert!(!finding.range.is_empty() && finding.range.end <= input.len(), "findings lie in the input");
        start = finding.range.start;
        for action in [MaskAction::Redact, MaskAction::Partial, MaskAction::Token] {
            let mut out = Vec::new();
            replacement(finding.detector, action, &input[finding.range.clone()], &mut out);
            let mut again = Vec::new();
            Detectors::new([finding.detector]).find(&out, &mut again);
            assert!(again.is_empty(), "what stands in the place of a finding is found again");
        }
    }
});
