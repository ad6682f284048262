//! Proof that code computes what a network says: values are compared layer by layer, along the road
//! on which they could go wrong.
//!
//! ```text
//! reference ──layers by name──▶ graph as written ──outputs──▶ optimized graph ──every layer──▶ machine code
//! (ONNX, arrays)                 (interpreter)                 (interpreter)                    │
//!     └───────────────────────────────outputs of the model as it is shipped──────────────────────┘
//! ```
//!
//! Each arrow blames something else: weights or text, a pass, a kernel. To see every layer of the
//! machine code, the optimized graph is compiled a second time with all values as outputs. Errors
//! are shares of the largest value of what is compared with.
//!
//! Rounding alone can make large differences: of a logarithm near 1e-10, of a difference of values that
//! are nearly equal, of a mean near zero. So what differs by more than the tolerance is judged by what
//! rounding explains. A layer of the code is compared with its definition on the values that
//! the code itself has before it, and its operands are moved by their rounding, to see what that changes.
//! For outputs, all values on their way are moved, by what the kernels were seen to be off.
//!
//! Equal infinities agree. Where both sides are NaN, nothing is compared: an output with such values makes
//! the comparison inconclusive, which is no pass.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::diagnostic::Location;
use crate::driver::{Compiler, Error, Network};
use crate::interpreter;
use crate::ir::{Graph, Images, Kind, NodeId};
use crate::ops::Op;
use crate::runtime::Model;
use crate::tensor::{Element, NotFinite, Tensor};
use crate::weights::SplitMix;

/// How two values differ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Difference {
    /// The largest difference, as a share of the reference's largest value; infinite where one side
    /// is no number, or another infinity.
    pub max: f64,
    /// The mean difference, as such a share.
    pub mean: f64,
    /// The reference's largest value.
    pub scale: f64,
    /// Values that are NaN on both sides, which compare nothing.
    pub both_nan: Option<NotFinite>,
}

/// A value's numbers, levels as f32.
fn reals(tensor: &Tensor) -> Cow<'_, [f32]> {
    match tensor.shape().element() {
        Element::F32 => Cow::Borrowed(tensor.data()),
        _ => Cow::Owned(tensor.values().map(|v| v as f32).collect()),
    }
}

impl Difference {
    /// Of values of equally many elements; `None` where their numbers differ.
    pub(crate) fn of(found: &Tensor, reference: &Tensor) -> Option<Self> {
        let (found, reference) = (reals(found), reals(reference));
        if found.len() != reference.len() {
            return None;
        }
        let (mut largest, mut sum, mut scale) = (0.0f64, 0.0f64, 0.0f64);
        let mut both_nan: Option<NotFinite> = None;
        for (first, (&a, &b)) in found.iter().zip(reference.iter()).enumerate() {
            if a.is_nan() && b.is_nan() {
                both_nan.get_or_insert(NotFinite { nan: 0, infinite: 0, first }).nan += 1;
                continue;
            }
            let same = a == b;
            let difference = if same { 0.0 } else { (f64::from(a) - f64::from(b)).abs() };
            largest = if difference.is_nan() { f64::INFINITY } else { largest.max(difference) };
            sum += difference;
            if b.is_finite() {
                scale = scale.max(f64::from(b).abs());
            }
        }
        // Of zeros, a share would say nothing.
        let unit = if scale > 0.0 { scale } else { 1.0 };
        Some(Self { max: largest / unit, mean: sum / found.len() as f64 / unit, scale, both_nan })
    }

    /// The worse of two, for several inputs.
    fn join(self, other: Self) -> Self {
        let both_nan = match (self.both_nan, other.both_nan) {
            (Some(a), Some(b)) => Some(NotFinite { nan: a.nan + b.nan, ..a }),
            (a, b) => a.or(b),
        };
        let (max, mean) = (self.max.max(other.max), self.mean.max(other.mean));
        Self { max, mean, scale: self.scale.max(other.scale), both_nan }
    }
}

/// A value that was compared.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Its label, else its layer and line.
    pub name: String,
    pub location: Option<Location>,
    pub shape: Vec<usize>,
    /// `None` where the reference has another number of elements.
    pub difference: Option<Difference>,
    /// What of the largest difference rounding does not explain, where it was asked for; else all of it.
    pub unexplained: f64,
}

impl Layer {
    pub(crate) fn passes(&self, tolerance: f64) -> bool {
        self.difference.is_some() && self.unexplained <= tolerance
    }

    fn set(&mut self, difference: Option<Difference>) {
        self.unexplained = difference.map_or(f64::INFINITY, |d| d.max);
        self.difference = difference;
    }

    /// Of a value that is a number on one side only, nothing is explained away.
    fn explain(&mut self, rounding: f64) {
        if self.unexplained.is_finite() {
            self.unexplained = beyond(self.unexplained, rounding);
        }
    }

    fn both_nan(&self) -> Option<NotFinite> {
        self.difference.and_then(|d| d.both_nan)
    }

    /// For ordering by error, the worst being what cannot be compared.
    pub(crate) fn error(&self) -> f64 {
        self.difference.map_or(f64::INFINITY, |d| d.max)
    }
}

/// What was compared, each list in the network's order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The shipped code's outputs with the reference's, or without one with the interpreter's.
    pub outputs: Vec<Layer>,
    /// The graph as written with the reference, where layers have the same names.
    pub reference: Vec<Layer>,
    /// Outputs of the optimized graph with those of the graph as written, both interpreted.
    pub passes: Vec<Layer>,
    /// Every layer of the code with the interpreter's.
    pub code: Vec<Layer>,
    /// Nothing but the network's own definition was compared with.
    pub by_itself: bool,
}

/// What a comparison shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Differs,
    /// What can be compared agrees, but outputs hold NaN on both sides.
    Inconclusive,
}

/// Which step of the road went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Culprit {
    /// Text or weights are others than the reference's.
    Network,
    Passes,
    Code,
}

impl Report {
    pub(crate) fn verdict(&self, tolerance: f64) -> Verdict {
        if self.differs(tolerance) {
            return Verdict::Differs;
        }
        match self.not_compared() {
            Some(_) => Verdict::Inconclusive,
            None => Verdict::Pass,
        }
    }

    pub(crate) fn passes(&self, tolerance: f64) -> bool {
        self.verdict(tolerance) == Verdict::Pass
    }

    fn differs(&self, tolerance: f64) -> bool {
        // Layers of a reference may be called alike and be something else; its outputs count.
        [&self.outputs, &self.passes, &self.code].into_iter().flatten().any(|l| !l.passes(tolerance))
    }

    /// The first output with values that are NaN on both sides, and those.
    pub(crate) fn not_compared(&self) -> Option<(&Layer, NotFinite)> {
        self.outputs.iter().chain(&self.passes).find_map(|l| Some((l, l.both_nan()?)))
    }

    /// The first layer of the code with such values.
    pub(crate) fn first_nan(&self) -> Option<&Layer> {
        self.code.iter().find(|l| l.both_nan().is_some())
    }

    /// The first layer that differs, and what that blames; `None` where all agree.
    pub(crate) fn first_divergence(&self, tolerance: f64) -> Option<(&Layer, Culprit)> {
        let first = |layers: &'_ [Layer]| layers.iter().position(|l| !l.passes(tolerance));
        if !self.differs(tolerance) {
            return None;
        }
        let culprits =
            [(&self.code, Culprit::Code), (&self.passes, Culprit::Passes), (&self.reference, Culprit::Network)];
        let blamed = culprits.into_iter().find_map(|(layers, culprit)| Some((&layers[first(layers)?], culprit)));
        // Code of which every layer is right may still be put together wrongly.
        let rest = if self.by_itself { Culprit::Code } else { Culprit::Network };
        blamed.or_else(|| Some((&self.outputs[first(&self.outputs)?], rest)))
    }

    fn join(&mut self, other: Self) {
        self.by_itself |= other.by_itself;
        let lists = [
            (&mut self.outputs, other.outputs),
            (&mut self.reference, other.reference),
            (&mut self.passes, other.passes),
            (&mut self.code, other.code),
        ];
        for (mine, other) in lists {
            if mine.is_empty() {
                *mine = other;
                continue;
            }
            for (mine, other) in mine.iter_mut().zip(other) {
                mine.difference = mine.difference.zip(other.difference).map(|(a, b)| a.join(b));
                mine.unexplained = mine.unexplained.max(other.unexplained);
            }
        }
    }
}

/// What a network is compared with.
pub(crate) enum Reference {
    /// Nothing but its own definition.
    Interpreter,
    /// Another graph, run by the interpreter. Inputs and outputs go by name, else by their order.
    Graph(Box<Graph>),
    /// Values by the names of outputs and layers, for each part of the input.
    Values(Vec<HashMap<String, Tensor>>),
}

/// A reference that cannot be compared with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error(transparent)]
    Compile(#[from] Error),
    #[error(transparent)]
    Interpret(#[from] interpreter::RunError),
    #[error(transparent)]
    Run(#[from] crate::runtime::RunError),
    #[error("the reference has no value for the output {0}; it has {1}")]
    NoOutput(String, String),
    #[error("the reference: {0}")]
    Inputs(interpreter::RunError),
}

/// Compares a network, given as written with its weights loaded, for each of several sets of inputs.
/// `shipped` is the compiled model in question; without one, the network is compiled. What differs by
/// more than `tolerance` is judged by what rounding explains. `observe` is told what goes on: the
/// multiply-accumulates done by the interpreter since it was told last.
///
/// # Errors
/// Where the network cannot be compiled, or inputs or reference do not fit.
pub(crate) fn verify(
    compiler: &Compiler,
    written: &Network,
    shipped: Option<Model>,
    reference: &Reference,
    inputs: &[Vec<Tensor>],
    tolerance: f64,
    observe: &mut dyn FnMut(u64),
) -> Result<Report, VerifyError> {
    let mut optimized = written.clone();
    compiler.optimize(&mut optimized);
    let shipped = shipped.map_or_else(|| compiler.compile(&optimized), Ok)?;
    let (shown, layers) = with_all_outputs(&optimized);
    let all = compiler.compile(&shown)?;
    let mut report = Report::default();
    for (part, inputs) in inputs.iter().enumerate() {
        let mut one = Report { by_itself: matches!(reference, Reference::Interpreter), ..Report::default() };
        let (outputs, named) = reference_values(reference, part, &written.graph, inputs, observe)?;
        let own = compare_with_reference(&written.graph, inputs, &named, &mut one, observe)?;
        let found = outputs_by_name(&optimized.graph, shipped.run_tensors(inputs)?);
        for output in shown_outputs(&optimized.graph) {
            let reference = match &outputs {
                None => own.get(&output.name),
                Some(outputs) => outputs.get(&output.name),
            };
            let names = || outputs.iter().flatten().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ");
            let reference = reference.ok_or_else(|| VerifyError::NoOutput(output.name.clone(), names()))?;
            one.outputs.push(layer(&optimized.graph, output.node, &output.name, &found[&output.name], reference));
        }
        let found = layers.iter().copied().zip(all.run_tensors(inputs)?).collect();
        let code = Code { written: &written.graph, graph: &optimized.graph, inputs, layers: &layers, found };
        code.compare(&own, &mut one, observe)?;
        if tolerance >= LEAST_TOLERANCE && one.differs(tolerance) {
            code.explain(tolerance, &mut one, observe)?;
        }
        report.join(one);
    }
    Ok(report)
}

/// Multiply-accumulates that [`verify`] will have interpreted in all, where nothing differs.
pub(crate) fn effort(written: &Network, reference: &Reference, parts: usize) -> u64 {
    let other = if let Reference::Graph(graph) = reference { graph.total_macs() } else { 0 };
    (2 * written.graph.total_macs() + other) * parts as u64
}

fn shown_outputs(graph: &Graph) -> impl Iterator<Item = &crate::ir::Output> {
    graph.outputs().iter().filter(|o| o.aux.is_none() && !graph.counts_rows(&o.name))
}

fn outputs_by_name(graph: &Graph, values: Vec<Tensor>) -> HashMap<String, Tensor> {
    graph.outputs().iter().map(|o| o.name.clone()).zip(values).collect()
}

fn layer(graph: &Graph, id: NodeId, name: &str, found: &Tensor, reference: &Tensor) -> Layer {
    let node = graph.node(id);
    let (location, shape) = (node.location.clone(), found.shape().dims().to_vec());
    let mut layer = Layer { name: name.into(), location, shape, difference: None, unexplained: 0.0 };
    layer.set(Difference::of(found, reference));
    layer
}

/// What people call a node: its label, else its layer.
fn name_of(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let layer = node.op().map_or("input", Op::layer_name);
    node.name.clone().unwrap_or_else(|| layer.to_string())
}

/// The network with every computed value as an output, and which they are, in order.
fn with_all_outputs(network: &Network) -> (Network, Vec<NodeId>) {
    let mut all = network.clone();
    let is_computed = |id: &NodeId| {
        !matches!(&network.graph.node(*id).kind, Kind::Input(_) | Kind::Parameter(_) | Kind::Op(Op::Constant(_)))
    };
    let layers: Vec<NodeId> = network.graph.order().into_iter().filter(is_computed).collect();
    // Inner values need not have the images side by side; they are run as whole batches.
    all.images = Images::Fixed { input: "each of the inputs".into(), location: None };
    all.graph.clear_outputs();
    for (i, &id) in layers.iter().enumerate() {
        all.graph.output(format!("layer {i}"), id, None);
    }
    (all, layers)
}

type Named = HashMap<String, Tensor>;

/// The reference's outputs under the network's names, and all that it has by name. Without a
/// reference there are no such outputs: the network's own are right.
fn reference_values(
    reference: &Reference,
    part: usize,
    graph: &Graph,
    inputs: &[Tensor],
    observe: &mut dyn FnMut(u64),
) -> Result<(Option<Named>, Named), VerifyError> {
    match reference {
        Reference::Interpreter => Ok((None, Named::new())),
        Reference::Values(parts) => Ok((Some(parts[part].clone()), parts[part].clone())),
        Reference::Graph(other) => {
            let wanted: HashSet<&str> =
                graph.order().into_iter().filter_map(|id| graph.node(id).name.as_deref()).collect();
            let mut named = Named::new();
            let arranged = arranged_inputs(graph, other, inputs);
            let values = interpreter::run_observed(other, &arranged, |id, value| {
                observe(other.macs(id));
                if let Some(name) = other.node(id).name.as_deref().filter(|n| wanted.contains(n)) {
                    named.insert(name.into(), value.clone());
                }
            });
            let values = values.map_err(VerifyError::Inputs)?;
            let names = |graph: &Graph| shown_outputs(graph).map(|o| o.name.clone()).collect::<Vec<_>>();
            let (own, theirs) = (names(graph), names(other));
            let by_name = outputs_by_name(other, other.existing_rows(&values));
            // Formats differ in what they allow as a name; the order is the same.
            let same_names = own.iter().all(|name| by_name.contains_key(name));
            let outputs = match !same_names && own.len() == theirs.len() {
                true => own.into_iter().zip(theirs).map(|(own, their)| (own, by_name[&their].clone())).collect(),
                false => by_name,
            };
            Ok((Some(outputs), named))
        }
    }
}

/// The inputs as another graph of them takes them.
fn arranged_inputs(graph: &Graph, other: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let name = |graph: &Graph, id: &NodeId| graph.node(*id).name.clone();
    let own: Vec<_> = graph.inputs().iter().map(|id| name(graph, id)).collect();
    let of_name = |id: &NodeId| own.iter().position(|n| *n == name(other, id)).and_then(|i| inputs.get(i)).cloned();
    let by_name: Option<Vec<Tensor>> = other.inputs().iter().map(of_name).collect();
    by_name.unwrap_or_else(|| inputs.to_vec())
}

/// Layers without a name of their own through which one is sought, since a reference may have
/// folded them into the layer that it names.
const FOLLOWED: usize = 3;

/// Interprets the graph as written; gives its outputs. Its layers are compared with those of the
/// reference that have their names. A reference that was optimized calls a convolution what is a
/// convolution with batch norm and activation; so the layers that follow count as well.
fn compare_with_reference(
    graph: &Graph,
    inputs: &[Tensor],
    named: &Named,
    report: &mut Report,
    observe: &mut dyn FnMut(u64),
) -> Result<Named, VerifyError> {
    let mut layers: Vec<Layer> = vec![];
    let mut names: HashMap<NodeId, Vec<(String, usize, usize)>> = HashMap::new();
    let outputs = interpreter::run_observed(graph, inputs, |id, value| {
        observe(graph.macs(id));
        let Kind::Op(_) = graph.node(id).kind else { return };
        let mut mine = vec![];
        for operand in graph.operands(id).into_iter().take(1) {
            let alike = graph.only_user(operand).is_some() && graph.node(operand).shape == graph.node(id).shape;
            let inherited = names.get(&operand).filter(|_| alike).into_iter().flatten();
            mine.extend(inherited.filter(|n| n.2 < FOLLOWED).map(|(name, i, depth)| (name.clone(), *i, depth + 1)));
        }
        if let Some(name) = graph.node(id).name.as_ref().filter(|n| named.contains_key(*n)) {
            layers.push(layer(graph, id, name, value, &named[name]));
            mine.push((name.clone(), layers.len() - 1, 0));
        }
        for (name, index, _) in &mine {
            let candidate = layer(graph, id, name, value, &named[name]);
            if candidate.error() < layers[*index].error() {
                layers[*index].set(candidate.difference);
            }
        }
        names.insert(id, mine);
    })?;
    report.reference = layers;
    Ok(outputs_by_name(graph, graph.existing_rows(&outputs)))
}

/// Rounding of one f32 operation.
const ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;
/// Who asks for less wants to see rounding, which is then no excuse.
const LEAST_TOLERANCE: f64 = 1e-6;
/// Random movements of values that are tried to see what rounding does, and how many times as much as the
/// worst of them it may have done.
const DRAWS: u64 = 2;
const MARGIN: f64 = 2.0;

/// An optimized graph and what the code made of it.
struct Code<'a> {
    written: &'a Graph,
    graph: &'a Graph,
    inputs: &'a [Tensor],
    /// All that is computed, in order, and the values.
    layers: &'a [NodeId],
    found: HashMap<NodeId, Tensor>,
}

impl Code<'_> {
    /// Interprets the graph and compares every layer of the code with it; the outputs with those of the
    /// graph as written.
    fn compare(&self, written: &Named, report: &mut Report, observe: &mut dyn FnMut(u64)) -> Result<(), VerifyError> {
        let graph = self.graph;
        let outputs = interpreter::run_observed(graph, self.inputs, |id, value| {
            observe(graph.macs(id));
            if let Some(found) = self.found.get(&id) {
                report.code.push(layer(graph, id, &name_of(graph, id), found, value));
            }
        })?;
        let outputs = outputs_by_name(graph, graph.existing_rows(&outputs));
        for output in shown_outputs(graph) {
            if let Some(reference) = written.get(&output.name) {
                report.passes.push(layer(graph, output.node, &output.name, &outputs[&output.name], reference));
            }
        }
        Ok(())
    }

    /// Takes from what differs the part that rounding explains.
    fn explain(&self, tolerance: f64, report: &mut Report, observe: &mut dyn FnMut(u64)) -> Result<(), VerifyError> {
        let mut errors = HashMap::new();
        for (&id, layer) in self.layers.iter().zip(&mut report.code) {
            observe(self.graph.macs(id));
            let operands: Vec<Tensor> = self.graph.operands(id).into_iter().map(|o| self.value(o)).collect();
            let defined = interpreter::evaluate(self.graph, id, &operands.iter().collect::<Vec<_>>());
            let found = &self.found[&id];
            if !layer.passes(tolerance)
                && let Some(own) = Difference::of(found, &defined)
            {
                let by_rounding = if own.max > tolerance { self.rounding(id, &operands, &defined) } else { 0.0 };
                layer.unexplained = layer.unexplained.min(beyond(own.max, by_rounding));
            }
            let (found, defined) = (reals(found), reals(&defined));
            let off = found.iter().zip(defined.iter()).map(|(f, d)| (f - d).abs());
            errors.insert(id, off.map(|e| if e.is_finite() { e } else { 0.0 }).collect::<Vec<f32>>());
        }
        if report.outputs.iter().chain(&report.passes).all(|l| l.passes(tolerance)) {
            return Ok(());
        }
        // The code's rounding, and that of the graph as written, which passes may have spared.
        let off = |id: NodeId, i: usize| errors.get(&id).map_or(0.0, |e| e[i]);
        let by_code = changes(self.graph, self.inputs, off, &[], observe)?;
        drop(errors);
        let by_text = changes(self.written, self.inputs, |_, _| 0.0, &report.reference, observe)?;
        let of_output = |name: &String| {
            let change = |changes: &Changes| changes.outputs.get(name).copied().unwrap_or(0.0);
            change(&by_code).max(change(&by_text))
        };
        report.outputs.iter_mut().chain(&mut report.passes).for_each(|l| l.explain(of_output(&l.name)));
        report.reference.iter_mut().for_each(|l| l.explain(by_text.layers.get(&l.name).copied().unwrap_or(0.0)));
        Ok(())
    }

    /// What the code has of a node.
    fn value(&self, id: NodeId) -> Tensor {
        let input = || self.graph.inputs().iter().position(|&i| i == id).map(|i| self.inputs[i].clone());
        let constant = || interpreter::evaluate(self.graph, id, &[]);
        let value = self.found.get(&id).cloned().or_else(input).unwrap_or_else(constant);
        // Levels leave code as f32.
        value.to_element(self.graph.node(id).shape.element())
    }

    /// By how much a layer's value changes where its operands are moved by their rounding. Sums of n values
    /// round n times, so that they are moved √n times as far.
    fn rounding(&self, id: NodeId, operands: &[Tensor], defined: &Tensor) -> f64 {
        let results = defined.len().max(1) as u64;
        let read: u64 = operands.iter().map(|o| o.len() as u64).sum();
        let terms = (self.graph.macs(id).max(read) / results).max(1);
        let share = 8.0 * ROUNDING * (terms as f64).sqrt();
        let change = |draw: u64| {
            let mut random = SplitMix(draw);
            let mut moved = operands.to_vec();
            moved.iter_mut().for_each(|operand| shake(operand, share, |_| 0.0, &mut random));
            let moved = interpreter::evaluate(self.graph, id, &moved.iter().collect::<Vec<_>>());
            Difference::of(&moved, defined).map_or(0.0, |d| d.max)
        };
        (0..DRAWS).map(change).fold(0.0, f64::max)
    }
}

/// What of an error is left where rounding was seen to do that much.
fn beyond(error: f64, rounding: f64) -> f64 {
    let explained = MARGIN * rounding;
    if explained >= error { 0.0 } else { error - explained }
}

/// By how much rounding on the way changes values, as shares of the largest; by name.
#[derive(Default)]
struct Changes {
    outputs: HashMap<String, f64>,
    layers: HashMap<String, f64>,
}

/// Runs a graph with all computed values moved by their rounding, and by twice what `off` says of an
/// element. Of layers, those are compared that have the names of `layers`.
fn changes(
    graph: &Graph,
    inputs: &[Tensor],
    off: impl Fn(NodeId, usize) -> f32,
    layers: &[Layer],
    observe: &mut dyn FnMut(u64),
) -> Result<Changes, VerifyError> {
    let mut named = Named::new();
    let wanted: HashSet<&str> = layers.iter().map(|l| l.name.as_str()).collect();
    let name_of = |id: NodeId| graph.node(id).name.as_ref().filter(|name| wanted.contains(name.as_str()));
    let exact = interpreter::run_observed(graph, inputs, |id, value| {
        observe(graph.macs(id));
        if let Some(name) = name_of(id) {
            named.insert(name.clone(), value.clone());
        }
    })?;
    let exact = outputs_by_name(graph, exact);
    let mut changes = Changes::default();
    for draw in 0..DRAWS {
        let mut random = SplitMix(draw);
        let moved = interpreter::run_altered(graph, inputs, |id, value| {
            observe(graph.macs(id));
            if graph.node(id).op().is_some_and(|op| !matches!(op, Op::Constant(_))) {
                shake(value, 4.0 * ROUNDING, |i| 2.0 * f64::from(off(id, i)), &mut random);
            }
            if let Some(name) = name_of(id) {
                note(&mut changes.layers, name, value, &named);
            }
        })?;
        outputs_by_name(graph, moved).iter().for_each(|(name, v)| note(&mut changes.outputs, name, v, &exact));
    }
    Ok(changes)
}

fn note(changes: &mut HashMap<String, f64>, name: &str, moved: &Tensor, exact: &Named) {
    let change = Difference::of(moved, &exact[name]).map_or(0.0, |d| d.max);
    let most = changes.entry(name.into()).or_default();
    *most = most.max(change);
}

/// Moves every number up or down at random, by a share of it and what `more` says. Whole numbers are exact, and stay.
fn shake(tensor: &mut Tensor, share: f64, more: impl Fn(usize) -> f64, random: &mut SplitMix) {
    if tensor.shape().element() != Element::F32 {
        return;
    }
    for (i, v) in tensor.data_mut().iter_mut().enumerate().filter(|(_, v)| v.is_finite()) {
        let way = if random.uniform() < 0.5 { -1.0 } else { 1.0 };
        *v = (f64::from(*v) + way * (share * f64::from(v.abs()) + more(i))) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::new([values.len()], values.to_vec())
    }

    #[test]
    fn differences_are_shares_of_the_largest_value() {
        let d = Difference::of(&tensor(&[1.0, -4.0, 3.0]), &tensor(&[1.0, -4.0, 2.0])).unwrap();
        assert_eq!((d.max, d.scale), (0.25, 4.0));
        assert!((d.mean - 1.0 / 12.0).abs() < 1e-12);
        let nan = Difference::of(&tensor(&[f32::NAN, 1.0]), &tensor(&[1.0, 1.0])).unwrap();
        assert_eq!(nan.max, f64::INFINITY);
        let both = Difference::of(&tensor(&[0.0, f32::NAN]), &tensor(&[0.0, f32::NAN])).unwrap();
        assert_eq!((both.max, both.both_nan), (0.0, Some(NotFinite { nan: 1, infinite: 0, first: 1 })));
        let infinite = Difference::of(&tensor(&[f32::INFINITY]), &tensor(&[f32::INFINITY])).unwrap();
        assert_eq!((infinite.max, infinite.both_nan), (0.0, None));
        assert_eq!(Difference::of(&tensor(&[f32::INFINITY]), &tensor(&[1.0])).unwrap().max, f64::INFINITY);
        assert_eq!(Difference::of(&tensor(&[1.0]), &tensor(&[1.0, 2.0])), None);
        assert_eq!(Difference::of(&tensor(&[0.5]), &tensor(&[0.0])).unwrap().max, 0.5);
    }

    #[test]
    fn the_first_wrong_layer_of_the_last_stage_is_blamed() {
        let layers = |errors: &[f64]| -> Vec<Layer> {
            let difference = |max| Some(Difference { max, mean: max, scale: 1.0, both_nan: None });
            let layer = |(i, &max)| Layer {
                name: format!("l{i}"),
                location: None,
                shape: vec![1],
                difference: difference(max),
                unexplained: max,
            };
            errors.iter().enumerate().map(layer).collect()
        };
        let right = Report {
            outputs: layers(&[0.0]),
            reference: layers(&[0.5, 0.0]),
            passes: layers(&[0.0]),
            code: layers(&[0.0, 1e-6]),
            by_itself: false,
        };
        // A layer that is called alike and differs is no failure while the outputs agree.
        assert!(right.passes(1e-4) && right.first_divergence(1e-4).is_none());
        let blamed = |report: &Report| report.first_divergence(1e-4).map(|(l, c)| (l.name.clone(), c));
        let other_network = Report { outputs: layers(&[0.1]), ..right.clone() };
        assert_eq!(blamed(&other_network), Some(("l0".into(), Culprit::Network)));
        let passes = Report { passes: layers(&[0.1]), ..other_network.clone() };
        assert_eq!(blamed(&passes), Some(("l0".into(), Culprit::Passes)));
        let code = Report { code: layers(&[0.0, 0.3, 0.2]), ..passes };
        assert_eq!(blamed(&code), Some(("l1".into(), Culprit::Code)));
    }
    use crate::ir::Phase;
    use crate::ops::Activate;
    use crate::ops::activation::Activation;
    use crate::ops::binary::BinaryKind;
    use crate::testing::{GraphBuilder, binary, conv, random_inputs, randomize_weights};

    /// ln(|y − 3 (y / 3)| + 1e-10) of a convolution y, and a convolution of that: what is rounding alone
    /// becomes most of the result.
    fn amplifier() -> Graph {
        let mut b = GraphBuilder::new("amplifier", Phase::Infer);
        let x = b.input([1, 3, 8, 8]);
        let y = b.add(conv(6, 3, 1, 1), &[x]);
        let scale = |mul, add| Activate { kind: Activation::Scale { mul, add } };
        let third = b.add(scale(1.0 / 3.0, 0.0), &[y]);
        let again = b.add(scale(3.0, 0.0), &[third]);
        let rest = b.add(binary(BinaryKind::Sub), &[y, again]);
        let size = b.add(Activate { kind: Activation::Abs }, &[rest]);
        let size = b.add(scale(1.0, 1e-10), &[size]);
        let log = b.add(Activate { kind: Activation::Log }, &[size]);
        let z = b.add(conv(4, 3, 1, 1), &[log]);
        let mut graph = b.finish(&[z]);
        randomize_weights(&mut graph, 3);
        graph
    }

    /// The report on a code whose values are the interpreter's, altered on their way.
    fn judged(graph: &Graph, alter: impl FnMut(NodeId, &mut Tensor)) -> Report {
        let inputs = random_inputs(graph, 1);
        let mut found = HashMap::new();
        let mut alter = alter;
        let outputs = interpreter::run_altered(graph, &inputs, |id, value| {
            alter(id, value);
            found.insert(id, value.clone());
        });
        let layers: Vec<NodeId> = graph.order().into_iter().filter(|&id| graph.node(id).op().is_some()).collect();
        found.retain(|id, _| layers.contains(id));
        let code = Code { written: graph, graph, inputs: &inputs, layers: &layers, found };
        let own = outputs_by_name(graph, interpreter::run(graph, &inputs).unwrap());
        let mut report = Report { by_itself: true, ..Report::default() };
        let output = &graph.outputs()[0];
        let found = &outputs.unwrap()[0];
        report.outputs.push(layer(graph, output.node, &output.name, found, &own[&output.name]));
        code.compare(&own, &mut report, &mut |_| {}).unwrap();
        code.explain(1e-4, &mut report, &mut |_| {}).unwrap();
        report
    }

    /// Rounds as code that adds up in f32 might.
    fn rounded(graph: &Graph) -> impl FnMut(NodeId, &mut Tensor) {
        let mut random = SplitMix(77);
        move |id, value| {
            if graph.node(id).op().is_some() {
                shake(value, 2.0 * ROUNDING, |_| 0.0, &mut random);
            }
        }
    }

    /// Whole numbers, as the passes make them of a quantized network, are compared like others.
    #[test]
    fn levels_are_compared() {
        let mut worst = 0.0f64;
        for seed in 0..8 {
            let mut graph = crate::testing::quantized_graph(seed);
            crate::passes::run(&mut graph, &crate::passes::Selection::default());
            let report = judged(&graph, |_, _| {});
            assert_eq!(report.outputs[0].difference.unwrap().max, 0.0);
            let one_off = judged(&graph, |id, value| {
                if value.shape().element() == Element::U8 && graph.node(id).op().is_some() {
                    let off: Vec<f64> = value.values().map(|level| (level + 1.0).min(255.0)).collect();
                    *value = Tensor::from_values(value.shape().clone(), off);
                }
            });
            worst = one_off.outputs[0].difference.unwrap().max.max(worst);
        }
        assert!(worst > 0.0);
    }

    #[test]
    fn amplified_rounding_blames_nobody() {
        let graph = amplifier();
        let report = judged(&graph, rounded(&graph));
        assert!(report.code.iter().any(|l| l.error() > 0.01), "nothing was amplified: {report:?}");
        assert_eq!(report.verdict(1e-4), Verdict::Pass, "{report:?}");
    }

    #[test]
    fn a_wrong_kernel_is_blamed_among_amplified_rounding() {
        let graph = amplifier();
        for wrong in graph.order().into_iter().filter(|&id| graph.node(id).op().is_some()) {
            let mut round = rounded(&graph);
            // By a thousandth of the largest number that is read: a difference may be nothing but rounding.
            let mut read: HashMap<NodeId, f32> = HashMap::new();
            let report = judged(&graph, |id, value| {
                round(id, value);
                let largest = value.data().iter().fold(0.0f32, |a, v| a.max(v.abs()));
                read.insert(id, largest);
                if id == wrong {
                    let size = graph.operands(id).iter().fold(largest, |a, o| a.max(read[o])) / 1e3;
                    value.data_mut().iter_mut().step_by(5).for_each(|v| *v += size);
                }
            });
            let (layer, culprit) = report.first_divergence(1e-4).unwrap_or_else(|| panic!("{wrong:?}: {report:?}"));
            assert_eq!((layer.name.clone(), culprit), (name_of(&graph, wrong), Culprit::Code), "{report:?}");
            let others = report.code.iter().filter(|l| !l.passes(1e-4)).count();
            assert_eq!(others, 1, "{report:?}");
        }
    }

    #[test]
    fn outputs_that_differ_though_every_layer_is_right_are_told() {
        let graph = amplifier();
        let mut report = judged(&graph, rounded(&graph));
        report.outputs[0].unexplained = 0.1;
        assert_eq!(report.first_divergence(1e-4).map(|(l, c)| (l.name.as_str(), c)), Some(("y0", Culprit::Code)));
    }
}
