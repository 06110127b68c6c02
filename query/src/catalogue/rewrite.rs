use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, DataType, Expr, Ident, JoinOperator, ObjectName, ObjectNamePart, Query, Select,
    SelectItem, SetExpr, TableFactor, Value, VisitMut, VisitorMut,
};

use super::tables::EMPTY;
use super::{SCHEMA, oid_of};

/// Functions that the catalogue makes for the one who asks.
const OF_WHO_ASKS: [&str; 3] = ["current_user", "session_user", "user"];

/// Puts a statement of a PostgreSQL client into the engine's words. Gives whether it asks for the catalogue.
pub(crate) fn rewrite(statement: &mut Statement) -> bool {
    let mut rewriter = Rewriter { names_catalogue: false };
    match statement {
        Statement::Statement(statement) => drop(statement.visit(&mut rewriter)),
        Statement::Explain(explain) => return rewrite(&mut explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => {}
    }
    rewriter.names_catalogue
}

struct Rewriter {
    names_catalogue: bool,
}

impl VisitorMut for Rewriter {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if empty(&mut query.body) {
            self.names_catalogue = true;
            // What it ordered by is gone with the tables.
            query.order_by = None;
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if let Some(name) = catalogue_table(relation) {
            *relation = ObjectName::from(vec![Ident::new(SCHEMA), Ident::new(name)]);
            self.names_catalogue = true;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Collate { expr: inner, .. } => *expr = take(inner),
            // Of what clients gather into arrays, there is nothing here.
            Expr::Function(function) if is_array_of_subquery(function) => *expr = no_texts(),
            Expr::Function(function) => {
                if let Some(name) = in_catalogue(&function.name) {
                    function.name = ObjectName::from(vec![name]);
                }
                let name = function.name.to_string();
                self.names_catalogue |= OF_WHO_ASKS.contains(&name.to_ascii_lowercase().as_str());
            }
            Expr::BinaryOp { op, .. } => operator(op),
            Expr::Cast { expr: inner, data_type, .. } => {
                if let Some(oid) = relation_literal(inner, data_type) {
                    *expr = Expr::value(Value::Number(oid.to_string(), false));
                } else if let Some(known) = known_type(data_type) {
                    *data_type = known;
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_array_of_subquery(function: &ast::Function) -> bool {
    function.name.to_string().eq_ignore_ascii_case("array")
        && matches!(function.args, ast::FunctionArguments::Subquery(_))
}

/// A list of texts that is not there.
fn no_texts() -> Expr {
    let text = |value| Expr::value(value);
    let arguments = [text(Value::Null), text(Value::SingleQuotedString(",".to_owned()))];
    let arguments = arguments.map(|it| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(it)));
    let list = ast::FunctionArgumentList {
        duplicate_treatment: None,
        args: arguments.to_vec(),
        clauses: Vec::new(),
    };
    Expr::Function(ast::Function {
        name: ObjectName::from(vec![Ident::new("string_to_array")]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, Expr::value(Value::Null))
}

/// The name of a catalogue's table, with or without its schema.
fn catalogue_table(name: &ObjectName) -> Option<String> {
    let idents: Option<Vec<&Ident>> = name.0.iter().map(ObjectNamePart::as_ident).collect();
    match idents?.as_slice() {
        [name] if name.value.starts_with("pg_") => Some(name.value.clone()),
        [schema, name] if schema.value == SCHEMA => Some(name.value.clone()),
        _ => None,
    }
}

/// What `pg_catalog.name` names.
fn in_catalogue(name: &ObjectName) -> Option<Ident> {
    match name.0.as_slice() {
        [schema, name] if schema.as_ident()?.value == SCHEMA => name.as_ident().cloned(),
        _ => None,
    }
}

fn operator(op: &mut BinaryOperator) {
    let BinaryOperator::PGCustomBinaryOperator(names) = op else { return };
    let known = match names.last().map(String::as_str) {
        Some("~") => BinaryOperator::PGRegexMatch,
        Some("~*") => BinaryOperator::PGRegexIMatch,
        Some("!~") => BinaryOperator::PGRegexNotMatch,
        Some("!~*") => BinaryOperator::PGRegexNotIMatch,
        Some("~~") => BinaryOperator::PGLikeMatch,
        Some("=") => BinaryOperator::Eq,
        Some("<>") => BinaryOperator::NotEq,
        _ => return,
    };
    *op = known;
}

/// The last name of a type that the parser does not know.
fn custom_name(data_type: &DataType) -> Option<String> {
    let DataType::Custom(name, _) = data_type else { return None };
    Some(name.0.last()?.as_ident()?.value.to_ascii_lowercase())
}

fn known_type(data_type: &DataType) -> Option<DataType> {
    if matches!(data_type, DataType::Regclass) {
        return Some(DataType::Text);
    }
    Some(match custom_name(data_type)?.as_str() {
        "oid" | "xid" | "int8" => DataType::BigInt(None),
        "int4" => DataType::Int(None),
        "int2" => DataType::SmallInt(None),
        "bool" => DataType::Boolean,
        "text" | "name" | "char" | "varchar" | "regclass" | "regtype" | "regproc" | "regprocedure"
        | "regnamespace" | "regrole" => DataType::Text,
        _ => return None,
    })
}

/// `'commands'::regclass` is the table's object id.
fn relation_literal(expr: &Expr, data_type: &DataType) -> Option<i64> {
    let is_regclass = matches!(data_type, DataType::Regclass)
        || custom_name(data_type).is_some_and(|name| name == "regclass");
    let Expr::Value(value) = expr else { return None };
    let Value::SingleQuotedString(name) = &value.value else { return None };
    let name = name.rsplit('.').next().unwrap_or(name).trim_matches('"');
    is_regclass.then(|| oid_of(name).unwrap_or(0))
}

/// Makes a query that needs a row of a table which never has one into one without rows, so that the rest of it, which
/// may be beyond the engine, need not be planned. Gives whether it did.
fn empty(body: &mut SetExpr) -> bool {
    match body {
        SetExpr::Select(select) if needs_empty_table(select) => {
            empty_select(select);
            true
        }
        SetExpr::Query(query) => empty(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            let left = empty(left);
            empty(right) || left
        }
        _ => false,
    }
}

fn needs_empty_table(select: &Select) -> bool {
    let is_empty = |factor: &TableFactor| match factor {
        TableFactor::Table { name, .. } => {
            catalogue_table(name).is_some_and(|name| EMPTY.contains(&name.as_str()))
        }
        _ => false,
    };
    let is_inner = |operator: &JoinOperator| {
        matches!(operator, JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_))
    };
    select.from.iter().any(|from| {
        is_empty(&from.relation)
            || from.joins.iter().any(|join| is_inner(&join.join_operator) && is_empty(&join.relation))
    })
}

fn empty_select(select: &mut Select) {
    let text_null = || Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(Expr::value(Value::Null)),
        data_type: DataType::Text,
        array: false,
        format: None,
    };
    for (index, item) in select.projection.iter_mut().enumerate() {
        let alias = match item {
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.clone(),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => {
                names.last().cloned().unwrap_or_else(|| Ident::new("column"))
            }
            _ => Ident::new(format!("column{}", index + 1)),
        };
        *item = SelectItem::ExprWithAlias { expr: text_null(), alias };
    }
    select.from.clear();
    select.selection = Some(Expr::value(Value::Boolean(false)));
    select.group_by = ast::GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.having = None;
    select.distinct = None;
}
