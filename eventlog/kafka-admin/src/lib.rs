//! Two admin requests that librdkafka has and its Rust bindings lack: what id and how many partitions a topic has, and
//! where many topic partitions begin or end, asked in one request per broker.
//!
//! This is the one place of the project with `unsafe` code. Each call waits for the broker's answer, for a second at
//! least if it does not come: keep it away from threads that must not wait.

use std::ffi::{CStr, CString, NulError, c_char, c_int};
use std::ptr::NonNull;
use std::time::{Duration, Instant};
use std::{ptr, slice, thread};

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

/// How much longer than the request's own time its answer is waited for, in milliseconds.
const ANSWER_MARGIN_MS: c_int = 1000;

/// How often it is looked for.
const ANSWER_PAUSE: Duration = Duration::from_micros(500);

/// The least time a request is given. With hardly any, librdkafka 2.12 reads what its own timer has just freed: the timer
/// must not ring before the call that set it returns (rd_kafka_topic_partition_list_query_leaders_async).
const REQUEST_TIME_MIN: Duration = Duration::from_secs(1);

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// A topic's name that no topic can have.
    #[error("a topic's name cannot hold a null byte")]
    Name(#[from] NulError),
    /// The broker's or the library's own error.
    #[error("{0}")]
    Kafka(RDKafkaErrorCode),
    /// The brokers are older than the request: they have no topic ids before Kafka 2.8.
    #[error("the brokers do not tell topics' ids: Kafka 2.8 or later is needed")]
    TooOld,
}

/// One end of a topic partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first offset kept.
    Earliest,
    /// The high watermark: one past the last record that enough replicas hold.
    Latest,
}

/// What tells whether a topic is still the one that it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicShape {
    /// The id that the cluster gave it when it was made (KIP-516). One that is deleted and made anew under its name has
    /// another.
    pub id: [u8; 16],
    /// How many partitions it has. More can be added.
    pub partitions: u32,
}

/// The topics as the cluster has them, in the order asked for. None is made by asking.
pub fn topic_shapes<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    timeout: Duration,
) -> Result<Vec<TopicShape>, AdminError> {
    let owned = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<*const c_char> = owned.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the names live until the end of this function; the library copies them.
    let collection = unsafe { sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
    let collection = Owned::new(collection, sys::rd_kafka_TopicCollection_destroy);
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let answer = request(client, op, timeout, |client, options, queue| {
        // SAFETY: all four live; the library copies what it keeps.
        unsafe { sys::rd_kafka_DescribeTopics(client, collection.as_ptr(), options, queue) }
    })?;
    // SAFETY: the event is an answer to this kind of request, or null comes back.
    let result = unsafe { sys::rd_kafka_event_DescribeTopics_result(answer.as_ptr()) };
    let mut count = 0;
    // SAFETY: the result is the event's, which lives; `count` is written.
    let described = unsafe { sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    // SAFETY: the library says that there are so many, and they live as long as the event.
    let described = unsafe { array(described, count) };
    owned.iter().map(|name| topic_shape(described, name)).collect()
}

/// # Safety
/// `first` must point to `count` values that outlive the slice; it may be null if there are none.
unsafe fn array<'a, T>(first: *mut T, count: usize) -> &'a [T] {
    if count == 0 {
        return &[];
    }
    // SAFETY: as the caller promises.
    unsafe { slice::from_raw_parts(first, count) }
}

/// The topics must be those of a living answer.
fn topic_shape(
    described: &[*const sys::rd_kafka_TopicDescription_t],
    name: &CStr,
) -> Result<TopicShape, AdminError> {
    let has_name = |topic: &&*const sys::rd_kafka_TopicDescription_t| {
        // SAFETY: it belongs to an answer that lives.
        let found = unsafe { sys::rd_kafka_TopicDescription_name(**topic) };
        // SAFETY: the library keeps a text there that ends in a null byte.
        let found = unsafe { CStr::from_ptr(found) };
        found == name
    };
    let unknown = AdminError::Kafka(RDKafkaErrorCode::UnknownTopic);
    let topic = *described.iter().find(has_name).ok_or(unknown)?;
    // SAFETY: it belongs to an answer that lives.
    let error = unsafe { sys::rd_kafka_TopicDescription_error(topic) };
    if !error.is_null() {
        // SAFETY: it belongs to the same answer.
        let code = unsafe { sys::rd_kafka_error_code(error) };
        check(code)?;
    }
    // SAFETY: it belongs to an answer that lives.
    let id = unsafe { sys::rd_kafka_TopicDescription_topic_id(topic) };
    if id.is_null() {
        return Err(AdminError::TooOld);
    }
    // SAFETY: the id belongs to the same answer.
    let high = unsafe { sys::rd_kafka_Uuid_most_significant_bits(id) };
    // SAFETY: as above.
    let low = unsafe { sys::rd_kafka_Uuid_least_significant_bits(id) };
    if high == 0 && low == 0 {
        return Err(AdminError::TooOld);
    }
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high.to_be_bytes());
    id[8..].copy_from_slice(&low.to_be_bytes());
    let mut partitions = 0;
    // SAFETY: it belongs to an answer that lives; the count is written, and the array is not looked into.
    unsafe { sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions) };
    Ok(TopicShape { id, partitions: u32::try_from(partitions).unwrap_or(u32::MAX) })
}

/// Where the topic partitions begin or end, in the order asked for. The leaders are asked, each once.
///
/// A leader that was elected a moment ago answers only once it knows its end again (KIP-207), so no record that was
/// acknowledged before the call is left out.
pub fn offsets<C: ClientContext>(
    client: &Client<C>,
    of: &[(&str, i32)],
    end: End,
    timeout: Duration,
) -> Result<Vec<u64>, AdminError> {
    let spec = match end {
        End::Earliest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
        End::Latest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
    };
    // SAFETY: no argument but a hint.
    let list = unsafe { sys::rd_kafka_topic_partition_list_new(c_int::try_from(of.len()).unwrap_or(0)) };
    let list = Owned::new(list, sys::rd_kafka_topic_partition_list_destroy);
    for (topic, partition) in of {
        let topic = CString::new(*topic)?;
        // SAFETY: the list lives, the name is copied; a new element is what comes back, never null.
        let element =
            unsafe { sys::rd_kafka_topic_partition_list_add(list.as_ptr(), topic.as_ptr(), *partition) };
        // SAFETY: the element lives as long as the list does not grow.
        unsafe { (*element).offset = spec as i64 };
    }
    let op = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
    let answer = request(client, op, timeout, |client, options, queue| {
        // SAFETY: all four live; the library copies what it keeps.
        unsafe { sys::rd_kafka_ListOffsets(client, list.as_ptr(), options, queue) }
    })?;
    // SAFETY: the event is an answer to this kind of request.
    let result = unsafe { sys::rd_kafka_event_ListOffsets_result(answer.as_ptr()) };
    let mut count = 0;
    // SAFETY: the result is the event's, which lives; `count` is written.
    let infos = unsafe { sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count) };
    // SAFETY: the library says that there are so many, and they live as long as the event.
    let infos = unsafe { array(infos, count) };
    of.iter().map(|(topic, partition)| offset_of(infos, topic, *partition)).collect()
}

/// The answer for one topic partition; the leaders' answers come in any order.
fn offset_of(
    infos: &[*const sys::rd_kafka_ListOffsetsResultInfo_t],
    topic: &str,
    partition: i32,
) -> Result<u64, AdminError> {
    for info in infos {
        // SAFETY: the info belongs to an answer that lives.
        let found = unsafe { sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*info) };
        // SAFETY: what it holds lives as long, and is never null.
        let found = unsafe { &*found };
        // SAFETY: the library keeps a name there that ends in a null byte.
        let name = unsafe { CStr::from_ptr(found.topic) };
        if name.to_bytes() == topic.as_bytes() && found.partition == partition {
            check(found.err)?;
            // A leader that does not know its end yet may say so by an offset that is none.
            let unknown = AdminError::Kafka(RDKafkaErrorCode::OffsetNotAvailable);
            return u64::try_from(found.offset).map_err(|_| unknown);
        }
    }
    Err(AdminError::Kafka(RDKafkaErrorCode::UnknownPartition))
}

type Event = Owned<sys::rd_kafka_event_t>;

/// Sends a request and waits for the answer to it.
fn request<C: ClientContext>(
    client: &Client<C>,
    op: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_t, *const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Event, AdminError> {
    let client = client.native_ptr();
    // SAFETY: the client lives.
    let queue = Owned::new(unsafe { sys::rd_kafka_queue_new(client) }, sys::rd_kafka_queue_destroy);
    // SAFETY: the client lives.
    let options = unsafe { sys::rd_kafka_AdminOptions_new(client, op) };
    let options = Owned::new(options, sys::rd_kafka_AdminOptions_destroy);
    let timeout_ms = c_int::try_from(timeout.max(REQUEST_TIME_MIN).as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the options live, and no text of an error is asked for.
    let set = unsafe {
        sys::rd_kafka_AdminOptions_set_request_timeout(options.as_ptr(), timeout_ms, ptr::null_mut(), 0)
    };
    check(set)?;
    send(client, options.as_ptr(), queue.as_ptr());
    // The request ends with its time at the latest, and then with an error, so an answer comes before this does.
    let wait_ms = timeout_ms.saturating_add(ANSWER_MARGIN_MS).unsigned_abs();
    let event = answer(&queue, Duration::from_millis(wait_ms.into()))?;
    // SAFETY: the event lives.
    let code = unsafe { sys::rd_kafka_event_error(event.as_ptr()) };
    check(code)?;
    Ok(event)
}

/// Waits for what comes into a queue. Not by the library, which waits until a time of day: a clock that is set meanwhile would
/// end that at once, or an hour late.
fn answer(queue: &Owned<sys::rd_kafka_queue_t>, wait_max: Duration) -> Result<Event, AdminError> {
    let began = Instant::now();
    loop {
        // SAFETY: the queue lives.
        let event = unsafe { sys::rd_kafka_queue_poll(queue.as_ptr(), 0) };
        if !event.is_null() {
            return Ok(Owned::new(event, sys::rd_kafka_event_destroy));
        }
        if began.elapsed() >= wait_max {
            return Err(AdminError::Kafka(RDKafkaErrorCode::OperationTimedOut));
        }
        thread::sleep(ANSWER_PAUSE);
    }
}

fn check(code: sys::rd_kafka_resp_err_t) -> Result<(), AdminError> {
    match code {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(AdminError::Kafka(code.into())),
    }
}

/// An object of the library that is freed with this.
struct Owned<T> {
    object: NonNull<T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    /// `free` must be what the library says frees it.
    fn new(object: *mut T, free: unsafe extern "C" fn(*mut T)) -> Self {
        Self { object: NonNull::new(object).expect("the library gives null only for wrong arguments"), free }
    }

    fn as_ptr(&self) -> *mut T {
        self.object.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else frees it, and nobody has it after this.
        unsafe { (self.free)(self.object.as_ptr()) };
    }
}
