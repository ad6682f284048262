//! From a decoded model to a graph: the walk over the nodes, and what operators build with.
//!
//! Values are known, or views of nodes (see [`super::view`]). What depends on known values only is
//! computed at once ([`super::fold`]): weights behind casts and transpositions, and the arithmetic
//! on shapes that exporters write down. The rest goes operator by operator to [`super::operators`].
//! Nodes are collected in a draft; [`Importer::finish`] keeps those that outputs need and declares
//! their weights under labels.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::array::Array;
use super::call::{Call, Value};
use super::error::{ImportError, Problem};
use super::file::ModelFile;
use super::proto::{self, data_type};
use super::view::View;
use super::{Options, fold, names, operators};
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::{self, Op, Reshape, Transpose};
use crate::tensor::Shape;
use crate::weights::Values;

/// Operator sets whose operators netc knows.
pub const OPSETS: std::ops::RangeInclusive<i64> = 6..=28;
/// Nodes walked, those of functions and branches included.
const MAX_NODES: usize = 1 << 18;
/// Functions within functions, branches within branches.
const MAX_DEPTH: usize = 16;
/// Elements of all arrays that importing computes together.
const MAX_FOLDED: usize = 1 << 28;

/// Names that nodes see, and how often each is read.
#[derive(Default)]
struct Scope {
    values: HashMap<String, Value>,
    uses: HashMap<String, usize>,
}

pub struct Importer<'m> {
    file: &'m ModelFile,
    functions: HashMap<(&'m str, &'m str), &'m proto::Function>,
    /// Innermost last.
    scopes: Vec<Scope>,
    opset: i64,
    draft: Graph,
    /// Values of the draft's weights, in the order in which the op declares them.
    weights: HashMap<NodeId, Vec<Values>>,
    /// What the layer under import is called.
    label: String,
    arranged: HashMap<(NodeId, Vec<Option<usize>>), NodeId>,
    /// Nodes that stand for a part of GELU until the rest comes.
    halves: HashMap<NodeId, HalfGelu>,
    problems: Vec<Problem>,
    walked: usize,
    folded: usize,
    options: &'m Options,
}

/// A part of `x / 2 · (1 + erf(x / √2))`, which exporters write down term by term.
#[derive(Clone, Copy, Debug)]
pub struct HalfGelu {
    pub x: NodeId,
    /// The 1 has been added.
    pub plus_one: bool,
    /// Product of the numbers multiplied so far.
    pub factor: f32,
    /// It has been multiplied by x.
    pub times_x: bool,
}

/// Imports a model's main graph.
pub fn import(file: &ModelFile, options: &Options) -> Result<Graph, ImportError> {
    let refuse = |message: String| ImportError::Model { path: file.path.clone(), message };
    let opset = opset_of(&file.model.opset_import).map_err(refuse)?;
    let graph = file.model.graph.as_ref().expect("checked when the file was opened");
    if !graph.sparse_initializer.is_empty() {
        return Err(refuse("sparse weights are not supported".into()));
    }
    let functions = file.model.functions.iter().map(|f| ((f.domain.as_str(), f.name.as_str()), f)).collect();
    let mut importer = Importer {
        file,
        functions,
        scopes: vec![Scope::default()],
        opset,
        draft: Graph::new(names::graph(&graph.name), Phase::Infer),
        weights: HashMap::new(),
        label: String::new(),
        arranged: HashMap::new(),
        halves: HashMap::new(),
        problems: vec![],
        walked: 0,
        folded: 0,
        options,
    };
    importer.initializers(graph).map_err(refuse)?;
    importer.inputs(graph).map_err(refuse)?;
    importer.count_uses(&graph.node, graph.output.iter().map(|o| o.name.as_str()));
    importer.nodes(&graph.node, 0);
    let outputs = importer.outputs(graph);
    if let Ok(outputs) = &outputs {
        importer.report_halves(outputs);
    }
    if !importer.problems.is_empty() {
        return Err(ImportError::Unsupported { path: file.path.clone(), problems: importer.problems });
    }
    let outputs = outputs.map_err(refuse)?;
    Ok(importer.finish(&outputs))
}

fn opset_of(sets: &[proto::OperatorSet]) -> Result<i64, String> {
    let version = sets.iter().find(|s| matches!(s.domain.as_str(), "" | "ai.onnx")).map_or(1, |s| s.version);
    match OPSETS.contains(&version) {
        true => Ok(version),
        false => Err(format!(
            "the model uses operator set {version}; netc reads {} to {}. Convert it with onnx.version_converter",
            OPSETS.start(),
            OPSETS.end()
        )),
    }
}

/// Inputs and outputs by their names.
impl Importer<'_> {
    fn initializers(&mut self, graph: &proto::Graph) -> Result<(), String> {
        for tensor in &graph.initializer {
            let array = self.file.array(tensor).map_err(|e| format!("initializer {}: {e}", tensor.name))?;
            self.define(&tensor.name, Value::Known(array));
        }
        Ok(())
    }

    fn inputs(&mut self, graph: &proto::Graph) -> Result<(), String> {
        for input in &graph.input {
            // Before IR version 4, weights had to be inputs too.
            if self.lookup(&input.name).is_none() {
                let shape = self.input_shape(input)?;
                let rank = shape.rank();
                let node = self.draft.add_input(names::value(&input.name), shape, None, None);
                self.define(&input.name, Value::Data(View::whole(node, rank)));
            }
        }
        match self.draft.inputs() {
            [] => Err("the model has no input".into()),
            _ => Ok(()),
        }
    }

    fn input_shape(&self, input: &proto::ValueInfo) -> Result<Shape, String> {
        let name = &input.name;
        let ty = input.ty.as_ref().and_then(|t| t.tensor_type.as_ref());
        let ty = ty.ok_or_else(|| format!("input {name} is no tensor"))?;
        if !matches!(
            ty.elem_type,
            data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16 | data_type::UINT8
        ) {
            return Err(format!(
                "input {name} is of type {}; netc runs networks on floating-point numbers",
                data_type::name(ty.elem_type)
            ));
        }
        let stated = ty.shape.as_ref().map_or(&[][..], |s| &s.dim);
        let dims: Vec<usize> = match self.options.shapes.get(name) {
            Some(given) if given.len() == stated.len() || stated.is_empty() => given.clone(),
            Some(given) => return Err(format!("input {name} has {} axes, not {}", stated.len(), given.len())),
            None if ty.shape.is_none() => {
                return Err(format!("input {name} has no shape; give one: --shape {name}=1,3,224,224"));
            }
            None => stated.iter().enumerate().map(|(i, d)| self.input_size(name, i, d)).collect::<Result<_, _>>()?,
        };
        let shape = Shape::new(dims);
        ops::check_size("the input", &shape).map_err(|e| format!("input {name}: {e}"))?;
        Ok(shape)
    }

    /// A size that the file leaves open is the batch, if it is the first.
    fn input_size(&self, name: &str, axis: usize, dim: &proto::Dimension) -> Result<usize, String> {
        match dim.dim_value {
            Some(size) if size > 0 => Ok(size as usize),
            _ if axis == 0 => Ok(self.options.batch),
            _ => {
                let open = dim.dim_param.as_deref().unwrap_or("?");
                Err(format!(
                    "size {axis} of input {name} is open (`{open}`); give the shape: --shape {name}=1,3,224,224"
                ))
            }
        }
    }

    fn outputs(&mut self, graph: &proto::Graph) -> Result<Vec<(String, NodeId)>, String> {
        let mut outputs = vec![];
        for output in &graph.output {
            match self.lookup(&output.name) {
                Some(Value::Data(view)) => {
                    let view = self.distinct(&view)?;
                    outputs.push((output.name.clone(), view));
                }
                Some(Value::Known(array)) => {
                    let view = self.constant(&array)?;
                    outputs.push((output.name.clone(), view.node));
                }
                // Its reason is among the problems.
                Some(Value::Missing) => {}
                None => return Err(format!("output {} is computed by no node", output.name)),
            }
        }
        match graph.output.is_empty() {
            true => Err("the model has no output".into()),
            false => Ok(outputs),
        }
    }

    /// The view in order, as a node that is no input: an output must be computed.
    fn distinct(&mut self, view: &View) -> Result<NodeId, String> {
        let node = self.in_order(view)?;
        match self.draft.inputs().contains(&node) {
            true => self.add(ops::Identity {}, &[node], vec![]),
            false => Ok(node),
        }
    }
}

/// The walk.
impl<'m> Importer<'m> {
    fn define(&mut self, name: &str, value: Value) {
        if !name.is_empty() {
            self.scopes.last_mut().expect("one scope at least").values.insert(name.into(), value);
        }
    }

    fn lookup(&self, name: &str) -> Option<Value> {
        self.scopes.iter().rev().find_map(|s| s.values.get(name)).cloned()
    }

    fn count_uses<'a>(&mut self, nodes: &[proto::Node], outputs: impl Iterator<Item = &'a str>) {
        let scope = self.scopes.last_mut().expect("one scope at least");
        outputs.for_each(|name| *scope.uses.entry(name.into()).or_default() += 1);
        count_reads(nodes, &mut scope.uses);
    }

    fn nodes(&mut self, nodes: &[proto::Node], depth: usize) {
        for node in nodes {
            self.walked += 1;
            if self.walked > MAX_NODES {
                return self.problem(node, format!("the model has more than {MAX_NODES} nodes"));
            }
            let values = self.node(node, depth).unwrap_or_else(|message| {
                self.problem(node, message);
                vec![]
            });
            let missing = std::iter::repeat(Value::Missing);
            for (name, value) in node.output.iter().zip(values.into_iter().chain(missing)) {
                self.define(name, value);
            }
        }
    }

    fn problem(&mut self, node: &proto::Node, message: String) {
        let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
        let operator = match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type.clone(),
            domain => format!("{domain}.{}", node.op_type),
        };
        self.problems.push(Problem { node: name.cloned().unwrap_or_default(), operator, message });
    }

    fn node(&mut self, node: &proto::Node, depth: usize) -> Result<Vec<Value>, String> {
        let function = self.functions.get(&(node.domain.as_str(), node.op_type.as_str())).copied();
        if let Some(function) = function {
            return self.function(node, function, depth);
        }
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Err(format!("operators of the domain {} are not part of the ONNX standard", node.domain));
        }
        let convert = operators::find(&node.op_type)?;
        let inputs = self.call_inputs(node)?;
        if inputs.iter().any(|i| matches!(i, Some(Value::Missing))) {
            return Ok(vec![]);
        }
        let known: Vec<Option<&str>> = node.input.iter().map(|n| self.is_known(n).then_some(n.as_str())).collect();
        let uses = node.input.iter().map(|n| self.uses(n)).collect();
        self.label = names::label(node, &known);
        let call = Call::new(node, self.opset, inputs, uses);
        if node.op_type == "If" {
            return self.branch(&call, depth);
        }
        let results = match fold::fold(self, &call)? {
            Some(arrays) => arrays.into_iter().map(Value::Known).collect(),
            None => convert(self, &call)?,
        };
        match call.unknown_attribute() {
            None => Ok(results),
            Some(name) => Err(format!("its attribute {name} is not known")),
        }
    }

    fn call_inputs(&self, node: &proto::Node) -> Result<Vec<Option<Value>>, String> {
        let input = |name: &String| match self.lookup(name) {
            _ if name.is_empty() => Ok(None),
            Some(value) => Ok(Some(value)),
            None => Err(format!("input `{name}` is computed by no node before it")),
        };
        node.input.iter().map(input).collect()
    }

    fn is_known(&self, name: &str) -> bool {
        matches!(self.lookup(name), Some(Value::Known(_)))
    }

    fn uses(&self, name: &str) -> usize {
        self.scopes.iter().filter_map(|s| s.uses.get(name)).sum()
    }

    /// Counts elements against what importing may compute, before they are.
    pub fn reserve(&mut self, elements: usize) -> Result<(), String> {
        self.folded = self.folded.saturating_add(elements);
        match self.folded <= MAX_FOLDED {
            true => Ok(()),
            false => Err(format!("computing constants would take more than {MAX_FOLDED} numbers")),
        }
    }

    /// `If` with a condition that is known: the nodes of the branch that is taken.
    fn branch(&mut self, call: &Call, depth: usize) -> Result<Vec<Value>, String> {
        let condition = call.need_known(0).map_err(|_| "control flow that depends on data".to_string())?;
        let condition = condition.scalar().ok_or("its condition is no single truth value")?;
        let name = if condition != 0.0 { "then_branch" } else { "else_branch" };
        let graph = call.attribute(name).and_then(|a| a.g.as_deref()).ok_or_else(|| format!("{name} is missing"))?;
        if depth == MAX_DEPTH {
            return Err(format!("branches nest deeper than {MAX_DEPTH} levels"));
        }
        self.scopes.push(Scope::default());
        let result = self.body(&graph.initializer, &graph.node, graph.output.iter().map(|o| o.name.as_str()), depth);
        self.scopes.pop();
        result
    }

    /// A node that the file defines by others: those, with its inputs and attributes.
    fn function(
        &mut self,
        node: &proto::Node,
        function: &'m proto::Function,
        depth: usize,
    ) -> Result<Vec<Value>, String> {
        if depth == MAX_DEPTH {
            return Err(format!("functions nest deeper than {MAX_DEPTH} levels"));
        }
        let opset = opset_of(&function.opset_import)?;
        let inputs = self.call_inputs(node)?;
        let mut scope = Scope::default();
        for (name, value) in function.input.iter().zip(inputs) {
            scope.values.extend(value.map(|v| (name.clone(), v)));
        }
        let nodes: Vec<proto::Node> = function.node.iter().map(|n| with_attributes(n, node, function)).collect();
        // A function sees none of its caller's names.
        let outer = (std::mem::replace(&mut self.scopes, vec![scope]), std::mem::replace(&mut self.opset, opset));
        let result = self.body(&[], &nodes, function.output.iter().map(String::as_str), depth);
        (self.scopes, self.opset) = outer;
        result
    }

    fn body<'a>(
        &mut self,
        initializers: &[proto::Tensor],
        nodes: &[proto::Node],
        outputs: impl Iterator<Item = &'a str> + Clone,
        depth: usize,
    ) -> Result<Vec<Value>, String> {
        for tensor in initializers {
            let array = self.file.array(tensor).map_err(|e| format!("initializer {}: {e}", tensor.name))?;
            self.define(&tensor.name, Value::Known(array));
        }
        self.count_uses(nodes, outputs.clone());
        self.nodes(nodes, depth + 1);
        let find = |name: &str| self.lookup(name).ok_or_else(|| format!("`{name}` is computed by no node"));
        outputs.map(find).collect()
    }
}

fn count_reads(nodes: &[proto::Node], uses: &mut HashMap<String, usize>) {
    for node in nodes {
        node.input.iter().for_each(|name| *uses.entry(name.clone()).or_default() += 1);
        for graph in node.attribute.iter().filter_map(|a| a.g.as_deref()) {
            // What a branch gives is read by whoever reads the node's output.
            graph.output.iter().for_each(|o| *uses.entry(o.name.clone()).or_default() += 1);
            count_reads(&graph.node, uses);
        }
    }
}

/// A function's node with the caller's attributes where it refers to them.
fn with_attributes(inner: &proto::Node, caller: &proto::Node, function: &proto::Function) -> proto::Node {
    let mut node = inner.clone();
    node.attribute = inner
        .attribute
        .iter()
        .filter_map(|a| match a.ref_attr_name.as_str() {
            "" => Some(a.clone()),
            reference => {
                let given = caller.attribute.iter().chain(&function.attribute).find(|g| g.name == reference)?;
                Some(proto::Attribute { name: a.name.clone(), ..given.clone() })
            }
        })
        .collect();
    node.name = if inner.name.is_empty() { caller.name.clone() } else { format!("{}/{}", caller.name, inner.name) };
    node
}

/// What operators build with.
impl Importer<'_> {
    pub fn file(&self) -> &ModelFile {
        self.file
    }

    pub fn op(&self, node: NodeId) -> Option<&Op> {
        self.draft.node(node).op()
    }

    pub fn operands(&self, node: NodeId) -> Vec<NodeId> {
        self.draft.operands(node)
    }

    pub fn half_gelu(&self, node: NodeId) -> Option<HalfGelu> {
        self.halves.get(&node).copied()
    }

    /// A node that stands for a part of GELU, to be replaced when the whole is there.
    pub fn add_half_gelu(&mut self, view: &View, half: HalfGelu) -> Result<View, String> {
        let result = self.map(ops::Identity {}, view, vec![])?;
        self.halves.insert(result.node, half);
        Ok(result)
    }

    /// The values of a draft node's weights.
    pub fn weights(&self, node: NodeId) -> &[Values] {
        self.weights.get(&node).map_or(&[], Vec::as_slice)
    }

    /// The nodes that read a node so far.
    pub fn readers(&self, node: NodeId) -> Vec<NodeId> {
        self.draft.users(node).into_iter().map(|(user, _)| user).collect()
    }

    /// Nothing reads the node yet.
    pub fn is_unread(&self, node: NodeId) -> bool {
        self.draft.users(node).is_empty()
    }

    /// What the layer that made the node is called.
    pub fn label_of(&self, node: NodeId) -> Option<String> {
        self.draft.node(node).name.clone()
    }

    /// Calls what is built from here on by another name than the node's.
    pub fn relabel(&mut self, label: Option<String>) {
        if let Some(label) = label {
            self.label = label;
        }
    }

    /// Sizes of a node's own axes.
    pub fn node_dims(&self, node: NodeId) -> Vec<usize> {
        self.draft.node(node).shape.dims().to_vec()
    }

    /// Sizes of the value as the model has it.
    pub fn dims(&self, view: &View) -> Vec<usize> {
        view.dims(self.draft.node(view.node).shape.dims())
    }

    /// Adds an operation with the values of its weights, in the order in which it declares them.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[NodeId], weights: Vec<Values>) -> Result<NodeId, String> {
        self.add_labelled(op.into(), operands, weights, Some(self.label.clone()))
    }

    /// Adds what only brings a value into form; it has no name in the model.
    fn add_helper(&mut self, op: impl Into<Op>, operand: NodeId) -> Result<NodeId, String> {
        self.add_labelled(op.into(), &[operand], vec![], None)
    }

    fn add_labelled(
        &mut self,
        op: Op,
        operands: &[NodeId],
        weights: Vec<Values>,
        label: Option<String>,
    ) -> Result<NodeId, String> {
        let node = self.draft.add(op, operands, vec![], label, None).map_err(|e| e.to_string())?;
        let op = self.op(node).expect("just added");
        let declared = op.weights(&self.draft.operand_shapes(node));
        for (declared, values) in declared.iter().zip(&weights) {
            let found = (**values).as_ref().len();
            if found != declared.shape.elements() {
                return Err(format!(
                    "its {} has {found} numbers where {} are due",
                    declared.role,
                    declared.shape.elements()
                ));
            }
        }
        assert_eq!(declared.len(), weights.len(), "{op:?} declares other weights");
        if !weights.is_empty() {
            self.weights.insert(node, weights);
        }
        Ok(node)
    }

    /// An operation on one value that keeps the order of its axes.
    pub fn map(&mut self, op: impl Into<Op>, view: &View, weights: Vec<Values>) -> Result<View, String> {
        Ok(view.of(self.add(op, &[view.node], weights)?))
    }

    /// A known array as a value.
    pub fn constant(&mut self, array: &Array) -> Result<View, String> {
        let op = ops::Constant { shape: array.dims.clone() };
        Ok(View::whole(self.add(op, &[], vec![array.to_values()])?, array.rank()))
    }

    /// An input as a view, whether it is known or computed.
    pub fn view(&mut self, call: &Call, index: usize) -> Result<View, String> {
        match call.input(index) {
            Some(Value::Data(view)) => Ok(view.clone()),
            Some(Value::Known(array)) => self.constant(array),
            _ => Err(format!("input {index} is missing")),
        }
    }

    /// A node whose axes are those of the value, in order.
    pub fn in_order(&mut self, view: &View) -> Result<NodeId, String> {
        if view.is_whole(self.draft.node(view.node).shape.rank()) {
            return Ok(view.node);
        }
        let key = (view.node, view.axes.clone());
        if let Some(&node) = self.arranged.get(&key) {
            return Ok(node);
        }
        let node = self.arrange(view)?;
        self.arranged.insert(key, node);
        Ok(node)
    }

    fn arrange(&mut self, view: &View) -> Result<NodeId, String> {
        let from = self.node_dims(view.node);
        let shown: Vec<usize> = view.axes.iter().flatten().copied().collect();
        // Axes of one element can be anywhere, but the batch is no such axis, whatever its size.
        let moving: Vec<usize> = shown.iter().copied().filter(|&axis| from[axis] != 1 || axis == 0).collect();
        let mut node = view.node;
        if !moving.is_sorted() {
            let perm: Vec<usize> = shown.iter().copied().chain(view.hidden(from.len())).collect();
            node = self.add_helper(Transpose { perm }, node)?;
        }
        self.reshape(node, &view.dims(&from))
    }

    /// The node's elements under other sizes, in such a way that the batch stays free where it can.
    pub fn reshape(&mut self, node: NodeId, to: &[usize]) -> Result<NodeId, String> {
        let from = self.node_dims(node);
        if from == to {
            return Ok(node);
        }
        if let ([batch, _], [kept, _, ..]) = (to, from.as_slice())
            && batch == kept
        {
            return self.add_helper(ops::Flatten {}, node);
        }
        let mut shape: Vec<i64> = to.iter().map(|&d| d as i64).collect();
        if let Some(first) = shape.first_mut() {
            *first = if from.first() == to.first() { 0 } else { -1 };
        }
        self.add_helper(Reshape { shape }, node)
    }

    /// The value as an image: a node of axes `[N, C, H, W]`, and the view that shows results of its
    /// kind as the model expects them. One-dimensional values are images one pixel high.
    pub fn image(&mut self, view: &View) -> Result<(NodeId, View), String> {
        match view.rank() {
            4 => {
                let node = self.in_order(view)?;
                Ok((node, View::whole(node, 4)))
            }
            3 => {
                let flat = View { node: view.node, axes: vec![Some(0), Some(1), Some(3)] };
                let is_image = self.draft.node(view.node).shape.rank() == 4 && *view == flat;
                let node = if is_image { view.node } else { self.in_order(&view.with_new(&[2]))? };
                Ok((node, View { node, ..flat }))
            }
            rank => Err(format!("a value of {rank} axes: netc knows images [N, C, H, W] and sequences [N, C, L]")),
        }
    }

    /// The value with its channels, axis 1, as axis 1 of the node.
    pub fn with_channels(&mut self, view: &View) -> Result<View, String> {
        match view.axes.get(1) {
            Some(Some(1)) => Ok(view.clone()),
            Some(_) => Ok(View::whole(self.in_order(view)?, view.rank())),
            None => Err("a value without channels".into()),
        }
    }
}

/// The graph.
impl Importer<'_> {
    /// The nodes that outputs need, with weights declared under unique labels.
    fn finish(self, outputs: &[(String, NodeId)]) -> Graph {
        let live = self.live(outputs);
        let labels = self.unique_labels(&live);
        let mut graph = Graph::new(self.draft.name.clone(), Phase::Infer);
        let mut copies: HashMap<NodeId, NodeId> = HashMap::new();
        for &input in self.draft.inputs() {
            let node = self.draft.node(input);
            let name = labels[&input].clone();
            copies.insert(input, graph.add_input(name, node.shape.clone(), None, None));
        }
        for id in live.into_iter().filter(|id| !self.draft.inputs().contains(id)) {
            let op = self.op(id).expect("inputs were added").clone();
            let label = &labels[&id];
            let declared = op.weights(&self.draft.operand_shapes(id));
            let weights = declared.into_iter().zip(self.weights(id)).map(|(declared, values)| {
                let name = format!("{label}.{}", declared.role);
                let weight = graph.weights.declare(&name, declared.shape, declared.init, declared.learnable);
                let weight = weight.expect("labels are unique");
                graph.weights.set(weight, values.clone());
                weight
            });
            let weights = weights.collect();
            let operands: Vec<NodeId> = self.draft.operands(id).iter().map(|o| copies[o]).collect();
            let copy = graph.add(op, &operands, weights, Some(label.clone()), None);
            copies.insert(id, copy.expect("it was inferred in the draft"));
        }
        let mut taken = HashSet::new();
        for (name, node) in outputs {
            graph.output(names::unique(&names::value(name), &mut taken), copies[node], None);
        }
        graph
    }

    /// An error function that did not become a GELU.
    fn report_halves(&mut self, outputs: &[(String, NodeId)]) {
        let live = self.live(outputs);
        if let Some(half) = live.iter().find(|id| self.halves.contains_key(id)) {
            let node = self.label_of(*half).unwrap_or_default();
            let message = "the error function is known only as part of GELU, x / 2 * (1 + erf(x / sqrt(2)))".into();
            self.problems.push(Problem { node, operator: "Erf".into(), message });
        }
    }

    fn live(&self, outputs: &[(String, NodeId)]) -> Vec<NodeId> {
        let mut live: HashSet<NodeId> = HashSet::new();
        let mut stack: Vec<NodeId> = outputs.iter().map(|(_, node)| *node).collect();
        while let Some(node) = stack.pop() {
            if live.insert(node) {
                stack.extend(self.draft.operands(node));
            }
        }
        self.draft.order().into_iter().filter(|n| live.contains(n)).collect()
    }

    /// Inputs keep their names; layers with weights come next, so that weights are called what the
    /// model calls them.
    fn unique_labels(&self, live: &[NodeId]) -> BTreeMap<NodeId, String> {
        let mut taken = HashSet::new();
        let mut labels = BTreeMap::new();
        let rank = |id: &NodeId| match (self.draft.inputs().contains(id), self.weights.contains_key(id)) {
            (true, _) => 0,
            (_, true) => 1,
            _ => 2,
        };
        for wanted in 0..3 {
            let nodes = self.draft.inputs().iter().chain(live).filter(|id| rank(id) == wanted);
            for &id in nodes {
                let node = self.draft.node(id);
                let name = || node.name.as_deref().or(node.op().map(Op::name)).unwrap_or_default();
                labels.entry(id).or_insert_with(|| names::unique(name(), &mut taken));
            }
        }
        labels
    }
}
