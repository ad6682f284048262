//! Images sampled at positions that another value holds: spatial transformers (Jaderberg et al. 2015, arXiv:1506.02025).

use super::attributes::{AttributeValue, attribute_enum, attributes};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart, joined};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::planes::fill_planes;
use super::upsample::cubic;
use super::{Op, Operation, ShapeError, image_shape};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// How a pixel between pixels gets its value.
    pub enum Sampling {
        /// The pixel that is nearest, of two as near the one with the even number.
        Nearest = "nearest",
        /// Between the two neighbours along each axis, by their distances.
        Bilinear = "bilinear",
        /// Keys' cubic kernel (1981) with a = −3/4.
        Bicubic = "bicubic",
    }
}

attribute_enum! {
    /// What lies beyond the border.
    pub enum Beyond {
        /// Zeros.
        Zeros = "zeros",
        /// The pixel of the border that is nearest.
        Border = "border",
        /// The image's mirror image.
        Reflection = "reflection",
        /// The pixel of the border that is nearest, and zeros where a position is more than a pixel outside: RoiAlign's.
        NearBorder = "near_border",
    }
}

attribute_enum! {
    /// What a position means.
    pub enum GridCoordinates {
        /// Column and row; −1 and 1 are the image's edges: PyTorch's `align_corners = False`.
        HalfPixel = "half_pixel",
        /// Column and row; −1 and 1 are the centres of the corner pixels.
        AlignCorners = "align_corners",
        /// Row and column in pixels, whole numbers their centres.
        Pixels = "pixels",
    }
}

attributes! {
    /// `[N, C, H, W], [N, H', W', 2] → [N, C, H', W']`: PyTorch's `grid_sample`. A batch of one image, or of one grid, serves
    /// all of the other.
    pub struct GridSample {
        mode: Sampling = Sampling::Bilinear,
        beyond: Beyond = Beyond::Zeros,
        coordinates: GridCoordinates = GridCoordinates::HalfPixel,
    }
}

/// Pixels of an image at most: their numbers are computed in single precision.
pub const MAX_PIXELS: usize = 1 << 24;
/// Positions are brought within this, where the mirror images of a mirror image are told apart.
pub const FARTHEST: f32 = 1_048_576.0;

impl Sampling {
    /// Pixels along an axis that a sample mixes.
    pub fn taps(self) -> usize {
        match self {
            Sampling::Nearest => 1,
            Sampling::Bilinear => 2,
            Sampling::Bicubic => 4,
        }
    }
}

impl GridSample {
    /// The least and the largest position along an axis of so many pixels; all beyond give what these give.
    pub fn bounds(&self, size: usize) -> [f32; 2] {
        match self.beyond {
            Beyond::Reflection => [-FARTHEST, FARTHEST],
            Beyond::Border | Beyond::NearBorder if self.mode != Sampling::Bicubic => [0.0, (size - 1) as f32],
            _ => [-2.0, (size + 1) as f32],
        }
    }

    /// The interval, twice over, at whose ends an axis is mirrored.
    pub fn mirrors(&self, size: usize) -> [f32; 2] {
        match self.coordinates {
            GridCoordinates::HalfPixel => [-1.0, (2 * size - 1) as f32],
            GridCoordinates::AlignCorners | GridCoordinates::Pixels => [0.0, (2 * size - 2) as f32],
        }
    }

    fn reflected(&self, x: f32, size: usize) -> f32 {
        let [low, high] = self.mirrors(size);
        if low == high {
            return 0.0;
        }
        let (least, span) = (low / 2.0, (high - low) / 2.0);
        let x = (x - least).abs();
        let flips = (x / span).floor();
        let rest = x - flips * span;
        if (flips / 2.0).floor() * 2.0 == flips { rest + least } else { span - rest + least }
    }

    /// An image of height and width at a row and a column, as the coordinates are meant.
    pub(super) fn sample(&self, image: &[f32], [row, column]: [f32; 2], [h, w]: [usize; 2]) -> f64 {
        let (rows, columns) = (self.along(row, h), self.along(column, w));
        let mut sum = 0.0;
        for &(row, of_row) in &rows {
            for &(column, of_column) in &columns {
                if let (Some(row), Some(column)) = (row, column) {
                    sum += f64::from(image[row * w + column]) * of_row * of_column;
                }
            }
        }
        sum
    }

    /// What a coordinate mixes along an axis: pixels, or `None` for zeros, and their shares. In single precision as far as
    /// jumps depend on it, as code computes it.
    fn along(&self, g: f32, size: usize) -> Vec<(Option<usize>, f64)> {
        let length = size as f32;
        let place = match self.coordinates {
            GridCoordinates::HalfPixel => ((g + 1.0) * length - 1.0) * 0.5,
            GridCoordinates::AlignCorners => ((g + 1.0) * 0.5) * (length - 1.0),
            GridCoordinates::Pixels => g,
        };
        let [low, high] = self.bounds(size);
        let is_far = self.beyond == Beyond::NearBorder && !(-1.0..=length).contains(&place);
        // What is no number goes to the lower end.
        let clamp = |x: f32, low: f32, high: f32| if x > low { x.min(high) } else { low };
        let mut x = clamp(place, low, high);
        if self.beyond == Beyond::Reflection && self.mode != Sampling::Bicubic {
            x = clamp(self.reflected(x, size), 0.0, length - 1.0);
        }
        let pixel = |i: f32| -> Option<usize> {
            let i = if self.beyond == Beyond::Reflection { self.reflected(i, size) } else { i };
            let outside = !(0.0..length).contains(&i);
            if is_far || (self.beyond == Beyond::Zeros && outside) {
                return None;
            }
            Some(clamp(i, 0.0, length - 1.0) as usize)
        };
        let (floor, nearest) = (x.floor(), x.round_ties_even());
        let part = f64::from(x - floor);
        match self.mode {
            Sampling::Nearest => vec![(pixel(nearest), 1.0)],
            Sampling::Bilinear => vec![(pixel(floor), 1.0 - part), (pixel(floor + 1.0), part)],
            Sampling::Bicubic => {
                (-1..=2i8).map(|i| (pixel(floor + f32::from(i)), cubic(-0.75, (f64::from(i) - part).abs()))).collect()
            }
        }
    }
}

impl Operation for GridSample {
    const NAME: &'static str = "grid_sample";
    const LAYERS: &'static [Layer] = &[Layer {
        name: "grid_sample",
        doc: "samples images at the positions of another value, [N, H', W', 2]",
        arity: Arity::Operands,
        params: &[
            param("mode", ParamType::Str, Preset::Str("bilinear"), "nearest, bilinear or bicubic"),
            param("padding", ParamType::Str, Preset::Str("zeros"), "zeros, border, reflection or near_border"),
            param("align_corners", ParamType::Bool, Preset::Bool(false), "-1 and 1 are the corner pixels' centres"),
            param("pixels", ParamType::Bool, Preset::Bool(false), "positions are rows and columns in pixels"),
        ],
        build: |a| {
            let error = |param, message: String| LayerError { param, message };
            let mode = Sampling::parse(a.str("mode"))
                .ok_or_else(|| error("mode", format!("no mode `{}`: nearest, bilinear or bicubic", a.str("mode"))))?;
            let beyond = Beyond::parse(a.str("padding")).ok_or_else(|| {
                let found = a.str("padding");
                error("padding", format!("no padding `{found}`: zeros, border, reflection or near_border"))
            })?;
            let coordinates = match (a.bool("align_corners"), a.bool("pixels")) {
                (true, true) => return Err(error("pixels", "align_corners is not for positions in pixels".into())),
                (true, false) => GridCoordinates::AlignCorners,
                (false, true) => GridCoordinates::Pixels,
                (false, false) => GridCoordinates::HalfPixel,
            };
            Ok(GridSample { mode, beyond, coordinates }.into())
        },
        arguments: |op| match op {
            Op::GridSample(op) => Some(vec![
                ("mode", op.mode.name().into()),
                ("padding", op.beyond.name().into()),
                ("align_corners", (op.coordinates == GridCoordinates::AlignCorners).into()),
                ("pixels", (op.coordinates == GridCoordinates::Pixels).into()),
            ]),
            _ => None,
        },
    }];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, "grid_sample")?;
        let Some([m, height, width, 2]) = inputs[1].nchw() else {
            let message = format!("positions are [N, height, width, 2], not {}", inputs[1]);
            return Err(ShapeError::new(message).operand(1));
        };
        if n != m && n != 1 && m != 1 {
            return Err(ShapeError::new(format!("{n} images and {m} grids")).operand(1).between_operands());
        }
        match h.checked_mul(w) {
            Some(pixels) if pixels <= MAX_PIXELS => Ok([n.max(m), c, height, width].into()),
            _ => Err(ShapeError::new(format!("images of {h} x {w} pixels: {MAX_PIXELS} at most")).operand(0)),
        }
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        let rank = inputs[0].rank();
        let parts = images.iter().map(|&i| apart(i, &(1..rank).collect::<Vec<_>>())).collect::<Result<Vec<_>, _>>()?;
        joined(parts)
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [n, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let (grids, pixels) = (inputs[1].shape()[0], output[2] * output[3]);
        let (x, grid) = (inputs[0].data(), inputs[1].data());
        let by_rows = self.coordinates == GridCoordinates::Pixels;
        fill_planes(output, |image, c, plane| {
            let x = &x[((image % n) * channels + c) * h * w..][..h * w];
            let grid = &grid[(image % grids) * pixels * 2..][..pixels * 2];
            for (result, place) in plane.iter_mut().zip(grid.chunks(2)) {
                let (row, column) = if by_rows { (place[0], place[1]) } else { (place[1], place[0]) };
                *result = self.sample(x, [row, column], [h, w]) as f32;
            }
        })
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Err("has no gradient in netc yet".into())
    }
}
