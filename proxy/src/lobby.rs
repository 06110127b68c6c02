//! Where connections are until it is known who they are. There is room for a bounded number; who comes when it is full
//! takes the place of whoever has waited longest. A client in use is through in milliseconds, so it is the idle who go, and
//! no number of them keeps others out. Who comes from a source that has as many here as it may takes the place of one of
//! its own, so that a flood from one source takes no places of others.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::source::Source;

/// The connections that are not logged in yet, in the order in which they came.
#[derive(Clone, Debug)]
pub(crate) struct Lobby {
    visitors_max: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next_number: u64,
    visitors: VecDeque<Visitor>,
}

#[derive(Debug)]
struct Visitor {
    number: u64,
    source: Source,
    show_out: oneshot::Sender<()>,
}

/// A connection's stay in the lobby; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Visit {
    lobby: Lobby,
    number: u64,
    shown_out: oneshot::Receiver<()>,
}

impl Lobby {
    pub(crate) fn new(visitors_max: usize) -> Self {
        Self { visitors_max: visitors_max.max(1), state: Arc::default() }
    }

    /// Lets a connection in, and shows others out if there is no room. Gives also how many had to go for their source.
    pub(crate) fn enter(&self, source: Source, per_source_max: Option<NonZeroU64>) -> (Visit, u64) {
        let (show_out, shown_out) = oneshot::channel();
        let mut state = self.lock();
        let of_source = state.make_room_for(source, per_source_max);
        while state.visitors.len() >= self.visitors_max
            && let Some(longest) = state.visitors.pop_front()
        {
            longest.leave();
        }
        let number = state.next_number;
        state.next_number += 1;
        state.visitors.push_back(Visitor { number, source, show_out });
        (Visit { lobby: self.clone(), number, shown_out }, of_source)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A list of plain values is whole whatever panicked beside it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Shows those out who have waited longest of a source that has as many as it may. Gives how many they were.
    fn make_room_for(&mut self, source: Source, per_source_max: Option<NonZeroU64>) -> u64 {
        let Some(per_source_max) = per_source_max else { return 0 };
        let count = self.visitors.iter().filter(|visitor| visitor.source == source).count() as u64;
        let surplus = (count + 1).saturating_sub(per_source_max.get());
        for _ in 0..surplus {
            let longest = self.visitors.iter().position(|visitor| visitor.source == source);
            if let Some(longest) = longest.and_then(|at| self.visitors.remove(at)) {
                longest.leave();
            }
        }
        surplus
    }
}

impl Visitor {
    fn leave(self) {
        // One that is leaving by itself does not hear it any more.
        let _ = self.show_out.send(());
    }
}

impl Visit {
    /// Resolves when this connection has to make room.
    pub(crate) async fn must_leave(&mut self) {
        let _ = (&mut self.shown_out).await;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut state = self.lobby.lock();
        // Numbers rise from front to back.
        if let Ok(at) = state.visitors.binary_search_by_key(&self.number, |visitor| visitor.number) {
            let _ = state.visitors.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn must_leave(visit: &mut Visit) -> bool {
        visit.must_leave().now_or_never().is_some()
    }

    fn source(last: u8) -> Source {
        Source::of([10, 0, 0, last].into())
    }

    fn enter(lobby: &Lobby) -> Visit {
        lobby.enter(source(1), None).0
    }

    #[test]
    fn who_comes_from_a_full_source_takes_the_place_of_one_of_its_own() {
        let lobby = Lobby::new(4);
        let per_source_max = NonZeroU64::new(2);
        let enter = |last| lobby.enter(source(last), per_source_max);
        let (mut other, _) = enter(2);
        let [(mut first, _), (mut second, _)] = [(); 2].map(|()| enter(1));
        let (mut third, shown_out) = enter(1);
        assert_eq!(shown_out, 1);
        assert!(must_leave(&mut first));
        assert!(![&mut other, &mut second, &mut third].into_iter().any(must_leave));
        drop(second);
        assert_eq!(enter(1).1, 0, "who left made room");
        assert_eq!(lobby.lock().visitors.len(), 2);
    }

    #[test]
    fn who_has_waited_longest_makes_room_and_nobody_else() {
        let lobby = Lobby::new(2);
        let [mut first, mut second] = [enter(&lobby), enter(&lobby)];
        assert!(!must_leave(&mut first) && !must_leave(&mut second));
        let mut third = enter(&lobby);
        assert!(must_leave(&mut first));
        assert!(!must_leave(&mut second) && !must_leave(&mut third));
    }

    #[test]
    fn who_left_makes_room_for_the_next() {
        let lobby = Lobby::new(2);
        let [mut first, second] = [enter(&lobby), enter(&lobby)];
        drop(second);
        let mut third = enter(&lobby);
        assert!(!must_leave(&mut first) && !must_leave(&mut third));
        drop((first, third));
        assert!(lobby.lock().visitors.is_empty());
    }

    #[test]
    fn one_that_was_shown_out_takes_nobody_with_it() {
        let lobby = Lobby::new(1);
        let first = enter(&lobby);
        let mut second = enter(&lobby);
        drop(first);
        assert_eq!(lobby.lock().visitors.len(), 1);
        assert!(!must_leave(&mut second));
    }
}
