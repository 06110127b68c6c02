//! `retrace hold`: legal holds, by which evidence is kept from expiring.

use std::sync::Arc;

use anyhow::{Context, bail};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use futures::{StreamExt, TryStreamExt, stream};
use retrace_evidence::HeldOn;
use retrace_proto::Id;
use retrace_query::{Client, Cut, HoldOrdered, HoldRecord, SqlAnswer};

use crate::args::{Hold, HoldOn, RowFormat};
use crate::config::Config;
use crate::evidence::Evidence;
use crate::output::{self, Output};
use crate::rows;

pub(crate) async fn hold(config: &Config, hold: Hold) -> anyhow::Result<()> {
    let reach = match &hold {
        Hold::Set { reach, .. } | Hold::Lift { reach, .. } | Hold::List { reach, .. } => reach,
    };
    let evidence = Evidence::reach(config, reach).await?;
    let outcome = match &hold {
        Hold::Set { on, reason, .. } => set(&evidence, on, reason).await,
        Hold::Lift { id, reason, .. } => lift(&evidence, id, reason).await,
        Hold::List { all, format, .. } => list(&evidence, *all, *format).await,
    };
    evidence.close().await?;
    outcome
}

async fn set(evidence: &Evidence, on: &HoldOn, reason: &str) -> anyhow::Result<()> {
    let client = served(evidence)?;
    let on = match (&on.session, &on.principal, &on.target) {
        (Some(session), ..) => {
            HeldOn::Session(first_of(evidence, evidence.find_session(session).await?).await)
        }
        (_, Some(name), _) => HeldOn::Principal(name.clone()),
        (.., Some(name)) => HeldOn::Target(name.clone()),
        (None, None, None) => bail!("say what is held: --session, --principal or --target"),
    };
    let ordered = client.set_hold(on.clone(), reason).await?;
    output::remark(format_args!("hold {} on {} is on record", ordered.hold_id, text(&on)));
    settled(ordered, "it keeps what it is on, also what is still to come")?;
    // Who may set holds need not be one who may read.
    if let Ok(events) = count(evidence, &on).await {
        output::remark(match events {
            0 => "there is nothing on record that it keeps: see that the name is right".to_owned(),
            events => format!("{events} events are on record that it keeps"),
        });
    }
    Ok(())
}

/// The session that a connection began with: those that go on from it are held with it.
async fn first_of(evidence: &Evidence, session: Id) -> Id {
    let statement = format!("SELECT max(connection_id) FROM events WHERE stream_id = '{session}'");
    // Who may set holds need not be one who may read.
    let found = cell(evidence, &statement).await.ok().flatten().and_then(|id| id.parse().ok());
    let first = found.unwrap_or(session);
    if first != session {
        output::remark(format_args!(
            "session {session} goes on from {first}, which is held with all that goes on from it"
        ));
    }
    first
}

async fn lift(evidence: &Evidence, id: &str, reason: &str) -> anyhow::Result<()> {
    let client = served(evidence)?;
    let id: Id = id.parse().ok().context("not the id of a hold: `retrace hold list` shows the ids")?;
    let ordered = client.lift_hold(id, reason).await?;
    output::remark(format_args!("the lifting of hold {id} is on record"));
    settled(ordered, "what has expired and no other hold keeps is removed from now on")
}

fn served(evidence: &Evidence) -> anyhow::Result<&Client> {
    evidence
        .served()
        .context("nothing serves, so nobody signs the order: start `retrace up` or `retrace query` first")
}

/// Says whether the table has the record, or that nobody can be sure that it counts.
fn settled(ordered: HoldOrdered, then: &str) -> anyhow::Result<()> {
    if !ordered.is_in_table {
        bail!(
            "its record did not come into the table within a minute, and does not count for certain until then: see whether \
             ingest runs, and look again with `retrace hold list`"
        );
    }
    output::remark(format_args!("the table has its record: {then}"));
    Ok(())
}

async fn count(evidence: &Evidence, on: &HeldOn) -> anyhow::Result<u64> {
    let quoted = |name: &str| format!("'{}'", name.replace('\'', "''"));
    let held = match on {
        HeldOn::Session(id) => {
            format!("session_id = '{id}' OR stream_id = '{id}' OR connection_id = '{id}'")
        }
        HeldOn::Principal(name) => format!("principal = {0} OR on_behalf_of = {0}", quoted(name)),
        HeldOn::Target(name) => format!("target = {}", quoted(name)),
    };
    let count = cell(evidence, &format!("SELECT count(*) FROM events WHERE {held}")).await?;
    Ok(count.context("no count")?.parse()?)
}

/// The one cell that a statement answers with.
async fn cell(evidence: &Evidence, statement: &str) -> anyhow::Result<Option<String>> {
    let batches: Vec<_> = evidence.sql(statement).await?.batches.try_collect().await?;
    let mut cells = Vec::new();
    for batch in &batches {
        cells.extend(rows::texts(batch)?.into_iter().flatten());
    }
    Ok(cells.pop().flatten())
}

async fn list(evidence: &Evidence, all: bool, format: RowFormat) -> anyhow::Result<()> {
    let mut holds = evidence.holds().await?;
    holds.retain(|hold| all || hold.lifted.is_none());
    let batch = batch(&holds)?;
    let (schema, batches) = (batch.schema(), stream::iter([Ok(batch)]).boxed());
    let answer = SqlAnswer { cut: Cut::default(), removed: None, schema, batches };
    rows::write(answer, format, &mut Output::stdout()).await.map(drop)
}

fn batch(holds: &[HoldRecord]) -> anyhow::Result<RecordBatch> {
    type Text = fn(&HoldRecord) -> Option<String>;
    type Time = fn(&HoldRecord) -> Option<i64>;
    let text = |of: Text| Arc::new(holds.iter().map(of).collect::<StringArray>()) as ArrayRef;
    let time = |of: Time| {
        let times = holds.iter().map(of).collect::<TimestampMicrosecondArray>();
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    let flag = |of: fn(&HoldRecord) -> bool| {
        Arc::new(holds.iter().map(|hold| Some(of(hold))).collect::<BooleanArray>()) as ArrayRef
    };
    let columns = [
        ("hold_id", text(|hold| Some(hold.hold_id.to_string()))),
        ("held", text(|hold| Some(self::text(&hold.on)))),
        ("set_at", time(|hold| Some(hold.set.at_unix_us))),
        ("set_by", text(|hold| Some(hold.set.by.clone()))),
        ("reason", text(|hold| Some(hold.set.reason.clone()))),
        ("signed", flag(|hold| hold.is_signed)),
        ("in_table", flag(|hold| hold.is_in_table)),
        ("lifted_at", time(|hold| Some(hold.lifted.as_ref()?.at_unix_us))),
        ("lifted_by", text(|hold| Some(hold.lifted.as_ref()?.by.clone()))),
        ("lifted_because", text(|hold| Some(hold.lifted.as_ref()?.reason.clone()))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn text(on: &HeldOn) -> String {
    match on {
        HeldOn::Session(id) => format!("session {id}"),
        HeldOn::Principal(name) => format!("principal {name}"),
        HeldOn::Target(name) => format!("target {name}"),
    }
}
