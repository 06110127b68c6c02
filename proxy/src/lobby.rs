//! Where connections are until it is known who they are. There is room for a bounded number; who comes when it is full
//! takes the place of whoever has waited longest. A client in use is through in milliseconds, so it is the idle who go, and
//! no number of them keeps others out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The connections that are not logged in yet, in the order in which they came.
#[derive(Clone, Debug)]
pub(crate) struct Lobby {
    visitors_max: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next_number: u64,
    visitors: VecDeque<(u64, oneshot::Sender<()>)>,
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

    /// Lets a connection in, and shows another out if there is no room.
    pub(crate) fn enter(&self) -> Visit {
        let (show_out, shown_out) = oneshot::channel();
        let mut state = self.lock();
        while state.visitors.len() >= self.visitors_max
            && let Some((_, longest)) = state.visitors.pop_front()
        {
            // One that is leaving by itself does not hear it any more.
            let _ = longest.send(());
        }
        let number = state.next_number;
        state.next_number += 1;
        state.visitors.push_back((number, show_out));
        Visit { lobby: self.clone(), number, shown_out }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A list of plain values is whole whatever panicked beside it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Ok(at) = state.visitors.binary_search_by_key(&self.number, |(number, _)| *number) {
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

    #[test]
    fn who_has_waited_longest_makes_room_and_nobody_else() {
        let lobby = Lobby::new(2);
        let [mut first, mut second] = [lobby.enter(), lobby.enter()];
        assert!(!must_leave(&mut first) && !must_leave(&mut second));
        let mut third = lobby.enter();
        assert!(must_leave(&mut first));
        assert!(!must_leave(&mut second) && !must_leave(&mut third));
    }

    #[test]
    fn who_left_makes_room_for_the_next() {
        let lobby = Lobby::new(2);
        let [mut first, second] = [lobby.enter(), lobby.enter()];
        drop(second);
        let mut third = lobby.enter();
        assert!(!must_leave(&mut first) && !must_leave(&mut third));
        drop((first, third));
        assert!(lobby.lock().visitors.is_empty());
    }

    #[test]
    fn one_that_was_shown_out_takes_nobody_with_it() {
        let lobby = Lobby::new(1);
        let first = lobby.enter();
        let mut second = lobby.enter();
        drop(first);
        assert_eq!(lobby.lock().visitors.len(), 1);
        assert!(!must_leave(&mut second));
    }
}
