use std::fmt;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties,
};
use futures::StreamExt;

/// Lets through the rows that the reader may see and that the cut covers, and nothing passes it the other way.
///
/// No filter, projection, limit or sort of the statement is pushed below this node, and it gives no statistics: an
/// expression of the statement is only ever evaluated on rows that were let through. So neither an error (`1 / (a - b)`
/// on a row of someone else), nor a count, nor a minimum tells anything about the others. It rests on the defaults of
/// [`ExecutionPlan`], which refuse every push-down, and a test holds it to that.
#[derive(Debug)]
pub(crate) struct RowBarrier {
    input: Arc<dyn ExecutionPlan>,
    predicate: Arc<dyn PhysicalExpr>,
    columns: Vec<usize>,
    properties: Arc<PlanProperties>,
}

impl RowBarrier {
    /// Keeps the rows of `input` for which `predicate` is true, and of those the columns at `columns`.
    pub(crate) fn try_new(
        input: Arc<dyn ExecutionPlan>,
        predicate: Arc<dyn PhysicalExpr>,
        columns: Vec<usize>,
    ) -> Result<Self> {
        let schema: SchemaRef = Arc::new(input.schema().project(&columns)?);
        let partitions = input.output_partitioning().partition_count();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(partitions),
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Ok(Self { input, predicate, columns, properties: Arc::new(properties) })
    }
}

impl DisplayAs for RowBarrier {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RowBarrier: {}", self.predicate)
    }
}

impl ExecutionPlan for RowBarrier {
    fn name(&self) -> &'static str {
        "RowBarrier"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        f(&self.predicate)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [input] =
            <[_; 1]>::try_from(children).or_else(|_| internal_err!("a RowBarrier has one input"))?;
        Ok(Arc::new(Self::try_new(input, Arc::clone(&self.predicate), self.columns.clone())?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let predicate = Arc::clone(&self.predicate);
        let columns = self.columns.clone();
        let rows = self.input.execute(partition, context)?;
        let kept = rows.map(move |batch| keep(&batch?, predicate.as_ref(), &columns));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), kept)))
    }
}

fn keep(batch: &RecordBatch, predicate: &dyn PhysicalExpr, columns: &[usize]) -> Result<RecordBatch> {
    let mask = predicate.evaluate(batch)?.into_array(batch.num_rows())?;
    Ok(filter_record_batch(&batch.project(columns)?, mask.as_boolean())?)
}
