//! The walk through query levels.

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, SelectStmt, SetOperation, WithClause, a_const::Val};

use super::expression::At;
use super::{
    CTES_PER_STATEMENT_MAX, Clause, Condition, Cte, FunctionPlace, FunctionUse, Level, Name, Output,
    OutputValue, Place, QUERY_DEPTH_LEVELS_MAX, Shape,
};

/// What the walk has found so far.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) levels: Vec<Level>,
    pub(super) functions: Vec<FunctionUse>,
    pub(super) operators: Vec<Name>,
    pub(super) types: Vec<Name>,
    pub(super) cte_count: usize,
    pub(super) item_count: usize,
    /// Something stood where the walk does not know it.
    pub(super) unknown: bool,
}

impl Walk {
    pub(super) fn level(&mut self, parent: Option<usize>, place: Place, shape: Shape) -> usize {
        let depth = parent.map_or(0, |parent| self.levels[parent].depth + 1);
        self.levels.push(Level {
            parent,
            depth,
            place,
            shape,
            ctes: Vec::new(),
            from: Vec::new(),
            joins: Vec::new(),
            outputs: Vec::new(),
            references: Vec::new(),
            ordinals: Vec::new(),
            distinct: false,
            locks_rows: false,
            condition: Condition::Absent,
            limited: false,
            write: None,
        });
        self.levels.len() - 1
    }

    pub(super) fn sub_query(&mut self, parent: usize, place: Place, node: &Node) {
        self.query(Some(parent), place, node);
    }

    /// Enters a query, reading or writing.
    pub(super) fn query(&mut self, parent: Option<usize>, place: Place, node: &Node) -> usize {
        if parent.is_some_and(|parent| self.levels[parent].depth >= QUERY_DEPTH_LEVELS_MAX) {
            self.unknown = true;
            return self.level(None, place, Shape::Expressions);
        }
        match &node.node {
            Some(NodeEnum::SelectStmt(select)) => self.select(parent, place, select),
            Some(NodeEnum::InsertStmt(insert)) => self.insert(parent, place, insert),
            Some(NodeEnum::UpdateStmt(update)) => self.update(parent, place, update),
            Some(NodeEnum::DeleteStmt(delete)) => self.delete(parent, place, delete),
            Some(NodeEnum::MergeStmt(merge)) => self.merge(parent, place, merge),
            _ => {
                self.unknown = true;
                self.level(parent, place, Shape::Expressions)
            }
        }
    }

    pub(super) fn select(&mut self, parent: Option<usize>, place: Place, select: &SelectStmt) -> usize {
        if parent.is_some_and(|parent| self.levels[parent].depth >= QUERY_DEPTH_LEVELS_MAX) {
            self.unknown = true;
            return self.level(None, place, Shape::Expressions);
        }
        let level = self.level(parent, place, Shape::Select);
        self.with(level, select.with_clause.as_ref());
        // SELECT INTO is told apart by the statement; anywhere else the target refuses it.
        if select.into_clause.is_some() && place != Place::Outermost {
            self.unknown = true;
        }
        if !select.values_lists.is_empty() {
            self.levels[level].shape = Shape::Values(select.values_lists.len());
            self.each(At::new(level, Clause::Assignment), &select.values_lists);
        } else if select.op() != SetOperation::SetopNone {
            let branches = self.branches(level, select);
            self.levels[level].shape = Shape::SetOperation(branches);
        }
        self.enter_from(level, &select.from_clause);
        self.outputs(level, &select.target_list);
        self.narrowed_by(level, select.where_clause.as_deref());
        self.by_output(At::new(level, Clause::Group), &select.group_clause);
        self.maybe(At::new(level, Clause::Having), select.having_clause.as_deref());
        for window in &select.window_clause {
            match &window.node {
                Some(NodeEnum::WindowDef(window)) => self.window(level, Some(window)),
                _ => self.unknown = true,
            }
        }
        self.distinct(level, &select.distinct_clause);
        self.order(level, &select.sort_clause);
        let limit = At::new(level, Clause::Limit);
        self.maybe(limit, select.limit_offset.as_deref());
        self.maybe(limit, select.limit_count.as_deref());
        self.levels[level].locks_rows = !select.locking_clause.is_empty();
        self.levels[level].limited = select.limit_count.as_deref().is_some_and(is_a_count);
        level
    }

    /// WHERE.
    pub(super) fn narrowed_by(&mut self, level: usize, condition: Option<&Node>) {
        // Beside other items of FROM, only what is said of the written one narrows what is written.
        let from = &self.levels[level].from;
        let written = from.first().and_then(|item| item.alias.clone()).filter(|_| from.len() > 1);
        self.levels[level].condition = Condition::of(condition, written.as_deref());
        if let Some(condition) = condition {
            self.condition(At::new(level, Clause::Where), condition);
        }
    }

    /// The branches of a set operation. A chain of them is one level, however long, unless a bracket brings clauses of its own.
    fn branches(&mut self, level: usize, select: &SelectStmt) -> Vec<usize> {
        let mut branches = Vec::new();
        let mut stack = vec![select];
        let mut first = true;
        while let Some(next) = stack.pop() {
            let plain = next.with_clause.is_none()
                && next.sort_clause.is_empty()
                && next.limit_count.is_none()
                && next.limit_offset.is_none()
                && next.locking_clause.is_empty();
            if next.op() != SetOperation::SetopNone && (first || plain) {
                first = false;
                match (next.larg.as_deref(), next.rarg.as_deref()) {
                    (Some(left), Some(right)) => stack.extend([right, left]),
                    _ => self.unknown = true,
                }
            } else {
                branches.push(self.select(Some(level), Place::Branch, next));
            }
        }
        branches
    }

    /// WITH: the query of a CTE sees those before it, with RECURSIVE all of them.
    pub(super) fn with(&mut self, level: usize, with: Option<&WithClause>) {
        let Some(with) = with else { return };
        let mut ctes = Vec::new();
        for node in &with.ctes {
            match &node.node {
                Some(NodeEnum::CommonTableExpr(cte)) => ctes.push(cte),
                _ => self.unknown = true,
            }
        }
        self.cte_count += ctes.len();
        if self.cte_count > CTES_PER_STATEMENT_MAX {
            self.unknown = true;
            return;
        }
        let entry = |cte: &pg_query::protobuf::CommonTableExpr, query| Cte {
            name: cte.ctename.clone(),
            columns_renamed: !cte.aliascolnames.is_empty()
                || cte.search_clause.is_some()
                || cte.cycle_clause.is_some(),
            level: query,
        };
        if with.recursive {
            // Levels are told once they are entered; until then a CTE that reads itself finds its own level's number.
            let entries: Vec<_> = ctes.iter().map(|cte| entry(cte, level)).collect();
            self.levels[level].ctes = entries;
        }
        for (index, cte) in ctes.iter().enumerate() {
            let Some(query) = cte.ctequery.as_deref() else {
                self.unknown = true;
                continue;
            };
            let inner = self.query(Some(level), Place::Cte, query);
            if with.recursive {
                self.levels[level].ctes[index].level = inner;
            } else {
                let entry = entry(cte, inner);
                self.levels[level].ctes.push(entry);
            }
            if let Some(cycle) = &cte.cycle_clause {
                let at = At::new(level, Clause::Output);
                self.maybe(at, cycle.cycle_mark_value.as_deref());
                self.maybe(at, cycle.cycle_mark_default.as_deref());
            }
        }
    }

    /// A select list, or RETURNING.
    pub(super) fn outputs(&mut self, level: usize, targets: &[Node]) {
        let at = At::new(level, Clause::Output);
        for target in targets {
            let Some(NodeEnum::ResTarget(target)) = &target.node else {
                self.unknown = true;
                continue;
            };
            let Some(value) = target.val.as_deref() else {
                self.unknown = true;
                continue;
            };
            let value = match &value.node {
                Some(NodeEnum::ColumnRef(column)) => match self.fields(&column.fields) {
                    Some((fields, true)) => OutputValue::Star(fields),
                    Some((fields, false)) => OutputValue::Column(fields),
                    None => continue,
                },
                Some(NodeEnum::FuncCall(call)) => {
                    self.call(at, call, FunctionPlace::Output);
                    match self.name(&call.funcname) {
                        Some(name) => OutputValue::Function(name),
                        None => continue,
                    }
                }
                _ => {
                    self.expression(at, value);
                    OutputValue::Expression
                }
            };
            let alias = (!target.name.is_empty()).then(|| target.name.clone());
            self.levels[level].outputs.push(Output { alias, value });
        }
    }

    fn distinct(&mut self, level: usize, clause: &[Node]) {
        // Plain DISTINCT is a list of one absent node.
        if clause.iter().any(|node| node.node.is_none()) {
            self.levels[level].distinct = true;
        }
        self.by_output(At::new(level, Clause::Distinct), clause);
    }

    fn order(&mut self, level: usize, clause: &[Node]) {
        let at = At::new(level, Clause::Order);
        for sort in clause {
            match &sort.node {
                Some(NodeEnum::SortBy(sort)) => {
                    self.operator(&sort.use_op);
                    self.by_output(at, sort.node.as_deref());
                }
                _ => self.unknown = true,
            }
        }
    }

    /// Expressions of a clause that may name outputs by their position.
    fn by_output<'a>(&mut self, at: At, nodes: impl IntoIterator<Item = &'a Node>) {
        for node in nodes {
            match &node.node {
                Some(NodeEnum::AConst(constant)) => match &constant.val {
                    Some(Val::Ival(value)) => {
                        let position = usize::try_from(value.ival).unwrap_or(0);
                        self.levels[at.level].ordinals.push((at.clause, position));
                    }
                    _ => self.expression(at, node),
                },
                Some(NodeEnum::GroupingSet(set)) => self.by_output(at, &set.content),
                // The members of ROLLUP, CUBE and GROUPING SETS may be lists in brackets.
                Some(NodeEnum::RowExpr(row)) if at.clause == Clause::Group => self.by_output(at, &row.args),
                _ => self.expression(at, node),
            }
        }
    }

    pub(super) fn call_by_name(&mut self, name: Name, place: FunctionPlace) {
        self.functions.push(FunctionUse { name, place, texts: Vec::new() });
    }
}

/// A number. Anything else may come to NULL, which is no limit.
fn is_a_count(limit: &Node) -> bool {
    matches!(&limit.node, Some(NodeEnum::AConst(constant)) if matches!(constant.val, Some(Val::Ival(_) | Val::Fval(_))))
}
