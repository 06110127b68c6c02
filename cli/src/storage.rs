use std::sync::Arc;

use anyhow::Context;
use retrace_eventlog::{EmbeddedLog, EmbeddedOptions, EventLog, KafkaLog};
use retrace_lake::Table;

use crate::config::{self, Config};

/// Opens the log that the configuration names.
pub(crate) async fn log(config: &Config) -> anyhow::Result<Arc<dyn EventLog>> {
    match &config.log {
        config::Log::Embedded(folder) => {
            let folder = folder.clone();
            let open = move || EmbeddedLog::open(&folder, &EmbeddedOptions::default());
            Ok(Arc::new(tokio::task::spawn_blocking(open).await??))
        }
        config::Log::Kafka(kafka) => {
            let options = kafka.resolve(config.dir()).context("[log.kafka.options]")?;
            let opened = KafkaLog::open(&options).await;
            Ok(Arc::new(opened.with_context(|| format!("{}: [log.kafka]", config.file().display()))?))
        }
    }
}

/// Opens the table that the configuration names.
pub(crate) async fn table(config: &Config) -> anyhow::Result<Table> {
    let location = config.lake.resolve(config.dir()).context("[lake.options]")?;
    let opened = Table::open_or_create(&location).await;
    opened.with_context(|| format!("{}: [lake]", config.file().display()))
}
