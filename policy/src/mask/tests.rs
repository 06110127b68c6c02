use super::*;

mod encodings;

mod statements;

mod tokens;

fn masker(rules: &[(&[Detector], MaskAction)]) -> Masker {
    let rules: Vec<Rule> = rules
        .iter()
        .map(|(detectors, action)| Rule {
            name: "r".to_owned(),
            detectors: detectors.to_vec(),
            action: *action,
        })
        .collect();
    Masker::new(&rules, FingerprintKey::new(b"key"))
}

fn every(action: MaskAction) -> Masker {
    masker(&[(&Detector::ALL, action)])
}
