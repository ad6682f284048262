//! Convolutions and pools over volumes `[N, C, D, H, W]`.

use super::kernel::{check_channels, groups_of, halves, kernel_of};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::pool_nd::WindowPool;
use crate::ops::{ConvNd, PoolNd};

/// Spatial axes.
const AXES: usize = 3;

/// A window over volumes.
struct Window {
    stride: Vec<usize>,
    dilation: Vec<usize>,
    /// Before each axis, then behind each.
    pad: Vec<usize>,
}

fn counts(list: &[i64], due: usize, what: &str) -> Result<Vec<usize>, String> {
    let counts: Option<Vec<usize>> = list.iter().map(|&v| v.try_into().ok()).collect();
    counts.filter(|c| c.len() == due).ok_or_else(|| format!("{what} {list:?} does not fit a volume"))
}

impl Window {
    fn of(call: &Call, kernel: &[usize], size: &[usize]) -> Result<Self, String> {
        let optional = |name: &str| match call.ints(name)? {
            None => Ok(vec![1; AXES]),
            Some(list) => counts(&list, AXES, name),
        };
        let (stride, dilation) = (optional("strides")?, optional("dilations")?);
        if [kernel, &stride, &dilation].concat().contains(&0) {
            return Err("kernel, strides and dilations must be at least 1".into());
        }
        let same = |odd_at_start: bool| {
            let sides = (0..AXES).map(|axis| {
                let extent = (kernel[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
                let covered = (size[axis].div_ceil(stride[axis]) - 1).saturating_mul(stride[axis]);
                halves(covered.saturating_add(extent).saturating_sub(size[axis]), odd_at_start)
            });
            let (before, after): (Vec<usize>, Vec<usize>) = sides.unzip();
            [before, after].concat()
        };
        let pad = match call.string("auto_pad", "NOTSET")?.as_str() {
            "NOTSET" => call.ints("pads")?.map_or(Ok(vec![0; 2 * AXES]), |list| counts(&list, 2 * AXES, "padding"))?,
            "VALID" => vec![0; 2 * AXES],
            "SAME_UPPER" => same(false),
            "SAME_LOWER" => same(true),
            other => return Err(format!("auto_pad {other} is none")),
        };
        Ok(Self { stride, dilation, pad })
    }
}

pub(super) fn conv(
    draft: &mut Draft,
    call: &Call,
    view: &View,
    weight: &Array,
    bias: Option<&Array>,
    transposed: bool,
) -> Result<Vec<Value>, String> {
    let kernel = counts(&kernel_of(weight, view.rank(), call)?, AXES, "kernel")?;
    let node = draft.in_order(view)?;
    let dims = draft.node_dims(node);
    let groups = groups_of(call)?;
    let mut window = Window::of(call, &kernel, &dims[2..])?;
    let (channels, due) = match transposed {
        false => (weight.dims[0], weight.dims[1].saturating_mul(groups)),
        true => (weight.dims[1].saturating_mul(groups), weight.dims[0]),
    };
    check_channels(weight, due, dims[1])?;
    let mut output_pad = match call.ints("output_padding")? {
        Some(list) => counts(&list, AXES, "output_padding")?,
        None => vec![0; AXES],
    };
    let auto_pad = call.string("auto_pad", "NOTSET")?;
    let wanted = match call.ints("output_shape")? {
        // Some exporters give the batch and the channels too.
        Some(list) => Some(counts(&list[list.len().saturating_sub(AXES)..], AXES, "output_shape")?),
        None if transposed && auto_pad.starts_with("SAME") => {
            Some((0..AXES).map(|i| dims[i + 2].saturating_mul(window.stride[i])).collect())
        }
        None => None,
    };
    for (axis, &wanted) in wanted.iter().flatten().enumerate() {
        let extent = (kernel[axis] - 1).saturating_mul(window.dilation[axis]).saturating_add(1);
        let full = (dims[axis + 2] - 1).saturating_mul(window.stride[axis]).saturating_add(extent);
        let full = full.saturating_add(output_pad[axis]);
        // What is missing is added at the end, what is too much cut off.
        output_pad[axis] += wanted.saturating_sub(full);
        let cut = halves(full.saturating_sub(wanted), auto_pad != "SAME_UPPER");
        (window.pad[axis], window.pad[axis + AXES]) = cut;
    }
    let Window { stride, dilation, pad } = window;
    let op = ConvNd { channels, kernel, stride, pad, dilation, groups, bias: bias.is_some(), transposed, output_pad };
    let weights = [Some(weight), bias].into_iter().flatten().map(Array::to_values).collect();
    Ok(vec![Value::Data(View::whole(draft.add(op, &[node], weights)?, view.rank()))])
}

pub(super) fn pool(draft: &mut Draft, call: &Call, view: &View) -> Result<Vec<Value>, String> {
    let kernel = call.ints("kernel_shape")?.ok_or("it has no kernel_shape")?;
    let kernel = counts(&kernel, AXES, "kernel")?;
    let dims = draft.dims(view);
    let Window { stride, dilation, pad } = Window::of(call, &kernel, &dims[2..])?;
    let ceil = call.flag("ceil_mode", false)?;
    let padded = pad.iter().any(|&p| p > 0);
    let kind = match call.node.op_type.as_str() {
        "MaxPool" => WindowPool::Max,
        // Without padding there is nothing to count: the common spelling is the language's default.
        _ if call.flag("count_include_pad", false)? || !padded => WindowPool::AvgWithPad,
        _ => WindowPool::Avg,
    };
    if kernel.iter().chain(&stride).all(|&size| size == 1) && !padded {
        return Ok(vec![Value::Data(view.clone())]);
    }
    let node = draft.in_order(view)?;
    let node = draft.add(PoolNd { kind, kernel, stride, pad, dilation, ceil }, &[node], vec![])?;
    Ok(vec![Value::Data(View::whole(node, view.rank()))])
}
