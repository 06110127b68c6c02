//! The walk through INSERT, UPDATE, DELETE and MERGE.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    CmdType, DeleteStmt, InsertStmt, MergeMatchKind, MergeStmt, MergeWhenClause, Node, OnConflictClause,
    RangeVar, ResTarget, ReturningClause, SelectStmt, SetOperation, UpdateStmt,
};

use super::expression::{At, column, is_literal, text};
use super::query::Walk;
use super::{Clause, Condition, Place, Shape, Source, Usage, Write, WriteValue};

impl Walk {
    pub(super) fn insert(&mut self, parent: Option<usize>, place: Place, insert: &InsertStmt) -> usize {
        let level = self.level(parent, place, Shape::Insert);
        self.with(level, insert.with_clause.as_ref());
        let mut write = self.target(level, insert.relation.as_ref(), "INSERT");
        let names = self.target_names(level, &insert.cols);
        let mut values = Vec::new();
        match insert.select_stmt.as_deref().map(|source| &source.node) {
            None => write.rows = Some(1),
            Some(Some(NodeEnum::SelectStmt(select))) => {
                self.select(Some(level), Place::InsertSource, select);
                if let Some((rows, found)) = rows(select) {
                    write.rows = Some(rows);
                    values = found;
                }
            }
            Some(_) => self.unknown = true,
        }
        // DEFAULT VALUES writes no column by a value of the client's.
        let from_query = insert.select_stmt.is_some() && write.rows.is_none();
        write.all_columns = names.is_empty() && insert.select_stmt.is_some();
        let value = |index: usize| match (from_query, values.get(index)) {
            (true, _) => WriteValue::Source,
            (false, value) => value.copied().unwrap_or(WriteValue::Computed),
        };
        write.columns = names.into_iter().enumerate().map(|(index, name)| (name, value(index))).collect();
        write.positions = if write.all_columns { values } else { Vec::new() };
        if let Some(conflict) = insert.on_conflict_clause.as_deref() {
            write.on_conflict = true;
            write.commands.extend((!conflict.target_list.is_empty()).then_some("UPDATE"));
            self.conflict(level, conflict, &mut write);
        }
        self.levels[level].write = Some(write);
        self.returning(level, insert.returning_clause.as_ref());
        level
    }

    pub(super) fn update(&mut self, parent: Option<usize>, place: Place, update: &UpdateStmt) -> usize {
        let level = self.level(parent, place, Shape::Update);
        self.with(level, update.with_clause.as_ref());
        let mut write = self.target(level, update.relation.as_ref(), "UPDATE");
        self.enter_from(level, &update.from_clause);
        self.assignments(At::new(level, Clause::Assignment), &update.target_list, &mut write);
        self.narrowed_by(level, update.where_clause.as_deref());
        self.levels[level].write = Some(write);
        self.returning(level, update.returning_clause.as_ref());
        level
    }

    pub(super) fn delete(&mut self, parent: Option<usize>, place: Place, delete: &DeleteStmt) -> usize {
        let level = self.level(parent, place, Shape::Delete);
        self.with(level, delete.with_clause.as_ref());
        let write = self.target(level, delete.relation.as_ref(), "DELETE");
        self.enter_from(level, &delete.using_clause);
        self.narrowed_by(level, delete.where_clause.as_deref());
        self.levels[level].write = Some(write);
        self.returning(level, delete.returning_clause.as_ref());
        level
    }

    pub(super) fn merge(&mut self, parent: Option<usize>, place: Place, merge: &MergeStmt) -> usize {
        let level = self.level(parent, place, Shape::Merge);
        self.with(level, merge.with_clause.as_ref());
        let mut write = self.target(level, merge.relation.as_ref(), "MERGE");
        match merge.source_relation.as_deref() {
            Some(source) => self.enter_item(level, source),
            None => self.unknown = true,
        }
        self.levels[level].condition = condition_of_merge(merge);
        self.maybe(At::new(level, Clause::Join), merge.join_condition.as_deref());
        for when in &merge.merge_when_clauses {
            match &when.node {
                Some(NodeEnum::MergeWhenClause(when)) => self.when(level, when, &mut write),
                _ => self.unknown = true,
            }
        }
        self.levels[level].write = Some(write);
        self.returning(level, merge.returning_clause.as_ref());
        level
    }

    fn when(&mut self, level: usize, when: &MergeWhenClause, write: &mut Write) {
        self.maybe(At::new(level, Clause::When), when.condition.as_deref());
        write.commands.extend(match when.command_type() {
            CmdType::CmdInsert => Some("INSERT"),
            CmdType::CmdUpdate => Some("UPDATE"),
            CmdType::CmdDelete => Some("DELETE"),
            _ => None,
        });
        let at = At::new(level, Clause::Assignment);
        if when.values.is_empty() {
            self.assignments(at, &when.target_list, write);
            return;
        }
        let names = self.target_names(level, &when.target_list);
        self.each(at, &when.values);
        let values = when.values.iter().map(value_of);
        if names.is_empty() {
            write.all_columns = true;
            write.positions = join(&write.positions, values.collect());
        } else {
            write.columns.extend(names.into_iter().zip(values));
        }
    }

    /// The written relation. It is never a CTE, whatever its name.
    fn target(&mut self, level: usize, relation: Option<&RangeVar>, command: &'static str) -> Write {
        let target = self.levels[level].from.len();
        match relation {
            Some(relation) => {
                let source = Source::Relation(super::from::name_of(relation));
                self.item(level, relation.alias.as_ref(), Some(&relation.relname), source);
            }
            None => self.unknown = true,
        }
        Write {
            target,
            commands: vec![command],
            all_columns: false,
            columns: Vec::new(),
            rows: None,
            positions: Vec::new(),
            on_conflict: false,
            arbiters: Vec::new(),
        }
    }

    fn target_names(&mut self, level: usize, targets: &[Node]) -> Vec<String> {
        let mut names = Vec::with_capacity(targets.len());
        for target in targets {
            match &target.node {
                Some(NodeEnum::ResTarget(target)) => {
                    self.steps(At::new(level, Clause::Assignment), target);
                    names.push(target.name.clone());
                }
                _ => self.unknown = true,
            }
        }
        names
    }

    /// What follows the name of a written column: fields and subscripts.
    fn steps(&mut self, at: At, target: &ResTarget) {
        for step in &target.indirection {
            match &step.node {
                Some(NodeEnum::String(_)) => {}
                Some(NodeEnum::AIndices(indices)) => {
                    self.maybe(at, indices.lidx.as_deref());
                    self.maybe(at, indices.uidx.as_deref());
                }
                _ => self.unknown = true,
            }
        }
    }

    fn assignments(&mut self, at: At, targets: &[Node], write: &mut Write) {
        for target in targets {
            let Some(NodeEnum::ResTarget(target)) = &target.node else {
                self.unknown = true;
                continue;
            };
            self.steps(at, target);
            let Some(value) = target.val.as_deref() else {
                self.unknown = true;
                continue;
            };
            write.columns.push((target.name.clone(), value_of(value)));
            match &value.node {
                // `(a, b) = source` stands once for each column.
                Some(NodeEnum::MultiAssignRef(assigned)) if assigned.colno > 1 => {}
                _ if at.clause == Clause::Conflict => self.excluded(at, &target.name, value),
                _ => self.expression(at, value),
            }
        }
    }

    /// An assignment of ON CONFLICT DO UPDATE, of which `column = excluded.column` writes what the client sent for it.
    fn excluded(&mut self, at: At, name: &str, value: &Node) {
        match column(value) {
            Some([qualifier, field]) if text(qualifier) == Some("excluded") && text(field) == Some(name) => {
                let fields = column(value).expect("it was one just now");
                self.reference(at, fields, Usage::ExcludedSameColumn);
            }
            _ => self.expression(at, value),
        }
    }

    fn conflict(&mut self, level: usize, conflict: &OnConflictClause, write: &mut Write) {
        let at = At::new(level, Clause::Conflict);
        let target = self.levels[level].from[write.target].source.clone();
        self.alias_of_target(level, "excluded", target);
        if let Some(infer) = conflict.infer.as_deref() {
            for element in &infer.index_elems {
                match &element.node {
                    Some(NodeEnum::IndexElem(element)) => {
                        write.arbiters.extend((!element.name.is_empty()).then(|| element.name.clone()));
                        self.maybe(at, element.expr.as_deref());
                    }
                    _ => self.unknown = true,
                }
            }
            self.maybe(at, infer.where_clause.as_deref());
        }
        self.assignments(at, &conflict.target_list, write);
        self.maybe(at, conflict.where_clause.as_deref());
    }

    fn returning(&mut self, level: usize, returning: Option<&ReturningClause>) {
        let Some(returning) = returning else { return };
        let target = self.levels[level].write.as_ref().map(|write| write.target);
        if let Some(source) =
            target.and_then(|target| self.levels[level].from.get(target)).map(|item| item.source.clone())
        {
            for name in ["old", "new"] {
                self.alias_of_target(level, name, source.clone());
            }
            for option in &returning.options {
                match &option.node {
                    Some(NodeEnum::ReturningOption(option)) => {
                        self.alias_of_target(level, &option.value, source.clone());
                    }
                    _ => self.unknown = true,
                }
            }
        }
        self.outputs(level, &returning.exprs);
    }

    fn alias_of_target(&mut self, level: usize, alias: &str, source: Source) {
        self.item(level, None, Some(alias), source);
        if let Some(item) = self.levels[level].from.last_mut() {
            item.of_target = true;
        }
    }
}

/// What is not matched by the source is everything else, however narrow ON is.
fn condition_of_merge(merge: &MergeStmt) -> Condition {
    let by_source = |when: &Node| match &when.node {
        Some(NodeEnum::MergeWhenClause(when)) => {
            when.match_kind() == MergeMatchKind::MergeWhenNotMatchedBySource
        }
        _ => true,
    };
    match merge.merge_when_clauses.iter().any(by_source) {
        true => Condition::Absent,
        false => Condition::of(merge.join_condition.as_deref(), None),
    }
}

fn value_of(value: &Node) -> WriteValue {
    if is_literal(value) {
        return WriteValue::Literal;
    }
    match &value.node {
        Some(NodeEnum::MultiAssignRef(assigned)) => {
            let index = usize::try_from(assigned.colno - 1).unwrap_or(usize::MAX);
            match assigned.source.as_deref().map(|source| &source.node) {
                Some(Some(NodeEnum::RowExpr(row))) => {
                    row.args.get(index).map_or(WriteValue::Computed, value_of)
                }
                _ => WriteValue::Computed,
            }
        }
        Some(NodeEnum::ColumnRef(column)) => match column.fields.as_slice() {
            [qualifier, _] if text(qualifier) == Some("excluded") => WriteValue::Excluded,
            _ => WriteValue::Computed,
        },
        _ => WriteValue::Computed,
    }
}

/// How many rows a plain VALUES has, and what each position of all of them together is.
fn rows(select: &SelectStmt) -> Option<(usize, Vec<WriteValue>)> {
    let plain = select.op() == SetOperation::SetopNone
        && select.limit_count.is_none()
        && select.limit_offset.is_none()
        && select.with_clause.is_none();
    if select.values_lists.is_empty() || !plain {
        return None;
    }
    let mut together = Vec::new();
    for row in &select.values_lists {
        let Some(NodeEnum::List(row)) = &row.node else { return None };
        together = join(&together, row.items.iter().map(value_of).collect());
    }
    Some((select.values_lists.len(), together))
}

/// Position by position the one that is less of a literal.
fn join(one: &[WriteValue], other: Vec<WriteValue>) -> Vec<WriteValue> {
    let length = one.len().max(other.len());
    let worse = |index: usize| match (one.get(index), other.get(index)) {
        (Some(one), Some(other)) if *one == WriteValue::Literal => *other,
        (Some(one), _) => *one,
        (None, Some(other)) => *other,
        (None, None) => WriteValue::Computed,
    };
    (0..length).map(worse).collect()
}
