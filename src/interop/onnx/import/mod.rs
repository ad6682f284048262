//! From a decoded model to a graph: the walk over the nodes.
//!
//! Values are known, or views of nodes (see [`super::view`]). What depends on known values only is
//! computed at once ([`super::fold`]): weights behind casts and transpositions, and the arithmetic
//! on shapes that exporters write down. Passes could not do that: a network has no integers, and its sizes
//! are numbers. The rest goes operator by operator to [`super::operators`], which collect nodes in a
//! [`Draft`]; it keeps those that outputs need and declares their weights under labels.

mod nested;
mod order;
mod ports;

use std::collections::HashMap;
use std::sync::Arc;

use super::array::Array;
use super::call::{Call, Grid, Value};
use super::draft::Draft;
pub(crate) use ports::{named_shapes, of_open_sizes, open_inputs};

use super::error::{ImportError, Problem};
use super::file::ModelFile;
use super::proto;
use super::{Options, fold, names, operators, types};
use crate::interop::metadata;
use crate::ir::images::Mixing;
use crate::ir::{Graph, rows};

/// Operator sets whose operators netc knows.
pub(crate) const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;
/// Nodes walked, those of functions and branches included.
const MAX_NODES: usize = 1 << 18;
/// Functions within functions, branches within branches.
const MAX_DEPTH: usize = 16;

/// Names that nodes see, and how often each is read.
#[derive(Default)]
struct Scope {
    values: HashMap<String, Value>,
    /// Of those that are computed.
    types: HashMap<String, i32>,
    uses: HashMap<String, usize>,
}

struct Importer<'m> {
    file: &'m ModelFile,
    functions: HashMap<(&'m str, &'m str), &'m proto::Function>,
    /// Innermost last.
    scopes: Vec<Scope>,
    opset: i64,
    draft: Draft<'m>,
    problems: Vec<Problem>,
    /// Types of what the nodes within the last node give.
    inner_types: Vec<i32>,
    walked: usize,
    options: &'m Options,
}

/// Imports a model's main graph.
pub(crate) fn import(file: &ModelFile, options: &Options) -> Result<Graph, ImportError> {
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
        draft: Draft::new(file, names::graph(&graph.name)),
        problems: vec![],
        inner_types: vec![],
        walked: 0,
        options,
    };
    importer.initializers(graph).map_err(refuse)?;
    importer.inputs(graph).map_err(refuse)?;
    if options.any_images {
        let input = open_inputs(file, options).first().map(|&i| importer.draft.inputs()[i]);
        importer.draft.set_images(input);
    }
    importer.count_uses(&graph.node, graph.output.iter().map(|o| o.name.as_str()));
    importer.nodes(&graph.node, 0);
    let outputs = importer.outputs(graph);
    if !importer.problems.is_empty() {
        return Err(ImportError::Unsupported { path: file.path.clone(), problems: importer.problems });
    }
    let outputs = outputs.map_err(refuse)?;
    let mut graph = importer.draft.finish(&outputs);
    metadata::read(&file.model.metadata_props, &mut graph);
    graph.weights.files = file.paths();
    let mixing = rows::trace(&graph).mixing;
    if !mixing.is_empty() {
        let problem = |mixing: Mixing| {
            let mixed = mixing.named(&graph);
            let operator = graph.node(mixing.node).op().map_or("input", |op| op.layer_name()).to_string();
            let message = format!("it reads rows of which only some exist, as the data say: {}", mixed.reason);
            Problem { node: mixed.step, operator, message }
        };
        let problems = mixing.into_iter().map(problem).collect();
        return Err(ImportError::Unsupported { path: file.path.clone(), problems });
    }
    Ok(graph)
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

/// The walk.
impl<'m> Importer<'m> {
    /// Gives a value its name. Returns whether nothing had that name.
    fn define(&mut self, name: &str, value: Value) -> bool {
        let values = &mut self.scopes.last_mut().expect("one scope at least").values;
        name.is_empty() || values.insert(name.into(), value).is_none()
    }

    fn lookup(&self, name: &str) -> Option<Value> {
        self.scopes.iter().rev().find_map(|s| s.values.get(name)).cloned()
    }

    /// The type of a value, as far as it is known.
    fn type_of(&self, name: &str) -> i32 {
        let stated = self.scopes.iter().rev().find_map(|s| s.types.get(name)).copied();
        stated.unwrap_or_else(|| match self.lookup(name) {
            Some(Value::Known(array)) => types::of_known(&array),
            _ => proto::data_type::FLOAT,
        })
    }

    fn set_type(&mut self, name: &str, ty: i32) {
        self.scopes.last_mut().expect("one scope at least").types.insert(name.into(), ty);
    }

    fn count_uses<'a>(&mut self, nodes: &[proto::Node], outputs: impl Iterator<Item = &'a str>) {
        let scope = self.scopes.last_mut().expect("one scope at least");
        outputs.for_each(|name| *scope.uses.entry(name.into()).or_default() += 1);
        count_reads(nodes, &mut scope.uses);
    }

    fn nodes(&mut self, nodes: &[proto::Node], depth: usize) {
        let order = match order::sorted(nodes) {
            Ok(order) => order.unwrap_or_else(|| (0..nodes.len()).collect()),
            Err(at) => return self.problem(&nodes[at], "it waits for its own result: the nodes form a circle".into()),
        };
        for node in order.into_iter().map(|i| &nodes[i]) {
            self.walked += 1;
            if self.walked > MAX_NODES {
                return self.problem(node, format!("the model has more than {MAX_NODES} nodes"));
            }
            let inputs: Vec<i32> = node.input.iter().map(|name| self.type_of(name)).collect();
            self.inner_types.clear();
            let values = self.node(node, depth).unwrap_or_else(|message| {
                self.problem(node, message);
                vec![]
            });
            // Where nothing is given, an operand is missing, and it has been said why.
            let unknown = node.output.iter().skip(values.len()).find(|name| self.uses(name) > 0);
            if let Some(name) = unknown.filter(|_| !values.is_empty()) {
                self.problem(node, format!("its output `{name}` is read, but the operator has none in this place"));
            }
            let of_body = std::mem::take(&mut self.inner_types);
            for (i, name) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                let ty = of_body.get(i).copied().unwrap_or_else(|| types::of_result(node, i, &inputs));
                // Where an operator does not tell, such as a constant, the numbers do.
                let ty = match values.get(i) {
                    Some(Value::Known(array)) => types::of_known_result(array, ty),
                    _ => ty,
                };
                self.set_type(name, ty);
            }
            let missing = std::iter::repeat(Value::Missing);
            let mut twice = None;
            for (name, value) in node.output.iter().zip(values.into_iter().chain(missing)) {
                if !self.define(name, value) {
                    twice = Some(name);
                }
            }
            if let Some(name) = twice {
                self.problem(node, format!("its output `{name}` has the name of another value"));
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

    fn node<'n>(&mut self, node: &'n proto::Node, depth: usize) -> Result<Vec<Value>, String> {
        let function = self.functions.get(&(node.domain.as_str(), node.op_type.as_str())).copied();
        if let Some(function) = function {
            return self.function(node, function, depth);
        }
        let of_standard = matches!(node.domain.as_str(), "" | "ai.onnx");
        let added = operators::find_of_domain(&node.domain, &node.op_type);
        if node.domain == "com.microsoft" && added.is_none() {
            let how = "where its optimizer made the node, save the model with ORT_ENABLE_BASIC";
            return Err(format!("netc has no such operator of ONNX Runtime; {how}"));
        }
        if !of_standard && added.is_none() {
            return Err(format!("operators of the domain {} are not part of the ONNX standard", node.domain));
        }
        let inputs = self.call_inputs(node)?;
        let convert = added.map_or_else(|| operators::find(&node.op_type), Ok)?;
        if inputs.iter().any(|i| matches!(i, Some(Value::Missing))) {
            return Ok(vec![]);
        }
        let weight = |name: &'n String| self.is_known(name).then(|| names::Weight { name, uses: self.uses(name) });
        let weights: Vec<Option<names::Weight>> = node.input.iter().map(weight).collect();
        self.draft.set_label(names::label(node, &weights));
        let (inputs, moved) = self.without_grids(node, inputs)?;
        let types = node.input.iter().map(|name| self.type_of(name)).collect();
        let call = Call::new(node, self.opset, inputs, types, |name| self.uses(name));
        match node.op_type.as_str() {
            "If" => return self.branch(&call, depth),
            "Loop" => return self.repeated(&call, depth),
            "Scan" => return self.scanned(&call, depth),
            _ => {}
        }
        let results = match fold::fold(&mut self.draft, &call)? {
            Some(arrays) => arrays.into_iter().map(Value::Known).collect(),
            None => {
                let results = convert(&mut self.draft, &call)?;
                self.draft.known_results(&call, results)?
            }
        };
        let results = match moved {
            None => results,
            Some((grid, false)) => results.into_iter().map(|value| on_grid(value, &grid)).collect(),
            Some((grid, true)) => {
                let mut whole = vec![];
                for value in results {
                    whole.push(operators::whole_on_grid(&mut self.draft, value, &grid)?);
                }
                whole
            }
        };
        match call.unknown_attribute() {
            None => Ok(results),
            Some(name) => Err(format!("its attribute {name} is not known")),
        }
    }

    /// Inputs as the operator takes them: it moves numbers of a grid as others, and the grid is that of its results;
    /// otherwise it gets the levels, unless it is one on levels.
    fn without_grids(&mut self, node: &proto::Node, inputs: Vec<Option<Value>>) -> Result<Moved, String> {
        let grids: Vec<Arc<Grid>> = inputs
            .iter()
            .filter_map(|input| match input {
                Some(Value::OnGrid(_, grid)) => Some(grid.clone()),
                _ => None,
            })
            .collect();
        if grids.is_empty() || operators::reads_levels(&node.op_type) {
            return Ok((inputs, None));
        }
        // What else a concatenation joins is on no grid.
        let all = node.op_type != "Concat" || grids.len() == inputs.len();
        let same = grids[0].axis.is_none() && grids.iter().all(|grid| *grid == grids[0]);
        let moved = (operators::moves(node) && all && same).then(|| (grids[0].clone(), false));
        let rounded = (operators::rounds_levels(node) && same).then(|| (grids[0].clone(), true));
        let mut taken = vec![];
        for input in inputs {
            taken.push(match input {
                Some(Value::OnGrid(view, _)) if moved.is_some() => Some(Value::Data(view)),
                Some(Value::OnGrid(view, grid)) => Some(Value::Data(operators::levels(&mut self.draft, &view, &grid)?)),
                other => other,
            });
        }
        if node.op_type == "Pad"
            && let Some((grid, _)) = &moved
        {
            of_border(&mut taken, grid)?;
        }
        Ok((taken, moved.or(rounded)))
    }

    fn call_inputs(&self, node: &proto::Node) -> Result<Vec<Option<Value>>, String> {
        let input = |name: &String| match self.lookup(name) {
            _ if name.is_empty() => Ok(None),
            Some(value) => Ok(Some(value)),
            None => Err(format!("input `{name}` is computed by no node")),
        };
        node.input.iter().map(input).collect()
    }

    fn is_known(&self, name: &str) -> bool {
        matches!(self.lookup(name), Some(Value::Known(_)))
    }

    fn uses(&self, name: &str) -> usize {
        self.scopes.iter().filter_map(|s| s.uses.get(name)).sum()
    }
}

/// Inputs of an operator, and the grid that its results are on; whether they are levels of it that want rounding.
type Moved = (Vec<Option<Value>>, Option<(Arc<Grid>, bool)>);

/// The number of the level that a border has, which is the level 0 where none is named.
fn of_border(inputs: &mut Vec<Option<Value>>, grid: &Grid) -> Result<(), String> {
    let level = match inputs.get(2) {
        Some(Some(Value::Known(value))) => value.scalar().ok_or("its border has several numbers")?,
        Some(Some(_)) => return Err("input 2 is computed while the model runs; a constant is needed there".into()),
        _ => 0.0,
    };
    let number = (level - grid.zero[0] as f32) * grid.scale[0];
    inputs.resize(inputs.len().max(3), None);
    inputs[2] = Some(Value::Known(Array::floats([], vec![number])));
    Ok(())
}

fn on_grid(value: Value, grid: &Arc<Grid>) -> Value {
    match value {
        Value::Data(view) => Value::OnGrid(view, grid.clone()),
        other => other,
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
