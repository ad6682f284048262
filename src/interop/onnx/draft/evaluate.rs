//! Computing operators on constants that [`super::fold`] does not know: they are imported as if their
//! inputs were data, and what came of it is evaluated by the operations' own definitions.
//!
//! Exporters leave such arithmetic on weights: standardised weights, resized position codes, windows
//! merged into larger ones. What would take too long stays in the network, and is computed when it runs.

use std::collections::HashMap;

use super::Draft;
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::types;
use crate::interop::onnx::view::View;
use crate::ir::NodeId;
use crate::ops::Op;
use crate::tensor::Tensor;

fn known(ty: i32, dims: Vec<usize>, values: Vec<f32>) -> Array {
    match types::is_whole(ty) {
        true => Array::ints(dims, values.into_iter().map(|v| v as i64).collect()),
        false => Array::floats(dims, values),
    }
}

impl Draft<'_> {
    /// The results of a node as known values where all its inputs are known; else as they are.
    pub(crate) fn known_results(&mut self, call: &Call, results: Vec<Value>) -> Result<Vec<Value>, String> {
        let mut inputs = call.inputs.iter().flatten().peekable();
        if inputs.peek().is_none() || !inputs.all(Value::is_known) {
            return Ok(results);
        }
        let results = results.into_iter().enumerate();
        results.map(|(i, result)| self.known_result(result, types::of_result(call.node, i, &call.types))).collect()
    }

    fn known_result(&mut self, result: Value, ty: i32) -> Result<Value, String> {
        if let Value::List(values) = result {
            let known = values.into_iter().map(|value| self.known_result(value, ty)).collect::<Result<_, _>>()?;
            return Ok(Value::List(known));
        }
        let Value::Data(view) = &result else { return Ok(result) };
        if let Some(Op::Compact(_)) = self.op(view.node) {
            return self.known_rows(view, ty);
        }
        let node = self.in_order(view)?;
        let mut values = HashMap::new();
        if !self.evaluate(node, &mut values) {
            return Ok(result);
        }
        let values = values.remove(&node).expect("just computed").into_data();
        let dims = self.dims(view);
        Ok(Value::Known(known(ty, dims, values)))
    }

    /// Of rows that are compacted, those that exist.
    fn known_rows(&mut self, view: &View, ty: i32) -> Result<Value, String> {
        let mut values = HashMap::new();
        if !self.evaluate(view.node, &mut values) {
            return Err("computing which rows exist would take too long".into());
        }
        let mask = &values[&self.operands(view.node)[1]];
        let count = mask.values().filter(|&v| v != 0.0).count();
        let rows = &values[&view.node];
        let mut dims = rows.shape().dims().to_vec();
        let width = rows.len() / dims[0];
        dims[0] = count;
        let perm: Vec<usize> = view.axes.iter().flatten().copied().collect();
        let rows = rows.data()[..count * width].to_vec();
        Ok(Value::Known(known(ty, dims, rows).transposed(&perm)))
    }

    /// Evaluates a node of the draft that depends on constants only; false where that would take more
    /// than importing may.
    fn evaluate(&mut self, node: NodeId, values: &mut HashMap<NodeId, Tensor>) -> bool {
        if values.contains_key(&node) {
            return true;
        }
        let mut operands = self.operands(node);
        if let Some(Op::ExpandImages(_)) = self.op(node) {
            // Of the input it reads the number of images, which the shape tells.
            operands[1] = operands[0];
        }
        if !operands.iter().all(|&operand| self.evaluate(operand, values)) {
            return false;
        }
        let (shape, op) =
            (self.graph.node(node).shape.clone(), self.op(node).expect("inputs are no constants").clone());
        let work = op.macs(&self.graph.operand_shapes(node), &shape).max(shape.elements() as u64);
        if !self.affords(usize::try_from(work).unwrap_or(usize::MAX)) {
            return false;
        }
        let declared = op.weights(&self.graph.operand_shapes(node));
        let weights: Vec<Tensor> = declared
            .into_iter()
            .zip(self.weights(node))
            .map(|(declared, values)| {
                Tensor::from_values(declared.shape, (**values).as_ref().iter().map(|&v| f64::from(v)))
            })
            .collect();
        let operands: Vec<&Tensor> = operands.iter().map(|operand| &values[operand]).collect();
        let value = op.evaluate(&operands, &weights.iter().collect::<Vec<_>>(), &shape);
        values.insert(node, value);
        true
    }
}
