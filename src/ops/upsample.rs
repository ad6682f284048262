//! Resizing of images: nearest neighbour, bilinear or cubic.

use super::attributes::{AttributeValue, attribute_enum, attributes};
use super::element;
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, Value, param};
use super::planes::fill_planes_of;
pub use super::position::Rounding;
use super::position::{Axis, Position, Ratio};
use super::{Op, Operation, ShapeError, UpsampleGradient, Window, image_shape};
use crate::tensor::{Element, Shape, Tensor};

attribute_enum! {
    /// How a pixel between pixels gets its value.
    pub enum Interpolation {
        /// The pixel that is nearest, see [`Rounding`].
        Nearest = "nearest",
        /// Between the two neighbours along each axis, by their distances.
        Bilinear = "bilinear",
        /// Keys' cubic kernel (1981) with a = −3/4, as PyTorch's and OpenCV's `bicubic`.
        Bicubic = "bicubic",
        /// The same with a = −1/2, as TensorFlow's.
        CatmullRom = "catmull_rom",
    }
}

impl Interpolation {
    /// Pixels along an axis that an output pixel mixes.
    pub fn taps(self) -> usize {
        match self {
            Interpolation::Nearest => 1,
            Interpolation::Bilinear => 2,
            Interpolation::Bicubic | Interpolation::CatmullRom => 4,
        }
    }

    /// Keys' parameter.
    pub fn cubic(self) -> Option<f64> {
        match self {
            Interpolation::Nearest | Interpolation::Bilinear => None,
            Interpolation::Bicubic => Some(-0.75),
            Interpolation::CatmullRom => Some(-0.5),
        }
    }

    /// The share of a pixel at a distance from the position asked for.
    fn share(self, distance: f64) -> f64 {
        match self.cubic() {
            None => (1.0 - distance).max(0.0),
            Some(a) => cubic(a, distance),
        }
    }
}

/// Keys' cubic kernel with parameter `a` at a distance.
pub fn cubic(a: f64, distance: f64) -> f64 {
    match distance {
        d if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
        d if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
        _ => 0.0,
    }
}

attribute_enum! {
    /// Where, in input pixels, the centre of output pixel `i` lies.
    pub enum Coordinates {
        /// As PyTorch has it: `asymmetric` for nearest, `half_pixel` for all others; but see
        /// [`Upsample::taps`].
        Usual = "usual",
        /// `(i + 1/2) · step − 1/2`: pixel centres at half-integers.
        HalfPixel = "half_pixel",
        /// `i · step`: the top left corners coincide.
        Asymmetric = "asymmetric",
        /// `i · (input − 1) / (output − 1)`: the corner pixels' centres coincide.
        AlignCorners = "align_corners",
    }
}

/// The size that images are brought to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResizeTo {
    /// ⌊size · factor⌋, height and width; the product is rounded to double precision before, as PyTorch's.
    Scale([f64; 2]),
    /// Height and width.
    Size([usize; 2]),
}

impl AttributeValue for ResizeTo {
    fn print(&self) -> String {
        match self {
            ResizeTo::Scale([h, w]) => format!("scale({h:?},{w:?})"),
            ResizeTo::Size([h, w]) => format!("size({h},{w})"),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        let (name, arguments) = text.strip_suffix(')')?.split_once('(')?;
        let (h, w) = arguments.split_once(',')?;
        match name {
            "scale" => Some(ResizeTo::Scale([h.parse().ok()?, w.parse().ok()?])),
            "size" => Some(ResizeTo::Size([h.parse().ok()?, w.parse().ok()?])),
            _ => None,
        }
    }
}

attributes! {
    /// `[N, C, H, W] → [N, C, H', W']`. By default as PyTorch's `interpolate`: nearest takes input
    /// pixel `⌊i / factor⌋`, the others place pixel centres at half-integers. Pixels beyond the border
    /// have the values of those at the border.
    pub struct Upsample {
        to: ResizeTo,
        mode: Interpolation = Interpolation::Nearest,
        coordinates: Coordinates = Coordinates::Usual,
        /// Of the nearest mode.
        rounding: Rounding = Rounding::Floor,
    }
}

impl Upsample {
    /// An axis of so many pixels.
    fn axis(&self, axis: usize, input: usize, output: usize) -> Axis {
        let step = match self.to {
            ResizeTo::Scale(factor) => Ratio::of(factor[axis]).inverse(),
            ResizeTo::Size(_) => Ratio::new(input, output),
        };
        Axis { input, output, step }
    }

    /// The place of output pixel `i` of an axis.
    fn position(&self, index: usize, i: usize, axis: &Axis) -> Position {
        // PyTorch copies an axis whose size stays, whatever the factor, but for the cubic modes.
        let is_copied = axis.input == axis.output && self.mode.taps() <= 2;
        match (self.coordinates, self.mode) {
            (Coordinates::Usual, _) if is_copied => Position { whole: i as i64, part: 0.0 },
            (Coordinates::Usual, Interpolation::Nearest) => {
                // In single precision, as PyTorch has it: pixel 41 of 2 → 82 is there the first of the two.
                let step = match self.to {
                    ResizeTo::Scale(factor) => (1.0 / factor[index]) as f32,
                    ResizeTo::Size(_) => axis.input as f32 / axis.output as f32,
                };
                Position::from(f64::from(i as f32 * step))
            }
            (Coordinates::AlignCorners, _) => axis.align_corners(i),
            (Coordinates::HalfPixel | Coordinates::Usual, _) => axis.half_pixel(i),
            (Coordinates::Asymmetric, _) => axis.asymmetric(i),
        }
    }

    /// The input pixels that each output pixel of an axis (0: rows, 1: columns) mixes, and their shares: as
    /// many as the mode has taps. At the border pixels repeat.
    ///
    /// Positions are exact ratios of integers, and PyTorch's where those differ and `coordinates` are the
    /// usual ones.
    pub fn taps(&self, axis: usize, input: usize, output: usize) -> Vec<Vec<(usize, f64)>> {
        let place = self.axis(axis, input, output);
        (0..output).map(|i| self.mix(&place, self.position(axis, i, &place))).collect()
    }

    /// Where an axis becomes a whole number of times as long: by the place p of output pixel `factor · i + p` which pixels it
    /// mixes, as distances from input pixel i, and their shares. `None` where pixels are not so regular, or the factor
    /// is large.
    pub fn pattern(&self, axis: usize, input: usize, output: usize) -> Option<Vec<Vec<(isize, f32)>>> {
        const MOST: usize = 8;
        // Pixels on either side of the middle one: none of its taps lies beyond the border.
        const BESIDE: usize = 2;
        let factor = output / input.max(1);
        if input <= 2 * BESIDE || output % input != 0 || factor > MOST {
            return None;
        }
        let taps = self.taps(axis, input, output);
        let middle = input / 2;
        let of_middle = |p: usize| {
            let taps = &taps[factor * middle + p];
            taps.iter().map(|&(place, share)| (place as isize - middle as isize, share as f32)).collect::<Vec<_>>()
        };
        let pattern: Vec<_> = (0..factor).map(of_middle).collect();
        let is_regular = taps.iter().enumerate().all(|(o, taps)| {
            let places = pattern[o % factor].iter().map(|&(distance, share)| {
                let place = ((o / factor) as isize + distance).clamp(0, input as isize - 1);
                (place as usize, share)
            });
            places.eq(taps.iter().map(|&(place, share)| (place, share as f32)))
        });
        is_regular.then_some(pattern)
    }

    /// The same pixels get the same shares along an axis of input and output pixels.
    pub fn is_same(&self, other: &Self, axis: usize, [input, output]: [usize; 2]) -> bool {
        let axes = [self, other].map(|op| (op, op.axis(axis, input, output)));
        (0..output).all(|i| {
            let [one, two] = axes.map(|(op, place)| op.mix(&place, op.position(axis, i, &place)));
            one == two
        })
    }

    /// What a pixel at a position mixes.
    fn mix(&self, axis: &Axis, position: Position) -> Vec<(usize, f64)> {
        let taps = self.mode.taps() as i64;
        if taps == 1 {
            return vec![(axis.pixel(position.nearest(self.rounding)), 1.0)];
        }
        let offsets = 1 - taps / 2..=taps / 2;
        let share = |offset: i64| self.mode.share((offset as f64 - position.part).abs());
        offsets.map(|offset| (axis.pixel(position.whole + offset), share(offset))).collect()
    }
}

impl Upsample {
    /// As PyTorch does it.
    pub fn new(to: ResizeTo, mode: Interpolation, align_corners: bool) -> Self {
        let coordinates = if align_corners { Coordinates::AlignCorners } else { Coordinates::Usual };
        Self { to, mode, coordinates, rounding: Rounding::Floor }
    }
}

impl Operation for Upsample {
    const NAME: &'static str = "upsample";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "upsample",
        doc: "resizes images, sequences or volumes by a factor or to a size",
        arity: Arity::Unary,
        params: &[
            param("scale", ParamType::Floats3, Preset::Absent, "factor: one, (vertical, horizontal), of volumes three"),
            param("size", ParamType::Sizes, Preset::Absent, "result's size: one, (height, width), of volumes three"),
            param(
                "mode",
                ParamType::Str,
                Preset::Str("nearest"),
                "nearest, bilinear (of sequences linear, of volumes trilinear), bicubic (a = -3/4) or catmull_rom (a = -1/2)",
            ),
            param("align_corners", ParamType::Bool, Preset::Bool(false), "corner pixels' centres coincide"),
            param(
                "coordinates",
                ParamType::Str,
                Preset::Absent,
                "where pixels lie: half_pixel (the default), asymmetric (nearest's default) or align_corners",
            ),
            param("rounding", ParamType::Str, Preset::Str("floor"), "nearest: floor, ceil, half_down or half_up"),
        ],
        build: |a| {
            let error = |param, message: String| LayerError { param, message };
            if let Some(param) = ["scale", "size"].into_iter().find(|p| a.has(p) && a.count_of(p) == 3) {
                return Err(error(param, "three numbers are those of a volume [N, C, D, H, W]".into()));
            }
            let to = match (a.has("scale"), a.has("size")) {
                (true, false) => ResizeTo::Scale(a.float2("scale")),
                (false, true) => ResizeTo::Size(a.size2("size")),
                (true, true) => return Err(error("size", "give either `scale` or `size`, not both".into())),
                (false, false) => return Err(error("scale", "`scale` or `size` is missing".into())),
            };
            let mode = Interpolation::parse(a.str("mode")).ok_or_else(|| {
                error(
                    "mode",
                    match a.str("mode") {
                        "linear" => "`linear` is the mode of sequences [N, C, L]; of images it is `bilinear`".into(),
                        "trilinear" => "`trilinear` is the mode of volumes; of images it is `bilinear`".into(),
                        other => format!("no mode `{other}`: nearest, bilinear, bicubic or catmull_rom"),
                    },
                )
            })?;
            let coordinates = match (a.has("coordinates"), a.bool("align_corners")) {
                (true, true) => {
                    return Err(error("coordinates", "give either `coordinates` or `align_corners`, not both".into()));
                }
                (true, false) => Coordinates::parse(a.str("coordinates"))
                    .ok_or_else(|| error("coordinates", format!("no coordinates `{}`", a.str("coordinates"))))?,
                (false, true) if mode == Interpolation::Nearest => {
                    return Err(error("align_corners", "align_corners does not apply to the nearest mode".into()));
                }
                (false, true) => Coordinates::AlignCorners,
                (false, false) => Coordinates::Usual,
            };
            let rounding = Rounding::parse(a.str("rounding"))
                .ok_or_else(|| error("rounding", format!("no rounding `{}`", a.str("rounding"))))?;
            Ok(Upsample { to, mode, coordinates, rounding }.into())
        },
        arguments: |op| {
            let Op::Upsample(op) = op else { return None };
            let to = match op.to {
                ResizeTo::Size(size) => ("size", size.into()),
                ResizeTo::Scale([v, h]) if v == h => ("scale", Value::Float(v)),
                ResizeTo::Scale([v, h]) => ("scale", Value::Tuple(vec![Value::Float(v), Value::Float(h)])),
            };
            let mut arguments = vec![to, ("mode", op.mode.name().into())];
            match op.coordinates {
                Coordinates::Usual => {}
                Coordinates::AlignCorners if op.mode != Interpolation::Nearest => {
                    arguments.push(("align_corners", true.into()));
                }
                other => arguments.push(("coordinates", other.name().into())),
            }
            arguments.push(("rounding", op.rounding.name().into()));
            Some(arguments)
        },
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "upsample")?;
        let [oh, ow] = match self.to {
            ResizeTo::Size(size) => size,
            ResizeTo::Scale(factor) => {
                if factor.iter().any(|f| !f.is_finite() || *f <= 0.0) {
                    return Err(ShapeError::new("the factor must be positive and finite").param("scale"));
                }
                // `as` saturates: an absurd size is refused as too large.
                [(h as f64 * factor[0]) as usize, (w as f64 * factor[1]) as usize]
            }
        };
        Ok([n, c, oh, ow].into())
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        if self.mode == Interpolation::Nearest { element::comparable(inputs) } else { element::float(inputs) }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let (oh, ow) = (output[2], output[3]);
        let (rows, columns) = (self.taps(0, h, oh), self.taps(1, w, ow));
        fill_planes_of(inputs[0], output, |x, n, c, plane| {
            let x = &x[(n * channels + c) * h * w..][..h * w];
            for (i, result) in plane.iter_mut().enumerate() {
                let mixed = |row: usize| -> f64 {
                    columns[i % ow].iter().map(|&(column, share)| f64::from(x[row * w + column]) * share).sum()
                };
                *result = rows[i / ow].iter().map(|&(row, share)| mixed(row) * share).sum::<f64>() as f32;
            }
        })
    }

    fn window(&self, inputs: &[&Shape], output: &Shape) -> Option<Window> {
        let taps = self.mode.taps();
        let upscale = [2, 3].map(|axis| output[axis] as f64 / inputs[0][axis] as f64);
        Some(Window { extent: [taps; 2], stride: [1, 1], upscale })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let shape = g.operand_shape(0);
        Ok(vec![Some(g.add(UpsampleGradient::of(self, [shape[2], shape[3]]), &[g.of_result])?)])
    }
}
