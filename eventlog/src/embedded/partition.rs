use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use retrace_proto::log::{OffsetRange, Record, TopicPartition};

use super::folder;
use super::queue::Queue;
use super::segment::{Segment, SegmentReadError};
use crate::ReadError;
use crate::durable_end::DurableEnd;

/// Older segments that are kept open for reading.
const SEGMENTS_READ_MAX: usize = 4;

/// What readers, appenders and the writer of one topic partition share.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) of: TopicPartition,
    pub(super) folder: PathBuf,
    pub(super) queue: Queue,
    pub(super) end: DurableEnd,
    /// Ascending, adjacent, never empty. The last is written to.
    segments: RwLock<Vec<Arc<Segment>>>,
    read_recently: Mutex<VecDeque<Arc<Segment>>>,
    truncation: Mutex<()>,
    is_closed: AtomicBool,
}

impl Partition {
    pub(super) fn new(
        of: TopicPartition,
        folder: PathBuf,
        queue: Queue,
        end: u64,
        segments: Vec<Arc<Segment>>,
    ) -> Self {
        assert!(!segments.is_empty(), "the newest segment is there to write to");
        Self {
            of,
            folder,
            queue,
            end: DurableEnd::new(end),
            segments: RwLock::new(segments),
            read_recently: Mutex::new(VecDeque::new()),
            truncation: Mutex::new(()),
            is_closed: AtomicBool::new(false),
        }
    }

    pub(super) fn offsets(&self) -> Result<OffsetRange, ReadError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(ReadError::Closed);
        }
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        Ok(segments[0].base..self.end.now())
    }

    /// Reads from one segment; blocks on the disk.
    pub(super) fn read(&self, start_inclusive: u64, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        let OffsetRange { start, end } = self.offsets()?;
        if start_inclusive < start {
            return Err(ReadError::BelowStart { start });
        }
        if start_inclusive > end {
            return Err(ReadError::AboveEnd { end });
        }
        if start_inclusive == end {
            return Ok(Vec::new());
        }
        let Some((segment, segment_end)) = self.segment_with(start_inclusive) else {
            return Err(ReadError::BelowStart { start: self.offsets()?.start });
        };
        let offsets = start_inclusive..segment_end.unwrap_or(end).min(end);
        segment.read(offsets, bytes_max).map_err(|error| self.explain(start_inclusive, error))
    }

    /// The segment that holds `offset`, and where the next one begins.
    fn segment_with(&self, offset: u64) -> Option<(Arc<Segment>, Option<u64>)> {
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        let after = segments.partition_point(|segment| segment.base <= offset);
        let segment = Arc::clone(&segments[after.checked_sub(1)?]);
        let next = segments.get(after).map(|next| next.base);
        drop(segments);
        if next.is_some() {
            self.remember(&segment);
        }
        Some((segment, next))
    }

    /// Bounds how many older segments are open.
    fn remember(&self, segment: &Arc<Segment>) {
        let mut recent = self.read_recently.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.iter().any(|other| Arc::ptr_eq(other, segment)) {
            return;
        }
        recent.push_back(Arc::clone(segment));
        if recent.len() > SEGMENTS_READ_MAX
            && let Some(oldest) = recent.pop_front()
        {
            oldest.close_if_idle();
        }
    }

    fn explain(&self, offset: u64, error: SegmentReadError) -> ReadError {
        match self.offsets() {
            Ok(OffsetRange { start, .. }) if start <= offset => {}
            // Truncated or closed meanwhile.
            Ok(OffsetRange { start, .. }) => return ReadError::BelowStart { start },
            Err(error) => return error,
        }
        match error {
            SegmentReadError::Damaged => {
                tracing::error!(topic_partition = %self.of, offset, "a record of the log is damaged");
                ReadError::Damaged { offset }
            }
            SegmentReadError::Failed(error) => {
                tracing::error!(topic_partition = %self.of, offset, %error, "the log could not be read");
                ReadError::Unavailable
            }
        }
    }

    /// Unlinks the segments that lie below `offset` as a whole.
    ///
    /// 1. They leave the list: no read finds them any more. A crash leaves all files, the next truncation finds them.
    /// 2. Their files go, oldest first. A crash leaves the newer ones, which are adjacent.
    pub(super) fn truncate_below(&self, offset: u64) -> Result<(), ReadError> {
        self.offsets()?;
        let one_at_a_time = self.truncation.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped: Vec<_> = {
            let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
            let kept_from = segments.windows(2).take_while(|adjacent| adjacent[1].base <= offset).count();
            segments.drain(..kept_from).collect()
        };
        self.read_recently
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|segment| !dropped.iter().any(|dropped| Arc::ptr_eq(dropped, segment)));
        let unlink = || dropped.iter().try_for_each(|segment| segment.unlink());
        let unlinked = unlink().and_then(|()| folder::sync(&self.folder));
        drop(one_at_a_time);
        unlinked.map_err(|error| {
            tracing::error!(topic_partition = %self.of, %error, "old segments of the log could not be removed");
            ReadError::Unavailable
        })
    }

    /// The segment that is written to has a successor.
    pub(super) fn add(&self, segment: Arc<Segment>) {
        self.segments.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// Ends reading, once the writer has ended.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        let segments = self.segments.read().unwrap_or_else(PoisonError::into_inner);
        for segment in segments.iter() {
            if let Err(error) = segment.end() {
                tracing::warn!(topic_partition = %self.of, %error, "a segment of the log did not close cleanly");
            }
        }
    }
}
