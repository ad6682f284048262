//! Graphs within the graph: functions that the file defines, and the branches of an `If`.

use super::{Importer, MAX_DEPTH, Scope, opset_of};
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::proto;

impl<'m> Importer<'m> {
    /// `If` with a condition that is known: the nodes of the branch that is taken.
    pub(super) fn branch(&mut self, call: &Call, depth: usize) -> Result<Vec<Value>, String> {
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
