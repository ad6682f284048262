//! Convolutions, and the geometry of windows that pooling shares.

use super::volume;
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ir::NodeId;
use crate::ops::pad::PadMode;
use crate::ops::{Conv2d, Conv2dW8, ConvTranspose2d, ConvTranspose2dW8, DynamicConv2d, Op};
use crate::weights::Values;

/// A window over images; a one-dimensional one is one pixel high.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    /// Top, left, bottom, right.
    pub pad: [usize; 4],
}

/// Sizes of height and width from the list that ONNX has, one or two long.
fn pair(list: &[i64], axes: usize, what: &str) -> Result<[usize; 2], String> {
    let sizes: Option<Vec<usize>> = list.iter().map(|&v| v.try_into().ok()).collect();
    match (sizes.as_deref(), axes) {
        (Some(&[w]), 1) => Ok([1, w]),
        (Some(&[h, w]), 2) => Ok([h, w]),
        _ => Err(format!("{what} {list:?} does not fit {axes} axes")),
    }
}

/// Padding: all starts, then all ends.
fn sides(list: &[i64], axes: usize) -> Result<[usize; 4], String> {
    let sizes: Option<Vec<usize>> = list.iter().map(|&v| v.try_into().ok()).collect();
    match (sizes.as_deref(), axes) {
        (Some(&[left, right]), 1) => Ok([0, left, 0, right]),
        (Some(&[top, left, bottom, right]), 2) => Ok([top, left, bottom, right]),
        (None, _) => Err(format!("padding {list:?} is negative")),
        _ => Err(format!("padding {list:?} does not fit {axes} axes")),
    }
}

impl Window {
    /// The window of a node over images of the given size, of `axes` spatial axes in the model.
    pub(crate) fn of(call: &Call, kernel: &[i64], size: [usize; 2], axes: usize) -> Result<Self, String> {
        let kernel = pair(kernel, axes, "kernel")?;
        let optional = |name: &str| match call.ints(name)? {
            None => Ok([1, 1]),
            Some(list) => pair(&list, axes, name),
        };
        let (stride, dilation) = (optional("strides")?, optional("dilations")?);
        let mut window = Self { kernel, stride, dilation, pad: [0; 4] };
        if kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) {
            return Err("kernel, strides and dilations must be at least 1".into());
        }
        window.pad = match call.string("auto_pad", "NOTSET")?.as_str() {
            "NOTSET" => call.ints("pads")?.map_or(Ok([0; 4]), |list| sides(&list, axes))?,
            "VALID" => [0; 4],
            "SAME_UPPER" => window.same(size, false)?,
            "SAME_LOWER" => window.same(size, true)?,
            other => return Err(format!("auto_pad {other} is none")),
        };
        Ok(window)
    }

    /// Shows every pixel alone, where it is: an adaptive pool to the image's own size is exported so.
    pub(crate) fn is_point(&self) -> bool {
        (self.kernel, self.stride, self.pad) == ([1, 1], [1, 1], [0; 4])
    }

    /// Extent of the window with its dilation.
    fn extent(&self, axis: usize) -> Result<usize, String> {
        let gaps = (self.kernel[axis] - 1).checked_mul(self.dilation[axis]);
        gaps.and_then(|g| g.checked_add(1)).ok_or_else(|| "the window overflows".into())
    }

    /// Padding that makes the output `⌈size / stride⌉`, the odd pixel at the end or at the start.
    fn same(&self, size: [usize; 2], odd_at_start: bool) -> Result<[usize; 4], String> {
        let mut pad = [0; 4];
        for axis in 0..2 {
            let covered = (size[axis].div_ceil(self.stride[axis]) - 1).saturating_mul(self.stride[axis]);
            let total = covered.saturating_add(self.extent(axis)?).saturating_sub(size[axis]);
            (pad[axis], pad[axis + 2]) = halves(total, odd_at_start);
        }
        Ok(pad)
    }
}

pub(super) fn halves(total: usize, odd_at_start: bool) -> (usize, usize) {
    if odd_at_start { (total.div_ceil(2), total / 2) } else { (total / 2, total.div_ceil(2)) }
}

/// The kernel's sizes, of weights with as many axes as their input.
pub(super) fn kernel_of(weight: &Array, rank: usize, call: &Call) -> Result<Vec<i64>, String> {
    let kernel = weight.dims.get(2..).filter(|_| weight.rank() == rank);
    let kernel = kernel.ok_or_else(|| format!("its weights have {} axes, its input {rank}", weight.rank()))?;
    let kernel: Vec<i64> = kernel.iter().map(|&d| d as i64).collect();
    match call.ints("kernel_shape")? {
        Some(stated) if stated != kernel => {
            Err(format!("kernel_shape {stated:?} is not that of its weights, {kernel:?}"))
        }
        _ => Ok(kernel),
    }
}

/// Its weights and its bias, where these are known.
fn weights_of<'c>(call: &'c Call) -> Option<(&'c Array, Option<&'c Array>)> {
    match (call.input(1), call.input(2)) {
        (Some(Value::Known(weight)), Some(Value::Known(bias))) => Some((weight, Some(bias))),
        (Some(Value::Known(weight)), None) => Some((weight, None)),
        _ => None,
    }
}

/// A convolution whose weight or bias another part of the network computes.
fn dynamic(draft: &mut Draft, call: &Call, transposed: bool) -> Result<Vec<Value>, String> {
    let (view, weight) = (draft.view(call, 0)?, draft.view(call, 1)?);
    let (image, shown) = draft.image(&view)?;
    let dims = draft.dims(&weight);
    if dims.len() != view.rank() {
        return Err(format!("its weights have {} axes, its input {}", dims.len(), view.rank()));
    }
    let kernel: Vec<i64> = dims[2..].iter().map(|&d| d as i64).collect();
    call.ints("kernel_shape")?;
    let sizes = draft.node_dims(image);
    let (window, output_pad) = match transposed {
        false => (Window::of(call, &kernel, [sizes[2], sizes[3]], kernel.len())?, [0, 0]),
        true => transposed_window(call, &kernel, [sizes[2], sizes[3]])?,
    };
    // One-dimensional kernels are one pixel high.
    let weight = if dims.len() == 3 { weight.with_new(&[2]) } else { weight };
    let mut operands = vec![image, draft.in_order(&weight)?];
    if call.input(2).is_some() {
        let bias = draft.view(call, 2)?;
        operands.push(draft.in_order(&bias)?);
    }
    let Window { stride, pad, dilation, .. } = window;
    let op = DynamicConv2d { stride, pad, dilation, groups: groups_of(call)?, transposed, output_pad };
    Ok(vec![Value::Data(shown.of(draft.add(op, &operands, vec![])?))])
}

pub(super) fn groups_of(call: &Call) -> Result<usize, String> {
    usize::try_from(call.int("group", 1)?).ok().filter(|&g| g > 0).ok_or_else(|| "group is below 1".into())
}

pub(crate) fn conv(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let Some((weight, bias)) = weights_of(call) else { return dynamic(draft, call, false) };
    if view.rank() == 5 {
        return volume::conv(draft, call, &view, weight, bias, false);
    }
    let (mut image, shown) = draft.image(&view)?;
    let kernel = kernel_of(weight, view.rank(), call)?;
    let dims = draft.node_dims(image);
    let mut window = Window::of(call, &kernel, [dims[2], dims[3]], kernel.len())?;
    if call.is_only_user(0)
        && call.string("auto_pad", "NOTSET")? != "SAME_UPPER"
        && call.string("auto_pad", "")? != "SAME_LOWER"
    {
        image = absorb_padding(draft, image, &mut window);
    }
    let groups = groups_of(call)?;
    check_channels(weight, weight.dims[1].saturating_mul(groups), dims[1])?;
    let op = Conv2d {
        channels: weight.dims[0],
        kernel: window.kernel,
        stride: window.stride,
        pad: window.pad,
        dilation: window.dilation,
        groups,
        bias: bias.is_some(),
        epilogue: vec![],
    };
    match weight.whole_weight(0) {
        Some((bits, whole)) => add_whole(draft, Conv2dW8 { of_reals: op, bits }, &shown.of(image), whole, bias),
        None => add(draft, op, &shown.of(image), [Some(weight), bias]),
    }
}

/// A convolution whose weight is kept in few bits, with its scales.
fn add_whole(
    draft: &mut Draft,
    op: impl Into<Op>,
    image: &View,
    weight: Vec<Values>,
    bias: Option<&Array>,
) -> Result<Vec<Value>, String> {
    let weights = weight.into_iter().chain(bias.map(Array::to_values)).collect();
    Ok(vec![Value::Data(draft.map(op, image, weights)?)])
}

/// A convolution of the image that the view shows.
fn add(draft: &mut Draft, op: impl Into<Op>, image: &View, weights: [Option<&Array>; 2]) -> Result<Vec<Value>, String> {
    let weights = weights.into_iter().flatten().map(Array::to_values).collect();
    Ok(vec![Value::Data(draft.map(op, image, weights)?)])
}

pub(super) fn check_channels(weight: &Array, due: usize, found: usize) -> Result<(), String> {
    match due == found {
        true => Ok(()),
        false => Err(format!("weights of sizes {:?} take {due} channels, its input has {found}", weight.dims)),
    }
}

/// A border of zeros that only this convolution reads is its own padding.
fn absorb_padding(draft: &Draft, image: NodeId, window: &mut Window) -> NodeId {
    match draft.op(image) {
        Some(Op::Pad(pad)) if pad.mode == PadMode::Constant && pad.value == 0.0 && draft.is_unread(image) => {
            window.pad = std::array::from_fn(|side| window.pad[side].saturating_add(pad.pads[side]));
            draft.operands(image)[0]
        }
        _ => image,
    }
}

pub(crate) fn conv_transpose(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let Some((weight, bias)) = weights_of(call) else { return dynamic(draft, call, true) };
    if view.rank() == 5 {
        return volume::conv(draft, call, &view, weight, bias, true);
    }
    let (image, shown) = draft.image(&view)?;
    let kernel = kernel_of(weight, view.rank(), call)?;
    let dims = draft.node_dims(image);
    let groups = groups_of(call)?;
    check_channels(weight, weight.dims[0], dims[1])?;
    let (window, output_pad) = transposed_window(call, &kernel, [dims[2], dims[3]])?;
    let op = ConvTranspose2d {
        channels: weight.dims[1].checked_mul(groups).ok_or("its channels overflow")?,
        kernel: window.kernel,
        stride: window.stride,
        pad: window.pad,
        output_pad,
        dilation: window.dilation,
        groups,
        bias: bias.is_some(),
        epilogue: vec![],
    };
    // Axis 1 of the weight counts the output channels of one group.
    match weight.whole_weight(1).filter(|_| groups == 1) {
        Some((bits, whole)) => {
            add_whole(draft, ConvTranspose2dW8 { of_reals: op, bits }, &shown.of(image), whole, bias)
        }
        None => add(draft, op, &shown.of(image), [Some(weight), bias]),
    }
}

/// The window and the output padding, where the model states them or the output's size.
fn transposed_window(call: &Call, kernel: &[i64], size: [usize; 2]) -> Result<(Window, [usize; 2]), String> {
    let axes = kernel.len();
    let auto_pad = call.string("auto_pad", "NOTSET")?;
    let mut window = Window::of(call, kernel, size, axes)?;
    let mut output_pad = match call.ints("output_padding")? {
        None => [0, 0],
        // A one-dimensional output is one pixel high.
        Some(list) => pair(&list, axes, "output_padding").map(|p| if axes == 1 { [0, p[1]] } else { p })?,
    };
    let wanted = match call.ints("output_shape")? {
        // Some exporters give the batch and the channels too.
        Some(list) => Some(pair(&list[list.len().saturating_sub(axes)..], axes, "output_shape")?),
        None if auto_pad.starts_with("SAME") => Some(std::array::from_fn(|i| size[i].saturating_mul(window.stride[i]))),
        None => None,
    };
    let Some(wanted) = wanted else { return Ok((window, output_pad)) };
    for axis in 0..2 {
        let full = (size[axis] - 1).checked_mul(window.stride[axis]);
        let full = full.and_then(|f| f.checked_add(window.extent(axis).ok()?)?.checked_add(output_pad[axis]));
        let full = full.ok_or("its output overflows")?;
        // What is missing is added at the end, what is too much cut off.
        output_pad[axis] += wanted[axis].saturating_sub(full);
        let odd_at_start = auto_pad != "SAME_UPPER";
        (window.pad[axis], window.pad[axis + 2]) = halves(full.saturating_sub(wanted[axis]), odd_at_start);
    }
    Ok((window, output_pad))
}

/// Columns of windows added up where they overlap: a transposed convolution of each channel by itself, whose filters have
/// 1 at the place of the window that they are of.
pub(crate) fn columns_to_image(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let sizes = |index: usize| call.known_ints(index)?.ok_or_else(|| format!("input {index} is missing"));
    let (image, kernel) = (pair(&sizes(1)?, 2, "image")?, sizes(2)?);
    let window = Window::of(call, &kernel, image, 2)?;
    let [taps_down, taps_across] = window.kernel;
    let taps = taps_down.checked_mul(taps_across).ok_or("its window overflows")?;
    let &[batch, rows, columns] = draft.dims(&view).as_slice() else {
        return Err("a value of other than 3 axes".into());
    };
    let mut windows = [0; 2];
    let mut output_pad = [0; 2];
    for axis in 0..2 {
        let extent = (window.kernel[axis] - 1).checked_mul(window.dilation[axis]).ok_or("its window overflows")?;
        let padded = image[axis].checked_add(window.pad[axis]).and_then(|size| size.checked_add(window.pad[axis + 2]));
        let room = padded.and_then(|size| size.checked_sub(extent + 1)).ok_or("its window is larger than the image")?;
        (windows[axis], output_pad[axis]) = (room / window.stride[axis] + 1, room % window.stride[axis]);
    }
    if !rows.is_multiple_of(taps) || windows[0].checked_mul(windows[1]) != Some(columns) {
        return Err(format!("{rows} rows of {columns} columns do not fit windows of {taps} in an image of {image:?}"));
    }
    let channels = rows / taps;
    draft.reserve(rows.saturating_mul(taps))?;
    let node = draft.in_order(&view)?;
    let node = draft.reshape(node, &[batch, rows, windows[0], windows[1]])?;
    let one_each = (0..rows * taps).map(|i| if i % taps == i / taps % taps { 1.0 } else { 0.0 }).collect();
    let weight = Array::floats([rows, 1, taps_down, taps_across], one_each);
    let op = ConvTranspose2d {
        channels,
        kernel: window.kernel,
        stride: window.stride,
        pad: window.pad,
        output_pad,
        dilation: window.dilation,
        groups: channels,
        bias: false,
        epilogue: vec![],
    };
    add(draft, op, &View::whole(node, 4), [Some(&weight), None])
}
