//! An object store that fails on demand, for crash tests: at any step, with or without having done it.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How a put fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was done, and an error says so.
    Failed,
    /// It was done, and yet an error came back.
    FailedButPersisted,
}

/// What a put is for, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A data file.
    DataFile,
    /// A new version of the table.
    Commit,
    /// A checkpoint of the table's log, or the hint at it.
    Checkpoint,
}

impl Step {
    /// Every step, in the order in which they happen.
    pub const ALL: [Step; 3] = [Step::DataFile, Step::Commit, Step::Checkpoint];

    fn of(path: &Path) -> Option<Self> {
        let path = path.as_ref();
        if path.contains("_delta_log/") {
            let commit = path.ends_with(".json");
            Some(if commit { Step::Commit } else { Step::Checkpoint })
        } else {
            path.ends_with(".parquet").then_some(Step::DataFile)
        }
    }
}

/// Wraps a store. Faults are armed one at a time and strike once.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    armed: Mutex<Option<(Step, Fault)>>,
    struck: AtomicU64,
    reads_fail: AtomicBool,
}

impl FaultyStore {
    /// No fault is armed at first.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            armed: Mutex::new(None),
            struck: AtomicU64::new(0),
            reads_fail: AtomicBool::new(false),
        })
    }

    /// From now on every read of a data file fails, or none.
    pub fn fail_reads(&self, fail: bool) {
        self.reads_fail.store(fail, Ordering::SeqCst);
    }

    /// The next put of this step fails in this way.
    pub fn arm(&self, step: Step, fault: Fault) {
        *self.armed() = Some((step, fault));
    }

    /// How many faults have struck.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.struck.load(Ordering::SeqCst)
    }

    fn armed(&self) -> std::sync::MutexGuard<'_, Option<(Step, Fault)>> {
        self.armed.lock().expect("nothing panics while it is held")
    }

    fn strike(&self, path: &Path) -> Option<Fault> {
        let mut armed = self.armed();
        let (step, fault) = (*armed)?;
        if Step::of(path) != Some(step) {
            return None;
        }
        *armed = None;
        self.struck.fetch_add(1, Ordering::SeqCst);
        Some(fault)
    }
}

fn injected() -> Error {
    Error::Generic { store: "FaultyStore", source: "injected".into() }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match self.strike(location) {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::Failed) => Err(injected()),
            Some(Fault::FailedButPersisted) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(injected())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        match self.strike(location) {
            None => self.inner.put_multipart_opts(location, opts).await,
            Some(_) => Err(injected()),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.reads_fail.load(Ordering::SeqCst) && Step::of(location) == Some(Step::DataFile) {
            return Err(injected());
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
