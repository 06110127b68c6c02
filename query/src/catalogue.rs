//! `pg_catalog`, as far as PostgreSQL's clients need it to find their way: which tables there are and what columns they
//! have. It is made anew of the views for each statement that asks for it, so it cannot say anything else than they do.
//!
//! [`rewrite`] puts what clients ask with into words that the engine understands. It runs after every check of
//! [`crate::statement`] and adds no name of a table.

mod functions;
mod rewrite;
mod tables;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{CatalogProvider, MemorySchemaProvider, SchemaProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::prelude::SessionContext;

use crate::views;

pub(crate) use functions::all as functions;
pub(crate) use rewrite::rewrite;

/// The schema of this name, in which clients look.
const SCHEMA: &str = "pg_catalog";

/// The object id of the first table; PostgreSQL gives its users' tables ids from here on too.
const FIRST_TABLE_OID: i64 = 16_384;

/// Tables that are there for everybody, in the order of their object ids.
fn table_names() -> impl Iterator<Item = &'static str> {
    std::iter::once("events").chain(views::ALL.iter().map(|(name, _)| *name))
}

/// The object id of a table; `None` if there is none of this name.
fn oid_of(table: &str) -> Option<i64> {
    let index = table_names().position(|name| name == table)?;
    Some(FIRST_TABLE_OID + i64::try_from(index).expect("there are few tables"))
}

/// A table as the catalogue tells of it.
struct Described {
    oid: i64,
    name: &'static str,
    is_view: bool,
    schema: SchemaRef,
}

/// Makes the catalogue in a context that has the views.
pub(crate) async fn register(context: &SessionContext, principal: &str) -> Result<()> {
    let mut described = Vec::new();
    for name in table_names() {
        let schema = context.table_provider(name).await?.schema();
        let oid = oid_of(name).expect("it is one of the names");
        described.push(Described { oid, name, is_view: name != "events", schema });
    }
    let schema = MemorySchemaProvider::new();
    for (name, table) in tables::all(&described, principal)? {
        schema.register_table(name.to_owned(), table)?;
    }
    for name in ["current_user", "session_user", "user"] {
        context.register_udf(functions::constant(name, principal.to_owned()));
    }
    let no_catalog = || DataFusionError::Internal("the context has no catalog".to_owned());
    let catalog: Arc<dyn CatalogProvider> = context.catalog(crate::engine::CATALOG).ok_or_else(no_catalog)?;
    catalog.register_schema(SCHEMA, Arc::new(schema))?;
    Ok(())
}
