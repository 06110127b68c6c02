//! A quantity that was measured several times.

use std::fmt;

/// What was measured, in any order; printed as median and range.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The one in the middle; of an even number, the lower of the two. `None` if nothing was measured.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }

    /// Its median as a share of another's.
    #[must_use]
    pub fn ratio_to(&self, other: &Self) -> Option<f64> {
        Some(self.median()? / other.median()?)
    }
}

/// Few digits where they would be noise.
pub(super) fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(median) = self.median() else {
            return f.write_str("–");
        };
        write!(f, "{}", rounded(median))?;
        if self.0.len() > 1 {
            let min = self.0.iter().copied().fold(f64::INFINITY, f64::min);
            let max = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            write!(f, " ({}–{})", rounded(min), rounded(max))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle_and_the_range_stands_beside_it() {
        let mut samples = Samples::default();
        assert_eq!((samples.median(), samples.to_string().as_str()), (None, "–"));
        for value in [3.0, 1.0, 250.0] {
            samples.push(value);
        }
        assert_eq!(samples.to_string(), "3.00 (1.00–250)");
        let mut half = Samples::default();
        half.push(1.5);
        assert_eq!(half.ratio_to(&samples), Some(0.5));
    }
}
