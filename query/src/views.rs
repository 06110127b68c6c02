use std::sync::Arc;

use datafusion::datasource::view::ViewTable;
use datafusion::error::Result;
use datafusion::prelude::SessionContext;

use crate::session_state::SessionStates;

/// The read models, each a statement over `events` in a file of its own, with its columns explained there.
///
/// Their names and columns are a public contract like the table's. None of them shows duplicates or dead letters; those
/// are rows of `events`, by `row_kind`.
pub(crate) const ALL: [(&str, &str); 4] = [
    ("sessions", include_str!("views/sessions.sql")),
    ("commands", include_str!("views/commands.sql")),
    ("responses", include_str!("views/responses.sql")),
    ("masked_values", include_str!("views/masked_values.sql")),
];

/// Makes the views in a context that has `events`. Only they can call the function that judges sessions: it knows of
/// streams that the reader may not see.
pub(crate) async fn register(context: &SessionContext, states: &SessionStates) -> Result<()> {
    let with_states = SessionContext::new_with_state(context.state());
    with_states.register_udaf(states.function());
    for (name, sql) in ALL {
        let plan = with_states.state().create_logical_plan(sql).await?;
        context.register_table(name, Arc::new(ViewTable::new(plan, Some(sql.to_owned()))))?;
    }
    Ok(())
}
