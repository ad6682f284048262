//! Resizing of images: nearest neighbour or bilinear.

use super::attributes::{AttributeValue, attribute_enum, attributes};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::planes::fill_planes;
use super::{Operation, ShapeError, Window, image_shape};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// How a pixel between pixels gets its value.
    pub enum Interpolation { Nearest = "nearest", Bilinear = "bilinear" }
}

attribute_enum! {
    /// Where, in input pixels, the centre of output pixel `i` lies.
    pub enum Coordinates {
        /// As PyTorch has it: `asymmetric` for nearest, `half_pixel` for bilinear.
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
    /// pixel `⌊i / factor⌋`, bilinear places pixel centres at half-integers. Positions beyond the
    /// border count as the border.
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
            (Coordinates::Usual, Interpolation::Bilinear) => Coordinates::HalfPixel,
            (given, _) => given,
        };
        match coordinates {
            Coordinates::AlignCorners if output > 1 => i as f64 * (input - 1) as f64 / (output - 1) as f64,
            Coordinates::AlignCorners => 0.0,
            Coordinates::HalfPixel => (i as f64 + 0.5) * step - 0.5,
            Coordinates::Asymmetric | Coordinates::Usual => i as f64 * step,
        }
    }

    /// The two input pixels that output pixel `i` of an axis mixes, and the second one's share.
    pub fn source(&self, axis: usize, i: usize, input: usize, output: usize) -> (usize, usize, f64) {
        let last = input - 1;
        let position = self.position(axis, i, input, output);
        if self.mode == Interpolation::Nearest {
            // `as` saturates at 0.
            let nearest = (self.rounding.round(position) as usize).min(last);
            return (nearest, nearest, 0.0);
        }
        let position = position.clamp(0.0, last as f64);
        let first = position.floor() as usize;
        (first, (first + 1).min(last), position - first as f64)
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
            param("mode", ParamType::Str, Preset::Str("nearest"), "nearest or bilinear"),
            param("align_corners", ParamType::Bool, Preset::Bool(false), "corner pixels' centres coincide"),
            param(
                "coordinates",
                ParamType::Str,
                Preset::Absent,
                "where pixels lie: half_pixel (bilinear's default), asymmetric (nearest's) or align_corners",
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
                .ok_or_else(|| error("mode", format!("no mode `{}`: nearest or bilinear", a.str("mode"))))?;
            let coordinates = match (a.has("coordinates"), a.bool("align_corners")) {
                (true, true) => {
                    return Err(error("coordinates", "give either `coordinates` or `align_corners`, not both".into()));
                }
                (true, false) => Coordinates::parse(a.str("coordinates")).ok_or_else(|| {
                    error("coordinates", format!("no coordinates `{}`", a.str("coordinates")))
                })?,
                (false, true) if mode == Interpolation::Nearest => {
                    return Err(error("align_corners", "align_corners applies to the bilinear mode only".into()));
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

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let (oh, ow) = (output[2], output[3]);
        fill_planes(output, |n, c, plane| {
            let x = &inputs[0].data()[(n * channels + c) * h * w..][..h * w];
            let at = |y: usize, x_at: usize| f64::from(x[y * w + x_at]);
            for (i, result) in plane.iter_mut().enumerate() {
                let (y0, y1, dy) = self.source(0, i / ow, h, oh);
                let (x0, x1, dx) = self.source(1, i % ow, w, ow);
                let upper = at(y0, x0) * (1.0 - dx) + at(y0, x1) * dx;
                let lower = at(y1, x0) * (1.0 - dx) + at(y1, x1) * dx;
                *result = (upper * (1.0 - dy) + lower * dy) as f32;
            }
        })
    }

    fn window(&self, inputs: &[&Shape], output: &Shape) -> Option<Window> {
        let taps = if self.mode == Interpolation::Nearest { 1 } else { 2 };
        let upscale = [2, 3].map(|axis| output[axis] as f64 / inputs[0][axis] as f64);
        Some(Window { extent: [taps; 2], stride: [1, 1], upscale })
    }
}
