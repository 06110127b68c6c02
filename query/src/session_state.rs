use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Int64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, Signature, Volatility,
};
use retrace_evidence::{SessionState, Stream, TrustedKeys};
use retrace_lake::session_day;
use retrace_proto::Id;

use crate::Removed;
use crate::heads::SignedHeads;

/// Before every day.
const ALL_DAYS: i32 = i32::MIN;

/// What the view calls the function.
const NAME: &str = "session_state";

/// What a part of a stream is folded into, by name and type, in order.
const PARTIAL: [(&str, DataType); 11] = [
    ("stream_id", DataType::Utf8),
    ("proxy_id", DataType::Utf8),
    ("events", DataType::Int64),
    ("end", DataType::Int64),
    ("links", DataType::Int64),
    ("end_hash", DataType::Binary),
    ("closed_seq", DataType::Int64),
    ("first_appended", DataType::Int64),
    ("last_appended", DataType::Int64),
    ("agrees", DataType::Boolean),
    ("first_day_kept", DataType::Int32),
];

/// The state of the sessions of one query.
///
/// Heads are in streams of instances, which a reader of their own evidence may not see. So they are read beside the query,
/// and enter it only through this aggregate, which is asked about streams whose rows the reader has.
#[derive(Clone, Debug)]
pub(crate) struct SessionStates(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: TrustedKeys,
    now_unix_us: i64,
    /// By retention class, the first day of which sessions are kept, in days since the Unix epoch.
    first_days_kept: BTreeMap<String, i32>,
    heads: OnceLock<SignedHeads>,
    /// Keyed at random, so that nobody can write hashes whose sums cancel.
    links: RandomState,
}

impl SessionStates {
    pub(crate) fn new(keys: TrustedKeys, now_unix_us: i64, removed: Option<&Removed>) -> Self {
        let (heads, links) = (OnceLock::new(), RandomState::new());
        let first_days_kept = removed.map(|removed| removed.first_days_kept.clone()).unwrap_or_default();
        Self(Arc::new(Inner { keys, now_unix_us, first_days_kept, heads, links }))
    }

    /// `session_state(stream_id, stream_seq, prev_hash, hash, event_type, appended_at, proxy_id, retention_class)`, over the events of one
    /// stream in any order.
    pub(crate) fn function(&self) -> AggregateUDF {
        use DataType::{Binary, Int64, Utf8};
        let signature =
            Signature::exact(vec![Utf8, Int64, Binary, Binary, Utf8, Int64, Utf8, Utf8], Volatility::Stable);
        AggregateUDF::new_from_impl(Function { states: self.clone(), signature })
    }

    /// Whether the plan judges sessions, so that heads must be read first.
    pub(crate) fn are_asked_by(plan: &LogicalPlan) -> Result<bool> {
        let mut asked = false;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::Aggregate(aggregate) = node {
                asked |= aggregate.aggr_expr.iter().any(is_ours);
            }
            Ok(if asked { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        Ok(asked)
    }

    /// Reads the heads in a context whose `events` has all rows.
    pub(crate) async fn read_heads(&self, context: &SessionContext) -> Result<()> {
        let Inner { keys, now_unix_us, heads, .. } = self.0.as_ref();
        let read = SignedHeads::read(context, keys.clone(), *now_unix_us).await?;
        // A second reading would be of the same rows.
        let _ = heads.set(read);
        Ok(())
    }
}

fn is_ours(expression: &Expr) -> bool {
    match expression {
        Expr::AggregateFunction(AggregateFunction { func, .. }) => func.name() == NAME,
        Expr::Alias(alias) => is_ours(&alias.expr),
        _ => false,
    }
}

#[derive(Debug)]
struct Function {
    states: SessionStates,
    signature: Signature,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.states.0, &other.states.0)
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        NAME.hash(state);
    }
}

impl AggregateUDFImpl for Function {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn accumulator(&self, _arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Found { states: self.states.clone(), part: Part::default() }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |(name, kind): (&str, DataType)| {
            Arc::new(Field::new(format_state_name(arguments.name, name), kind, true))
        };
        Ok(PARTIAL.into_iter().map(field).collect())
    }
}

/// A stream as far as its rows were seen.
#[derive(Debug)]
struct Found {
    states: SessionStates,
    part: Part,
}

/// What is kept of some rows of one stream; two parts make one, in any order.
#[derive(Clone, Debug, Default, PartialEq)]
struct Part {
    stream_id: Option<Id>,
    proxy_id: Option<String>,
    events: i64,
    /// One more than the highest number seen, and the hash of that event.
    end: i64,
    end_hash: Option<Vec<u8>>,
    /// Over all events: a keyed hash of (next number, hash), less one of (number, previous hash). In a whole chain all
    /// of them cancel but that of the last event.
    links: u64,
    closed_seq: Option<i64>,
    first_appended: Option<i64>,
    last_appended: Option<i64>,
    agrees: Option<bool>,
    /// The first day of which is kept what is of its class; of the one that keeps longest if it has several, so that no row that
    /// somebody adds makes it expire. [`ALL_DAYS`] where nothing of a class was removed; `None` before any row.
    first_day_kept: Option<i32>,
}

impl Part {
    fn merge(&mut self, other: Self) {
        self.stream_id = self.stream_id.or(other.stream_id);
        self.proxy_id = self.proxy_id.take().or(other.proxy_id);
        self.events += other.events;
        if other.end > self.end {
            (self.end, self.end_hash) = (other.end, other.end_hash);
        }
        self.links = self.links.wrapping_add(other.links);
        self.closed_seq = least(self.closed_seq, other.closed_seq);
        self.first_appended = least(self.first_appended, other.first_appended);
        self.last_appended = self.last_appended.max(other.last_appended);
        self.agrees = match (self.agrees, other.agrees) {
            (Some(one), Some(two)) => Some(one && two),
            (one, two) => one.or(two),
        };
        self.first_day_kept = least(self.first_day_kept, other.first_day_kept);
    }

    fn into_scalars(self) -> Vec<ScalarValue> {
        vec![
            ScalarValue::Utf8(self.stream_id.map(|id| id.to_string())),
            ScalarValue::Utf8(self.proxy_id),
            ScalarValue::Int64(Some(self.events)),
            ScalarValue::Int64(Some(self.end)),
            ScalarValue::Int64(Some(self.links.cast_signed())),
            ScalarValue::Binary(self.end_hash),
            ScalarValue::Int64(self.closed_seq),
            ScalarValue::Int64(self.first_appended),
            ScalarValue::Int64(self.last_appended),
            ScalarValue::Boolean(self.agrees),
            ScalarValue::Int32(self.first_day_kept),
        ]
    }

    fn from_row(columns: &[ArrayRef], row: usize) -> Self {
        let text = |column: usize| {
            let column = columns[column].as_string::<i32>();
            column.is_valid(row).then(|| column.value(row))
        };
        let number = |column| number(&columns[column], row);
        let (agrees, first_day_kept) = (columns[9].as_boolean(), columns[10].as_primitive::<Int32Type>());
        Self {
            stream_id: text(0).and_then(|id| id.parse().ok()),
            proxy_id: text(1).map(str::to_owned),
            events: number(2).unwrap_or(0),
            end: number(3).unwrap_or(0),
            links: number(4).unwrap_or(0).cast_unsigned(),
            end_hash: bytes(&columns[5], row).map(<[u8]>::to_vec),
            closed_seq: number(6),
            first_appended: number(7),
            last_appended: number(8),
            agrees: agrees.is_valid(row).then(|| agrees.value(row)),
            first_day_kept: first_day_kept.is_valid(row).then(|| first_day_kept.value(row)),
        }
    }
}

impl Found {
    fn link(&self, seq: i64, hash: Option<&[u8]>) -> u64 {
        self.states.0.links.hash_one((seq, hash))
    }

    /// One event of the stream.
    fn event(&self, columns: &[ArrayRef], row: usize, heads: &SignedHeads) -> Part {
        let text = |column: usize| {
            let column = columns[column].as_string::<i32>();
            column.is_valid(row).then(|| column.value(row))
        };
        let stream_id: Option<Id> = text(0).and_then(|id| id.parse().ok());
        // An event without a number is none that a writer made: it counts, and so the stream has too many.
        let seq = number(&columns[1], row).unwrap_or(-1);
        let (prev_hash, hash) = (bytes(&columns[2], row), bytes(&columns[3], row));
        let end = seq.saturating_add(1);
        let mut links = self.link(end, hash);
        if seq != 0 || prev_hash.is_some() {
            links = links.wrapping_sub(self.link(seq, prev_hash));
        }
        let appended = number(&columns[5], row);
        let head = stream_id.and_then(|id| heads.head(id));
        let covered_last = head.filter(|head| u64::try_from(end) == Ok(head.end_exclusive));
        Part {
            stream_id,
            proxy_id: text(6).map(str::to_owned),
            events: 1,
            end,
            end_hash: hash.map(<[u8]>::to_vec),
            links,
            closed_seq: (text(4) == Some("session_closed")).then_some(seq),
            first_appended: appended,
            last_appended: appended,
            agrees: covered_last.map(|head| hash == Some(&head.hash[..])),
            first_day_kept: Some(self.first_day_kept(text(7))),
        }
    }

    /// Whether retention removes what the stream wrote, as far as is known of when it began.
    ///
    /// What is left of one that was cut in two may be the younger part alone: heads that a trusted key signed when the other
    /// was still there tell that it is older. They are kept as long as any session is.
    fn may_expire(&self, stream_id: Id, heads: &SignedHeads) -> bool {
        let Part { first_day_kept: Some(first_day_kept), first_appended, .. } = &self.part else {
            return false;
        };
        let is_early = |taken_at_unix_us: i64| {
            session_day(stream_id, taken_at_unix_us).is_some_and(|day| day < *first_day_kept)
        };
        first_appended.is_some_and(is_early) || heads.named_early(stream_id, is_early)
    }

    fn first_day_kept(&self, retention_class: Option<&str>) -> i32 {
        let first_day = retention_class.and_then(|class| self.states.0.first_days_kept.get(class));
        first_day.copied().unwrap_or(ALL_DAYS)
    }

    fn judge(&self, heads: &SignedHeads) -> Option<SessionState> {
        let part = &self.part;
        let stream_id = part.stream_id?;
        let chained = part.links == self.link(part.end, part.end_hash.as_deref());
        let ends_closed = part.closed_seq.is_none_or(|seq| seq.saturating_add(1) == part.end);
        let stream = Stream {
            is_whole: part.events == part.end && chained && ends_closed,
            end_exclusive: u64::try_from(part.end).unwrap_or(0),
            is_closed: part.closed_seq.is_some(),
            agrees_with_head: part.agrees,
            first_appended_at_unix_us: part.first_appended.unwrap_or(i64::MIN),
            last_appended_at_unix_us: part.last_appended.unwrap_or(i64::MIN),
            may_expire: self.may_expire(stream_id, heads),
        };
        let instance = part.proxy_id.as_deref().and_then(|name| heads.instance(name));
        Some(SessionState::judge(&stream, &heads.witness(stream_id), instance, self.states.0.now_unix_us))
    }
}

impl Accumulator for Found {
    fn update_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let Some(heads) = self.states.0.heads.get() else { return without_heads() };
        for row in 0..columns[0].len() {
            let event = self.event(columns, row, heads);
            self.part.merge(event);
        }
        Ok(())
    }

    fn merge_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for row in 0..columns[0].len() {
            self.part.merge(Part::from_row(columns, row));
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.part.clone().into_scalars())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let Some(heads) = self.states.0.heads.get() else { return without_heads() };
        Ok(ScalarValue::Utf8(self.judge(heads).map(|state| state.name().to_owned())))
    }

    fn size(&self) -> usize {
        let part = &self.part;
        size_of::<Self>()
            + part.proxy_id.as_ref().map_or(0, String::capacity)
            + part.end_hash.as_ref().map_or(0, Vec::capacity)
    }
}

fn without_heads<T>() -> Result<T> {
    exec_err!("sessions are judged before heads were read")
}

fn number(column: &ArrayRef, row: usize) -> Option<i64> {
    let column = column.as_primitive::<Int64Type>();
    column.is_valid(row).then(|| column.value(row))
}

fn bytes(column: &ArrayRef, row: usize) -> Option<&[u8]> {
    let column = column.as_binary::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

fn least<T: Ord>(one: Option<T>, two: Option<T>) -> Option<T> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_comes_back_from_its_scalars_as_it_was_and_of_several_classes_the_longest_counts() {
        let part = |first_day_kept| Part { first_day_kept, events: 1, ..Part::default() };
        for first_day_kept in [None, Some(-1), Some(20_000)] {
            let scalars = part(first_day_kept).into_scalars();
            for (scalar, (name, data_type)) in scalars.iter().zip(PARTIAL) {
                assert_eq!(scalar.data_type(), data_type, "{name}");
            }
            let columns: Vec<ArrayRef> =
                scalars.iter().map(|scalar| scalar.to_array_of_size(1).unwrap()).collect();
            assert_eq!(Part::from_row(&columns, 0), part(first_day_kept));
        }
        for (one, other, longest) in
            [(None, Some(7), 7), (Some(7), Some(6), 6), (Some(ALL_DAYS), Some(7), ALL_DAYS)]
        {
            for (one, other) in [(one, other), (other, one)] {
                let mut merged = part(one);
                merged.merge(part(other));
                assert_eq!((merged.events, merged.first_day_kept), (2, Some(longest)));
            }
        }
    }
}
