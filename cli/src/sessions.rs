use crate::args::{Reach, RowFormat};
use crate::config::Config;
use crate::evidence::Evidence;
use crate::output::Output;
use crate::rows;

pub(crate) async fn sessions(config: &Config, reach: &Reach, limit: u32) -> anyhow::Result<()> {
    let evidence = Evidence::reach(config, reach).await?;
    let written = async {
        let answer = evidence.sql(&statement(limit)).await?;
        rows::write(answer, RowFormat::Table, &mut Output::stdout()).await
    };
    let written = written.await;
    evidence.close().await?;
    written.map(|_rows| ())
}

fn statement(limit: u32) -> String {
    format!(
        "SELECT session_id, opened_at, principal, on_behalf_of, target, state, commands, client_address \
         FROM sessions ORDER BY opened_at DESC NULLS LAST LIMIT {limit}"
    )
}
