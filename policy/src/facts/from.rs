//! The walk through FROM.

use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, JoinExpr, JsonTable, Node, RangeFunction, RangeTableFunc, RangeVar};

use super::expression::{At, text};
use super::query::Walk;
use super::{Clause, FROM_ITEMS_PER_STATEMENT_MAX, FromItem, FunctionPlace, Join, Name, Place, Source};

/// A relation's name. The database, if one is given, can only be the session's own.
pub(super) fn name_of(relation: &RangeVar) -> Name {
    let schema = (!relation.schemaname.is_empty()).then(|| relation.schemaname.clone());
    Name { schema, name: relation.relname.clone() }
}

impl Walk {
    pub(super) fn enter_from(&mut self, level: usize, nodes: &[Node]) {
        for node in nodes {
            self.enter_item(level, node);
        }
    }

    pub(super) fn enter_item(&mut self, level: usize, node: &Node) {
        match &node.node {
            Some(NodeEnum::RangeVar(relation)) => {
                let source = self.relation_or_cte(level, relation);
                self.item(level, relation.alias.as_ref(), Some(&relation.relname), source);
            }
            Some(NodeEnum::RangeSubselect(select)) => {
                let Some(query) = select.subquery.as_deref() else {
                    self.unknown = true;
                    return;
                };
                let inner = self.query(Some(level), Place::From, query);
                self.item(level, select.alias.as_ref(), None, Source::Level(inner));
            }
            Some(NodeEnum::RangeFunction(function)) => self.range_function(level, function),
            Some(NodeEnum::RangeTableFunc(table)) => self.xml_table(level, table),
            Some(NodeEnum::JsonTable(table)) => self.json_table(level, table),
            Some(NodeEnum::RangeTableSample(sample)) => {
                let at = At::new(level, Clause::From);
                match self.name(&sample.method) {
                    Some(name) => self.call_by_name(name, FunctionPlace::Elsewhere),
                    None => self.unknown = true,
                }
                self.each(at, &sample.args);
                self.maybe(at, sample.repeatable.as_deref());
                match sample.relation.as_deref() {
                    Some(relation) => self.enter_item(level, relation),
                    None => self.unknown = true,
                }
            }
            Some(NodeEnum::JoinExpr(join)) => self.join(level, join),
            _ => self.unknown = true,
        }
    }

    pub(super) fn item(&mut self, level: usize, alias: Option<&Alias>, own: Option<&str>, source: Source) {
        self.item_count += 1;
        if self.item_count > FROM_ITEMS_PER_STATEMENT_MAX {
            self.unknown = true;
            return;
        }
        let columns_renamed = alias.is_some_and(|alias| !alias.colnames.is_empty());
        let alias = alias.map(|alias| alias.aliasname.as_str()).filter(|alias| !alias.is_empty()).or(own);
        let alias = alias.map(str::to_owned);
        self.levels[level].from.push(FromItem { alias, columns_renamed, of_target: false, source });
    }

    /// A bare name is the CTE of that name that is in scope, if one is; only CTEs entered so far are.
    fn relation_or_cte(&self, level: usize, relation: &RangeVar) -> Source {
        if relation.schemaname.is_empty() && relation.catalogname.is_empty() {
            let mut scope = Some(level);
            while let Some(level) = scope {
                let ctes = &self.levels[level].ctes;
                if let Some(index) = ctes.iter().position(|cte| cte.name == relation.relname) {
                    return Source::Cte { level, index };
                }
                scope = self.levels[level].parent;
            }
        }
        Source::Relation(name_of(relation))
    }

    fn join(&mut self, level: usize, join: &JoinExpr) {
        let first = self.levels[level].from.len();
        for side in [&join.larg, &join.rarg] {
            match side.as_deref() {
                Some(side) => self.enter_item(level, side),
                None => self.unknown = true,
            }
        }
        let end = self.levels[level].from.len();
        let Some(using) = join.using_clause.iter().map(|name| text(name).map(str::to_owned)).collect() else {
            self.unknown = true;
            return;
        };
        self.levels[level].joins.push(Join { natural: join.is_natural, using });
        self.maybe(At::new(level, Clause::Join), join.quals.as_deref());
        for alias in [&join.alias, &join.join_using_alias].into_iter().flatten() {
            self.item(level, Some(alias), None, Source::Join(first, end));
        }
    }

    fn range_function(&mut self, level: usize, range: &RangeFunction) {
        let at = At::new(level, Clause::From);
        let mut names = Vec::new();
        for function in &range.functions {
            let Some(NodeEnum::List(parts)) = &function.node else {
                self.unknown = true;
                continue;
            };
            let Some((function, definitions)) = parts.items.split_first() else {
                self.unknown = true;
                continue;
            };
            match &function.node {
                Some(NodeEnum::FuncCall(call)) => {
                    self.call(at, call, FunctionPlace::From);
                    names.extend(self.name(&call.funcname));
                }
                _ => self.expression(at, function),
            }
            self.column_definitions(at, definitions);
        }
        self.column_definitions(at, &range.coldeflist);
        let own = names.first().map(|name: &Name| name.name.clone());
        self.item(level, range.alias.as_ref(), own.as_deref(), Source::Functions(names));
    }

    fn column_definitions(&mut self, at: At, nodes: &[Node]) {
        for node in nodes {
            match &node.node {
                None => {}
                Some(NodeEnum::List(list)) => self.column_definitions(at, &list.items),
                Some(NodeEnum::ColumnDef(column)) => self.type_name(column.type_name.as_ref(), at),
                _ => self.unknown = true,
            }
        }
    }

    fn xml_table(&mut self, level: usize, table: &RangeTableFunc) {
        let at = At::new(level, Clause::From);
        self.maybe(at, table.docexpr.as_deref());
        self.maybe(at, table.rowexpr.as_deref());
        self.each(at, &table.namespaces);
        for column in &table.columns {
            match &column.node {
                Some(NodeEnum::RangeTableFuncCol(column)) => {
                    self.type_name(column.type_name.as_ref(), at);
                    self.maybe(at, column.colexpr.as_deref());
                    self.maybe(at, column.coldefexpr.as_deref());
                }
                _ => self.unknown = true,
            }
        }
        self.item(level, table.alias.as_ref(), None, Source::Table);
    }

    fn json_table(&mut self, level: usize, table: &JsonTable) {
        let at = At::new(level, Clause::From);
        self.json_value(at, table.context_item.as_deref());
        self.each(at, &table.passing);
        self.json_behavior(at, table.on_error.as_deref());
        self.json_columns(at, &table.columns);
        self.item(level, table.alias.as_ref(), None, Source::Table);
    }

    fn json_columns(&mut self, at: At, columns: &[Node]) {
        for column in columns {
            match &column.node {
                Some(NodeEnum::JsonTableColumn(column)) => {
                    self.type_name(column.type_name.as_ref(), at);
                    self.json_behavior(at, column.on_empty.as_deref());
                    self.json_behavior(at, column.on_error.as_deref());
                    self.json_columns(at, &column.columns);
                }
                _ => self.unknown = true,
            }
        }
    }
}
