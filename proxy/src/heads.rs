//! Heads of the open streams, signed into the instance's stream.

use std::sync::Arc;
use std::time::Duration;

use retrace_eventlog::{AppendError, InstanceStream, NextPlace};
use retrace_evidence::{HEADS_INTERVAL_US, HEADS_PER_EVENT_MAX, Head, Heads, Part, Place, SigningKey};
use retrace_proto::{Event, Subject};
use tokio::time::MissedTickBehavior;

use crate::streams::OpenStreams;

/// How often heads are signed.
const HEADS_INTERVAL: Duration = Duration::from_micros(HEADS_INTERVAL_US.unsigned_abs());

/// Says again and again, signed, where the streams of this process stand. A stream that later ends before its head was cut
/// off; a process that falls silent is gone.
#[derive(Debug)]
pub struct HeadSigner {
    /// The streams, see [`crate::Gateway::open_streams`].
    pub streams: OpenStreams,
    /// The stream of this process, where heads are recorded, and which they vouch for as well.
    pub instance: Arc<InstanceStream>,
    /// Signs.
    pub key: SigningKey,
}

impl HeadSigner {
    /// Signs heads at once, then every 10 seconds, and a last time when `stop` resolves. It should be stopped after
    /// whatever else writes to the instance's stream or opens streams, since its last word is that the instance stops.
    ///
    /// # Errors
    /// If heads do not become durable. The instance's stream is then poisoned, and the process should stop.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), AppendError> {
        self.run_every(HEADS_INTERVAL, stop).await
    }

    async fn run_every(self, interval: Duration, stop: impl Future<Output = ()>) -> Result<(), AppendError> {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.record(false).await?,
                () = &mut stop => return self.record(true).await,
            }
        }
    }

    /// Records where the streams stand now, in as many events as that takes.
    async fn record(&self, last: bool) -> Result<(), AppendError> {
        let heads = self.streams.take_heads();
        // One place in each event is for the instance's own stream.
        let mut parts: Vec<&[Head]> = heads.chunks(HEADS_PER_EVENT_MAX - 1).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let count = u32::try_from(parts.len()).expect("a process has fewer streams than that");
        let append = |(index, heads): (u32, &[Head])| {
            let part = Part { index, count, last };
            let event = |next| Event::stream_heads(self.sign(next, part, heads));
            self.instance.record_with(Subject::default(), event)
        };
        let appends: Vec<_> = (0..).zip(parts).map(append).collect();
        for append in appends {
            append.await?;
        }
        Ok(())
    }

    /// Signs one part. What stands before it in the instance's stream is in it too: if this event is in the log, so is
    /// that.
    fn sign(&self, next: NextPlace, part: Part, heads: &[Head]) -> retrace_proto::wire::StreamHeads {
        let stream_id = self.instance.stream_id();
        let NextPlace { seq, prev_hash, occurred_at_unix_us } = next;
        let mut heads = heads.to_vec();
        if let Some(hash) = prev_hash {
            let at = heads.partition_point(|head| head.stream_id < stream_id);
            heads.insert(at, Head::new(stream_id, seq, hash));
        }
        Heads::sign(&self.key, Place { stream_id, seq, occurred_at_unix_us }, part, &heads)
    }
}

#[cfg(test)]
mod tests {
    use retrace_eventlog::{EventLog, MemoryLog};
    use retrace_evidence::TrustedKeys;
    use retrace_proto::wire::{InstanceStarted, StreamHeads, envelope::Payload};
    use retrace_proto::{Envelope, Hash, Id, Recorded};
    use tokio::sync::oneshot;

    use super::*;

    const NOW_UNIX_US: i64 = MemoryLog::STARTS_AT_UNIX_US;

    fn id(number: u64) -> Id {
        Id::from_parts(number, [0; 10])
    }

    /// A process that has started, with its log.
    async fn process() -> (Arc<MemoryLog>, HeadSigner) {
        let log = Arc::new(MemoryLog::new());
        let instance = InstanceStream::open(log.clone(), "test".to_owned(), || NOW_UNIX_US, id(5));
        instance
            .record(Subject::default(), Event::instance_started(InstanceStarted::default()))
            .await
            .unwrap();
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        (log, HeadSigner { streams: OpenStreams::default(), instance: Arc::new(instance), key })
    }

    /// The heads events of the log, each opened and its signature checked.
    async fn recorded(
        log: &MemoryLog,
        signer: &TrustedKeys,
        at: &InstanceStream,
    ) -> Vec<(StreamHeads, Heads)> {
        let records = log.read(at.topic_partition(), 0, usize::MAX).await.unwrap();
        let events = records.into_iter().map(|record| Envelope::open(record.value).unwrap());
        let open = |event: Recorded| {
            let Payload::StreamHeads(wire) = event.payload() else { return None };
            let place = Place {
                stream_id: event.stream_id(),
                seq: event.header().stream_seq,
                occurred_at_unix_us: event.header().occurred_at_unix_us,
            };
            let heads = Heads::open(place, wire).unwrap();
            assert!(heads.root.is_signed_by(signer));
            Some((wire.clone(), heads))
        };
        events.filter_map(open).collect()
    }

    #[tokio::test]
    async fn heads_are_signed_again_and_again_and_a_last_time() {
        let (log, signer) = process().await;
        let trusted = [signer.key.public()].into_iter().collect();
        let (instance, streams) = (signer.instance.clone(), signer.streams.clone());
        let stream = streams.open(id(7));
        stream.moved(2, Hash::of(b"a"));
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(signer.run_every(Duration::from_millis(1), async { drop(stopped.await) }));
        let at = instance.topic_partition();
        // The instance's first event, then heads twice.
        log.wait_past(at, 2).await.unwrap();
        drop(stream);
        stop.send(()).unwrap();
        running.await.unwrap().unwrap();

        let all = recorded(&log, &trusted, &instance).await;
        assert!(all.len() >= 3, "{} events", all.len());
        let (first, last) = (&all[0], &all[all.len() - 1]);
        assert_eq!(first.1.heads.iter().map(|head| head.stream_id).collect::<Vec<_>>(), [id(5), id(7)]);
        assert_eq!((first.0.last, first.0.part_index, first.0.parts), (false, 0, 1));
        assert!(last.0.last && all[..all.len() - 1].iter().all(|(wire, _)| !wire.last));
        let final_heads =
            all.iter().flat_map(|(_, heads)| &heads.heads).filter(|head| head.stream_id == id(7));
        assert!(final_heads.clone().count() >= 2);
        assert!(
            final_heads
                .clone()
                .all(|head| head.end_exclusive == 2 && head.hash == *Hash::of(b"a").as_bytes())
        );
    }

    #[tokio::test]
    async fn heads_vouch_for_the_instances_own_stream() {
        let (log, signer) = process().await;
        let trusted = [signer.key.public()].into_iter().collect();
        signer.record(false).await.unwrap();
        signer.record(true).await.unwrap();
        let at = signer.instance.topic_partition();
        let records = log.read(at, 0, usize::MAX).await.unwrap();
        let own: Vec<Vec<Head>> = recorded(&log, &trusted, &signer.instance)
            .await
            .into_iter()
            .map(|(_, heads)| heads.heads)
            .collect();
        let head_of = |seq: usize| Head::new(id(5), seq as u64 + 1, Hash::of(&records[seq].value));
        assert_eq!(own, [[head_of(0)], [head_of(1)]]);
    }

    #[tokio::test]
    async fn more_heads_than_an_event_holds_go_on_in_further_ones() {
        let (log, signer) = process().await;
        let trusted = [signer.key.public()].into_iter().collect();
        let count = 2 * (HEADS_PER_EVENT_MAX - 1) as u64 + 1;
        let open: Vec<_> = (0..count).map(|number| (number, signer.streams.open(id(100 + number)))).collect();
        open.iter().for_each(|(number, stream)| stream.moved(number + 1, Hash::of(b"a")));
        signer.record(false).await.unwrap();
        let all = recorded(&log, &trusted, &signer.instance).await;
        let parts: Vec<_> = all.iter().map(|(wire, _)| (wire.part_index, wire.parts)).collect();
        assert_eq!(parts, [(0, 3), (1, 3), (2, 3)]);
        let named = all.iter().flat_map(|(_, heads)| &heads.heads).filter(|head| head.stream_id != id(5));
        assert_eq!(named.map(|head| head.end_exclusive).collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_log_that_fails_ends_it() {
        let (log, signer) = process().await;
        log.faults().fail_next(1, AppendError::Full);
        let outcome = signer.run(std::future::pending()).await;
        assert_eq!(outcome, Err(AppendError::Full));
    }
}
