//! What the model is gathered in: nodes, names, initializers.

use std::collections::{HashMap, HashSet};

use super::super::metadata;
use super::super::onnx::proto::{self, data_type};
use super::{IR_VERSION, MICROSOFT, OPSET, operators, outputs};
use crate::ir::{Graph, NodeId};
use crate::ops::attributes::AttributeValue as _;
use crate::ops::images::Images;
use crate::ops::quantized::Levels;
use crate::tensor::{Element, Rows, Shape};
use crate::weights::WeightId;

/// A tensor of the model, whose numbers are there when they are written.
pub(crate) struct Initializer {
    pub name: String,
    pub dims: Vec<usize>,
    pub data: Data,
}

pub(crate) enum Data {
    Weight(WeightId, Element),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    /// Zero points of these levels, which have 8 or 16 bits.
    Levels(Vec<i64>, Levels),
}

impl Initializer {
    /// Bytes of its numbers.
    pub(crate) fn bytes(&self) -> u64 {
        let size = match self.data {
            Data::Weight(_, element) => element.bytes() as u64,
            Data::Levels(_, levels) => levels.bits as u64 / 8,
            Data::Floats(_) => 4,
            Data::Ints(_) => 8,
        };
        size * self.dims.iter().product::<usize>() as u64
    }

    /// The type of its numbers.
    pub(crate) fn data_type(&self) -> i32 {
        match self.data {
            Data::Weight(_, Element::I8) => data_type::INT8,
            Data::Weight(_, Element::U8) => data_type::UINT8,
            Data::Weight(_, Element::I32) => data_type::INT32,
            Data::Levels(_, levels) => data_type::of_levels(levels).unwrap_or(data_type::UINT8),
            Data::Ints(_) => data_type::INT64,
            Data::Weight(..) | Data::Floats(_) => data_type::FLOAT,
        }
    }

    pub(crate) fn is_weight(&self) -> bool {
        matches!(self.data, Data::Weight(..))
    }
}

/// A model whose initializers are not part of the message yet.
pub(crate) struct Made {
    pub model: proto::Model,
    pub initializers: Vec<Initializer>,
}

impl Made {
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.initializers.iter().map(Initializer::bytes).sum()
    }

    pub(crate) fn nodes(&self) -> usize {
        self.model.graph.as_ref().map_or(0, |g| g.node.len())
    }
}

pub(crate) struct OnnxBuilder<'g> {
    pub graph: &'g Graph,
    /// The name of the batch size, where that is open, and where the images are in each value.
    pub batch: Option<String>,
    places: HashMap<NodeId, Images>,
    nodes: Vec<proto::Node>,
    /// How many of them belong to nodes of the graph before the one at hand.
    begun: usize,
    /// What each value will be called.
    planned: HashMap<NodeId, String>,
    /// What each value is called: a name of another one's where nothing had to be computed.
    values: HashMap<NodeId, String>,
    infos: Vec<proto::ValueInfo>,
    initializers: Vec<Initializer>,
    weights: HashMap<(WeightId, Vec<usize>), String>,
    ints: HashMap<Vec<i64>, String>,
    numbers: HashMap<u32, String>,
    zeros: HashMap<(Vec<usize>, Levels), String>,
    /// Names of values and of initializers, which must differ.
    taken: Names,
    taken_by_nodes: Names,
    /// The value under conversion, and the node that its first ONNX node will be.
    label: String,
}

impl<'g> OnnxBuilder<'g> {
    pub(crate) fn new(
        graph: &'g Graph,
        live: &[NodeId],
        batch: Option<String>,
        places: HashMap<NodeId, Images>,
    ) -> Self {
        let mut builder = Self {
            graph,
            batch,
            places,
            nodes: vec![],
            begun: 0,
            planned: HashMap::new(),
            values: HashMap::new(),
            infos: vec![],
            initializers: vec![],
            weights: HashMap::new(),
            ints: HashMap::new(),
            numbers: HashMap::new(),
            zeros: HashMap::new(),
            taken: Names::default(),
            taken_by_nodes: Names::default(),
            label: String::new(),
        };
        builder.plan_names(live);
        builder
    }

    /// Inputs and outputs have the names that callers use; labels name the rest.
    fn plan_names(&mut self, live: &[NodeId]) {
        let graph = self.graph;
        for &id in graph.inputs() {
            let name = self.unique(graph.node(id).name.as_deref().unwrap_or("input"));
            self.planned.insert(id, name.clone());
            self.values.insert(id, name);
        }
        for output in outputs(graph) {
            // Of one with rows that are counted, another value has the name: those that exist.
            let is_free =
                output.rows.is_none() && !self.planned.contains_key(&output.node) && !self.taken.contains(&output.name);
            self.taken.insert(output.name.clone());
            if is_free {
                self.planned.insert(output.node, output.name.clone());
            }
        }
        for &id in live {
            if !self.planned.contains_key(&id) {
                let node = graph.node(id);
                let name = node.name.as_deref().or(node.op().map(|op| op.layer_name())).unwrap_or_default();
                let name = self.unique(name);
                self.planned.insert(id, name);
            }
        }
    }

    fn unique(&mut self, name: &str) -> String {
        self.taken.unique(name)
    }

    /// Begins the nodes that stand for one of the graph.
    pub(crate) fn begin(&mut self, id: NodeId) {
        let label = self.graph.node(id).name.clone();
        self.label = label.unwrap_or_else(|| self.planned[&id].clone());
        self.begun = self.nodes.len();
    }

    /// Ends them: `value` is what the graph's node gives.
    pub(crate) fn end(&mut self, id: NodeId, value: String) {
        // A constant has no node, its initializer is the value; nor has a second name for a value.
        let is_own = self.nodes[self.begun..].last().is_some_and(|n| n.output[0] == value);
        let name = match is_own {
            true => {
                let name = self.planned[&id].clone();
                self.nodes.last_mut().expect("just looked at").output[0] = name.clone();
                name
            }
            false => value,
        };
        if is_own && !self.graph.is_output(id) {
            self.infos.push(self.info(&name, id));
        }
        self.values.insert(id, name);
    }

    /// The values that a node reads.
    pub(crate) fn operands(&self, id: NodeId) -> Vec<String> {
        self.graph.operands(id).iter().map(|o| self.values.get(o).cloned().unwrap_or_default()).collect()
    }

    /// The nodes whose values those are.
    pub(crate) fn operand_nodes(&self, id: NodeId) -> Vec<NodeId> {
        self.graph.operands(id)
    }

    pub(crate) fn shape(&self, id: NodeId) -> &'g Shape {
        &self.graph.node(id).shape
    }

    /// The axis whose size is not known, where the batch is open.
    pub(crate) fn open_axis(&self, id: NodeId) -> Option<usize> {
        match self.places.get(&id) {
            Some(Images::Along { axis, .. }) => Some(*axis),
            _ => None,
        }
    }

    /// The shape of a node's first operand.
    pub(crate) fn input_shape(&self, id: NodeId) -> &'g Shape {
        let graph = self.graph;
        &graph.node(graph.operands(id)[0]).shape
    }

    /// Adds a node of one result, and gives that a name.
    pub(crate) fn node(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<proto::Attribute>) -> String {
        self.node_of("", op_type, inputs, attributes)
    }

    /// As [`Self::node`], and gives the second of two results; nobody reads the first.
    pub(crate) fn second(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<proto::Attribute>) -> String {
        self.node(op_type, inputs, attributes);
        self.further_result("indices")
    }

    /// Names one more result of the node that was added last.
    pub(crate) fn further_result(&mut self, what: &str) -> String {
        let op_type = self.nodes.last().expect("just added").op_type.to_lowercase();
        let output = self.unique(&format!("{}/{op_type}_{what}", self.label));
        self.nodes.last_mut().expect("just added").output.push(output.clone());
        output
    }

    /// As [`Self::node`], of another domain than the standard's.
    pub(crate) fn node_of(
        &mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&str],
        attributes: Vec<proto::Attribute>,
    ) -> String {
        let base = self.label.clone();
        let name = match self.taken_by_nodes.contains(&base) {
            false => base,
            true => format!("{base}/{}", op_type.to_lowercase()),
        };
        let name = self.taken_by_nodes.unique(&name);
        let output = self.unique(&format!("{}/{}", self.label, op_type.to_lowercase()));
        self.nodes.push(proto::Node {
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.clone()],
            name,
            op_type: op_type.into(),
            domain: domain.into(),
            attribute: attributes,
            ..Default::default()
        });
        output
    }

    /// Weight `index` of a node, under sizes of the same number of elements.
    pub(crate) fn weight(&mut self, id: NodeId, index: usize, dims: Option<Vec<usize>>) -> String {
        let weight = self.graph.weights_of(id).expect("nodes whose parameters are computed are refused")[index];
        let known = self.graph.weights.get(weight);
        let dims = dims.unwrap_or_else(|| known.shape.dims().to_vec());
        if let Some(name) = self.weights.get(&(weight, dims.clone())) {
            return name.clone();
        }
        let name = self.unique(&known.name);
        self.initializers.push(Initializer {
            name: name.clone(),
            dims: dims.clone(),
            data: Data::Weight(weight, known.shape.element()),
        });
        self.weights.insert((weight, dims), name.clone());
        name
    }

    /// A weight as numbers of another element, which holds them.
    pub(crate) fn weight_as(&mut self, weight: WeightId, element: Element) -> String {
        let known = self.graph.weights.get(weight);
        let (name, dims) = (self.unique(&known.name), known.shape.dims().to_vec());
        self.initializers.push(Initializer { name: name.clone(), dims, data: Data::Weight(weight, element) });
        name
    }

    /// The zero points of a symmetric grid, as many as there are scales.
    pub(crate) fn zeros(&mut self, dims: &[usize], levels: Levels) -> String {
        let key = (dims.to_vec(), levels);
        if let Some(name) = self.zeros.get(&key) {
            return name.clone();
        }
        let name = self.levels(&format!("zero/{}", levels.print()), dims, vec![0; dims.iter().product()], levels);
        self.zeros.insert(key, name.clone());
        name
    }

    /// Numbers of a type of 8 or 16 bits.
    pub(crate) fn levels(&mut self, name: &str, dims: &[usize], numbers: Vec<i64>, levels: Levels) -> String {
        let name = self.unique(name);
        let data = Data::Levels(numbers, levels);
        self.initializers.push(Initializer { name: name.clone(), dims: dims.to_vec(), data });
        name
    }

    /// Weight `index` of a node, zero points of levels whose type no element of a weight is.
    pub(crate) fn zero_points(&mut self, id: NodeId, index: usize, dims: &[usize], levels: Levels) -> String {
        let weight = self.graph.weights_of(id).expect("nodes whose parameters are computed are refused")[index];
        let numbers = (*self.graph.weights.values(weight)).as_ref().iter().map(|&v| v as i64).collect();
        self.levels(&self.graph.weights.get(weight).name, dims, numbers, levels)
    }

    /// A list of integers: sizes, axes.
    pub(crate) fn ints(&mut self, values: &[i64]) -> String {
        if let Some(name) = self.ints.get(values) {
            return name.clone();
        }
        let name = self.unique(&format!("integers/{}", self.ints.len()));
        let data = Data::Ints(values.to_vec());
        self.initializers.push(Initializer { name: name.clone(), dims: vec![values.len()], data });
        self.ints.insert(values.to_vec(), name.clone());
        name
    }

    /// A single number.
    pub(crate) fn number(&mut self, value: f32) -> String {
        if let Some(name) = self.numbers.get(&value.to_bits()) {
            return name.clone();
        }
        let name = self.unique(&format!("number/{value:?}"));
        self.initializers.push(Initializer { name: name.clone(), dims: vec![], data: Data::Floats(vec![value]) });
        self.numbers.insert(value.to_bits(), name.clone());
        name
    }

    /// A tensor that is no weight of the network.
    pub(crate) fn floats(&mut self, role: &str, dims: &[usize], values: Vec<f32>) -> String {
        let name = self.unique(&format!("{}/{role}", self.label));
        self.initializers.push(Initializer { name: name.clone(), dims: dims.to_vec(), data: Data::Floats(values) });
        name
    }

    fn info(&self, name: &str, id: NodeId) -> proto::ValueInfo {
        let dims = self.shape(id).dims();
        let dim = |(axis, &size): (usize, &usize)| match (self.places.get(&id), &self.batch) {
            // A size that counts more than images has no name.
            (Some(Images::Along { axis: open, before, after }), Some(name)) if axis == *open => {
                proto::Dimension { dim_param: (before * after == 1).then(|| name.clone()), dim_value: None }
            }
            _ => proto::Dimension { dim_value: Some(size as i64), dim_param: None },
        };
        let shape = proto::Shape { dim: dims.iter().enumerate().map(dim).collect() };
        let elem_type = operators::type_of(self.shape(id).element());
        let tensor_type = proto::TensorType { elem_type, shape: Some(shape) };
        proto::ValueInfo { name: name.into(), ty: Some(proto::Type { tensor_type: Some(tensor_type) }) }
    }

    /// The rows of a value that exist.
    fn existing(&mut self, value: &str, rows: &Rows) -> String {
        let graph = self.graph;
        let counter = graph.outputs().iter().find(|other| other.name == rows.counted_by);
        let mut count = self.values[&counter.expect("counted by an output").node].clone();
        if rows.each > 1 {
            let each = self.ints(&[rows.each as i64]);
            count = self.node("Mul", &[&count, &each], vec![]);
        }
        let [start, axis] = [0, rows.axis as i64].map(|number| self.ints(&[number]));
        self.node("Slice", &[value, &start, &count, &axis], vec![])
    }

    /// The model. Outputs that are called otherwise than their values are copies.
    pub(crate) fn finish(mut self) -> Made {
        let graph = self.graph;
        let mut output_infos = vec![];
        // Rows are counted within: a size of ONNX may depend on the data.
        for output in outputs(graph).filter(|output| !graph.counts_rows(&output.name)) {
            let mut value = self.values[&output.node].clone();
            self.label = output.name.clone();
            if let Some(rows) = &output.rows {
                value = self.existing(&value, rows);
            }
            if value != output.name {
                self.node("Identity", &[&value], vec![]);
                self.nodes.last_mut().expect("just added").output[0] = output.name.clone();
            }
            let mut info = self.info(&output.name, output.node);
            if let (Some(rows), Some(ty)) = (&output.rows, &mut info.ty) {
                let shape = ty.tensor_type.as_mut().and_then(|tensor| tensor.shape.as_mut());
                if let Some(dim) = shape.and_then(|shape| shape.dim.get_mut(rows.axis)) {
                    *dim = proto::Dimension { dim_value: None, dim_param: Some(rows.counted_by.clone()) };
                }
            }
            output_infos.push(info);
        }
        let inputs = graph.inputs().iter().map(|&id| self.info(&self.values[&id], id)).collect();
        let mut opset_import = vec![proto::OperatorSet { domain: String::new(), version: OPSET }];
        if self.nodes.iter().any(|node| node.domain == MICROSOFT) {
            opset_import.push(proto::OperatorSet { domain: MICROSOFT.into(), version: 1 });
        }
        let model = proto::Model {
            ir_version: IR_VERSION,
            producer_name: "netc".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            metadata_props: metadata::write(graph),
            opset_import,
            graph: Some(proto::Graph {
                name: graph.name.clone(),
                node: self.nodes,
                input: inputs,
                output: output_infos,
                value_info: self.infos,
                ..Default::default()
            }),
            ..Default::default()
        };
        Made { model, initializers: self.initializers }
    }
}

/// Names that must differ from each other.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
    /// The first number that may be free behind a name. Names stay taken, so none before it ever is.
    next: HashMap<String, usize>,
}

impl Names {
    fn contains(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    fn insert(&mut self, name: String) {
        self.taken.insert(name);
    }

    /// The name, with a number behind it where it is taken.
    fn unique(&mut self, name: &str) -> String {
        let mut unique = name.to_string();
        if unique.is_empty() || self.taken.contains(&unique) {
            let next = self.next.entry(unique).or_insert(2);
            unique = loop {
                let numbered = format!("{name}_{next}");
                *next += 1;
                if !self.taken.contains(&numbered) {
                    break numbered;
                }
            };
        }
        self.taken.insert(unique.clone());
        unique
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each name as counting from 2 on gives it, without counting from there each time.
    #[test]
    fn names_are_numbered_in_order() {
        let mut names = Names::default();
        names.insert("relu_3".into());
        let given: Vec<String> = ["relu", "relu", "relu", "relu_2", "", ""].map(|name| names.unique(name)).into();
        assert_eq!(given, ["relu", "relu_2", "relu_4", "relu_2_2", "_2", "_3"]);
        for _ in 0..20_000 {
            names.unique("relu");
        }
        assert_eq!(names.next["relu"], 20_005);
    }
}
