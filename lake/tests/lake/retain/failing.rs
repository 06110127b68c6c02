//! A store that fails at some files and not at others: what can go goes all the same.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use retrace_lake::faults::FaultyStore;
use retrace_lake::{Held, LakeError, Retainer, Retention, RewriteError, Table};

use super::{Line, SHORT, filled, found, retention, session, topic_id};

/// A store that takes only so many more data files, and in which one of them cannot be read.
#[derive(Debug)]
struct Failing {
    inner: InMemory,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Data files that it takes.
    room: u64,
    /// Data files that it did not take.
    refused: u64,
    unreadable: Option<Path>,
}

impl Failing {
    /// One that does not fail yet.
    fn new() -> Arc<Self> {
        let state = State { room: u64::MAX, refused: 0, unreadable: None };
        Arc::new(Self { inner: InMemory::new(), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it is held")
    }

    fn take(&self, location: &Path) -> Result<()> {
        let location = location.as_ref();
        if location.contains("_delta_log/") || !location.ends_with(".parquet") {
            return Ok(());
        }
        let mut state = self.state();
        let Some(room) = state.room.checked_sub(1) else {
            state.refused += 1;
            return Err(failed());
        };
        state.room = room;
        Ok(())
    }
}

fn failed() -> Error {
    Error::Generic { store: "Failing", source: "injected".into() }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.take(location)?;
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.state().unreadable.as_ref() == Some(location) {
            return Err(failed());
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

/// A table of these events in such a store.
async fn table_in(failing: &Arc<Failing>, lines: &[Line]) -> (Arc<FaultyStore>, Table) {
    let store = FaultyStore::new(Arc::clone(failing) as Arc<dyn ObjectStore>);
    let (table, _) = filled(&store, lines).await;
    (store, table)
}

/// An event of a day, which has expired. Those of one day are in one file.
fn old(target: &'static str, day: i32) -> Line {
    Line { about: ["ann", "", target], ..session("old", SHORT, day, day) }
}

fn all_but_what_is_held() -> Retention {
    retention(&[("short", 0)], Held { targets: BTreeSet::from(["shop".to_owned()]), ..Held::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_store_is_full_files_go_of_which_nothing_is_kept_and_no_file_is_blamed() {
    let of_a_day = |day| [old("bank", day), old("shop", day)];
    let mut lines: Vec<_> = [-9, -8, -7].into_iter().flat_map(of_a_day).collect();
    lines.push(old("bank", -6));
    let failing = Failing::new();
    let (store, table) = table_in(&failing, &lines).await;
    let (mut retainer, retention) = (Retainer::new(table.clone()), all_but_what_is_held());
    failing.state().room = 1;
    let snapshot = table.snapshot().await.expect("readable");
    let expired = retainer.find(&snapshot, &retention).await.expect("some may go").expect("they are found");
    assert_eq!((expired.rows_removed(), expired.rows_kept()), (2, 1), "one was written again");
    assert_eq!(failing.state().refused, 1, "and a second not, after which no third was tried");
    table.expire(&expired, &snapshot, topic_id).await.expect("made");

    let snapshot = table.snapshot().await.expect("readable");
    for refused in 2..12 {
        let error = retainer.find(&snapshot, &retention).await.expect_err("the store takes nothing");
        assert!(matches!(error, RewriteError::Lake(LakeError::Store { .. })), "{error:?}");
        assert_eq!((failing.state().refused, retainer.unfit()), (refused, 0));
    }
    failing.state().room = u64::MAX;
    let expired = retainer.find(&snapshot, &retention).await.expect("written").expect("they are found");
    assert_eq!((expired.rows_removed(), expired.rows_kept()), (2, 2));
    table.expire(&expired, &snapshot, topic_id).await.expect("made");
    assert_eq!(found(&store).await.into_keys().collect::<Vec<_>>(), [1, 3, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_read_holds_up_no_others_and_is_left_after_a_while() {
    let failing = Failing::new();
    let (store, table) = table_in(&failing, &[-9, -8, -7].map(|day| old("bank", day))).await;
    let (mut retainer, retention) = (Retainer::new(table.clone()), all_but_what_is_held());
    let snapshot = table.snapshot().await.expect("readable");
    failing.state().unreadable = Some(snapshot.files()[0].path.clone());
    let expired = retainer.find(&snapshot, &retention).await.expect("some may go").expect("they are found");
    assert_eq!((expired.rows_removed(), retainer.unfit()), (2, 0));
    table.expire(&expired, &snapshot, topic_id).await.expect("made");

    let snapshot = table.snapshot().await.expect("readable");
    for _ in 2..5 {
        let error = retainer.find(&snapshot, &retention).await.expect_err("it is tried again");
        assert!(matches!(error, RewriteError::Lake(LakeError::Store { .. })), "{error:?}");
    }
    assert!(retainer.find(&snapshot, &retention).await.expect("it is left").is_none());
    assert_eq!(retainer.unfit(), 1);
    failing.state().unreadable = None;
    assert_eq!(found(&store).await.len(), 1);
}
