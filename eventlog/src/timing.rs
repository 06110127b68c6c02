use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of the buckets, in microseconds: from what an fsync of a fast disk takes to the longest deadline.
const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// How long something took, counted into buckets, for Prometheus. It has no lock, so that a command may pass it. Clones
/// count together.
#[derive(Clone, Debug, Default)]
pub struct Timing(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The last one is for what took longer than any bound.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Timing {
    /// Counts one that took so long.
    pub fn note(&self, took: Duration) {
        self.note_us(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// The same in microseconds.
    pub fn note_us(&self, took_us: u64) {
        let bucket = BOUNDS_US.partition_point(|bound| *bound < took_us);
        self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }
}

#[allow(clippy::cast_precision_loss, reason = "a sum of years is exact to the microsecond")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}

impl EncodeMetric for Timing {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = seconds(self.0.sum_us.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Timing {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn what_takes_exactly_a_bound_is_within_it_and_everything_is_counted() {
        let timing = Timing::default();
        [0, 100, 101, 60_000_000, 60_000_001].into_iter().for_each(|us| timing.note_us(us));
        let mut registry = Registry::default();
        registry.register("wait", "What for", timing.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "wait_bucket{le=\"0.0001\"} 2",
            "wait_bucket{le=\"0.00025\"} 3",
            "wait_bucket{le=\"60.0\"} 4",
            "wait_bucket{le=\"+Inf\"} 5",
            "wait_sum 120.000202",
            "wait_count 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
        assert_eq!(timing.count(), 5);
    }
}
