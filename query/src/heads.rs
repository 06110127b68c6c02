use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::prelude::{col, lit};
use futures::TryStreamExt;
use prost::Message;
use retrace_evidence::{Head, Heads, InstanceSeen, Place, SignedRoot, TrustedKeys, Witness};
use retrace_lake::RowKind;
use retrace_proto::wire::envelope::Payload;
use retrace_proto::{Id, wire};

/// What reading heads asks of `events`, in this order.
const COLUMNS: [&str; 7] =
    ["stream_id", "stream_seq", "occurred_at", "appended_at", "proxy_id", "payload", "raw"];

/// About what one stream or instance takes in memory here, in bytes.
const ENTRY_BYTES: usize = 768;

/// The longest name of an instance that is kept, in bytes: ours are much shorter.
const PROXY_ID_BYTES_MAX: usize = 64;

/// The furthest head of every stream, who named it first, and the newest word of every instance. Signatures are checked when
/// somebody asks, and each once: most are never asked for.
#[derive(Debug)]
pub(crate) struct SignedHeads {
    keys: TrustedKeys,
    /// Heads that the log took later than this are left out: they may name events that are above the cut.
    now_unix_us: i64,
    streams: HashMap<Id, Named>,
    instances: HashMap<String, Arc<Root>>,
    /// What the maps take of the memory that queries share.
    memory: MemoryReservation,
}

#[derive(Debug)]
struct Named {
    head: Head,
    by: Arc<Root>,
    /// The earliest that name it, however far.
    first: Arc<Root>,
}

impl Named {
    fn note(&mut self, head: Head, by: &Arc<Root>) {
        if (head.end_exclusive, by.at_unix_us()) > (self.head.end_exclusive, self.by.at_unix_us()) {
            (self.head, self.by) = (head, Arc::clone(by));
        }
        if by.taken_at_unix_us() < self.first.taken_at_unix_us() {
            self.first = Arc::clone(by);
        }
    }
}

#[derive(Debug)]
struct Root {
    root: SignedRoot,
    /// When the log took it, in microseconds since the Unix epoch.
    appended_at_unix_us: i64,
    holds: OnceLock<bool>,
}

impl Root {
    fn holds(&self, keys: &TrustedKeys) -> bool {
        *self.holds.get_or_init(|| self.root.is_signed_by(keys))
    }

    fn at_unix_us(&self) -> i64 {
        self.root.place.occurred_at_unix_us
    }

    /// The later of the times at which it says it was signed and at which the log took it: neither alone makes it older.
    fn taken_at_unix_us(&self) -> i64 {
        self.at_unix_us().max(self.appended_at_unix_us)
    }
}

impl SignedHeads {
    /// Reads every heads event of a context whose `events` has all rows.
    pub(crate) async fn read(
        context: &SessionContext,
        keys: TrustedKeys,
        now_unix_us: i64,
    ) -> Result<Self, DataFusionError> {
        let memory = MemoryConsumer::new("heads").register(&context.runtime_env().memory_pool);
        let mut all = Self { keys, now_unix_us, streams: HashMap::new(), instances: HashMap::new(), memory };
        let heads = col("event_type")
            .eq(lit("stream_heads"))
            .and(col("stream_kind").eq(lit("instance")))
            .and(col("row_kind").eq(lit(RowKind::Event.as_str())));
        let frame = context.table("events").await?.filter(heads)?.select_columns(&COLUMNS)?;
        let mut batches = frame.execute_stream().await?;
        while let Some(batch) = batches.try_next().await? {
            all.add(&batch);
            all.memory.try_resize(ENTRY_BYTES * (all.streams.len() + all.instances.len()))?;
        }
        Ok(all)
    }

    /// What the heads say of a stream.
    pub(crate) fn witness(&self, stream_id: Id) -> Witness {
        match self.streams.get(&stream_id) {
            None => Witness::None,
            Some(Named { head, by, .. }) if by.holds(&self.keys) => {
                Witness::Signed { head: *head, at_unix_us: by.at_unix_us(), last: by.root.part.last }
            }
            Some(_) => Witness::Unsigned,
        }
    }

    /// The head that goes furthest, whoever signed it.
    pub(crate) fn head(&self, stream_id: Id) -> Option<&Head> {
        self.streams.get(&stream_id).map(|named| &named.head)
    }

    /// Whether somebody trusted named a stream at a time that is early enough, in microseconds since the Unix epoch.
    pub(crate) fn named_early(&self, stream_id: Id, is_early: impl Fn(i64) -> bool) -> bool {
        let first = self.streams.get(&stream_id).map(|named| &named.first);
        first.is_some_and(|first| is_early(first.taken_at_unix_us()) && first.holds(&self.keys))
    }

    /// When the instance of this name was last heard.
    pub(crate) fn instance(&self, proxy_id: &str) -> Option<InstanceSeen> {
        let by = self.instances.get(proxy_id).filter(|by| by.holds(&self.keys))?;
        Some(InstanceSeen { at_unix_us: by.at_unix_us(), last: by.root.part.last })
    }

    /// What is no heads event, or one in another form than ours, says nothing.
    fn add(&mut self, batch: &RecordBatch) {
        let texts = |column: usize| batch.column(column).as_string::<i32>();
        let bytes = |column: usize| batch.column(column).as_binary::<i32>();
        let seqs = batch.column(1).as_primitive::<Int64Type>();
        let times = |column: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>();
        for row in 0..batch.num_rows() {
            let payload = if bytes(5).is_valid(row) { bytes(5) } else { bytes(6) };
            if times(3).value(row) > self.now_unix_us || payload.is_null(row) {
                continue;
            }
            let (Ok(stream_id), Ok(seq)) = (texts(0).value(row).parse(), u64::try_from(seqs.value(row)))
            else {
                continue;
            };
            let place = Place { stream_id, seq, occurred_at_unix_us: times(2).value(row) };
            if let Some(Heads { heads, root }) = open(place, payload.value(row)) {
                let (appended_at_unix_us, holds) = (times(3).value(row), OnceLock::new());
                self.add_heads(texts(4).value(row), heads, Root { root, appended_at_unix_us, holds });
            }
        }
    }

    fn add_heads(&mut self, proxy_id: &str, heads: Vec<Head>, by: Root) {
        let by = Arc::new(by);
        for head in heads {
            let named = || Named { head, by: Arc::clone(&by), first: Arc::clone(&by) };
            self.streams.entry(head.stream_id).or_insert_with(named).note(head, &by);
        }
        let newer = |than: &Arc<Root>| {
            (by.at_unix_us(), by.root.place.seq) > (than.at_unix_us(), than.root.place.seq)
        };
        let is_name = proxy_id.len() <= PROXY_ID_BYTES_MAX;
        if is_name && self.instances.get(proxy_id).is_none_or(newer) {
            self.instances.insert(proxy_id.to_owned(), by);
        }
    }
}

/// The column `payload` holds an envelope without its header, `raw` a whole one.
fn open(place: Place, bytes: &[u8]) -> Option<Heads> {
    match wire::Envelope::decode(bytes).ok()?.payload? {
        Payload::StreamHeads(heads) => Heads::open(place, &heads).ok(),
        _ => None,
    }
}
