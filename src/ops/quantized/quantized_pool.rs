//! Means of windows of levels.

use super::super::adaptive_avg_pool::adaptive_range;
use super::super::attributes::{AttributeReader, AttributeValue};
use super::super::images::Images;
use super::super::layer::Layer;
use super::super::planes::fill_planes;
use super::super::{AdaptiveAvgPool, Attributes, AvgPool, Operation, ShapeError, Window};
use super::{Grid, Levels, check_scale, stored};
use crate::tensor::{Element, Shape, Tensor};

/// Pixels of a window at most: f32 holds every sum of so many levels of 8 bits.
pub(crate) const MOST_PIXELS: usize = (1 << f32::MANTISSA_DIGITS) / 255;

/// What the mean of a window of so many rows and columns, as the pool counts them, multiplies its sum by:
/// `fl(fl(multiplier / rows) · fl(1 / columns))`. This is the first of the two factors.
pub(crate) fn row_factor(multiplier: f32, rows: usize) -> f32 {
    multiplier / rows as f32
}

/// The second factor of [`row_factor`].
pub(crate) fn column_factor(columns: usize) -> f32 {
    1.0 / columns as f32
}

/// The attribute of the result's grid: an adaptive pool has an `output` already, its size.
const RESULT: &str = "result";

macro_rules! pools_of_levels {
    ($($(#[$meta:meta])* $name:ident = $text:literal of $reals:ident)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            /// The pool, of f32.
            pub of_reals: $reals,
            /// The zero point of what is pooled.
            pub zero: i64,
            /// What a sum is multiplied by, beside being divided by the number of its pixels.
            pub multiplier: f32,
            /// The grid of the result; f32 without.
            pub output: Option<Grid>,
        }

        impl Attributes for $name {
            fn print_attributes(&self) -> Vec<(&'static str, String)> {
                let mut attributes = self.of_reals.print_attributes();
                attributes.extend((self.zero != 0).then(|| ("zero", self.zero.print())));
                attributes.push(("multiplier", self.multiplier.print()));
                attributes.extend(self.output.map(|grid| (RESULT, grid.print())));
                attributes
            }

            fn parse_attributes(reader: &mut AttributeReader) -> Result<Self, String> {
                let (zero, multiplier) = (reader.take("zero", Some(0))?, reader.take("multiplier", None)?);
                let output = reader.take(RESULT, Some(None))?;
                Ok(Self { of_reals: $reals::parse_attributes(reader)?, zero, multiplier, output })
            }
        }

        impl Operation for $name {
            const NAME: &'static str = $text;
            const LAYERS: &'static [Layer] = &[];

            fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
                let output = self.of_reals.infer(inputs)?;
                Levels { bits: 8, signed: inputs[0].element() == Element::I8 }.check_zero(self.zero)?;
                check_scale(self.multiplier)?;
                self.output.as_ref().map_or(Ok(()), Grid::check)?;
                match most_pixels(&self.of_reals, inputs[0]) <= MOST_PIXELS {
                    true => Ok(output),
                    false => Err(ShapeError::new(format!("a window has more than {MOST_PIXELS} pixels"))),
                }
            }

            fn element(&self, inputs: &[Element]) -> Result<Element, String> {
                super::summed(inputs[0], self.output)
            }

            fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
                self.of_reals.images(images, inputs, output)
            }

            fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
                let [_, channels, _, ow] = output.nchw().expect("checked by the shape rule");
                let [.., h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
                let x = super::centred(inputs[0], self.zero);
                let y = fill_planes(&Shape::new(output.dims()), |n, c, plane| {
                    let image = &x[(n * channels + c) * h * w..][..h * w];
                    for (i, result) in plane.iter_mut().enumerate() {
                        let (pixels, [rows, columns]) = self.of_reals.summed([i / ow, i % ow], [h, w]);
                        let sum: i32 = pixels.into_iter().map(|pixel| image[pixel]).sum();
                        *result = sum as f32 * (row_factor(self.multiplier, rows) * column_factor(columns));
                    }
                });
                stored(y, self.output, output)
            }

            fn window(&self, inputs: &[&Shape], output: &Shape) -> Option<Window> {
                self.of_reals.window(inputs, output)
            }
        }
    )*};
}

pools_of_levels! {
    /// `avg_pool` of levels u8 or i8: `fl(f32(Σ (x − zero)) · factor)` over the pixels of a window, then the result's
    /// grid, as the text of [`super`] says. The factor is `fl(fl(multiplier / rows) · fl(1 / columns))`, with the rows
    /// and columns that the mean counts.
    QuantizedAvgPool = "quantized_avg_pool" of AvgPool
    /// `adaptive_avg_pool` of levels u8 or i8, as [`QuantizedAvgPool`].
    QuantizedAdaptiveAvgPool = "quantized_adaptive_avg_pool" of AdaptiveAvgPool
}

/// A pool whose windows are sums of pixels.
pub(crate) trait Windows {
    /// The pixels of the window of an output, of an image of height and width, and the rows and columns that its mean
    /// counts.
    fn summed(&self, at: [usize; 2], size: [usize; 2]) -> (Vec<usize>, [usize; 2]);

    /// Pixels of its largest window.
    fn most(&self, size: [usize; 2]) -> usize;
}

/// Pixels of a pool's largest window.
pub(crate) fn most_pixels(pool: &impl Windows, input: &Shape) -> usize {
    let size = input.nchw().map_or([0; 2], |[.., h, w]| [h, w]);
    pool.most(size)
}

impl Windows for AvgPool {
    fn summed(&self, at: [usize; 2], size: [usize; 2]) -> (Vec<usize>, [usize; 2]) {
        let counted = |axis: usize| {
            let (before, after) = (self.pad[axis], self.pad[axis + 2]);
            let taps = (0..self.kernel[axis]).map(|tap| at[axis] * self.stride[axis] + tap * self.dilation[axis]);
            let range = match self.count_include_pad {
                true => 0..before + size[axis] + after,
                false => before..before + size[axis],
            };
            taps.filter(|tap| range.contains(tap)).count()
        };
        (self.pixels(at, size).0, [counted(0), counted(1)])
    }

    fn most(&self, _: [usize; 2]) -> usize {
        self.kernel[0].saturating_mul(self.kernel[1])
    }
}

impl Windows for AdaptiveAvgPool {
    fn summed(&self, at: [usize; 2], [h, w]: [usize; 2]) -> (Vec<usize>, [usize; 2]) {
        let rows = adaptive_range(at[0], h, self.output[0]);
        let columns = adaptive_range(at[1], w, self.output[1]);
        let pixels = rows.clone().flat_map(|y| columns.clone().map(move |x| y * w + x)).collect();
        (pixels, [rows.len(), columns.len()])
    }

    fn most(&self, size: [usize; 2]) -> usize {
        (0..2).map(|axis| (size[axis].div_ceil(self.output[axis]) + 1).min(size[axis])).product()
    }
}
