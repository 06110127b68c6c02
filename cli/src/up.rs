use crate::config::Config;

/// Runs gate, log, ingest and query in this process until it is told to stop.
pub(crate) async fn up(config: Config) -> anyhow::Result<()> {
    anyhow::bail!("{}: this build cannot serve", config.file().display())
}
