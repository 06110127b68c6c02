use std::io::Read;

use anyhow::{Context, bail};
use retrace_query::SqlAnswer;

use crate::args::{Reach, RowFormat};
use crate::config::Config;
use crate::evidence::Evidence;
use crate::output::{self, Output};
use crate::rows;
use crate::shell;

/// Longest statement read from stdin, in bytes; the service takes less.
const STATEMENT_BYTES_MAX: u64 = 1024 * 1024;

pub(crate) async fn sql(
    config: &Config,
    reach: &Reach,
    format: RowFormat,
    statement: Option<String>,
) -> anyhow::Result<()> {
    let statement = match statement {
        None => return Box::pin(shell::shell(config, reach, format)).await,
        Some(statement) if statement == "-" => read_stdin()?,
        Some(statement) => statement,
    };
    let evidence = Evidence::reach(config, reach).await?;
    let written = write(&evidence, &statement, format).await;
    evidence.close().await?;
    written
}

async fn write(evidence: &Evidence, statement: &str, format: RowFormat) -> anyhow::Result<()> {
    let answer = evidence.sql(statement).await?;
    let (seen, removed) = (seen(&answer), answer.removed.clone());
    rows::write(answer, format, &mut Output::stdout()).await?;
    if format == RowFormat::Table {
        output::remark(seen);
    } else if let Some(removed) = removed {
        // Whoever exports an answer is told what it lacks, too.
        output::remark(removed);
    }
    Ok(())
}

/// Which events an answer is made of, and which it is not.
pub(crate) fn seen(answer: &SqlAnswer) -> String {
    let mut seen = format!("every event with {}", answer.cut);
    if let Some(removed) = &answer.removed {
        seen.push_str(&format!("; {removed}"));
    }
    seen
}

fn read_stdin() -> anyhow::Result<String> {
    let mut statement = String::new();
    let mut stdin = std::io::stdin().lock().take(STATEMENT_BYTES_MAX + 1);
    stdin.read_to_string(&mut statement).context("cannot read the statement from stdin")?;
    if statement.len() as u64 > STATEMENT_BYTES_MAX {
        bail!("the statement on stdin is longer than {STATEMENT_BYTES_MAX} bytes");
    }
    Ok(statement)
}
