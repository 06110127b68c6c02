//! Which files of the table a query needs, told from what its log says of them.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, Result, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use retrace_lake::{DataFile, MinMax, PARTITION_COLUMNS, schema};

use crate::Cut;

/// Files by how they stand to a cut. Those wholly above it are left out.
pub(crate) struct Sorted<'a> {
    /// Every row is below.
    pub(crate) below: Vec<&'a DataFile>,
    /// Some row may be at the cut or above.
    pub(crate) across: Vec<&'a DataFile>,
}

/// Sorts files by how they stand to the cut. What is not known of a file counts against it.
pub(crate) fn sort<'a>(files: Vec<&'a DataFile>, cut: &Cut) -> Sorted<'a> {
    let mut sorted = Sorted { below: Vec::new(), across: Vec::new() };
    for file in files {
        let offsets = file.stats.log_offset.as_ref();
        let end = file.topic_partition().and_then(|at| cut.end_exclusive(at)).map(u64::cast_signed);
        match (offsets, end) {
            (Some(offsets), Some(end)) if offsets.max_inclusive < end => sorted.below.push(file),
            (Some(offsets), Some(end)) if offsets.min_inclusive >= end => {}
            _ => sorted.across.push(file),
        }
    }
    sorted
}

/// Leaves out the files in which no row can fulfil all filters.
pub(crate) fn prune<'a>(
    state: &dyn Session,
    files: &'a [DataFile],
    filters: &[Expr],
) -> Result<Vec<&'a DataFile>> {
    let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(files.iter().collect()) };
    let columns = DFSchema::try_from(schema())?;
    let filter = state.create_physical_expr(filter, &columns)?;
    // A filter that says nothing about bounds keeps every file.
    let builder = PruningPredicateBuilder::new().with_file_schema(schema());
    let Some(predicate) = builder.build(filter) else { return Ok(files.iter().collect()) };
    let Ok(keep) = predicate.prune(&Files(files)) else { return Ok(files.iter().collect()) };
    Ok(files.iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
}

/// The values of [`PARTITION_COLUMNS`], in that order.
pub(crate) fn partition_values(file: &DataFile) -> [ScalarValue; 2] {
    [ScalarValue::Date32(Some(file.session_date)), ScalarValue::Utf8(Some(file.retention_class.clone()))]
}

/// What the table's log says of its files, as the engine's pruning reads it.
struct Files<'a>(&'a [DataFile]);

impl Files<'_> {
    fn bounds(
        &self,
        column: &Column,
        end: fn((ScalarValue, ScalarValue)) -> ScalarValue,
    ) -> Option<ArrayRef> {
        let table = schema();
        let unknown = ScalarValue::try_from(table.field_with_name(column.name()).ok()?.data_type()).ok()?;
        let ends = self.0.iter().map(|file| bounds(file, column.name()).map_or(unknown.clone(), end));
        ScalarValue::iter_to_array(ends).ok()
    }
}

impl PruningStatistics for Files<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(min, _)| min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(_, max)| max)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

fn bounds(file: &DataFile, column: &str) -> Option<(ScalarValue, ScalarValue)> {
    let stats = &file.stats;
    match column {
        "topic" => both(stats.topic.as_ref(), |text| ScalarValue::Utf8(Some(text))),
        "topic_partition" => both(stats.topic_partition.as_ref(), |number| ScalarValue::Int32(Some(number))),
        "log_offset" => both(stats.log_offset.as_ref(), |number| ScalarValue::Int64(Some(number))),
        "appended_at" => both(stats.appended_at.as_ref(), time),
        "occurred_at" => both(stats.occurred_at.as_ref(), time),
        "stream_id" => both(stats.stream_id.as_ref(), |text| ScalarValue::Utf8(Some(text))),
        "stream_seq" => both(stats.stream_seq.as_ref(), |number| ScalarValue::Int64(Some(number))),
        "session_id" => both(stats.session_id.as_ref(), |text| ScalarValue::Utf8(Some(text))),
        _ => {
            let index = PARTITION_COLUMNS.iter().position(|name| *name == column)?;
            let value = partition_values(file)[index].clone();
            Some((value.clone(), value))
        }
    }
}

fn both<T: Clone>(
    bounds: Option<&MinMax<T>>,
    value: fn(T) -> ScalarValue,
) -> Option<(ScalarValue, ScalarValue)> {
    let bounds = bounds?;
    Some((value(bounds.min_inclusive.clone()), value(bounds.max_inclusive.clone())))
}

fn time(unix_us: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(unix_us), Some(Arc::from("UTC")))
}
