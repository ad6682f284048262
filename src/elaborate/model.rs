//! Models: inputs, outputs, auxiliary heads and budgets.

use super::program::{DefinitionId, Program};
use super::value::Val;
use super::{Elaborator, Flow, Frame, Options};
use crate::diagnostic::{Diagnostic, SourceId, Span, nearest};
use crate::ir::stats::{Stats, stats};
use crate::ir::{AuxHead, Images, NodeId, Output, Phase, images};
use crate::ops::MAX_ELEMENTS;
use crate::ops::element::OF_INPUTS;
use crate::ops::layer::Value;
use crate::syntax::ast::{
    Aux, BinaryOp, Definition, DefinitionKind, Expr, ExprKind, Ident, Label, Statement, StatementKind,
};
use crate::tensor::{Element, Shape, with_pictures};

/// An `expect`, to be checked when the graph is complete.
pub(crate) struct Budget {
    metric: String,
    comparison: BinaryOp,
    value: Val,
    span: Span,
}

/// The model that the options name, or the only one.
pub(crate) fn choose(
    program: &Program,
    options: &Options,
    root: SourceId,
    report: &mut super::report::Report,
) -> Option<DefinitionId> {
    let models: Vec<(DefinitionId, &Definition)> = program.definitions(Program::ROOT, DefinitionKind::Model).collect();
    let names: Vec<String> = models.iter().map(|(_, d)| d.name.name.clone()).collect();
    let start = Span::new(root, 0, 0);
    let diagnostic = match (&options.model, models.as_slice()) {
        (Some(name), _) => match models.iter().find(|(_, d)| d.name.name == *name) {
            Some((id, _)) => return Some(*id),
            None => unknown_model(name, &names, start),
        },
        (None, [(id, _)]) => return Some(*id),
        (None, []) => {
            if report.has_errors() {
                return None;
            }
            Diagnostic::error("no-model", "the file holds no model")
                .primary(start, "this file")
                .help("write `model name { … }`; a `module` alone is only a part")
        }
        (None, several) => several.iter().fold(
            Diagnostic::error("several-models", format!("the file holds {} models", several.len()))
                .help(format!("say which one: `--model {}`", names.join("` or `--model "))),
            |diagnostic, (_, d)| diagnostic.primary(d.name.span, "a model"),
        ),
    };
    report.add(diagnostic);
    None
}

fn unknown_model(name: &str, names: &[String], start: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error("unknown-model", format!("the file holds no model `{name}`"));
    let diagnostic = diagnostic.primary(start, "this file");
    match nearest(name, names.iter().map(String::as_str)) {
        Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
        None if names.is_empty() => diagnostic.help("it holds none at all"),
        None => diagnostic.help(format!("it holds {}", super::expression::some_of(names))),
    }
}

impl Elaborator<'_> {
    /// Evaluates a model; its figures and how it treats images, unless something is wrong.
    pub(super) fn model(&mut self, id: DefinitionId) -> Option<(Stats, Images)> {
        let program = self.program;
        let definition = program.definition(id);
        let mut frame = self.new_frame(id.file, None);
        self.bind_settings(&mut frame, definition);
        self.block(&mut frame, &definition.body, Flow::Nothing);
        if self.graph.outputs().iter().all(|o| o.aux.is_some()) && !self.report.has_errors() {
            let message = format!("the model `{}` has no output", definition.name.name);
            let diagnostic = Diagnostic::error("no-output", message).primary(definition.name.span, "puts nothing out");
            self.report.add(diagnostic.help("write `output name` where the value is complete"));
        }
        self.check_batch(definition);
        self.unknown_shapes(definition);
        self.name_unnamed();
        self.share_weights();
        self.name_results();
        if self.report.has_errors() {
            return None;
        }
        self.unread_values();
        self.useless_labels();
        self.check_class_count(definition);
        let mut stats = stats(&self.graph);
        if self.open.is_empty() {
            // All inputs together are what one run takes.
            stats.batch = 1;
        }
        self.check_budgets(&stats);
        Some((stats, self.images()))
    }

    pub(super) fn bind_settings(&mut self, frame: &mut Frame, model: &Definition) {
        let names: Vec<&str> = model.params.iter().map(|p| p.name.name.as_str()).collect();
        for (name, _) in &self.options.set {
            if !names.contains(&name.as_str()) {
                let message = format!("the model `{}` has no parameter `{name}`", model.name.name);
                let diagnostic = Diagnostic::error("unknown-parameter", message);
                let diagnostic = diagnostic.primary(model.name.span, "this model");
                self.report.add(match nearest(name, names.iter().copied()) {
                    Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
                    None if names.is_empty() => diagnostic.help("it has no parameters"),
                    None => diagnostic.help(format!("its parameters: {}", names.join(", "))),
                });
            }
        }
        for param in &model.params {
            let set = self.options.set.iter().rev().find(|(n, _)| *n == param.name.name).map(|(_, v)| v);
            let value = match (set, &param.default) {
                (Some(value), default) => self.checked_setting(frame, value, default.as_ref(), &param.name),
                (None, Some(default)) => self.eval(frame, default),
                (None, None) => {
                    let name = &param.name.name;
                    let diagnostic =
                        Diagnostic::error("missing-argument", format!("the parameter `{name}` has no value"));
                    let diagnostic = diagnostic.primary(param.name.span, "neither default nor value");
                    self.report.add(diagnostic.help(format!("set it: --set {name}=…")));
                    Val::Unknown
                }
            };
            frame.variables.bind(&param.name.name, value);
        }
    }

    /// A value from outside must be of its default's type.
    fn checked_setting(&mut self, frame: &Frame, value: &Value, default: Option<&Expr>, name: &Ident) -> Val {
        let value = Val::from(value);
        let Some(default) = default else { return value };
        let wanted = self.eval(frame, default);
        let fits = wanted.is_unknown()
            || wanted.type_name() == value.type_name()
            || matches!((&wanted, &value), (Val::Float(_), Val::Int(_)));
        if fits {
            return value;
        }
        let given = if matches!(&value, Val::Str(s) if s.is_empty()) { "nothing".into() } else { value.to_string() };
        let message = format!("`{}` is {}, it cannot be set to {given}", name.name, wanted.type_name());
        let diagnostic = Diagnostic::error("wrong-type", message).primary(default.span, "its default");
        self.report.add(match how_to_write(&wanted, &value) {
            Some(text) => diagnostic.help(format!("write `--set '{}={text}'`", name.name)),
            None => diagnostic,
        });
        Val::Unknown
    }

    pub(super) fn model_statement(&mut self, frame: &mut Frame, statement: &Statement, flow: Flow) -> Flow {
        match &statement.kind {
            StatementKind::Input { name, dtype, dims } => return self.input(frame, name, dtype, dims, statement.span),
            StatementKind::Output { name, from } => self.output(frame, name, from.as_ref(), flow),
            // What another call of a model has said already.
            StatementKind::Preprocess { .. } | StatementKind::ClassLabels(_) if self.is_called_again() => {}
            StatementKind::Preprocess { input, settings } => {
                self.preprocess(frame, input.as_ref(), settings, statement.span);
            }
            StatementKind::ClassLabels(names) => self.class_labels(frame, names),
            StatementKind::Expect(expect) => {
                let value = self.eval(frame, &expect.value);
                let (metric, comparison) = (expect.metric.name.clone(), expect.comparison);
                // What stands outside of `when train` is stated of the network that infers.
                if frame.in_phase || self.options.phase == Phase::Infer {
                    self.budgets.push(Budget { metric, comparison, value, span: statement.span });
                }
            }
            other => unreachable!("{other:?} is no statement of models only"),
        }
        flow
    }

    // ---- Inputs and outputs ------------------------------------------------------------------

    fn input(&mut self, frame: &mut Frame, name: &Ident, dtype: &Ident, dims: &[Expr], span: Span) -> Flow {
        let element = input_element(dtype).unwrap_or_default();
        let stated = self.input_shape(frame, dims, span).map(|shape| shape.with_element(element));
        let given = stated.clone().and_then(|stated| self.given_shape(frame, name, dims, stated, span));
        let flow = match given {
            Some(shape) if let Some(given) = self.given_input(name, &shape) => given,
            Some(shape) => {
                let location = Some(self.location(span));
                let node = self.graph.add_input(&*name.name, shape, None, location);
                if dims.first().is_some_and(is_batch) {
                    self.open.push(node);
                }
                if let Some([_, _, height, width]) = stated.as_ref().and_then(Shape::nchw)
                    && stated.as_ref() != Some(&self.graph.node(node).shape)
                {
                    self.stated_sizes.insert(node, [height, width]);
                }
                self.note_input(name, node);
                Flow::Node(node)
            }
            None => {
                self.refused_inputs.insert(name.name.clone());
                Flow::Unknown
            }
        };
        match self.labels.define(&self.in_call(&name.name), name.span, frame.id) {
            Ok(id) => self.labels.set(id, flow, true),
            Err(first) => {
                let message = format!("the name `{}` is given twice", name.name);
                let diagnostic = Diagnostic::error("duplicate-label", message);
                self.report.add(diagnostic.primary(name.span, "again").secondary(first, "first"));
            }
        }
        // A block of a model without inputs so far begins with the input.
        if frame.input == Flow::Nothing {
            frame.input = flow;
        }
        flow
    }

    /// The shape that an input is asked to have in place of the stated one.
    fn given_shape(&mut self, frame: &Frame, name: &Ident, dims: &[Expr], stated: Shape, span: Span) -> Option<Shape> {
        let pictures = self.options.pictures.and_then(|size| with_pictures(stated.dims(), size));
        let Some(given) = self.options.shapes.get(&name.name).cloned().or(pictures) else { return Some(stated) };
        let mut sizes = given.clone();
        let is_open = dims.first().is_some_and(is_batch);
        let fits = sizes.len() == stated.rank()
            && !sizes.contains(&0)
            && (!is_open || sizes[0] == 1 || sizes[0] == self.batch);
        if fits && is_open {
            sizes[0] = self.batch;
        }
        let shape = Shape::of(stated.element(), sizes);
        let is_small = shape.checked_elements().is_some_and(|n| n <= MAX_ELEMENTS);
        if fits && is_small {
            return Some(shape);
        }
        let message = match (given.len() != stated.rank(), is_small) {
            (false, _) if given.contains(&0) => format!("a size of the input `{}` is 0", name.name),
            (true, _) => format!("the input `{}` has {} axes, not {}", name.name, stated.rank(), given.len()),
            (false, true) => format!("the first size of `{}` is `N`, which --batch sets, not {}", name.name, given[0]),
            (false, false) => format!("the input {shape} is larger than netc's limit of {MAX_ELEMENTS} elements"),
        };
        self.error(frame, Diagnostic::error("shape", message).primary(span, "asked to have another shape"));
        None
    }

    /// Shapes are given for inputs that the model has.
    fn unknown_shapes(&mut self, definition: &Definition) {
        // A mistake may have kept an input from being one.
        if self.report.has_errors() {
            return;
        }
        let names: Vec<String> =
            self.graph.inputs().iter().filter_map(|&id| self.graph.node(id).name.clone()).collect();
        let pictures = self.graph.inputs().iter().filter(|&&id| self.graph.node(id).shape.rank() == 4).count();
        if let (Some([height, width]), true) = (self.options.pictures, pictures != 1) {
            let message = format!("pictures of {height}x{width} are asked for, and {pictures} inputs have four axes");
            let diagnostic = Diagnostic::error("no-image", message).primary(definition.name.span, "this model");
            self.report.add(diagnostic.help("`--shape INPUT=SIZES` gives the whole shape of an input"));
        }
        for name in self.options.shapes.keys().filter(|name| !names.contains(name)) {
            let message = format!("a shape is given for `{name}`, but the inputs are {}", names.join(", "));
            let diagnostic = Diagnostic::error("unknown-input", message);
            self.report.add(diagnostic.primary(definition.name.span, "this model"));
        }
    }

    pub(super) fn input_shape(&mut self, frame: &Frame, dims: &[Expr], span: Span) -> Option<Shape> {
        let mut sizes = vec![];
        for dim in dims {
            if sizes.is_empty() && is_batch(dim) {
                sizes.push(self.batch);
                continue;
            }
            let value = self.eval(frame, dim);
            match value.integer().and_then(|v| usize::try_from(v).ok()).filter(|&v| v > 0) {
                Some(size) => sizes.push(size),
                None if value.is_unknown() => return None,
                None => {
                    let message = format!("a size is an integer from 1 on, not {value}");
                    self.error(frame, Diagnostic::error("wrong-type", message).primary(dim.span, "not a size"));
                    return None;
                }
            }
        }
        let shape = Shape::new(sizes);
        if shape.checked_elements().is_none_or(|n| n > MAX_ELEMENTS) {
            let message = format!("the input {shape} is larger than netc's limit of {MAX_ELEMENTS} elements");
            self.error(frame, Diagnostic::error("shape", message).primary(span, "too large"));
            return None;
        }
        Some(shape)
    }

    fn output(&mut self, frame: &Frame, label: &Label, from: Option<&Label>, flow: Flow) {
        let Some(name) = self.label_text(frame, label) else { return };
        let name = Ident { name, span: label.span };
        let flow = match from {
            None => flow,
            Some(label) => {
                let Some(text) = self.label_text(frame, label) else { return };
                match self.label_value(frame, &text, label.span) {
                    Val::Node(node) => Flow::Node(node),
                    _ => Flow::Unknown,
                }
            }
        };
        let node = match flow {
            Flow::Node(node) => node,
            Flow::Unknown => return self.report.unknown(name.span),
            Flow::Nothing => {
                let diagnostic = Diagnostic::error("no-input", format!("nothing to put out as `{}`", name.name));
                return self.report.add(diagnostic.primary(name.span, "no value comes here"));
            }
        };
        if let Some(first) = self.output_spans.insert(name.name.clone(), name.span) {
            let diagnostic = Diagnostic::error("duplicate-output", format!("two outputs are named `{}`", name.name));
            return self.error(frame, diagnostic.primary(name.span, "again").secondary(first, "first"));
        }
        self.graph.output(&*name.name, node, frame.aux.clone());
    }

    /// An auxiliary head: taps the flow, which goes on as if it were not there.
    pub(super) fn aux(&mut self, frame: &mut Frame, aux: &Aux, flow: Flow) -> Flow {
        let label = match &aux.label {
            Some(label) => match self.label_text(frame, label) {
                Some(text) => Some((text, label.span)),
                None => return flow,
            },
            None => None,
        };
        let weight = self.aux_weight(frame, aux);
        let name = label.as_ref().map_or(String::new(), |(text, _)| text.clone());
        let outer = frame.aux.replace(AuxHead { label: name.clone(), weight });
        let outputs = self.graph.outputs().len();
        if let Some((text, span)) = &label {
            if let Ok(id) = self.labels.define(&super::labels::join(&frame.scopes, text), *span, frame.id) {
                self.labels.set(id, Flow::Unknown, true);
            }
            frame.scopes.push(text.clone());
        }
        let end = self.block(frame, &aux.body, flow);
        if label.is_some() {
            frame.scopes.pop();
        }
        self.finish_head(frame, aux, &name, outputs, end);
        frame.aux = outer;
        flow
    }

    /// A head without an output puts its last value out under its own name.
    fn finish_head(&mut self, frame: &Frame, aux: &Aux, name: &str, outputs: usize, end: Flow) {
        let Flow::Node(node) = end else { return };
        if self.graph.outputs().len() == outputs {
            if name.is_empty() {
                let open = Span { end: aux.body.span.start + 1, ..aux.body.span };
                let diagnostic = Diagnostic::error("no-output", "an auxiliary head without a name puts nothing out");
                return self.error(frame, diagnostic.primary(open, "this head").help("write `output name` in it"));
            }
            self.graph.output(name, node, frame.aux.clone());
        }
        self.graph.name_heads(outputs);
    }

    /// The weight of a head's loss: 1 where none is given.
    fn aux_weight(&mut self, frame: &Frame, aux: &Aux) -> f64 {
        let Some(arg) = aux.args.first() else { return 1.0 };
        let value = self.eval(frame, &arg.value);
        match value.number() {
            Some(weight) => weight,
            None => {
                if !value.is_unknown() {
                    let message = format!("the weight of a head's loss is a number, not {}", value.type_name());
                    self.error(frame, Diagnostic::error("wrong-type", message).primary(arg.value.span, "not a number"));
                }
                1.0
            }
        }
    }

    // ---- When the graph is complete ----------------------------------------------------------

    /// What is asked for must be what the model's own sizes say, where no `N` can be another.
    pub(super) fn check_batch(&mut self, model: &Definition) {
        let batch = self.batch;
        let first = |&id: &NodeId| self.graph.node(id).shape.dims().first().copied();
        let sizes: Vec<usize> = self.graph.inputs().iter().filter_map(first).collect();
        let Some(own) = sizes.first() else { return };
        if !self.open.is_empty() || batch == 1 || sizes.contains(&batch) {
            return;
        }
        let message = format!("`{}` takes {own} at once, not {batch}: its first size is a number", model.name.name);
        let diagnostic = Diagnostic::error("fixed-batch", message).primary(model.name.span, "this model");
        self.report.add(diagnostic.help("with `N` as the first size of its inputs, it takes any number of images"));
    }

    /// Warns of what treats a batch of images, which the text leaves open, as more than its parts.
    fn images(&mut self) -> Images {
        let trace = images::trace(&self.graph, &self.open);
        let images = trace.images(&self.graph, &self.open);
        if let Some(mixing) = trace.mixing.first().filter(|_| !self.open.is_empty()) {
            let mixed = mixing.named(&self.graph);
            let message = format!("{} does not treat images one by one: {}", mixed.step, mixed.reason);
            let diagnostic = Diagnostic::warning("mixed-images", message);
            let diagnostic = match self.graph.node(mixing.node).location.as_ref() {
                Some(location) => diagnostic.primary(location.span, "mixes images"),
                None => diagnostic,
            };
            self.report.add(
                diagnostic
                    .note("a run takes as many images as the model is compiled for (--batch), and no other number")
                    .help("where one number alone makes sense, write it in place of `N`"),
            );
        }
        images
    }

    fn check_class_count(&mut self, model: &Definition) {
        let classes = self.graph.labels.len();
        let place = self.class_labels_span.unwrap_or(model.name.span);
        let fits = |node: NodeId| self.graph.node(node).shape.dims().get(1) == Some(&classes);
        if classes > 0 && !self.graph.outputs().iter().any(|o| o.aux.is_none() && fits(o.node)) {
            let message = format!("`labels` names {classes} classes, but no output has as many channels");
            let has = |output: &Output| format!("{} is {}", output.name, self.graph.node(output.node).shape);
            let own = self.graph.outputs().iter().filter(|o| o.aux.is_none()).map(has).collect::<Vec<_>>().join(", ");
            let diagnostic = Diagnostic::warning("class-count", message).primary(place, format!("{classes} names"));
            self.report.add(diagnostic.note(own));
        }
    }

    fn useless_labels(&mut self) {
        for (name, span) in self.labels.useless() {
            let message = format!("the label `{name}` names no weights, and nothing reads it");
            self.report.add(Diagnostic::warning("unused-label", message).primary(span, "never read"));
        }
    }

    fn check_budgets(&mut self, stats: &Stats) {
        for budget in std::mem::take(&mut self.budgets) {
            let Budget { metric, comparison, value, span } = budget;
            let actual = match metric.as_str() {
                "params" => stats.totals.params,
                "macs" => stats.totals.macs / stats.batch,
                "activations" => stats.totals.activations / stats.batch,
                "receptive_field" => stats.totals.receptive_field[0].max(stats.totals.receptive_field[1]),
                _ => stats.totals.layers,
            };
            let Some(expected) = value.number() else {
                let diagnostic =
                    Diagnostic::error("wrong-type", format!("a budget is a number, not {}", value.type_name()));
                self.report.add(diagnostic.primary(span, "this budget"));
                continue;
            };
            if !holds(actual as f64, comparison, expected) {
                let wanted = value.integer().map_or(value.to_string(), |v| grouped(v.unsigned_abs()));
                let message = format!("expected {metric} {} {wanted}, found {}", comparison.symbol(), grouped(actual));
                let difference = (expected - actual as f64).abs();
                let direction = if actual as f64 > expected { "more" } else { "fewer" };
                let note = format!("{} {direction} than stated", grouped(difference as u64));
                // What a text states of its network holds for the parameters that it gives.
                let diagnostic = match self.options.set.is_empty() && self.stated_sizes.is_empty() {
                    true => Diagnostic::error("budget", message).note(note),
                    false => {
                        Diagnostic::warning("budget", message).note(note).note("parameters or sizes have been set")
                    }
                };
                self.report.add(diagnostic.primary(span, format!("found {}", grouped(actual))));
            }
        }
    }
}

/// How a text that is no value of the language would be one of the type that is wanted.
fn how_to_write(wanted: &Val, given: &Val) -> Option<String> {
    let Val::Str(text) = given else {
        let Val::List(_) = wanted else { return None };
        return Some(format!("[{}]", given.quoted()));
    };
    match wanted {
        Val::Bool(_) => match text.to_lowercase().as_str() {
            "true" | "yes" | "on" => Some("true".into()),
            "false" | "no" | "off" => Some("false".into()),
            _ => None,
        },
        Val::List(_) => {
            let inner = text.trim_matches(|c| matches!(c, '[' | ']' | '(' | ')'));
            let parts: Vec<&str> = inner.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty()).collect();
            Some(format!("[{}]", parts.join(", ")))
        }
        _ => None,
    }
}

/// The element that stands before an input's sizes.
pub(crate) fn input_element(dtype: &Ident) -> Option<Element> {
    OF_INPUTS.into_iter().find(|element| element.name() == dtype.name)
}

/// `N`, the free size.
pub(crate) fn is_batch(dim: &Expr) -> bool {
    matches!(&dim.kind, ExprKind::Name(name) if name == "N")
}

fn holds(actual: f64, comparison: BinaryOp, expected: f64) -> bool {
    match comparison {
        BinaryOp::Eq => actual == expected,
        BinaryOp::Ne => actual != expected,
        BinaryOp::Lt => actual < expected,
        BinaryOp::Le => actual <= expected,
        BinaryOp::Gt => actual > expected,
        _ => actual >= expected,
    }
}

/// `1_234_567`, as the language writes large numbers.
pub(super) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits are ASCII")).collect();
    groups.join("_")
}
