//! Values on grids: how a real number becomes a whole one, and what computes with whole ones.
//!
//! A grid holds the real numbers `(q − zero) · scale` for all whole numbers q of a few bits ([`Grid`]). [`Quantize`]
//! rounds reals to the nearest number of a grid and gives q, [`Dequantize`] gives the real number back: ONNX's
//! `QuantizeLinear` and `DequantizeLinear`. A quantized network as written is a graph of f32 between [`FakeQuantize`], which is
//! both, with layers whose weights are whole numbers ([`Conv2dW8`]).
//!
//! `passes::lower_quantized` makes of it the `quantized_` ops here, which add up whole numbers. What they compute is stated
//! once, in this file ([`Tail`]), to the last bit; compiled code must give the same bits:
//!
//! ```text
//! sum = Σ (x − zero) · w                                     in 32 bits, modulo 2³²
//! y   = fl(fl(f32(sum) · multiplier[o]) + offset[o])         two roundings, no fused multiply-add
//! y   = epilogue(y), step by step, each rounded to f32       an operand on a grid is fl((r − zero) · scale)
//! q   = saturate(rint(fl(y / scale)) + zero)                 of the output's grid; no division where scale is 1
//! ```
//!
//! `fl` rounds to the nearest f32 and `rint` to the nearest whole number, of two the even one; so does f32(…).
//! Of NaN, q is the zero point. Pools have one multiplier and no offset; of [`QuantizedAffine`], the sum is an operand, which may
//! be f32; [`QuantizedBinary`] and [`Requantize`] begin with operands as an epilogue reads them.

mod dequantize;
mod fake_quantize;
mod quantize;
mod quantized_affine;
mod quantized_binary;
mod quantized_conv2d;
mod quantized_conv_transpose2d;
mod quantized_global_pool;
mod quantized_linear;
mod quantized_pool;
mod requantize;
#[cfg(test)]
mod tests;
mod whole_weights;

pub use dequantize::Dequantize;
pub use fake_quantize::FakeQuantize;
pub use quantize::Quantize;
pub use quantized_affine::QuantizedAffine;
pub use quantized_binary::QuantizedBinary;
pub use quantized_conv_transpose2d::QuantizedConvTranspose2d;
pub use quantized_conv2d::QuantizedConv2d;
pub use quantized_global_pool::QuantizedGlobalPool;
pub use quantized_linear::QuantizedLinear;
pub(crate) use quantized_pool::{MOST_PIXELS, column_factor, most_pixels, row_factor};
pub use quantized_pool::{QuantizedAdaptiveAvgPool, QuantizedAvgPool};
pub use requantize::Requantize;
pub(crate) use requantize::is_exact;
pub use whole_weights::{Conv2dW8, ConvTranspose2dW8, LinearW8};

use super::attributes::AttributeValue;
use super::epilogue::{self, PostOp};
use super::{Init, Op, ShapeError, WeightDecl};
use crate::tensor::{Element, Shape, Tensor};

/// The whole numbers of a grid: those of so many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Levels {
    /// From [`Self::BITS`].
    pub bits: usize,
    /// Two's complement: from −2ᵇ⁻¹ on, and not from 0.
    pub signed: bool,
}

impl Levels {
    /// How many bits there may be.
    pub const BITS: std::ops::RangeInclusive<usize> = 2..=16;
    /// From 0 to 255.
    pub const U8: Levels = Levels { bits: 8, signed: false };
    /// From −128 to 127.
    pub const I8: Levels = Levels { bits: 8, signed: true };

    /// The smallest level.
    pub fn low(self) -> i64 {
        if self.signed { -(1 << (self.bits - 1)) } else { 0 }
    }

    /// The largest level.
    pub fn high(self) -> i64 {
        self.low() + (1 << self.bits) - 1
    }

    /// The smallest element that holds all levels.
    pub fn element(self) -> Element {
        match (self.bits, self.signed) {
            (..=8, true) => Element::I8,
            (..=8, false) => Element::U8,
            (..=16, true) | (..=15, false) => Element::I16,
            _ => Element::I32,
        }
    }

    /// The level of `x / scale` and a zero point.
    pub(crate) fn nearest(self, x: f32, scale: f32, zero: f64) -> f64 {
        let steps = (if scale == 1.0 { x } else { x / scale }).round_ties_even();
        let level = if steps.is_nan() { zero } else { f64::from(steps) + zero };
        level.clamp(self.low() as f64, self.high() as f64)
    }

    pub(crate) fn check(self) -> Result<(), ShapeError> {
        let (least, most) = (Self::BITS.start(), Self::BITS.end());
        match Self::BITS.contains(&self.bits) {
            true => Ok(()),
            false => Err(ShapeError::new(format!("bits are from {least} to {most}, not {}", self.bits)).param("bits")),
        }
    }

    /// Requires a zero point that is a level.
    pub(crate) fn check_zero(self, zero: i64) -> Result<(), ShapeError> {
        match (self.low()..=self.high()).contains(&zero) {
            true => Ok(()),
            false => Err(ShapeError::new(format!(
                "the zero point of {} is from {} to {}, not {zero}",
                self.print(),
                self.low(),
                self.high()
            ))
            .param("zero_point")),
        }
    }
}

/// Requires a scale that a grid has: a positive number.
pub(crate) fn check_scale(scale: f32) -> Result<(), ShapeError> {
    match scale > 0.0 && scale.is_finite() {
        true => Ok(()),
        false => Err(ShapeError::new(format!("a scale is a number above 0, not {scale:?}")).param("scale")),
    }
}

/// `u8`, `i4`.
impl AttributeValue for Levels {
    fn print(&self) -> String {
        format!("{}{}", if self.signed { 'i' } else { 'u' }, self.bits)
    }
    fn parse(text: &str) -> Option<Self> {
        let (signed, bits) = match text.strip_prefix('i') {
            Some(bits) => (true, bits),
            None => (false, text.strip_prefix('u')?),
        };
        let levels = Levels { bits: bits.parse().ok()?, signed };
        levels.check().is_ok().then_some(levels)
    }
}

/// The real numbers `(q − zero) · scale` for all levels q: one scale for all elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// What q may be.
    pub levels: Levels,
    /// The distance of two neighbours, above 0.
    pub scale: f32,
    /// The level of the number 0.
    pub zero: i64,
}

impl Grid {
    /// The level of the nearest number.
    pub fn nearest(&self, x: f32) -> f64 {
        self.levels.nearest(x, self.scale, self.zero as f64)
    }

    /// The number at a level.
    pub fn real(&self, level: f64) -> f32 {
        real(level, self.scale, self.zero as f64)
    }

    pub(crate) fn check(&self) -> Result<(), ShapeError> {
        self.levels.check()?;
        check_scale(self.scale)?;
        self.levels.check_zero(self.zero)
    }
}

/// `fl((level − zero) · scale)`. Levels beyond 2²⁴ are rounded to f32 before the product.
pub(crate) fn real(level: f64, scale: f32, zero: f64) -> f32 {
    (level - zero) as f32 * scale
}

/// `u8(0.05,128)`
impl AttributeValue for Grid {
    fn print(&self) -> String {
        format!("{}({:?},{})", self.levels.print(), self.scale, self.zero)
    }
    fn parse(text: &str) -> Option<Self> {
        let (levels, numbers) = text.strip_suffix(')')?.split_once('(')?;
        let (scale, zero) = numbers.split_once(',')?;
        let grid = Grid { levels: Levels::parse(levels)?, scale: scale.parse().ok()?, zero: zero.parse().ok()? };
        grid.check().is_ok().then_some(grid)
    }
}

/// Scale and zero point for all elements, or for each entry of an axis, of values of that shape.
///
/// # Errors
/// Where there is no such axis.
pub(crate) fn parameter_dims(x: &Shape, axis: Option<usize>) -> Result<Vec<usize>, ShapeError> {
    match axis {
        None => Ok(vec![]),
        Some(axis) => {
            super::check_axis(axis, x)?;
            Ok(vec![x[axis]])
        }
    }
}

/// For each element of a value of that shape, which of the scales is its own.
pub(crate) fn owner(x: &Shape, axis: Option<usize>) -> impl Fn(usize) -> usize {
    let (inner, size) = match axis {
        None => (1, 1),
        Some(axis) => (x.dims()[axis + 1..].iter().product::<usize>(), x[axis]),
    };
    move |element| element / inner % size
}

/// What is done to sums of products of levels; see the module's text.
pub(crate) struct Tail<'op> {
    /// The zero point of the operand that is summed.
    pub zero: i64,
    /// Of a weight.
    pub weight_bits: usize,
    pub epilogue: &'op [PostOp],
    /// Of the values that the epilogue reads, those that are on a grid.
    pub reads: &'op [Option<Grid>],
    /// The grid of the result, where it is on one.
    pub output: Option<Grid>,
}

impl Tail<'_> {
    /// The result's element.
    pub(crate) fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        summed(inputs[0], self.output)
    }

    /// Whether the operands behind the first are those that the epilogue reads, and grids are grids.
    pub(crate) fn check(&self, inputs: &[&Shape], output: &Shape) -> Result<(), ShapeError> {
        let levels = Levels { bits: 8, signed: inputs[0].element() == Element::I8 };
        levels.check_zero(self.zero)?;
        if !MULTIPLIED_BITS.contains(&self.weight_bits) {
            let message = format!("weights that are multiplied as they are have 8 or 9 bits, not {}", self.weight_bits);
            return Err(ShapeError::new(message).param("weight_bits"));
        }
        self.reads.iter().flatten().chain(&self.output).try_for_each(Grid::check)?;
        let expected = epilogue::extra_operands(self.epilogue);
        if self.reads.len() != expected || inputs.len() != 1 + expected {
            return Err(ShapeError::new(format!(
                "the epilogue takes {expected} extra operands, not {} on {} grids",
                inputs.len() - 1,
                self.reads.len()
            )));
        }
        for (i, (found, grid)) in inputs[1..].iter().zip(self.reads).enumerate() {
            let element = grid.map_or(Element::F32, |grid| grid.levels.element());
            let wanted = output.clone().with_element(element);
            if **found != wanted {
                return Err(ShapeError::new(format!("epilogue operand {found} is not {wanted}")).operand(i + 1));
            }
        }
        Ok(())
    }

    /// The result of sums that are multiplied and offset already.
    pub(crate) fn apply(&self, mut y: Tensor, extra: &[&Tensor], output: &Shape) -> Tensor {
        let extra: Vec<Tensor> = extra.iter().zip(self.reads).map(|(value, grid)| read(value, *grid)).collect();
        epilogue::apply(self.epilogue, &mut y, &extra.iter().collect::<Vec<_>>());
        stored(y, self.output, output)
    }
}

/// The element of a result whose operand is summed.
pub(crate) fn summed(x: Element, output: Option<Grid>) -> Result<Element, String> {
    match x {
        Element::U8 | Element::I8 => Ok(output.map_or(Element::F32, |grid| grid.levels.element())),
        other => Err(format!("takes u8 or i8, not {other}")),
    }
}

/// The real numbers of a value that is on a grid, or f32.
pub(crate) fn read(value: &Tensor, grid: Option<Grid>) -> Tensor {
    match grid {
        None => value.clone(),
        Some(grid) => {
            let numbers = value.values().map(|level| grid.real(level)).collect();
            Tensor::new(Shape::new(value.shape().dims()), numbers)
        }
    }
}

/// Results as the output has them: levels of its grid, or f32.
pub(crate) fn stored(y: Tensor, grid: Option<Grid>, output: &Shape) -> Tensor {
    match grid {
        None => y,
        Some(grid) => Tensor::from_values(output.clone(), y.data().iter().map(|&v| grid.nearest(v))),
    }
}

/// The levels of the summed operand less its zero point.
pub(crate) fn centred(x: &Tensor, zero: i64) -> Vec<i32> {
    x.values().map(|level| (level as i64 - zero) as i32).collect()
}

/// The levels of weights.
pub(crate) fn whole(weight: &Tensor) -> Vec<i32> {
    weight.values().map(|level| level as i32).collect()
}

/// `fl(fl(f32(sum) · multiplier) + offset)`
pub(crate) fn scaled(sum: i32, multiplier: f32, offset: f32) -> f32 {
    sum as f32 * multiplier + offset
}

/// Weights of so many bits, and what a sum of `fan_in` products is multiplied by and what is added for each output channel.
pub(crate) fn declare(weight: &[usize], bits: usize, channels: usize, fan_in: usize) -> Vec<WeightDecl> {
    let per_channel = |role, value| WeightDecl::per_channel(role, channels, value, false);
    let levels = whole_weights::levels(bits);
    let bound = levels.high() as f32;
    vec![
        WeightDecl {
            role: "weight",
            shape: Shape::of(levels.element(), weight),
            init: Init::Uniform { low: -bound, high: bound },
            learnable: true,
        },
        per_channel("multiplier", INITIAL_SCALE * whole_scale(fan_in, bits)),
        per_channel("offset", 0.0),
    ]
}

/// Bits of weights that levels are multiplied by: fewer are kept as 8; 9 have a sign beside 8, which is what unsigned weights
/// less a zero point are.
const MULTIPLIED_BITS: std::ops::RangeInclusive<usize> = 8..=whole_weights::MOST;

/// How the label of a `quantize` layer ends that is called after the value which it rounds.
pub(crate) const LABEL_OF_GRID: &str = "_grid";

/// The scale of values where neither a text nor a file gives one: 8 bits reach 16.
pub(crate) const INITIAL_SCALE: f32 = 1.0 / 16.0;

/// The scale with which weights that are drawn from all of so many bits have the variance 2 / fan_in, as f32 weights begin
/// with.
pub(crate) fn whole_scale(fan_in: usize, bits: usize) -> f32 {
    (6.0 / fan_in.max(1) as f32).sqrt() / whole_weights::levels(bits).high() as f32
}

impl Op {
    /// Whether a parameter's values are such as the op can compute with: scales above 0, zero points and weights whole
    /// numbers of so many bits.
    ///
    /// # Errors
    /// Says what a value is to be, and the first that is not.
    pub(crate) fn check_values(&self, declared: &WeightDecl, values: &[f32]) -> Result<(), String> {
        let weights = |bits: usize| whole_weights::levels(bits);
        let of = |levels: Levels| (levels.low() as f64, levels.high() as f64);
        let (low, high) = match self {
            Op::FakeQuantize(op) => of(op.levels),
            Op::Quantize(op) => of(op.levels),
            // A zero point is of what it is taken from.
            Op::Dequantize(_) => declared.shape.element().integer_range().unwrap_or_default(),
            Op::Conv2dW8(op) => of(weights(op.bits)),
            Op::ConvTranspose2dW8(op) => of(weights(op.bits)),
            Op::LinearW8(op) => of(weights(op.bits)),
            _ => return Ok(()),
        };
        let fits = |v: f32| match declared.role {
            "scale" | "weight_scale" => v > 0.0 && v.is_finite(),
            "zero_point" | "weight" => v.fract() == 0.0 && (low..=high).contains(&f64::from(v)),
            _ => true,
        };
        let Some((at, odd)) = values.iter().enumerate().find(|(_, v)| !fits(**v)) else { return Ok(()) };
        let wanted = match declared.role {
            "scale" | "weight_scale" => "a number above 0".to_string(),
            _ => format!("a whole number from {low} to {high}"),
        };
        Err(format!("value {at} is {odd:?}, and has to be {wanted}"))
    }
}
