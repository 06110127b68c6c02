use std::ops::ControlFlow;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;

use crate::as_of::{self, AsOf};
use crate::right::Right;
use crate::{QueryError, catalogue};

/// Deepest nesting of a statement, in levels of the parser.
const STATEMENT_LEVELS_MAX: usize = 50;

/// Most times that a statement may name tables, its own WITH queries included. A WITH query that is named twice is planned
/// twice, so n names make a plan of up to e^(n/e) parts, and planning cannot be interrupted.
const TABLE_NAMES_MAX: usize = 24;

/// Most nodes of a statement's plan, views and shared parts counted each time they stand in it. Planning cannot be
/// interrupted, so a short text must not be able to make it long.
const PLAN_NODES_MAX: usize = 2_000;

const ALLOWED: &str =
    "only SELECT, WITH, VALUES, EXPLAIN, SHOW and DESCRIBE read evidence, and nothing writes it";

/// Most parameters of a statement.
pub(crate) const PARAMETERS_MAX: usize = 256;

/// A statement that may be planned.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    /// Whether it asks the catalogue that PostgreSQL's clients know.
    pub(crate) names_catalogue: bool,
    /// Which rows there are for it.
    pub(crate) as_of: AsOf,
}

/// Parses the one statement that `text` may hold and refuses whatever does not read.
///
/// This is the first of three walls: what gets by is checked again as a plan ([`check_plan`]), and the engine that runs
/// the plan has no way to reach a file, another store or the network.
pub(crate) fn parse(text: &str, right: &Right) -> Result<Parsed, QueryError> {
    let (text, as_of) = as_of::split(text)?;
    let mut statements = DFParserBuilder::new(text)
        .with_recursion_limit(STATEMENT_LEVELS_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(QueryError::from_statement)?;
    let (Some(mut statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return refused("send exactly one statement");
    };
    check(&statement, right)?;
    let names_catalogue = catalogue::rewrite(&mut statement);
    Ok(Parsed { statement, names_catalogue, as_of })
}

fn check(statement: &Statement, right: &Right) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(statement) => check_sql(statement, right),
        Statement::Explain(explain) => {
            check_explain(explain.options.analyze, right)?;
            check(&explain.statement, right)
        }
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => refused(ALLOWED),
    }
}

fn check_sql(statement: &ast::Statement, right: &Right) -> Result<(), QueryError> {
    check_table_names(statement)?;
    match statement {
        ast::Statement::Query(_)
        | ast::Statement::ShowVariable { .. }
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowFunctions { .. }
        | ast::Statement::ShowCreate { .. }
        | ast::Statement::ExplainTable { .. } => Ok(()),
        ast::Statement::Explain { describe_alias, analyze, statement, .. } => {
            if *describe_alias == ast::DescribeAlias::Explain {
                check_explain(*analyze, right)?;
            }
            check_sql(statement, right)
        }
        _ => refused(ALLOWED),
    }
}

fn check_table_names(statement: &ast::Statement) -> Result<(), QueryError> {
    let mut names = 0;
    let counted = ast::visit_relations(statement, |_name| {
        names += 1;
        if names > TABLE_NAMES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match counted {
        ControlFlow::Break(()) => refused("the statement names too many tables to plan: join fewer"),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// A plan tells how the whole table is stored, rows of others included; what ANALYZE counts would tell even more.
fn check_explain(analyze: bool, right: &Right) -> Result<(), QueryError> {
    match (analyze, right) {
        (true, _) => refused("EXPLAIN ANALYZE is not available: use EXPLAIN"),
        (false, Right::Own(_)) => {
            refused("EXPLAIN shows how the evidence of everybody is stored: it needs evidence = \"all\"")
        }
        (false, Right::All) => Ok(()),
    }
}

/// Refuses a plan that does anything but read, or that is too large to optimise.
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<(), QueryError> {
    let read_only =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    // The size first: the walk that checks the rest takes as long as the plan is large.
    let mut nodes = 0;
    let mut is_analyze = false;
    plan.apply_with_subqueries(|node| {
        nodes += 1;
        is_analyze |= matches!(node, LogicalPlan::Analyze(_));
        Ok(if nodes > PLAN_NODES_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(QueryError::from_statement)?;
    if nodes > PLAN_NODES_MAX {
        return refused("the statement is too large to plan: join fewer tables");
    }
    if is_analyze {
        return refused(ALLOWED);
    }
    read_only.verify_plan(plan).or_else(|_| refused(ALLOWED))
}

fn refused<T>(why: &str) -> Result<T, QueryError> {
    Err(QueryError::Refused(why.to_owned()))
}
