//! An object store that fails on demand, for crash tests: at any step, with or without having done it.

use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
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

/// Decides what befalls each put of a [`Step`], and when: the put waits for it.
#[async_trait]
pub trait Judge: Send + Sync + fmt::Debug {
    /// Called before the put.
    async fn judge(&self, step: Step) -> Option<Fault>;

    /// Called after it, also if nobody waits for it any more.
    fn ended(&self, step: Step);
}

/// Wraps a store. Faults are armed one at a time and strike once, unless a [`Judge`] has them.
#[derive(Debug)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    armed: Mutex<Option<(Step, Fault)>>,
    judge: Option<Arc<dyn Judge>>,
    struck: AtomicU64,
    gets: AtomicU64,
    reads_fail: AtomicBool,
    is_away: AtomicBool,
}

impl FaultyStore {
    /// No fault is armed at first.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Self::made(inner, None)
    }

    /// Its puts are under way on their own, as those of a remote store are: once begun, one may be done after whoever
    /// began it is gone.
    #[must_use]
    pub fn judged(inner: Arc<dyn ObjectStore>, judge: Arc<dyn Judge>) -> Arc<Self> {
        Self::made(inner, Some(judge))
    }

    fn made(inner: Arc<dyn ObjectStore>, judge: Option<Arc<dyn Judge>>) -> Arc<Self> {
        let [reads_fail, is_away] = [AtomicBool::new(false), AtomicBool::new(false)];
        let [struck, gets] = [AtomicU64::new(0), AtomicU64::new(0)];
        let armed = Mutex::new(None);
        Arc::new(Self { inner, armed, judge, struck, gets, reads_fail, is_away })
    }

    /// From now on everything but a put fails, or nothing for that reason.
    pub fn set_away(&self, away: bool) {
        self.is_away.store(away, Ordering::SeqCst);
    }

    fn reach(&self) -> Result<()> {
        if self.is_away.load(Ordering::SeqCst) { Err(injected()) } else { Ok(()) }
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

    /// How many objects were asked for.
    #[must_use]
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::SeqCst)
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

async fn put(
    store: Arc<dyn ObjectStore>,
    fault: Option<Fault>,
    location: &Path,
    payload: PutPayload,
    opts: PutOptions,
) -> Result<PutResult> {
    match fault {
        None => store.put_opts(location, payload, opts).await,
        Some(Fault::Failed) => Err(injected()),
        Some(Fault::FailedButPersisted) => {
            store.put_opts(location, payload, opts).await?;
            Err(injected())
        }
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
        let (inner, location) = (Arc::clone(&self.inner), location.clone());
        let Some((judge, step)) = self.judge.clone().zip(Step::of(&location)) else {
            return put(inner, self.strike(&location), &location, payload, opts).await;
        };
        let under_way = tokio::spawn(async move {
            let fault = judge.judge(step).await;
            let outcome = put(inner, fault, &location, payload, opts).await;
            judge.ended(step);
            outcome
        });
        under_way.await.map_err(|source| Error::JoinError { source })?
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
        self.gets.fetch_add(1, Ordering::SeqCst);
        self.reach()?;
        if self.reads_fail.load(Ordering::SeqCst) && Step::of(location) == Some(Step::DataFile) {
            return Err(injected());
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Err(error) = self.reach() {
            return futures::stream::once(std::future::ready(Err(error))).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
