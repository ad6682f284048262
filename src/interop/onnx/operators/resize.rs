//! Resize and its predecessor Upsample.

use super::super::call::{Call, Value};
use super::super::import::Importer;
use super::super::view::View;
use crate::ops::Upsample;
use crate::ops::upsample::{Coordinates, Interpolation, Rounding, Target};

pub fn resize(importer: &mut Importer, call: &Call) -> Result<Vec<Value>, String> {
    let view = importer.view(call, 0)?;
    let dims = importer.dims(&view);
    let factors = factors(call, &dims)?;
    let changed = |axis: usize| factors.outputs[axis] != dims[axis] || factors.scales[axis] != 1.0;
    if !(0..dims.len()).any(changed) {
        return Ok(vec![Value::Data(view)]);
    }
    // The axes that change must be an image's height and width.
    let is_spatial = |axis: usize| matches!(view.axes[axis], Some(2 | 3));
    let in_place = importer.node_dims(view.node).len() == 4 && (0..dims.len()).all(|a| !changed(a) || is_spatial(a));
    let (node, shown) = if in_place { (view.node, view.clone()) } else { importer.image(&view)? };
    let image = importer.node_dims(node);
    let mut sizes = [image[2], image[3]];
    let mut scales = [1.0f32; 2];
    for axis in (0..dims.len()).filter(|&axis| changed(axis)) {
        let Some(of_image @ (2 | 3)) = shown.axes[axis] else {
            return Err("it resizes other axes than height and width".into());
        };
        sizes[of_image - 2] = factors.outputs[axis];
        scales[of_image - 2] = factors.scales[axis];
    }
    let to = if factors.by_scale { Target::Scale(scales) } else { Target::Size(sizes) };
    let op = interpolation(call, [image[2], image[3]], sizes, to)?;
    let result = importer.add(op, &[node], vec![])?;
    Ok(vec![Value::Data(View { node: result, ..shown })])
}

/// What each axis becomes.
struct Factors {
    scales: Vec<f32>,
    outputs: Vec<usize>,
    /// Positions follow the stated factors rather than the sizes.
    by_scale: bool,
}

fn factors(call: &Call, dims: &[usize]) -> Result<Factors, String> {
    // Upsample: scales as attribute (7) or input 1 (9); Resize: input 1 (10), 2 (11) or sizes, 3.
    let is_new = call.node.op_type == "Resize" && call.opset >= 11;
    let axes = match call.ints("axes")? {
        Some(list) => super::super::call::axes_as_listed(&list, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let scales = match call.floats("scales")? {
        Some(scales) => scales,
        None => {
            let array = call.known(if is_new { 2 } else { 1 })?;
            array.and_then(|a| a.as_floats()).map_or(vec![], <[f32]>::to_vec)
        }
    };
    if !scales.is_empty() {
        return from_scales(&axes, &scales, dims);
    }
    let sizes = if is_new { call.known_ints(3)? } else { None };
    from_sizes(call, &axes, &sizes.ok_or("it has neither scales nor sizes")?, dims)
}

fn from_scales(axes: &[usize], given: &[f32], dims: &[usize]) -> Result<Factors, String> {
    if given.len() != axes.len() || given.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err(format!("the scales {given:?} make no sense"));
    }
    let mut scales = vec![1.0; dims.len()];
    axes.iter().zip(given).for_each(|(&axis, &s)| scales[axis] = s);
    let outputs = dims.iter().zip(&scales).map(|(&d, &s)| (d as f64 * f64::from(s)) as usize).collect();
    Ok(Factors { scales, outputs, by_scale: true })
}

fn from_sizes(call: &Call, axes: &[usize], given: &[i64], dims: &[usize]) -> Result<Factors, String> {
    let given: Option<Vec<usize>> = given.iter().map(|&s| s.try_into().ok()).collect();
    let given = given.filter(|g| g.len() == axes.len()).ok_or("its sizes make no sense")?;
    let mut outputs = dims.to_vec();
    axes.iter().zip(&given).for_each(|(&axis, &size)| outputs[axis] = size);
    let ratio = |axis: usize, outputs: &[usize]| outputs[axis] as f64 / dims[axis] as f64;
    let ratios = axes.iter().map(|&axis| ratio(axis, &outputs));
    let common = match call.string("keep_aspect_ratio_policy", "stretch")?.as_str() {
        "stretch" => None,
        "not_larger" => ratios.reduce(f64::min),
        "not_smaller" => ratios.reduce(f64::max),
        other => return Err(format!("keep_aspect_ratio_policy {other} is none")),
    };
    if let Some(common) = common {
        // Half a pixel counts as one.
        axes.iter().for_each(|&axis| outputs[axis] = (common * dims[axis] as f64 + 0.5).floor() as usize);
        let scales = vec![common as f32; axes.len()];
        let by_scale = from_scales(axes, &scales, dims)?;
        return match by_scale.outputs == outputs {
            true => Ok(by_scale),
            false => Err("keeping the aspect ratio gives sizes that no factor makes".into()),
        };
    }
    let scales = (0..dims.len()).map(|axis| ratio(axis, &outputs) as f32).collect();
    Ok(Factors { scales, outputs, by_scale: false })
}

fn interpolation(call: &Call, from: [usize; 2], to_sizes: [usize; 2], to: Target) -> Result<Upsample, String> {
    let mode = match call.string("mode", "nearest")?.as_str() {
        "nearest" => Interpolation::Nearest,
        "linear" | "bilinear" => Interpolation::Bilinear,
        "cubic" => return Err("cubic interpolation: netc has nearest and linear".into()),
        other => return Err(format!("mode {other} is none")),
    };
    let shrinks = (0..2).any(|axis| to_sizes[axis] < from[axis]);
    if call.flag("antialias", false)? && shrinks {
        return Err("antialiased shrinking: netc has it in preprocessing only".into());
    }
    let old = call.node.op_type == "Upsample" || call.opset < 11;
    let transformation =
        if old { "asymmetric".into() } else { call.string("coordinate_transformation_mode", "half_pixel")? };
    let nearest_mode = if old { "floor".into() } else { call.string("nearest_mode", "round_prefer_floor")? };
    let mut rounding = match nearest_mode.as_str() {
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        "round_prefer_floor" => Rounding::HalfDown,
        "round_prefer_ceil" => Rounding::HalfUp,
        other => return Err(format!("nearest_mode {other} is none")),
    };
    let coordinates = match transformation.as_str() {
        "half_pixel" => Coordinates::HalfPixel,
        "asymmetric" => Coordinates::Asymmetric,
        // Engines disagree on where the corners of a size that was rounded lie.
        "align_corners" if (0..2).all(|axis| is_exact(to, axis, from[axis], to_sizes[axis])) => {
            Coordinates::AlignCorners
        }
        // Differs from half_pixel where a side becomes one pixel.
        "pytorch_half_pixel" if to_sizes.iter().zip(from).all(|(&t, f)| t > 1 || f == 1) => Coordinates::HalfPixel,
        "half_pixel_symmetric" if matches!(to, Target::Size(_)) => Coordinates::HalfPixel,
        "tf_half_pixel_for_nn" if mode == Interpolation::Nearest && rounding == Rounding::Floor => {
            // floor((i + 1/2) · step) is the upper nearest of (i + 1/2) · step − 1/2.
            rounding = Rounding::HalfUp;
            Coordinates::HalfPixel
        }
        other => return Err(format!("coordinate_transformation_mode {other} with these sizes is not supported")),
    };
    Ok(usual(Upsample { to, mode, coordinates, rounding }, from, to_sizes))
}

/// The same in the language's default spelling, where whole factors make it so.
fn usual(op: Upsample, from: [usize; 2], to: [usize; 2]) -> Upsample {
    let whole = (0..2).all(|axis| to[axis].is_multiple_of(from[axis]) && is_exact(op.to, axis, from[axis], to[axis]));
    let coordinates = match (op.mode, op.coordinates, op.rounding) {
        (Interpolation::Nearest, Coordinates::Asymmetric, Rounding::Floor) => Coordinates::Usual,
        (Interpolation::Nearest, Coordinates::HalfPixel, Rounding::HalfDown | Rounding::HalfUp) if whole => {
            return Upsample { coordinates: Coordinates::Usual, rounding: Rounding::Floor, ..op };
        }
        (Interpolation::Bilinear, Coordinates::HalfPixel, _) => Coordinates::Usual,
        (_, other, _) => other,
    };
    let rounding = if op.mode == Interpolation::Bilinear { Rounding::Floor } else { op.rounding };
    Upsample { coordinates, rounding, ..op }
}

/// The factor is that of the sizes.
fn is_exact(target: Target, axis: usize, from: usize, to: usize) -> bool {
    match target {
        Target::Size(_) => true,
        Target::Scale(scale) => scale[axis] * from as f32 == to as f32,
    }
}
