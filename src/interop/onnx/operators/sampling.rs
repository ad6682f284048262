//! Operators that read images at computed positions.

use super::conv::Window;
use super::elementwise::{activate, join};
use super::kernel::{groups_of, kernel_of};
use super::packed::size;
use super::shape::cut;
use super::{Results, one, positions};
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::activation::Activation;
use crate::ops::attributes::AttributeValue;
use crate::ops::binary::BinaryKind;
use crate::ops::grid_sample::{Beyond, GridCoordinates, Sampling};
use crate::ops::pad::PadMode;
use crate::ops::roi_align::RoiMode;
use crate::ops::{DeformConv2d, GridSample, MatMul, Pad, RoiAlign, RoiPool};

pub(crate) fn grid_sample(draft: &mut Draft, call: &Call) -> Results {
    let (x, grid) = (draft.view(call, 0)?, draft.view(call, 1)?);
    if !matches!(x.rank(), 4 | 5) || grid.rank() != x.rank() {
        return Err(format!("a value of {} axes; netc samples images [N, C, H, W] and volumes", x.rank()));
    }
    let mode = match call.string("mode", "linear")?.as_str() {
        "nearest" => Sampling::Nearest,
        "linear" | "bilinear" => Sampling::Bilinear,
        "cubic" | "bicubic" => Sampling::Bicubic,
        other => return Err(format!("mode {other} is none")),
    };
    let beyond = match call.string("padding_mode", "zeros")?.as_str() {
        "zeros" => Beyond::Zeros,
        "border" => Beyond::Border,
        "reflection" => Beyond::Reflection,
        other => return Err(format!("padding_mode {other} is none")),
    };
    let coordinates = match call.flag("align_corners", false)? {
        true => GridCoordinates::AlignCorners,
        false => GridCoordinates::HalfPixel,
    };
    let op = GridSample { mode, beyond, coordinates };
    if x.rank() == 5 {
        return volumes(draft, &x, &grid, &op);
    }
    let operands = [draft.in_order(&x)?, draft.in_order(&grid)?];
    let node = draft.add(op, &operands, vec![])?;
    one(View::whole(node, 4))
}

/// Volumes at places of a column, a row and a slice each: `[N, C, D, H, W], [N, D', H', W', 3] → [N, C, D', H', W']`.
///
/// The rows of all slices stand under one another as one image. Of that, places read whole rows, so that single precision
/// loses nothing of where they are between two; they are mixed by row and by slice afterwards. Zeros around the volume are
/// a row and a slice more on each side.
fn volumes(draft: &mut Draft, x: &View, grid: &View, op: &GridSample) -> Results {
    let is_bordered = op.beyond == Beyond::Border;
    if op.mode == Sampling::Bicubic || !(is_bordered || op.beyond == Beyond::Zeros) {
        return Err("volumes by cubic sampling or mirrored at their borders".into());
    }
    let (sizes, places) = (draft.dims(x), draft.dims(grid));
    let (&[n, c, d, h, w], &[m, deep, high, wide, 3]) = (sizes.as_slice(), places.as_slice()) else {
        return Err(format!("places of sizes {places:?} for volumes of {sizes:?}"));
    };
    if (d + 2).saturating_mul(h + 2) > positions::MOST {
        return Err(format!("volumes of {d} slices of {h} rows; netc counts up to {} rows", positions::MOST));
    }
    let node = draft.in_order(x)?;
    let (image, border) = match is_bordered {
        true => (draft.reshape(node, &[n, c, d * h, w])?, 0),
        false => {
            let zeros = |draft: &mut Draft, node| {
                let pads = [1, 0, 1, 0];
                draft.add(Pad { pads, mode: PadMode::Constant, value: 0.0 }, &[node], vec![])
            };
            let node = draft.reshape(node, &[n, c * d, h, w])?;
            let node = zeros(draft, node)?;
            let node = draft.reshape(node, &[n, c, d, (h + 2) * w])?;
            let node = zeros(draft, node)?;
            (draft.reshape(node, &[n, c, (d + 2) * (h + 2), w])?, 1)
        }
    };
    let grid = draft.in_order(grid)?;
    let grid = View::whole(draft.reshape(grid, &[m, deep * high, wide, 3])?, 4);
    let corners = op.coordinates == GridCoordinates::AlignCorners;
    // A coordinate in pixels, counted from the border on; -1 and 1 are the ends of the axis.
    let pixels = |draft: &mut Draft, index: usize, size: usize| -> Result<View, String> {
        let own = cut(draft, &grid, 3, index, 1, 1)?;
        let half = if corners { (size - 1) as f32 / 2.0 } else { size as f32 / 2.0 };
        activate(draft, &own, Activation::Scale { mul: half, add: (size - 1) as f32 / 2.0 })
    };
    let within = |draft: &mut Draft, index: usize, size: usize| -> Result<View, String> {
        let mut own = pixels(draft, index, size)?;
        // Before the border is counted, which would make an even place of an odd one.
        if op.mode == Sampling::Nearest {
            own = activate(draft, &own, Activation::Round)?;
        }
        let moved = activate(draft, &own, Activation::Scale { mul: 1.0, add: border as f32 })?;
        activate(draft, &moved, Activation::Clip { min: 0.0, max: (size - 1 + 2 * border) as f32 })
    };
    let (column, row, slice) = (pixels(draft, 0, w)?, within(draft, 1, h)?, within(draft, 2, d)?);
    let (last_row, last_slice) = (h - 1 + 2 * border, d - 1 + 2 * border);
    let read = |draft: &mut Draft, slice: &View, row: &View| -> Result<View, String> {
        let first = activate(draft, slice, Activation::Scale { mul: (last_row + 1) as f32, add: 0.0 })?;
        let place = join(draft, BinaryKind::Add, &first, row)?;
        let places = super::shape::join(draft, &[place, column.clone()], 3)?;
        let operands = [image, draft.in_order(&places)?];
        let op = GridSample { coordinates: GridCoordinates::Pixels, ..op.clone() };
        Ok(View::whole(draft.add(op, &operands, vec![])?, 4))
    };
    let result = if op.mode == Sampling::Nearest {
        read(draft, &slice, &row)?
    } else {
        // The place below, the one above, and the share of the latter.
        let between = |draft: &mut Draft, place: &View, last: usize| -> Result<[View; 3], String> {
            let below = activate(draft, place, Activation::Floor)?;
            let above = activate(draft, &below, Activation::Scale { mul: 1.0, add: 1.0 })?;
            let above = activate(draft, &above, Activation::Clip { min: 0.0, max: last as f32 })?;
            let share = join(draft, BinaryKind::Sub, place, &below)?;
            Ok([below, above, share.transposed(&[0, 3, 1, 2])])
        };
        let mixed = |draft: &mut Draft, below: &View, above: &View, share: &View| -> Result<View, String> {
            let more = join(draft, BinaryKind::Sub, above, below)?;
            let part = join(draft, BinaryKind::Mul, &more, share)?;
            join(draft, BinaryKind::Add, below, &part)
        };
        let [low, high, of_row] = between(draft, &row, last_row)?;
        let [near, far, of_slice] = between(draft, &slice, last_slice)?;
        let mut slices = vec![];
        for slice in [&near, &far] {
            let (below, above) = (read(draft, slice, &low)?, read(draft, slice, &high)?);
            slices.push(mixed(draft, &below, &above, &of_row)?);
        }
        mixed(draft, &slices[0], &slices[1], &of_slice)?
    };
    let node = draft.in_order(&result)?;
    let dims = [draft.node_dims(node)[0], c, deep, high, wide];
    one(View::whole(draft.reshape(node, &dims)?, 5))
}

/// Places of an image's pixels by an affine map: a product with the places as they are.
pub(crate) fn affine_grid(draft: &mut Draft, call: &Call) -> Results {
    let theta = draft.view(call, 0)?;
    let size = call.known_ints(1)?.ok_or("input 1 is missing")?;
    let sizes: Option<Vec<usize>> = size.iter().map(|&s| usize::try_from(s).ok().filter(|&s| s > 0)).collect();
    let rows = draft.dims(&theta).get(1).copied().unwrap_or(0);
    let sizes = sizes.filter(|s| theta.rank() == 3 && matches!(rows, 2 | 3) && s.len() == rows + 2);
    let sizes = sizes.ok_or_else(|| format!("sizes {size:?} of a grid"))?;
    let spatial = &sizes[2..];
    let corners = call.flag("align_corners", false)?;
    let places = |count: usize| -> Vec<f32> {
        let step = |i: usize| match (corners, count) {
            (true, 1) => 0.0,
            (true, _) => 2.0 * i as f64 / (count - 1) as f64 - 1.0,
            (false, _) => (2.0 * i as f64 + 1.0) / count as f64 - 1.0,
        };
        (0..count).map(|i| step(i) as f32).collect()
    };
    let along: Vec<Vec<f32>> = spatial.iter().map(|&count| places(count)).collect();
    let count = spatial.iter().fold(1usize, |p, &s| p.saturating_mul(s));
    let width = spatial.len() + 1;
    draft.reserve(count.saturating_mul(width))?;
    let mut rows = Vec::with_capacity(count * width);
    for i in 0..count {
        // The last axis comes first: columns, then rows.
        let mut rest = i;
        for (axis, places) in along.iter().enumerate().rev() {
            rows.push(places[rest % spatial[axis]]);
            rest /= spatial[axis];
        }
        rows.push(1.0);
    }
    let base = draft.constant(&Array::floats([count, width], rows))?;
    let (base, theta) = (draft.in_order(&base)?, draft.in_order(&theta.transposed(&[0, 2, 1]))?);
    let grid = draft.add(MatMul {}, &[base, theta], vec![])?;
    let dims = [&sizes[..1], spatial, &[spatial.len()]].concat();
    one(View::whole(draft.reshape(grid, &dims)?, dims.len()))
}

pub(crate) fn deform_conv(draft: &mut Draft, call: &Call) -> Results {
    let (x, offset) = (draft.view(call, 0)?, draft.view(call, 2)?);
    let weight = match call.input(1) {
        Some(Value::Known(weight)) => weight,
        _ => return Err("its weights are computed while the model runs".into()),
    };
    if x.rank() != 4 || offset.rank() != 4 {
        return Err(format!("a value of {} axes; netc moves taps in images [N, C, H, W]", x.rank()));
    }
    let kernel = kernel_of(weight, 4, call)?;
    let dims = draft.dims(&x);
    let window = Window::of(call, &kernel, [dims[2], dims[3]], 2)?;
    let offset_groups = usize::try_from(call.int("offset_group", 1)?).unwrap_or(0);
    let bias = call.known(3)?;
    let op = DeformConv2d {
        channels: weight.dims[0],
        kernel: window.kernel,
        stride: window.stride,
        pad: window.pad,
        dilation: window.dilation,
        groups: groups_of(call)?,
        offset_groups,
        bias: bias.is_some(),
    };
    let mut operands = vec![draft.in_order(&x)?, draft.in_order(&offset)?];
    if call.input(4).is_some() {
        let mask = draft.view(call, 4)?;
        operands.push(draft.in_order(&mask)?);
    }
    let weights = [Some(weight), bias].into_iter().flatten().map(Array::to_values).collect();
    one(View::whole(draft.add(op, &operands, weights)?, 4))
}

pub(crate) fn roi_align(draft: &mut Draft, call: &Call) -> Results {
    let (x, boxes) = (draft.view(call, 0)?, draft.view(call, 1)?);
    if x.rank() != 4 || boxes.rank() != 2 {
        return Err("no image [N, C, H, W] and boxes [R, 4]".into());
    }
    let boxes = match draft.dims(&x)[0] {
        1 => boxes,
        _ => {
            let images = draft.view(call, 2)?;
            if images.rank() != 1 {
                return Err(format!("numbers of images with {} axes", images.rank()));
            }
            super::shape::join(draft, &[images.with_new(&[1]), boxes], 1)?
        }
    };
    let mode = call.string("mode", "avg")?;
    let before = call.opset < 16 && call.attribute("coordinate_transformation_mode").is_none();
    let usual = if before { "output_half_pixel" } else { "half_pixel" };
    let op = RoiAlign {
        size: [size(call, "output_height", 1)?, size(call, "output_width", 1)?],
        scale: call.float("spatial_scale", 1.0)?,
        samples: usize::try_from(call.int("sampling_ratio", 0)?).unwrap_or(0),
        aligned: call.string("coordinate_transformation_mode", usual)? == "half_pixel",
        mode: RoiMode::parse(&mode).ok_or_else(|| format!("mode {mode} is none"))?,
    };
    let operands = [draft.in_order(&x)?, draft.in_order(&boxes)?];
    one(View::whole(draft.add(op, &operands, vec![])?, 4))
}

pub(crate) fn roi_pool(draft: &mut Draft, call: &Call) -> Results {
    let (x, boxes) = (draft.view(call, 0)?, draft.view(call, 1)?);
    let size = call.ints("pooled_shape")?.unwrap_or_default();
    let &[height, width] = size.as_slice() else {
        return Err(format!("pooled_shape has {} numbers", size.len()));
    };
    if x.rank() != 4 || boxes.rank() != 2 {
        return Err("no image [N, C, H, W] and boxes [R, 5]".into());
    }
    // None is 0, which the shape rule refuses.
    let size = [height, width].map(|size| usize::try_from(size).unwrap_or(0));
    let op = RoiPool { size, scale: call.float("spatial_scale", 1.0)? };
    let operands = [draft.in_order(&x)?, draft.in_order(&boxes)?];
    one(View::whole(draft.add(op, &operands, vec![])?, 4))
}
