//! The walk through expressions. It knows every node that PostgreSQL's grammar puts into one; another makes the statement unknown.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    AExpr, AExprKind, AIndirection, FuncCall, JsonAggConstructor, JsonBehavior, JsonFuncExpr, JsonOutput,
    JsonValueExpr, Node, SubLink, SubLinkType, TypeName, WindowDef, XmlExpr,
};

use super::query::Walk;
use super::{Clause, FunctionPlace, FunctionUse, Name, Place, Reference, Usage};

/// Where an expression stands: the level, and the clause.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) level: usize,
    pub(super) clause: Clause,
}

impl At {
    pub(super) fn new(level: usize, clause: Clause) -> Self {
        Self { level, clause }
    }
}

impl Walk {
    pub(super) fn each<'a>(&mut self, at: At, nodes: impl IntoIterator<Item = &'a Node>) {
        for node in nodes {
            self.expression(at, node);
        }
    }

    pub(super) fn maybe(&mut self, at: At, node: Option<&Node>) {
        if let Some(node) = node {
            self.expression(at, node);
        }
    }

    /// Takes in an expression, whatever it is used for.
    pub(super) fn expression(&mut self, at: At, node: &Node) {
        let Some(node) = &node.node else { return };
        match node {
            NodeEnum::ColumnRef(column) => self.reference(at, &column.fields, Usage::Other),
            NodeEnum::ParamRef(_)
            | NodeEnum::AConst(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::MergeSupportFunc(_)
            | NodeEnum::Integer(_)
            | NodeEnum::Float(_)
            | NodeEnum::Boolean(_)
            | NodeEnum::String(_)
            | NodeEnum::BitString(_) => {}
            NodeEnum::AExpr(expression) => self.operation(at, expression),
            NodeEnum::BoolExpr(expression) => self.each(at, &expression.args),
            NodeEnum::SubLink(link) => self.sub_link(at, link),
            NodeEnum::FuncCall(call) => self.call(at, call, FunctionPlace::Elsewhere),
            NodeEnum::TypeCast(cast) => {
                self.type_name(cast.type_name.as_ref(), at);
                self.maybe(at, cast.arg.as_deref());
            }
            NodeEnum::CaseExpr(case) => {
                self.maybe(at, case.arg.as_deref());
                self.each(at, &case.args);
                self.maybe(at, case.defresult.as_deref());
            }
            NodeEnum::CaseWhen(when) => {
                self.maybe(at, when.expr.as_deref());
                self.maybe(at, when.result.as_deref());
            }
            NodeEnum::CoalesceExpr(expression) => self.each(at, &expression.args),
            NodeEnum::MinMaxExpr(expression) => self.each(at, &expression.args),
            NodeEnum::NullTest(test) => self.maybe(at, test.arg.as_deref()),
            NodeEnum::BooleanTest(test) => self.maybe(at, test.arg.as_deref()),
            NodeEnum::AArrayExpr(array) => self.each(at, &array.elements),
            NodeEnum::RowExpr(row) => self.each(at, &row.args),
            NodeEnum::List(list) => self.each(at, &list.items),
            NodeEnum::AIndirection(indirection) => self.indirection(at, indirection),
            NodeEnum::NamedArgExpr(argument) => self.maybe(at, argument.arg.as_deref()),
            NodeEnum::CollateClause(collate) => self.maybe(at, collate.arg.as_deref()),
            NodeEnum::GroupingFunc(grouping) => self.each(at, &grouping.args),
            NodeEnum::GroupingSet(set) => self.each(at, &set.content),
            NodeEnum::MultiAssignRef(reference) => self.maybe(at, reference.source.as_deref()),
            NodeEnum::SortBy(sort) => {
                self.operator(&sort.use_op);
                self.maybe(At::new(at.level, Clause::Order), sort.node.as_deref());
            }
            NodeEnum::ResTarget(target) => self.maybe(at, target.val.as_deref()),
            _ => self.other_expression(at, node),
        }
    }

    /// XML and JSON.
    fn other_expression(&mut self, at: At, node: &NodeEnum) {
        match node {
            NodeEnum::XmlExpr(xml) => self.xml(at, xml),
            NodeEnum::XmlSerialize(xml) => {
                self.type_name(xml.type_name.as_ref(), at);
                self.maybe(at, xml.expr.as_deref());
            }
            NodeEnum::JsonIsPredicate(json) => self.maybe(at, json.expr.as_deref()),
            NodeEnum::JsonValueExpr(json) => self.json_value(at, Some(json)),
            NodeEnum::JsonFuncExpr(json) => self.json_function(at, json),
            NodeEnum::JsonArgument(json) => self.json_value(at, json.val.as_deref()),
            NodeEnum::JsonParseExpr(json) => {
                self.json_value(at, json.expr.as_deref());
                self.json_output(at, json.output.as_ref());
            }
            NodeEnum::JsonScalarExpr(json) => {
                self.maybe(at, json.expr.as_deref());
                self.json_output(at, json.output.as_ref());
            }
            NodeEnum::JsonSerializeExpr(json) => {
                self.json_value(at, json.expr.as_deref());
                self.json_output(at, json.output.as_ref());
            }
            NodeEnum::JsonObjectConstructor(json) => {
                self.each(at, &json.exprs);
                self.json_output(at, json.output.as_ref());
            }
            NodeEnum::JsonKeyValue(json) => {
                self.maybe(at, json.key.as_deref());
                self.json_value(at, json.value.as_deref());
            }
            NodeEnum::JsonArrayConstructor(json) => {
                self.each(at, &json.exprs);
                self.json_output(at, json.output.as_ref());
            }
            NodeEnum::JsonArrayQueryConstructor(json) => {
                self.json_output(at, json.output.as_ref());
                match json.query.as_deref() {
                    Some(query) => self.sub_query(at.level, Place::Operand, query),
                    None => self.unknown = true,
                };
            }
            NodeEnum::JsonObjectAgg(json) => {
                self.json_aggregate(at, json.constructor.as_deref());
                if let Some(pair) = json.arg.as_deref() {
                    self.maybe(at, pair.key.as_deref());
                    self.json_value(at, pair.value.as_deref());
                }
            }
            NodeEnum::JsonArrayAgg(json) => {
                self.json_aggregate(at, json.constructor.as_deref());
                self.json_value(at, json.arg.as_deref());
            }
            _ => self.unknown = true,
        }
    }

    /// Takes in a condition of WHERE: what stands in it under AND, OR and NOT alone may be a comparison with literals.
    pub(super) fn condition(&mut self, at: At, node: &Node) {
        match &node.node {
            Some(NodeEnum::BoolExpr(expression)) => {
                for argument in &expression.args {
                    self.condition(at, argument);
                }
            }
            Some(NodeEnum::NullTest(test)) => match test.arg.as_deref().and_then(column) {
                Some(fields) => self.reference(at, fields, Usage::NullTest),
                None => self.expression(at, node),
            },
            Some(NodeEnum::AExpr(expression)) => match comparison(expression) {
                Some((fields, literals)) => {
                    self.reference(at, fields, Usage::ComparedWithLiterals { literals });
                    self.operator(&expression.name);
                    for side in [&expression.lexpr, &expression.rexpr].into_iter().flatten() {
                        if column(side).is_none() {
                            self.expression(at, side);
                        }
                    }
                }
                None => self.expression(at, node),
            },
            _ => self.expression(at, node),
        }
    }

    pub(super) fn reference(&mut self, at: At, fields: &[Node], usage: Usage) {
        let Some((fields, star)) = self.fields(fields) else { return };
        self.levels[at.level].references.push(Reference { fields, star, clause: at.clause, usage });
    }

    /// The names of a column reference, and whether a star ends it.
    pub(super) fn fields(&mut self, nodes: &[Node]) -> Option<(Vec<String>, bool)> {
        let mut fields = Vec::with_capacity(nodes.len());
        let mut star = false;
        for node in nodes {
            match &node.node {
                Some(NodeEnum::String(name)) if !star => fields.push(name.sval.clone()),
                Some(NodeEnum::AStar(_)) if !star => star = true,
                _ => {
                    self.unknown = true;
                    return None;
                }
            }
        }
        Some((fields, star))
    }

    fn operation(&mut self, at: At, expression: &AExpr) {
        match expression.kind() {
            AExprKind::AexprBetween
            | AExprKind::AexprNotBetween
            | AExprKind::AexprBetweenSym
            | AExprKind::AexprNotBetweenSym => {
                for name in ["<", "<=", ">", ">="] {
                    self.operators.push(Name { schema: None, name: name.to_owned() });
                }
            }
            AExprKind::Undefined => self.unknown = true,
            _ => self.operator(&expression.name),
        }
        self.maybe(at, expression.lexpr.as_deref());
        self.maybe(at, expression.rexpr.as_deref());
    }

    pub(super) fn operator(&mut self, name: &[Node]) {
        if name.is_empty() {
            return;
        }
        match self.name(name) {
            Some(name) => self.operators.push(name),
            None => self.unknown = true,
        }
    }

    /// A name of one part or of more, of which the last but one is the schema.
    pub(super) fn name(&self, nodes: &[Node]) -> Option<Name> {
        let parts: Vec<&str> = nodes.iter().map(text).collect::<Option<_>>()?;
        match parts.as_slice() {
            [name] => Some(Name { schema: None, name: (*name).to_owned() }),
            [.., schema, name] => Some(Name { schema: Some((*schema).to_owned()), name: (*name).to_owned() }),
            [] => None,
        }
    }

    pub(super) fn type_name(&mut self, name: Option<&TypeName>, at: At) {
        let Some(type_name) = name else { return };
        match self.name(&type_name.names) {
            Some(name) => self.types.push(name),
            None => self.unknown = true,
        }
        self.each(at, &type_name.typmods);
    }

    pub(super) fn call(&mut self, at: At, call: &FuncCall, place: FunctionPlace) {
        match self.name(&call.funcname) {
            Some(name) => {
                let texts =
                    call.args.iter().map(|argument| constant_text(argument).map(str::to_owned)).collect();
                self.functions.push(FunctionUse { name, place, texts });
            }
            None => self.unknown = true,
        }
        self.each(at, &call.args);
        self.each(at, &call.agg_order);
        self.maybe(at, call.agg_filter.as_deref());
        self.window(at.level, call.over.as_deref());
    }

    pub(super) fn window(&mut self, level: usize, window: Option<&WindowDef>) {
        let Some(window) = window else { return };
        let at = At::new(level, Clause::Window);
        self.each(at, &window.partition_clause);
        for sort in &window.order_clause {
            match &sort.node {
                Some(NodeEnum::SortBy(sort)) => {
                    self.operator(&sort.use_op);
                    self.maybe(at, sort.node.as_deref());
                }
                _ => self.unknown = true,
            }
        }
        self.maybe(at, window.start_offset.as_deref());
        self.maybe(at, window.end_offset.as_deref());
    }

    fn sub_link(&mut self, at: At, link: &SubLink) {
        self.maybe(at, link.testexpr.as_deref());
        self.operator(&link.oper_name);
        if link.testexpr.is_some() && link.oper_name.is_empty() {
            self.operators.push(Name { schema: None, name: "=".to_owned() });
        }
        let place = match link.sub_link_type() {
            SubLinkType::ExistsSublink => Place::Exists,
            _ => Place::Operand,
        };
        match link.subselect.as_deref() {
            Some(query) => self.sub_query(at.level, place, query),
            None => self.unknown = true,
        }
    }

    /// `(expression).name` is a field, or a call of the function of that name with the expression.
    fn indirection(&mut self, at: At, indirection: &AIndirection) {
        self.maybe(at, indirection.arg.as_deref());
        for step in &indirection.indirection {
            match &step.node {
                Some(NodeEnum::String(name)) => self.functions.push(FunctionUse {
                    name: Name { schema: None, name: name.sval.clone() },
                    place: FunctionPlace::Attribute,
                    texts: Vec::new(),
                }),
                Some(NodeEnum::AStar(_)) => {}
                Some(NodeEnum::AIndices(indices)) => {
                    self.maybe(at, indices.lidx.as_deref());
                    self.maybe(at, indices.uidx.as_deref());
                }
                _ => self.unknown = true,
            }
        }
    }

    fn xml(&mut self, at: At, xml: &XmlExpr) {
        self.each(at, &xml.named_args);
        self.each(at, &xml.args);
    }

    pub(super) fn json_value(&mut self, at: At, value: Option<&JsonValueExpr>) {
        if let Some(value) = value {
            self.maybe(at, value.raw_expr.as_deref());
            self.maybe(at, value.formatted_expr.as_deref());
        }
    }

    pub(super) fn json_output(&mut self, at: At, output: Option<&JsonOutput>) {
        if let Some(output) = output {
            self.type_name(output.type_name.as_ref(), at);
        }
    }

    pub(super) fn json_behavior(&mut self, at: At, behavior: Option<&JsonBehavior>) {
        if let Some(behavior) = behavior {
            self.maybe(at, behavior.expr.as_deref());
        }
    }

    fn json_function(&mut self, at: At, json: &JsonFuncExpr) {
        self.json_value(at, json.context_item.as_deref());
        self.maybe(at, json.pathspec.as_deref());
        self.each(at, &json.passing);
        self.json_output(at, json.output.as_ref());
        self.json_behavior(at, json.on_empty.as_deref());
        self.json_behavior(at, json.on_error.as_deref());
    }

    fn json_aggregate(&mut self, at: At, constructor: Option<&JsonAggConstructor>) {
        let Some(constructor) = constructor else { return };
        self.json_output(at, constructor.output.as_ref());
        self.maybe(at, constructor.agg_filter.as_deref());
        self.each(at, &constructor.agg_order);
        self.window(at.level, constructor.over.as_deref());
    }
}

pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(value)) => Some(&value.sval),
        _ => None,
    }
}

/// The text of a string constant, looking through casts.
pub(super) fn constant_text(node: &Node) -> Option<&str> {
    use pg_query::protobuf::a_const::Val;
    match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(value)) => Some(&value.sval),
            _ => None,
        },
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().and_then(constant_text),
        _ => None,
    }
}

/// The fields of a plain column reference.
pub(super) fn column(node: &Node) -> Option<&[Node]> {
    match &node.node {
        Some(NodeEnum::ColumnRef(column)) => Some(&column.fields),
        _ => None,
    }
}

/// Whether a node is a literal, a parameter, NULL or DEFAULT, looking through casts.
pub(super) fn is_literal(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(_) | NodeEnum::ParamRef(_) | NodeEnum::SetToDefault(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_literal),
        _ => false,
    }
}

/// The column and the number of literals of `column = literal`, `column <> literal` and `column [NOT] IN (literals)`.
fn comparison(expression: &AExpr) -> Option<(&[Node], u32)> {
    let (left, right) = (expression.lexpr.as_deref()?, expression.rexpr.as_deref()?);
    let by_equality = match expression.name.as_slice() {
        [name] => matches!(text(name), Some("=" | "<>")),
        [schema, name] => text(schema) == Some("pg_catalog") && matches!(text(name), Some("=" | "<>")),
        _ => false,
    };
    if !by_equality {
        return None;
    }
    match expression.kind() {
        AExprKind::AexprOp => match (column(left), column(right)) {
            (Some(fields), None) if is_literal(right) => Some((fields, 1)),
            (None, Some(fields)) if is_literal(left) => Some((fields, 1)),
            _ => None,
        },
        AExprKind::AexprIn => match &right.node {
            Some(NodeEnum::List(list)) if list.items.iter().all(is_literal) => {
                Some((column(left)?, u32::try_from(list.items.len()).unwrap_or(u32::MAX)))
            }
            _ => None,
        },
        AExprKind::AexprOpAny => match &right.node {
            Some(NodeEnum::AArrayExpr(array)) if array.elements.iter().all(is_literal) => {
                Some((column(left)?, u32::try_from(array.elements.len()).unwrap_or(u32::MAX)))
            }
            _ => None,
        },
        _ => None,
    }
}
