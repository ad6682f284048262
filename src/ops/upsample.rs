//! Resizing of images: nearest neighbour, bilinear or cubic.

use super::attributes::{AttributeValue, attribute_enum, attributes};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{Operation, ShapeError, Window, image_shape};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// How a pixel between pixels gets its value.
    pub enum Interpolation {
        Nearest = "nearest",
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
        /// As PyTorch has it: `asymmetric` for nearest, `half_pixel` for all others.
        Usual = "usual",
        /// `(i + 1/2) · step − 1/2`: pixel centres at half-integers.
        HalfPixel = "half_pixel",
        /// `i · step`: the top left corners coincide.
        Asymmetric = "asymmetric",
        /// `i · (input − 1) / (output − 1)`: the corner pixels' centres coincide.
        AlignCorners = "align_corners",
    }
}

attribute_enum! {
    /// Which pixel is nearest to a position.
    pub enum Rounding {
        Floor = "floor",
        Ceil = "ceil",
        /// The nearer of the two; in the middle the lower one.
        HalfDown = "half_down",
        /// The nearer of the two; in the middle the upper one.
        HalfUp = "half_up",
    }
}

impl Rounding {
    /// The pixel, which may lie beyond the border.
    pub fn round(self, position: f64) -> f64 {
        match self {
            Rounding::Floor => position.floor(),
            Rounding::Ceil => position.ceil(),
            Rounding::HalfDown => (position - 0.5).ceil(),
            Rounding::HalfUp => (position + 0.5).floor(),
        }
    }
}

/// The size that images are brought to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// ⌊size · factor⌋, height and width.
    Scale([f32; 2]),
    Size([usize; 2]),
}

impl AttributeValue for Target {
    fn print(&self) -> String {
        match self {
            Target::Scale([h, w]) => format!("scale({h:?},{w:?})"),
            Target::Size([h, w]) => format!("size({h},{w})"),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        let (name, arguments) = text.strip_suffix(')')?.split_once('(')?;
        let (h, w) = arguments.split_once(',')?;
        match name {
            "scale" => Some(Target::Scale([h.parse().ok()?, w.parse().ok()?])),
            "size" => Some(Target::Size([h.parse().ok()?, w.parse().ok()?])),
            _ => None,
        }
    }
}

attributes! {
    /// `[N, C, H, W] → [N, C, H', W']`. By default as PyTorch's `interpolate`: nearest takes input
    /// pixel `⌊i / factor⌋`, the others place pixel centres at half-integers. Pixels beyond the border
    /// have the values of those at the border.
    pub struct Upsample {
        to: Target,
        mode: Interpolation = Interpolation::Nearest,
        coordinates: Coordinates = Coordinates::Usual,
        /// Of the nearest mode.
        rounding: Rounding = Rounding::Floor,
    }
}

impl Upsample {
    /// Input pixels per output pixel along an axis, but for `align_corners`.
    fn step(&self, axis: usize, input: usize, output: usize) -> f64 {
        match self.to {
            Target::Scale(factor) => 1.0 / f64::from(factor[axis]),
            Target::Size(_) => input as f64 / output as f64,
        }
    }

    /// The centre of output pixel `i` of an axis, in input pixels.
    fn position(&self, axis: usize, i: usize, input: usize, output: usize) -> f64 {
        let step = self.step(axis, input, output);
        let coordinates = match (self.coordinates, self.mode) {
            (Coordinates::Usual, Interpolation::Nearest) => Coordinates::Asymmetric,
            (Coordinates::Usual, _) => Coordinates::HalfPixel,
            (given, _) => given,
        };
        match coordinates {
            Coordinates::AlignCorners if output > 1 => i as f64 * (input - 1) as f64 / (output - 1) as f64,
            Coordinates::AlignCorners => 0.0,
            Coordinates::HalfPixel => (i as f64 + 0.5) * step - 0.5,
            Coordinates::Asymmetric | Coordinates::Usual => i as f64 * step,
        }
    }

    /// The input pixels that output pixel `i` of an axis mixes, and their shares: as many as the mode
    /// has taps. At the border pixels repeat.
    pub fn taps(&self, axis: usize, i: usize, input: usize, output: usize) -> Vec<(usize, f64)> {
        let last = (input - 1) as f64;
        // `as` saturates at 0.
        let pixel = |place: f64| place.min(last) as usize;
        let position = self.position(axis, i, input, output);
        let taps = self.mode.taps();
        if taps == 1 {
            return vec![(pixel(self.rounding.round(position)), 1.0)];
        }
        let first = position.floor() - (taps / 2 - 1) as f64;
        let places = (0..taps).map(|tap| first + tap as f64);
        places.map(|place| (pixel(place), self.mode.share((place - position).abs()))).collect()
    }
}

impl Upsample {
    /// As PyTorch does it.
    pub fn new(to: Target, mode: Interpolation, align_corners: bool) -> Self {
        let coordinates = if align_corners { Coordinates::AlignCorners } else { Coordinates::Usual };
        Self { to, mode, coordinates, rounding: Rounding::Floor }
    }
}

impl Operation for Upsample {
    const NAME: &'static str = "upsample";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "upsample",
        doc: "resizes images by a factor or to a size",
        arity: Arity::Unary,
        params: &[
            param("scale", ParamType::Float2, Preset::Absent, "factor: one, or (vertical, horizontal)"),
            param("size", ParamType::Size2, Preset::Absent, "result's size: one, or (height, width)"),
            param("mode", ParamType::Str, Preset::Str("nearest"), "nearest, bilinear, bicubic (a = -3/4) or catmull_rom (a = -1/2)"),
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
            let to = match (a.has("scale"), a.has("size")) {
                (true, false) => Target::Scale(a.float2("scale")),
                (false, true) => Target::Size(a.size2("size")),
                (true, true) => return Err(error("size", "give either `scale` or `size`, not both".into())),
                (false, false) => return Err(error("scale", "`scale` or `size` is missing".into())),
            };
            let mode = Interpolation::parse(a.str("mode"))
                .ok_or_else(|| error("mode", format!("no mode `{}`: nearest, bilinear, bicubic or catmull_rom", a.str("mode"))))?;
            let coordinates = match (a.has("coordinates"), a.bool("align_corners")) {
                (true, true) => {
                    return Err(error("coordinates", "give either `coordinates` or `align_corners`, not both".into()));
                }
                (true, false) => Coordinates::parse(a.str("coordinates")).ok_or_else(|| {
                    error("coordinates", format!("no coordinates `{}`", a.str("coordinates")))
                })?,
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
    }];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "upsample")?;
        let [oh, ow] = match self.to {
            Target::Size(size) => size,
            Target::Scale(factor) => {
                if factor.iter().any(|f| !f.is_finite() || *f <= 0.0) {
                    return Err(ShapeError::new("the factor must be positive and finite").param("scale"));
                }
                // `as` saturates: an absurd size is refused as too large.
                [(h as f64 * f64::from(factor[0])) as usize, (w as f64 * f64::from(factor[1])) as usize]
            }
        };
        Ok([n, c, oh, ow].into())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let (oh, ow) = (output[2], output[3]);
        let rows: Vec<_> = (0..oh).map(|i| self.taps(0, i, h, oh)).collect();
        let columns: Vec<_> = (0..ow).map(|i| self.taps(1, i, w, ow)).collect();
        fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * h * w..][..h * w];
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
}
