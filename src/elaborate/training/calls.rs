//! Calls of models: each evaluates the model's text on other values, with the weights of the first call.

use std::rc::Rc;

use super::arguments::each_part;
use super::{Call, Elaborator, Frame, Given, Head, words};
use crate::diagnostic::{Diagnostic, Span};
use crate::elaborate::check::inner_blocks;
use crate::elaborate::labels::join;
use crate::elaborate::value::{TableValue, Val};
use crate::elaborate::{Flow, Shares};
use crate::ir::{NodeId, Output};
use crate::syntax::ast::*;
use crate::tensor::Shape;

impl<'a> Elaborator<'a> {
    /// What a function of a block gives: a model's outputs or a loss. `None` where it is another function.
    pub(in crate::elaborate) fn training_function(
        &mut self,
        frame: &Frame,
        name: &Ident,
        args: &[Arg],
        span: Span,
    ) -> Option<Val> {
        let model = self.state().models.iter().position(|m| m.name == name.name);
        if let Some(model) = model {
            return Some(self.call_model(frame, model, args, span));
        }
        let word = words::LOSSES.find(&name.name)?;
        Some(self.loss_value(frame, word, args, name.span).map_or(Val::Unknown, Val::Node))
    }

    /// Calls the only model of a block that does not call it: its inputs are the data.
    pub(super) fn implied_call(&mut self, frame: &mut Frame, block: &'a Train) {
        let state = self.state();
        let [model] = state.models.as_slice() else { return };
        let (name, span) = (model.name.clone(), model.span);
        if block_calls(&block.body, &name) {
            return;
        }
        let outputs = self.evaluate_model(frame, 0, None, span);
        for Output { name, node, .. } in outputs {
            frame.variables.bind(&name, Val::Node(node));
        }
        // Outputs that a mistake has kept from being evaluated.
        let mut names = vec![];
        let program = self.program;
        output_names(&program.definition(self.state().models[0].id).body, &mut names);
        for name in names {
            if frame.variables.find(name).is_none() {
                frame.variables.bind(name, Val::Unknown);
            }
        }
    }

    fn call_model(&mut self, frame: &Frame, model: usize, args: &[Arg], span: Span) -> Val {
        let mut given = vec![];
        for Arg { name, value, span } in args {
            let value = match self.eval(frame, value) {
                Val::Node(node) => Flow::Node(node),
                Val::Unknown => Flow::Unknown,
                other => {
                    let message = format!("a model takes values of the network, not {}", other.type_name());
                    self.report.add(Diagnostic::error("wrong-type", message).primary(*span, "no such value"));
                    Flow::Unknown
                }
            };
            given.push(Given { name: name.clone(), value, span: *span });
        }
        let outputs = self.evaluate_model(frame, model, Some(given), span);
        let own: Vec<&Output> = outputs.iter().filter(|o| o.aux.is_none()).collect();
        match own.as_slice() {
            [] => self.unknown(span),
            [only] => Val::Node(only.node),
            several => {
                let columns = several.iter().map(|o| o.name.clone()).collect();
                let row = several.iter().map(|o| Val::Node(o.node)).collect();
                Val::Row(Rc::new(TableValue { columns, rows: vec![row] }), 0)
            }
        }
    }

    /// Evaluates a model's text, and gives its outputs.
    fn evaluate_model(&mut self, frame: &Frame, index: usize, given: Option<Vec<Given>>, span: Span) -> Vec<Output> {
        let program = self.program;
        let is_given = given.is_some();
        let model = &mut self.state().models[index];
        let (id, name, calls) = (model.id, model.name.clone(), model.calls);
        let first = model.prefix.trim_end_matches('.').to_string();
        model.calls += 1;
        let root = if calls == 0 { first.clone() } else { format!("{name}#{}", calls + 1) };
        let definition = program.definition(id);
        let mut inner = self.new_frame(id.file, Some(frame));
        inner.scopes = if root.is_empty() { vec![] } else { vec![root.clone()] };
        inner.base = inner.scopes.len();
        if is_given {
            Rc::make_mut(&mut inner.calls).push((span, name));
        }
        if calls > 0 {
            inner.shares = Some(Rc::new(Shares { own: root.clone(), other: first.clone(), span }));
            self.state().later_roots.insert(root.clone());
        }
        self.state().roots.insert(root.clone());
        let outer =
            self.state().call.replace(Call { model: index, given, taken: vec![], root, first, again: calls > 0, span });
        self.graph.clear_outputs();
        self.output_spans.clear();
        let locals = std::mem::take(&mut self.locals);
        self.bind_settings(&mut inner, definition);
        self.block(&mut inner, &definition.body, Flow::Nothing);
        self.locals = locals;
        if !is_given {
            self.check_batch(definition);
        }
        let outputs = self.graph.outputs().to_vec();
        self.graph.clear_outputs();
        let call = std::mem::replace(&mut self.state().call, outer).expect("it was put there");
        if let Some(extra) = call.given.iter().flatten().next() {
            let inputs: Vec<&str> = call.taken.iter().map(|(name, _)| name.as_str()).collect();
            let values = if inputs.len() == 1 { "one value" } else { "fewer values" };
            let message = format!("`{}` takes {values}: {}", definition.name.name, inputs.join(", "));
            let diagnostic = Diagnostic::error("too-many-arguments", message).primary(extra.span, "one too many");
            self.report.add(diagnostic.secondary(definition.name.span, "this model"));
        }
        if outputs.iter().all(|o| o.aux.is_some()) && !self.report.has_errors() {
            let message = format!("the model `{}` has no output", definition.name.name);
            let diagnostic = Diagnostic::error("no-output", message).primary(definition.name.span, "puts nothing out");
            self.report.add(diagnostic.help("write `output name` where the value is complete"));
        }
        self.keep_heads(&outputs);
        outputs
    }

    /// Remembers the auxiliary heads beside the model's own outputs.
    fn keep_heads(&mut self, outputs: &[Output]) {
        let heads: Rc<[Head]> = outputs
            .iter()
            .filter_map(|output| {
                let aux = output.aux.as_ref()?;
                let span = *self.output_spans.get(&output.name).or(self.span_of(output.node).as_ref())?;
                Some(Head { node: output.node, name: aux.label.clone(), weight: aux.weight, span })
            })
            .collect();
        for output in outputs.iter().filter(|o| o.aux.is_none()) {
            self.state().heads.insert(output.node, heads.clone());
        }
    }

    pub(super) fn span_of(&self, node: NodeId) -> Option<Span> {
        self.graph.node(node).location.as_ref().map(|l| l.span)
    }

    // ---- What the evaluation of a model asks ---------------------------------------------------

    fn call_at_hand(&self) -> Option<&Call> {
        self.training.as_ref()?.call.as_ref()
    }

    /// Whether a model is evaluated for a `train` block.
    pub(in crate::elaborate) fn is_called(&self) -> bool {
        self.call_at_hand().is_some()
    }

    pub(in crate::elaborate) fn is_called_again(&self) -> bool {
        self.call_at_hand().is_some_and(|call| call.again)
    }

    /// The name that an input's label has in the call at hand.
    pub(in crate::elaborate) fn in_call(&self, name: &str) -> String {
        match self.call_at_hand() {
            Some(call) if !call.root.is_empty() => join(std::slice::from_ref(&call.root), name),
            _ => name.into(),
        }
    }

    pub(in crate::elaborate) fn note_input(&mut self, name: &Ident, node: NodeId) {
        if let Some(call) = self.training.as_mut().and_then(|state| state.call.as_mut()) {
            call.taken.push((name.name.clone(), node));
        }
    }

    /// The node of a model's input in the call at hand.
    pub(in crate::elaborate) fn called_input(&self, name: Option<&Ident>) -> Option<NodeId> {
        let taken = &self.call_at_hand()?.taken;
        match name {
            Some(Ident { name, .. }) => taken.iter().find(|(n, _)| n == name).map(|(_, node)| *node),
            None => taken.last().map(|(_, node)| *node),
        }
    }

    /// What stands for an input of the model at hand; `None` where it is an input of the graph.
    pub(in crate::elaborate) fn given_input(&mut self, name: &Ident, shape: &Shape) -> Option<Flow> {
        let call = self.training.as_mut()?.call.as_mut()?;
        let Some(given) = &mut call.given else { return self.declared_input(name, shape) };
        let by_name = given.iter().position(|g| g.name.as_ref().is_some_and(|n| n.name == name.name));
        let place = by_name.or_else(|| given.iter().position(|g| g.name.is_none()));
        let Some(place) = place else {
            let (model, span) = (call.model, call.span);
            let model = &self.state().models[model];
            let message = format!("`{}` needs a value for its input `{}`", model.name, name.name);
            let diagnostic = Diagnostic::error("missing-argument", message).primary(span, "not given");
            self.report.add(diagnostic.secondary(name.span, format!("takes {shape}")));
            return Some(Flow::Unknown);
        };
        let Given { value, span, .. } = given.remove(place);
        if let Flow::Node(node) = value {
            call.taken.push((name.name.clone(), node));
        } else {
            // A mistake in the argument; nothing is known of the input.
        }
        self.fitting_input(name, shape, value, span)
    }

    fn fitting_input(&mut self, name: &Ident, shape: &Shape, value: Flow, span: Span) -> Option<Flow> {
        let Flow::Node(node) = value else { return Some(value) };
        let found = &self.graph.node(node).shape;
        if found == shape {
            return Some(value);
        }
        let message = format!("the input `{}` is {shape}, not {found}", name.name);
        let diagnostic = Diagnostic::error("wrong-input", message).primary(span, format!("this is {found}"));
        self.report.add(diagnostic.secondary(name.span, "the model's input"));
        Some(Flow::Unknown)
    }

    /// The `data` that a block declares for an input of its model.
    fn declared_input(&mut self, name: &Ident, shape: &Shape) -> Option<Flow> {
        if !self.step(name.span, self.graph.inputs().len() / 16) {
            return Some(Flow::Unknown);
        }
        let of_name = |id: &&NodeId| self.graph.node(**id).name.as_deref() == Some(&name.name);
        let node = *self.graph.inputs().iter().find(of_name)?;
        let (_, span) = *self.state().sources.get(&node)?;
        self.note_input(name, node);
        self.fitting_input(name, shape, Flow::Node(node), span)
    }

    /// Whether a scope is the label of a model's call, which is no part of the names of its weights.
    pub(in crate::elaborate) fn is_model_call(&self, path: &str) -> bool {
        self.training.as_ref().is_some_and(|state| state.roots.contains(path))
    }

    /// Whether a name belongs to a call of a model that has been called before.
    pub(in crate::elaborate) fn is_in_later_call(&self, name: &str) -> bool {
        let head = name.split('.').next().unwrap_or(name);
        self.training.as_ref().is_some_and(|state| state.later_roots.contains(head))
    }

    /// Remembers where a layer is whose work depends on the phase.
    pub(in crate::elaborate) fn note_place(&mut self, node: NodeId, scopes: &[String]) {
        let Some(state) = &mut self.training else { return };
        let Some(call) = &state.call else { return };
        let inner = if call.root.is_empty() { scopes } else { &scopes[1..] };
        let first = (!call.first.is_empty()).then_some(&call.first);
        let place = first.into_iter().chain(inner).map(String::as_str).collect::<Vec<_>>().join(".");
        state.places.insert(node, place);
    }
}

/// The outputs in a model's text.
fn output_names<'d>(block: &'d Block, names: &mut Vec<&'d str>) {
    for statement in &block.statements {
        if let StatementKind::Output { name: Label { parts, .. }, .. } = &statement.kind
            && let [TemplatePart::Text(name)] = parts.as_slice()
        {
            names.push(name);
        }
        inner_blocks(&statement.kind).into_iter().for_each(|b| output_names(b, names));
    }
}

/// Whether an expression of a block calls the model.
fn block_calls(body: &TrainBlock, model: &str) -> bool {
    let mut found = false;
    let mut visit = |e: &Expr| {
        each_part(e, &mut |part| {
            if let ExprKind::Function(name, _) = &part.kind {
                found |= name.name == model;
            }
        });
    };
    for statement in &body.statements {
        match &statement.kind {
            TrainStatementKind::Clause { values, .. } => values.iter().for_each(&mut visit),
            TrainStatementKind::Let(l) => visit(&l.value),
            _ => {}
        }
    }
    found
        || body.statements.iter().any(|s| match &s.kind {
            TrainStatementKind::Step { body, .. } => block_calls(body, model),
            _ => false,
        })
}
