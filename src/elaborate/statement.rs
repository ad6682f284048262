//! Statements: each takes the flow and gives the next one.

use super::bindings::Bindings;
use super::labels::join;
use super::value::{TableValue, Val};
use super::{Elaborator, Flow, Frame, MAX_BLOCKS};
use crate::diagnostic::{Diagnostic, Span};
use crate::ir::Phase;
use crate::syntax::ast::{self, Block, Expr, ExprKind, Let, Pattern, Statement, StatementKind, Table};
use std::rc::Rc;

impl Elaborator<'_> {
    /// Evaluates what stands at the top of each file.
    pub(super) fn globals(&mut self) {
        // A function of a file that is used reads what that file binds.
        let files: Vec<_> = self.program.files().collect();
        for file in files.into_iter().rev() {
            let mut frame = self.new_frame(file, None);
            let program = self.program;
            for item in &program.file(file).tree.items {
                match item {
                    ast::Item::Let(l) => self.bind_let(&mut frame, l),
                    ast::Item::Table(t) => self.bind_table(&mut frame, t),
                    _ => continue,
                }
                // At once, for the functions of this file.
                let globals = self.globals.entry(file).or_default();
                frame.variables.leave(0).into_iter().for_each(|(name, value)| globals.bind(&name, value));
            }
        }
    }

    /// A frame of `file`, inside of the caller's scopes where there is a caller.
    pub(super) fn new_frame(&mut self, file: super::FileId, caller: Option<&Frame>) -> Frame {
        let scopes = caller.map_or(vec![], |c| c.scopes.clone());
        Frame {
            id: self.labels.new_frame(caller.map(|c| c.id)),
            file,
            variables: Bindings::default(),
            base: scopes.len(),
            scopes,
            input: Flow::Nothing,
            here: Flow::Nothing,
            aux: caller.and_then(|c| c.aux.clone()),
            in_loop: false,
            in_phase: caller.is_some_and(|c| c.in_phase),
            in_training: false,
            calls: caller.map_or(Rc::default(), |c| c.calls.clone()),
            active: caller.map_or(vec![], |c| c.active.clone()),
            shares: caller.and_then(|c| c.shares.clone()),
        }
    }

    /// Evaluates a block: its bindings end with it, `in` is the flow at its start.
    pub(super) fn block(&mut self, frame: &mut Frame, block: &Block, flow: Flow) -> Flow {
        self.scoped(frame, block.span, flow, |this, frame| this.statements(frame, &block.statements, flow))
    }

    pub(super) fn scoped(
        &mut self,
        frame: &mut Frame,
        span: Span,
        flow: Flow,
        inner: impl FnOnce(&mut Self, &mut Frame) -> Flow,
    ) -> Flow {
        if self.depth == MAX_BLOCKS {
            let message = format!("blocks and calls nest deeper than {MAX_BLOCKS}");
            let diagnostic = Diagnostic::error("too-deep", message).primary(span, "one too many");
            let innermost = frame.active.last().filter(|&id| frame.active.iter().filter(|&a| a == id).count() > 1);
            let diagnostic = match innermost {
                Some(&id) => {
                    let name = &self.program.definition(id).name.name;
                    diagnostic
                        .help(format!("`{name}` calls itself again and again: an `if` around the call must end it"))
                }
                None => diagnostic,
            };
            self.error(frame, diagnostic);
            self.stopped = true;
            return Flow::Unknown;
        }
        let (bound, input) = (frame.variables.len(), std::mem::replace(&mut frame.input, flow));
        self.depth += 1;
        let result = inner(self, frame);
        self.depth -= 1;
        frame.variables.leave(bound);
        frame.input = input;
        result
    }

    pub(super) fn statements(&mut self, frame: &mut Frame, statements: &[Statement], flow: Flow) -> Flow {
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
        frame.here = flow;
        let Some(label) = &statement.label else {
            return self.unlabelled(frame, statement, false, flow);
        };
        let Some(mut name) = self.label_text(frame, label) else {
            self.lacks_labels = true;
            // A scope of its own, so that what it holds is not taken for the same thing again.
            frame.scopes.push(format!("#{}", self.steps));
            let result = self.unlabelled(frame, statement, true, flow);
            frame.scopes.pop();
            return result;
        };
        let full = join(&frame.scopes, &name);
        let id = match self.labels.define(&full, label.span, frame.id) {
            Ok(id) => id,
            Err(first) => {
                self.duplicate_label(frame, &full, label.span, first);
                // Another name for the weights, so that they are not reported as well.
                name = format!("{name}#{}", self.steps);
                self.labels.define_again(&full, label.span, frame.id)
            }
        };
        let weights = self.weight_holders();
        frame.scopes.push(name);
        let result = self.unlabelled(frame, statement, true, flow);
        frame.scopes.pop();
        self.labels.set(id, result, self.weight_holders() > weights);
        if let Flow::Node(node) = result
            && result != flow
        {
            self.results.push((node, full));
        }
        result
    }

    /// Warns of a `from(in)` that goes nowhere, since `in` is what enters the innermost block.
    fn warn_of_idle_from(&mut self, frame: &Frame, span: Span) {
        let message = "`in` is the value at hand here: this changes nothing";
        let diagnostic = Diagnostic::warning("idle-from", message).primary(span, "goes on from what it has");
        let diagnostic = diagnostic
            .note("within `for`, `if` and labelled blocks, `in` is what enters that block, not the module")
            .help(
                "to come back to another value, give it a label: `start: identity` before the block, and `from(start)`",
            );
        self.report.add(super::with_calls(diagnostic, &frame.calls));
    }

    fn duplicate_label(&mut self, frame: &Frame, name: &str, span: Span, first: Span) {
        let diagnostic = Diagnostic::error("duplicate-label", format!("the label `{name}` is given twice"));
        let diagnostic = diagnostic.primary(span, "given again");
        self.error(
            frame,
            match span == first {
                true => diagnostic.help("put the loop's variable into the label: `name{i}:`"),
                false => diagnostic
                    .secondary(first, "first given here")
                    .help(format!("for the same weights again, give it a label of its own and say `shares {name}`")),
            },
        );
    }

    fn weight_holders(&self) -> usize {
        self.origins.len() + self.unnamed.len() + self.sharing.len()
    }

    /// A statement whose label is the innermost scope already; `labelled` says that it has one.
    fn unlabelled(&mut self, frame: &mut Frame, statement: &Statement, labelled: bool, flow: Flow) -> Flow {
        match &statement.kind {
            StatementKind::Call(call) => self.call(frame, call, labelled, flow),
            StatementKind::Block(block) => self.block(frame, block, flow),
            StatementKind::Branches(branches) => self.branches(frame, branches, flow),
            StatementKind::Residual { condition, body, skip } => {
                match condition.as_ref().map_or(Some(true), |e| self.condition(frame, e)) {
                    Some(true) => self.residual(frame, body, skip.as_ref(), statement.span, flow),
                    Some(false) => self.block(frame, body, flow),
                    None => {
                        self.lacks_labels = true;
                        Flow::Unknown
                    }
                }
            }
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
            StatementKind::From(value) => {
                let next = self.network_value(frame, value).flow;
                if matches!(value.kind, ExprKind::In) && matches!(flow, Flow::Node(_)) && next == flow {
                    self.warn_of_idle_from(frame, statement.span);
                }
                next
            }
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
            | StatementKind::Expect(_) => self.model_statement(frame, statement, flow),
        }
    }

    pub(super) fn is_phase(&self, name: &str) -> bool {
        name == if self.options.phase == Phase::Train { "train" } else { "infer" }
    }

    /// The block of an `if` that is taken; an error where that is unknown.
    pub(super) fn chosen<'b>(
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
    pub(super) fn each(
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
            let outer = std::mem::replace(&mut frame.in_loop, true);
            self.bind(frame, pattern, value);
            body(self, frame);
            frame.in_loop = outer;
            frame.variables.leave(bound);
        }
    }

    // ---- Bindings ----------------------------------------------------------------------------

    pub(super) fn bind_let(&mut self, frame: &mut Frame, l: &Let) {
        let value = self.eval(frame, &l.value);
        self.bind(frame, &l.pattern, value);
    }

    /// Binds the names of a pattern; to `Unknown` where the value does not fit.
    fn bind(&mut self, frame: &mut Frame, pattern: &Pattern, value: Val) {
        for (name, value) in self.taken_apart(frame, pattern, value) {
            frame.variables.bind(name, value);
        }
    }

    /// The names of a pattern and their values.
    pub(super) fn taken_apart<'p>(&mut self, frame: &Frame, pattern: &'p Pattern, value: Val) -> Vec<(&'p str, Val)> {
        let (parts, span) = match pattern {
            Pattern::Name(ident) => return vec![(&ident.name, value)],
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
        parts.iter().zip(values).flat_map(|(part, value)| self.taken_apart(frame, part, value)).collect()
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
        frame.variables.bind(&table.name.name, value);
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
}

/// The names and sizes in an expression, with their text.
fn gather_leaves<'e>(e: &'e Expr, leaves: &mut Vec<(String, &'e Expr)>) {
    match &e.kind {
        ExprKind::Name(name) => leaves.push((name.clone(), e)),
        ExprKind::Field(operand, field) => match &operand.kind {
            ExprKind::In => leaves.push((format!("in.{}", field.name), e)),
            ExprKind::Here => leaves.push((format!("here.{}", field.name), e)),
            ExprKind::Name(name) => leaves.push((format!("{name}.{}", field.name), e)),
            _ => gather_leaves(operand, leaves),
        },
        ExprKind::Function(_, args) => args.iter().for_each(|a| gather_leaves(&a.value, leaves)),
        // What it binds has no value outside of it.
        ExprKind::Comprehension { each, .. } => {
            if let Some(first) = each.first() {
                gather_leaves(&first.items, leaves);
            }
        }
        ExprKind::List(_) | ExprKind::Tuple(_) | ExprKind::Template(_) | ExprKind::Label(_) => {}
        _ => e.parts().into_iter().for_each(|part| gather_leaves(part, leaves)),
    }
}
