//! Expressions: their values at compile time.

use super::arithmetic::{FUNCTIONS, Fault, apply, call_function, fault};
use super::call::assign;
use super::program::FunctionId;
use super::value::{Items, MAX_DEPTH, MAX_ITEMS, MAX_STRING, TableValue, Val};
use super::{Elaborator, Flow, Frame, MAX_EXPRESSIONS};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::ir::NodeId;
use crate::ops::layer::Value;
use crate::syntax::ast::{Arg, BinaryOp, Each, Expr, ExprKind, Function, Ident, Label, TemplatePart, UnaryOp};
use std::rc::Rc;

/// The fields of a value of the network.
pub(super) const FIELDS: &[&str] = &["channels", "height", "width", "rank", "shape"];

/// What `in` is, where it is not what somebody thought.
const OF_BLOCKS: &str = "within `for`, `if` and labelled blocks, `in` is what enters that block: a `let` before it keeps what enters the module";

impl Elaborator<'_> {
    /// The value of an expression; `Unknown` where it has none, which has then been reported.
    pub(super) fn eval(&mut self, frame: &Frame, e: &Expr) -> Val {
        if !self.step(e.span, 1) {
            return Val::Unknown;
        }
        if self.expressions == MAX_EXPRESSIONS {
            let message = format!("functions and expressions nest deeper than {MAX_EXPRESSIONS}");
            self.error(frame, Diagnostic::error("too-deep", message).primary(e.span, "one too many"));
            self.stopped = true;
            return Val::Unknown;
        }
        self.expressions += 1;
        let value = self.value_of(frame, e);
        self.expressions -= 1;
        value
    }

    fn value_of(&mut self, frame: &Frame, e: &Expr) -> Val {
        match &e.kind {
            ExprKind::Int(v) => Val::Int(*v),
            ExprKind::Float(v) => Val::Float(*v),
            ExprKind::Bool(v) => Val::Bool(*v),
            ExprKind::Template(parts) => {
                self.template(frame, parts, e.span).map_or(Val::Unknown, |s| Val::Str(s.into()))
            }
            ExprKind::Name(name) => self.name(frame, name, e.span),
            ExprKind::In => self.flow_value(frame, frame.input, e.span),
            ExprKind::Here => self.flow_value(frame, frame.here, e.span),
            ExprKind::Label(label) => match self.label_text(frame, label) {
                Some(name) => match self.field_of_label(frame, &name, label.span) {
                    Some(value) => value,
                    None => self.label_value(frame, &name, label.span),
                },
                None => Val::Unknown,
            },
            ExprKind::List(items) => self.items(frame, items, e.span).map_or(Val::Unknown, Val::List),
            ExprKind::Tuple(items) => self.items(frame, items, e.span).map_or(Val::Unknown, Val::Tuple),
            ExprKind::Range { start, end, inclusive } => self.range(frame, start, end, *inclusive),
            ExprKind::Unary(op, operand) => self.unary(frame, *op, operand, e.span),
            ExprKind::Binary(BinaryOp::And, _, left, right) => self.logical(frame, left, right, false),
            ExprKind::Binary(BinaryOp::Or, _, left, right) => self.logical(frame, left, right, true),
            ExprKind::Binary(op, span, left, right) => self.binary(frame, *op, *span, left, right),
            ExprKind::If { condition, then, otherwise } => match self.condition(frame, condition) {
                Some(true) => self.eval(frame, then),
                Some(false) => self.eval(frame, otherwise),
                None => Val::Unknown,
            },
            ExprKind::Field(operand, field) => self.field(frame, operand, field, e.span),
            ExprKind::Index(operand, index) => self.index(frame, operand, index),
            ExprKind::Slice { operand, start, end, inclusive } => {
                self.slice(frame, operand, [start.as_deref(), end.as_deref()], *inclusive, e.span)
            }
            ExprKind::Comprehension { value, each } => self.comprehension(frame, value, each, e.span),
            ExprKind::Function(name, args) => self.function(frame, name, args, e.span),
            ExprKind::Error => self.unknown(e.span),
        }
    }

    pub(super) fn unknown(&mut self, span: Span) -> Val {
        self.report.unknown(span);
        Val::Unknown
    }

    fn fail(&mut self, frame: &Frame, code: &'static str, span: Span, fault: Fault) -> Val {
        let diagnostic = Diagnostic::error(code, fault.0).primary(span, "");
        let diagnostic = match fault.1 {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        };
        self.error(frame, diagnostic);
        Val::Unknown
    }

    /// The text of a label; `None` where a part of it is unknown.
    pub(super) fn label_text(&mut self, frame: &Frame, label: &Label) -> Option<String> {
        self.template(frame, &label.parts, label.span)
    }

    fn template(&mut self, frame: &Frame, parts: &[TemplatePart], span: Span) -> Option<String> {
        let mut text = String::new();
        for part in parts {
            match part {
                TemplatePart::Text(t) => text.push_str(t),
                TemplatePart::Expr(e) => match self.eval(frame, e) {
                    Val::Unknown => return None,
                    value => text.push_str(&value.to_string()),
                },
            }
            if text.len() > MAX_STRING || !self.step(span, text.len() / 64) {
                self.fail(frame, "string-too-long", span, (format!("a string of more than {MAX_STRING} bytes"), None));
                return None;
            }
        }
        Some(text)
    }

    /// What a name stands for in the expression or the body at hand.
    pub(super) fn bound<'v>(&'v self, frame: &'v Frame, name: &str) -> Option<&'v Val> {
        self.locals.find(name).or_else(|| frame.variables.find(name))
    }

    fn name(&mut self, frame: &Frame, name: &str, span: Span) -> Val {
        let global = || self.globals.get(&frame.file).and_then(|g| g.find(name));
        if let Some(value) = self.bound(frame, name).or_else(global) {
            return value.clone();
        }
        match self.labels.find(name, &frame.scopes, frame.base, frame.id) {
            Some(flow) => self.flow_value(frame, flow, span),
            None => self.unknown(span),
        }
    }

    fn flow_value(&mut self, frame: &Frame, flow: Flow, span: Span) -> Val {
        match flow {
            Flow::Node(node) => Val::Node(node),
            Flow::Unknown => self.unknown(span),
            Flow::Nothing => {
                let diagnostic =
                    Diagnostic::error("no-input", "nothing enters this block").primary(span, "no value yet");
                self.error(frame, diagnostic.help("declare an `input` before it"));
                Val::Unknown
            }
        }
    }

    /// The value that a label names.
    pub(super) fn label_value(&mut self, frame: &Frame, name: &str, span: Span) -> Val {
        if let Some(flow) = self.labels.find(name, &frame.scopes, frame.base, frame.id) {
            return self.flow_value(frame, flow, span);
        }
        if self.lacks_labels || self.report.lost_words.contains(name.split('.').next().unwrap_or(name)) {
            return self.unknown(span);
        }
        let diagnostic = Diagnostic::error("unknown-label", format!("no label `{name}` has been seen so far"));
        let names = self.labels.names(&frame.scopes, frame.base, frame.id);
        let diagnostic = diagnostic.primary(span, "unknown label");
        let diagnostic = match nearest(name, names.iter().map(String::as_str)) {
            _ if name.starts_with(|c: char| c.is_ascii_digit()) && name.contains(|c: char| !c.is_ascii_digit()) => {
                diagnostic
                    .help("if it is a number: they are decimal, `16`, with single `_` within, `1_000`, and `1e-3`")
            }
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None if frame.base + frame.calls.len() > 0 && self.labels.exists(name) => diagnostic
                .help("a module does not see its caller's labels: pass the value as an argument, without quotes"),
            None if names.is_empty() => diagnostic.help("write `name:` before the layer whose value is meant"),
            None => diagnostic.help(format!("labels so far: {}", some_of(&names))),
        };
        self.error(frame, diagnostic);
        Val::Unknown
    }

    fn items(&mut self, frame: &Frame, items: &[Expr], span: Span) -> Option<Rc<Items>> {
        let values = items.iter().map(|e| self.eval(frame, e)).collect();
        self.make_items(frame, values, span)
    }

    fn make_items(&mut self, frame: &Frame, values: Vec<Val>, span: Span) -> Option<Rc<Items>> {
        if !self.step(span, values.len()) {
            return None;
        }
        let items = Items::new(values);
        if items.is_none() {
            let message = format!("a list of more than {MAX_ITEMS} values or {MAX_DEPTH} levels");
            self.fail(frame, "list-too-long", span, (message, None));
        }
        items
    }

    fn range(&mut self, frame: &Frame, start: &Expr, end: &Expr, inclusive: bool) -> Val {
        let bounds = [start, end].map(|e| (self.eval(frame, e), e.span));
        if bounds.iter().any(|(v, _)| v.is_unknown()) {
            return Val::Unknown;
        }
        if let Some((value, span)) = bounds.iter().find(|(v, _)| v.integer().is_none()) {
            let message = format!("a range goes from integer to integer, this is {}", value.type_name());
            let steps = matches!(value, Val::Range(..));
            let help = steps.then_some("a range counts by one: `2 * i for i in 0..n` counts by two");
            return self.fail(frame, "wrong-type", *span, (message, help));
        }
        let [start, end] = bounds.map(|(v, _)| v.integer().unwrap_or(0));
        Val::Range(start, end.saturating_add(i64::from(inclusive)))
    }

    /// The truth of a condition; `None` where it is unknown.
    pub(super) fn condition(&mut self, frame: &Frame, e: &Expr) -> Option<bool> {
        match self.eval(frame, e) {
            Val::Bool(value) => Some(value),
            Val::Unknown => None,
            other => {
                let message = format!("a condition is true or false, this is {}", other.type_name());
                self.fail(frame, "wrong-type", e.span, (message, Some("compare it with something: `x != 0`")));
                None
            }
        }
    }

    /// `and` and `or`: the right side is evaluated only where the left one leaves it open.
    fn logical(&mut self, frame: &Frame, left: &Expr, right: &Expr, decided_by: bool) -> Val {
        match self.condition(frame, left) {
            None => Val::Unknown,
            Some(value) if value == decided_by => Val::Bool(value),
            Some(_) => self.condition(frame, right).map_or(Val::Unknown, Val::Bool),
        }
    }

    fn unary(&mut self, frame: &Frame, op: UnaryOp, operand: &Expr, span: Span) -> Val {
        if op == UnaryOp::Not {
            return self.condition(frame, operand).map_or(Val::Unknown, |v| Val::Bool(!v));
        }
        match self.eval(frame, operand) {
            Val::Unknown => Val::Unknown,
            Val::Int(v) => match v.checked_neg() {
                Some(v) => Val::Int(v),
                None => self.fail(frame, "overflow", span, ("the result is too large for an integer".into(), None)),
            },
            Val::Float(v) => Val::Float(-v),
            other => self.fail(frame, "wrong-type", span, (format!("{} has no negative", other.type_name()), None)),
        }
    }

    fn binary(&mut self, frame: &Frame, op: BinaryOp, span: Span, left: &Expr, right: &Expr) -> Val {
        let (a, b) = (self.eval(frame, left), self.eval(frame, right));
        if a.is_unknown() || b.is_unknown() {
            return Val::Unknown;
        }
        let parts = [&a, &b].map(|v| v.parts().map_or(0, <[Val]>::len));
        if !self.step(span, parts[0] + parts[1]) {
            return Val::Unknown;
        }
        match apply(op, &a, &b) {
            Ok(value) => value,
            Err((message, help)) => {
                let mut diagnostic = Diagnostic::error("bad-operation", message)
                    .primary(span, "this operation")
                    .secondary(left.span, format!("{} ({})", a.type_name(), a.quoted()))
                    .secondary(right.span, format!("{} ({})", b.type_name(), b.quoted()));
                diagnostic.help.extend(help.map(str::to_string));
                self.error(frame, diagnostic);
                Val::Unknown
            }
        }
    }

    fn field(&mut self, frame: &Frame, operand: &Expr, field: &Ident, span: Span) -> Val {
        if let Some(value) = self.dotted_label(frame, operand, field, span) {
            return value;
        }
        let is_label = matches!(operand.kind, ExprKind::Template(_)) && FIELDS.contains(&field.name.as_str());
        let value = match self.eval(frame, operand) {
            // A label with braces, as it is written in an expression.
            Val::Str(name) if is_label => self.label_value(frame, &name, operand.span),
            value => value,
        };
        match value {
            Val::Unknown => Val::Unknown,
            Val::Node(node) => {
                if matches!(operand.kind, ExprKind::In) && field.name == "channels" {
                    self.warn_of_the_input(frame, node, span);
                }
                let is_in = matches!(operand.kind, ExprKind::In);
                self.shape_field(frame, node, field, is_in.then_some(OF_BLOCKS))
            }
            Val::Row(table, row) => match table.columns.iter().position(|c| *c == field.name) {
                Some(column) => table.rows[row][column].clone(),
                None => self.unknown_field(frame, "the table has no column", field, &table.columns),
            },
            other => {
                let message = format!("{} has no fields", other.type_name());
                let is_text = matches!(other, Val::Str(_)) && FIELDS.contains(&field.name.as_str());
                let help = is_text.then_some("a label without quotes is a value, which has them");
                self.fail(frame, "unknown-field", field.span, (message, help))
            }
        }
    }

    /// Warns of `in.channels` where a model's own input has other channels than the value at hand, far behind it.
    fn warn_of_the_input(&mut self, frame: &Frame, input: NodeId, span: Span) {
        let Flow::Node(here) = frame.here else { return };
        let node = self.graph.node(input);
        let channels = |id: NodeId| self.graph.node(id).shape.dims().get(1).copied();
        let (Some(own), Some(at_hand)) = (channels(input), channels(here)) else { return };
        let Some(name) = node.name.as_deref().filter(|_| node.op().is_none() && frame.calls.is_empty()) else { return };
        if own == at_hand {
            return;
        }
        let message = format!("`in.channels` is {own}, of the model's input `{name}`: the value at hand has {at_hand}");
        let diagnostic = Diagnostic::warning("channels-of-input", message).primary(span, "the input's channels");
        self.report.add(
            diagnostic
                .help("write `here.channels` for the value at hand")
                .help(format!("if the input's are meant, `{name}.channels` says so")),
        );
    }

    /// `a.b` where `a.b` is a label and `a` nothing else.
    fn dotted_label(&mut self, frame: &Frame, operand: &Expr, field: &Ident, span: Span) -> Option<Val> {
        let head = dotted_name(operand)?;
        let first = head.split('.').next().unwrap_or(&head);
        let bound = self.bound(frame, first).is_some();
        if bound || (FIELDS.contains(&field.name.as_str()) && self.has_label(frame, &head)) {
            return None;
        }
        let name = format!("{head}.{}", field.name);
        let flow = self.labels.find(&name, &frame.scopes, frame.base, frame.id)?;
        Some(self.flow_value(frame, flow, span))
    }

    /// What `level{i}.channels` is where there is a label `level0`, and none of the whole name.
    fn field_of_label(&mut self, frame: &Frame, name: &str, span: Span) -> Option<Val> {
        let (head, field) = name.rsplit_once('.').filter(|(_, field)| FIELDS.contains(field))?;
        if self.has_label(frame, name) || !self.has_label(frame, head) {
            return None;
        }
        Some(match self.label_value(frame, head, span) {
            Val::Node(node) => self.shape_field(frame, node, &Ident { name: field.into(), span }, None),
            other => other,
        })
    }

    pub(super) fn has_label(&mut self, frame: &Frame, name: &str) -> bool {
        self.labels.find(name, &frame.scopes, frame.base, frame.id).is_some()
    }

    fn shape_field(&mut self, frame: &Frame, node: NodeId, field: &Ident, help: Option<&'static str>) -> Val {
        let shape = self.graph.node(node).shape.clone();
        let size = |axis: usize| shape.dims().get(axis).map(|&d| Val::Int(d as i64));
        let value = match field.name.as_str() {
            "channels" => size(1),
            "height" if matches!(shape.rank(), 4 | 5) => size(shape.rank() - 2),
            "width" if matches!(shape.rank(), 4 | 5) => size(shape.rank() - 1),
            "height" | "width" => None,
            "rank" => Some(Val::Int(shape.rank() as i64)),
            "shape" => {
                let dims = shape.dims().iter().map(|&d| Val::Int(d as i64)).collect();
                return Items::new(dims).map_or(Val::Unknown, Val::List);
            }
            _ => {
                let names: Vec<String> = FIELDS.iter().map(|f| f.to_string()).collect();
                return self.unknown_field(frame, "a value of the network has no field", field, &names);
            }
        };
        value.unwrap_or_else(|| {
            let message = format!("this value is no image, it has no {}: {shape}", field.name);
            self.fail(frame, "unknown-field", field.span, (message, help))
        })
    }

    fn unknown_field(&mut self, frame: &Frame, what: &str, field: &Ident, names: &[String]) -> Val {
        let diagnostic =
            Diagnostic::error("unknown-field", format!("{what} `{}`", field.name)).primary(field.span, "unknown");
        let diagnostic = match nearest(&field.name, names.iter().map(String::as_str)) {
            Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
            None => diagnostic.help(format!("there are {}", some_of(names))),
        };
        self.error(frame, diagnostic);
        Val::Unknown
    }

    fn index(&mut self, frame: &Frame, operand: &Expr, index: &Expr) -> Val {
        let (value, at) = (self.eval(frame, operand), self.eval(frame, index));
        let fail = |this: &mut Self, message: String| this.fail(frame, "bad-index", index.span, (message, None));
        let inside = |length: usize, at: i64| from_start(length, at).filter(|&i| i < length);
        match (&value, &at) {
            (Val::Unknown, _) | (_, Val::Unknown) => Val::Unknown,
            (Val::Table(table), Val::Int(i)) => match inside(table.rows.len(), *i) {
                Some(row) => Val::Row(table.clone(), row),
                None => fail(self, format!("row {i} of a table of {} rows", table.rows.len())),
            },
            (Val::Table(table), key) => {
                let row = table.rows.iter().position(|row| row.first().is_some_and(|c| c.equals(key)));
                row.map_or_else(
                    || fail(self, format!("no row of the table begins with {}", key.quoted())),
                    |row| Val::Row(table.clone(), row),
                )
            }
            (Val::Range(start, end), Val::Int(i)) => {
                let length = usize::try_from(end.saturating_sub(*start)).unwrap_or(0);
                match inside(length, *i) {
                    Some(i) => Val::Int(start + i as i64),
                    None => fail(self, format!("element {i} of {value}")),
                }
            }
            (_, Val::Int(i)) => match value.parts() {
                Some(parts) => match inside(parts.len(), *i) {
                    Some(i) => parts[i].clone(),
                    None => fail(self, format!("element {i} of {} values", parts.len())),
                },
                None => fail(self, format!("{} has no elements", value.type_name())),
            },
            (_, other) => fail(self, format!("an index is an integer, this is {}", other.type_name())),
        }
    }

    /// `operand[start..end]`: a bound below 0 counts from the end.
    fn slice(&mut self, frame: &Frame, operand: &Expr, bounds: [Option<&Expr>; 2], inclusive: bool, span: Span) -> Val {
        let value = self.eval(frame, operand);
        let bounds = bounds.map(|bound| bound.map(|e| (self.eval(frame, e), e.span)));
        if value.is_unknown() || bounds.iter().flatten().any(|(v, _)| v.is_unknown()) {
            return Val::Unknown;
        }
        if let Some((v, span)) = bounds.iter().flatten().find(|(v, _)| v.integer().is_none()) {
            let message = format!("a range goes from integer to integer, this is {}", v.type_name());
            return self.fail(frame, "wrong-type", *span, (message, None));
        }
        let length = match &value {
            Val::Range(start, end) => usize::try_from(end.saturating_sub(*start)).unwrap_or(0),
            Val::Table(table) => table.rows.len(),
            Val::List(_) | Val::Tuple(_) => value.parts().map_or(0, <[Val]>::len),
            other => {
                let message = format!("{} has no elements to take a part of", other.type_name());
                return self.fail(frame, "bad-index", operand.span, (message, None));
            }
        };
        let [start, end] = bounds.map(|bound| bound.and_then(|(v, _)| v.integer()));
        let place = |at: i64| from_start(length, at).filter(|&i| i <= length);
        let first = start.map_or(Some(0), place);
        // Of an end that counts, its own element is the last.
        let behind = match end {
            None => Some(length),
            Some(end) if inclusive => from_start(length, end).filter(|&i| i < length).map(|i| i + 1),
            Some(end) => place(end),
        };
        let (Some(first), Some(behind)) = (first, behind) else {
            let [start, end] = [start, end].map(|at| at.map_or(String::new(), |at| at.to_string()));
            let message = format!("elements {start}{}{end} of {length} values", if inclusive { "..=" } else { ".." });
            return self.fail(frame, "bad-index", span, (message, None));
        };
        let range = first..behind.max(first);
        match &value {
            Val::Range(start, _) => Val::Range(start + range.start as i64, start + range.end as i64),
            Val::Table(table) => {
                if !self.step(span, range.len()) {
                    return Val::Unknown;
                }
                let rows = table.rows[range].to_vec();
                Val::Table(Rc::new(TableValue { columns: table.columns.clone(), rows }))
            }
            Val::Tuple(items) => {
                self.make_items(frame, items.values()[range].to_vec(), span).map_or(Val::Unknown, Val::Tuple)
            }
            list => {
                let values = list.parts().unwrap_or(&[])[range].to_vec();
                self.make_items(frame, values, span).map_or(Val::Unknown, Val::List)
            }
        }
    }

    /// `[value for pattern in items if condition]`: of several clauses, the last walks fastest.
    fn comprehension(&mut self, frame: &Frame, value: &Expr, each: &[Each], span: Span) -> Val {
        let mut values = vec![];
        match self.walk(frame, value, each, &mut values) {
            Some(()) => self.make_items(frame, values, span).map_or(Val::Unknown, Val::List),
            None => Val::Unknown,
        }
    }

    /// Gathers the values of a comprehension; `None` where one of them, or how many they are, is unknown.
    fn walk(&mut self, frame: &Frame, value: &Expr, each: &[Each], values: &mut Vec<Val>) -> Option<()> {
        let Some((Each { pattern, items, condition }, inner)) = each.split_first() else {
            let span = value.span;
            let value = Some(self.eval(frame, value)).filter(|value| !value.is_unknown())?;
            if values.len() == MAX_ITEMS {
                let message = format!("a list of more than {MAX_ITEMS} values or {MAX_DEPTH} levels");
                self.fail(frame, "list-too-long", span, (message, None));
                return None;
            }
            values.push(value);
            return Some(());
        };
        let walked = Some(self.eval(frame, items)).filter(|walked| !walked.is_unknown())?;
        let elements = match self.elements(frame, &walked, items.span) {
            Ok(elements) => elements,
            Err(fault) => {
                self.fail(frame, "wrong-type", items.span, fault);
                return None;
            }
        };
        for element in elements {
            let bound = self.locals.len();
            for (name, value) in self.taken_apart(frame, pattern, element) {
                self.locals.bind(name, value);
            }
            let taken = condition.as_ref().map_or(Some(true), |condition| self.condition(frame, condition));
            let result = match taken {
                Some(true) => self.walk(frame, value, inner, values),
                Some(false) => Some(()),
                None => None,
            };
            self.locals.leave(bound);
            result?;
        }
        Some(())
    }

    /// Calls a function of the text.
    fn own_function(&mut self, frame: &Frame, id: FunctionId, function: &Function, args: &[Arg], span: Span) -> Val {
        let names: Vec<&str> = function.params.iter().map(|p| p.name.name.as_str()).collect();
        let slots: Vec<Option<Val>> =
            assign(args, &names).into_iter().map(|arg| arg.map(|arg| self.eval(frame, &arg.value))).collect();
        let mut inner = self.new_frame(id.file, None);
        // `check` has reported who asks for these.
        (inner.input, inner.here) = (Flow::Unknown, Flow::Unknown);
        inner.calls = frame.calls.clone();
        Rc::make_mut(&mut inner.calls).push((span, function.name.name.clone()));
        let locals = std::mem::take(&mut self.locals);
        for (param, given) in function.params.iter().zip(slots) {
            let value = match (given, &param.default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(&inner, default),
                (None, None) => self.unknown(span),
            };
            inner.variables.bind(&param.name.name, value);
        }
        let value = self.eval(&inner, &function.body);
        self.locals = locals;
        value
    }

    fn function(&mut self, frame: &Frame, name: &Ident, args: &[Arg], span: Span) -> Val {
        if frame.in_training
            && let Some(value) = self.training_function(frame, name, args, span)
        {
            return value;
        }
        let program = self.program;
        if let Some((id, function)) = program.function(frame.file, &name.name) {
            return self.own_function(frame, id, function, args, span);
        }
        let values: Vec<Val> = args.iter().map(|a| self.eval(frame, &a.value)).collect();
        if values.iter().any(Val::is_unknown) {
            return Val::Unknown;
        }
        let Some((_, least, most)) = FUNCTIONS.iter().find(|(n, ..)| *n == name.name) else {
            return self.unknown(name.span);
        };
        if values.len() < *least || values.len() > *most {
            return self.unknown(span);
        }
        let result = match (name.name.as_str(), values.as_slice()) {
            ("enumerate", [list]) => self.enumerate(frame, list, span),
            ("zip", [a, b]) => self.zip(frame, a, b, span),
            _ => call_function(&name.name, &values),
        };
        result.unwrap_or_else(|fault| self.fail(frame, "bad-operation", span, fault))
    }

    fn enumerate(&mut self, frame: &Frame, list: &Val, span: Span) -> Result<Val, Fault> {
        let values = self.elements(frame, list, span)?;
        let counted: Vec<Val> = values.into_iter().enumerate().map(|(i, v)| pair(Val::Int(i as i64), v)).collect();
        Ok(self.make_items(frame, counted, span).map_or(Val::Unknown, Val::List))
    }

    fn zip(&mut self, frame: &Frame, a: &Val, b: &Val, span: Span) -> Result<Val, Fault> {
        let (a, b) = (self.elements(frame, a, span)?, self.elements(frame, b, span)?);
        if a.len() != b.len() {
            return fault(format!("zip of {} and {} values", a.len(), b.len()));
        }
        let pairs = a.into_iter().zip(b).map(|(a, b)| pair(a, b)).collect();
        Ok(self.make_items(frame, pairs, span).map_or(Val::Unknown, Val::List))
    }

    /// The values that a `for` walks.
    pub(super) fn elements(&mut self, frame: &Frame, value: &Val, span: Span) -> Result<Vec<Val>, Fault> {
        let length = match value {
            Val::Range(start, end) => usize::try_from(end.saturating_sub(*start)).unwrap_or(0),
            Val::Table(table) => table.rows.len(),
            Val::List(_) | Val::Tuple(_) | Val::Row(..) => value.parts().map_or(0, <[Val]>::len),
            other => return fault(format!("{} cannot be walked", other.type_name())),
        };
        if length > MAX_ITEMS || !self.step(span, length) {
            let message = format!("the loop would run {length} times; the limit is {MAX_ITEMS}");
            self.error(frame, Diagnostic::error("unroll-limit", message).primary(span, "too many values"));
            self.stopped = true;
            return Ok(vec![]);
        }
        Ok(match value {
            Val::Range(start, end) => (*start..*end).map(Val::Int).collect(),
            Val::Table(table) => (0..length).map(|row| Val::Row(table.clone(), row)).collect(),
            _ => value.parts().unwrap_or(&[]).to_vec(),
        })
    }
}

/// The place that an index means, which counts from the end where it is below 0.
fn from_start(length: usize, at: i64) -> Option<usize> {
    usize::try_from(if at < 0 { at.checked_add(i64::try_from(length).ok()?)? } else { at }).ok()
}

fn pair(a: Val, b: Val) -> Val {
    Items::new(vec![a, b]).map_or(Val::Unknown, Val::Tuple)
}

/// `a`, `a.b`, `a.b.c`: the text of an expression that a label could be.
pub(crate) fn dotted_name(e: &Expr) -> Option<String> {
    match &e.kind {
        ExprKind::Name(name) => Some(name.clone()),
        ExprKind::Field(operand, field) => Some(format!("{}.{}", dotted_name(operand)?, field.name)),
        _ => None,
    }
}

/// The first few of some names.
pub(crate) fn some_of(names: &[String]) -> String {
    let shown = names.iter().take(8).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if names.len() > 8 { format!("{shown}, …") } else { shown }
}

/// The value of an expression that needs no names.
pub(crate) fn constant(e: &Expr) -> Option<Value> {
    let list = |items: &[Expr]| items.iter().map(constant).collect::<Option<Vec<_>>>();
    match &e.kind {
        ExprKind::Int(v) => Some(Value::Int(*v)),
        ExprKind::Float(v) => Some(Value::Float(*v)),
        ExprKind::Bool(v) => Some(Value::Bool(*v)),
        ExprKind::Template(parts) => match parts.as_slice() {
            [] => Some(Value::Str(String::new())),
            [TemplatePart::Text(text)] => Some(Value::Str(text.clone())),
            _ => None,
        },
        ExprKind::List(items) => list(items).map(Value::List),
        ExprKind::Tuple(items) => list(items).map(Value::Tuple),
        _ => None,
    }
}
