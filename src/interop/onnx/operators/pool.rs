//! Pooling and reductions.

use super::conv::Window;
use super::elementwise::{self, activate};
use super::{positions, shape, volume};
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::geometry::reduced_axes;
use crate::interop::onnx::view::View;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::global_pool::PoolKind;
use crate::ops::reduce::ReduceKind;
use crate::ops::{AvgPool, GlobalPool, MaxPool, Op, Reduce};

pub(crate) fn max_pool(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let mut shown = None;
    let mut results = pool(draft, call, |window, ceil| {
        let Window { kernel, stride, dilation, pad } = window;
        shown = Some(window);
        Ok(MaxPool { kernel, stride, pad, dilation, ceil }.into())
    })?;
    if call.reads(1) {
        let view = draft.view(call, 0)?;
        let window = shown.ok_or("positions of maxima in volumes")?;
        let Value::Data(pooled) = &results[0] else { unreachable!("a pool computes") };
        let places = if window.is_point() {
            positions::of_points(draft, call, &draft.dims(&view))?
        } else {
            let (image, shown) = draft.image(&view)?;
            let places = |draft: &mut Draft| positions::of_maxima(draft, call, image, &window, pooled.node);
            Value::Data(shown.of(draft.labelled(|label| format!("{label}_positions"), places)?))
        };
        results.push(places);
    }
    Ok(results)
}

pub(crate) fn average_pool(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let count_include_pad = call.flag("count_include_pad", false)?;
    means(draft, call, count_include_pad)
}

/// The means of all of each window, zeros around the image among them.
pub(crate) fn mean_of_windows(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    means(draft, call, true)
}

fn means(draft: &mut Draft, call: &Call, count_include_pad: bool) -> Result<Vec<Value>, String> {
    pool(draft, call, |window, ceil| {
        let Window { kernel, stride, dilation, pad } = window;
        // Without padding there is nothing to count: the common spelling is the language's default.
        let count_include_pad = count_include_pad || pad == [0; 4];
        Ok(AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad }.into())
    })
}

fn pool(
    draft: &mut Draft,
    call: &Call,
    op: impl FnOnce(Window, bool) -> Result<Op, String>,
) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    if view.rank() == 5 {
        return volume::pool(draft, call, &view);
    }
    let (image, shown) = draft.image(&view)?;
    let kernel = call.ints("kernel_shape")?.ok_or("it has no kernel_shape")?;
    let axes = view.rank() - 2;
    let dims = draft.node_dims(image);
    let window = Window::of(call, &kernel, [dims[2], dims[3]], axes)?;
    let op = op(window, call.flag("ceil_mode", false)?)?;
    if window.is_point() {
        return Ok(vec![Value::Data(view)]);
    }
    let node = draft.add(op, &[image], vec![])?;
    Ok(vec![Value::Data(shown.of(node))])
}

pub(crate) fn global_average_pool(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    global_pool(draft, call, PoolKind::Avg)
}

pub(crate) fn global_max_pool(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    global_pool(draft, call, PoolKind::Max)
}

fn global_pool(draft: &mut Draft, call: &Call, kind: PoolKind) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    if view.rank() > 4 {
        let kind = if kind == PoolKind::Avg { ReduceKind::Mean } else { ReduceKind::Max };
        let axes: Vec<usize> = (2..view.rank()).collect();
        return Ok(vec![Value::Data(reduce_axes(draft, &view, kind, &axes)?)]);
    }
    let (image, shown) = draft.image(&view)?;
    let node = draft.add(GlobalPool { kind }, &[image], vec![])?;
    Ok(vec![Value::Data(shown.of(node))])
}

pub(crate) fn reduce(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let axes = reduced_axes(call, view.rank())?;
    let reduced = match call.node.op_type.as_str() {
        "ReduceMean" => reduce_axes(draft, &view, ReduceKind::Mean, &axes)?,
        "ReduceMax" => reduce_axes(draft, &view, ReduceKind::Max, &axes)?,
        "ReduceSum" => reduce_axes(draft, &view, ReduceKind::Sum, &axes)?,
        "ReduceProd" => axes.iter().try_fold(view, |product, &axis| product_along(draft, product, axis))?,
        "ReduceMin" => {
            let negated = activate(draft, &view, Activation::Scale { mul: -1.0, add: 0.0 })?;
            let largest = reduce_axes(draft, &negated, ReduceKind::Max, &axes)?;
            activate(draft, &largest, Activation::Scale { mul: -1.0, add: 0.0 })?
        }
        "ReduceL1" => {
            let absolute = activate(draft, &view, Activation::Abs)?;
            reduce_axes(draft, &absolute, ReduceKind::Sum, &axes)?
        }
        "ReduceLogSum" => {
            let sum = reduce_axes(draft, &view, ReduceKind::Sum, &axes)?;
            activate(draft, &sum, Activation::Log)?
        }
        // By differences from the largest, so that no power overflows.
        "ReduceLogSumExp" => {
            let largest = reduce_axes(draft, &view, ReduceKind::Max, &axes)?;
            let moved = elementwise::join(draft, BinaryKind::Sub, &view, &largest)?;
            let powers = activate(draft, &moved, Activation::Exp)?;
            let sum = reduce_axes(draft, &powers, ReduceKind::Sum, &axes)?;
            let log = activate(draft, &sum, Activation::Log)?;
            elementwise::join(draft, BinaryKind::Add, &log, &largest)?
        }
        name => {
            let squared = elementwise::join(draft, BinaryKind::Mul, &view, &view)?;
            let sum = reduce_axes(draft, &squared, ReduceKind::Sum, &axes)?;
            if name == "ReduceL2" { activate(draft, &sum, Activation::Sqrt)? } else { sum }
        }
    };
    Ok(vec![Value::Data(if call.flag("keepdims", true)? { reduced } else { reduced.without(&axes) })])
}

/// The product of all entries of an axis, by halves: as many products as the size has binary digits. An odd one out stands
/// behind the halves' product.
fn product_along(draft: &mut Draft, mut view: View, axis: usize) -> Result<View, String> {
    loop {
        let size = draft.dims(&view)[axis];
        let half = size / 2;
        if half == 0 {
            return Ok(view);
        }
        let first = shape::cut(draft, &view, axis, 0, half, 1)?;
        let second = shape::cut(draft, &view, axis, half, half, 1)?;
        let product = elementwise::join(draft, BinaryKind::Mul, &first, &second)?;
        view = match size % 2 {
            0 => product,
            _ => {
                let last = shape::cut(draft, &view, axis, size - 1, 1, 1)?;
                shape::join(draft, &[product, last], axis)?
            }
        };
    }
}

/// The value reduced over its own axes, which stay with size 1.
pub(crate) fn reduce_axes(draft: &mut Draft, view: &View, kind: ReduceKind, axes: &[usize]) -> Result<View, String> {
    let mut of_node: Vec<usize> = axes.iter().filter_map(|&axis| view.axes[axis]).collect();
    of_node.sort_unstable();
    let is_global = of_node == [2, 3] && draft.node_dims(view.node).len() == 4;
    match (of_node.is_empty(), kind) {
        (true, _) => Ok(view.clone()),
        (_, ReduceKind::Mean) if is_global => draft.map(GlobalPool { kind: PoolKind::Avg }, view, vec![]),
        (_, ReduceKind::Max) if is_global => draft.map(GlobalPool { kind: PoolKind::Max }, view, vec![]),
        _ => draft.map(Reduce { kind, axes: of_node, keepdims: true }, view, vec![]),
    }
}
