use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::{SortColumn, SortOptions, concat, interleave_record_batch, lexsort_to_indices};
use arrow::datatypes::Int64Type;
use arrow::error::ArrowError;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use parquet::errors::ParquetError;

use crate::compact::ORDER;
use crate::data_file::DataFile;
use crate::error::LakeError;
use crate::input::{BATCH_BYTES_MAX, BATCH_ROWS_MAX, Batches, Input};
use crate::table::Table;
use crate::write::{FileKey, Part, encoding};

/// Rows of a file that was sorted in memory that are copied at a time.
const SORTED_ROWS: usize = 64;

/// Bytes of rows, decoded, that are sorted in memory in one merge. What ingest writes is in the order of the log.
const UNSORTED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What became of the files of a merge.
#[derive(Default)]
pub(super) struct Merged {
    /// Those that were merged: none or several.
    pub(super) taken: Vec<DataFile>,
    /// What they became.
    pub(super) files: Vec<DataFile>,
}

/// Why files were not merged, by whose fault it is.
#[derive(Debug)]
pub(super) enum Failed {
    /// This one could not be read, or is damaged.
    Input { path: Path, source: LakeError },
    /// Their rows could not be put together or encoded, and never can be, whichever of them it is.
    Rows(LakeError),
    /// The store did not take what they became: no fault of theirs.
    Output(LakeError),
}

impl Failed {
    fn input(path: &Path, source: LakeError) -> Self {
        Self::Input { path: path.clone(), source }
    }

    /// What failed while files were written.
    fn writing(error: LakeError) -> Self {
        if let LakeError::Store { .. } = error { Self::Output(error) } else { Self::Rows(error) }
    }
}

/// Merges files of one topic partition, day and class into files that are sorted by [`ORDER`] and end at `bytes_max`.
///
/// A file that is sorted is read as it is merged, a row group at a time; one that is not is read whole.
///
/// To `unfit` are added, whether or not the rest is merged, those that can be merged with no others: they are damaged, have
/// columns of a later release, or more unsorted rows than there is room for. The rest had no room this time.
pub(super) async fn merge(
    table: &Table,
    key: &FileKey,
    files: &[DataFile],
    bytes_max: u64,
    unfit: &mut Vec<Path>,
) -> Result<Merged, Failed> {
    let mut merged = Merged::default();
    let mut inputs = Vec::new();
    let mut room = UNSORTED_BYTES_MAX;
    for file in files {
        let input = match Input::open(table, file).await {
            Ok(input) => input,
            Err(error @ (LakeError::Decode { .. } | LakeError::MissingFile { .. })) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a data file cannot be merged");
                unfit.push(file.path.clone());
                continue;
            }
            Err(source) => return Err(Failed::input(&file.path, source)),
        };
        let needs = if input.is_sorted { 0 } else { input.decoded_bytes };
        if !input.is_known || needs > UNSORTED_BYTES_MAX {
            unfit.push(file.path.clone());
            continue;
        }
        let Some(left) = room.checked_sub(needs) else { break };
        room = left;
        merged.taken.push(file.clone());
        inputs.push(input);
    }
    if inputs.len() < 2 {
        merged.taken.clear();
        return Ok(merged);
    }
    let mut runs = Vec::new();
    for input in inputs {
        runs.push(Run::begin(input).await?);
    }
    let mut output = Output { table, key, bytes_max, part: None, files: Vec::new() };
    let mut merging = Merging { runs, held: Vec::new() };
    while let Some(rows) = merging.next().await? {
        output.add(rows).await.map_err(Failed::writing)?;
    }
    merged.files = output.finish().await.map_err(Failed::writing)?;
    Ok(merged)
}

/// Files on their way.
struct Output<'a> {
    table: &'a Table,
    key: &'a FileKey,
    bytes_max: u64,
    part: Option<Part>,
    files: Vec<DataFile>,
}

impl Output<'_> {
    async fn add(&mut self, rows: RecordBatch) -> Result<(), LakeError> {
        let part = self.part.take();
        let part = encoding(move || {
            let mut part = part.map_or_else(|| Part::new(true), Ok).map_err(LakeError::encode)?;
            part.add(&rows).map_err(LakeError::encode)?;
            Ok(part)
        })
        .await?;
        if part.bytes() < self.bytes_max {
            self.part = Some(part);
            return Ok(());
        }
        self.put(part).await
    }

    async fn put(&mut self, part: Part) -> Result<(), LakeError> {
        self.files.push(part.finish(&*self.table.store(), self.key.clone()).await?);
        Ok(())
    }

    async fn finish(mut self) -> Result<Vec<DataFile>, LakeError> {
        if let Some(part) = self.part.take() {
            self.put(part).await?;
        }
        Ok(self.files)
    }
}

/// The rows of a file in the order of [`ORDER`], batch by batch.
struct Run {
    path: Path,
    batches: Batches,
    /// The batch that is being merged. None at first and at the end.
    current: Option<Current>,
}

struct Current {
    keys: Keys,
    /// The next row.
    row: usize,
    /// Where the batch is in [`Merging::held`].
    held_at: usize,
}

impl Run {
    async fn begin(input: Input) -> Result<Self, Failed> {
        let path = input.path.clone();
        let batches = in_order(input).await.map_err(|source| Failed::input(&path, source))?;
        Ok(Self { path, batches, current: None })
    }

    fn key(&self) -> Option<Key<'_>> {
        self.current.as_ref().map(|current| current.keys.of(current.row))
    }

    /// The next batch with rows, if the one before is used up and there is one.
    async fn next_batch(&mut self) -> Result<Option<(RecordBatch, Keys)>, Failed> {
        let path = &self.path;
        while let Some(batch) = self.batches.try_next().await.map_err(|source| Failed::input(path, source))? {
            if batch.num_rows() == 0 {
                continue;
            }
            let keys = Keys::of_batch(&batch);
            if !keys.are_sorted() {
                return Err(self.damaged("its rows are not in the order that it states"));
            }
            return Ok(Some((batch, keys)));
        }
        Ok(None)
    }

    fn damaged(&self, reason: &str) -> Failed {
        let source = ParquetError::General(reason.to_owned());
        Failed::input(&self.path, LakeError::Decode { path: self.path.clone(), source })
    }
}

async fn in_order(input: Input) -> Result<Batches, LakeError> {
    let is_sorted = input.is_sorted;
    let rows = input.batches()?;
    if is_sorted { Ok(rows) } else { sorted(rows.try_collect().await?) }
}

/// The rows of all batches in the order of [`ORDER`], some at a time; nothing but their places is sorted.
fn sorted(rows: Vec<RecordBatch>) -> Result<Batches, LakeError> {
    if rows.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let options = Some(SortOptions { descending: false, nulls_first: false });
    let column = |name: &str| {
        let parts: Vec<&dyn Array> = rows
            .iter()
            .map(|rows| rows.column_by_name(name).expect("a column of the table").as_ref())
            .collect();
        Ok(SortColumn { values: concat(&parts)?, options })
    };
    let columns = ORDER.into_iter().map(column).collect::<Result<Vec<_>, ArrowError>>().map_err(arrow)?;
    let order = lexsort_to_indices(&columns, None).map_err(arrow)?;
    let places: Vec<_> = rows
        .iter()
        .enumerate()
        .flat_map(|(batch, rows)| (0..rows.num_rows()).map(move |row| (batch, row)))
        .collect();
    let places: Vec<_> = order.values().iter().map(|index| places[*index as usize]).collect();
    let count = places.len();
    let batches = (0..count).step_by(SORTED_ROWS).map(move |start| {
        let some = &places[start..count.min(start + SORTED_ROWS)];
        interleave_record_batch(&rows.iter().collect::<Vec<_>>(), some).map_err(arrow)
    });
    Ok(stream::iter(batches).boxed())
}

fn arrow(source: ArrowError) -> LakeError {
    LakeError::Arrow { source }
}

/// A row's place in [`ORDER`]; what is null comes last.
type Key<'a> = (bool, &'a str, bool, i64, i64);

struct Keys {
    stream_id: StringArray,
    stream_seq: Int64Array,
    log_offset: Int64Array,
    /// About how many bytes each row has.
    bytes: Vec<u64>,
}

impl Keys {
    fn of_batch(rows: &RecordBatch) -> Self {
        let column = |name: &str| rows.column_by_name(name).expect("a column of the table");
        let [stream_id, stream_seq, log_offset] = ORDER.map(column);
        Self {
            stream_id: stream_id.as_string::<i32>().clone(),
            stream_seq: stream_seq.as_primitive::<Int64Type>().clone(),
            log_offset: log_offset.as_primitive::<Int64Type>().clone(),
            bytes: bytes_of_rows(rows),
        }
    }

    fn of(&self, row: usize) -> Key<'_> {
        let (no_stream, no_seq) = (self.stream_id.is_null(row), self.stream_seq.is_null(row));
        let stream_id = if no_stream { "" } else { self.stream_id.value(row) };
        let stream_seq = if no_seq { 0 } else { self.stream_seq.value(row) };
        (no_stream, stream_id, no_seq, stream_seq, self.log_offset.value(row))
    }

    fn len(&self) -> usize {
        self.stream_id.len()
    }

    /// No two rows of a topic partition have one offset.
    fn are_sorted(&self) -> bool {
        (1..self.len()).all(|row| self.of(row - 1) < self.of(row))
    }
}

/// The lengths of texts and bytes; what else there is takes little.
fn bytes_of_rows(rows: &RecordBatch) -> Vec<u64> {
    let mut bytes = vec![0; rows.num_rows()];
    let mut add = |offsets: &[i32]| {
        for (bytes, ends) in bytes.iter_mut().zip(offsets.windows(2)) {
            *bytes += u64::from((ends[1] - ends[0]).unsigned_abs());
        }
    };
    for column in rows.columns() {
        if let Some(texts) = column.as_string_opt::<i32>() {
            add(texts.value_offsets());
        } else if let Some(values) = column.as_binary_opt::<i32>() {
            add(values.value_offsets());
        }
    }
    bytes
}

/// Rows of the next batch, by where they are held.
struct Picked {
    rows: Vec<(usize, usize)>,
    bytes: u64,
}

impl Picked {
    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_ROWS_MAX || self.bytes >= BATCH_BYTES_MAX
    }
}

/// Several runs on their way to one (Knuth, TAOCP vol. 3, section 5.4.1).
struct Merging {
    runs: Vec<Run>,
    /// The batches that rows are picked from.
    held: Vec<RecordBatch>,
}

impl Merging {
    /// The next rows; `None` after the last.
    async fn next(&mut self) -> Result<Option<RecordBatch>, Failed> {
        self.let_go();
        let mut picked = Picked { rows: Vec::with_capacity(BATCH_ROWS_MAX), bytes: 0 };
        while !picked.is_full() {
            self.refill().await?;
            if !self.pick(&mut picked)? {
                break;
            }
        }
        if picked.rows.is_empty() {
            return Ok(None);
        }
        let held: Vec<_> = self.held.iter().collect();
        let rows = interleave_record_batch(&held, &picked.rows);
        rows.map(Some).map_err(|source| Failed::Rows(arrow(source)))
    }

    /// Gives every run that has more rows a batch of them.
    async fn refill(&mut self) -> Result<(), Failed> {
        for run in self.runs.iter_mut().filter(|run| run.current.is_none()) {
            let Some((batch, keys)) = run.next_batch().await? else { continue };
            run.current = Some(Current { keys, row: 0, held_at: self.held.len() });
            self.held.push(batch);
        }
        Ok(())
    }

    /// Picks from the run whose row comes first, as long as none of another run comes before. Mostly that is a stream.
    fn pick(&mut self, picked: &mut Picked) -> Result<bool, Failed> {
        let with_rows = || self.runs.iter().enumerate().filter_map(|(at, run)| Some((run.key()?, at)));
        let Some((least, first)) = with_rows().min() else { return Ok(false) };
        let bound = with_rows().filter(|(_, at)| *at != first).map(|(key, _)| key).min();
        if bound == Some(least) {
            return Err(self.runs[first].damaged("a row of it is in another file as well"));
        }
        let current = self.runs[first].current.as_ref().expect("it has a row");
        let mut row = current.row;
        while row < current.keys.len()
            && !picked.is_full()
            && bound.is_none_or(|bound| current.keys.of(row) < bound)
        {
            picked.rows.push((current.held_at, row));
            picked.bytes += current.keys.bytes[row];
            row += 1;
        }
        let is_used_up = row == current.keys.len();
        let run = &mut self.runs[first];
        match &mut run.current {
            Some(current) if !is_used_up => current.row = row,
            current => *current = None,
        }
        Ok(true)
    }

    /// Keeps only the batches that have rows left.
    fn let_go(&mut self) {
        let mut held = Vec::new();
        for current in self.runs.iter_mut().filter_map(|run| run.current.as_mut()) {
            held.push(self.held[current.held_at].clone());
            current.held_at = held.len() - 1;
        }
        self.held = held;
    }
}
