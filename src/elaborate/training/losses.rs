//! Losses and metrics: sums of terms, each a number of the graph.

use std::sync::Arc;

use super::arguments::Called;
use super::clauses::Clauses;
use super::words::{LOSSES, METRICS, Word, pointwise};
use super::{Elaborator, Frame, Head};
use crate::diagnostic::{Diagnostic, Span};
use crate::elaborate::value::Val;
use crate::ir::NodeId;
use crate::ops::activation::Activation;
use crate::ops::training::pointwise_loss::LossKind;
use crate::ops::{Activate, Constant, CrossEntropy, Fill, Flatten, Init, Op, PointwiseLoss, Reshape, Softmax};
use crate::recipe::{Loss, Metric, RESERVED, Source};
use crate::syntax::ast::*;
use crate::tensor::Shape;

/// A loss ignores this class where nothing else is said; PyTorch's number, which no class has.
const NO_CLASS: i64 = -100;

/// Labels are numbers of 32 bits, which tell integers up to this apart.
const MOST_CLASSES: usize = 1 << 24;

impl<'a> Elaborator<'a> {
    /// The terms of a step's `loss`, or of the block's. `None` where there is none.
    pub(super) fn loss(
        &mut self,
        frame: &Frame,
        clauses: &Clauses<'a>,
        step: Option<&[Ident]>,
    ) -> Option<Vec<(Loss, Span)>> {
        let Some((values, _)) = clauses.single.get("loss") else {
            let (message, span) = match step {
                Some(names) => (format!("the step of `{}` has no loss", names[0].name), names[0].span),
                None => {
                    let name = self.graph.name.clone();
                    let span = self.state().models.first().map(|m| m.span)?;
                    (format!("`train {name}` has no loss"), span)
                }
            };
            if self.is_lost(clauses, "loss", span) {
                return None;
            }
            let diagnostic = Diagnostic::error("missing-clause", message).primary(span, "what is to become smaller?");
            self.report.add(diagnostic.help("add `loss cross_entropy(logits)`: `netc help losses`"));
            return None;
        };
        let value = values.first()?;
        if !self.known(frame, value) {
            return None;
        }
        let mut terms = vec![];
        self.terms(frame, value, 1.0, &mut terms)?;
        let mut all = vec![];
        for (node, weight, span) in terms {
            all.push((Loss { node, weight: weight as f32, auxiliary: false }, span));
            let of_heads = self.state().of_heads.get(&node).cloned().unwrap_or_default();
            for head in of_heads {
                let weight = (f64::from(head.weight) * weight) as f32;
                all.push((Loss { weight, ..head }, span));
            }
        }
        if let Some((_, span)) = all.iter().find(|(loss, _)| !loss.weight.is_finite()) {
            let diagnostic = Diagnostic::error("wrong-weight", "the weight of this loss is no number of 32 bits");
            self.report.add(diagnostic.primary(*span, ""));
            return None;
        }
        Some(all)
    }

    /// Takes a sum apart. `None` behind a mistake.
    fn terms(&mut self, frame: &Frame, e: &Expr, factor: f64, terms: &mut Vec<(NodeId, f64, Span)>) -> Option<()> {
        match &e.kind {
            ExprKind::Binary(BinaryOp::Add, _, left, right) => {
                let left = self.terms(frame, left, factor, terms);
                self.terms(frame, right, factor, terms).and(left)
            }
            ExprKind::Binary(BinaryOp::Sub, _, left, right) => {
                let left = self.terms(frame, left, factor, terms);
                self.terms(frame, right, -factor, terms).and(left)
            }
            ExprKind::Binary(BinaryOp::Mul, _, left, right) => {
                let (loss, weight) = if self.is_of_network(frame, left) { (left, right) } else { (right, left) };
                let weight = self.weight(frame, weight)?;
                self.terms(frame, loss, factor * weight, terms)
            }
            ExprKind::Binary(BinaryOp::Div, _, left, right) => {
                let weight = self.weight(frame, right)?;
                self.terms(frame, left, factor / weight, terms)
            }
            ExprKind::Unary(UnaryOp::Neg, operand) => self.terms(frame, operand, -factor, terms),
            ExprKind::If { condition, then, otherwise } => match self.condition(frame, condition)? {
                true => self.terms(frame, then, factor, terms),
                false => self.terms(frame, otherwise, factor, terms),
            },
            _ => {
                let node = self.term(frame, e)?;
                terms.push((node, factor, e.span));
                Some(())
            }
        }
    }

    fn weight(&mut self, frame: &Frame, e: &Expr) -> Option<f64> {
        let value = self.eval(frame, e);
        match value.number().filter(|v| *v != 0.0) {
            Some(weight) => Some(weight),
            None => {
                if !value.is_unknown() {
                    let message = format!("a loss is weighted by a number other than 0, not by {}", value.quoted());
                    let diagnostic = Diagnostic::error("wrong-weight", message).primary(e.span, value.type_name());
                    self.report.add(diagnostic.help("losses are joined with `+`: `loss 0.3 * mse(a, b) + l1(a, b)`"));
                }
                None
            }
        }
    }

    /// Whether an expression gives a value of the network, as far as its text tells.
    fn is_of_network(&mut self, frame: &Frame, e: &Expr) -> bool {
        match &e.kind {
            ExprKind::Function(name, _) => self.is_training_function(&name.name),
            ExprKind::Binary(_, _, left, right) => self.is_of_network(frame, left) || self.is_of_network(frame, right),
            ExprKind::Unary(_, operand) => self.is_of_network(frame, operand),
            ExprKind::Name(_) => matches!(self.eval(frame, e), Val::Node(_)),
            _ => false,
        }
    }

    /// A single number of the graph.
    fn term(&mut self, frame: &Frame, e: &Expr) -> Option<NodeId> {
        let value = self.eval(frame, e);
        let found = match value {
            Val::Node(node) if self.graph.node(node).shape == Shape::new([]) => {
                self.state().spans.insert(node, e.span);
                return Some(node);
            }
            Val::Unknown => return None,
            Val::Node(node) => self.graph.node(node).shape.to_string(),
            other => other.type_name().to_string(),
        };
        let diagnostic = Diagnostic::error("wrong-loss", format!("a loss is one number of the network, not {found}"));
        let names = LOSSES.names().collect::<Vec<_>>().join(", ");
        self.report.add(diagnostic.primary(e.span, "no loss").help(format!("losses are {names}")));
        None
    }

    // ---- Losses --------------------------------------------------------------------------------

    /// A loss as a node of the graph.
    pub(super) fn loss_value(
        &mut self,
        frame: &Frame,
        word: &'static Word,
        args: &[Arg],
        span: Span,
    ) -> Option<NodeId> {
        let called = self.arguments_of(frame, word, args, span)?;
        let first = called.values[0].as_ref()?;
        let written = self.network_node(frame, first)?;
        match pointwise(word.name) {
            None if word.name != "cross_entropy" => self.soft_loss(frame, &called, written, span),
            None => {
                let scores = self.logits(written);
                let labels = self.labels_argument(frame, called.values[1].as_ref(), scores, first.span)?;
                let ignored = self.ignored(&called, NO_CLASS)?;
                let smoothing = called.args.double("smoothing");
                if !(0.0..1.0).contains(&smoothing) {
                    let message = format!("smoothing is a share from 0 to less than 1, not {smoothing:?}");
                    let diagnostic = Diagnostic::error("wrong-argument", message);
                    self.report.add(diagnostic.primary(called.span_of("smoothing"), "no such share"));
                    return None;
                }
                self.state().ignored.entry(labels).or_insert(ignored);
                let weights = self.class_weights(&called, scores)?;
                let op = CrossEntropy { smoothing: smoothing as f32, ignored };
                self.with_heads(written, scores, span, |this, scores| {
                    let loss =
                        this.add_loss(op.clone(), &[&[scores, labels], &weights[..]].concat(), first.span, span)?;
                    if called.args.bool("balanced") {
                        this.state().balanced.insert(loss);
                    }
                    Some(loss)
                })
            }
            Some(kind) => {
                let beta = if word.name == "smooth_l1" { called.args.double("beta") } else { 1.0 };
                if beta <= 0.0 {
                    let message = format!("`beta` is more than 0, not {beta:?}");
                    let diagnostic = Diagnostic::error("wrong-argument", message);
                    self.report.add(diagnostic.primary(called.span_of("beta"), "not more than 0"));
                    return None;
                }
                let x = if word.name == "bce" { self.logit(written).unwrap_or(written) } else { written };
                let second = called.values[1].as_ref()?;
                let target = self.target(frame, second, x)?;
                let op = PointwiseLoss { kind, beta: beta as f32 };
                self.with_heads(written, x, span, |this, x| {
                    this.add_loss(op.clone(), &[x, target], first.span, second.span)
                })
            }
        }
    }

    /// The label that does not count.
    fn ignored(&mut self, called: &Called, preset: i64) -> Option<i64> {
        let label = if called.args.has("ignore") { called.args.int("ignore") } else { preset };
        if label.unsigned_abs() <= MOST_CLASSES as u64 {
            return Some(label);
        }
        let message = format!("labels are numbers up to {MOST_CLASSES}, not {label}");
        let diagnostic = Diagnostic::error("wrong-argument", message);
        self.report.add(diagnostic.primary(called.span_of("ignore"), "beyond what numbers of 32 bits tell apart"));
        None
    }

    /// The weights of classes that a cross entropy gives, as a value.
    fn class_weights(&mut self, called: &Called, scores: NodeId) -> Option<Vec<NodeId>> {
        if !called.args.has("class_weights") {
            return Some(vec![]);
        }
        let span = called.span_of("class_weights");
        let weights = called.args.doubles("class_weights");
        let classes = self.graph.node(scores).shape[1];
        let is_weight = |weight: &&f64| **weight >= 0.0 && (**weight as f32).is_finite();
        let message = if called.args.bool("balanced") {
            "weights of classes are given, or told by the data (`balanced`)".to_string()
        } else if weights.len() != classes {
            format!("{classes} classes have {classes} weights, not {}", weights.len())
        } else if let Some(odd) = weights.iter().find(|weight| !is_weight(weight)) {
            format!("the weight of a class is a number from 0 on, not {odd:?}")
        } else if weights.iter().all(|weight| *weight == 0.0) {
            "no class counts".to_string()
        } else {
            return Some(vec![self.given_weights(&weights, span)]);
        };
        self.report.add(Diagnostic::error("wrong-class-weights", message).primary(span, "do not fit"));
        None
    }

    /// Numbers of the text as a value of the graph.
    fn given_weights(&mut self, weights: &[f64], span: Span) -> NodeId {
        let values: Vec<f32> = weights.iter().map(|weight| *weight as f32).collect();
        let store = &mut self.graph.weights;
        let name = (0..).map(|n| format!("{RESERVED}class_weights{n}")).find(|name| store.find(name).is_none());
        let name = name.expect("numbers do not end");
        let declared = store.declare(&name, Shape::new([values.len()]), Init::Constant(1.0), false);
        let weight = declared.expect("the name is new");
        store.set(weight, Arc::new(values));
        let constant = Constant::of(vec![weights.len()]);
        let location = Some(self.location(span));
        self.graph.add(constant, &[], vec![weight], None, location).expect("it has the weight's shape")
    }

    /// Cross entropy against shares of classes, those of a target or those that a teacher's scores make: the mean of
    /// `−Σ q log softmax(z)` is C times that of all `−q log softmax(z)`, where there are C classes.
    fn soft_loss(&mut self, frame: &Frame, called: &Called, written: NodeId, span: Span) -> Option<NodeId> {
        let (first, second) = (called.values[0].as_ref()?, called.values[1].as_ref()?);
        let is_distilled = called.word.name == "distill";
        let temperature = if is_distilled { called.args.double("temperature") } else { 1.0 };
        if !(temperature > 0.0 && (1.0 / temperature).powi(2) < 1e12 && temperature < 1e6) {
            let message =
                format!("a temperature is more than 0, and no further from 1 than a million, not {temperature:?}");
            let diagnostic = Diagnostic::error("wrong-argument", message);
            self.report.add(diagnostic.primary(called.span_of("temperature"), "no temperature"));
            return None;
        }
        let scores = self.logits(written);
        self.check_scores(scores, first.span)?;
        let target = match is_distilled {
            true => {
                let teacher = self.network_node(frame, second)?;
                let teacher = self.logits(teacher);
                self.of_shape(teacher, scores, second.span)?
            }
            false => self.target(frame, second, scores)?,
        };
        let classes = self.graph.node(scores).shape[1] as f64;
        let scaled = |by: f64| Op::from(Activate { kind: Activation::Scale { mul: by as f32, add: 0.0 } });
        let location = Some(self.location(span));
        let cooled = |this: &mut Self, scores: NodeId| match temperature {
            1.0 => Some(scores),
            t => this.graph.add(scaled(1.0 / t), &[scores], vec![], None, location.clone()).ok(),
        };
        let shares = match is_distilled {
            false => target,
            true => {
                let of = cooled(self, target)?;
                self.graph.add(Softmax { axis: 1, log: false }, &[of], vec![], None, location.clone()).ok()?
            }
        };
        self.with_heads(written, scores, span, |this, scores| {
            let z = cooled(this, scores)?;
            let mut add = |op: Op, of: &[NodeId]| this.graph.add(op, of, vec![], None, location.clone()).ok();
            let log = add(Softmax { axis: 1, log: true }.into(), &[z])?;
            let mean = add(PointwiseLoss { kind: LossKind::Wasserstein, beta: 1.0 }.into(), &[log, shares])?;
            add(scaled(classes * temperature * temperature), &[mean])
        })
    }

    /// A loss of a value, and the same of the auxiliary heads beside it.
    fn with_heads(
        &mut self,
        written: NodeId,
        value: NodeId,
        span: Span,
        mut add: impl FnMut(&mut Self, NodeId) -> Option<NodeId>,
    ) -> Option<NodeId> {
        let loss = add(self, value)?;
        self.state().joined.insert(written);
        let heads = self.state().heads.get(&written).cloned().unwrap_or_default();
        let shape = self.graph.node(written).shape.clone();
        for &Head { node, weight, .. } in heads.iter() {
            if self.graph.node(node).shape != shape {
                continue;
            }
            if !self.step(span, 1) {
                return None;
            }
            let value = self.as_written_or_logit(written, value, node);
            let of_head = add(self, value)?;
            self.state().joined.insert(node);
            self.state().spans.insert(of_head, span);
            self.state().of_heads.entry(loss).or_default().push(Loss {
                node: of_head,
                weight: weight as f32,
                auxiliary: true,
            });
        }
        Some(loss)
    }

    /// Of a head what was taken of the output beside it: its value, or its logit.
    fn as_written_or_logit(&mut self, written: NodeId, taken: NodeId, head: NodeId) -> NodeId {
        if written == taken { head } else { self.logit(head).unwrap_or_else(|| self.logits(head)) }
    }

    fn add_loss(&mut self, op: impl Into<Op>, operands: &[NodeId], of_x: Span, of_target: Span) -> Option<NodeId> {
        let location = Some(self.location(of_x));
        let error = match self.graph.add(op, operands, vec![], None, location) {
            Ok(node) => return Some(node),
            Err(error) => error,
        };
        let [of, with] = [operands[0], operands[1]].map(|node| self.graph.node(node).shape.clone());
        let diagnostic = Diagnostic::error("wrong-target", error.message.clone());
        let diagnostic = match error.operand {
            Some(1) => diagnostic.primary(of_target, format!("this is {with}")),
            _ => diagnostic.primary(of_x, format!("this is {of}")),
        };
        self.report.add(diagnostic);
        None
    }

    /// A value of the network that an argument names.
    fn network_node(&mut self, frame: &Frame, arg: &Arg) -> Option<NodeId> {
        let value = self.eval(frame, &arg.value);
        self.as_node(value, arg)
    }

    fn as_node(&mut self, value: Val, arg: &Arg) -> Option<NodeId> {
        match value {
            Val::Node(node) => Some(node),
            Val::Unknown => None,
            Val::Row(table, _) => {
                let message = "the model gives several values";
                let diagnostic = Diagnostic::error("wrong-type", message).primary(arg.value.span, "which of them?");
                self.report.add(diagnostic.help(format!("write `.{}` behind it", table.columns.join("` or `."))));
                None
            }
            other => {
                let message = format!("a value of the network belongs here, not {}", other.type_name());
                self.report.add(Diagnostic::error("wrong-type", message).primary(arg.value.span, "no such value"));
                None
            }
        }
    }

    /// What numbers are compared with: a value of their shape, or one number for all.
    fn target(&mut self, frame: &Frame, arg: &Arg, x: NodeId) -> Option<NodeId> {
        let value = self.eval(frame, &arg.value);
        let shape = self.graph.node(x).shape.clone();
        if let Some(number) = value.number() {
            let location = Some(self.location(arg.value.span));
            let fill = Fill { shape: shape.dims().to_vec(), value: number as f32 };
            return self.graph.add(fill, &[], vec![], None, location).ok();
        }
        let target = self.as_node(value, arg)?;
        self.of_shape(target, x, arg.value.span)
    }

    /// A target, where it has the shape of what is compared with it.
    fn of_shape(&mut self, target: NodeId, x: NodeId, at: Span) -> Option<NodeId> {
        let [found, shape] = [target, x].map(|node| self.graph.node(node).shape.clone());
        if found == shape {
            return Some(target);
        }
        let diagnostic = Diagnostic::error("wrong-target", format!("targets of {shape} are {shape} too, not {found}"));
        let diagnostic = diagnostic.primary(at, format!("this is {found}"));
        let declared = self.state().sources.get(&target).cloned();
        self.report.add(match declared {
            Some((Source::Labels, span)) => diagnostic
                .secondary(span, "numbers of classes")
                .help("numbers of classes go with `cross_entropy`; or declare the targets as `data`"),
            Some((_, span)) => diagnostic.secondary(span, "declared here"),
            None => diagnostic,
        });
        None
    }

    /// Whether a value holds scores of classes.
    fn check_scores(&mut self, scores: NodeId, of_scores: Span) -> Option<()> {
        let shape = self.graph.node(scores).shape.clone();
        if shape.rank() < 2 {
            let message = format!("scores of classes are [N, classes, …], not {shape}");
            self.report.add(Diagnostic::error("wrong-loss", message).primary(of_scores, format!("this is {shape}")));
            return None;
        }
        if shape[1] > MOST_CLASSES {
            let message = format!("{} classes: labels tell {MOST_CLASSES} apart at most", shape[1]);
            self.report.add(Diagnostic::error("wrong-loss", message).primary(of_scores, format!("this is {shape}")));
            return None;
        }
        if shape[1] == 1 {
            let message = format!("{shape} holds the score of one class only, which is always right");
            let diagnostic = Diagnostic::error("wrong-loss", message).primary(of_scores, "one class");
            self.report.add(diagnostic.help("for yes or no, write `bce(score, target)`"));
            return None;
        }
        Some(())
    }

    /// The labels of scores: those that are named, those that are declared, or an input for them.
    fn labels_argument(&mut self, frame: &Frame, arg: Option<&Arg>, scores: NodeId, of_scores: Span) -> Option<NodeId> {
        self.check_scores(scores, of_scores)?;
        let shape = self.graph.node(scores).shape.clone();
        // `labels` is a word of the language, so that it is a label here.
        let arg = arg.filter(|arg| !is_word_labels(&arg.value));
        let node = match arg {
            Some(arg) => self.network_node(frame, arg)?,
            None => self.implied_labels(scores),
        };
        let found = self.graph.node(node).shape.clone();
        let wanted = self.labels_of(scores);
        if found == wanted && self.state().sources.get(&node).is_some_and(|(source, _)| *source == Source::Labels) {
            return Some(node);
        }
        let span = arg.map_or(of_scores, |arg| arg.value.span);
        let declared = self.state().sources.get(&node).cloned();
        let message = match &declared {
            Some((Source::Labels, _)) => format!("labels of {shape} are {wanted}, not {found}"),
            _ => format!("labels are numbers of classes that the data set gives, not {found}"),
        };
        let diagnostic = Diagnostic::error("wrong-labels", message).primary(span, "these do not fit");
        let diagnostic = declared.into_iter().fold(diagnostic, |d, (_, span)| d.secondary(span, "declared here"));
        let sizes: Vec<String> = wanted.dims()[1..].iter().map(|size| format!(", {size}")).collect();
        self.report.add(diagnostic.help(format!("declare `labels name: class[N{}]`", sizes.concat())));
        None
    }

    /// The labels of a loss that names none.
    fn implied_labels(&mut self, scores: NodeId) -> NodeId {
        if let [only, ..] = self.state().labels.as_slice() {
            return *only;
        }
        let shape = self.labels_of(scores);
        let location = self.graph.node(scores).location.clone();
        let node = self.graph.add_input("labels", shape, None, location);
        let span = self.span_of(scores).unwrap_or_else(|| self.state().models[0].span);
        self.state().labels.push(node);
        self.state().sources.insert(node, (Source::Labels, span));
        node
    }

    /// The argument of the sigmoid that a value ends in; `None` where it ends in another op.
    fn logit(&mut self, value: NodeId) -> Option<NodeId> {
        self.before(value, &|op| matches!(op, Op::Activate(Activate { kind: Activation::Sigmoid })))
    }

    /// The argument of the softmax over classes that a value ends in, else the value.
    fn logits(&mut self, value: NodeId) -> NodeId {
        let is_softmax = |op: &Op| matches!(op, Op::Softmax(Softmax { axis: 1, .. }));
        self.before(value, &is_softmax).unwrap_or(value)
    }

    /// The operand of the last op that does not only move elements, if that is the one; moved as its result is.
    fn before(&mut self, value: NodeId, is_last: &dyn Fn(&Op) -> bool) -> Option<NodeId> {
        let mut moves = vec![];
        let mut at = value;
        let argument = loop {
            let op = self.graph.node(at).op()?.clone();
            let operand = *self.graph.operands(at).first()?;
            match &op {
                Op::Flatten(Flatten { .. }) | Op::Reshape(Reshape { .. }) => moves.push((op, at)),
                op if is_last(op) => break operand,
                _ => return None,
            }
            at = operand;
        };
        moves.into_iter().rev().try_fold(argument, |moved, (op, like)| {
            let location = self.graph.node(like).location.clone();
            self.graph.add(op, &[moved], vec![], None, location).ok()
        })
    }

    // ---- Metrics -------------------------------------------------------------------------------

    pub(super) fn metric(&mut self, frame: &Frame, value: &Expr) -> Option<Metric> {
        if let ExprKind::Function(name, _) = &value.kind
            && !self.is_training_function(&name.name)
            && METRICS.find(&name.name).is_none()
        {
            self.no_such(&METRICS, &name.name, name.span);
            return None;
        }
        if !self.known(frame, value) {
            return None;
        }
        let named = match &value.kind {
            ExprKind::Function(name, _) => METRICS.find(&name.name).map(|_| name.name.clone()),
            _ => None,
        };
        let Some(name) = named else {
            let of_network = self.is_of_network(frame, value);
            if !of_network {
                let (name, span) = match &value.kind {
                    ExprKind::Function(name, _) => (name.name.clone(), name.span),
                    ExprKind::Name(name) => (name.clone(), value.span),
                    _ => ("?".into(), value.span),
                };
                self.no_such(&METRICS, &name, span);
                return None;
            }
            let node = self.term(frame, value)?;
            let name = match &value.kind {
                ExprKind::Function(name, _) => name.name.clone(),
                ExprKind::Name(name) => name.clone(),
                _ => "metric".into(),
            };
            return Some(Metric::Value { name, node });
        };
        let called = self.called(frame, &METRICS, value)?;
        let first = called.values[0].as_ref()?;
        let scores = self.network_node(frame, first)?;
        let labels = self.labels_argument(frame, called.values[1].as_ref(), scores, first.span)?;
        let k = if name == "top5" { 5 } else { 1 };
        let classes = self.graph.node(scores).shape[1];
        if k >= classes {
            let message = format!("`{name}` of {classes} classes is always right");
            self.report.add(Diagnostic::warning("idle-metric", message).primary(first.span, "too few classes"));
        }
        let of_loss = self.state().ignored.get(&labels).copied();
        let ignored = self.ignored(&called, of_loss.unwrap_or(NO_CLASS))?;
        Some(Metric::Accuracy { scores, labels, k, ignored })
    }
}

fn is_word_labels(e: &Expr) -> bool {
    let ExprKind::Label(label) = &e.kind else { return false };
    matches!(label.parts.as_slice(), [TemplatePart::Text(text)] if text == "labels")
}
