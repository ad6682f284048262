//! The graph under import: what operators build with, nodes with the values of their weights, and views brought
//! into form.
//!
//! A draft knows no operator of ONNX. It counts what importing computes, so that a small file cannot ask for
//! much, and joins what models join again. [`Draft::finish`] keeps what outputs need.

mod concats;
mod evaluate;
mod finish;
mod transposed;

use std::collections::{HashMap, HashSet};

use super::array::Array;
use super::call::{Call, Value};
use super::file::ModelFile;
use super::names;
use super::view::View;
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::{self, Op, Reshape, Transpose};
use crate::tensor::{Element, Shape};
use crate::weights::Values;

/// Elements of all arrays that importing computes together, beside [`FOLDS_OF_WEIGHT`] for each that the
/// model brings.
const MAX_FOLDED: usize = 1 << 28;
const FOLDS_OF_WEIGHT: usize = 32;

pub(crate) struct Draft<'m> {
    file: &'m ModelFile,
    graph: Graph,
    /// Values of the graph's weights, in the order in which the op declares them.
    weights: HashMap<NodeId, Vec<Values>>,
    /// What the layer under import is called.
    label: names::Label,
    /// Nodes whose name nobody chose.
    made_up: HashSet<NodeId>,
    arranged: HashMap<(NodeId, Vec<Option<usize>>), NodeId>,
    concats: concats::Concats,
    transposed: transposed::Transposed,
    /// The input that tells the number of images, where sizes that it divides count these and nothing else.
    images: Option<NodeId>,
    /// Elements that were computed.
    folded: usize,
    /// Elements of the model's weights.
    brought: usize,
}

impl<'m> Draft<'m> {
    pub(crate) fn new(file: &'m ModelFile, name: String) -> Self {
        Self {
            file,
            graph: Graph::new(name, Phase::Infer),
            weights: HashMap::new(),
            label: names::Label::default(),
            made_up: HashSet::new(),
            arranged: HashMap::new(),
            concats: concats::Concats::default(),
            transposed: transposed::Transposed::default(),
            images: None,
            folded: 0,
            brought: 0,
        }
    }

    pub(crate) fn file(&self) -> &'m ModelFile {
        self.file
    }

    /// Which program wrote the model, as it says itself.
    pub(crate) fn is_written_by(&self, producer: &str) -> bool {
        self.file.model.producer_name.trim().eq_ignore_ascii_case(producer)
    }
}

/// What importing may compute.
impl Draft<'_> {
    /// Counts the elements of a weight that the model has.
    pub(crate) fn bring(&mut self, elements: usize) {
        self.brought = self.brought.saturating_add(elements);
    }

    /// Counts elements against what importing may compute, before they are.
    pub(crate) fn reserve(&mut self, elements: usize) -> Result<(), String> {
        match self.affords(elements) {
            true => Ok(()),
            false => Err(format!("computing constants would take more than {} numbers", self.most_folded())),
        }
    }

    /// As [`Self::reserve`], for what may be left to the network instead.
    fn affords(&mut self, elements: usize) -> bool {
        let folded = self.folded.saturating_add(elements);
        let fits = folded <= self.most_folded();
        if fits {
            self.folded = folded;
        }
        fits
    }

    fn most_folded(&self) -> usize {
        MAX_FOLDED.saturating_add(self.brought.saturating_mul(FOLDS_OF_WEIGHT))
    }
}

/// Nodes, and views of them.
impl Draft<'_> {
    pub(crate) fn add_input(&mut self, name: String, shape: Shape) -> NodeId {
        self.graph.add_input(name, shape, None, None)
    }

    pub(crate) fn inputs(&self) -> &[NodeId] {
        self.graph.inputs()
    }

    /// Calls what is built from here on.
    pub(crate) fn set_label(&mut self, label: impl Into<names::Label>) {
        self.label = label.into();
    }

    pub(crate) fn op(&self, node: NodeId) -> Option<&Op> {
        self.graph.node(node).op()
    }

    pub(crate) fn operands(&self, node: NodeId) -> Vec<NodeId> {
        self.graph.operands(node)
    }

    /// The values of a draft node's weights.
    pub(crate) fn weights(&self, node: NodeId) -> &[Values] {
        self.weights.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Whether a node is computed of rows of which only some exist.
    pub(crate) fn is_counted(&self, node: NodeId) -> bool {
        let (mut seen, mut pending) = (HashSet::from([node]), vec![node]);
        while let Some(at) = pending.pop() {
            if let Some(Op::Compact(_)) = self.op(at) {
                return true;
            }
            pending.extend(self.operands(at).into_iter().filter(|&operand| seen.insert(operand)));
        }
        false
    }

    /// Nothing reads the node yet.
    pub(crate) fn is_unread(&self, node: NodeId) -> bool {
        self.graph.is_unread(node)
    }

    /// Calls what `build` makes by another name.
    pub(crate) fn labelled<T>(&mut self, text: impl FnOnce(&str) -> String, build: impl FnOnce(&mut Self) -> T) -> T {
        let label = names::Label { text: text(&self.label.text), ..self.label };
        let outer = std::mem::replace(&mut self.label, label);
        let result = build(self);
        self.label = outer;
        result
    }

    /// Calls what is built from here on as the layer that made a node, where that has a name.
    pub(crate) fn relabel_as(&mut self, node: NodeId) -> bool {
        let Some(text) = self.graph.node(node).name.clone() else { return false };
        self.label = names::Label { text, is_made_up: self.made_up.contains(&node) };
        true
    }

    /// Calls what is built from here on after the layer that made a node: a grid belongs to what is brought to it.
    pub(crate) fn relabel_after(&mut self, node: NodeId) {
        if self.relabel_as(node) {
            self.label.text.push('q');
        }
    }

    /// What a node's value consists of.
    pub(crate) fn element(&self, node: NodeId) -> Element {
        self.graph.node(node).shape.element()
    }

    /// Sizes of a node's own axes.
    pub(crate) fn node_dims(&self, node: NodeId) -> Vec<usize> {
        self.graph.node(node).shape.dims().to_vec()
    }

    /// Sizes of the value as the model has it.
    pub(crate) fn dims(&self, view: &View) -> Vec<usize> {
        view.dims(self.graph.node(view.node).shape.dims())
    }

    /// Adds an operation with the values of its weights, in the order in which it declares them.
    pub(crate) fn add(
        &mut self,
        op: impl Into<Op>,
        operands: &[NodeId],
        weights: Vec<Values>,
    ) -> Result<NodeId, String> {
        let node = self.add_labelled(op.into(), operands, weights, Some(self.label.text.clone()))?;
        if self.label.is_made_up {
            self.made_up.insert(node);
        }
        Ok(node)
    }

    /// Adds what only brings a value into form; it has no name in the model.
    pub(crate) fn add_helper(&mut self, op: impl Into<Op>, operand: NodeId) -> Result<NodeId, String> {
        self.add_labelled(op.into(), &[operand], vec![], None)
    }

    fn add_labelled(
        &mut self,
        op: Op,
        operands: &[NodeId],
        weights: Vec<Values>,
        label: Option<String>,
    ) -> Result<NodeId, String> {
        let node = self.graph.add(op, operands, vec![], label, None).map_err(|e| e.to_string())?;
        let op = self.op(node).expect("just added");
        let declared = op.weights(&self.graph.operand_shapes(node));
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
    pub(crate) fn map(&mut self, op: impl Into<Op>, view: &View, weights: Vec<Values>) -> Result<View, String> {
        Ok(view.of(self.add(op, &[view.node], weights)?))
    }

    /// Says which input's first size is the number of images, and divides no other size.
    pub(crate) fn set_images(&mut self, input: Option<NodeId>) {
        self.images = input;
    }

    /// A known array as a value.
    pub(crate) fn constant(&mut self, array: &Array) -> Result<View, String> {
        if let Some(input) = self.images
            && let Some((axis, one)) = self.alike(input, array)
        {
            let op = ops::Constant::of(one.dims.clone());
            let one = self.add(op, &[], vec![one.to_values()])?;
            let node = self.add(ops::ExpandImages {}, &[one, input], vec![])?;
            // The images come first there, the other axes behind.
            let place = |of: usize| if of == axis { 0 } else { of + usize::from(of < axis) };
            let view = View { node, axes: (0..array.rank()).map(|of| Some(place(of))).collect() };
            return Ok(View::whole(self.in_order(&view)?, array.rank()));
        }
        let op = ops::Constant::of(array.dims.clone());
        Ok(View::whole(self.add(op, &[], vec![array.to_values()])?, array.rank()))
    }

    /// The one axis of an array that counts the images of an input, and what is the same for all of them.
    fn alike(&self, input: NodeId, array: &Array) -> Option<(usize, Array)> {
        let count = *self.graph.node(input).shape.dims().first()?;
        let counted: Vec<usize> = (0..array.rank()).filter(|&a| array.dims[a].is_multiple_of(count)).collect();
        let [axis] = counted[..] else { return None };
        let one = (array.dims[axis] == count).then(|| array.same_along(axis))??;
        Some((axis, one))
    }

    /// An input as a view, whether it is known or computed.
    pub(crate) fn view(&mut self, call: &Call, index: usize) -> Result<View, String> {
        match call.input(index) {
            Some(Value::Data(view)) => Ok(view.clone()),
            Some(Value::Known(array)) => self.constant(array),
            Some(Value::List(_)) => Err(format!("input {index} is a sequence of values where one is due")),
            _ => Err(format!("input {index} is missing")),
        }
    }

    /// The sizes of an input, whether it is known or computed.
    pub(crate) fn dims_of_input(&self, call: &Call, index: usize) -> Result<Vec<usize>, String> {
        match call.input(index) {
            Some(Value::Data(view)) => Ok(self.dims(view)),
            Some(Value::Known(array)) => Ok(array.dims.clone()),
            _ => Err(format!("input {index} is missing")),
        }
    }

    /// A node whose axes are those of the value, in order.
    pub(crate) fn in_order(&mut self, view: &View) -> Result<NodeId, String> {
        if view.is_whole(self.graph.node(view.node).shape.rank()) {
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
    pub(crate) fn reshape(&mut self, node: NodeId, to: &[usize]) -> Result<NodeId, String> {
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
    pub(crate) fn image(&mut self, view: &View) -> Result<(NodeId, View), String> {
        match view.rank() {
            4 => {
                let node = self.in_order(view)?;
                Ok((node, View::whole(node, 4)))
            }
            3 => {
                let flat = View { node: view.node, axes: vec![Some(0), Some(1), Some(3)] };
                let is_image = self.graph.node(view.node).shape.rank() == 4 && *view == flat;
                let node = if is_image { view.node } else { self.in_order(&view.with_new(&[2]))? };
                Ok((node, View { node, ..flat }))
            }
            rank => Err(format!("a value of {rank} axes: netc knows images [N, C, H, W] and sequences [N, C, L]")),
        }
    }

    /// The value with its channels, axis 1, as axis 1 of the node.
    pub(crate) fn with_channels(&mut self, view: &View) -> Result<View, String> {
        match view.axes.get(1) {
            Some(Some(1)) => Ok(view.clone()),
            Some(_) => Ok(View::whole(self.in_order(view)?, view.rank())),
            None => Err("a value without channels".into()),
        }
    }
}
