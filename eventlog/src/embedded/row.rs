use bytes::Bytes;
use retrace_proto::log::Record;
use twox_hash::XxHash64;

/// A row of a segment: successive records, stored under the offset of the first. One row instead of one per record is
/// what keeps a group cheap.
///
/// Layout, little endian: checksum (8 bytes, XXH64 of the rest, seeded with the first offset), bytes of records in the
/// segment up to the end of this row (8), then per record: append time (8), lengths of key and value (4 each), key, value.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) first_offset: u64,
    pub(super) bytes: Vec<u8>,
}

/// A row is closed once it holds this many bytes; one record may make it longer. redb rounds up to a power of two.
const ROW_BYTES_MAX: usize = 60 * 1024;

const HEAD_BYTES: usize = 16;
const RECORD_HEAD_BYTES: usize = 16;

impl Row {
    pub(super) fn new(first_offset: u64) -> Self {
        Self { first_offset, bytes: vec![0; HEAD_BYTES] }
    }

    /// Whether a record of `key` and `value` belongs into the next row.
    pub(super) fn is_full_for(&self, key: &[u8], value: &[u8]) -> bool {
        self.bytes.len() > HEAD_BYTES
            && self.bytes.len() + RECORD_HEAD_BYTES + key.len() + value.len() > ROW_BYTES_MAX
    }

    pub(super) fn push(&mut self, appended_at_unix_us: i64, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(&appended_at_unix_us.to_le_bytes());
        for part in [key, value] {
            let length = u32::try_from(part.len()).expect("append checked the size");
            self.bytes.extend_from_slice(&length.to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// Seals it. Returns the bytes of records in the segment with this row.
    pub(super) fn seal(&mut self, segment_bytes_before: u64) -> u64 {
        let segment_bytes = segment_bytes_before + self.bytes.len() as u64;
        self.bytes[8..HEAD_BYTES].copy_from_slice(&segment_bytes.to_le_bytes());
        let checksum = XxHash64::oneshot(self.first_offset, &self.bytes[8..]);
        self.bytes[..8].copy_from_slice(&checksum.to_le_bytes());
        segment_bytes
    }
}

/// A row as it was read.
#[derive(Debug)]
pub(super) struct SealedRow {
    pub(super) segment_bytes: u64,
    pub(super) records: Vec<Record>,
}

/// The row is not as it was written.
#[derive(Debug)]
pub(super) struct DamagedRow;

impl SealedRow {
    /// Checks and splits a row. The records share its memory.
    pub(super) fn open(first_offset: u64, row: &[u8]) -> Result<Self, DamagedRow> {
        let (checksum, checked) = row.split_first_chunk().ok_or(DamagedRow)?;
        if XxHash64::oneshot(first_offset, checked) != u64::from_le_bytes(*checksum) {
            return Err(DamagedRow);
        }
        let mut rest = Bytes::copy_from_slice(checked);
        let segment_bytes = u64::from_le_bytes(take(&mut rest)?);
        let mut records = Vec::new();
        while !rest.is_empty() {
            let appended_at_unix_us = i64::from_le_bytes(take(&mut rest)?);
            let key_bytes = u32::from_le_bytes(take(&mut rest)?) as usize;
            let value_bytes = u32::from_le_bytes(take(&mut rest)?) as usize;
            if key_bytes.checked_add(value_bytes).is_none_or(|bytes| bytes > rest.len()) {
                return Err(DamagedRow);
            }
            let (key, value) = (rest.split_to(key_bytes), rest.split_to(value_bytes));
            let offset = first_offset + records.len() as u64;
            records.push(Record { offset, appended_at_unix_us, key, value });
        }
        Ok(Self { segment_bytes, records })
    }
}

fn take<const N: usize>(rest: &mut Bytes) -> Result<[u8; N], DamagedRow> {
    let taken = *rest.first_chunk().ok_or(DamagedRow)?;
    drop(rest.split_to(N));
    Ok(taken)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    fn row() -> Row {
        let mut row = Row::new(7);
        row.push(11, b"key", b"value");
        row.push(12, b"", b"");
        assert_eq!(row.seal(100), 100 + row.bytes.len() as u64);
        row
    }

    #[test]
    fn a_row_gives_its_records_back() {
        let row = row();
        let opened = SealedRow::open(7, &row.bytes).unwrap();
        assert_eq!(opened.segment_bytes, 100 + row.bytes.len() as u64);
        let found: Vec<_> = opened
            .records
            .iter()
            .map(|record| (record.offset, record.appended_at_unix_us, &record.key[..], &record.value[..]))
            .collect();
        assert_eq!(found, [(7, 11, &b"key"[..], &b"value"[..]), (8, 12, b"", b"")]);
    }

    #[test]
    fn any_changed_byte_any_cut_and_another_place_are_noticed() {
        let row = row();
        for at in 0..row.bytes.len() {
            let mut changed = row.bytes.clone();
            changed[at] ^= 1;
            assert!(SealedRow::open(7, &changed).is_err(), "byte {at}");
            assert!(SealedRow::open(7, &row.bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(SealedRow::open(8, &row.bytes).is_err());
    }
}
