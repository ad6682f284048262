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

use std::collections::HashMap;

use crate::diagnostic::Location;
use crate::driver::{Compiler, Error, Network};
use crate::interpreter;
use crate::ir::{Graph, Images, Kind, NodeId};
use crate::ops::Op;
use crate::runtime::Model;
use crate::tensor::Tensor;

/// How two values differ.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// The largest difference, as a share of the reference's largest value; infinite where one side
    /// is no number.
    pub max: f64,
    /// The mean difference, as such a share.
    pub mean: f64,
    /// The reference's largest value.
    pub scale: f64,
}

impl Difference {
    /// Of values of equally many elements; `None` where their numbers differ.
    pub fn of(found: &Tensor, reference: &Tensor) -> Option<Self> {
        if found.data().len() != reference.data().len() {
            return None;
        }
        let (mut largest, mut sum, mut scale) = (0.0f64, 0.0f64, 0.0f64);
        for (&a, &b) in found.data().iter().zip(reference.data()) {
            let same = a == b || (a.is_nan() && b.is_nan());
            let difference = if same { 0.0 } else { (f64::from(a) - f64::from(b)).abs() };
            largest = if difference.is_nan() { f64::INFINITY } else { largest.max(difference) };
            sum += difference;
            if b.is_finite() {
                scale = scale.max(f64::from(b).abs());
            }
        }
        // Of zeros, a share would say nothing.
        let unit = if scale > 0.0 { scale } else { 1.0 };
        Some(Self { max: largest / unit, mean: sum / found.data().len() as f64 / unit, scale })
    }

    /// The worse of two, for several inputs.
    fn join(self, other: Self) -> Self {
        Self { max: self.max.max(other.max), mean: self.mean.max(other.mean), scale: self.scale.max(other.scale) }
    }
}

/// A value that was compared.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its label, else its layer and line.
    pub name: String,
    pub location: Option<Location>,
    pub shape: Vec<usize>,
    /// `None` where the reference has another number of elements.
    pub difference: Option<Difference>,
}

impl Layer {
    pub fn passes(&self, tolerance: f64) -> bool {
        self.difference.is_some_and(|d| d.max <= tolerance)
    }

    /// For ordering by error, the worst being what cannot be compared.
    pub fn error(&self) -> f64 {
        self.difference.map_or(f64::INFINITY, |d| d.max)
    }
}

/// What was compared, each list in the network's order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The shipped code's outputs with the reference's, or without one with the interpreter's.
    pub outputs: Vec<Layer>,
    /// The graph as written with the reference, where layers have the same names.
    pub reference: Vec<Layer>,
    /// Outputs of the optimized graph with those of the graph as written, both interpreted.
    pub passes: Vec<Layer>,
    /// Every layer of the code with the interpreter's.
    pub code: Vec<Layer>,
}

/// Which step of the road went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// Text or weights are others than the reference's.
    Network,
    Passes,
    Code,
}

impl Report {
    pub fn passes(&self, tolerance: f64) -> bool {
        // Layers of a reference may be called alike and be something else; its outputs count.
        [&self.outputs, &self.passes, &self.code].into_iter().flatten().all(|l| l.passes(tolerance))
    }

    /// The first layer that differs, and what that blames; `None` where all agree.
    pub fn first_divergence(&self, tolerance: f64) -> Option<(&Layer, Culprit)> {
        let first = |layers: &'_ [Layer]| layers.iter().position(|l| !l.passes(tolerance));
        if self.passes(tolerance) {
            return None;
        }
        let culprits =
            [(&self.code, Culprit::Code), (&self.passes, Culprit::Passes), (&self.reference, Culprit::Network)];
        let blamed = culprits.into_iter().find_map(|(layers, culprit)| Some((&layers[first(layers)?], culprit)));
        blamed.or_else(|| Some((&self.outputs[first(&self.outputs)?], Culprit::Network)))
    }

    fn join(&mut self, other: Self) {
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
            }
        }
    }
}

/// What a network is compared with.
pub enum Reference {
    /// Nothing but its own definition.
    Interpreter,
    /// Another graph, run by the interpreter. Inputs and outputs go by name, else by their order.
    Graph(Box<Graph>),
    /// Values by the names of outputs and layers, for each part of the input.
    Values(Vec<HashMap<String, Tensor>>),
}

/// A reference that cannot be compared with.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
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
/// `shipped` is the compiled model in question; without one, the network is compiled. `observe` is
/// told what goes on: the multiply-accumulates done by the interpreter since it was told last.
///
/// # Errors
/// Where the network cannot be compiled, or inputs or reference do not fit.
pub fn verify(
    compiler: &Compiler,
    written: &Network,
    shipped: Option<Model>,
    reference: &Reference,
    inputs: &[Vec<Tensor>],
    observe: &mut dyn FnMut(u64),
) -> Result<Report, VerifyError> {
    let mut optimized = written.clone();
    compiler.optimize(&mut optimized);
    let shipped = shipped.map_or_else(|| compiler.compile(&optimized), Ok)?;
    let (shown, layers) = with_all_outputs(&optimized);
    let all = compiler.compile(&shown)?;
    let mut report = Report::default();
    for (part, inputs) in inputs.iter().enumerate() {
        let mut one = Report::default();
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
        compare_code(&optimized.graph, inputs, &own, (&all, &layers), &mut one, observe)?;
        report.join(one);
    }
    Ok(report)
}

/// Multiply-accumulates that [`verify`] will have interpreted in all.
pub fn effort(written: &Network, reference: &Reference, parts: usize) -> u64 {
    let other = if let Reference::Graph(graph) = reference { graph.total_macs() } else { 0 };
    (2 * written.graph.total_macs() + other) * parts as u64
}

fn shown_outputs(graph: &Graph) -> impl Iterator<Item = &crate::ir::Output> {
    graph.outputs.iter().filter(|o| o.aux.is_none())
}

fn outputs_by_name(graph: &Graph, values: Vec<Tensor>) -> HashMap<String, Tensor> {
    graph.outputs.iter().map(|o| o.name.clone()).zip(values).collect()
}

fn layer(graph: &Graph, id: NodeId, name: &str, found: &Tensor, reference: &Tensor) -> Layer {
    let node = graph.node(id);
    let (location, shape) = (node.location.clone(), found.shape().dims().to_vec());
    Layer { name: name.into(), location, shape, difference: Difference::of(found, reference) }
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
    let is_computed =
        |id: &NodeId| !matches!(&network.graph.node(*id).kind, Kind::Input(_) | Kind::Op(Op::Constant(_)));
    let layers: Vec<NodeId> = network.graph.order().into_iter().filter(is_computed).collect();
    // Inner values need not have the images side by side; they are run as whole batches.
    all.images = Images::Fixed { input: "each of the inputs".into(), location: None };
    all.graph.outputs.clear();
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
            let wanted: std::collections::HashSet<&str> =
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
            let own: Vec<&str> = shown_outputs(graph).map(|o| o.name.as_str()).collect();
            let by_name = outputs_by_name(other, values.clone());
            // Formats differ in what they allow as a name; the order is the same.
            let same_names = own.iter().all(|name| by_name.contains_key(*name));
            let outputs = match !same_names && own.len() == values.len() {
                true => own.into_iter().map(String::from).zip(values).collect(),
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
                layers[*index].difference = candidate.difference;
            }
        }
        names.insert(id, mine);
    })?;
    report.reference = layers;
    Ok(outputs_by_name(graph, outputs))
}

/// Interprets the optimized graph and compares every layer of the code with it.
fn compare_code(
    graph: &Graph,
    inputs: &[Tensor],
    written: &Named,
    (all, layers): (&Model, &[NodeId]),
    report: &mut Report,
    observe: &mut dyn FnMut(u64),
) -> Result<(), VerifyError> {
    let found: HashMap<NodeId, Tensor> = layers.iter().copied().zip(all.run_tensors(inputs)?).collect();
    let mut code = vec![];
    let outputs = interpreter::run_observed(graph, inputs, |id, value| {
        observe(graph.macs(id));
        if let Some(found) = found.get(&id) {
            code.push(layer(graph, id, &name_of(graph, id), found, value));
        }
    })?;
    let outputs = outputs_by_name(graph, outputs);
    for output in shown_outputs(graph) {
        if let Some(reference) = written.get(&output.name) {
            report.passes.push(layer(graph, output.node, &output.name, &outputs[&output.name], reference));
        }
    }
    report.code = code;
    Ok(())
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
        assert_eq!(Difference::of(&tensor(&[f32::NAN]), &tensor(&[f32::NAN])).unwrap().max, 0.0);
        assert_eq!(Difference::of(&tensor(&[1.0]), &tensor(&[1.0, 2.0])), None);
        assert_eq!(Difference::of(&tensor(&[0.5]), &tensor(&[0.0])).unwrap().max, 0.5);
    }

    #[test]
    fn the_first_wrong_layer_of_the_last_stage_is_blamed() {
        let layers = |errors: &[f64]| -> Vec<Layer> {
            let difference = |max| Some(Difference { max, mean: max, scale: 1.0 });
            let layer = |(i, &max)| Layer {
                name: format!("l{i}"),
                location: None,
                shape: vec![1],
                difference: difference(max),
            };
            errors.iter().enumerate().map(layer).collect()
        };
        let right = Report {
            outputs: layers(&[0.0]),
            reference: layers(&[0.5, 0.0]),
            passes: layers(&[0.0]),
            code: layers(&[0.0, 1e-6]),
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
}
