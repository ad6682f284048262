//! Recurrent layers: LSTM, GRU and RNN.
//!
//! ONNX has the gates in another order than PyTorch, whose the language's is, and steps before images. Where a model only
//! brings its images behind the steps for that, they stay before.

use super::shape::cut;
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::Recurrent;
use crate::ops::recurrent::{Cell, Direction};
use crate::weights::Values;

pub(crate) fn recurrent(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let (weight, hidden) = (call.need_known(1)?.clone(), call.need_known(2)?.clone());
    layer(draft, call, &weight, &hidden)
}

/// ONNX Runtime's LSTM with weights of 8 bits, `[D, inputs, gates · hidden]`, as what they stand for; its inputs, which it
/// rounds to 8 bits at each step, stay as they are.
pub(crate) fn with_whole_weights(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let real = |draft: &mut Draft, index: usize, scale: usize| -> Result<Array, String> {
        let levels = call.need_known(index)?;
        let numbers = levels.as_ints().ok_or("its weights are no whole numbers")?;
        let scales = call.need_known(scale)?.as_floats().ok_or("its scales are no floating-point numbers")?.to_vec();
        let zeros = call.known(scale + 1)?.and_then(Array::as_ints).map_or(vec![0; scales.len()], <[i64]>::to_vec);
        let &[directions, _, columns] = levels.dims.as_slice() else {
            return Err("its weights have three axes".into());
        };
        let each = if scales.len() == directions * columns { columns } else { 1 };
        if zeros.len() != scales.len() || (each == 1 && scales.len() != directions && scales.len() != 1) {
            return Err(format!("{} scales for weights of sizes {:?}", scales.len(), levels.dims));
        }
        draft.reserve(numbers.len())?;
        let size = levels.len() / directions.max(1);
        let of = |i: usize| (i / size * each + if each > 1 { i % columns } else { 0 }) % scales.len();
        let values = numbers.iter().enumerate().map(|(i, &n)| (n - zeros[of(i)]) as f32 * scales[of(i)]).collect();
        Ok(Array::floats(levels.dims.clone(), values).transposed(&[0, 2, 1]))
    };
    let (weight, hidden) = (real(draft, 1, 8)?, real(draft, 2, 10)?);
    layer(draft, call, &weight, &hidden)
}

/// What a node's attributes say of the cell, and where each of its gates is among ONNX's.
fn cell_of(call: &Call, directions: usize) -> Result<(Cell, &'static [usize]), String> {
    let named = call.strings("activations")?;
    let all = |wanted: &[&str]| named.is_empty() || named.chunks(wanted.len()).all(|own| own == wanted);
    let fits = named.is_empty() || named.len().is_multiple_of(directions);
    let usual = |wanted: &[&str]| {
        if all(wanted) && fits { Ok(()) } else { Err(format!("the activations {}", named.join(", "))) }
    };
    let has_parameters = ["activation_alpha", "activation_beta"].iter().any(|name| call.attribute(name).is_some());
    if has_parameters || call.attribute("clip").is_some() || call.flag("input_forget", false)? {
        return Err("activations with parameters, clipped sums, or an input gate that forgets".into());
    }
    match call.node.op_type.as_str() {
        "GRU" => {
            usual(&["Sigmoid", "Tanh"])?;
            // z r h
            let cell = if call.flag("linear_before_reset", false)? { Cell::Gru } else { Cell::GruResetBefore };
            Ok((cell, &[1, 0, 2]))
        }
        "RNN" if !named.is_empty() && all(&["Relu"]) => Ok((Cell::Relu, &[0])),
        "RNN" => usual(&["Tanh"]).map(|()| (Cell::Tanh, &[0usize][..])),
        _ => {
            usual(&["Sigmoid", "Tanh", "Tanh"])?;
            // i o f c
            Ok((Cell::Lstm, &[0, 2, 3, 1]))
        }
    }
}

fn layer(draft: &mut Draft, call: &Call, weight: &Array, recurrent: &Array) -> Result<Vec<Value>, String> {
    let direction = match call.string("direction", "forward")?.as_str() {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Both,
        other => return Err(format!("direction {other} is none")),
    };
    let directions = direction.count();
    let (cell, gates) = cell_of(call, directions)?;
    let layout = call.int("layout", 0)?;
    let x = draft.view(call, 0)?;
    let (&[d, rows, inputs], &[_, _, hidden]) = (weight.dims.as_slice(), recurrent.dims.as_slice()) else {
        return Err(format!("weights of sizes {:?} and {:?}", weight.dims, recurrent.dims));
    };
    let stated = call.int("hidden_size", hidden as i64)?;
    let fits = d == directions && rows == gates.len() * hidden && stated == hidden as i64;
    if x.rank() != 3 || !fits || recurrent.dims != [d, rows, hidden] || draft.dims(&x)[2] != inputs {
        let (of_x, of_w) = (draft.dims(&x), &weight.dims);
        return Err(format!("an input of sizes {of_x:?} by weights of {of_w:?} and {:?}", recurrent.dims));
    }
    // `[steps, images, features]`
    let x = if layout == 0 { x } else { x.transposed(&[1, 0, 2]) };
    let [steps, images] = [0, 1].map(|axis| draft.dims(&x)[axis]);
    if let Some(lengths) = call.known_ints(4)?
        && lengths.iter().any(|&length| length != steps as i64)
    {
        return Err(format!("sequences of {lengths:?} steps among {steps}"));
    }
    if call.input(7).is_some_and(|p| !matches!(p, Value::Known(array) if is_zero(array))) {
        return Err("peepholes: gates that see the cells".into());
    }
    let turned = x.transposed(&[1, 0, 2]);
    let batch_first = turned.is_whole(draft.node_dims(x.node).len()) || layout == 1;
    let node = if batch_first { draft.in_order(&turned)? } else { draft.in_order(&x)? };
    let mut operands = vec![node];
    let states: &[usize] = if cell == Cell::Lstm { &[5, 6] } else { &[5] };
    let due = if layout == 0 { [directions, images, hidden] } else { [images, directions, hidden] };
    for &index in states.iter().filter(|&&index| call.input(index).is_some()) {
        let dims = draft.dims_of_input(call, index)?;
        if dims != due {
            return Err(format!("input {index}, a first state of sizes {dims:?} where {due:?} are due"));
        }
    }
    let is_given = |&index: &usize| {
        !matches!(call.input(index), None | Some(Value::Known(_)))
            || call.known(index).ok().flatten().is_some_and(|array| !is_zero(array))
    };
    if states.iter().any(is_given) {
        for &index in states {
            let state = match call.input(index) {
                Some(_) => draft.view(call, index)?,
                None => draft.constant(&Array::floats(due.to_vec(), vec![0.0; due.iter().product()]))?,
            };
            let state = if layout == 0 { state } else { state.transposed(&[1, 0, 2]) };
            operands.push(draft.in_order(&state)?);
        }
    }
    let bias = call.known(3)?;
    if bias.is_some_and(|bias| bias.dims != [directions, 2 * rows]) {
        return Err("its bias does not fit its weights".into());
    }
    let mut weights: Vec<Values> = vec![];
    for d in 0..directions {
        let parts = [ordered(weight, d, 0, gates, hidden)?, ordered(recurrent, d, 0, gates, hidden)?];
        weights.extend(parts);
        if let Some(bias) = bias {
            weights.extend([ordered(bias, d, 0, gates, hidden)?, ordered(bias, d, rows, gates, hidden)?]);
        }
    }
    draft.reserve(weight.len().saturating_add(recurrent.len()))?;
    let cells = cell == Cell::Lstm && call.reads(2);
    let op = Recurrent { cell, hidden, layers: 1, direction, batch_first, bias: bias.is_some(), cells };
    let node = draft.add(op, &operands, weights)?;
    // `[steps, images, directions · hidden]`
    let whole = View::whole(node, 3);
    let whole = if batch_first { whole.transposed(&[1, 0, 2]) } else { whole };
    let width = directions * hidden;
    let part = |draft: &mut Draft, first: usize| -> Result<View, String> {
        if cells { cut(draft, &whole, 2, first, width, 1) } else { Ok(whole.clone()) }
    };
    let of_steps = part(draft, 0)?;
    let mut results = vec![by_direction(draft, &of_steps, directions, layout)?];
    results.push(last(draft, &of_steps, direction, hidden, layout)?);
    if cells {
        let of_cells = part(draft, width)?;
        results.push(last(draft, &of_cells, direction, hidden, layout)?);
    }
    Ok(results.into_iter().map(Value::Data).collect())
}

fn is_zero(array: &Array) -> bool {
    array.as_floats().is_some_and(|values| values.iter().all(|&v| v == 0.0))
}

/// The rows of one direction from `first` on, gates in PyTorch's order.
fn ordered(array: &Array, d: usize, first: usize, gates: &[usize], hidden: usize) -> Result<Values, String> {
    let values = array.as_floats().ok_or("its weights are no floating-point numbers")?;
    let width: usize = array.dims.get(2).copied().unwrap_or(1);
    let start = d * array.dims[1] * width;
    let gate = |&gate: &usize| &values[start + (first + gate * hidden) * width..][..hidden * width];
    Ok(std::sync::Arc::new(gates.iter().flat_map(gate).copied().collect::<Vec<f32>>()))
}

/// `[steps, directions, images, hidden]`, or `[images, steps, directions, hidden]`.
fn by_direction(draft: &mut Draft, view: &View, directions: usize, layout: i64) -> Result<View, String> {
    let apart = match directions {
        1 => view.with_new(&[2]),
        _ => {
            // In the order that the node has.
            let swapped = !view.axes.is_sorted();
            let own = if swapped { view.transposed(&[1, 0, 2]) } else { view.clone() };
            let node = draft.in_order(&own)?;
            let dims = draft.node_dims(node);
            let node = draft.reshape(node, &[dims[0], dims[1], directions, dims[2] / directions])?;
            let whole = View::whole(node, 4);
            if swapped { whole.transposed(&[1, 0, 2, 3]) } else { whole }
        }
    };
    Ok(apart.transposed(&if layout == 0 { [0, 2, 1, 3] } else { [1, 0, 2, 3] }))
}

/// What is there behind the last step of each direction: `[directions, images, hidden]`, or images first.
fn last(draft: &mut Draft, view: &View, direction: Direction, hidden: usize, layout: i64) -> Result<View, String> {
    let steps = draft.dims(view)[0];
    let mut parts = vec![];
    for d in 0..direction.count() {
        let at = if direction == Direction::Reverse || d == 1 { 0 } else { steps - 1 };
        let own = cut(draft, view, 2, d * hidden, hidden, 1)?;
        parts.push(cut(draft, &own, 0, at, 1, 1)?);
    }
    let all = super::shape::join(draft, &parts, 0)?;
    Ok(if layout == 0 { all } else { all.transposed(&[1, 0, 2]) })
}
