//! Resize and its predecessor Upsample.
//!
//! What the language's `upsample` does becomes that. All else (antialiasing, crops, cubic kernels of
//! other parameters, sizes that no factor makes) is linear along each axis, too: it becomes a product with a
//! known matrix `[input, output]`, an axis at a time.
//!
//! Where pixels lie is computed from exact ratios (see [`crate::ops::position`]). A model that PyTorch wrote
//! means what PyTorch computes, down to how it rounds: exporters write nearest down as `asymmetric`, and
//! `pytorch_half_pixel` where nothing differs from `half_pixel`.

use super::elementwise::{activate, with_known};
use super::linear::times_known;
use crate::interop::onnx::array::Array;
use crate::interop::onnx::call::{Call, Value, axes_as_listed};
use crate::interop::onnx::draft::Draft;
use crate::interop::onnx::view::View;
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::position::{Axis, Position, Ratio, Rounding};
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, cubic};
use crate::ops::{MAX_ELEMENTS, Upsample};

pub(crate) fn resize(draft: &mut Draft, call: &Call) -> Result<Vec<Value>, String> {
    let view = draft.view(call, 0)?;
    let dims = draft.dims(&view);
    let by_pytorch = draft.is_written_by("pytorch");
    // What netc exports has the sizes that PyTorch's rule gives.
    let rule = if by_pytorch || draft.is_written_by("netc") { Length::Double } else { Length::Single };
    let factors = factors(call, &dims, rule)?;
    let sampling = Sampling::of(call, dims.len(), by_pytorch)?;
    let changed = |axis: usize| {
        factors.outputs[axis] != dims[axis] || factors.steps[axis] != Ratio::ONE || sampling.region[axis] != (0.0, 1.0)
    };
    let changed: Vec<usize> = (0..dims.len()).filter(|&axis| changed(axis)).collect();
    if changed.is_empty() {
        return Ok(vec![Value::Data(view)]);
    }
    let result = match by_kernel(draft, &view, &factors, &sampling, &changed)? {
        Some(result) => result,
        None => by_matrices(draft, view, &factors, &sampling, &changed)?,
    };
    // The standard leaves open what becomes of fractions of whole numbers; ONNX Runtime cuts them. Levels that are computed
    // have the type of numbers, see `whole_on_grid`.
    let is_cut = call.is_whole(0) && sampling.mode != Mode::Nearest;
    let result = if is_cut { activate(draft, &result, Activation::Trunc)? } else { result };
    Ok(vec![Value::Data(result)])
}

/// As an `upsample` of images, where that is what it is.
fn by_kernel(
    draft: &mut Draft,
    view: &View,
    factors: &Factors,
    sampling: &Sampling,
    changed: &[usize],
) -> Result<Option<View>, String> {
    // The axes that change must be an image's height and width.
    let is_spatial = |&axis: &usize| matches!(view.axes[axis], Some(2 | 3));
    let in_place = draft.node_dims(view.node).len() == 4 && changed.iter().all(is_spatial);
    let is_image = (3..=4).contains(&view.rank()) && changed.iter().all(|&axis| axis >= 2);
    let (node, shown) = match (in_place, is_image) {
        (true, _) => (view.node, view.clone()),
        (false, true) => draft.image(view)?,
        (false, false) => return Ok(None),
    };
    let image = draft.node_dims(node);
    let mut sizes = [image[2], image[3]];
    let mut scales = [1.0; 2];
    for &axis in changed {
        let Some(of_image @ (2 | 3)) = shown.axes[axis] else { return Ok(None) };
        sizes[of_image - 2] = factors.outputs[axis];
        scales[of_image - 2] = factors.steps[axis].inverse().value();
    }
    let to = if factors.by_scale { ResizeTo::Scale(scales) } else { ResizeTo::Size(sizes) };
    let Some(op) = sampling.upsample([image[2], image[3]], sizes, to) else { return Ok(None) };
    let result = draft.add(op, &[node], vec![])?;
    Ok(Some(View { node: result, ..shown }))
}

/// As products with matrices, an axis at a time.
fn by_matrices(
    draft: &mut Draft,
    mut view: View,
    factors: &Factors,
    sampling: &Sampling,
    changed: &[usize],
) -> Result<View, String> {
    let dims = draft.dims(&view);
    let mut outside = Array::floats([], vec![0.0]);
    for &axis in changed {
        let (input, output) = (dims[axis], factors.outputs[axis]);
        draft.reserve(input.saturating_mul(output))?;
        let places = Axis { input, output, step: factors.steps[axis] };
        let (matrix, beyond) = sampling.matrix(&places, sampling.region[axis]);
        // The axis comes last, is multiplied, and goes back.
        let last = view.rank() - 1;
        let mut perm: Vec<usize> = (0..=last).collect();
        perm.swap(axis, last);
        view = times_known(draft, &view.transposed(&perm), &matrix)?.transposed(&perm);
        if beyond.contains(&true) {
            outside = either(&outside, &beyond, dims.len() - axis);
        }
    }
    // Pixels that lie beyond the input got nothing so far.
    match sampling.extrapolation {
        value if value == 0.0 || outside.rank() == 0 => Ok(view),
        value => {
            let filled = outside.as_floats().expect("made of floats").iter().map(|o| o * value).collect();
            with_known(draft, BinaryKind::Add, &view, &Array::floats(outside.dims, filled), false, false)
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
    /// Input pixels per output pixel.
    steps: Vec<Ratio>,
    outputs: Vec<usize>,
    /// Positions follow the stated factors rather than the sizes.
    by_scale: bool,
}

/// How a size times a factor is rounded before it is cut to an integer.
#[derive(Clone, Copy)]
enum Length {
    /// The factor that the model's single precision stands for, in double precision: PyTorch's.
    Double,
    /// In single precision: that of the standard's shape inference and of ONNX Runtime.
    Single,
}

impl Length {
    fn of(self, size: usize, scale: f32) -> usize {
        // `as` saturates: an absurd size is refused as too large.
        match self {
            Length::Double => (size as f64 * Ratio::of_single(scale).value()) as usize,
            Length::Single => (size as f32 * scale) as usize,
        }
    }
}

fn factors(call: &Call, dims: &[usize], rule: Length) -> Result<Factors, String> {
    // Upsample: scales as attributes (6, 7) or input 1 (9); Resize: input 1 (10), 2 (11) or sizes, 3.
    let is_new = call.node.op_type == "Resize" && call.opset >= 11;
    let axes = match call.ints("axes")? {
        Some(list) => axes_as_listed(&list, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let policy = call.string("keep_aspect_ratio_policy", "stretch")?;
    let scales = match (call.floats("scales")?, call.attribute("height_scale")) {
        (Some(scales), _) => scales,
        (None, Some(_)) => vec![1.0, 1.0, call.float("height_scale", 1.0)?, call.float("width_scale", 1.0)?],
        (None, None) => {
            let array = call.known(if is_new { 2 } else { 1 })?;
            array.and_then(|a| a.as_floats()).map_or(vec![], <[f32]>::to_vec)
        }
    };
    let factors = match scales.is_empty() {
        // The policy speaks of sizes.
        false => from_scales(&axes, &scales, dims, rule)?,
        true => {
            let sizes = if is_new { call.known_ints(3)? } else { None };
            from_sizes(&axes, &sizes.ok_or("it has neither scales nor sizes")?, dims, &policy)?
        }
    };
    match factors.outputs.iter().find(|&&size| size == 0 || size > MAX_ELEMENTS) {
        Some(size) => Err(format!("an axis becomes {size} pixels long")),
        None => Ok(factors),
    }
}

fn from_scales(axes: &[usize], given: &[f32], dims: &[usize], rule: Length) -> Result<Factors, String> {
    if given.len() != axes.len() || given.iter().any(|s| !s.is_finite() || *s <= 0.0) {
        return Err(format!("the scales {given:?} make no sense"));
    }
    let (mut steps, mut outputs) = (vec![Ratio::ONE; dims.len()], dims.to_vec());
    for (&axis, &scale) in axes.iter().zip(given) {
        steps[axis] = Ratio::of_single(scale).inverse();
        outputs[axis] = rule.of(dims[axis], scale);
    }
    Ok(Factors { steps, outputs, by_scale: true })
}

fn from_sizes(axes: &[usize], given: &[i64], dims: &[usize], policy: &str) -> Result<Factors, String> {
    let given: Option<Vec<usize>> = given.iter().map(|&s| s.try_into().ok()).collect();
    let given = given.filter(|g| g.len() == axes.len() && !g.contains(&0)).ok_or("its sizes make no sense")?;
    let (mut steps, mut outputs) = (vec![Ratio::ONE; dims.len()], dims.to_vec());
    if policy == "stretch" {
        for (&axis, &size) in axes.iter().zip(&given) {
            (steps[axis], outputs[axis]) = (Ratio::new(dims[axis], size), size);
        }
        return Ok(Factors { steps, outputs, by_scale: false });
    }
    // Of the ratios of size to axis the least or the greatest goes for all: a/b < c/d where a·d < c·b.
    let ratios = axes.iter().zip(&given).map(|(&axis, &size)| (size as u128, dims[axis] as u128));
    let by_ratio = |a: &(u128, u128), b: &(u128, u128)| (a.0 * b.1).cmp(&(b.0 * a.1));
    let common = match policy {
        "not_larger" => ratios.min_by(by_ratio),
        "not_smaller" => ratios.max_by(by_ratio),
        other => return Err(format!("keep_aspect_ratio_policy {other} is none")),
    };
    if let Some((size, dim)) = common {
        for &axis in axes {
            steps[axis] = Ratio::new(dim as usize, size as usize);
            // Half a pixel counts as one.
            outputs[axis] = ((2 * size * dims[axis] as u128 + dim) / (2 * dim)) as usize;
        }
    }
    Ok(Factors { steps, outputs, by_scale: true })
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
    /// PyTorch wrote the model.
    by_pytorch: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    /// Keys' kernel (1981) with that parameter.
    Cubic(f64),
}

impl Sampling {
    fn of(call: &Call, rank: usize, by_pytorch: bool) -> Result<Self, String> {
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
            by_pytorch,
        })
    }

    /// The language's layer that does this; `None` where there is none.
    fn upsample(&self, from: [usize; 2], to_sizes: [usize; 2], to: ResizeTo) -> Option<Upsample> {
        let mode = match self.mode {
            Mode::Nearest => Interpolation::Nearest,
            Mode::Linear => Interpolation::Bilinear,
            Mode::Cubic(_) if self.exclude_outside => return None,
            Mode::Cubic(a) => *CUBIC.iter().find(|mode| mode.cubic() == Some(a))?,
        };
        let shrinks = (0..2).any(|axis| to_sizes[axis] < from[axis]);
        let axis = |axis: usize| {
            let (input, output) = (from[axis], to_sizes[axis]);
            let step = match to {
                ResizeTo::Scale(scale) => Ratio::of(scale[axis]).inverse(),
                ResizeTo::Size(_) => Ratio::new(input, output),
            };
            Axis { input, output, step }
        };
        let is_exact = (0..2).all(|i| axis(i).is_exact());
        let reached = |axis: usize| match to {
            ResizeTo::Scale(scale) => (from[axis] as f64 * scale[axis]) as usize == to_sizes[axis],
            ResizeTo::Size(_) => true,
        };
        if (self.antialias && shrinks) || !(0..2).all(reached) {
            return None;
        }
        let mut rounding = self.rounding;
        let coordinates = match self.transformation.as_str() {
            "half_pixel" => Coordinates::HalfPixel,
            "asymmetric" => Coordinates::Asymmetric,
            "align_corners" => Coordinates::AlignCorners,
            "pytorch_half_pixel" if self.by_pytorch => Coordinates::HalfPixel,
            // Differs from half_pixel where a side becomes one pixel.
            "pytorch_half_pixel" if to_sizes.iter().zip(from).all(|(&t, f)| t > 1 || f == 1) => Coordinates::HalfPixel,
            "half_pixel_symmetric" if is_exact => Coordinates::HalfPixel,
            "tf_half_pixel_for_nn" if self.mode == Mode::Nearest && rounding == Rounding::Floor => {
                // floor((i + 1/2) · step) is the upper nearest of (i + 1/2) · step − 1/2.
                rounding = Rounding::HalfUp;
                Coordinates::HalfPixel
            }
            _ => return None,
        };
        let rounding = if mode == Interpolation::Nearest { rounding } else { Rounding::Floor };
        let stated = Upsample { to, mode, coordinates, rounding };
        let usual = Upsample { to, mode, coordinates: Coordinates::Usual, rounding: Rounding::Floor };
        let is_pytorchs = match mode {
            Interpolation::Nearest => coordinates == Coordinates::Asymmetric && rounding == Rounding::Floor,
            _ => coordinates == Coordinates::HalfPixel,
        };
        let is_same =
            || (0..2).all(|i| to_sizes[i] <= MAX_COMPARED && stated.is_same(&usual, i, [from[i], to_sizes[i]]));
        Some(if (self.by_pytorch && is_pytorchs) || is_same() { usual } else { stated })
    }

    /// Column `o` has the shares of the input's pixels in output pixel `o`. Also tells which output
    /// pixels lie beyond the input; they have none.
    fn matrix(&self, axis: &Axis, region: (f32, f32)) -> (Array, Vec<bool>) {
        let mut shares = vec![0f64; axis.input * axis.output];
        let mut beyond = vec![false; axis.output];
        for (o, beyond) in beyond.iter_mut().enumerate() {
            let x = self.position(axis, region, o);
            *beyond =
                self.transformation == "tf_crop_and_resize" && !(0.0..=axis.input as f64 - 1.0).contains(&x.value());
            if !*beyond {
                let taps = self.taps(axis, x);
                taps.into_iter().for_each(|(i, share)| shares[i * axis.output + o] += share);
            }
        }
        let shares = shares.into_iter().map(|s| s as f32).collect();
        (Array::floats([axis.input, axis.output], shares), beyond)
    }

    /// The centre of output pixel `o` in input pixels, as the standard has it; with `align_corners`, where the
    /// standard takes the output's size before it is rounded, as PyTorch and ONNX Runtime have it.
    fn position(&self, axis: &Axis, region: (f32, f32), o: usize) -> Position {
        match self.transformation.as_str() {
            "asymmetric" => axis.asymmetric(o),
            "align_corners" => axis.align_corners(o),
            "pytorch_half_pixel" if axis.output == 1 && !self.by_pytorch => Position::from(0.0),
            "half_pixel_symmetric" => axis.symmetric(o),
            "tf_half_pixel_for_nn" => axis.centre(o),
            "tf_crop_and_resize" => {
                let (start, end) = (f64::from(region.0), f64::from(region.1));
                let along = if axis.output > 1 { o as f64 / (axis.output as f64 - 1.0) } else { 0.5 };
                Position::from((start + along * (end - start)) * (axis.input as f64 - 1.0))
            }
            _ => axis.half_pixel(o),
        }
    }

    /// The input pixels around a position with their shares.
    fn taps(&self, axis: &Axis, position: Position) -> Vec<(usize, f64)> {
        let (x, last) = (position.value(), axis.input as f64 - 1.0);
        let (reach, kernel): (f64, &dyn Fn(f64) -> f64) = match self.mode {
            Mode::Nearest => return vec![(axis.pixel(position.nearest(self.rounding)), 1.0)],
            Mode::Linear => (1.0, &|d| (1.0 - d).max(0.0)),
            Mode::Cubic(a) => (2.0, &move |d| cubic(a, d)),
        };
        // A kernel as wide as an output pixel is, where the image shrinks.
        let narrow = if self.antialias { axis.step.inverse().value().min(1.0) } else { 1.0 };
        let (first, end) = ((x - reach / narrow).ceil(), (x + reach / narrow).floor());
        let count = (end - first) as usize + 1;
        let near = (0..count).map(|i| first + i as f64).map(|i| (i, kernel((i - x).abs() * narrow)));
        let near: Vec<(f64, f64)> = near.filter(|(i, _)| !self.exclude_outside || (0.0..=last).contains(i)).collect();
        let sum: f64 = near.iter().map(|(_, share)| share).sum();
        near.into_iter().map(|(i, share)| (i.clamp(0.0, last) as usize, share / sum)).collect()
    }
}

/// Rows and columns up to which two spellings are compared pixel by pixel.
const MAX_COMPARED: usize = 1 << 16;

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
