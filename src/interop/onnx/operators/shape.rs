//! Operators that move, cut, join and repeat values.

use super::{Results, elementwise, indices, one};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axes_as_listed, axis};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::geometry::{self, flatten_axis, target_dims};
use crate::interop::onnx::view::View;
use crate::ir::NodeId;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::pad::PadMode;
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use crate::ops::{Activate, ChannelShuffle, Op, Pad, PixelShuffle, PixelUnshuffle, Slice, Upsample};

/// Copies that joining may make of one value.
const MAX_COPIES: usize = 64;

pub(crate) fn identity(draft: &mut Draft, call: &Call) -> Results {
    if call.node.op_type == "Dropout" {
        let trains = call.known(2).ok().flatten().and_then(Array::scalar).is_some_and(|t| t != 0.0);
        if trains && call.known_scalar(1)?.unwrap_or(0.5) != 0.0 {
            return Err("it drops at random: export the model for inference".into());
        }
        call.only_first_output("its mask is not given out")?;
    }
    one(draft.view(call, 0)?)
}

pub(crate) fn transpose(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let perm = geometry::permutation(call, view.rank())?;
    one(view.transposed(&perm))
}

pub(crate) fn squeeze(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let (dropped, _) = geometry::squeezed(call, &draft.dims(&view))?;
    one(view.without(&dropped))
}

pub(crate) fn unsqueeze(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    one(view.with_new(&geometry::new_axes(call, view.rank())?))
}

pub(crate) fn flatten(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let dims = draft.dims(&view);
    let cut = flatten_axis(call, view.rank())?;
    to_dims(draft, &view, &[dims[..cut].iter().product(), dims[cut..].iter().product()])
}

pub(crate) fn reshape(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let to = call.ints_either("shape", 1)?.ok_or("it names no shape")?;
    let to = target_dims(&draft.dims(&view), &to, call.flag("allowzero", false)?)?;
    to_dims(draft, &view, &to)
}

pub(super) fn to_dims(draft: &mut Draft, view: &View, to: &[usize]) -> Results {
    one(reshaped(draft, view, to)?)
}

/// A view's elements under other sizes.
pub(super) fn reshaped(draft: &mut Draft, view: &View, to: &[usize]) -> Result<View, String> {
    if let Some(view) = view.resized(&draft.dims(view), to) {
        return Ok(view);
    }
    let node = draft.in_order(view)?;
    Ok(View::whole(draft.reshape(node, to)?, to.len()))
}

/// Channels to pixels, where a pixel's place is the slowest part of the channel's number.
fn depth_first(factor: usize) -> Vec<Op> {
    vec![ChannelShuffle { groups: factor * factor }.into(), PixelShuffle { factor }.into()]
}

pub(crate) fn depth_to_space(draft: &mut Draft, call: &Call) -> Results {
    let (mut node, factor) = block(draft, call)?;
    let steps = match call.string("mode", "DCR")?.as_str() {
        "DCR" => depth_first(factor),
        "CRD" => vec![PixelShuffle { factor }.into()],
        other => return Err(format!("mode {other} is none")),
    };
    for step in steps {
        node = draft.add(step, &[node], vec![])?;
    }
    one(View::whole(node, 4))
}

pub(crate) fn space_to_depth(draft: &mut Draft, call: &Call) -> Results {
    let (node, factor) = block(draft, call)?;
    let channels = draft.node_dims(node)[1];
    let mut result = draft.add(PixelUnshuffle { factor }, &[node], vec![])?;
    match call.string("mode", "DCR")?.as_str() {
        // A pixel's place is the slowest part of the channel's number.
        "DCR" => result = draft.add(ChannelShuffle { groups: channels }, &[result], vec![])?,
        "CRD" => {}
        other => return Err(format!("mode {other} is none")),
    }
    one(View::whole(result, 4))
}

fn block(draft: &mut Draft, call: &Call) -> Result<(NodeId, usize), String> {
    let view = draft.view(call, 0)?;
    let factor = usize::try_from(call.int("blocksize", 0)?).ok().filter(|&f| f > 0 && f < 1 << 16);
    let factor = factor.ok_or("its blocksize makes no sense")?;
    if view.rank() != 4 {
        return Err(format!("a value of {} axes, not four", view.rank()));
    }
    Ok((draft.in_order(&view)?, factor))
}

pub(crate) fn concat(draft: &mut Draft, call: &Call) -> Results {
    let views = (0..call.inputs.len()).map(|i| draft.view(call, i)).collect::<Result<Vec<_>, _>>()?;
    let first = views.first().ok_or("it has no input")?;
    let axis = axis(call.int("axis", 1)?, first.rank())?;
    one(join(draft, &views, axis)?)
}

/// The values one after the other along an axis of theirs.
pub(super) fn join(draft: &mut Draft, views: &[View], axis: usize) -> Result<View, String> {
    let first = &views[0];
    if views.len() == 1 {
        return Ok(first.clone());
    }
    let rank = draft.node_dims(first.node).len();
    if axis == 1 && views.iter().all(|view| is_scaled_channel(draft, view)) {
        draft.set_label("normalize".to_string());
    }
    let alike = views.iter().all(|v| v.axes == first.axes && draft.node_dims(v.node).len() == rank);
    if alike && let Some(of_node) = first.axes[axis] {
        let nodes = views.iter().map(|v| v.node).collect();
        return Ok(first.of(draft.concat(nodes, of_node)?));
    }
    let nodes = views.iter().map(|v| draft.in_order(v)).collect::<Result<Vec<_>, _>>()?;
    Ok(View::whole(draft.concat(nodes, axis)?, first.rank()))
}

/// Values side by side along a new first axis.
pub(crate) fn stacked(draft: &mut Draft, values: Vec<Value>) -> Result<Value, String> {
    let mut views = vec![];
    for value in values {
        views.push(match value {
            Value::Data(view) => view.with_new(&[0]),
            Value::Known(array) => draft.constant(&array)?.with_new(&[0]),
            Value::OnGrid(..) | Value::List(_) | Value::Missing => return Ok(Value::Missing),
        });
    }
    match views.is_empty() {
        true => Ok(Value::Missing),
        false => Ok(Value::Data(join(draft, &views, 0)?)),
    }
}

/// Channels with a factor or a term each: what joining them is for is a better name than the operator's.
fn is_scaled_channel(draft: &Draft, view: &View) -> bool {
    let is_scaled = matches!(draft.op(view.node), Some(Op::Activate(Activate { kind: Activation::Scale { .. } })));
    is_scaled && draft.dims(view).get(1) == Some(&1)
}

/// Elements `start, start + step, …` of an axis of the value.
pub(super) fn cut(
    draft: &mut Draft,
    view: &View,
    axis: usize,
    start: usize,
    count: usize,
    step: usize,
) -> Result<View, String> {
    let size = draft.dims(view)[axis];
    if count == 0 {
        return Err("a result without elements".into());
    }
    if start == 0 && count == size {
        return Ok(view.clone());
    }
    let end = start + (count - 1) * step + 1;
    let Some(of_node) = view.axes[axis] else { return Err("it cuts beyond an axis of size 1".into()) };
    let step = if count == 1 { 1 } else { step };
    draft.map(Slice { axis: of_node, start, end, step }, view, vec![])
}

pub(crate) fn split(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let axis = axis(call.int("axis", 0)?, view.rank())?;
    let mut start = 0;
    let mut results = vec![];
    for part in geometry::parts(call, draft.dims(&view)[axis])? {
        results.push(Value::Data(cut(draft, &view, axis, start, part, 1)?));
        start += part;
    }
    Ok(results)
}

pub(crate) fn slice(draft: &mut Draft, call: &Call) -> Results {
    let mut view = draft.view(call, 0)?;
    for c in geometry::cuts(call, &draft.dims(&view))? {
        view = match usize::try_from(c.step) {
            Ok(step) => cut(draft, &view, c.axis, c.start, c.count, step)?,
            Err(_) => {
                let step = usize::try_from(c.step.unsigned_abs()).unwrap_or(usize::MAX);
                let picks: Vec<usize> = (0..c.count).map(|i| c.start - i * step).collect();
                entries(draft, &view, c.axis, &picks)?
            }
        };
    }
    one(view)
}

/// The elements of an axis at the given places, in that order.
pub(super) fn entries(draft: &mut Draft, view: &View, axis: usize, picks: &[usize]) -> Result<View, String> {
    match runs(picks)[..] {
        [] => Err("a result without elements".into()),
        [(start, count)] => cut(draft, view, axis, start, count, 1),
        _ => indices::picked(draft, view, axis, picks),
    }
}

pub(crate) fn gather(draft: &mut Draft, call: &Call) -> Results {
    let (Some(Value::Data(view)), Some(Value::Known(_))) = (call.input(0).cloned(), call.input(1)) else {
        return indices::gather(draft, call);
    };
    let axis = axis(call.int("axis", 0)?, view.rank())?;
    let picks = geometry::picks(call, draft.dims(&view)[axis])?;
    let joined = entries(draft, &view, axis, &picks)?;
    // The axis becomes those of the indices; a single index has none.
    let indices = &call.need_known(1)?.dims;
    let dims = draft.dims(&joined);
    to_dims(draft, &joined, &[&dims[..axis], indices, &dims[axis + 1..]].concat())
}

/// Parts by tuples of indices: single ones along the first axis, if they are known, are a list of entries.
pub(crate) fn gather_nd(draft: &mut Draft, call: &Call) -> Results {
    if let (Some(Value::Data(view)), Some(Value::Known(indices)), 0) =
        (call.input(0), call.input(1), call.int("batch_dims", 0)?)
        && let (Some(&1), Some(list)) = (indices.dims.last(), indices.as_ints())
        && let Some(&size) = draft.dims(view).first()
    {
        let picks = geometry::places(list, size)?;
        let of_indices = &indices.dims[..indices.dims.len() - 1];
        let picked = entries(draft, view, 0, &picks)?;
        let dims = draft.dims(&picked);
        return to_dims(draft, &picked, &[of_indices, &dims[1..]].concat());
    }
    indices::gather_nd(draft, call)
}

/// Runs of indices that follow each other: start and length.
fn runs(picks: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = vec![];
    for &pick in picks {
        match runs.last_mut() {
            Some((start, count)) if *start + *count == pick => *count += 1,
            _ => runs.push((pick, 1)),
        }
    }
    runs
}

pub(crate) fn expand(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let to: Option<Vec<usize>> =
        call.known_ints(1)?.ok_or("input 1 is missing")?.iter().map(|&d| d.try_into().ok()).collect();
    let dims = geometry::broadcast_dims(&draft.dims(&view), &to.ok_or("a size is negative")?)?;
    let view = view.with_new(&(0..dims.len() - view.rank()).collect::<Vec<_>>());
    let counts: Vec<usize> =
        draft.dims(&view).iter().zip(&dims).map(|(&from, &to)| if from == to { 1 } else { to }).collect();
    if let Some(view) = spread(draft, &view, &counts)? {
        return one(view);
    }
    if counts.iter().all(|&count| count <= MAX_COPIES) {
        return one(copies(draft, view, &counts)?);
    }
    draft.reserve(counts.iter().fold(1usize, |p, &c| p.saturating_mul(c)))?;
    let ones = draft.constant(&Array::floats(counts.clone(), vec![1.0; counts.iter().product()]))?;
    one(elementwise::join(draft, BinaryKind::Mul, &view, &ones)?)
}

/// An image of one pixel, row or column, as large as wanted.
fn spread(draft: &mut Draft, view: &View, counts: &[usize]) -> Result<Option<View>, String> {
    let image = draft.node_dims(view.node);
    let Some(mut size) = image.get(2..4).filter(|_| image.len() == 4).map(|s| [s[0], s[1]]) else { return Ok(None) };
    let changed: Vec<usize> = (0..counts.len()).filter(|&axis| counts[axis] > 1).collect();
    for &axis in &changed {
        match view.axes[axis] {
            Some(of_image @ (2 | 3)) => size[of_image - 2] = counts[axis],
            _ => return Ok(None),
        }
    }
    if changed.is_empty() {
        return Ok(None);
    }
    let op = Upsample {
        to: ResizeTo::Size(size),
        mode: Interpolation::Nearest,
        coordinates: Coordinates::Usual,
        rounding: Rounding::Floor,
    };
    draft.map(op, view, vec![]).map(Some)
}

pub(crate) fn tile(draft: &mut Draft, call: &Call) -> Results {
    let view = draft.view(call, 0)?;
    let counts = geometry::repeats(call, view.rank())?;
    one(copies(draft, view, &counts)?)
}

pub(super) fn copies(draft: &mut Draft, mut view: View, counts: &[usize]) -> Result<View, String> {
    for (axis, &count) in counts.iter().enumerate() {
        if count == 0 || count > MAX_COPIES {
            return Err(format!("{count} copies along axis {axis}: netc joins up to {MAX_COPIES}"));
        }
        if count > 1 {
            if view.axes[axis].is_none() {
                view = View::whole(draft.in_order(&view)?, view.rank());
            }
            view = join(draft, &vec![view.clone(); count], axis)?;
        }
    }
    Ok(view)
}

pub(crate) fn pad(draft: &mut Draft, call: &Call) -> Results {
    let mut view = draft.view(call, 0)?;
    // The first operator set calls them paddings.
    let named = if call.opset < 2 { "paddings" } else { "pads" };
    let list = call.ints_either(named, 1)?.ok_or("it names no pads")?;
    let listed = match call.known_ints(3)? {
        Some(list) => axes_as_listed(&list, view.rank())?,
        None => (0..view.rank()).collect(),
    };
    if list.len() != 2 * listed.len() {
        return Err(format!("its {} pads do not fit {} axes", list.len(), listed.len()));
    }
    let (mode, value) = (call.string("mode", "constant")?, call.known_scalar(2)?);
    let value = value.map_or_else(|| call.float("value", 0.0), Ok)?;
    let mut sides = vec![(0usize, 0usize); view.rank()];
    for (i, &axis) in listed.iter().enumerate() {
        let (before, after) = (list[i], list[i + listed.len()]);
        let size = draft.dims(&view)[axis];
        let cuts = [before, after].map(|p| p.min(0).unsigned_abs() as usize);
        let left = size.checked_sub(cuts[0]).and_then(|s| s.checked_sub(cuts[1]));
        view = cut(draft, &view, axis, cuts[0], left.ok_or("it cuts away everything")?, 1)?;
        sides[axis] = (before.max(0) as usize, after.max(0) as usize);
    }
    let mode = match mode.as_str() {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => return one(wrapped(draft, view, &sides)?),
        other => return Err(format!("mode {other} is none")),
    };
    one(padded(draft, view, sides, mode, value)?)
}

/// Around each axis, its elements go on from the other end.
fn wrapped(draft: &mut Draft, mut view: View, sides: &[(usize, usize)]) -> Result<View, String> {
    for (axis, &side) in sides.iter().enumerate().filter(|(_, side)| **side != (0, 0)) {
        let size = draft.dims(&view)[axis];
        let first = size - side.0 % size;
        view = with_entries(draft, &view, axis, side, |i| (first + i) % size)?;
    }
    Ok(view)
}

/// More entries on both sides of an axis, each of them one that it has: `source` says which.
fn with_entries(
    draft: &mut Draft,
    view: &View,
    axis: usize,
    (before, after): (usize, usize),
    source: impl Fn(usize) -> usize,
) -> Result<View, String> {
    let size = draft.dims(view)[axis];
    let count = before.checked_add(after).and_then(|more| more.checked_add(size)).ok_or("its pads overflow")?;
    draft.reserve(count)?;
    entries(draft, view, axis, &(0..count).map(source).collect::<Vec<_>>())
}

/// As `with_entries`, of a mode that takes them from the value itself.
fn mirrored(draft: &mut Draft, view: &View, axis: usize, side: (usize, usize), mode: PadMode) -> Result<View, String> {
    let size = draft.dims(view)[axis];
    if mode == PadMode::Reflect && side.0.max(side.1) >= size {
        return Err(format!("it mirrors {} entries of axis {axis}, which has {size}", side.0.max(side.1)));
    }
    let source = |at| Pad::source(mode, at, side.0, size).expect("a mode without a constant has a source everywhere");
    with_entries(draft, view, axis, side, source)
}

pub(super) fn padded(
    draft: &mut Draft,
    mut view: View,
    mut sides: Vec<(usize, usize)>,
    mode: PadMode,
    value: f32,
) -> Result<View, String> {
    // An image that enters with channels last, as TensorFlow has it.
    let of_last = |sides: &[(usize, usize)]| sides[1] != (0, 0) && sides[2] != (0, 0) && sides[3] == (0, 0);
    if view.rank() == 4 && of_last(&sides) && view.is_whole(draft.node_dims(view.node).len()) {
        let node = draft.in_order(&view.transposed(&[0, 3, 1, 2]))?;
        view = View { node, axes: [0, 2, 3, 1].map(Some).to_vec() };
    }
    // Channels and the like: something beside the value. Rows of numbers are images one pixel high.
    for (axis, side) in sides.iter_mut().enumerate() {
        let is_spatial = matches!(view.axes[axis], Some(2 | 3)) && draft.node_dims(view.node).len() == 4;
        let is_last = match view.rank() {
            2 => axis == 1 && mode != PadMode::Constant,
            rank => axis + 2 >= rank && (3..=4).contains(&rank) && axis >= 2,
        };
        if *side == (0, 0) || is_spatial || is_last {
            continue;
        }
        let side = std::mem::take(side);
        view = match mode {
            PadMode::Constant => constant_beside(draft, view, axis, side, value)?,
            PadMode::Reflect | PadMode::Edge => mirrored(draft, &view, axis, side, mode)?,
        };
    }
    if sides.iter().all(|s| *s == (0, 0)) {
        return Ok(view);
    }
    let spatial = |view: &View| sides.iter().zip(&view.axes).all(|(s, a)| *s == (0, 0) || matches!(a, Some(2 | 3)));
    let (node, shown) = match draft.node_dims(view.node).len() {
        4 if spatial(&view) => (view.node, view),
        _ if view.rank() == 2 => {
            let node = draft.in_order(&view.with_new(&[1, 2]))?;
            (node, View { node, axes: vec![Some(0), Some(3)] })
        }
        _ => draft.image(&view)?,
    };
    let mut pads = [0; 4];
    for (side, axis) in sides.iter().zip(&shown.axes) {
        if let Some(axis @ (2 | 3)) = axis {
            (pads[axis - 2], pads[*axis]) = *side;
        }
    }
    let node = draft.add(Pad { pads, mode, value }, &[node], vec![])?;
    Ok(View { node, ..shown })
}

fn constant_beside(
    draft: &mut Draft,
    view: View,
    axis: usize,
    (before, after): (usize, usize),
    value: f32,
) -> Result<View, String> {
    let node = draft.in_order(&view)?;
    let dims = draft.node_dims(node);
    let block = |draft: &mut Draft, size: usize| {
        let mut dims = dims.clone();
        dims[axis] = size;
        let count = dims.iter().fold(1usize, |p, &d| p.saturating_mul(d));
        draft.reserve(count)?;
        draft.constant(&Array::floats(dims, vec![value; count]))
    };
    let mut parts = vec![];
    if before > 0 {
        parts.push(block(draft, before)?);
    }
    parts.push(View::whole(node, view.rank()));
    if after > 0 {
        parts.push(block(draft, after)?);
    }
    join(draft, &parts, axis)
}
