use std::fmt;

use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::CutPosition;

use crate::wire;

/// Up to where an answer saw the log: for every topic partition the first offset that is not in it.
///
/// A cut is exact, both ways: every event below it is in the answer, none at or above it is. It does not name a table
/// version, so it means the same after compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut(Vec<Position>);

/// The end of one topic partition within a [`Cut`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Where.
    pub at: TopicPartition,
    /// The first offset that is not in the answer.
    pub end_exclusive: u64,
}

impl Cut {
    pub(crate) fn new(positions: Vec<Position>) -> Self {
        Self(positions)
    }

    /// One position for each topic partition of the log.
    #[must_use]
    pub fn positions(&self) -> &[Position] {
        &self.0
    }

    /// The end of one topic partition; `None` if the log did not have it.
    #[must_use]
    pub fn end_exclusive(&self, at: TopicPartition) -> Option<u64> {
        self.0.iter().find(|position| position.at == at).map(|position| position.end_exclusive)
    }

    /// The reverse of its [`Display`](fmt::Display).
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut positions: Vec<Position> = Vec::new();
        for position in text.split(',') {
            let (at, end) = position.trim().split_once('<')?;
            let at: TopicPartition = at.parse().ok()?;
            if positions.iter().any(|position| position.at == at) {
                return None;
            }
            positions.push(Position { at, end_exclusive: end.parse().ok()? });
        }
        Some(Self(positions))
    }

    pub(crate) fn to_event(&self) -> Vec<CutPosition> {
        self.0
            .iter()
            .map(|position| CutPosition {
                topic: position.at.topic.name().to_owned(),
                partition: position.at.partition,
                end_exclusive: position.end_exclusive,
            })
            .collect()
    }

    pub(crate) fn to_wire(&self) -> wire::Cut {
        let positions = self
            .0
            .iter()
            .map(|position| wire::Position {
                topic: position.at.topic.name().to_owned(),
                partition: position.at.partition,
                end_exclusive: position.end_exclusive,
            })
            .collect();
        wire::Cut { positions }
    }

    /// Reads what a server sent; `None` if it names a topic this version does not know.
    pub(crate) fn from_wire(cut: wire::Cut) -> Option<Self> {
        let positions = cut.positions.into_iter().map(|position| {
            let topic: Topic = position.topic.parse().ok()?;
            let at = TopicPartition { topic, partition: position.partition };
            Some(Position { at, end_exclusive: position.end_exclusive })
        });
        positions.collect::<Option<Vec<_>>>().map(Self)
    }
}

/// `retrace.events[0]<1042, retrace.control[0]<7`: below which offset of which topic partition.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, position) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}<{}", position.at, position.end_exclusive)?;
        }
        Ok(())
    }
}
