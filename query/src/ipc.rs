//! Rows on the wire: one Arrow IPC stream (schema, batches, end), cut into pieces of bounded size.

use arrow::buffer::Buffer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

/// Largest piece, in bytes.
const PIECE_BYTES_MAX: usize = 1024 * 1024;

/// Turns batches into pieces. Joined in order, they are the stream.
pub(crate) struct Encoder(StreamWriter<Vec<u8>>);

impl Encoder {
    pub(crate) fn new(schema: &Schema) -> Result<Self, ArrowError> {
        StreamWriter::try_new(Vec::new(), schema).map(Self)
    }

    /// The pieces that stand before any batch: the schema.
    pub(crate) fn schema(&mut self) -> Vec<Bytes> {
        self.take()
    }

    pub(crate) fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<Bytes>, ArrowError> {
        self.0.write(batch)?;
        Ok(self.take())
    }

    /// The end, by which a reader tells a whole stream from one that was cut off.
    pub(crate) fn finish(mut self) -> Result<Vec<Bytes>, ArrowError> {
        self.0.finish()?;
        Ok(self.take())
    }

    fn take(&mut self) -> Vec<Bytes> {
        let mut written = Bytes::from(std::mem::take(self.0.get_mut()));
        let mut pieces = Vec::new();
        while !written.is_empty() {
            pieces.push(written.split_to(written.len().min(PIECE_BYTES_MAX)));
        }
        pieces
    }
}

/// Turns pieces back into batches.
#[derive(Default)]
pub(crate) struct Decoder(StreamDecoder);

impl Decoder {
    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: Bytes) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut buffer = Buffer::from(piece);
        let mut batches = Vec::new();
        while !buffer.is_empty() {
            batches.extend(self.0.decode(&mut buffer)?);
        }
        Ok(batches)
    }

    /// Known once the first piece was taken.
    pub(crate) fn schema(&self) -> Option<SchemaRef> {
        self.0.schema()
    }

    /// Checks that the stream came to its end.
    pub(crate) fn finish(mut self) -> Result<(), ArrowError> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    fn batch(rows: i64, text_bytes: usize) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("{row:0text_bytes$}"))));
        RecordBatch::try_from_iter([("number", numbers), ("text", texts)]).expect("columns of one length")
    }

    #[test]
    fn batches_come_back_from_pieces_of_bounded_size() {
        let sent = [batch(3, 10), batch(0, 1), batch(3_000, 1_000)];
        let mut encoder = Encoder::new(&sent[0].schema()).unwrap();
        let mut pieces = encoder.schema();
        for batch in &sent {
            pieces.extend(encoder.batch(batch).unwrap());
        }
        pieces.extend(encoder.finish().unwrap());
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES_MAX));
        assert!(pieces.len() >= 5, "three megabytes of text take several pieces");

        let mut decoder = Decoder::default();
        let mut received = Vec::new();
        for piece in pieces {
            received.extend(decoder.push(piece).unwrap());
        }
        assert_eq!(decoder.schema(), Some(sent[0].schema()));
        assert_eq!(received, sent);
        decoder.finish().unwrap();
    }

    #[test]
    fn a_stream_that_is_cut_off_inside_a_batch_is_an_error() {
        let mut encoder = Encoder::new(&batch(1, 1).schema()).unwrap();
        let mut bytes = encoder.schema().concat();
        bytes.extend(encoder.batch(&batch(100, 100)).unwrap().concat());
        bytes.truncate(bytes.len() - 64);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(Bytes::from(bytes)).unwrap().len(), 0);
        assert!(decoder.finish().is_err());
    }
}
