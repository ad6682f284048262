//! What goes into a model and comes out: weights, inputs of chosen sizes, outputs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Importer;
use crate::interop::onnx::call::Value;
use crate::interop::onnx::file::ModelFile;
use crate::interop::onnx::proto::{self, data_type};
use crate::interop::onnx::view::View;
use crate::interop::onnx::{NamedShapes, Options};
use crate::interop::onnx::{names, operators, types};
use crate::ir::NodeId;
use crate::ops;
use crate::tensor::{Element, Shape, with_pictures};

impl Importer<'_> {
    pub(super) fn initializers(&mut self, graph: &proto::Graph) -> Result<(), String> {
        for tensor in &graph.initializer {
            let array = self.file.array(tensor).map_err(|e| format!("initializer {}: {e}", tensor.name))?;
            self.draft.bring(array.len());
            if !self.define(&tensor.name, Value::Known(array)) {
                return Err(format!("two initializers are named {}", tensor.name));
            }
        }
        Ok(())
    }

    pub(super) fn inputs(&mut self, graph: &proto::Graph) -> Result<(), String> {
        let is_input = |name: &str| graph.input.iter().any(|i| i.name == name);
        let sizes = size_names(graph);
        for (name, given) in self.options.shapes.iter().filter(|(name, _)| !is_input(name)) {
            let is_size = sizes.contains(&name.as_str());
            if is_size && given.len() == 1 {
                continue;
            }
            if is_size {
                return Err(format!("the size `{name}` is one number, not {given:?}"));
            }
            let named =
                if sizes.is_empty() { String::new() } else { format!(", and named sizes {}", sizes.join(", ")) };
            return Err(format!("a shape is given for `{name}`, but the inputs are {}{named}", names_of(graph)));
        }
        let named = self.named_sizes(graph);
        for input in &graph.input {
            // Before IR version 4, weights had to be inputs too.
            if self.lookup(&input.name).is_none() {
                let shape = self.input_shape(input, &named)?;
                let (rank, element) = (shape.rank(), shape.element());
                let name = names::port(&input.name);
                let mut node = self.draft.add_input(name.clone(), shape);
                self.set_type(&input.name, type_of_input(input));
                if !matches!(element, Element::F32 | Element::U8 | Element::I8 | Element::I16) {
                    self.draft.set_label(format!("{name}_numbers"));
                    node = self.draft.add(ops::Cast { to: Element::F32 }, &[node], vec![])?;
                } else if element != Element::F32 {
                    // Whole numbers, for whoever computes with them. What dequantizes them reads the input itself.
                    self.draft.set_label(format!("{name}_numbers"));
                    node = self.draft.add(operators::numbers_of_levels(), &[node], vec![Arc::new(vec![1.0f32])])?;
                }
                self.define(&input.name, Value::Data(View::whole(node, rank)));
            }
        }
        if self.draft.inputs().is_empty() {
            return Err("the model has no input".into());
        }
        if let Some([height, width]) = self.options.pictures {
            let count = self.draft.inputs().iter().filter(|&&node| self.draft.node_dims(node).len() == 4).count();
            if count != 1 {
                let asked = format!("pictures of {height}x{width} are asked for");
                return Err(format!(
                    "{asked}, and {count} inputs have four axes; --shape gives the whole shape of one"
                ));
            }
        }
        Ok(())
    }

    fn input_shape(&self, input: &proto::ValueInfo, named: &HashMap<&str, usize>) -> Result<Shape, String> {
        let name = &input.name;
        let ty = input.ty.as_ref().and_then(|t| t.tensor_type.as_ref());
        let ty = ty.ok_or_else(|| format!("input {name} is no tensor"))?;
        let is_float =
            matches!(ty.elem_type, data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16);
        if !is_float && !types::is_whole(ty.elem_type) && data_type::levels(ty.elem_type).is_none() {
            return Err(format!("input {name} is of type {}, which no tensor here has", data_type::name(ty.elem_type)));
        }
        let stated = ty.shape.as_ref().map_or(&[][..], |s| &s.dim);
        let dims: Vec<usize> = match self.options.shapes.get(name) {
            Some(given) if given.len() == stated.len() || stated.is_empty() => given.clone(),
            Some(given) => return Err(format!("input {name} has {} axes, not {}", stated.len(), given.len())),
            None if ty.shape.is_none() => {
                return Err(format!("input {name} has no shape; give one: --shape {name}=1,3,224,224"));
            }
            None => self.stated_sizes(name, stated, named)?,
        };
        let shape = Shape::of(types::element(ty.elem_type), dims);
        ops::check_size("the input", &shape).map_err(|e| format!("input {name}: {e}"))?;
        Ok(shape)
    }

    /// Sizes that the model names and leaves open, as far as they are known: given by name, or with the whole shape of an
    /// input, or standing first, as the batch does. What stands again in the same input is no batch, and a mark for
    /// "unknown" is no name.
    fn named_sizes<'g>(&self, graph: &'g proto::Graph) -> HashMap<&'g str, usize> {
        let open_name = |d: &'g proto::Dimension| {
            let name = d.dim_param.as_deref().filter(|_| stated_size(d).is_none())?;
            let is_name = name.contains(char::is_alphabetic) && !["none", "unknown"].contains(&&*name.to_lowercase());
            is_name.then_some(name)
        };
        let given = |name: &str| self.options.shapes.get(name).map(Vec::as_slice);
        let mut known = HashMap::new();
        for name in sized_inputs(graph).flat_map(|(_, sizes)| sizes).filter_map(open_name) {
            if let Some(&[size]) = given(name) {
                known.insert(name, size);
            }
        }
        let names = |sizes: &'g [proto::Dimension]| sizes.iter().map(open_name).collect::<Vec<_>>();
        let (whole, open): (Vec<_>, Vec<_>) = sized_inputs(graph).partition(|(input, _)| given(&input.name).is_some());
        for (input, sizes) in whole {
            for (name, &size) in names(sizes).into_iter().zip(given(&input.name).into_iter().flatten()) {
                name.map(|name| known.entry(name).or_insert(size));
            }
        }
        for (_, sizes) in open {
            if let [Some(first), others @ ..] = &names(sizes)[..]
                && !others.contains(&Some(first))
            {
                known.entry(first).or_insert(self.options.batch);
            }
        }
        known
    }

    /// The first size is the batch, where the file leaves it open; no other may be.
    fn stated_sizes(
        &self,
        name: &str,
        stated: &[proto::Dimension],
        named: &HashMap<&str, usize>,
    ) -> Result<Vec<usize>, String> {
        let own: Vec<Option<usize>> = stated.iter().map(stated_size).collect();
        let known: Vec<usize> = own.iter().map(|size| size.unwrap_or(0)).collect();
        let pictures = self.options.pictures.and_then(|size| with_pictures(&known, size));
        let of_name = |d: &proto::Dimension| named.get(d.dim_param.as_deref()?).copied();
        let size = |(i, d): (usize, &proto::Dimension)| match (own[i], &pictures) {
            (None, _) if i == 0 => of_name(d).or(Some(self.options.batch)),
            (own, Some(pictures)) => {
                own.map(|_| pictures[i]).or(Some(pictures[i]).filter(|&size| size > 0)).or(of_name(d))
            }
            (own, None) => own.or(of_name(d)),
        };
        let sizes: Vec<Option<usize>> = stated.iter().enumerate().map(size).collect();
        let open: Vec<String> = (0..sizes.len())
            .filter(|&i| sizes[i].is_none())
            .map(|i| match stated[i].dim_param.as_deref().unwrap_or_default() {
                "" => format!("size {i}"),
                name => format!("size {i} (`{name}`)"),
            })
            .collect();
        if open.is_empty() {
            return Ok(sizes.into_iter().flatten().collect());
        }
        let example: Vec<String> = sizes.iter().map(|s| s.unwrap_or(224).to_string()).collect();
        let named = (0..sizes.len()).filter(|&i| sizes[i].is_none()).filter_map(|i| stated[i].dim_param.as_deref());
        let mut seen = HashSet::new();
        let named = named.filter(|name| !name.is_empty() && seen.insert(*name));
        let named: Vec<String> = named.map(|name| format!("--shape {name}=224")).collect();
        let or = if named.is_empty() { String::new() } else { format!(", or sizes by name: {}", named.join(" ")) };
        Err(format!(
            "the model leaves {} of input {name} open; give its whole shape, such as --shape {name}={}{or}",
            open.join(" and "),
            example.join(",")
        ))
    }

    pub(super) fn outputs(&mut self, graph: &proto::Graph) -> Result<Vec<(String, NodeId)>, String> {
        let (mut outputs, mut names) = (vec![], HashSet::new());
        for output in &graph.output {
            if !names.insert(&output.name) {
                return Err(twice(graph, &output.name));
            }
            match self.lookup(&output.name) {
                Some(Value::Data(view)) => {
                    let node = self.distinct(&view)?;
                    let node = self.as_element(node, &output.name)?;
                    outputs.push((output.name.clone(), node));
                }
                Some(Value::OnGrid(view, grid)) => {
                    let levels = operators::levels(&mut self.draft, &view, &grid)?;
                    let node = self.distinct(&levels)?;
                    outputs.push((output.name.clone(), node));
                }
                Some(Value::Known(array)) => {
                    let view = self.draft.constant(&array)?;
                    let node = self.as_element(view.node, &output.name)?;
                    outputs.push((output.name.clone(), node));
                }
                Some(Value::List(_)) => {
                    let why = "is a sequence of values; make its values outputs of their own";
                    return Err(format!("output {} {why}", output.name));
                }
                // Its reason is among the problems, where there is one.
                Some(Value::Missing) if !self.problems.is_empty() => {}
                Some(Value::Missing) | None => return Err(format!("output {} is computed by no node", output.name)),
            }
        }
        match graph.output.is_empty() {
            true => Err("the model has no output".into()),
            false => Ok(outputs),
        }
    }

    /// An output's numbers as those of its type.
    fn as_element(&mut self, node: NodeId, name: &str) -> Result<NodeId, String> {
        let to = types::element(self.type_of(name));
        match to == self.draft.element(node) {
            true => Ok(node),
            false => {
                self.draft.set_label(format!("{}_{to}", names::port(name)));
                self.draft.add(ops::Cast { to }, &[node], vec![])
            }
        }
    }

    /// The view in order, as a node that is no input: an output must be computed.
    fn distinct(&mut self, view: &View) -> Result<NodeId, String> {
        let node = self.draft.in_order(view)?;
        match self.draft.op(node) {
            None => self.draft.add(ops::Identity {}, &[node], vec![]),
            Some(_) => Ok(node),
        }
    }
}

fn type_of_input(input: &proto::ValueInfo) -> i32 {
    input.ty.as_ref().and_then(|ty| ty.tensor_type.as_ref()).map_or(data_type::FLOAT, |ty| ty.elem_type)
}

fn twice(graph: &proto::Graph, name: &str) -> String {
    let maker = graph.node.iter().find(|n| n.output.iter().any(|o| o == name));
    let made = maker.map(|n| format!(", which the {} node {} makes", n.op_type, n.name)).unwrap_or_default();
    format!("two outputs are named {name}{made}; an Identity node gives a value a second name")
}

/// The inputs that are no weights and of which a size is left open, by name, with their place among those.
pub(crate) fn of_open_sizes(file: &ModelFile) -> Vec<(usize, String)> {
    let graph = file.model.graph.as_ref().expect("checked when the file was opened");
    let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let shape = |input: &proto::ValueInfo| input.ty.as_ref().and_then(|t| t.tensor_type.as_ref()?.shape.clone());
    let is_open =
        |input: &proto::ValueInfo| shape(input).is_none_or(|s| s.dim.iter().any(|d| stated_size(d).is_none()));
    let inputs = graph.input.iter().filter(|input| !weights.contains(input.name.as_str())).enumerate();
    inputs.filter(|(_, input)| is_open(input)).map(|(i, input)| (i, input.name.clone())).collect()
}

/// The inputs that are no weights, by their place among these, whose first size is left open.
pub(crate) fn open_inputs(file: &ModelFile, options: &Options) -> Vec<usize> {
    let graph = file.model.graph.as_ref().expect("checked when the file was opened");
    let is_open = |input: &proto::ValueInfo| {
        let first = input.ty.as_ref().and_then(|t| t.tensor_type.as_ref()?.shape.as_ref()?.dim.first());
        first.is_some_and(|d| stated_size(d).is_none()) && !options.shapes.contains_key(&input.name)
    };
    let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !weights.contains(input.name.as_str())).enumerate();
    inputs.filter(|(_, input)| is_open(input)).map(|(i, _)| i).collect()
}

/// The inputs that are no weights, and their sizes.
fn sized_inputs(graph: &proto::Graph) -> impl Iterator<Item = (&proto::ValueInfo, &[proto::Dimension])> {
    let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    graph.input.iter().filter(move |input| !weights.contains(input.name.as_str())).map(|input| {
        let shape = input.ty.as_ref().and_then(|t| t.tensor_type.as_ref()?.shape.as_ref());
        (input, shape.map_or(&[][..], |shape| &shape.dim[..]))
    })
}

/// The names of sizes that a model leaves open.
fn size_names(graph: &proto::Graph) -> Vec<&str> {
    let mut names: Vec<&str> = vec![];
    for dimension in sized_inputs(graph).flat_map(|(_, sizes)| sizes).filter(|d| stated_size(d).is_none()) {
        let name = dimension.dim_param.as_deref().unwrap_or_default();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// As [`super::super::named_shapes`].
pub(crate) fn named_shapes(file: &ModelFile, shapes: &BTreeMap<String, Vec<usize>>) -> NamedShapes {
    let graph = file.model.graph.as_ref().expect("checked when the file was opened");
    let is_input = |name: &str| graph.input.iter().any(|input| input.name == name);
    let inputs = shapes.iter().filter(|(name, _)| is_input(name)).map(|(n, s)| (n.clone(), s.clone())).collect();
    let first = sized_inputs(graph).filter(|(input, _)| !shapes.contains_key(&input.name));
    let first = first.filter_map(|(_, sizes)| sizes.first()).filter(|d| stated_size(d).is_none());
    let named =
        |d: &proto::Dimension| d.dim_param.as_deref().filter(|name| !is_input(name)).and_then(|n| shapes.get(n));
    let batch = first.filter_map(named).find_map(|given| <[usize; 1]>::try_from(&given[..]).ok());
    NamedShapes { inputs, batch: batch.map(|[images]| images) }
}

fn stated_size(dimension: &proto::Dimension) -> Option<usize> {
    dimension.dim_value.filter(|&size| size > 0).map(|size| size as usize)
}

/// The inputs that are no weights.
fn names_of(graph: &proto::Graph) -> String {
    let weights: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let names = graph.input.iter().map(|i| i.name.as_str()).filter(|n| !weights.contains(*n));
    names.collect::<Vec<_>>().join(", ")
}
