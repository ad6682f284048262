//! Operators of quantized models.
//!
//! A model has levels where netc has the numbers that they stand for: `QuantizeLinear` is the layer `quantize`, which
//! gives numbers of a grid, and `DequantizeLinear` of its result is that result. So operators on levels are those on
//! numbers, between two of these; the passes make integer arithmetic of them again. Who needs the levels themselves gets
//! them by a `quantize` that gives whole numbers.

use std::sync::Arc;

use super::conv;
use super::elementwise::{self, activate, with_known, with_value};
use super::{Results, indices, linear, norm, packed, pool, shape, single};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Grid, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::geometry::reduced_axes;
use crate::interop::onnx::proto::data_type;
use crate::interop::onnx::types;
use crate::interop::onnx::view::View;
use crate::ir::NodeId;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::dynamic_quantize::DynamicPart;
use crate::ops::quantized::{self, Levels};
use crate::ops::reduce::ReduceKind;
use crate::ops::{Activate, Dequantize, DynamicQuantize, FakeQuantize, Op};

// ---- Grids -------------------------------------------------------------------------------------

/// The grid of an input of levels, which the two inputs behind it tell, a scale and a zero point.
fn grid_of(call: &Call, input: usize, axis: i64) -> Result<Grid, String> {
    grid(call, input + 1, input + 2, axis, known_levels(call, input))
}

/// The type of an input's levels, as far as it is known.
fn known_levels(call: &Call, input: usize) -> Option<Levels> {
    match call.input(input) {
        Some(Value::OnGrid(_, grid)) => Some(grid.levels),
        Some(Value::Known(array)) => array.levels(),
        _ => None,
    }
}

/// The grid that a scale and a zero point among a node's inputs tell. `levels` are those that it has, where something else
/// tells them; a grid of which nothing does is of u8, as the standard says.
fn grid(call: &Call, scale: usize, zero: usize, axis: i64, levels: Option<Levels>) -> Result<Grid, String> {
    let scales = call.known(scale)?.ok_or("it has no scale")?;
    let zeros = call.known(zero)?;
    if zeros.is_some_and(|zeros| zeros.levels().is_none()) {
        return Err("levels of another type than 2, 4, 8 or 16 bits".into());
    }
    let (scale, zero) = Grid::numbers(scales, zeros, levels)?;
    let levels = zeros.and_then(Array::levels).or(levels).unwrap_or(Levels::U8);
    if scales.rank() > 1 {
        return Err(format!("scales of sizes {:?}", scales.dims));
    }
    let axis = (scale.len() > 1).then_some(axis);
    Ok(Grid { levels, scale, zero, axis })
}

/// Levels by the type that an attribute names; `None` where there is none.
fn named_levels(call: &Call) -> Result<Option<Levels>, String> {
    match i32::try_from(call.int("output_dtype", 0)?).unwrap_or(-1) {
        0 => Ok(None),
        ty => match data_type::levels(ty) {
            Some(levels) => Ok(Some(levels)),
            None => Err(format!("levels of type {}", data_type::name(ty))),
        },
    }
}

/// The axis of a view's node along which a grid has its scales, where it has several.
fn own_axis(draft: &Draft, view: &View, grid: &Grid) -> Result<Option<usize>, String> {
    let Some(axis) = grid.axis else { return Ok(None) };
    let axis = crate::interop::onnx::call::axis(axis, view.rank())?;
    if draft.dims(view)[axis] != grid.scale.len() {
        return Err(Array::other_number(grid.scale.len(), draft.dims(view)[axis], axis));
    }
    Ok(Some(view.axes[axis].ok_or("scales along an axis that is only shown")?))
}

/// The nearest numbers of a grid; where `whole` is set, their levels.
pub(super) fn rounded(draft: &mut Draft, view: &View, grid: &Grid, whole: bool) -> Result<View, String> {
    let axis = own_axis(draft, view, grid)?;
    let symmetric = grid.zero.iter().all(|&zero| zero == 0);
    let op = FakeQuantize { levels: grid.levels, axis, symmetric, whole, scale: None, zero_point: None };
    let mut weights: Vec<crate::weights::Values> = vec![Arc::new(grid.scale.clone())];
    if !symmetric {
        weights.push(Arc::new(grid.zero.iter().map(|&zero| zero as f32).collect::<Vec<_>>()));
    }
    draft.map(op, view, weights)
}

/// The levels of numbers that are on a grid.
pub(crate) fn levels(draft: &mut Draft, view: &View, grid: &Grid) -> Result<View, String> {
    rounded(draft, view, grid, true)
}

/// Whether numbers were brought to a grid and only moved since.
fn is_on(draft: &Draft, view: &View, grid: &Grid) -> bool {
    let mut node = view.node;
    loop {
        node = match draft.op(node) {
            Some(Op::FakeQuantize(op)) => {
                let weights = draft.weights(node);
                let is = |index: usize, numbers: &[f32]| {
                    weights.get(index).map_or(numbers == [0.0], |values| (**values).as_ref() == numbers)
                };
                let (per_tensor, same) = (op.axis.is_none() && grid.axis.is_none(), op.levels == grid.levels);
                return per_tensor && same && !op.whole && is(0, &grid.scale) && is(1, &[grid.zero[0] as f32]);
            }
            Some(Op::Flatten(_) | Op::MaxPool(_) | Op::Reshape(_) | Op::Slice(_) | Op::Transpose(_)) => {
                draft.operands(node)[0]
            }
            _ => return false,
        }
    }
}

/// A result of numbers, on the grid that the model gives it.
fn on_grid(draft: &mut Draft, view: &View, grid: Grid) -> Results {
    if is_on(draft, view, &grid) {
        return Ok(vec![Value::OnGrid(view.clone(), Arc::new(grid))]);
    }
    draft.relabel_after(view.node);
    let view = rounded(draft, view, &grid, false)?;
    Ok(vec![Value::OnGrid(view, Arc::new(grid))])
}

/// Numbers between levels, of which a type of whole numbers keeps what is before the point, as numbers of the grid.
pub(crate) fn whole_on_grid(draft: &mut Draft, value: Value, grid: &Arc<Grid>) -> Result<Value, String> {
    let Value::Data(view) = value else { return Ok(value) };
    let whole = activate(draft, &view, Activation::Trunc)?;
    Ok(Value::OnGrid(dequantized(draft, &whole, grid)?, grid.clone()))
}

/// Levels between bounds, which stay on their grid: numbers that are clipped before they are rounded. Where the bounds are
/// the ends of a type of fewer bits, they are rounded to its grid.
fn clip_levels(draft: &mut Draft, view: &View, grid: &Arc<Grid>, bounds: [Option<f32>; 2]) -> Results {
    let ends = [grid.levels.low(), grid.levels.high()];
    let low = bounds[0].map_or(ends[0], |bound| (bound.ceil() as i64).clamp(ends[0], ends[1]));
    let high = bounds[1].map_or(ends[1], |bound| (bound.floor() as i64).clamp(ends[0], ends[1]));
    let ([scale], [zero]) = (&grid.scale[..], &grid.zero[..]) else {
        let (min, max) = (low.min(high) as f32, high as f32);
        let levels = levels(draft, view, grid)?;
        return Ok(vec![Value::Data(activate(draft, &levels, Activation::Clip { min, max })?)]);
    };
    let own = quantized::Grid { levels: grid.levels, scale: *scale, zero: *zero };
    let [min, max] = [low.min(high), high].map(|level| own.real(level as f64));
    let rounded_here = match draft.op(view.node) {
        Some(Op::FakeQuantize(op)) if !op.whole => Some(view.of(draft.operands(view.node)[0])),
        _ => None,
    };
    let clipped = match rounded_here {
        None => activate(draft, view, Activation::Clip { min, max })?,
        Some(before) => {
            let fewer = (*Levels::BITS.start()..grid.levels.bits).map(|bits| Levels { bits, ..grid.levels });
            let mut fewer = fewer.filter(|levels| (levels.low()..=levels.high()).contains(zero));
            match fewer.find(|levels| [levels.low(), levels.high()] == [low, high]) {
                Some(levels) => rounded(draft, &before, &Grid { levels, ..(**grid).clone() }, false)?,
                None => {
                    let before = activate(draft, &before, Activation::Clip { min, max })?;
                    rounded(draft, &before, grid, false)?
                }
            }
        }
    };
    Ok(vec![Value::OnGrid(clipped, grid.clone())])
}

/// Levels or numbers between bounds.
pub(crate) fn clip(draft: &mut Draft, call: &Call) -> Results {
    match call.input(0) {
        Some(Value::OnGrid(view, grid)) => {
            clip_levels(draft, view, grid, [call.known_scalar(1)?, call.known_scalar(2)?])
        }
        _ => elementwise::activation(draft, call),
    }
}

/// The numbers that an input's levels stand for.
fn numbers(draft: &mut Draft, call: &Call, input: usize, grid: &Grid) -> Result<Value, String> {
    match call.input(input) {
        Some(Value::OnGrid(view, own)) if **own == *grid => Ok(Value::Data(view.clone())),
        Some(Value::OnGrid(view, own)) => {
            let levels = levels(draft, view, own)?;
            dequantized(draft, &levels, grid).map(Value::Data)
        }
        // Of results it is not known; types of 2 and 4 bits are f32 as inputs.
        Some(Value::Data(view)) if draft.op(view.node).is_none() && types::is_float(call.type_of(input)) => {
            Err("it dequantizes floating-point numbers: its input is to be levels".into())
        }
        Some(Value::Data(view)) => dequantized(draft, view, grid).map(Value::Data),
        Some(Value::Known(array)) => Ok(Value::Known(dequantized_array(array, grid)?)),
        _ => Err(format!("input {input} is missing")),
    }
}

/// The whole numbers that an input's levels are.
pub(crate) fn numbers_of_levels() -> Dequantize {
    Dequantize { axis: None, symmetric: true, scale: Some(1.0), zero_point: None }
}

/// The input whose levels a value's numbers are, where it has those of the grid.
fn input_of(draft: &Draft, view: &View, grid: &Grid) -> Option<NodeId> {
    let Op::Dequantize(op) = draft.op(view.node)? else { return None };
    let input = draft.operands(view.node)[0];
    let is_input = *op == numbers_of_levels() && draft.op(input).is_none();
    let whole = Levels { bits: 8 * grid.levels.element().bytes(), ..grid.levels };
    (is_input && grid.levels == whole && draft.element(input) == grid.levels.element()).then_some(input)
}

/// The numbers of levels that come as such: of an input's those that it stands for; else a product, and the grid on which
/// they are anyway.
fn dequantized(draft: &mut Draft, view: &View, grid: &Grid) -> Result<View, String> {
    if let Some(input) = input_of(draft, view, grid) {
        let axis = own_axis(draft, view, grid)?;
        let symmetric = grid.zero.iter().all(|&zero| zero == 0);
        let mut weights: Vec<crate::weights::Values> = vec![Arc::new(grid.scale.clone())];
        if !symmetric {
            weights.push(Arc::new(grid.zero.iter().map(|&zero| zero as f32).collect::<Vec<_>>()));
        }
        return Ok(view.of(draft.add(Dequantize::new(axis, symmetric), &[input], weights)?));
    }
    let dims = match grid.axis {
        None => vec![],
        Some(axis) => {
            let axis = crate::interop::onnx::call::axis(axis, view.rank())?;
            [vec![grid.scale.len()], vec![1; view.rank() - axis - 1]].concat()
        }
    };
    let zeros = grid.zero.iter().map(|&zero| zero as f32).collect();
    let [zeros, scales] = [zeros, grid.scale.clone()].map(|numbers| Array::floats(dims.clone(), numbers));
    let centred = match zeros.uniform() {
        Some(0.0) => view.clone(),
        _ => with_known(draft, BinaryKind::Sub, view, &zeros, false, false)?,
    };
    let numbers = match scales.uniform() {
        Some(1.0) => centred,
        _ => with_known(draft, BinaryKind::Mul, &centred, &scales, false, false)?,
    };
    rounded(draft, &numbers, grid, false)
}

fn dequantized_array(array: &Array, grid: &Grid) -> Result<Array, String> {
    let axis = grid.axis.map(|axis| crate::interop::onnx::call::axis(axis, array.rank())).transpose()?;
    array.dequantized(&grid.scale, &grid.zero, axis)
}

// ---- The standard's operators ------------------------------------------------------------------

pub(crate) fn quantize_linear(draft: &mut Draft, call: &Call) -> Results {
    if call.int("block_size", 0)? != 0 {
        return Err("values quantized in blocks; quantize them with one scale, or one for each channel".into());
    }
    if !matches!(call.int("precision", 0)?, 0 | 1) {
        return Err("quotients of another type than float".into());
    }
    let axis = call.int("axis", 1)?;
    let view = draft.view(call, 0)?;
    if is_computed(call) {
        let levels = named_levels(call)?.or(known_levels(call, 2)).or(data_type::levels(call.type_of(2)));
        let (scale, zero) = computed_grid(call, view.rank(), axis)?;
        let levels = quantized_by(draft, &view, &scale, zero.as_ref(), levels.unwrap_or(Levels::U8))?;
        return Ok(vec![Value::Data(levels)]);
    }
    let grid = grid(call, 1, 2, axis, named_levels(call)?)?;
    on_grid(draft, &view, grid)
}

pub(crate) fn dequantize_linear(draft: &mut Draft, call: &Call) -> Results {
    if call.int("block_size", 0)? != 0 {
        return Err("values quantized in blocks; quantize them with one scale, or one for each channel".into());
    }
    if !matches!(i32::try_from(call.int("output_dtype", 0)?), Ok(0 | data_type::FLOAT)) {
        return Err("numbers of another type than float".into());
    }
    let axis = call.int("axis", 1)?;
    if let (Some(Value::Data(levels)), Some(Value::Data(scale)), Some(Value::Data(zero))) =
        (call.input(0), call.input(1), call.input(2))
    {
        let beside = [(scale, DynamicPart::Scale), (zero, DynamicPart::ZeroPoint)];
        if let Some(numbers) = of_levels(draft, levels, &beside, DynamicPart::Numbers)? {
            return Ok(vec![Value::Data(numbers)]);
        }
    }
    if is_computed(call) {
        let view = match call.input(0) {
            Some(Value::OnGrid(view, grid)) => levels(draft, view, grid)?,
            _ => draft.view(call, 0)?,
        };
        let (scale, zero) = computed_grid(call, view.rank(), axis)?;
        let centred = match zero {
            Some(zero) => with_value(draft, BinaryKind::Sub, &view, &zero, false)?,
            None => view,
        };
        return Ok(vec![Value::Data(with_value(draft, BinaryKind::Mul, &centred, &scale, false)?)]);
    }
    let grid = grid_of(call, 0, axis)?;
    Ok(vec![numbers(draft, call, 0, &grid)?])
}

/// x, its scale and zero point, weight, its, those of the result, bias.
pub(crate) fn conv(draft: &mut Draft, call: &Call) -> Results {
    let x_grid = grid_of(call, 0, 1)?;
    let x = numbers(draft, call, 0, &x_grid)?;
    let w_grid = grid_of(call, 3, 0)?;
    let weight = numbers(draft, call, 3, &w_grid)?;
    let bias = match call.known(8)? {
        None => None,
        Some(bias) => Some(Value::Known(bias_of(bias, &x_grid, &w_grid)?)),
    };
    let y_grid = grid(call, 6, 7, 1, None)?;
    let results = conv::conv(draft, &call.with_inputs(vec![Some(x), Some(weight), bias]))?;
    end(draft, results, y_grid)
}

/// A bias of 32 bits: its scale is the product of those of x and the weight, its zero point 0.
fn bias_of(bias: &Array, x: &Grid, w: &Grid) -> Result<Array, String> {
    let levels = bias.as_ints().ok_or("its bias is no whole numbers")?;
    if x.scale.len() != 1 {
        return Err("its input has scales by axis".into());
    }
    if w.scale.len() != 1 && w.scale.len() != levels.len() {
        return Err(format!("{} scales for a bias of {}", w.scale.len(), levels.len()));
    }
    let scale = |i: usize| f64::from(x.scale[0]) * f64::from(w.scale[i % w.scale.len()]);
    let numbers = levels.iter().enumerate().map(|(i, &level)| (level as f64 * scale(i)) as f32).collect();
    Ok(Array::floats(bias.dims.clone(), numbers))
}

/// Brings the one result to its grid.
fn end(draft: &mut Draft, results: Vec<Value>, grid: Grid) -> Results {
    match &results[..] {
        [Value::Data(view)] => on_grid(draft, view, grid),
        _ => Err("its result is known before the model runs".into()),
    }
}

pub(crate) fn matmul(draft: &mut Draft, call: &Call) -> Results {
    let a_grid = grid_of(call, 0, -2)?;
    let a = numbers(draft, call, 0, &a_grid)?;
    let b_grid = grid_of(call, 3, -1)?;
    let b = numbers(draft, call, 3, &b_grid)?;
    let y_grid = grid(call, 6, 7, 1, None)?;
    let results = linear::matmul(draft, &call.with_inputs(vec![Some(a), Some(b)]))?;
    end(draft, results, y_grid)
}

/// An input's levels less their zero point, which may be computed, too.
fn centred(draft: &mut Draft, call: &Call, input: usize, zero: usize, axis: i64) -> Result<Value, String> {
    let Some(Value::Data(of_run)) = call.input(zero) else {
        let grid = whole_grid(call, input, zero, axis)?;
        return numbers(draft, call, input, &grid);
    };
    let levels = match call.input(input) {
        Some(Value::OnGrid(view, grid)) => levels(draft, view, grid)?,
        _ => draft.view(call, input)?,
    };
    if let Some(steps) = of_levels(draft, &levels, &[(of_run, DynamicPart::ZeroPoint)], DynamicPart::Steps)? {
        return Ok(Value::Data(steps));
    }
    Ok(Value::Data(elementwise::join(draft, BinaryKind::Sub, &levels, of_run)?))
}

/// The grid of levels that are multiplied as they are, less their zero point.
fn whole_grid(call: &Call, input: usize, zero: usize, axis: i64) -> Result<Grid, String> {
    let zeros = call.known(zero)?;
    let levels = known_levels(call, input);
    let ones = Array::floats([], vec![1.0]).broadcast(&[zeros.map_or(1, Array::len)]);
    let (scale, zero) = Grid::numbers(&ones, zeros, levels)?;
    let axis = (zero.len() > 1).then_some(axis);
    let levels = levels.or(zeros.and_then(Array::levels)).unwrap_or(Levels::U8);
    Ok(Grid { levels, scale, zero, axis })
}

pub(crate) fn conv_integer(draft: &mut Draft, call: &Call) -> Results {
    let x = centred(draft, call, 0, 2, 1)?;
    let weight = centred(draft, call, 1, 3, 0)?;
    conv::conv(draft, &call.with_inputs(vec![Some(x), Some(weight)]))
}

pub(crate) fn matmul_integer(draft: &mut Draft, call: &Call) -> Results {
    let a = centred(draft, call, 0, 2, -2)?;
    let b = centred(draft, call, 1, 3, -1)?;
    linear::matmul(draft, &call.with_inputs(vec![Some(a), Some(b)]))
}

// ---- Operators of ONNX Runtime -----------------------------------------------------------------

pub(crate) fn add(draft: &mut Draft, call: &Call) -> Results {
    two(draft, call, elementwise::add)
}

pub(crate) fn mul(draft: &mut Draft, call: &Call) -> Results {
    two(draft, call, elementwise::mul)
}

fn two(draft: &mut Draft, call: &Call, of_numbers: super::Convert) -> Results {
    let a_grid = grid_of(call, 0, 1)?;
    let a = numbers(draft, call, 0, &a_grid)?;
    let b = numbers(draft, call, 3, &grid_of(call, 3, 1)?)?;
    let y_grid = grid(call, 6, 7, 1, Some(a_grid.levels))?;
    let results = of_numbers(draft, &call.with_inputs(vec![Some(a), Some(b)]))?;
    end(draft, results, y_grid)
}

pub(crate) fn average_pool(draft: &mut Draft, call: &Call) -> Results {
    one(draft, call, pool::average_pool)
}

pub(crate) fn global_average_pool(draft: &mut Draft, call: &Call) -> Results {
    one(draft, call, pool::global_average_pool)
}

pub(crate) fn sigmoid(draft: &mut Draft, call: &Call) -> Results {
    one(draft, call, |draft, call| {
        let view = draft.view(call, 0)?;
        Ok(vec![Value::Data(activate(draft, &view, Activation::Sigmoid)?)])
    })
}

/// A condition, then x and y, each with scale and zero point.
pub(crate) fn choose(draft: &mut Draft, call: &Call) -> Results {
    let x_grid = grid_of(call, 1, 1)?;
    let x = numbers(draft, call, 1, &x_grid)?;
    let y = numbers(draft, call, 4, &grid_of(call, 4, 1)?)?;
    let z_grid = grid(call, 7, 8, 1, Some(x_grid.levels))?;
    let results = indices::choose(draft, &call.with_inputs(vec![call.input(0).cloned(), Some(x), Some(y)]))?;
    end(draft, results, z_grid)
}

/// The axes are an attribute; without one, all.
pub(crate) fn reduce_mean(draft: &mut Draft, call: &Call) -> Results {
    one(draft, call, |draft, call| {
        let view = draft.view(call, 0)?;
        let axes = reduced_axes(call, view.rank())?;
        let mean = pool::reduce_axes(draft, &view, ReduceKind::Mean, &axes)?;
        Ok(vec![Value::Data(if call.flag("keepdims", true)? { mean } else { mean.without(&axes) })])
    })
}

pub(crate) fn leaky_relu(draft: &mut Draft, call: &Call) -> Results {
    one(draft, call, |draft, call| {
        let view = draft.view(call, 0)?;
        let slope = call.float("alpha", 0.01)?;
        Ok(vec![Value::Data(activate(draft, &view, Activation::LeakyRelu { slope })?)])
    })
}

/// Its axis is one axis from operator set 13 on, which an attribute tells.
pub(crate) fn softmax(draft: &mut Draft, call: &Call) -> Results {
    let opset = call.int("opset", 13)?;
    one(draft, call, |draft, call| norm::softmax(draft, &call.with_opset(opset)))
}

/// x, its scale and zero point, those of the result.
fn one(draft: &mut Draft, call: &Call, of_numbers: impl Fn(&mut Draft, &Call) -> Results) -> Results {
    if call.flag("channels_last", false)? {
        return Err("images with channels last".into());
    }
    let x_grid = grid_of(call, 0, 1)?;
    let x = numbers(draft, call, 0, &x_grid)?;
    let y_grid = grid(call, 3, 4, 1, Some(x_grid.levels))?;
    let results = of_numbers(draft, &call.with_inputs(vec![Some(x)]))?;
    end(draft, results, y_grid)
}

/// The result's scale and zero point, then x, its scale and zero point for each operand.
pub(crate) fn concat(draft: &mut Draft, call: &Call) -> Results {
    let y_grid = grid(call, 0, 1, 1, None)?;
    let mut values = vec![];
    for first in (2..call.inputs.len()).step_by(3) {
        values.push(Some(numbers(draft, call, first, &grid_of(call, first, 1)?)?));
    }
    let results = shape::concat(draft, &call.with_inputs(values))?;
    end(draft, results, y_grid)
}

/// a, its scale and zero point, b, its, c of 32 bits, those of the result, which is of numbers without.
pub(crate) fn gemm(draft: &mut Draft, call: &Call) -> Results {
    if call.float("alpha", 1.0)? != 1.0 {
        return Err("a factor of the product".into());
    }
    let a_grid = grid_of(call, 0, 1)?;
    let a = numbers(draft, call, 0, &a_grid)?;
    let b_grid = grid_of(call, 3, if call.flag("transB", false)? { 0 } else { 1 })?;
    let b = numbers(draft, call, 3, &b_grid)?;
    let c = call.known(6)?.map(|c| bias_of(c, &a_grid, &b_grid)).transpose()?.map(Value::Known);
    let results = linear::gemm(draft, &call.with_inputs(vec![Some(a), Some(b), c]))?;
    match call.input(7) {
        None => Ok(results),
        Some(_) => {
            let y_grid = grid(call, 7, 8, 1, None)?;
            end(draft, results, y_grid)
        }
    }
}

// ---- Scales that depend on data ----------------------------------------------------------------

/// A grid that holds all numbers of the value and 0: levels, scale and zero point, computed when the network runs.
pub(crate) fn dynamic(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let levels = draft.map(DynamicQuantize { gives: DynamicPart::Levels }, &view, vec![])?;
    let rank = draft.node_dims(view.node).len();
    let mut one = |gives: DynamicPart| {
        let node = draft.add(DynamicQuantize { gives }, &[view.node], vec![])?;
        Ok::<_, String>(Value::Data(View::whole(node, rank).without(&(0..rank).collect::<Vec<_>>())))
    };
    let (scale, zero) = (one(DynamicPart::Scale)?, one(DynamicPart::ZeroPoint)?);
    Ok(vec![Value::Data(levels), scale, zero])
}

/// What a value is of a grid that is computed, and the value whose grid it is.
fn dynamic_part(draft: &Draft, node: NodeId) -> Option<(DynamicPart, NodeId)> {
    match draft.op(node)? {
        Op::DynamicQuantize(op) => Some((op.gives, draft.operands(node)[0])),
        _ => None,
    }
}

/// Of levels on a grid that is computed another part of it, where what is told beside them belongs to the same grid.
fn of_levels(
    draft: &mut Draft,
    levels: &View,
    beside: &[(&View, DynamicPart)],
    gives: DynamicPart,
) -> Result<Option<View>, String> {
    let Some((DynamicPart::Levels, x)) = dynamic_part(draft, levels.node) else { return Ok(None) };
    if beside.iter().any(|(view, part)| dynamic_part(draft, view.node) != Some((*part, x))) {
        return Ok(None);
    }
    Ok(Some(levels.of(draft.add_helper(DynamicQuantize { gives }, x)?)))
}

/// A product of values: the last step of a layer of whole numbers, where it is one, else one of numbers.
pub(crate) fn product(draft: &mut Draft, call: &Call) -> Results {
    if let (Some(Value::Data(a)), Some(Value::Data(b))) = (call.input(0), call.input(1))
        && let Some(layer) = scaled_layer(draft, a, b)?
    {
        return Ok(vec![Value::Data(layer)]);
    }
    elementwise::mul(draft, call)
}

/// A layer's sum of steps of a computed grid by whole weights, times the grid's scale and known factors: the layer of the
/// grid's numbers, with weights of that scale. `None` where the product of two values is no such one.
fn scaled_layer(draft: &mut Draft, a: &View, b: &View) -> Result<Option<View>, String> {
    for (sum, factor) in [(a, b), (b, a)] {
        let (after, layer) = behind_movers(draft, sum.node);
        let whole = match draft.op(layer) {
            Some(Op::Conv2dW8(op)) if !op.of_reals.bias => Some(1),
            Some(Op::ConvTranspose2dW8(op)) if !op.of_reals.bias => Some(1),
            Some(Op::LinearW8(op)) if !op.of_reals.bias => sum.rank().checked_sub(1),
            _ => None,
        };
        let Some(axis) = whole else { continue };
        let mut weights = draft.weights(layer).to_vec();
        let channels = (*weights[1]).as_ref().len();
        let (before, steps) = behind_movers(draft, draft.operands(layer)[0]);
        let Some((DynamicPart::Steps, x)) = dynamic_part(draft, steps) else { continue };
        let Some(known) = scale_times(draft, factor, x) else { continue };
        let along = (sum.rank() - factor.rank()..).zip(draft.dims(factor)).all(|(at, d)| d == 1 || at == axis);
        if (*weights[1]).as_ref().iter().any(|&scale| scale != 1.0) || !along || ![1, channels].contains(&known.len()) {
            continue;
        }
        weights[1] = Arc::new((0..channels).map(|c| known[c % known.len()]).collect::<Vec<f32>>());
        let mut node = draft.add_helper(DynamicQuantize { gives: DynamicPart::Numbers }, x)?;
        for mover in before.into_iter().rev() {
            node = draft.add_helper(mover, node)?;
        }
        let op = draft.op(layer).expect("a layer").clone();
        draft.relabel_as(layer);
        node = draft.add(op, &[node], weights)?;
        for mover in after.into_iter().rev() {
            node = draft.add_helper(mover, node)?;
        }
        return Ok(Some(sum.of(node)));
    }
    Ok(None)
}

/// What only gives a value other sizes, the last first, and the value.
fn behind_movers(draft: &Draft, mut node: NodeId) -> (Vec<Op>, NodeId) {
    let mut movers = vec![];
    while let Some(op @ (Op::Reshape(_) | Op::Flatten(_))) = draft.op(node) {
        movers.push(op.clone());
        node = draft.operands(node)[0];
    }
    (movers, node)
}

/// The known factor of a value that is a computed grid's scale times known numbers.
fn scale_times(draft: &Draft, view: &View, of: NodeId) -> Option<Vec<f32>> {
    let is_scale = |node: NodeId| dynamic_part(draft, behind_movers(draft, node).1) == Some((DynamicPart::Scale, of));
    let node = behind_movers(draft, view.node).1;
    if is_scale(node) {
        return Some(vec![1.0]);
    }
    let operands = draft.operands(node);
    match draft.op(node)? {
        Op::Activate(Activate { kind: Activation::Scale { mul, add: 0.0 } }) if is_scale(operands[0]) => {
            Some(vec![*mul])
        }
        Op::Binary(op) if op.kind == BinaryKind::Mul && op.epilogue.is_empty() => {
            let known = operands.iter().position(|&operand| matches!(draft.op(operand), Some(Op::Constant(_))))?;
            let numbers = (*draft.weights(operands[known])[0]).as_ref().to_vec();
            is_scale(operands[1 - known]).then_some(numbers)
        }
        _ => None,
    }
}

/// The product of levels less their zero points, times the product of their scales, which may be computed: a, b, their
/// scales, their zero points, a bias of numbers.
pub(crate) fn scaled_matmul(draft: &mut Draft, call: &Call) -> Results {
    let a = centred(draft, call, 0, 4, -2)?;
    let b = centred(draft, call, 1, 5, -1)?;
    let scales = call.with_inputs(vec![call.input(2).cloned(), call.input(3).cloned()]);
    times_scales(draft, call, [a, b], &scales, 6)
}

/// As [`scaled_matmul`] of numbers that are rounded to a grid of their own: a, b, its scale and zero point, a bias.
pub(crate) fn dynamic_matmul(draft: &mut Draft, call: &Call) -> Results {
    let mut rounded = dynamic(draft, call)?.into_iter().map(Some);
    let [levels, scale, zero] = [rounded.next(), rounded.next(), rounded.next()].map(Option::flatten);
    let of_a = call.with_inputs(vec![levels, None, None, None, zero]);
    let a = centred(draft, &of_a, 0, 4, -2)?;
    let b = centred(draft, call, 1, 3, -1)?;
    let scales = call.with_inputs(vec![scale, call.input(2).cloned()]);
    times_scales(draft, call, [a, b], &scales, 4)
}

/// A product of whole numbers, the product of the two scales, an input that may be a bias.
fn times_scales(draft: &mut Draft, call: &Call, factors: [Value; 2], scales: &Call, bias: usize) -> Results {
    let scale = match (scales.input(0), scales.input(1)) {
        (Some(Value::Known(a)), Some(Value::Known(b))) => {
            let numbers = [a, b].map(|scale| scale.as_floats().ok_or("its scale is no floating-point number"));
            let (one, many) = (numbers[0]?, numbers[1]?);
            let one = *one.first().filter(|_| one.len() == 1).ok_or("scales of rows")?;
            Value::Known(Array::floats(b.dims.clone(), many.iter().map(|s| s * one).collect()))
        }
        _ => elementwise::mul(draft, scales)?.remove(0),
    };
    let product = single(linear::matmul(draft, &call.with_inputs(factors.map(Some).to_vec()))?)?;
    let scaled = call.with_inputs(vec![Some(Value::Data(product)), Some(scale)]);
    let scaled = single(elementwise::mul(draft, &scaled)?)?;
    packed::with_bias(draft, call, scaled, bias)
}

/// Whether the scale or the zero point of input 0 is computed when the network runs.
fn is_computed(call: &Call) -> bool {
    [1, 2].iter().any(|&input| matches!(call.input(input), Some(Value::Data(_))))
}

/// The scale and the zero point of a value of so many axes, as they are joined to it: of one number, or along an axis.
fn computed_grid(call: &Call, rank: usize, axis: i64) -> Result<(Value, Option<Value>), String> {
    let aligned = |value: &Value| {
        let of = match value {
            Value::Data(view) => view.rank(),
            Value::Known(array) => array.rank(),
            Value::OnGrid(..) | Value::List(_) | Value::Missing => {
                return Err("a scale that is on a grid itself".to_string());
            }
        };
        if of == 0 {
            return Ok(value.clone());
        }
        let axis = crate::interop::onnx::call::axis(axis, rank)?;
        let behind = rank - 1 - axis;
        Ok(match value {
            Value::Known(array) if of == 1 => {
                Value::Known(array.reshaped([array.dims.clone(), vec![1; behind]].concat()))
            }
            Value::Data(view) if of == 1 => Value::Data(view.with_new(&(1..=behind).collect::<Vec<_>>())),
            _ => return Err("computed scales of several axes".into()),
        })
    };
    let scale = aligned(call.input(1).ok_or("it has no scale")?)?;
    Ok((scale, call.input(2).map(aligned).transpose()?))
}

/// The levels of a grid whose scale or zero point is a value: whole numbers.
fn quantized_by(
    draft: &mut Draft,
    view: &View,
    scale: &Value,
    zero: Option<&Value>,
    levels: Levels,
) -> Result<View, String> {
    let steps = with_value(draft, BinaryKind::Div, view, scale, false)?;
    let wide = Grid { levels: Levels { bits: 16, signed: true }, scale: vec![1.0], zero: vec![0], axis: None };
    let mut result = rounded(draft, &steps, &wide, true)?;
    if let Some(zero) = zero {
        result = with_value(draft, BinaryKind::Add, &result, zero, false)?;
    }
    let (min, max) = (levels.low() as f32, levels.high() as f32);
    activate(draft, &result, Activation::Clip { min, max })
}
