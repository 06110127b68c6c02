//! What is counted. Labels are names of the configuration, or of closed sets.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Bounds between which the times of requests are told apart, in seconds. None takes longer than seven.
const BOUNDS_SECONDS: [f64; 9] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 7.0];

/// What the gate asked a secret store. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct CallMetrics {
    requests: Family<CallLabels, Counter>,
    times: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    operation: &'static str,
    outcome: &'static str,
}

impl CallMetrics {
    pub(crate) fn new() -> Self {
        Self { requests: Family::default(), times: Histogram::new(BOUNDS_SECONDS) }
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let all = registry.sub_registry_with_prefix("retrace_vault");
        let help = "Requests to the secret store, by what was asked and what became of it";
        all.register("requests", help, self.requests.clone());
        let help = "How long they took";
        all.register_with_unit("request", help, Unit::Seconds, self.times.clone());
    }

    pub(crate) fn count(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.requests.get_or_create(&CallLabels { operation, outcome }).inc();
        self.times.observe(took.as_secs_f64());
    }
}
