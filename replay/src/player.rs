use std::time::Duration;

use crate::text::Renderer;
use crate::{Look, Timeline};

/// At which pace a timeline is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace(Option<f64>);

impl Pace {
    /// Without pauses.
    pub const INSTANT: Pace = Pace(None);

    /// As it was.
    pub const REAL: Pace = Pace(Some(1.0));

    /// So many times as fast as it was; less than 1 is slower.
    pub fn times(speed: f64) -> Result<Self, PaceError> {
        if speed.is_finite() && speed > 0.0 { Ok(Self(Some(speed))) } else { Err(PaceError) }
    }

    fn delay(self, us: i64) -> Duration {
        let Some(speed) = self.0 else { return Duration::ZERO };
        let us = u64::try_from(us).unwrap_or(0);
        Duration::try_from_secs_f64(Duration::from_micros(us).as_secs_f64() / speed).unwrap_or(Duration::MAX)
    }
}

/// Not a speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaceError;

impl std::fmt::Display for PaceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a speed: expected a number above 0, such as 2 or 0.5")
    }
}

impl std::error::Error for PaceError {}

/// A text and the pause before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beat {
    /// How long to wait before showing it.
    pub delay: Duration,
    /// Whole lines, safe for a terminal.
    pub text: String,
}

/// Plays a timeline: its texts, and the pauses that lay between them. Sleeping and printing are the caller's.
///
/// A command is shown whole, at its place; commands that were sent before the one ahead was answered follow it without a
/// pause.
#[derive(Debug)]
pub struct Player<'a> {
    timeline: &'a Timeline,
    renderer: Renderer,
    pace: Pace,
    next_item: usize,
    /// Steps of the item at hand, the next one last.
    steps: Vec<(Option<i64>, String)>,
    shown_at_unix_us: Option<i64>,
}

impl<'a> Player<'a> {
    /// From the begin of `timeline`.
    #[must_use]
    pub fn new(timeline: &'a Timeline, look: Look, pace: Pace) -> Self {
        let renderer = Renderer::new(timeline, look);
        Self { timeline, renderer, pace, next_item: 0, steps: Vec::new(), shown_at_unix_us: None }
    }
}

impl Iterator for Player<'_> {
    type Item = Beat;

    fn next(&mut self) -> Option<Beat> {
        let (at, text) = loop {
            if let Some(step) = self.steps.pop() {
                break step;
            }
            let item = self.timeline.items().get(self.next_item)?;
            self.next_item += 1;
            self.steps = self.renderer.steps(item);
            self.steps.reverse();
        };
        let before = self.shown_at_unix_us;
        self.shown_at_unix_us = before.max(at);
        let delay = match (before, at) {
            (Some(before), Some(at)) => self.pace.delay(at.saturating_sub(before)),
            _ => Duration::ZERO,
        };
        Some(Beat { delay, text })
    }
}
