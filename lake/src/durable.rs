use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

const STORE: &str = "DurableFiles";

/// Names tried for a staging file before giving up; each one taken is left from a crash.
const STAGING_NAMES_MAX: u32 = 10_000;

/// A folder as an object store whose writes survive power loss.
///
/// `object_store`'s own folder store never calls fsync, and the log is truncated as soon as a commit is believed. Here
/// a put has returned only if the file's bytes, its name and every folder up to the table's are on disk; and a name
/// never stands before its bytes do: staged, synced, then linked (`Create`) or renamed (`Overwrite`).
#[derive(Debug)]
pub struct DurableFiles {
    inner: LocalFileSystem,
    /// Folders from here down are synced after each write.
    synced_from: PathBuf,
}

impl DurableFiles {
    /// The whole file system as a store, of which `table` is the folder written to.
    #[must_use]
    pub fn new(table: &FsPath) -> Self {
        let synced_from = table.parent().unwrap_or(table).to_path_buf();
        Self { inner: LocalFileSystem::new(), synced_from }
    }

    async fn put_durably(&self, location: &Path, payload: PutPayload, replace: bool) -> Result<PutResult> {
        let path = self.inner.path_to_filesystem(location)?;
        let synced_from = self.synced_from.clone();
        let written =
            tokio::task::spawn_blocking(move || write_durably(&path, &payload, replace, &synced_from));
        match written.await {
            Ok(Ok(())) => Ok(PutResult { e_tag: None, version: None }),
            Ok(Err(source)) if source.kind() == ErrorKind::AlreadyExists => {
                Err(Error::AlreadyExists { path: location.to_string(), source: source.into() })
            }
            Ok(Err(source)) => Err(generic(source)),
            Err(source) => Err(Error::JoinError { source }),
        }
    }
}

fn generic(source: io::Error) -> Error {
    Error::Generic { store: STORE, source: source.into() }
}

fn write_durably(path: &FsPath, payload: &PutPayload, replace: bool, synced_from: &FsPath) -> io::Result<()> {
    let (mut file, staging) = stage(path)?;
    let linked = payload
        .iter()
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.sync_all())
        .and_then(|()| if replace { fs::rename(&staging, path) } else { fs::hard_link(&staging, path) });
    if !replace || linked.is_err() {
        // If it stays, it is a name that listings leave out.
        let _ = fs::remove_file(&staging);
    }
    linked?;
    sync_folders(path, synced_from)
}

/// A new file beside `path`. The names are those that `LocalFileSystem` takes for its own staging and never lists.
fn stage(path: &FsPath) -> io::Result<(File, PathBuf)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    for number in 1..=STAGING_NAMES_MAX {
        let mut name = path.as_os_str().to_owned();
        name.push(format!("#{number}"));
        let staging = PathBuf::from(name);
        match OpenOptions::new().write(true).create_new(true).open(&staging) {
            Ok(file) => return Ok((file, staging)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("every staging name is taken: remove the files ending in # and a number"))
}

fn sync_folders(path: &FsPath, synced_from: &FsPath) -> io::Result<()> {
    let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(synced_from));
    for folder in folders {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

impl fmt::Display for DurableFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{STORE}({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for DurableFiles {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match opts.mode {
            PutMode::Overwrite => self.put_durably(location, payload, true).await,
            PutMode::Create => self.put_durably(location, payload, false).await,
            PutMode::Update(_) => self.inner.put_opts(location, payload, opts).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Upload {
            store: Self { inner: self.inner.clone(), synced_from: self.synced_from.clone() },
            location: location.clone(),
            parts: Vec::new(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let bytes = self.inner.get_opts(from, GetOptions::default()).await?.bytes().await?;
        let replace = matches!(options.mode, object_store::CopyMode::Overwrite);
        self.put_durably(to, bytes.into(), replace).await.map(drop)
    }
}

/// Parts kept in memory until the whole file can be put at once. Only Delta's checkpoints come this way.
#[derive(Debug)]
struct Upload {
    store: DurableFiles,
    location: Path,
    parts: Vec<PutPayload>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        futures::future::ready(Ok(())).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let whole: PutPayload = self.parts.drain(..).flatten().collect();
        self.store.put_durably(&self.location, whole, true).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
    }
}

/// The folder as a store rooted at the file system's root, as the table's log wants it.
pub(crate) fn local(table: &FsPath) -> Arc<dyn ObjectStore> {
    Arc::new(DurableFiles::new(table))
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    use super::*;

    fn store() -> (tempfile::TempDir, DurableFiles, Path) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DurableFiles::new(folder.path());
        let path = Path::from_absolute_path(folder.path().join("day/file")).expect("absolute");
        (folder, store, path)
    }

    async fn content(store: &DurableFiles, path: &Path) -> Bytes {
        store.get(path).await.expect("there").bytes().await.expect("readable")
    }

    #[tokio::test]
    async fn create_refuses_what_exists_and_overwrite_replaces_it() {
        let (_folder, store, path) = store();
        store.put_opts(&path, "one".into(), PutMode::Create.into()).await.expect("new");
        let again = store.put_opts(&path, "two".into(), PutMode::Create.into()).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
        assert_eq!(content(&store, &path).await, "one");
        store.put(&path, "three".into()).await.expect("replaced");
        assert_eq!(content(&store, &path).await, "three");
    }

    #[tokio::test]
    async fn what_a_crash_left_staged_is_not_listed_and_in_nobodys_way() {
        let (folder, store, path) = store();
        fs::create_dir(folder.path().join("day")).expect("a folder");
        fs::write(folder.path().join("day/file#1"), "half").expect("staged");
        store.put_opts(&path, "whole".into(), PutMode::Create.into()).await.expect("new");
        let prefix = Path::from_absolute_path(folder.path()).expect("absolute");
        let listed: Vec<_> = store.list(Some(&prefix)).try_collect().await.expect("listed");
        assert_eq!(listed.into_iter().map(|meta| meta.location).collect::<Vec<_>>(), [path]);
    }

    #[tokio::test]
    async fn a_file_put_in_parts_is_there_whole_or_not_at_all() {
        let (_folder, store, path) = store();
        let mut upload = store.put_multipart(&path).await.expect("begun");
        upload.put_part("one".into()).await.expect("kept");
        upload.put_part("two".into()).await.expect("kept");
        assert!(store.head(&path).await.is_err(), "not before it is complete");
        upload.complete().await.expect("put");
        assert_eq!(content(&store, &path).await, "onetwo");
    }
}
