use std::num::NonZeroU64;

/// How much one principal may use of one gate. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrincipalLimits {
    /// Sessions at once.
    pub sessions_max: Option<NonZeroU64>,
    /// Commands of all its sessions within a second.
    pub commands_per_second_max: Option<NonZeroU64>,
    /// Commands that may follow each other at once after a pause: if `None`, as many as a second has.
    pub commands_burst_max: Option<NonZeroU64>,
    /// Bytes of all its sessions within a second, from its clients and from their targets together.
    pub bytes_per_second_max: Option<NonZeroU64>,
}

impl PrincipalLimits {
    /// Sessions of a principal at once, if the configuration does not say: fewer than a gate takes, so that nobody takes
    /// all of its places.
    pub const SESSIONS_MAX_DEFAULT: u64 = 1_500;
}

impl Default for PrincipalLimits {
    fn default() -> Self {
        Self {
            sessions_max: NonZeroU64::new(Self::SESSIONS_MAX_DEFAULT),
            commands_per_second_max: None,
            commands_burst_max: None,
            bytes_per_second_max: None,
        }
    }
}
