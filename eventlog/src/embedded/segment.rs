use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{
    Builder, Database, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition,
};
use retrace_proto::log::Record;

use super::row::{Row, SealedRow};
use super::{OpenError, folder};

/// The version of what stands in a segment; every segment names its own.
pub(super) const FORMAT: u64 = 1;

/// Rows by the offset of their first record.
const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// What the segment says about itself.
const ABOUT: TableDefinition<'_, &str, u64> = TableDefinition::new("about");

/// Memory for the pages of the segment that is written.
const WRITING_CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Memory for the pages of an older segment that is read.
const READING_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// One redb file: the records from `base` on, up to the next segment's.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) base: u64,
    path: PathBuf,
    handle: RwLock<Handle>,
}

enum Handle {
    /// Not open; the next read opens it.
    Closed,
    /// Not open, and not to be opened: the log is closed, and the file may be another process's now.
    Ended,
    Writing(Database),
    Reading(ReadOnlyDatabase),
}

/// Where a segment's records end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) end: u64,
    pub(super) bytes: u64,
    pub(super) appended_at_unix_us: i64,
}

/// What became of rows that could not be committed.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The commit was not begun.
    NotWritten(redb::Error),
    /// The commit failed midway.
    Unknown(redb::Error),
}

/// Why a segment gave no records.
#[derive(Debug)]
pub(super) enum SegmentReadError {
    /// The row that holds the offset is missing or not as written.
    Damaged,
    /// redb or the file system refused.
    Failed(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for SegmentReadError {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

fn path_of(folder: &Path, base: u64) -> PathBuf {
    folder.join(format!("{base:020}.redb"))
}

/// The bases of the segments in `folder`, ascending. Removes segments that a crash left half made.
pub(super) fn list(folder: &Path) -> std::io::Result<Vec<u64>> {
    let mut bases = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let base = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        match (base, path.extension().and_then(|extension| extension.to_str())) {
            (Some(base), Some("redb")) => bases.push(base),
            (Some(_), Some("tmp")) => fs::remove_file(&path)?,
            _ => {}
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

impl Segment {
    /// A segment that is complete, opened when it is first read.
    pub(super) fn complete(folder: &Path, base: u64) -> Self {
        Self { base, path: path_of(folder, base), handle: RwLock::new(Handle::Closed) }
    }

    /// Makes an empty segment to write to. A crash leaves it whole or as a file that [`list`] removes.
    pub(super) fn create(folder: &Path, base: u64, appended_at_unix_us: i64) -> Result<Self, redb::Error> {
        let path = path_of(folder, base);
        let unfinished = path.with_extension("tmp");
        let database = Builder::new().set_cache_size(WRITING_CACHE_BYTES).create(&unfinished)?;
        let transaction = database.begin_write()?;
        {
            transaction.open_table(RECORDS)?;
            let mut about = transaction.open_table(ABOUT)?;
            about.insert("format", FORMAT)?;
            about.insert("base", base)?;
            about.insert("appended_at_unix_us", appended_at_unix_us.cast_unsigned())?;
        }
        transaction.commit()?;
        fs::rename(&unfinished, &path).and_then(|()| folder::sync(folder))?;
        Ok(Self { base, path, handle: RwLock::new(Handle::Writing(database)) })
    }

    /// Opens the newest segment to go on writing. Reads it in full and checks every page, after a crash redb's
    /// recovery does the same.
    ///
    /// redb may panic on a file that something else wrote into; that is damage like any other.
    pub(super) fn open_newest(folder: &Path, base: u64) -> Result<(Self, Tail), OpenError> {
        let path = path_of(folder, base);
        std::panic::catch_unwind(|| Self::try_open_newest(&path, base))
            .unwrap_or(Err(OpenError::Damaged { path, source: None }))
    }

    fn try_open_newest(path: &Path, base: u64) -> Result<(Self, Tail), OpenError> {
        let database = Builder::new()
            .set_cache_size(WRITING_CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .open(path)
            .map_err(|error| OpenError::redb(path, error))?;
        let transaction = database.begin_read().map_err(|error| OpenError::redb(path, error))?;
        let tail = tail(&transaction, path, base)?;
        drop(transaction);
        Ok((Self { base, path: path.to_owned(), handle: RwLock::new(Handle::Writing(database)) }, tail))
    }

    /// Writes rows in one transaction and waits until they are durable.
    pub(super) fn write(&self, rows: &[Row]) -> Result<(), WriteError> {
        let handle = self.read_handle();
        let Handle::Writing(database) = &*handle else {
            return Err(WriteError::NotWritten(redb::Error::DatabaseClosed));
        };
        let insert = || -> Result<_, redb::Error> {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(RECORDS)?;
                for row in rows {
                    table.insert(row.first_offset, &row.bytes[..])?;
                }
            }
            Ok(transaction)
        };
        let transaction = insert().map_err(WriteError::NotWritten)?;
        transaction.commit().map_err(|error| WriteError::Unknown(error.into()))
    }

    /// Durable records of `offsets`, at least one, up to `bytes_max` of keys and values.
    ///
    /// The writer closes a segment that is full, and with it what is being read of it. Such a read begins anew.
    pub(super) fn read(
        &self,
        offsets: Range<u64>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, SegmentReadError> {
        loop {
            let begun = matches!(*self.read_handle(), Handle::Writing(_));
            match self.read_once(offsets.clone(), bytes_max) {
                Err(SegmentReadError::Failed(error))
                    if begun
                        && matches!(*error, redb::Error::DatabaseClosed)
                        && !matches!(*self.read_handle(), Handle::Writing(_) | Handle::Ended) => {}
                outcome => return outcome,
            }
        }
    }

    fn read_once(&self, offsets: Range<u64>, bytes_max: usize) -> Result<Vec<Record>, SegmentReadError> {
        let transaction = self.begin_read()?;
        let table = transaction.open_table(RECORDS)?;
        let first_row = table.range(..=offsets.start)?.next_back().transpose()?;
        let first_row = first_row.ok_or(SegmentReadError::Damaged)?.0.value();
        let (mut records, mut bytes) = (Vec::new(), 0);
        for row in table.range(first_row..offsets.end)? {
            let (first_offset, row) = row?;
            let row =
                SealedRow::open(first_offset.value(), row.value()).map_err(|_| SegmentReadError::Damaged)?;
            for record in row.records.into_iter().filter(|record| offsets.contains(&record.offset)) {
                if record.offset != offsets.start + records.len() as u64 {
                    return Err(SegmentReadError::Damaged);
                }
                bytes += record.key.len() + record.value.len();
                if bytes > bytes_max && !records.is_empty() {
                    return Ok(records);
                }
                records.push(record);
            }
        }
        if records.is_empty() { Err(SegmentReadError::Damaged) } else { Ok(records) }
    }

    fn begin_read(&self) -> Result<ReadTransaction, SegmentReadError> {
        loop {
            match &*self.read_handle() {
                Handle::Writing(database) => return Ok(database.begin_read()?),
                Handle::Reading(database) => return Ok(database.begin_read()?),
                Handle::Ended => return Err(redb::Error::DatabaseClosed.into()),
                Handle::Closed => {}
            }
            self.open_for_reading()?;
        }
    }

    fn open_for_reading(&self) -> Result<(), SegmentReadError> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*handle, Handle::Closed) {
            let database = Builder::new().set_cache_size(READING_CACHE_BYTES).open_read_only(&self.path)?;
            *handle = Handle::Reading(database);
        }
        Ok(())
    }

    /// Ends writing; it is complete now, and the next read opens it again.
    pub(super) fn complete_now(&self) -> Result<(), redb::Error> {
        self.close(Handle::Closed)
    }

    /// Ends writing and reading.
    pub(super) fn end(&self) -> Result<(), redb::Error> {
        self.close(Handle::Ended)
    }

    fn close(&self, then: Handle) -> Result<(), redb::Error> {
        let mut handle = self.handle.write().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *handle, then) {
            Handle::Closed | Handle::Ended => Ok(()),
            Handle::Writing(database) => Ok(database.close()?),
            Handle::Reading(database) => Ok(database.close()?),
        }
    }

    /// Frees its memory and file handle if it is merely read; the next read opens it again.
    pub(super) fn close_if_idle(&self) {
        if let Ok(mut handle) = self.handle.try_write()
            && matches!(*handle, Handle::Reading(_))
        {
            *handle = Handle::Closed;
        }
    }

    /// Gives the file back to the file system.
    pub(super) fn unlink(&self) -> std::io::Result<()> {
        fs::remove_file(&self.path)
    }

    fn read_handle(&self) -> RwLockReadGuard<'_, Handle> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tail(transaction: &ReadTransaction, path: &Path, base: u64) -> Result<Tail, OpenError> {
    let damaged = || OpenError::Damaged { path: path.to_owned(), source: None };
    let read = || -> Result<_, redb::Error> {
        let about = transaction.open_table(ABOUT)?;
        let about = |name| Ok::<_, redb::Error>(about.get(name)?.map(|value| value.value()));
        let records = transaction.open_table(RECORDS)?;
        let last = records.last()?.map(|(first_offset, row)| {
            SealedRow::open(first_offset.value(), row.value()).map_err(|_| damaged())
        });
        Ok((about("format")?, about("base")?, about("appended_at_unix_us")?, last.transpose()))
    };
    let (format, named_base, appended_at, last) = read().map_err(|error| OpenError::redb(path, error))?;
    if let Some(format) = format.filter(|format| *format > FORMAT) {
        return Err(OpenError::NewerFormat { path: path.to_owned(), format });
    }
    let (Some(_), Some(appended_at)) = (named_base.filter(|named| *named == base), appended_at) else {
        return Err(damaged());
    };
    let Some(row) = last? else {
        return Ok(Tail { end: base, bytes: 0, appended_at_unix_us: appended_at.cast_signed() });
    };
    let last = row.records.last().ok_or_else(damaged)?;
    Ok(Tail { end: last.offset + 1, bytes: row.segment_bytes, appended_at_unix_us: last.appended_at_unix_us })
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "Closed",
            Self::Ended => "Ended",
            Self::Writing(_) => "Writing",
            Self::Reading(_) => "Reading",
        })
    }
}

#[cfg(test)]
impl Segment {
    /// A segment on a storage that the test makes fail.
    pub(super) fn over(storage: impl redb::StorageBackend) -> Self {
        let database = Builder::new().create_with_backend(storage).expect("the storage does not fail yet");
        Self { base: 0, path: PathBuf::new(), handle: RwLock::new(Handle::Writing(database)) }
    }
}
