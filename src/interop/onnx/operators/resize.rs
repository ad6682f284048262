//! Resize and its predecessor Upsample.
//!
//! What the language's `upsample` does becomes that. All else (antialiasing, crops, cubic kernels of
//! other parameters, sizes that no factor makes) is linear along each axis, too: it becomes a product with a
//! known matrix `[input, output]`, an axis at a time.

use super::super::array::Array;
use super::super::call::{Call, Value, axes_as_listed};
use super::super::import::Importer;
use super::super::view::View;
use super::elementwise::with_known;
use super::linear::times_known;
use crate::ops::Upsample;
use crate::ops::binary::BinaryKind;
use crate::ops::upsample::{Coordinates, Interpolation, Rounding, Target, cubic};

pub fn resize(importer: &mut Importer, call: &Call) -> Result<Vec<Value>, String> {
    let view = importer.view(call, 0)?;
    let dims = importer.dims(&view);
    let factors = factors(call, &dims)?;
    let sampling = Sampling::of(call, dims.len())?;
    let changed = |axis: usize| {
        factors.outputs[axis] != dims[axis] || factors.scales[axis] != 1.0 || sampling.region[axis] != (0.0, 1.0)
    };
    let changed: Vec<usize> = (0..dims.len()).filter(|&axis| changed(axis)).collect();
    if changed.is_empty() {
        return Ok(vec![Value::Data(view)]);
    }
    let result = match by_kernel(importer, &view, &factors, &sampling, &changed)? {
        Some(result) => result,
        None => by_matrices(importer, view, &factors, &sampling, &changed)?,
    };
    Ok(vec![Value::Data(result)])
}

/// As an `upsample` of images, where that is what it is.
fn by_kernel(
    importer: &mut Importer,
    view: &View,
    factors: &Factors,
    sampling: &Sampling,
    changed: &[usize],
) -> Result<Option<View>, String> {
    // The axes that change must be an image's height and width.
    let is_spatial = |&axis: &usize| matches!(view.axes[axis], Some(2 | 3));
    let in_place = importer.node_dims(view.node).len() == 4 && changed.iter().all(is_spatial);
    let is_image = (3..=4).contains(&view.rank()) && changed.iter().all(|&axis| axis >= 2);
    let (node, shown) = match (in_place, is_image) {
        (true, _) => (view.node, view.clone()),
        (false, true) => importer.image(view)?,
        (false, false) => return Ok(None),
    };
    let image = importer.node_dims(node);
    let mut sizes = [image[2], image[3]];
    let mut scales = [1.0f32; 2];
    for &axis in changed {
        let Some(of_image @ (2 | 3)) = shown.axes[axis] else { return Ok(None) };
        sizes[of_image - 2] = factors.outputs[axis];
        scales[of_image - 2] = factors.scales[axis];
    }
    let to = if factors.by_scale { Target::Scale(scales) } else { Target::Size(sizes) };
    let Some(op) = sampling.upsample([image[2], image[3]], sizes, to) else { return Ok(None) };
    let result = importer.add(op, &[node], vec![])?;
    Ok(Some(View { node: result, ..shown }))
}

/// As products with matrices, an axis at a time.
fn by_matrices(
    importer: &mut Importer,
    mut view: View,
    factors: &Factors,
    sampling: &Sampling,
    changed: &[usize],
) -> Result<View, String> {
    let dims = importer.dims(&view);
    let mut outside = Array::floats([], vec![0.0]);
    for &axis in changed {
        let (input, output) = (dims[axis], factors.outputs[axis]);
        importer.reserve(input.saturating_mul(output))?;
        let places = Axis { input, output, scale: f64::from(factors.scales[axis]), region: sampling.region[axis] };
        let (matrix, beyond) = sampling.matrix(&places);
        // The axis comes last, is multiplied, and goes back.
        let last = view.rank() - 1;
        let mut perm: Vec<usize> = (0..=last).collect();
        perm.swap(axis, last);
        view = times_known(importer, &view.transposed(&perm), &matrix)?.transposed(&perm);
        if beyond.contains(&true) {
            outside = either(&outside, &beyond, dims.len() - axis);
        }
    }
    // Pixels that lie beyond the input got nothing so far.
    match sampling.extrapolation {
        value if value == 0.0 || outside.rank() == 0 => Ok(view),
        value => {
            let filled = outside.as_floats().expect("made of floats").iter().map(|o| o * value).collect();
            with_known(importer, BinaryKind::Add, &view, &Array::floats(outside.dims, filled), false, false)
        }
    }
}

/// 1 where a mask has 1, or a position along the axis that is the `from_end`th from the end is beyond.
fn either(mask: &Array, beyond: &[bool], from_end: usize) -> Array {
    let mut along = vec![1; from_end];
    along[0] = beyond.len();
    let along = Array::floats(along, beyond.iter().map(|&b| f32::from(u8::from(b))).collect());
    let rank = along.rank().max(mask.rank());
    let size = |a: &Array, axis: usize| (axis + a.rank()).checked_sub(rank).map_or(1, |i| a.dims[i]);
    let dims: Vec<usize> = (0..rank).map(|axis| size(mask, axis).max(size(&along, axis))).collect();
    let (mask, along) = (mask.broadcast(&dims), along.broadcast(&dims));
    let pairs = mask.as_floats().into_iter().flatten().zip(along.as_floats().into_iter().flatten());
    Array::floats(dims, pairs.map(|(a, b)| a.max(*b)).collect())
}

/// What each axis becomes.
struct Factors {
    scales: Vec<f32>,
    outputs: Vec<usize>,
    /// Positions follow the stated factors rather than the sizes.
    by_scale: bool,
}

fn factors(call: &Call, dims: &[usize]) -> Result<Factors, String> {
    // Upsample: scales as attributes (6, 7) or input 1 (9); Resize: input 1 (10), 2 (11) or sizes, 3.
    let is_new = call.node.op_type == "Resize" && call.opset >= 11;
    let axes = match call.ints("axes")? {
        Some(list) => axes_as_listed(&list, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let scales = match (call.floats("scales")?, call.attribute("height_scale")) {
        (Some(scales), _) => scales,
        (None, Some(_)) => vec![1.0, 1.0, call.float("height_scale", 1.0)?, call.float("width_scale", 1.0)?],
        (None, None) => {
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
        let by_scale = from_scales(axes, &vec![common as f32; axes.len()], dims)?;
        return Ok(Factors { outputs, ..by_scale });
    }
    let scales = (0..dims.len()).map(|axis| ratio(axis, &outputs) as f32).collect();
    Ok(Factors { scales, outputs, by_scale: false })
}

/// How pixels get their values.
struct Sampling {
    mode: Mode,
    transformation: String,
    rounding: Rounding,
    antialias: bool,
    /// Pixels beyond the border have no share, rather than counting as the border.
    exclude_outside: bool,
    /// Of each axis, the part of the input that is shown.
    region: Vec<(f32, f32)>,
    /// Pixels beyond the region's input.
    extrapolation: f32,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    /// Keys' kernel (1981) with that parameter.
    Cubic(f64),
}

/// One axis of a resize.
struct Axis {
    input: usize,
    output: usize,
    /// Output pixels per input pixel.
    scale: f64,
    region: (f32, f32),
}

impl Sampling {
    fn of(call: &Call, rank: usize) -> Result<Self, String> {
        // Exporters write it down whatever the mode is.
        let cubic = Mode::Cubic(call.float("cubic_coeff_a", -0.75)?.into());
        let mode = match call.string("mode", "nearest")?.as_str() {
            "nearest" => Mode::Nearest,
            "linear" | "bilinear" => Mode::Linear,
            "cubic" => cubic,
            other => return Err(format!("mode {other} is none")),
        };
        let old = call.node.op_type == "Upsample" || call.opset < 11;
        let stated = |name: &str, before: &str, default: &str| match old {
            true => Ok(before.to_string()),
            false => call.string(name, default),
        };
        let transformation = stated("coordinate_transformation_mode", "asymmetric", "half_pixel")?;
        if !TRANSFORMATIONS.contains(&transformation.as_str()) {
            return Err(format!("coordinate_transformation_mode {transformation} is none"));
        }
        let rounding = match stated("nearest_mode", "floor", "round_prefer_floor")?.as_str() {
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            "round_prefer_floor" => Rounding::HalfDown,
            "round_prefer_ceil" => Rounding::HalfUp,
            other => return Err(format!("nearest_mode {other} is none")),
        };
        let region = match transformation.as_str() {
            "tf_crop_and_resize" => region(call, rank)?,
            _ => vec![(0.0, 1.0); rank],
        };
        Ok(Self {
            mode,
            transformation,
            rounding,
            antialias: call.flag("antialias", false)?,
            exclude_outside: call.flag("exclude_outside", false)?,
            region,
            extrapolation: call.float("extrapolation_value", 0.0)?,
        })
    }

    /// The language's layer that does this; `None` where there is none.
    fn upsample(&self, from: [usize; 2], to_sizes: [usize; 2], to: Target) -> Option<Upsample> {
        let mode = match self.mode {
            Mode::Nearest => Interpolation::Nearest,
            Mode::Linear => Interpolation::Bilinear,
            Mode::Cubic(_) if self.exclude_outside => return None,
            Mode::Cubic(a) => *CUBIC.iter().find(|mode| mode.cubic() == Some(a))?,
        };
        let shrinks = (0..2).any(|axis| to_sizes[axis] < from[axis]);
        let exact = |axis: usize| is_exact(to, axis, from[axis], to_sizes[axis]);
        let reached = |axis: usize| match to {
            Target::Scale(scale) => (from[axis] as f64 * f64::from(scale[axis])) as usize == to_sizes[axis],
            Target::Size(_) => true,
        };
        if (self.antialias && shrinks) || !(0..2).all(reached) {
            return None;
        }
        let mut rounding = self.rounding;
        let coordinates = match self.transformation.as_str() {
            "half_pixel" => Coordinates::HalfPixel,
            "asymmetric" => Coordinates::Asymmetric,
            "align_corners" if (0..2).all(exact) => Coordinates::AlignCorners,
            // Differs from half_pixel where a side becomes one pixel.
            "pytorch_half_pixel" if to_sizes.iter().zip(from).all(|(&t, f)| t > 1 || f == 1) => Coordinates::HalfPixel,
            "half_pixel_symmetric" if (0..2).all(exact) => Coordinates::HalfPixel,
            "tf_half_pixel_for_nn" if self.mode == Mode::Nearest && rounding == Rounding::Floor => {
                // floor((i + 1/2) · step) is the upper nearest of (i + 1/2) · step − 1/2.
                rounding = Rounding::HalfUp;
                Coordinates::HalfPixel
            }
            _ => return None,
        };
        Some(usual(Upsample { to, mode, coordinates, rounding }, from, to_sizes))
    }

    /// Column `o` has the shares of the input's pixels in output pixel `o`. Also tells which output
    /// pixels lie beyond the input; they have none.
    fn matrix(&self, axis: &Axis) -> (Array, Vec<bool>) {
        let mut shares = vec![0f64; axis.input * axis.output];
        let mut beyond = vec![false; axis.output];
        for (o, beyond) in beyond.iter_mut().enumerate() {
            let x = self.position(axis, o);
            *beyond = self.transformation == "tf_crop_and_resize" && !(0.0..=axis.input as f64 - 1.0).contains(&x);
            if !*beyond {
                self.taps(axis, x, |i, share| shares[i * axis.output + o] += share);
            }
        }
        let shares = shares.into_iter().map(|s| s as f32).collect();
        (Array::floats([axis.input, axis.output], shares), beyond)
    }

    /// The centre of output pixel `o` in input pixels, as the standard has it.
    fn position(&self, axis: &Axis, o: usize) -> f64 {
        let (o, input) = (o as f64, axis.input as f64);
        // The size before it was rounded.
        let output = axis.scale * input;
        let half_pixel = (o + 0.5) / axis.scale - 0.5;
        match self.transformation.as_str() {
            "asymmetric" => o / axis.scale,
            "align_corners" if output == 1.0 => 0.0,
            "align_corners" => o * (input - 1.0) / (output - 1.0),
            "pytorch_half_pixel" if axis.output == 1 => 0.0,
            "half_pixel_symmetric" => input / 2.0 * (1.0 - axis.output as f64 / output) + half_pixel,
            "tf_half_pixel_for_nn" => half_pixel + 0.5,
            "tf_crop_and_resize" => {
                let (start, end) = (f64::from(axis.region.0), f64::from(axis.region.1));
                let along = if axis.output > 1 { o / (axis.output as f64 - 1.0) } else { 0.5 };
                (start + along * (end - start)) * (input - 1.0)
            }
            _ => half_pixel,
        }
    }

    /// Shows the input pixels around a position with their shares.
    fn taps(&self, axis: &Axis, x: f64, mut show: impl FnMut(usize, f64)) {
        let last = axis.input as f64 - 1.0;
        let (reach, kernel): (f64, &dyn Fn(f64) -> f64) = match self.mode {
            Mode::Nearest => return show(self.rounding.round(x).clamp(0.0, last) as usize, 1.0),
            Mode::Linear => (1.0, &|d| (1.0 - d).max(0.0)),
            Mode::Cubic(a) => (2.0, &move |d| cubic(a, d)),
        };
        // A kernel as wide as an output pixel is, where the image shrinks.
        let narrow = if self.antialias { axis.scale.min(1.0) } else { 1.0 };
        let (first, end) = ((x - reach / narrow).ceil(), (x + reach / narrow).floor());
        let count = (end - first) as usize + 1;
        let near = (0..count).map(|i| first + i as f64).map(|i| (i, kernel((i - x).abs() * narrow)));
        // Of a large image that becomes small they are many: they are gone through twice, not kept.
        let near = near.filter(|(i, _)| !self.exclude_outside || (0.0..=last).contains(i));
        let sum: f64 = near.clone().map(|(_, share)| share).sum();
        near.for_each(|(i, share)| show(i.clamp(0.0, last) as usize, share / sum));
    }
}

/// The cubic modes of the language.
const CUBIC: [Interpolation; 2] = [Interpolation::Bicubic, Interpolation::CatmullRom];

/// All that the standard has.
const TRANSFORMATIONS: [&str; 7] = [
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
];

/// The part of each axis that is shown: all starts, then all ends.
fn region(call: &Call, rank: usize) -> Result<Vec<(f32, f32)>, String> {
    let listed = match call.ints("axes")? {
        Some(list) => axes_as_listed(&list, rank)?,
        None => (0..rank).collect(),
    };
    let roi = call.need_known(1)?.to_f64();
    if roi.len() != 2 * listed.len() || roi.iter().any(|r| !r.is_finite()) {
        return Err("its region of interest makes no sense".into());
    }
    let mut region = vec![(0.0, 1.0); rank];
    for (i, &axis) in listed.iter().enumerate() {
        region[axis] = (roi[i] as f32, roi[i + listed.len()] as f32);
    }
    Ok(region)
}

/// The same in the language's default spelling, where whole factors make it so.
fn usual(op: Upsample, from: [usize; 2], to: [usize; 2]) -> Upsample {
    let whole = (0..2).all(|axis| to[axis].is_multiple_of(from[axis]) && is_exact(op.to, axis, from[axis], to[axis]));
    let coordinates = match (op.mode, op.coordinates, op.rounding) {
        (Interpolation::Nearest, Coordinates::Asymmetric, Rounding::Floor) => Coordinates::Usual,
        (Interpolation::Nearest, Coordinates::HalfPixel, Rounding::HalfDown | Rounding::HalfUp) if whole => {
            return Upsample { coordinates: Coordinates::Usual, rounding: Rounding::Floor, ..op };
        }
        (Interpolation::Nearest, other, _) => other,
        (_, Coordinates::HalfPixel, _) => Coordinates::Usual,
        (_, other, _) => other,
    };
    let rounding = if op.mode == Interpolation::Nearest { op.rounding } else { Rounding::Floor };
    Upsample { coordinates, rounding, ..op }
}

/// The factor is that of the sizes.
fn is_exact(target: Target, axis: usize, from: usize, to: usize) -> bool {
    match target {
        Target::Size(_) => true,
        Target::Scale(scale) => scale[axis] * from as f32 == to as f32,
    }
}
