//! Legal holds: setting and lifting them, and which there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use retrace_access::{Authenticated, HoldRight};
use retrace_eventlog::{EventLog, may_have_orders};
use retrace_evidence::{ControlKeys, HOLD_NAME_BYTES_MAX, HeldOn, HoldChange, Holds};
use retrace_lake::{RareRecords, Table};
use retrace_proto::log::{Topic, TopicPartition};
use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::legal_hold_set::On;
use retrace_proto::{Envelope, Event, HOLD_EVENTS, Id, Recorded, Subject};
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::time::{sleep, timeout};

use crate::control::{Commander, Ordered, about};
use crate::evidence::new_id;
use crate::{QueryError, wire};

/// Bytes of control records asked of the log at once.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// Holds that are set or lifted at a time: each waits for the table.
pub(crate) const HOLDS_AT_ONCE_MAX: usize = 8;

/// How long to wait for a record to come into the table.
const TABLE_WAIT_MAX: Duration = Duration::from_secs(60);

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// A legal hold as it is on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    /// Which.
    pub hold_id: Id,
    /// Whose evidence it keeps.
    pub on: HeldOn,
    /// Who set it, when and why, in the words of its record.
    pub set: HoldAct,
    /// Whether a trusted key signed these words. A hold counts whether or not.
    pub is_signed: bool,
    /// Who lifted it, when and why; `None` while it is in force.
    pub lifted: Option<HoldAct>,
    /// Whether the table has its record. Until then nobody who removes expired evidence need know of it.
    pub is_in_table: bool,
}

/// That a hold was set, or lifted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldAct {
    /// Who.
    pub by: String,
    /// When, in microseconds since the Unix epoch, by the query service's clock.
    pub at_unix_us: i64,
    /// Why, masked.
    pub reason: String,
}

/// A hold that was set or lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldOrdered {
    /// Which.
    pub hold_id: Id,
    /// Where its record stands.
    pub ordered: Ordered,
    /// Whether the table has the record. Only then it counts for certain.
    pub is_in_table: bool,
}

impl Commander {
    /// Keeps evidence whatever its age, if the caller may. Returns once the table has the record, or after a minute.
    pub(crate) async fn set_hold(
        &self,
        caller: &Authenticated,
        on: HeldOn,
        reason: &str,
    ) -> Result<HoldOrdered, QueryError> {
        may_hold(caller)?;
        let _permit = self.take_permit()?;
        let (on, session_id) = match on {
            HeldOn::Session(id) => (On::SessionId(id.to_bytes()), Some(id)),
            HeldOn::Principal(name) => (On::Principal(checked(name)?), None),
            HeldOn::Target(name) => (On::Target(checked(name)?), None),
        };
        let hold_id = new_id();
        let event = Event::legal_hold_set(hold_id, on, self.reason(reason)?);
        let ordered = self.order(Subject { session_id, ..about(caller) }, event).await?;
        Ok(self.settled(hold_id, ordered).await)
    }

    /// Keeps it no longer, if the caller may. Returns likewise, and before that finds out which holds there are, for as long as a
    /// query may take.
    pub(crate) async fn lift_hold(
        &self,
        caller: &Authenticated,
        hold_id: Id,
        reason: &str,
    ) -> Result<HoldOrdered, QueryError> {
        may_hold(caller)?;
        let _permit = self.take_permit()?;
        let reason = self.reason(reason)?;
        let ms_max = self.query_ms_max;
        let known = timeout(Duration::from_millis(ms_max), self.on_record.read());
        let known = known.await.map_err(|_elapsed| QueryError::HoldsUnknown { ms_max })??;
        let is_in_force = |hold: &HoldRecord| hold.hold_id == hold_id && hold.lifted.is_none();
        if !known.iter().any(is_in_force) {
            return Err(QueryError::NoSuchHold);
        }
        let ordered = self.order(about(caller), Event::legal_hold_lifted(hold_id, reason)).await?;
        Ok(self.settled(hold_id, ordered).await)
    }

    fn take_permit(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let permits = Arc::clone(&self.holds);
        permits.try_acquire_owned().map_err(|_full| QueryError::Busy { running_max: HOLDS_AT_ONCE_MAX })
    }

    /// The record stands whether or not the table can be read now, and however long that takes.
    async fn settled(&self, hold_id: Id, ordered: Ordered) -> HoldOrdered {
        let is_in_table = timeout(TABLE_WAIT_MAX, self.comes_into_table(ordered)).await.is_ok();
        HoldOrdered { hold_id, ordered, is_in_table }
    }

    async fn comes_into_table(&self, Ordered { at, offset }: Ordered) {
        let topic_id = self.log.topic_id(at.topic);
        loop {
            let snapshot = self.table.snapshot().await.ok();
            if snapshot.is_some_and(|it| it.position(topic_id, at.partition) > offset) {
                return;
            }
            sleep(LOOK_PAUSE).await;
        }
    }
}

pub(crate) fn may_hold(caller: &Authenticated) -> Result<(), QueryError> {
    match caller.principal.hold {
        HoldRight::All => Ok(()),
        HoldRight::None => Err(QueryError::HoldDenied { principal: caller.principal.name.clone() }),
    }
}

fn checked(name: String) -> Result<String, QueryError> {
    if name.is_empty() || name.len() > HOLD_NAME_BYTES_MAX {
        return Err(QueryError::NotHeldOn { bytes_max: HOLD_NAME_BYTES_MAX });
    }
    Ok(name)
}

/// The holds of log and table, for everybody in this process who asks for them.
#[derive(Debug)]
pub(crate) struct OnRecord {
    log: Arc<dyn EventLog>,
    table: Table,
    keys: ControlKeys,
    /// What files of the table have, which is read once. Who asks waits for who reads, and then finds it.
    found: Mutex<RareRecords>,
}

impl OnRecord {
    /// Nothing is read yet.
    pub(crate) fn new(log: Arc<dyn EventLog>, table: Table, keys: ControlKeys) -> Self {
        Self { log, table, keys, found: Mutex::new(RareRecords::new(&HOLD_EVENTS)) }
    }

    /// Every hold of which the log or the table has a record, lifted ones too, by id. It takes as long as log and table do: the
    /// caller has the deadline, and what was found until then stays found.
    ///
    /// Whether one is lifted is decided as whoever removes evidence decides it.
    pub(crate) async fn read(&self) -> Result<Vec<HoldRecord>, QueryError> {
        let Self { log, table, keys, found } = self;
        let (topic_id, partitions) = (log.topic_id(Topic::Control), log.partitions(Topic::Control));
        let within = |at| may_have_orders(at, partitions);
        let mut listed = Listed::default();
        let (snapshot, in_table) = {
            let mut found = found.lock().await;
            // Asked for once it is this one's turn, since an older version may have files that are gone by then.
            let snapshot = table.snapshot().await?;
            let in_table: Vec<_> = found.read(table, &snapshot, within).await?.cloned().collect();
            (snapshot, in_table)
        };
        for (at, value) in &in_table {
            listed.add(keys, (topic_id, at.partition), value, true);
        }
        let control = (0..partitions).map(|partition| TopicPartition { topic: Topic::Control, partition });
        for at in control.filter(|at| within(*at)) {
            let (mut next, end) = (snapshot.position(topic_id, at.partition), log.offsets(at).await?.end);
            while next < end {
                let records = log.read(at, next, READ_BYTES_MAX).await?;
                next += records.len().max(1) as u64;
                records
                    .iter()
                    .for_each(|record| listed.add(keys, (topic_id, at.partition), &record.value, false));
            }
        }
        Ok(listed.finish())
    }
}

/// Holds as their records are read.
#[derive(Default)]
struct Listed {
    holds: Holds,
    set: BTreeMap<(Id, HeldOn), (HoldAct, bool, bool)>,
    lifted: BTreeMap<Id, HoldAct>,
}

impl Listed {
    fn add(&mut self, keys: &ControlKeys, place: (Id, u32), value: &Bytes, is_in_table: bool) {
        let Ok(recorded) = Envelope::open(value.clone()) else { return };
        match self.holds.read(keys, place, &recorded) {
            Ok(Some(HoldChange::Set { hold_id, on, is_signed })) => {
                let set =
                    self.set.entry((hold_id, on)).or_insert_with(|| (act(&recorded), is_signed, is_in_table));
                // Of a record and its forgery the signed one is shown.
                if is_signed && !set.1 {
                    *set = (act(&recorded), true, is_in_table);
                }
            }
            Ok(Some(HoldChange::Lifted(id))) => {
                self.lifted.entry(id).or_insert_with(|| act(&recorded));
            }
            Ok(None) | Err(_) => {}
        }
    }

    fn finish(self) -> Vec<HoldRecord> {
        let Self { set, lifted, .. } = self;
        let record = |((hold_id, on), (set, is_signed, is_in_table))| {
            let lifted: Option<HoldAct> = lifted.get(&hold_id).cloned();
            HoldRecord { hold_id, on, set, is_signed, lifted, is_in_table }
        };
        set.into_iter().map(record).collect()
    }
}

fn act(recorded: &Recorded) -> HoldAct {
    let header = recorded.header();
    let by = header.principal.as_ref().map(|principal| principal.name.clone()).unwrap_or_default();
    let reason = match recorded.payload() {
        Payload::LegalHoldSet(hold) => hold.reason.clone(),
        Payload::LegalHoldLifted(hold) => hold.reason.clone(),
        _ => String::new(),
    };
    HoldAct { by, at_unix_us: header.occurred_at_unix_us, reason }
}

/// As it is asked for over the network; `None` if it is on nothing, or on no session.
pub(crate) fn held_on(on: wire::HeldOn) -> Option<HeldOn> {
    Some(match on.on? {
        wire::held_on::On::SessionId(id) => HeldOn::Session(id.parse().ok()?),
        wire::held_on::On::Principal(name) => HeldOn::Principal(name),
        wire::held_on::On::Target(name) => HeldOn::Target(name),
    })
}

pub(crate) fn held_on_to_wire(on: HeldOn) -> wire::HeldOn {
    let on = match on {
        HeldOn::Session(id) => wire::held_on::On::SessionId(id.to_string()),
        HeldOn::Principal(name) => wire::held_on::On::Principal(name),
        HeldOn::Target(name) => wire::held_on::On::Target(name),
    };
    wire::HeldOn { on: Some(on) }
}

impl HoldRecord {
    pub(crate) fn into_wire(self) -> wire::Hold {
        let Self { hold_id, on, set, is_signed, lifted, is_in_table } = self;
        wire::Hold {
            hold_id: hold_id.to_string(),
            on: Some(held_on_to_wire(on)),
            set: Some(set.into_wire()),
            lifted: lifted.map(HoldAct::into_wire),
            in_table: is_in_table,
            signed: is_signed,
        }
    }

    pub(crate) fn from_wire(hold: wire::Hold) -> Option<Self> {
        Some(Self {
            hold_id: hold.hold_id.parse().ok()?,
            on: held_on(hold.on?)?,
            set: HoldAct::from_wire(hold.set?),
            lifted: hold.lifted.map(HoldAct::from_wire),
            is_in_table: hold.in_table,
            is_signed: hold.signed,
        })
    }
}

impl HoldAct {
    fn into_wire(self) -> wire::HoldAct {
        wire::HoldAct { by: self.by, at_unix_us: self.at_unix_us, reason: self.reason }
    }

    fn from_wire(act: wire::HoldAct) -> Self {
        Self { by: act.by, at_unix_us: act.at_unix_us, reason: act.reason }
    }
}

#[cfg(test)]
mod tests {
    use retrace_proto::wire::StreamKind;
    use retrace_proto::{Masked, StreamWriter};

    use super::*;

    const HOLD: u8 = 7;

    fn id(byte: u8) -> Id {
        Id::from_parts(1, [byte; 10])
    }

    fn recorded(event: Event) -> Recorded {
        let mut stream = StreamWriter::new(id(1), StreamKind::Instance);
        let envelope = Envelope::seal(&mut stream, &Subject::default(), None, 1, event).unwrap();
        Envelope::open(envelope.bytes().clone()).unwrap()
    }

    fn set(on: On) -> Recorded {
        recorded(Event::legal_hold_set(id(HOLD), on, Masked::default()))
    }

    #[test]
    fn a_name_is_taken_exactly_if_who_removes_evidence_keeps_to_it() {
        for (bytes, is_one) in
            [(0, false), (1, true), (HOLD_NAME_BYTES_MAX, true), (HOLD_NAME_BYTES_MAX + 1, false)]
        {
            let name = "x".repeat(bytes);
            assert_eq!(checked(name.clone()).is_ok(), is_one, "{bytes} bytes");
            for on in [On::Principal(name.clone()), On::Target(name)] {
                let read = Holds::default().read(&ControlKeys::default(), (id(1), 0), &set(on));
                assert_eq!(read.unwrap().is_some(), is_one, "{bytes} bytes");
            }
        }
    }

    #[test]
    fn the_events_of_holds_are_called_as_the_table_calls_them() {
        let lifted = recorded(Event::legal_hold_lifted(id(HOLD), Masked::default()));
        let types = [set(On::SessionId(id(2).to_bytes())).event_type(), lifted.event_type()];
        assert_eq!(types, HOLD_EVENTS);
    }
}
