//! Graphs within the graph: functions that the file defines, and the branches of an `If`.

use std::collections::{HashMap, HashSet};

use super::{Importer, MAX_DEPTH, Scope, opset_of};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axis};
use crate::interop::onnx::proto::{attribute_type, data_type};
use crate::interop::onnx::{operators, proto};

/// Turns of a loop that are written out at most.
const MAX_TURNS: usize = 256;

impl<'m> Importer<'m> {
    /// Why nobody knows which branch of an `If` is taken: it follows from inputs, which can be fixed where they have few
    /// numbers, or from the data.
    fn why_undecided(&self, call: &Call) -> String {
        let why = "control flow that depends on data".to_string();
        let graph = self.file.model.graph.as_ref().expect("checked when the file was opened");
        let Some(condition) = call.node.input.first() else { return why };
        let producers: HashMap<&str, &proto::Node> =
            graph.node.iter().flat_map(|node| node.output.iter().map(move |name| (name.as_str(), node))).collect();
        let (mut seen, mut next, mut deciding) = (HashSet::new(), vec![condition.as_str()], vec![]);
        while let Some(name) = next.pop() {
            if let Some(node) = producers.get(name) {
                next.extend(node.input.iter().map(String::as_str).filter(|name| seen.insert(name.to_string())));
            } else if graph.initializer.iter().all(|tensor| tensor.name != name) {
                match graph.input.iter().any(|input| input.name == name && is_small(input)) {
                    true => deciding.push(name),
                    false => return why,
                }
            }
        }
        match &deciding[..] {
            [] => why,
            [input, ..] => {
                format!("input {input} decides which branch is taken; `--fix {input}=VALUE` makes it a constant")
            }
        }
    }

    /// `If` with a condition that is known: the nodes of the branch that is taken.
    pub(super) fn branch(&mut self, call: &Call, depth: usize) -> Result<Vec<Value>, String> {
        let condition = call.need_known(0).map_err(|_| self.why_undecided(call))?;
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

    /// `Loop` of a number of turns that is known: its body as often. A condition may end it, as long as it is known.
    pub(super) fn repeated(&mut self, call: &Call, depth: usize) -> Result<Vec<Value>, String> {
        let known = |index: usize| match call.input(index) {
            None => Ok(None),
            Some(_) => call.known_scalar(index),
        };
        let turns = known(0).map_err(|_| "a loop whose length depends on data".to_string())?;
        let turns = turns.map_or(usize::MAX, |turns| turns.max(0.0) as usize);
        let mut goes_on = known(1).map_err(|_| "a loop whose condition depends on data".to_string())? != Some(0.0);
        let graph = call.attribute("body").and_then(|a| a.g.as_deref()).ok_or("its body is missing")?;
        if depth == MAX_DEPTH {
            return Err(format!("loops nest deeper than {MAX_DEPTH} levels"));
        }
        let mut carried: Vec<Option<Value>> = call.inputs.iter().skip(2).cloned().collect();
        let scans =
            graph.output.len().checked_sub(1 + carried.len()).filter(|_| graph.input.len() == 2 + carried.len());
        let scans = scans.ok_or("its body's inputs and outputs do not fit the values that it carries")?;
        let mut gathered: Vec<Vec<Value>> = vec![vec![]; scans];
        // Of the count, of the condition, and of what is carried.
        let mut types = [&[data_type::INT64, data_type::BOOL], call.types.get(2..).unwrap_or_default()].concat();
        let mut of_results = types[2..].to_vec();
        for turn in 0..turns {
            if !goes_on {
                break;
            }
            if turn == MAX_TURNS {
                return Err(format!("a loop of more than {MAX_TURNS} turns, each of which would be written out"));
            }
            let count = Value::Known(Array::ints([], vec![turn as i64]));
            let given = [Some(count), Some(Value::Known(Array::ints([], vec![1])))].into_iter().chain(carried);
            let mut results = self.turn(graph, given, &types, depth)?.into_iter();
            goes_on = match results.next() {
                Some(Value::Known(condition)) => {
                    condition.scalar().ok_or("its condition is no single truth value")? != 0.0
                }
                Some(Value::Missing) => return Ok(vec![]),
                _ => return Err("a loop whose condition depends on data".into()),
            };
            // The body's first result is the condition.
            of_results = self.inner_types.get(1..).unwrap_or_default().to_vec();
            types.splice(2.., of_results.iter().copied().take(call.inputs.len() - 2));
            carried = results.by_ref().take(call.inputs.len() - 2).map(Some).collect();
            gathered.iter_mut().zip(results).for_each(|(all, value)| all.push(value));
        }
        self.inner_types = of_results;
        let mut results: Vec<Value> = carried.into_iter().map(|v| v.unwrap_or(Value::Missing)).collect();
        for all in gathered {
            results.push(operators::stacked(&mut self.draft, all)?);
        }
        Ok(results)
    }

    /// `Scan`: its body for each entry along an axis of its inputs, of which there are as many as are known.
    pub(super) fn scanned(&mut self, call: &Call, depth: usize) -> Result<Vec<Value>, String> {
        if call.opset < 9 {
            return Err("before operator set 9 it has a batch axis of its own".into());
        }
        let graph = call.attribute("body").and_then(|a| a.g.as_deref()).ok_or("its body is missing")?;
        if depth == MAX_DEPTH {
            return Err(format!("loops nest deeper than {MAX_DEPTH} levels"));
        }
        let misfit = || "its body does not fit its inputs and results".to_string();
        let inputs = usize::try_from(call.int("num_scan_inputs", 0)?).map_err(|_| misfit())?;
        let states = call.inputs.len().checked_sub(inputs).filter(|_| inputs > 0).ok_or_else(misfit)?;
        let outputs = graph.output.len().checked_sub(states).ok_or_else(misfit)?;
        if graph.input.len() != call.inputs.len() {
            return Err(misfit());
        }
        let listed = |name: &str, count: usize| {
            let list = call.ints(name)?.unwrap_or_else(|| vec![0; count]);
            if list.len() == count { Ok(list) } else { Err(misfit()) }
        };
        let (axes, directions) = (listed("scan_input_axes", inputs)?, listed("scan_input_directions", inputs)?);
        let (out_axes, out_directions) =
            (listed("scan_output_axes", outputs)?, listed("scan_output_directions", outputs)?);
        let mut turns = None;
        for (index, &along) in axes.iter().enumerate() {
            let dims = self.draft.dims_of_input(call, states + index).map_err(|_| misfit())?;
            let size = dims[axis(along, dims.len())?];
            if *turns.get_or_insert(size) != size {
                return Err("its inputs have different lengths".into());
            }
        }
        let turns = turns.ok_or_else(misfit)?;
        if turns > MAX_TURNS {
            return Err(format!("{turns} turns, each of which would be written out; {MAX_TURNS} are the most"));
        }
        let mut types = call.types.clone();
        let mut carried: Vec<Option<Value>> = call.inputs[..states].to_vec();
        let mut gathered: Vec<Vec<Value>> = vec![vec![]; outputs];
        let mut of_results = types[..states].to_vec();
        for turn in 0..turns {
            let mut given = carried;
            for (index, (&along, &direction)) in axes.iter().zip(&directions).enumerate() {
                let at = if direction == 0 { turn } else { turns - 1 - turn };
                given.push(self.entry(&call.node.input[states + index], along, at, depth)?);
            }
            let mut results = self.turn(graph, given, &types, depth)?.into_iter();
            of_results = self.inner_types.clone();
            types.splice(..states, of_results.iter().copied().take(states));
            carried = results.by_ref().take(states).map(Some).collect();
            gathered.iter_mut().zip(results).for_each(|(all, value)| all.push(value));
        }
        self.inner_types = of_results;
        let mut results: Vec<Value> = carried.into_iter().map(|v| v.unwrap_or(Value::Missing)).collect();
        for ((mut all, along), direction) in gathered.into_iter().zip(out_axes).zip(out_directions) {
            if direction != 0 {
                all.reverse();
            }
            results.push(match operators::stacked(&mut self.draft, all)? {
                Value::Data(mut view) => {
                    let along = axis(along, view.rank())?;
                    let first = view.axes.remove(0);
                    view.axes.insert(along, first);
                    Value::Data(view)
                }
                other => other,
            });
        }
        Ok(results)
    }

    /// The entry of a value of that name along an axis, which it then lacks.
    fn entry(&mut self, name: &str, along: i64, at: usize, depth: usize) -> Result<Option<Value>, String> {
        // No value of a model has a name that begins so.
        const INDEX: &str = "\0index";
        let int = |name: &str, value| proto::Attribute {
            name: name.into(),
            ty: attribute_type::INT,
            i: Some(value),
            ..Default::default()
        };
        let gather = proto::Node {
            op_type: "Gather".into(),
            name: name.into(),
            input: vec![name.into(), INDEX.into()],
            output: vec![name.into()],
            attribute: vec![int("axis", along)],
            ..Default::default()
        };
        self.scopes.push(Scope::default());
        self.define(INDEX, Value::Known(Array::ints([], vec![at as i64])));
        let results = self.node(&gather, depth);
        self.scopes.pop();
        Ok(results?.into_iter().next())
    }

    /// One turn of a loop: what its body gives, of these inputs and types.
    fn turn(
        &mut self,
        graph: &proto::Graph,
        given: impl IntoIterator<Item = Option<Value>>,
        types: &[i32],
        depth: usize,
    ) -> Result<Vec<Value>, String> {
        self.scopes.push(Scope::default());
        for (input, value) in graph.input.iter().zip(given) {
            if let Some(value) = value {
                self.define(&input.name, value);
            }
        }
        graph.input.iter().zip(types).for_each(|(input, &ty)| self.set_type(&input.name, ty));
        let names = graph.output.iter().map(|o| o.name.as_str());
        let results = self.body(&graph.initializer, &graph.node, names, depth);
        self.scopes.pop();
        results
    }

    /// A node that the file defines by others: those, with its inputs and attributes.
    pub(super) fn function(
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
        let types = node.input.iter().map(|name| self.type_of(name));
        scope.types = function.input.iter().cloned().zip(types).collect();
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
        self.inner_types = outputs.clone().map(|name| self.type_of(name)).collect();
        let find = |name: &str| self.lookup(name).ok_or_else(|| format!("`{name}` is computed by no node"));
        outputs.map(find).collect()
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

/// Whether an input has so few numbers that somebody may write them down.
fn is_small(input: &proto::ValueInfo) -> bool {
    let shape = input.ty.as_ref().and_then(|ty| ty.tensor_type.as_ref()?.shape.as_ref());
    let sizes = shape.map(|shape| shape.dim.iter().map(|d| d.dim_value.unwrap_or(0)).collect::<Vec<_>>());
    sizes.is_some_and(|sizes| sizes.iter().all(|size| (1..=16).contains(size)) && sizes.iter().product::<i64>() <= 16)
}
