//! The clocks, read here and passed on.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use retrace_proto::Id;
use retrace_proxy_core::Now;

/// The point from which the monotonic clock counts.
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(Instant::now)
}

/// This moment by both clocks.
pub(crate) fn now() -> Now {
    let monotonic = Instant::now().saturating_duration_since(origin());
    Now {
        unix_us: unix_us(),
        monotonic_us: u64::try_from(monotonic.as_micros()).expect("a process does not run for that long"),
    }
}

/// The instant of a deadline that a machine gave.
pub(crate) fn instant(monotonic_us: u64) -> tokio::time::Instant {
    (origin() + Duration::from_micros(monotonic_us)).into()
}

/// Microseconds since the Unix epoch.
pub(crate) fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).expect("the year is below 290,000")
}

/// A new UUIDv7.
pub(crate) fn new_id() -> Id {
    Id::from_parts(unix_us().unsigned_abs() / 1000, random())
}

/// Bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
