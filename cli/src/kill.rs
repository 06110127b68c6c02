use std::time::Duration;

use anyhow::bail;
use futures::TryStreamExt;
use retrace_proto::Id;
use retrace_query::Ordered;
use tokio::time::{Instant, sleep};

use crate::args::Kill;
use crate::config::Config;
use crate::evidence::Evidence;
use crate::output;

/// How long to look whether the order was obeyed.
const OBEYED_WAIT_MAX: Duration = Duration::from_secs(10);

/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Orders the end of a session, or of a token, and says what became of it.
pub(crate) async fn kill(config: &Config, kill: Kill) -> anyhow::Result<()> {
    let evidence = Evidence::reach(config, &kill.reach).await?;
    let outcome = order(&evidence, &kill).await;
    evidence.close().await?;
    outcome
}

async fn order(evidence: &Evidence, kill: &Kill) -> anyhow::Result<()> {
    let Some(client) = evidence.served() else {
        bail!("nothing serves, so there is no session to end: sessions end with the gate that has them");
    };
    match (&kill.session, &kill.token) {
        (Some(session), _) => {
            let session = evidence.find_session(session).await?;
            say(client.kill(session, &kill.reason).await?);
            let obeyed = wait(evidence, session).await?;
            output::remark(format_args!("session {session} {obeyed}"));
        }
        (None, Some(token)) => {
            say(client.revoke_token(token, &kill.reason).await?);
            output::remark(format_args!(
                "token {token} is taken no longer, and its sessions end; `retrace token revoke {token}` writes it into \
                 tokens.toml, which every machine must have within 30 days"
            ));
        }
        (None, None) => unreachable!("the arguments ask for one of the two"),
    }
    Ok(())
}

fn say(Ordered { at, offset }: Ordered) {
    output::remark(format_args!("ordered: the record is {at} at offset {offset}"));
}

/// Looks into the evidence for what became of an order.
async fn wait(evidence: &Evidence, session: Id) -> anyhow::Result<&'static str> {
    let mut session = session.to_string();
    let deadline = Instant::now() + OBEYED_WAIT_MAX;
    loop {
        let statement =
            format!("SELECT state, close_reason, continued_by FROM sessions WHERE session_id = '{session}'");
        let Ok(answer) = evidence.sql(&statement).await else {
            // Who may end sessions need not be one who may read of them.
            return Ok(
                "ends as soon as its gate reads the order, if it is alive and the session is yours to end",
            );
        };
        let batches: Vec<_> = answer.batches.try_collect().await?;
        let mut rows = Vec::new();
        for batch in &batches {
            rows.extend(crate::rows::texts(batch)?);
        }
        let row: Vec<Option<String>> = rows.pop().unwrap_or_default();
        match row.iter().map(Option::as_deref).collect::<Vec<_>>()[..] {
            [_, Some("killed"), _] => return Ok("was killed"),
            [_, Some("rolled"), Some(next)] => session = next.to_owned(),
            [_, Some("rolled"), None] if Instant::now() < deadline => sleep(LOOK_PAUSE).await,
            [_, Some(_), _] => return Ok("had ended by itself"),
            [] => {
                return Ok(
                    "is not in the evidence that you may read: if there is one of this id, its gate ends it",
                );
            }
            [Some("lost"), ..] => return Ok("is lost: its gate is gone"),
            _ if Instant::now() >= deadline => {
                return Ok(
                    "has not ended yet: its gate ends it as soon as it reads the order, if it is alive and the \
                           session is yours to end",
                );
            }
            _ => sleep(LOOK_PAUSE).await,
        }
    }
}
