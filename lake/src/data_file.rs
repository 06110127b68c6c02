use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::kernels::aggregate::{max, max_string, min, min_string};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use object_store::path::Path;
use retrace_proto::log::{Topic, TopicPartition};
use serde_json::{Map, Value, json};

use crate::write::FileName;

/// One Parquet file of the table. All its rows share their partition values and their topic partition.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFile {
    /// Where it lies, as [`Table::store`](crate::Table::store) knows it.
    pub path: Path,
    /// Its size.
    pub bytes: u64,
    /// How many rows it has.
    pub rows: u64,
    /// The partition column `session_date`, in days since the Unix epoch.
    pub session_date: i32,
    /// The partition column `retention_class`.
    pub retention_class: String,
    /// When it was written, by its writer's clock, in milliseconds since the Unix epoch.
    pub written_at_unix_ms: i64,
    /// What its rows lie between.
    pub stats: FileStats,
}

impl DataFile {
    /// The topic partition of its rows; `None` if neither its statistics nor its name say one.
    #[must_use]
    pub fn topic_partition(&self) -> Option<TopicPartition> {
        let named = || FileName::parse(&self.path).map(|name| name.at());
        self.measured_topic_partition().or_else(named)
    }

    fn measured_topic_partition(&self) -> Option<TopicPartition> {
        let topic: Topic = self.stats.topic.as_ref()?.single()?.parse().ok()?;
        let partition = u32::try_from(*self.stats.topic_partition.as_ref()?.single()?).ok()?;
        Some(TopicPartition { topic, partition })
    }
}

/// The columns of which a file's bounds are known, in the order of [`FileStats`].
pub(crate) const STATS_COLUMNS: [&str; 8] = [
    "topic",
    "topic_partition",
    "log_offset",
    "appended_at",
    "occurred_at",
    "stream_id",
    "stream_seq",
    "session_id",
];

/// The bounds of a column's values that are not null. Both ends belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MinMax<T> {
    /// No value is less.
    pub min_inclusive: T,
    /// No value is more.
    pub max_inclusive: T,
}

impl<T: Ord> MinMax<T> {
    fn widen(&mut self, other: Self) {
        if other.min_inclusive < self.min_inclusive {
            self.min_inclusive = other.min_inclusive;
        }
        if other.max_inclusive > self.max_inclusive {
            self.max_inclusive = other.max_inclusive;
        }
    }
}

impl<T: PartialEq> MinMax<T> {
    /// The value of all rows, if they have one.
    fn single(&self) -> Option<&T> {
        (self.min_inclusive == self.max_inclusive).then_some(&self.min_inclusive)
    }
}

impl<T: PartialOrd> MinMax<T> {
    /// Whether `value` may be in the file. `false` is certain.
    pub fn may_hold(&self, value: &T) -> bool {
        self.min_inclusive <= *value && *value <= self.max_inclusive
    }
}

/// What is known of a file's rows without opening it. `None` is not known: such a file may not be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileStats {
    /// The log's topic.
    pub topic: Option<MinMax<String>>,
    /// The log's topic partition.
    pub topic_partition: Option<MinMax<i32>>,
    /// Offsets in it.
    pub log_offset: Option<MinMax<i64>>,
    /// Append times, in microseconds since the Unix epoch.
    pub appended_at: Option<MinMax<i64>>,
    /// The writers' times, in microseconds since the Unix epoch.
    pub occurred_at: Option<MinMax<i64>>,
    /// Streams, as text.
    pub stream_id: Option<MinMax<String>>,
    /// Sequence numbers in their streams.
    pub stream_seq: Option<MinMax<i64>>,
    /// Sessions, as text.
    pub session_id: Option<MinMax<String>>,
}

/// The log keeps times to the microsecond, but a checkpoint may cut them to milliseconds: the upper bound read back
/// is this much higher, in microseconds.
const TIME_CUT_US: i64 = 999;

impl FileStats {
    /// Measures the rows of a file.
    pub(crate) fn of(batch: &RecordBatch) -> Self {
        let column = |name: &str| batch.column_by_name(name).expect("the batch has the table's columns");
        Self {
            topic: text_bounds(column("topic")),
            topic_partition: {
                let values = column("topic_partition").as_primitive::<Int32Type>();
                bounds(min(values), max(values))
            },
            log_offset: long_bounds(column("log_offset")),
            appended_at: time_bounds(column("appended_at")),
            occurred_at: time_bounds(column("occurred_at")),
            stream_id: text_bounds(column("stream_id")),
            stream_seq: long_bounds(column("stream_seq")),
            session_id: text_bounds(column("session_id")),
        }
    }

    /// Takes in the measures of more rows of the same file.
    pub(crate) fn widen(&mut self, more: Self) {
        widen(&mut self.topic, more.topic);
        widen(&mut self.topic_partition, more.topic_partition);
        widen(&mut self.log_offset, more.log_offset);
        widen(&mut self.appended_at, more.appended_at);
        widen(&mut self.occurred_at, more.occurred_at);
        widen(&mut self.stream_id, more.stream_id);
        widen(&mut self.stream_seq, more.stream_seq);
        widen(&mut self.session_id, more.session_id);
    }

    /// As the table's log keeps them (Delta protocol, "Per-file statistics").
    pub(crate) fn to_json(&self, rows: u64) -> String {
        let all = [
            values(self.topic.as_ref()),
            values(self.topic_partition.as_ref()),
            values(self.log_offset.as_ref()),
            times(self.appended_at.as_ref()),
            times(self.occurred_at.as_ref()),
            values(self.stream_id.as_ref()),
            values(self.stream_seq.as_ref()),
            values(self.session_id.as_ref()),
        ];
        let (mut least, mut most) = (Map::new(), Map::new());
        for (name, bounds) in STATS_COLUMNS.into_iter().zip(all) {
            if let Some((min, max)) = bounds {
                least.insert(name.to_owned(), min);
                most.insert(name.to_owned(), max);
            }
        }
        json!({ "numRecords": rows, "minValues": least, "maxValues": most }).to_string()
    }

    /// The reverse of [`FileStats::to_json`], with the number of rows. What cannot be read is not known.
    pub(crate) fn from_json(text: &str) -> (Self, Option<u64>) {
        let stats: Value = serde_json::from_str(text).unwrap_or_default();
        let ends = |name: &str| (&stats["minValues"][name], &stats["maxValues"][name]);
        let text = |name: &str| {
            let (min, max) = ends(name);
            bounds(min.as_str().map(str::to_owned), max.as_str().map(str::to_owned))
        };
        let long = |name: &str| {
            let (min, max) = ends(name);
            bounds(min.as_i64(), max.as_i64())
        };
        let time = |name: &str| {
            let (min, max) = ends(name);
            bounds(unix_us(min), unix_us(max).map(|us| us.saturating_add(TIME_CUT_US)))
        };
        let partition = |name: &str| {
            let both = long(name)?;
            bounds(i32::try_from(both.min_inclusive).ok(), i32::try_from(both.max_inclusive).ok())
        };
        let read = Self {
            topic: text("topic"),
            topic_partition: partition("topic_partition"),
            log_offset: long("log_offset"),
            appended_at: time("appended_at"),
            occurred_at: time("occurred_at"),
            stream_id: text("stream_id"),
            stream_seq: long("stream_seq"),
            session_id: text("session_id"),
        };
        (read, stats["numRecords"].as_u64())
    }
}

/// Here no bounds means that no row had a value: measured rows, not a file's unread statistics.
fn widen<T: Ord>(bounds: &mut Option<MinMax<T>>, more: Option<MinMax<T>>) {
    match (bounds, more) {
        (_, None) => {}
        (bounds @ None, more) => *bounds = more,
        (Some(bounds), Some(more)) => bounds.widen(more),
    }
}

fn bounds<T>(min: Option<T>, max: Option<T>) -> Option<MinMax<T>> {
    Some(MinMax { min_inclusive: min?, max_inclusive: max? })
}

fn text_bounds(column: &ArrayRef) -> Option<MinMax<String>> {
    let values = column.as_string::<i32>();
    bounds(min_string(values).map(str::to_owned), max_string(values).map(str::to_owned))
}

fn long_bounds(column: &ArrayRef) -> Option<MinMax<i64>> {
    let values = column.as_primitive::<Int64Type>();
    bounds(min(values), max(values))
}

fn time_bounds(column: &ArrayRef) -> Option<MinMax<i64>> {
    let values = column.as_primitive::<TimestampMicrosecondType>();
    bounds(min(values), max(values))
}

fn values<T: Clone + Into<Value>>(bounds: Option<&MinMax<T>>) -> Option<(Value, Value)> {
    let bounds = bounds?;
    Some((bounds.min_inclusive.clone().into(), bounds.max_inclusive.clone().into()))
}

fn times(bounds: Option<&MinMax<i64>>) -> Option<(Value, Value)> {
    let bounds = bounds?;
    Some((time_text(bounds.min_inclusive)?.into(), time_text(bounds.max_inclusive)?.into()))
}

/// A time that has no text, being outside the years that engines can print, gives no statistics.
fn time_text(unix_us: i64) -> Option<String> {
    let printable = -62_135_596_800_000_000..=253_402_300_799_999_999;
    if !printable.contains(&unix_us) {
        return None;
    }
    Some(timestamp_us_to_datetime(unix_us)?.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}

fn unix_us(text: &Value) -> Option<i64> {
    string_to_timestamp_nanos(text.as_str()?).ok().map(|nanos| nanos.div_euclid(1000))
}
