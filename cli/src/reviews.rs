//! `retrace reviews`, `retrace approve`, `retrace reject`: commands that wait for people.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray};
use futures::{StreamExt, stream};
use retrace_access::Keys;
use retrace_evidence::SigningKey;
use retrace_proto::wire::envelope::Payload;
use retrace_proto::wire::{CommandReceived, Parameter};
use retrace_proto::{Envelope, Id};
use retrace_query::{Client, Cut, ReviewRecord, ReviewShown, ReviewTermsRecord, SqlAnswer};
use retrace_replay::{safe, time};

use crate::args::{Decide, RowFormat, ShownReviews};
use crate::config::Config;
use crate::evidence::Evidence;
use crate::output::{self, Output};
use crate::rows;

pub(crate) async fn reviews(config: &Config, asked: ShownReviews) -> anyhow::Result<()> {
    let evidence = Evidence::reach(config, &asked.reach).await?;
    let outcome = async {
        let client = served(&evidence)?;
        match &asked.id {
            Some(id) => show(client, id).await,
            None => list(client, asked.all, asked.format).await,
        }
    };
    let outcome = outcome.await;
    evidence.close().await?;
    outcome
}

/// Approves or rejects; what it is about is shown first.
pub(crate) async fn decide(config: &Config, asked: Decide, approve: bool) -> anyhow::Result<()> {
    let evidence = Evidence::reach(config, &asked.reach).await?;
    let outcome = async {
        let client = served(&evidence)?;
        let id = find(client, &asked.id).await?;
        let shown = client.review(id).await?;
        output::remark(described(&shown).trim_end());
        if approve && (!shown.is_whole() || command(&shown).is_none()) {
            bail!(
                "the records of this command are not those that the review was asked for with, or some are missing: it was not \
                 approved. Look into it, and reject it until then"
            );
        }
        let key = asked.key.as_deref().filter(|_| shown.review.signs).map(signing_key).transpose()?;
        let decision = (approve, asked.reason.trim());
        let ordered = client.decide(&shown.review, decision, key.as_ref()).await?;
        let what = if approve { "approved" } else { "rejected" };
        output::remark(format_args!("{what}: the record is {} at offset {}", ordered.at, ordered.offset));
        Ok(())
    };
    let outcome = outcome.await;
    evidence.close().await?;
    outcome
}

/// Prints the public half of a reviewer's own key, made first if it is to be.
pub(crate) fn key(file: &Path, create: bool) -> anyhow::Result<()> {
    if create {
        Keys::create_review(file)?;
    }
    let mut out = Output::stdout();
    out.line(signing_key(file)?.public())?;
    out.flush()?;
    Ok(())
}

fn signing_key(file: &Path) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::from_seed(Keys::load_review(file)?.expose())?)
}

/// Takes a review back.
pub(crate) async fn withdraw(config: &Config, asked: Decide) -> anyhow::Result<()> {
    let evidence = Evidence::reach(config, &asked.reach).await?;
    let outcome = async {
        let client = served(&evidence)?;
        let ordered = client.withdraw_review(find(client, &asked.id).await?, &asked.reason).await?;
        output::remark(format_args!("withdrawn: the record is {} at offset {}", ordered.at, ordered.offset));
        Ok(())
    };
    let outcome = outcome.await;
    evidence.close().await?;
    outcome
}

fn served(evidence: &Evidence) -> anyhow::Result<&Client> {
    evidence.served().context("nothing serves, so nothing waits: start `retrace up` or `retrace query` first")
}

/// The review that `named` means: an id, or the begin of one.
async fn find(client: &Client, named: &str) -> anyhow::Result<Id> {
    if let Ok(id) = named.parse() {
        return Ok(id);
    }
    let reviews = client.reviews(true).await?;
    let mut ids =
        reviews.iter().map(|review| review.review_id).filter(|id| id.to_string().starts_with(named));
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => {
            bail!("no review that concerns you begins with {named}: `retrace reviews` lists those that do")
        }
        (Some(id), Some(other)) => {
            bail!("more than one review begins with {named}, such as {id} and {other}: give more of it")
        }
    }
}

async fn show(client: &Client, named: &str) -> anyhow::Result<()> {
    let shown = client.review(find(client, named).await?).await?;
    let mut out = Output::stdout();
    out.verbatim(&described(&shown))?;
    out.flush()?;
    Ok(())
}

/// A review with its command, as who decides is to see it: nothing in it is obeyed by a terminal.
fn described(shown: &ReviewShown) -> String {
    let ReviewShown { review, history, .. } = shown;
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11} {value}");
    };
    row("review", &format!("{} ({})", review.review_id, review.state));
    let behalf = match review.on_behalf_of.as_str() {
        "" => String::new(),
        name => format!(", on behalf of {}", safe::line(name)),
    };
    row("by", &format!("{}{behalf}, at {}", safe::line(&review.principal), safe::line(&review.target)));
    if let Some(session) = review.session_id {
        row("session", &session.to_string());
    }
    let (since, until) = (review.requested_at_unix_us, review.open_until_unix_us);
    row("open", &format!("from {} to {}", time::date_and_time(since), time::date_and_time(until)));
    for terms in &review.terms {
        row("held by", &held_by(terms));
    }
    let runs = if review.once { "one run" } else { "every run" };
    let grant = time::duration(u64::try_from(review.grant_us).unwrap_or(0));
    row("approval", &format!("is good for {runs} within {grant} of the last one that is needed"));
    if review.in_transaction {
        row("", "the client's transaction is open meanwhile, with its locks, or may be");
    }
    for decision in &review.decisions {
        let what = if decision.approves { "approved" } else { "rejected" };
        let why = match decision.reason.as_str() {
            "" => String::new(),
            reason => format!(": {}", safe::line(reason)),
        };
        row(
            what,
            &format!("by {} at {}{why}", safe::line(&decision.by), time::date_and_time(decision.at_unix_us)),
        );
    }
    push_command(&mut text, shown);
    push_said(&mut text, shown);
    if !history.is_empty() {
        text.push_str("\nwhat it did before, the latest first\n");
        for it in history {
            let [at, target, decision, statement] =
                [&it.at, &it.target, &it.decision, &it.statement].map(|text| safe::line(text));
            let _ = writeln!(text, "  {at}  {target}  {decision}  {statement}");
        }
    }
    text
}

fn held_by(terms: &ReviewTermsRecord) -> String {
    let reason = if terms.reason_required { ", with a reason" } else { "" };
    format!(
        "{}: {} ({} of {}{reason})",
        safe::line(&terms.rule),
        safe::line(&terms.text),
        terms.approvals,
        safe::line(&terms.reviewers.join(", "))
    )
}

fn push_command(text: &mut String, shown: &ReviewShown) {
    if !shown.is_whole() {
        text.push_str(
            "\nTHE COMMAND BELOW IS NOT WHOLE, OR NOT THE ONE THAT THE REVIEW WAS ASKED FOR WITH\n",
        );
    }
    let Some(command) = command(shown) else {
        text.push_str("\nits command is not on record yet\n");
        return;
    };
    text.push_str("\ncommand\n");
    let statement = command.statement.unwrap_or_default().text;
    // A carriage return ends a comment, too.
    for line in statement.split(['\n', '\r']) {
        let _ = writeln!(text, "  {}", safe::lines(line).collect::<String>());
    }
    for (index, parameter) in command.parameters.iter().enumerate() {
        let value = match &parameter.value {
            None => "NULL".to_owned(),
            Some(value) if parameter.hex => format!("bytes {}", safe::line(value)),
            Some(value) => format!("'{}'", safe::line(value)),
        };
        let _ = writeln!(text, "  ${} = {value}", index + 1);
    }
}

/// What may give it another meaning: a search path, a role, a temporary table.
fn push_said(text: &mut String, shown: &ReviewShown) {
    let count = shown.said_count();
    if count == 0 {
        return;
    }
    let _ = writeln!(
        text,
        "\nwhat its session said before that may give it another meaning, the first of {count}"
    );
    for event in &shown.said {
        let Ok(recorded) = Envelope::open(event.envelope.clone()) else { continue };
        match recorded.payload() {
            Payload::CommandReceived(received) => {
                let statement =
                    received.statement.as_ref().map(|text| text.text.as_str()).unwrap_or_default();
                let _ = writeln!(text, "  {}", safe::line(statement));
            }
            Payload::SessionOpened(opened) => {
                let said = opened.asserted.iter().map(|it| format!("{} = {}", it.name, it.value));
                let _ =
                    writeln!(text, "  at its login: {}", safe::line(&said.collect::<Vec<_>>().join(", ")));
            }
            _ => {}
        }
    }
}

/// The command as its records say it.
fn command(shown: &ReviewShown) -> Option<CommandReceived> {
    let mut command: Option<CommandReceived> = None;
    for event in &shown.command {
        let recorded = Envelope::open(event.envelope.clone()).ok()?;
        match (recorded.payload(), &mut command) {
            (Payload::CommandReceived(received), None) => command = Some(received.clone()),
            (Payload::CommandChunk(chunk), Some(command)) => {
                command.statement.get_or_insert_default().text.push_str(&chunk.statement);
                let index = chunk.parameter_index.and_then(|index| usize::try_from(index).ok());
                let continued: Option<&mut Parameter> =
                    index.and_then(|index| command.parameters.get_mut(index));
                if let Some(parameter) = continued {
                    parameter.value.get_or_insert_default().push_str(&chunk.parameter);
                }
                command.parameters.extend_from_slice(&chunk.parameters);
            }
            _ => return None,
        }
    }
    command
}

async fn list(client: &Client, all: bool, format: RowFormat) -> anyhow::Result<()> {
    let reviews = client.reviews(all).await?;
    if reviews.is_empty() && format == RowFormat::Table {
        output::remark("no review waits that concerns you");
    }
    let batch = batch(&reviews)?;
    let (schema, batches) = (batch.schema(), stream::iter([Ok(batch)]).boxed());
    let answer = SqlAnswer { cut: Cut::default(), removed: None, schema, batches };
    rows::write(answer, format, &mut Output::stdout()).await.map(drop)
}

fn batch(reviews: &[ReviewRecord]) -> anyhow::Result<RecordBatch> {
    let text = |of: &dyn Fn(&ReviewRecord) -> String| {
        Arc::new(reviews.iter().map(|review| Some(of(review))).collect::<StringArray>()) as ArrayRef
    };
    let time = |of: fn(&ReviewRecord) -> i64| {
        let times = reviews.iter().map(|review| Some(of(review))).collect::<TimestampMicrosecondArray>();
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    let approvals = |review: &ReviewRecord| {
        let needed = review.terms.iter().map(|terms| terms.approvals).max().unwrap_or(0);
        format!("{} of {needed}", review.decisions.iter().filter(|decision| decision.approves).count())
    };
    let you = |review: &ReviewRecord| match (review.is_own, review.may_decide) {
        (true, _) => "asked",
        (_, true) => "may decide",
        _ => "may look",
    };
    let held = |review: &ReviewRecord| {
        review.terms.iter().map(|terms| terms.text.as_str()).collect::<Vec<_>>().join("; ")
    };
    let columns = [
        ("review_id", text(&|review| review.review_id.to_string())),
        ("state", text(&|review| review.state.clone())),
        ("principal", text(&|review| review.principal.clone())),
        ("target", text(&|review| review.target.clone())),
        ("held_for", text(&held)),
        ("approved", text(&approvals)),
        ("you", text(&|review| you(review).to_owned())),
        ("requested_at", time(|review| review.requested_at_unix_us)),
        ("open_until", time(|review| review.open_until_unix_us)),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}
