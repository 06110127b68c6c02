use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Whether a process is ready: every part of it that was named is, and it does not drain. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    draining_since: Option<Instant>,
    parts: Vec<(&'static str, Option<Unready>)>,
}

#[derive(Debug)]
struct Unready {
    since: Instant,
    why: String,
}

/// A part's word in it.
#[derive(Debug)]
pub(crate) struct Part {
    readiness: Readiness,
    index: usize,
}

impl Readiness {
    /// Names a part, which is not ready before it says so.
    pub(crate) fn part(&self, name: &'static str) -> Part {
        let mut state = self.lock();
        let starting = Unready { since: Instant::now(), why: "it is starting".to_owned() };
        state.parts.push((name, Some(starting)));
        Part { readiness: self.clone(), index: state.parts.len() - 1 }
    }

    /// Whether a part of this name is there.
    pub(crate) fn has_part(&self, name: &str) -> bool {
        self.lock().parts.iter().any(|(known, _)| *known == name)
    }

    /// The process is about to stop: it is not ready any more.
    pub(crate) fn drain(&self) {
        self.lock().draining_since.get_or_insert_with(Instant::now);
    }

    /// `Ok` if it is ready, else a line for each thing that is in the way.
    pub(crate) fn check(&self) -> Result<(), String> {
        let state = self.lock();
        let mut lines = String::new();
        let mut line = |name: &str, why: &str, since: Instant| {
            writeln!(lines, "{name}: {why}, since {} s", since.elapsed().as_secs())
                .expect("writing to a String does not fail");
        };
        if let Some(since) = state.draining_since {
            line("process", "draining", since);
        }
        for (name, unready) in &state.parts {
            if let Some(Unready { since, why }) = unready {
                line(name, why, *since);
            }
        }
        if state.parts.is_empty() && state.draining_since.is_none() {
            return Err("process: it is starting\n".to_owned());
        }
        if lines.is_empty() { Ok(()) } else { Err(lines) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A list of plain values is whole whatever panicked beside it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// It is ready, or not, and why.
    pub(crate) fn set(&self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.ready(),
            Err(why) => self.not_ready(why),
        }
    }

    /// It is ready.
    pub(crate) fn ready(&self) {
        self.readiness.lock().parts[self.index].1 = None;
    }

    /// It is not ready, and why. Since when is kept if it was not before.
    pub(crate) fn not_ready(&self, why: impl Into<String>) {
        let mut state = self.readiness.lock();
        let unready = &mut state.parts[self.index].1;
        let since = unready.as_ref().map_or_else(Instant::now, |unready| unready.since);
        *unready = Some(Unready { since, why: why.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_part_is_and_not_while_it_drains() {
        let readiness = Readiness::default();
        assert!(readiness.check().is_err(), "nothing is there yet");
        let (log, table) = (readiness.part("log"), readiness.part("table"));
        assert_eq!(readiness.check().unwrap_err().lines().count(), 2);
        log.ready();
        table.not_ready("it does not answer");
        assert_eq!(readiness.check().unwrap_err(), "table: it does not answer, since 0 s\n");
        table.ready();
        assert_eq!(readiness.check(), Ok(()));
        readiness.drain();
        assert_eq!(readiness.check().unwrap_err(), "process: draining, since 0 s\n");
    }
}
