//! Where the maxima of windows were, and what puts them back.
//!
//! ONNX numbers positions through the whole value: channels and images included.

use super::conv::Window;
use super::indices::picked;
use super::shape::padded;
use super::{Results, one};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ir::NodeId;
use crate::ops::arg_reduce::Extreme;
use crate::ops::binary::BinaryKind;
use crate::ops::indices::Reduction;
use crate::ops::pad::PadMode;
use crate::ops::{ArgReduce, Binary, Gather, Pad, ScatterElements, Transpose};

/// Positions from here on are no exact numbers in single precision.
pub(super) const MOST: usize = 1 << 24;

/// How positions of an image's pixels grow by row and by column.
fn steps(call: &Call, size: [usize; 2]) -> Result<[usize; 2], String> {
    Ok(if call.flag("storage_order", false)? { [1, size[0]] } else { [size[1], 1] })
}

/// Positions are whole numbers of f32 here.
fn exact(dims: &[usize]) -> Result<usize, String> {
    let count = dims.iter().fold(1usize, |p, &d| p.saturating_mul(d));
    if count <= MOST {
        return Ok(count);
    }
    Err(format!("positions among {count} elements; netc counts up to {MOST}"))
}

/// Positions of the elements themselves, which windows of one pixel have.
pub(super) fn of_points(draft: &mut Draft, call: &Call, dims: &[usize]) -> Result<Value, String> {
    let count = exact(dims)?;
    draft.reserve(count)?;
    let (rows, columns) = match *dims {
        [_, _, h, w] => (h, w),
        _ => (1, dims[2..].iter().product()),
    };
    let [down, across] = steps(call, [rows, columns])?;
    let plane = rows * columns;
    let place = |i: usize| (i / plane * plane + i % plane / columns * down + i % columns * across) as i64;
    Ok(Value::Known(Array::ints(dims, (0..count).map(place).collect())))
}

/// Positions of the maxima of an image's windows, of which there are as many as `pooled` has pixels.
pub(super) fn of_maxima(
    draft: &mut Draft,
    call: &Call,
    image: NodeId,
    window: &Window,
    pooled: NodeId,
) -> Result<NodeId, String> {
    let dims = draft.node_dims(image);
    let (&[n, c, h, w], &[.., rows, columns]) = (dims.as_slice(), draft.node_dims(pooled).as_slice()) else {
        return Err("no image".into());
    };
    exact(&dims)?;
    let (size, count) = ([h, w], [rows, columns]);
    // The pixels that windows show along an axis, window by window, counted from the padding on.
    let shown = |axis: usize| -> Vec<usize> {
        let taps = (0..window.kernel[axis]).map(|k| k * window.dilation[axis]);
        (0..count[axis]).flat_map(|i| taps.clone().map(move |tap| i * window.stride[axis] + tap)).collect()
    };
    draft
        .reserve(count[0].saturating_mul(window.kernel[0]).saturating_add(count[1].saturating_mul(window.kernel[1])))?;
    let shown = [shown(0), shown(1)];
    // A last window may reach beyond the padding.
    let end =
        |axis: usize| (shown[axis].last().map_or(0, |last| last + 1)).saturating_sub(size[axis] + window.pad[axis]);
    let pads = [window.pad[0], window.pad[1], end(0), end(1)];
    let mut view = View::whole(image, 4);
    if pads != [0; 4] {
        view = draft.map(Pad { pads, mode: PadMode::Constant, value: f32::NEG_INFINITY }, &view, vec![])?;
    }
    for (axis, picks) in shown.iter().enumerate() {
        if !picks.iter().copied().eq(0..draft.dims(&view)[axis + 2]) {
            view = picked(draft, &view, axis + 2, picks)?;
        }
    }
    let [down, across] = window.kernel;
    let apart = [n, c, rows, down, columns, across];
    let node = draft.reshape(view.node, &apart)?;
    let node = draft.add(Transpose { perm: vec![0, 1, 2, 4, 3, 5] }, &[node], vec![])?;
    let node = draft.reshape(node, &[n, c, rows, columns, down * across])?;
    let best = ArgReduce { kind: Extreme::Max, axis: 4, keepdims: false, last: false };
    let best = draft.add(best, &[node], vec![])?;
    let step = steps(call, size)?;
    let tap = |i: usize| i / across * window.dilation[0] * step[0] + i % across * window.dilation[1] * step[1];
    let taps = Array::ints([down * across], (0..down * across).map(|i| tap(i) as i64).collect());
    let taps = draft.constant(&taps)?.node;
    let within = draft.add(Gather { axis: 0 }, &[taps, best], vec![])?;
    // Where each window begins: before the image where padding is in it.
    let planes = n * c;
    draft.reserve(planes.saturating_mul(rows).saturating_mul(columns))?;
    let begin = |axis: usize, i: usize| {
        (i * window.stride[axis]) as i64 * step[axis] as i64 - window.pad[axis] as i64 * step[axis] as i64
    };
    let begins = (0..planes).flat_map(|plane| {
        (0..rows).flat_map(move |row| {
            (0..columns).map(move |column| (plane * h * w) as i64 + begin(0, row) + begin(1, column))
        })
    });
    let begins = Array::ints([n, c, rows, columns], begins.collect());
    let begins = draft.constant(&begins)?.node;
    draft.add(Binary { kind: BinaryKind::Add, epilogue: vec![] }, &[within, begins], vec![])
}

/// Each element at its position, and zeros: what `MaxPool` leaves, put back.
pub(crate) fn max_unpool(draft: &mut Draft, call: &Call) -> Results {
    let (view, places) = (draft.view(call, 0)?, draft.view(call, 1)?);
    let dims = draft.dims(&view);
    if view.rank() < 3 || draft.dims(&places) != dims {
        return Err(format!("positions of sizes {:?} for elements of {dims:?}", draft.dims(&places)));
    }
    let axes = view.rank() - 2;
    let list = |name: &str, default: i64, len: usize| -> Result<Vec<i64>, String> {
        let list = call.ints(name)?.unwrap_or_else(|| vec![default; len]);
        if list.len() == len { Ok(list) } else { Err(format!("{name} {list:?} does not fit {axes} axes")) }
    };
    let kernel = call.ints("kernel_shape")?.ok_or("it has no kernel_shape")?;
    if kernel.len() != axes {
        return Err(format!("kernel_shape {kernel:?} does not fit {axes} axes"));
    }
    let (strides, pads) = (list("strides", 1, axes)?, list("pads", 0, 2 * axes)?);
    let mut to = dims[..2].to_vec();
    for axis in 0..axes {
        let size = (dims[axis + 2] as i64 - 1).checked_mul(strides[axis]).and_then(|s| s.checked_add(kernel[axis]));
        let size = size.and_then(|s| s.checked_sub(pads[axis])?.checked_sub(pads[axis + axes]));
        let size = size.and_then(|s| usize::try_from(s).ok()).filter(|&s| s > 0 && s <= MOST);
        to.push(size.ok_or("its output has no sizes")?);
    }
    let count = exact(&to)?;
    draft.reserve(count)?;
    // Images in one row: with several of them, each has its own positions there.
    let flat = |draft: &mut Draft, view: &View| -> Result<NodeId, String> {
        let node = draft.in_order(view)?;
        draft.reshape(node, &[1, dims.iter().product()])
    };
    let (elements, places) = (flat(draft, &view)?, flat(draft, &places)?);
    let zeros = draft.constant(&Array::floats([1, count], vec![0.0; count]))?.node;
    let op = ScatterElements { axis: 1, reduction: Reduction::None };
    let node = draft.add(op, &[zeros, places, elements], vec![])?;
    let node = draft.reshape(node, &to)?;
    let result = View::whole(node, to.len());
    let Some(wanted) = call.known_ints(2)? else { return one(result) };
    let mut pads = vec![(0, 0); to.len()];
    for (axis, (&have, &want)) in to.iter().zip(&wanted).enumerate() {
        let more = usize::try_from(want).ok().and_then(|want| want.checked_sub(have));
        pads[axis].1 = more.filter(|_| wanted.len() == to.len()).ok_or_else(|| format!("an output of {wanted:?}"))?;
    }
    one(padded(draft, result, pads, PadMode::Constant, 0.0)?)
}
