//! The words that the log and the lake share, so that neither needs to know the other.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use bytes::Bytes;

/// The two topics. Both are ingested into the one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// Everything that sessions and instances write.
    Events,
    /// Decisions, grants, kills, cancels, revocations.
    Control,
}

impl Topic {
    /// Every topic, in a fixed order.
    pub const ALL: [Topic; 2] = [Topic::Events, Topic::Control];

    /// The name the log knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Topic::Events => "retrace.events",
            Topic::Control => "retrace.control",
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Topic {
    type Err = UnknownTopic;

    fn from_str(name: &str) -> Result<Self, UnknownTopic> {
        Self::ALL.into_iter().find(|topic| topic.name() == name).ok_or(UnknownTopic)
    }
}

/// Not one of [`Topic::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown topic: the log has retrace.events and retrace.control")]
pub struct UnknownTopic;

/// One ordered sequence of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Topic,
    /// 0-based.
    pub partition: u32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// The reverse of its [`Display`](fmt::Display), such as `retrace.events[3]`.
impl FromStr for TopicPartition {
    type Err = NotATopicPartition;

    fn from_str(text: &str) -> Result<Self, NotATopicPartition> {
        let parsed = || {
            let (topic, partition) = text.strip_suffix(']')?.split_once('[')?;
            Some(Self { topic: topic.parse().ok()?, partition: partition.parse().ok()? })
        };
        parsed().ok_or(NotATopicPartition)
    }
}

/// Not the name of a [`TopicPartition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a topic partition: they are written as retrace.events[0] or retrace.control[0]")]
pub struct NotATopicPartition;

/// Offsets of one topic partition: from the first one kept to the next one to be given.
pub type OffsetRange = Range<u64>;

/// A durable record as the log gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands; dense from 0.
    pub offset: u64,
    /// The log's own clock when it accepted the record.
    pub appended_at_unix_us: i64,
    /// What its order is bound to: the stream id.
    pub key: Bytes,
    /// A sealed envelope, unless something else wrote to the topic.
    pub value: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_partition_is_read_as_it_is_written() {
        for (topic, partition) in [(Topic::Events, 0), (Topic::Control, u32::MAX)] {
            let at = TopicPartition { topic, partition };
            assert_eq!(at.to_string().parse(), Ok(at));
        }
        for text in
            ["", "retrace.events", "retrace.events[]", "retrace.events[-1]", "retrace.events[0", "orders[0]"]
        {
            assert_eq!(text.parse::<TopicPartition>(), Err(NotATopicPartition), "{text}");
        }
    }
}
