use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::datasource::{TableType, listing::PartitionedFile};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, col, lit};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use retrace_lake::{DataFile, PARTITION_COLUMNS, file_schema, schema};

use crate::barrier::RowBarrier;
use crate::files::{self, Sorted};
use crate::right::Right;
use crate::source::Source;
use crate::spill::{Spilled, SpilledScan};

/// The table `events` of one query: the rows of its source that its reader may see.
///
/// Four parts, in no order: files wholly below the cut, files that reach above it, and the tail, in memory and spilled. Behind a
/// [`RowBarrier`] stands whatever holds a row that must not be seen: the files that reach above the cut, and for a
/// reader who may see only their own, everything. Since that is below every view and every alias, no statement gets
/// around it.
///
/// For a reader of everything, filters go down into the Parquet scan (row groups by statistics and Bloom filter, pages by
/// index, rows while they are decoded). Behind the barrier only comparisons of a column with a literal do, which cannot
/// fail on a row that is not theirs; what they save can be seen by a clock, not in an answer.
#[derive(Debug)]
pub(crate) struct EventsTable {
    source: Arc<Source>,
    right: Right,
}

/// A part that is scanned, its columns named.
struct Part<'a> {
    columns: Vec<&'a str>,
    guard: Option<Expr>,
    filters: &'a [Expr],
}

impl EventsTable {
    /// The URLs under which the engine knows the table's store.
    pub(crate) const URL_SCHEME: &'static str = "retrace-table";

    pub(crate) fn new(source: Arc<Source>, right: Right) -> Self {
        Self { source, right }
    }

    /// What a row must fulfil, beyond the cut, for its reader to see it.
    fn right_guard(&self) -> Option<Expr> {
        match &self.right {
            Right::All => None,
            Right::Own(name) => Some(col("principal").eq(lit(name.clone()))),
        }
    }

    /// What a row of a file that reaches above the cut must fulfil.
    fn cut_guard(&self) -> Expr {
        let below = self.source.cut.positions().iter().map(|position| {
            col("topic")
                .eq(lit(position.at.topic.name()))
                .and(col("topic_partition").eq(lit(position.at.partition.cast_signed())))
                .and(col("log_offset").lt(lit(position.end_exclusive.cast_signed())))
        });
        below.reduce(Expr::or).unwrap_or_else(|| lit(false))
    }

    fn scan_files(
        &self,
        state: &dyn Session,
        files: &[&DataFile],
        part: &Part<'_>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = TableSchema::builder(file_schema()).with_table_partition_cols(partition_fields()).build();
        let cache = state.runtime_env().cache_manager.get_file_metadata_cache();
        let url = ObjectStoreUrl::parse(format!("{}://events", Self::URL_SCHEME))?;
        let store = state.runtime_env().object_store(&url)?;
        let mut source = ParquetSource::new(table.clone())
            .with_pushdown_filters(true)
            .with_enable_page_index(true)
            .with_bloom_filter_on_read(true)
            .with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(store, cache)));
        // Without a guard the optimizer brings the filters down by itself.
        if let Some(guard) = &part.guard {
            let below = conjunction(std::iter::once(guard.clone()).chain(part.filters.iter().cloned()));
            let below = below.expect("the guard is one of them");
            let columns = DFSchema::try_from(Arc::clone(table.table_schema()))?;
            source = source.with_predicate(state.create_physical_expr(below, &columns)?);
        }
        let wanted = indices(table.table_schema(), &part.columns)?;
        let files = files.iter().map(|file| partitioned(file)).collect();
        let groups = FileGroup::new(files).split_files(state.config().target_partitions());
        let scan = FileScanConfigBuilder::new(url, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(Some(wanted))?
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    fn scan_spilled(&self, spilled: &Arc<Spilled>, part: &Part<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = SpilledScan::try_new(Arc::clone(spilled), indices(&schema(), &part.columns)?)?;
        let schema = Arc::clone(scan.schema());
        let scan = StreamingTableExec::try_new(schema, vec![Arc::new(scan)], None, [], false, None)?;
        Ok(Arc::new(scan))
    }

    fn scan_tail(&self, part: &Part<'_>) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = indices(&schema(), &part.columns)?;
        let scan = MemorySourceConfig::try_new_exec(
            std::slice::from_ref(&self.source.tail),
            schema(),
            Some(wanted),
        )?;
        Ok(scan)
    }
}

#[async_trait]
impl TableProvider for EventsTable {
    fn schema(&self) -> SchemaRef {
        schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushed = filters.iter().map(|filter| match self.right {
            Right::Own(_) if !is_harmless(filter) => TableProviderFilterPushDown::Unsupported,
            _ => TableProviderFilterPushDown::Inexact,
        });
        Ok(pushed.collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = schema();
        let wanted: Vec<&str> = match projection {
            None => table.fields().iter().map(|field| field.name().as_str()).collect(),
            Some(columns) => columns.iter().map(|column| table.field(*column).name().as_str()).collect(),
        };
        let harmless: Vec<Expr> = filters.iter().filter(|filter| is_harmless(filter)).cloned().collect();
        let may_prune: &[Expr] = if self.right == Right::All { filters } else { &harmless };
        let kept = files::prune(state, &self.source.files, may_prune)?;
        let Sorted { below, across } = files::sort(kept, &self.source.cut);
        let part = |guard: Option<Expr>| Part {
            columns: with_guard(&wanted, guard.as_ref()),
            guard,
            filters: &harmless,
        };
        let right = self.right_guard();
        let across_guard = conjunction(right.clone().into_iter().chain([self.cut_guard()]));

        let mut parts = Vec::new();
        if !below.is_empty() {
            let part = part(right.clone());
            parts.push(guarded(state, self.scan_files(state, &below, &part)?, &part, wanted.len())?);
        }
        if !across.is_empty() {
            let part = part(across_guard);
            parts.push(guarded(state, self.scan_files(state, &across, &part)?, &part, wanted.len())?);
        }
        let tail = part(right);
        if !self.source.tail.is_empty() {
            parts.push(guarded(state, self.scan_tail(&tail)?, &tail, wanted.len())?);
        }
        if let Some(spilled) = &self.source.spilled {
            parts.push(guarded(state, self.scan_spilled(spilled, &tail)?, &tail, wanted.len())?);
        }
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(Arc::new(table.project(&indices(&table, &wanted)?)?)))),
            1 => Ok(parts.remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}

/// Puts the part's barrier over its scan, if it has a guard, and leaves the first `wanted` columns.
fn guarded(
    state: &dyn Session,
    scan: Arc<dyn ExecutionPlan>,
    part: &Part<'_>,
    wanted: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(guard) = &part.guard else { return Ok(scan) };
    let columns = DFSchema::try_from(scan.schema())?;
    let predicate = state.create_physical_expr(guard.clone(), &columns)?;
    Ok(Arc::new(RowBarrier::try_new(scan, predicate, (0..wanted).collect())?))
}

/// The wanted columns, then what else the guard needs.
fn with_guard<'a>(wanted: &[&'a str], guard: Option<&Expr>) -> Vec<&'a str> {
    const GUARDS: [&str; 4] = ["principal", "topic", "topic_partition", "log_offset"];
    let mut columns = wanted.to_vec();
    if let Some(guard) = guard {
        let needed: Vec<String> = guard.column_refs().iter().map(|column| column.name.clone()).collect();
        for name in GUARDS {
            if needed.iter().any(|column| column == name) && !columns.contains(&name) {
                columns.push(name);
            }
        }
    }
    columns
}

/// A comparison of a column with literals of its own type: it neither fails nor converts on any row.
fn is_harmless(filter: &Expr) -> bool {
    match filter {
        Expr::BinaryExpr(comparison) => {
            let is_comparison = matches!(
                comparison.op,
                Operator::Eq
                    | Operator::NotEq
                    | Operator::Lt
                    | Operator::LtEq
                    | Operator::Gt
                    | Operator::GtEq
            );
            let sides = (comparison.left.as_ref(), comparison.right.as_ref());
            is_comparison
                && match sides {
                    (Expr::Column(column), Expr::Literal(value, _))
                    | (Expr::Literal(value, _), Expr::Column(column)) => has_type(column.name(), value),
                    _ => false,
                }
        }
        Expr::InList(list) => match list.expr.as_ref() {
            Expr::Column(column) => list
                .list
                .iter()
                .all(|value| matches!(value, Expr::Literal(value, _) if has_type(column.name(), value))),
            _ => false,
        },
        _ => false,
    }
}

fn has_type(column: &str, value: &ScalarValue) -> bool {
    schema().field_with_name(column).is_ok_and(|field| *field.data_type() == value.data_type())
}

fn indices(of: &SchemaRef, columns: &[&str]) -> Result<Vec<usize>> {
    columns.iter().map(|name| Ok(of.index_of(name)?)).collect()
}

fn partition_fields() -> Vec<FieldRef> {
    let table = schema();
    let field = |name: &str| {
        let kind = table.field_with_name(name).map_or(DataType::Utf8, |field| field.data_type().clone());
        Arc::new(Field::new(name, kind, true))
    };
    PARTITION_COLUMNS.into_iter().map(field).collect()
}

fn partitioned(file: &DataFile) -> PartitionedFile {
    let mut partitioned = PartitionedFile::new("", file.bytes);
    // As it is: the constructor would escape it a second time.
    partitioned.object_meta.location = file.path.clone();
    partitioned.with_partition_values(files::partition_values(file).into())
}
