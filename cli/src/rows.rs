//! Rows of an answer as text: a table for people, CSV and JSON for programs.

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvWriterBuilder;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::json::LineDelimitedWriter;
use arrow::json::writer::WriterBuilder as JsonWriterBuilder;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;
use retrace_query::SqlAnswer;
use retrace_replay::table::{Heading, Table, row_count};

use crate::args::RowFormat;
use crate::output::Output;

/// Rows whose widths a table is aligned by; headings stand again above the next as many.
const TABLE_ROWS_MAX: usize = 1000;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) format: RowFormat,
    /// A table has a line for each column instead of one for each row.
    pub(crate) is_expanded: bool,
}

impl From<RowFormat> for Shape {
    fn from(format: RowFormat) -> Self {
        Self { format, is_expanded: false }
    }
}

/// Writes the rows of an answer as they come; gives how many there were. Ends with an error if the answer does.
pub(crate) async fn write(
    mut answer: SqlAnswer,
    shape: impl Into<Shape>,
    out: &mut Output,
) -> anyhow::Result<u64> {
    let mut writer = RowWriter::new(&answer.schema, shape.into());
    writer.begin(out)?;
    while let Some(batch) = answer.batches.next().await {
        writer.batch(&batch?, out)?;
    }
    writer.end(out)?;
    out.flush()?;
    Ok(writer.rows)
}

/// The cells of a batch as text; `None` is NULL.
pub(crate) fn texts(batch: &RecordBatch) -> anyhow::Result<Vec<Vec<Option<String>>>> {
    let options = FormatOptions::default();
    let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let cell = |column: usize, row: usize| -> anyhow::Result<Option<String>> {
        if batch.column(column).is_null(row) {
            return Ok(None);
        }
        Ok(Some(columns[column].value(row).try_to_string()?))
    };
    let row = |row| (0..columns.len()).map(|column| cell(column, row)).collect();
    (0..batch.num_rows()).map(row).collect()
}

struct RowWriter {
    shape: Shape,
    schema: SchemaRef,
    rows: u64,
    /// Of a table, drawn already.
    drawn: u64,
    /// Of a table, not yet drawn.
    waiting: Vec<Vec<Option<String>>>,
    /// Whether a table was begun.
    is_drawn: bool,
}

impl RowWriter {
    fn new(schema: &SchemaRef, shape: Shape) -> Self {
        let schema = SchemaRef::clone(schema);
        Self { shape, schema, rows: 0, drawn: 0, waiting: Vec::new(), is_drawn: false }
    }

    fn begin(&mut self, out: &mut Output) -> anyhow::Result<()> {
        match self.shape.format {
            RowFormat::Csv => {
                let names = RecordBatch::new_empty(SchemaRef::clone(&self.schema));
                out.verbatim(&csv(&names, true)?)?;
            }
            RowFormat::Json => out.text("[")?,
            RowFormat::Table | RowFormat::Jsonl => {}
        }
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch, out: &mut Output) -> anyhow::Result<()> {
        match self.shape.format {
            RowFormat::Table => {
                self.waiting.extend(texts(batch)?);
                while self.waiting.len() >= TABLE_ROWS_MAX {
                    let later = self.waiting.split_off(TABLE_ROWS_MAX);
                    self.draw(out)?;
                    self.waiting = later;
                }
            }
            RowFormat::Csv => out.verbatim(&csv(batch, false)?)?,
            RowFormat::Jsonl => out.verbatim(&json_lines(batch)?)?,
            RowFormat::Json => {
                for (index, object) in json_lines(batch)?.lines().enumerate() {
                    let is_first = self.rows == 0 && index == 0;
                    out.text(if is_first { "\n" } else { ",\n" })?;
                    out.verbatim(object)?;
                }
            }
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn end(&mut self, out: &mut Output) -> anyhow::Result<()> {
        match self.shape.format {
            RowFormat::Table => {
                if !self.waiting.is_empty() || !self.is_drawn {
                    self.draw(out)?;
                }
                out.line(row_count(self.rows))?;
            }
            RowFormat::Json => out.text("\n]\n")?,
            RowFormat::Csv | RowFormat::Jsonl => {}
        }
        Ok(())
    }

    fn draw(&mut self, out: &mut Output) -> anyhow::Result<()> {
        let heading = |field: &arrow::datatypes::FieldRef| Heading {
            name: field.name().clone(),
            right: field.data_type().is_numeric() && !matches!(field.data_type(), DataType::Dictionary(..)),
        };
        let headings: Vec<Heading> = self.schema.fields().iter().map(heading).collect();
        let mut text = String::new();
        let table = Table { headings: &headings, rows: &self.waiting };
        if self.shape.is_expanded {
            table.draw_down(self.drawn + 1, &out.look(), &mut text);
        } else {
            table.draw(&out.look(), &mut text);
        }
        self.drawn += self.waiting.len() as u64;
        self.waiting.clear();
        self.is_drawn = true;
        out.text(&text)?;
        Ok(())
    }
}

fn csv(batch: &RecordBatch, with_header: bool) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let mut writer = CsvWriterBuilder::new().with_header(with_header).build(&mut bytes);
    writer.write(batch)?;
    drop(writer);
    Ok(String::from_utf8(bytes)?)
}

/// An object per row and line; no object has a line feed in it.
fn json_lines(batch: &RecordBatch) -> anyhow::Result<String> {
    let mut writer: LineDelimitedWriter<Vec<u8>> =
        JsonWriterBuilder::new().with_explicit_nulls(true).build(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(String::from_utf8(writer.into_inner())?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, BinaryArray, Int64Array, StringArray};

    use super::*;

    fn batch() -> RecordBatch {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("seq", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("statement", Arc::new(StringArray::from(vec![Some("say \"a,\nb\""), Some("")]))),
            ("hash", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\x00\xff"), None]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, it)| (name, it, true)))
            .unwrap()
    }

    #[test]
    fn cells_are_text_and_null_is_none() {
        let rows = texts(&batch()).unwrap();
        let first = vec![Some("1".to_owned()), Some("say \"a,\nb\"".to_owned()), Some("00ff".to_owned())];
        assert_eq!(rows, [first, vec![None, Some(String::new()), None]]);
    }

    #[test]
    fn csv_quotes_what_it_must_and_names_columns_once() {
        let names = csv(&RecordBatch::new_empty(batch().schema()), true).unwrap();
        assert_eq!(names, "seq,statement,hash\n");
        let rows = csv(&batch(), false).unwrap();
        assert_eq!(rows, "1,\"say \"\"a,\nb\"\"\",00ff\n,,\n");
    }

    #[test]
    fn json_has_an_object_per_line_with_its_nulls() {
        let text = json_lines(&batch()).unwrap();
        let rows: Vec<serde_json::Value> =
            text.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0], serde_json::json!({ "seq": 1, "statement": "say \"a,\nb\"", "hash": "00ff" }));
        assert_eq!(rows[1], serde_json::json!({ "seq": null, "statement": "", "hash": null }));
    }
}
