//! What a process tells those who run it: whether it lives, whether it is ready, and its metrics. One listener in plain
//! HTTP, for a network of their own.

mod listener;

mod readiness;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use tokio::net::TcpListener;

pub(crate) use readiness::{Part, Readiness};

/// The health of one process. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    registry: Arc<Mutex<Registry>>,
    readiness: Readiness,
}

impl Health {
    /// Nothing is ready yet.
    pub(crate) fn new(role: &'static str) -> Self {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("service", role)]);
        registry.register("retrace_build", "What runs here", build);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let help = "When this process started, since the Unix epoch";
        registry.register_with_unit("process_start_time", help, Unit::Seconds, ConstGauge::new(started));
        Self { registry: Arc::new(Mutex::new(registry)), readiness: Readiness::default() }
    }

    /// Whether the process is ready.
    pub(crate) fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Where metrics are registered.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers at `listener`, until the process ends.
    pub(crate) fn serve(&self, listener: TcpListener) {
        tokio::spawn(listener::serve(listener, self.clone()));
    }

    /// All metrics, in OpenMetrics' text form.
    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry()).expect("writing to a String does not fail");
        text
    }
}
