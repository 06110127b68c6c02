//! Statements: what each does, and its facts.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, RawStmt, VariableSetKind, VariableSetStmt};

use super::expression::{At, constant_text};
use super::query::Walk;
use super::verb::{definition, verb};
use super::words::words;
use super::{Clause, Place, SettingFacts, Shape, StatementFacts, StatementKind, copy};

pub(super) fn statement(sql: &str, raw: &RawStmt) -> StatementFacts {
    let mut walk = Walk::default();
    let node = raw.stmt.as_ref().and_then(|node| node.node.as_ref());
    let kind = node.map_or(StatementKind::Unknown, |node| walk.statement(node));
    let kind = if walk.unknown { StatementKind::Unknown } else { kind };
    let of_words = matches!(
        kind,
        StatementKind::Definition
            | StatementKind::CreateTableAs
            | StatementKind::CreateTableAsExecute { .. }
            | StatementKind::Code
            | StatementKind::Housekeeping
            | StatementKind::Vacuum { .. }
            | StatementKind::Lock
            | StatementKind::Truncate
            | StatementKind::Drop
    );
    StatementFacts {
        kind,
        verb: node.map_or("", verb),
        levels: walk.levels,
        functions: walk.functions,
        operators: walk.operators,
        types: walk.types,
        words: of_words.then(|| words(text_of(sql, raw))),
    }
}

/// The text of one statement; a length of zero goes to the end.
fn text_of<'a>(sql: &'a str, raw: &RawStmt) -> &'a str {
    let start = usize::try_from(raw.stmt_location).unwrap_or(0);
    let end = match usize::try_from(raw.stmt_len) {
        Ok(length) if length > 0 => start + length,
        _ => sql.len(),
    };
    // Should the parser's places not be borders of characters, the whole text says more and not less.
    sql.get(start..end).unwrap_or(sql)
}

impl Walk {
    fn statement(&mut self, node: &NodeEnum) -> StatementKind {
        match node {
            NodeEnum::SelectStmt(select) => {
                self.select(None, Place::Outermost, select);
                if select.into_clause.is_some() {
                    StatementKind::CreateTableAs
                } else {
                    StatementKind::Select
                }
            }
            NodeEnum::InsertStmt(insert) => {
                self.insert(None, Place::Outermost, insert);
                StatementKind::Insert
            }
            NodeEnum::UpdateStmt(update) => {
                self.update(None, Place::Outermost, update);
                StatementKind::Update
            }
            NodeEnum::DeleteStmt(delete) => {
                self.delete(None, Place::Outermost, delete);
                StatementKind::Delete
            }
            NodeEnum::MergeStmt(merge) => {
                self.merge(None, Place::Outermost, merge);
                StatementKind::Merge
            }
            NodeEnum::CopyStmt(statement) => {
                if let Some(query) = statement.query.as_deref() {
                    self.query(None, Place::Outermost, query);
                }
                if let Some(condition) = statement.where_clause.as_deref() {
                    self.copy_condition(statement.relation.as_ref(), condition);
                }
                StatementKind::Copy(Box::new(copy::copy(statement)))
            }
            NodeEnum::ExplainStmt(explain) => {
                let inner = self.inner(explain.query.as_deref());
                StatementKind::Explain { analyze: explains_by_running(&explain.options), inner }
            }
            NodeEnum::PrepareStmt(prepare) => {
                for argument in &prepare.argtypes {
                    match &argument.node {
                        Some(NodeEnum::TypeName(name)) => self.prepared_type(name),
                        _ => self.unknown = true,
                    }
                }
                StatementKind::Prepare {
                    name: prepare.name.clone(),
                    inner: self.inner(prepare.query.as_deref()),
                }
            }
            NodeEnum::ExecuteStmt(execute) => {
                let level = self.level(None, Place::Outermost, Shape::Expressions);
                self.each(At::new(level, Clause::Argument), &execute.params);
                StatementKind::Execute { name: execute.name.clone() }
            }
            NodeEnum::DeclareCursorStmt(cursor) => {
                self.inner(cursor.query.as_deref());
                StatementKind::DeclareCursor { name: cursor.portalname.clone() }
            }
            NodeEnum::CreateTableAsStmt(create) => match self.inner(create.query.as_deref()).as_ref() {
                StatementKind::Select => StatementKind::CreateTableAs,
                StatementKind::Execute { name } => StatementKind::CreateTableAsExecute { name: name.clone() },
                _ => StatementKind::Unknown,
            },
            NodeEnum::ViewStmt(view) => match self.inner(view.query.as_deref()).as_ref() {
                StatementKind::Select => StatementKind::CreateTableAs,
                _ => StatementKind::Unknown,
            },
            _ => self.session_statement(node),
        }
    }

    /// Statements about the session, and definitions.
    fn session_statement(&mut self, node: &NodeEnum) -> StatementKind {
        match node {
            NodeEnum::TransactionStmt(_) => StatementKind::Transaction,
            NodeEnum::VariableSetStmt(set) => self.setting(set),
            NodeEnum::VariableShowStmt(_) => StatementKind::Show,
            NodeEnum::DeallocateStmt(deallocate) => StatementKind::Deallocate {
                name: (!deallocate.isall && !deallocate.name.is_empty()).then(|| deallocate.name.clone()),
            },
            NodeEnum::FetchStmt(fetch) if fetch.ismove => {
                StatementKind::Move { name: fetch.portalname.clone() }
            }
            NodeEnum::FetchStmt(fetch) => StatementKind::Fetch { name: fetch.portalname.clone() },
            NodeEnum::ClosePortalStmt(_) => StatementKind::ClosePortal,
            NodeEnum::ListenStmt(_) => StatementKind::Listen,
            NodeEnum::NotifyStmt(_) => StatementKind::Notify,
            NodeEnum::UnlistenStmt(_) => StatementKind::Unlisten,
            NodeEnum::LockStmt(_) => StatementKind::Lock,
            NodeEnum::CallStmt(_) => StatementKind::Call,
            NodeEnum::DoStmt(_) => StatementKind::Do,
            NodeEnum::VacuumStmt(vacuum) => StatementKind::Vacuum { analyze_only: !vacuum.is_vacuumcmd },
            NodeEnum::TruncateStmt(_) => StatementKind::Truncate,
            NodeEnum::DropStmt(_)
            | NodeEnum::DropRoleStmt(_)
            | NodeEnum::DropOwnedStmt(_)
            | NodeEnum::DropTableSpaceStmt(_)
            | NodeEnum::DropUserMappingStmt(_)
            | NodeEnum::DropSubscriptionStmt(_)
            | NodeEnum::DropdbStmt(_) => StatementKind::Drop,
            NodeEnum::DiscardStmt(_) => StatementKind::Discard,
            _ => definition(node),
        }
    }

    fn inner(&mut self, query: Option<&Node>) -> Box<StatementKind> {
        let kind = query.and_then(|query| query.node.as_ref()).map(|node| self.statement(node));
        Box::new(kind.unwrap_or(StatementKind::Unknown))
    }

    fn setting(&mut self, set: &VariableSetStmt) -> StatementKind {
        if set.kind() == VariableSetKind::VarResetAll {
            return StatementKind::ResetAll;
        }
        let mut values = Vec::new();
        for argument in &set.args {
            match (&argument.node, constant_text(argument)) {
                (_, Some(text)) => values.push(text.to_owned()),
                (Some(NodeEnum::AConst(_) | NodeEnum::TypeCast(_) | NodeEnum::DefElem(_)), None) => {
                    values.push(String::new());
                }
                _ => self.unknown = true,
            }
        }
        StatementKind::Set(SettingFacts { name: set.name.to_ascii_lowercase(), values, local: set.is_local })
    }

    fn prepared_type(&mut self, name: &pg_query::protobuf::TypeName) {
        match self.name(&name.names) {
            Some(name) => self.types.push(name),
            None => self.unknown = true,
        }
    }

    /// `COPY t FROM … WHERE`: its level names the relation.
    fn copy_condition(&mut self, relation: Option<&pg_query::protobuf::RangeVar>, condition: &Node) {
        let level = self.level(None, Place::Outermost, Shape::Select);
        match relation {
            Some(relation) => {
                let source = super::Source::Relation(super::from::name_of(relation));
                self.item(level, None, Some(&relation.relname), source);
            }
            None => self.unknown = true,
        }
        self.expression(At::new(level, Clause::When), condition);
    }
}

/// Whether EXPLAIN has ANALYZE, which is on unless it says otherwise. A value that is not read counts as on.
fn explains_by_running(options: &[Node]) -> bool {
    options.iter().any(|option| match &option.node {
        Some(NodeEnum::DefElem(option)) if option.defname == "analyze" => {
            let argument = option.arg.as_deref().and_then(|argument| argument.node.as_ref());
            let off = match argument {
                Some(NodeEnum::Integer(value)) => value.ival == 0,
                Some(NodeEnum::Boolean(value)) => !value.boolval,
                Some(NodeEnum::String(value)) => matches!(value.sval.as_str(), "off" | "false"),
                _ => false,
            };
            !off
        }
        _ => false,
    })
}
