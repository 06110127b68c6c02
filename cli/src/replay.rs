use std::process::ExitCode;

use anyhow::{Context, bail};
use futures::StreamExt;
use retrace_proto::Id;
use retrace_query::{EventsAnswer, Removed};
use retrace_replay::{Damage, Pace, Player, Record, Timeline, json};

use crate::args::{Replay, ReplayFormat};
use crate::config::Config;
use crate::evidence::Evidence;
use crate::output::{self, Output};

/// Largest session that is replayed, in bytes of its records: they are held in memory while it plays.
const SESSION_BYTES_MAX: usize = 1024 * 1024 * 1024;

pub(crate) async fn replay(config: &Config, asked: Replay) -> anyhow::Result<ExitCode> {
    let evidence = Evidence::reach(config, &asked.reach).await?;
    let read = read(&evidence, &asked.session).await;
    evidence.close().await?;
    let (timeline, removed) = read?;
    let mut out = Output::stdout();
    match asked.format {
        ReplayFormat::Json => write_json(&timeline, &mut out)?,
        ReplayFormat::Text => {
            let pace = pace(&asked, out.is_terminal());
            play(&timeline, pace, &mut out).await?;
        }
    }
    let damages = timeline.damages().filter(|damage| is_damaged(damage)).count();
    if damages == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(removed) = removed {
        output::remark(removed);
    }
    output::remark(format_args!(
        "retrace: the record of this session is incomplete or was changed: {damages} places are marked above"
    ));
    Ok(ExitCode::FAILURE)
}

/// A session, and what its record may lack because it was removed.
async fn read(evidence: &Evidence, named: &str) -> anyhow::Result<(Timeline, Option<Removed>)> {
    let session = evidence.find_session(named).await?;
    let EventsAnswer { mut events, removed, .. } = evidence.session(session).await?;
    let mut records = Vec::new();
    let mut bytes = 0;
    while let Some(event) = events.next().await {
        let event = event.with_context(|| format!("cannot read session {session} whole"))?;
        bytes += event.envelope.len();
        if bytes > SESSION_BYTES_MAX {
            return Err(too_large(session));
        }
        records.push(Record {
            offset: event.offset,
            appended_at_unix_us: event.appended_at_unix_us,
            envelope: event.envelope,
        });
    }
    if records.is_empty() {
        let removed = removed.map_or_else(String::new, |removed| format!("; {removed}"));
        bail!("there is no session {session} that you may read{removed}");
    }
    Ok((Timeline::from_records(records), removed))
}

fn too_large(session: Id) -> anyhow::Error {
    anyhow::anyhow!(
        "the records of session {session} are larger than {SESSION_BYTES_MAX} bytes: read it in parts with `retrace sql`"
    )
}

fn pace(asked: &Replay, is_terminal: bool) -> Pace {
    match asked.speed {
        Some(pace) => pace,
        None if asked.instant || !is_terminal => Pace::INSTANT,
        None => Pace::REAL,
    }
}

async fn play(timeline: &Timeline, pace: Pace, out: &mut Output) -> anyhow::Result<()> {
    for beat in Player::new(timeline, out.look(), pace) {
        if !beat.delay.is_zero() {
            out.flush()?;
            tokio::time::sleep(beat.delay).await;
        }
        out.text(&beat.text)?;
    }
    out.flush()?;
    Ok(())
}

fn write_json(timeline: &Timeline, out: &mut Output) -> anyhow::Result<()> {
    for item in timeline.items() {
        out.verbatim(&json::object(item).to_string())?;
        out.text("\n")?;
    }
    out.flush()?;
    Ok(())
}

/// An open end may just be a session that goes on, and a record kept twice is no loss.
fn is_damaged(damage: &Damage) -> bool {
    !matches!(damage, Damage::MissingEnd { .. } | Damage::Duplicate { .. })
}
