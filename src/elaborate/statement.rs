//! Statements: each takes the flow and gives the next one.

use super::labels::join;
use super::value::{TableValue, Val};
use super::{Elaborator, Flow, Frame, MAX_BLOCKS};
use crate::diagnostic::{Diagnostic, Span};
use crate::ir::Phase;
use crate::ops::Op;
use crate::ops::layer::Args;
use crate::syntax::ast::{self, Block, Branches, Expr, ExprKind, Let, Pattern, Statement, StatementKind, Table};
use std::rc::Rc;

/// A value that enters a join, and the text to show for it.
#[derive(Clone, Copy)]
pub struct Operand {
    pub flow: Flow,
    pub span: Option<Span>,
}

impl Elaborator<'_> {
    /// Evaluates what stands at the top of each file.
    pub(super) fn globals(&mut self) {
        for file in self.program.files() {
            let mut frame = self.new_frame(file, None);
            let program = self.program;
            for item in &program.file(file).tree.items {
                match item {
                    ast::Item::Let(l) => self.bind_let(&mut frame, l),
                    ast::Item::Table(t) => self.bind_table(&mut frame, t),
                    _ => {}
                }
                self.globals.insert(file, frame.variables.clone());
            }
        }
    }

    /// A frame of `file`, inside of the caller's scopes where there is a caller.
    pub(super) fn new_frame(&mut self, file: super::FileId, caller: Option<&Frame>) -> Frame {
        let scopes = caller.map_or(vec![], |c| c.scopes.clone());
        Frame {
            id: self.labels.new_frame(caller.map(|c| c.id)),
            file,
            variables: vec![],
            base: scopes.len(),
            scopes,
            input: Flow::Nothing,
            aux: caller.and_then(|c| c.aux.clone()),
            in_phase: caller.is_some_and(|c| c.in_phase),
            calls: caller.map_or(Rc::default(), |c| c.calls.clone()),
            active: caller.map_or(vec![], |c| c.active.clone()),
        }
    }

    /// Evaluates a block: its bindings end with it, `in` is the flow at its start.
    pub(super) fn block(&mut self, frame: &mut Frame, block: &Block, flow: Flow) -> Flow {
        self.scoped(frame, block.span, flow, |this, frame| this.statements(frame, &block.statements, flow))
    }

    fn scoped(
        &mut self,
        frame: &mut Frame,
        span: Span,
        flow: Flow,
        inner: impl FnOnce(&mut Self, &mut Frame) -> Flow,
    ) -> Flow {
        if self.depth == MAX_BLOCKS {
            let message = format!("blocks and calls nest deeper than {MAX_BLOCKS}");
            self.error(frame, Diagnostic::error("too-deep", message).primary(span, "one too many"));
            return Flow::Unknown;
        }
        let (bound, input) = (frame.variables.len(), std::mem::replace(&mut frame.input, flow));
        self.depth += 1;
        let result = inner(self, frame);
        self.depth -= 1;
        frame.variables.truncate(bound);
        frame.input = input;
        result
    }

    fn statements(&mut self, frame: &mut Frame, statements: &[Statement], flow: Flow) -> Flow {
        let mut flow = flow;
        for (i, statement) in statements.iter().enumerate() {
            // Taken for the label that it most likely is; `check` has reported it.
            if !super::check::is_bare_label(self.program, frame.file, statements, i) {
                flow = self.statement(frame, statement, flow);
            }
        }
        flow
    }

    fn statement(&mut self, frame: &mut Frame, statement: &Statement, flow: Flow) -> Flow {
        if !self.step(statement.span, 1) {
            return Flow::Unknown;
        }
        let Some(label) = &statement.label else {
            return self.unlabelled(frame, statement, false, flow);
        };
        let Some(mut name) = self.label_text(frame, label) else {
            self.lacks_labels = true;
            return self.unlabelled(frame, statement, false, flow);
        };
        let full = join(&frame.scopes, &name);
        let id = match self.labels.define(&full, label.span, frame.id) {
            Ok(id) => Some(id),
            Err(first) => {
                self.duplicate_label(frame, &full, label.span, first);
                // Another name for the weights, so that they are not reported as well.
                name = format!("{name}#{}", self.steps);
                None
            }
        };
        let weights = self.weight_holders();
        frame.scopes.push(name);
        let result = self.unlabelled(frame, statement, true, flow);
        frame.scopes.pop();
        if let Some(id) = id {
            self.labels.set(id, result, self.weight_holders() > weights);
        }
        if let Flow::Node(node) = result
            && result != flow
        {
            self.results.push((node, full));
        }
        result
    }

    fn duplicate_label(&mut self, frame: &Frame, name: &str, span: Span, first: Span) {
        let diagnostic = Diagnostic::error("duplicate-label", format!("the label `{name}` is given twice"));
        let diagnostic = diagnostic.primary(span, "given again");
        self.error(
            frame,
            match span == first {
                true => diagnostic.help("put the loop's variable into the label: `name{i}:`"),
                false => diagnostic.secondary(first, "first given here"),
            },
        );
    }

    fn weight_holders(&self) -> usize {
        self.origins.len() + self.unnamed.len()
    }

    /// A statement whose label is the innermost scope already; `labelled` says that it has one.
    fn unlabelled(&mut self, frame: &mut Frame, statement: &Statement, labelled: bool, flow: Flow) -> Flow {
        match &statement.kind {
            StatementKind::Call(call) => self.call(frame, call, labelled, flow),
            StatementKind::Block(block) => self.block(frame, block, flow),
            StatementKind::Branches(branches) => self.branches(frame, branches, flow),
            StatementKind::Residual { body, skip } => self.residual(frame, body, skip.as_ref(), statement.span, flow),
            StatementKind::Aux(aux) => self.aux(frame, aux, flow),
            StatementKind::For { pattern, items, body } => {
                let mut flow = flow;
                self.each(frame, pattern, items, |this, frame| flow = this.block(frame, body, flow));
                flow
            }
            StatementKind::If { arms, otherwise } => match self.chosen(frame, arms, otherwise.as_ref()) {
                Ok(Some(block)) => self.block(frame, block, flow),
                Ok(None) => flow,
                Err(()) => Flow::Unknown,
            },
            StatementKind::When { phase, body } if self.is_phase(&phase.name) => {
                let outer = std::mem::replace(&mut frame.in_phase, true);
                let result = self.block(frame, body, flow);
                frame.in_phase = outer;
                result
            }
            StatementKind::When { .. } => flow,
            StatementKind::Let(l) => {
                self.bind_let(frame, l);
                flow
            }
            StatementKind::Table(table) => {
                self.bind_table(frame, table);
                flow
            }
            StatementKind::Require { condition, message } => {
                if self.require(frame, condition, message.as_ref()) {
                    flow
                } else {
                    Flow::Unknown
                }
            }
            StatementKind::From(value) => self.network_value(frame, value).flow,
            StatementKind::Error(block) => {
                self.report.unknown(statement.span);
                if let Some(block) = block {
                    self.block(frame, block, Flow::Unknown);
                }
                Flow::Unknown
            }
            StatementKind::Input { .. }
            | StatementKind::Output { .. }
            | StatementKind::Preprocess { .. }
            | StatementKind::ClassLabels(_)
            | StatementKind::Expect { .. } => self.model_statement(frame, statement, flow),
        }
    }

    fn is_phase(&self, name: &str) -> bool {
        name == if self.options.phase == Phase::Train { "train" } else { "infer" }
    }

    /// The block of an `if` that is taken; an error where that is unknown.
    fn chosen<'b>(
        &mut self,
        frame: &Frame,
        arms: &'b [(Expr, Block)],
        otherwise: Option<&'b Block>,
    ) -> Result<Option<&'b Block>, ()> {
        for (condition, block) in arms {
            match self.condition(frame, condition) {
                Some(true) => return Ok(Some(block)),
                Some(false) => {}
                None => {
                    self.lacks_labels = true;
                    return Err(());
                }
            }
        }
        Ok(otherwise)
    }

    /// Runs `body` with the pattern bound to each of the items.
    fn each(
        &mut self,
        frame: &mut Frame,
        pattern: &Pattern,
        items: &Expr,
        mut body: impl FnMut(&mut Self, &mut Frame),
    ) {
        let value = self.eval(frame, items);
        if value.is_unknown() {
            self.lacks_labels = true;
            return;
        }
        let values = match self.elements(frame, &value, items.span) {
            Ok(values) => values,
            Err((message, _)) => {
                self.lacks_labels = true;
                let diagnostic = Diagnostic::error("wrong-type", message).primary(items.span, value.type_name());
                self.error(frame, diagnostic.help("walk a range `0..n`, a list or a table"));
                return;
            }
        };
        for value in values {
            if !self.step(items.span, 1) {
                return;
            }
            let bound = frame.variables.len();
            self.bind(frame, pattern, value);
            body(self, frame);
            frame.variables.truncate(bound);
        }
    }

    // ---- Bindings ----------------------------------------------------------------------------

    fn bind_let(&mut self, frame: &mut Frame, l: &Let) {
        let value = self.eval(frame, &l.value);
        self.bind(frame, &l.pattern, value);
    }

    /// Binds the names of a pattern; to `Unknown` where the value does not fit.
    fn bind(&mut self, frame: &mut Frame, pattern: &Pattern, value: Val) {
        let (parts, span) = match pattern {
            Pattern::Name(ident) => {
                frame.variables.push((ident.name.clone(), value));
                return;
            }
            Pattern::Tuple(parts, span) => (parts, span),
        };
        let values = match value.parts() {
            Some(values) if values.len() == parts.len() => values.to_vec(),
            _ => {
                if !value.is_unknown() {
                    self.pattern_mismatch(frame, &value, parts.len(), *span);
                }
                vec![Val::Unknown; parts.len()]
            }
        };
        for (part, value) in parts.iter().zip(values) {
            self.bind(frame, part, value);
        }
    }

    fn pattern_mismatch(&mut self, frame: &Frame, value: &Val, names: usize, span: Span) {
        let holds = match value.parts() {
            Some(parts) => format!("{value} has {} parts", parts.len()),
            None => format!("{} has no parts", value.type_name()),
        };
        let message = format!("{names} names cannot be taken from this value: {holds}");
        self.error(frame, Diagnostic::error("pattern-mismatch", message).primary(span, format!("{names} names")));
    }

    fn bind_table(&mut self, frame: &mut Frame, table: &Table) {
        let rows = table.rows.iter().map(|row| row.iter().map(|cell| self.eval(frame, cell)).collect::<Vec<_>>());
        let rows: Vec<Vec<Val>> = rows.collect();
        let columns: Vec<String> = table.columns.iter().map(|c| c.name.clone()).collect();
        let fits = rows.iter().all(|r| r.len() == columns.len());
        let value = if fits { Val::Table(Rc::new(TableValue { columns, rows })) } else { Val::Unknown };
        frame.variables.push((table.name.name.clone(), value));
    }

    /// False where the requirement does not hold: what follows then makes no sense.
    fn require(&mut self, frame: &Frame, condition: &Expr, message: Option<&Expr>) -> bool {
        if self.condition(frame, condition) != Some(false) {
            return true;
        }
        let text = match message.map(|m| self.eval(frame, m)) {
            None => "a requirement does not hold".to_string(),
            Some(Val::Unknown) => return false,
            Some(value) => value.to_string(),
        };
        let mut diagnostic = Diagnostic::error("requirement", text).primary(condition.span, "required");
        let values = self.values_in(frame, condition);
        if !values.is_empty() {
            diagnostic = diagnostic.note(format!("here {}", values.join(", ")));
        }
        self.error(frame, diagnostic);
        false
    }

    /// `channels = 63` for each name and size in an expression.
    fn values_in(&mut self, frame: &Frame, e: &Expr) -> Vec<String> {
        let mut leaves = vec![];
        gather_leaves(e, &mut leaves);
        let mut texts: Vec<String> = vec![];
        for (text, leaf) in leaves {
            let shown = format!("{text} = {}", self.eval(frame, leaf));
            if !texts.contains(&shown) {
                texts.push(shown);
            }
        }
        texts
    }

    // ---- Joins -------------------------------------------------------------------------------

    fn residual(&mut self, frame: &mut Frame, body: &Block, skip: Option<&Block>, span: Span, flow: Flow) -> Flow {
        let main = self.block(frame, body, flow);
        let other = skip.map_or(flow, |skip| self.block(frame, skip, flow));
        let keyword = Span { end: span.start + "residual".len() as u32, ..span };
        let last = |block: &Block| block.statements.last().map(|s| s.span);
        let operands = [Operand { flow: main, span: last(body) }, Operand { flow: other, span: skip.and_then(last) }];
        if let [Flow::Node(a), Flow::Node(b)] = [main, other]
            && self.graph.node(a).shape != self.graph.node(b).shape
        {
            let [a, b] = [a, b].map(|n| self.graph.node(n).shape.clone());
            let diagnostic = Diagnostic::error("join-mismatch", format!("the residual's body gives {a}, its skip {b}"))
                .primary(keyword, "adds two different shapes");
            let diagnostic = self.show_operands(diagnostic, &operands);
            self.error(
                frame,
                match skip {
                    None => diagnostic.help("give the residual a `skip { … }` that projects its input"),
                    Some(_) => diagnostic,
                },
            );
            return main;
        }
        self.join(frame, "add", &operands, keyword)
    }

    fn branches(&mut self, frame: &mut Frame, branches: &Branches, flow: Flow) -> Flow {
        let mut operands = vec![];
        self.scoped(frame, branches.span, flow, |this, frame| {
            this.branch_lines(frame, &branches.body.statements, flow, &mut operands);
            flow
        });
        if operands.is_empty() {
            let diagnostic = Diagnostic::error("no-branches", "nothing to join");
            self.error(frame, diagnostic.primary(branches.span, "no branch").help("write one branch a line"));
            return Flow::Unknown;
        }
        self.join(frame, &branches.join.name, &operands, branches.join.span)
    }

    /// Gathers the branches of some lines. `for`, `if` and `when` alone on a line bring those of
    /// their blocks; bindings and requirements bring none.
    fn branch_lines(&mut self, frame: &mut Frame, statements: &[Statement], flow: Flow, operands: &mut Vec<Operand>) {
        for line in ast::lines(statements) {
            let [Statement { label: None, kind, .. }] = line else {
                self.branch(frame, line, flow, operands);
                continue;
            };
            let mut inner = |this: &mut Self, frame: &mut Frame, block: &Block| {
                this.scoped(frame, block.span, flow, |this, frame| {
                    this.branch_lines(frame, &block.statements, flow, operands);
                    flow
                });
            };
            match kind {
                StatementKind::For { pattern, items, body } => {
                    self.each(frame, pattern, items, |this, frame| inner(this, frame, body));
                }
                StatementKind::If { arms, otherwise } => {
                    if let Ok(Some(block)) = self.chosen(frame, arms, otherwise.as_ref()) {
                        inner(self, frame, block);
                    }
                }
                StatementKind::When { phase, body } if self.is_phase(&phase.name) => inner(self, frame, body),
                StatementKind::When { .. } => {}
                StatementKind::Let(_) | StatementKind::Table(_) | StatementKind::Require { .. } => {
                    self.statements(frame, line, flow);
                }
                _ => self.branch(frame, line, flow, operands),
            }
        }
    }

    fn branch(&mut self, frame: &mut Frame, line: &[Statement], flow: Flow, operands: &mut Vec<Operand>) {
        let result = self.statements(frame, line, flow);
        operands.push(Operand { flow: result, span: line.last().map(|s| s.span) });
    }

    /// Joins values by one of the layers that the language has words for.
    fn join(&mut self, frame: &mut Frame, layer: &str, operands: &[Operand], span: Span) -> Flow {
        let Some(layer) = self.program.layer(layer) else {
            self.report.unknown(span);
            return Flow::Unknown;
        };
        let mut args = Args::default();
        super::call::set_defaults(layer, &mut args);
        match (layer.build)(&args) {
            Ok(op) => self.join_values(frame, op, layer, operands, span),
            Err(error) => unreachable!("{} is built from its defaults: {}", layer.name, error.message),
        }
    }

    /// Adds an operation of several values; one that takes two is applied again and again.
    pub(super) fn join_values(
        &mut self,
        frame: &mut Frame,
        op: Op,
        layer: &crate::ops::layer::Layer,
        operands: &[Operand],
        span: Span,
    ) -> Flow {
        let node = |o: &Operand| if let Flow::Node(n) = o.flow { Some(n) } else { None };
        let nodes: Option<Vec<_>> = operands.iter().map(node).collect();
        let Some(nodes) = nodes.filter(|n| !n.is_empty()) else {
            self.report.unknown(span);
            return Flow::Unknown;
        };
        if nodes.len() == 1 {
            return Flow::Node(nodes[0]);
        }
        let result = match layer.arity {
            crate::ops::layer::Arity::Fold => nodes[1..]
                .iter()
                .try_fold(nodes[0], |sum, &next| self.add_node(frame, op.clone(), &[sum, next], span, false)),
            _ => self.add_node(frame, op, &nodes, span, false),
        };
        match result {
            Ok(node) => Flow::Node(node),
            Err(error) => {
                let mut diagnostic =
                    Diagnostic::error("join-mismatch", error.message).primary(span, "joins these values");
                diagnostic.help.extend(error.help);
                let diagnostic = self.show_operands(diagnostic, operands);
                self.error(frame, diagnostic);
                Flow::Node(nodes[0])
            }
        }
    }

    /// Labels each operand with its shape, at the text that made it.
    fn show_operands(&self, mut diagnostic: Diagnostic, operands: &[Operand]) -> Diagnostic {
        for operand in operands {
            let Flow::Node(node) = operand.flow else { continue };
            let node = self.graph.node(node);
            let span = operand.span.or(node.location.as_ref().map(|l| l.span));
            if let Some(span) = span {
                diagnostic = diagnostic.secondary(span, node.shape.to_string());
            }
        }
        diagnostic
    }

    /// The value that an argument or a `from` names.
    pub(super) fn network_value(&mut self, frame: &Frame, e: &Expr) -> Operand {
        let value = match (&e.kind, super::expression::dotted_name(e)) {
            (ExprKind::Template(_), _) => match self.eval(frame, e) {
                Val::Str(name) => self.label_value(frame, &name, e.span),
                other => other,
            },
            (_, Some(name)) if !frame.variables.iter().any(|(n, _)| name.split('.').next() == Some(n)) => {
                self.label_value(frame, &name, e.span)
            }
            _ => match self.eval(frame, e) {
                Val::Str(name) => self.label_value(frame, &name, e.span),
                other => other,
            },
        };
        let flow = match value {
            Val::Node(node) => Flow::Node(node),
            Val::Unknown => Flow::Unknown,
            other => {
                let diagnostic =
                    Diagnostic::error("wrong-type", format!("a label belongs here, not {}", other.type_name()));
                self.error(frame, diagnostic.primary(e.span, "not a value of the network"));
                Flow::Unknown
            }
        };
        Operand { flow, span: None }
    }
}

/// The names and sizes in an expression, with their text.
fn gather_leaves<'e>(e: &'e Expr, leaves: &mut Vec<(String, &'e Expr)>) {
    match &e.kind {
        ExprKind::Name(name) => leaves.push((name.clone(), e)),
        ExprKind::Field(operand, field) => match &operand.kind {
            ExprKind::In => leaves.push((format!("in.{}", field.name), e)),
            ExprKind::Name(name) => leaves.push((format!("{name}.{}", field.name), e)),
            _ => gather_leaves(operand, leaves),
        },
        ExprKind::Unary(_, operand) => gather_leaves(operand, leaves),
        ExprKind::Binary(_, _, left, right) => {
            gather_leaves(left, leaves);
            gather_leaves(right, leaves);
        }
        ExprKind::Index(operand, index) => {
            gather_leaves(operand, leaves);
            gather_leaves(index, leaves);
        }
        ExprKind::Function(_, args) => args.iter().for_each(|a| gather_leaves(a, leaves)),
        _ => {}
    }
}
