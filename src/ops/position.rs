//! Where the pixels of a resized axis lie between those of its input.
//!
//! A position decides which pixel is nearest, so that an error of one part in 10¹⁶ may take another pixel:
//! 47 · (48 / 94) is 24, and a little less in floating point. Positions are therefore ratios of integers
//! until their whole part is known. A factor given as a number stands for the simplest ratio that is
//! rounded to it: 0.1 for 1/10, 0.33333334 of single precision for 1/3.

use super::attributes::attribute_enum;

attribute_enum! {
    /// Which pixel is nearest to a position.
    pub enum Rounding {
        /// The lower one.
        Floor = "floor",
        /// The upper one.
        Ceil = "ceil",
        /// The nearer of the two; in the middle the lower one.
        HalfDown = "half_down",
        /// The nearer of the two; in the middle the upper one.
        HalfUp = "half_up",
    }
}

/// A positive ratio of integers, in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    numerator: i128,
    denominator: i128,
}

impl Ratio {
    /// Sizes stay as they are.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// Neither may be 0.
    pub fn new(numerator: usize, denominator: usize) -> Self {
        let (mut divisor, mut rest) = (numerator, denominator);
        while rest > 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        Self { numerator: (numerator / divisor) as i128, denominator: (denominator / divisor) as i128 }
    }

    /// What a number in double precision stands for.
    pub fn of(value: f64) -> Self {
        simplest(value, |ratio| ratio == value)
    }

    /// What a number in single precision stands for.
    pub fn of_single(value: f32) -> Self {
        simplest(value.into(), |ratio| ratio as f32 == value)
    }

    /// The ratio as a number, rounded.
    pub fn value(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// The ratio of the sizes the other way round.
    pub fn inverse(self) -> Self {
        Self { numerator: self.denominator, denominator: self.numerator }
    }
}

/// No axis is resized by more than this, or by less than its inverse.
const MAX_FACTOR: f64 = (1u64 << 40) as f64;

/// The first convergent of the continued fraction of a positive number that is taken for the number itself;
/// the last one is the number.
fn simplest(value: f64, is_taken: impl Fn(f64) -> bool) -> Ratio {
    let value = value.clamp(1.0 / MAX_FACTOR, MAX_FACTOR);
    let exponent = (value.to_bits() >> 52) as i32 - 1023;
    // The digits behind the binary point; of 53 at most, 41 stand before it.
    let shift = 52 - exponent;
    let mut rest = ((value * f64::from(shift).exp2()) as i128, 1i128 << shift);
    let (mut last, mut convergent) = ((0, 1), (1, 0));
    loop {
        let digit = rest.0 / rest.1;
        rest = (rest.1, rest.0 % rest.1);
        (last, convergent) = (convergent, (digit * convergent.0 + last.0, digit * convergent.1 + last.1));
        let found = Ratio { numerator: convergent.0, denominator: convergent.1 };
        if rest.1 == 0 || (found.numerator > 0 && is_taken(found.value())) {
            return found;
        }
    }
}

/// A place along an axis, in pixels from the first one's centre: `whole + part`, `0 ≤ part < 1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// The pixel at or before the place; negative before the first one's centre.
    pub whole: i64,
    /// How far behind that pixel's centre.
    pub part: f64,
}

impl Position {
    fn of_ratio(numerator: i128, denominator: i128) -> Self {
        let part = numerator.rem_euclid(denominator) as f64 / denominator as f64;
        Self { whole: numerator.div_euclid(denominator) as i64, part }
    }

    /// The pixel, which may lie beyond the border.
    pub fn nearest(self, rounding: Rounding) -> i64 {
        let up = match rounding {
            Rounding::Floor => false,
            Rounding::Ceil => self.part > 0.0,
            Rounding::HalfDown => self.part > 0.5,
            Rounding::HalfUp => self.part >= 0.5,
        };
        self.whole + i64::from(up)
    }

    /// The place as one number, rounded.
    pub fn value(self) -> f64 {
        self.whole as f64 + self.part
    }
}

impl From<f64> for Position {
    fn from(value: f64) -> Self {
        Self { whole: value.floor() as i64, part: value - value.floor() }
    }
}

/// An axis that is resized: where its output's pixels lie in its input, by each of the usual rules.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Pixels; neither is 0.
    pub input: usize,
    /// Pixels of the result.
    pub output: usize,
    /// Input pixels per output pixel.
    pub step: Ratio,
}

impl Axis {
    /// The step is that of the sizes.
    pub fn is_exact(&self) -> bool {
        self.output as i128 * self.step.numerator == self.input as i128 * self.step.denominator
    }

    /// `i · step`: the first pixels' outer borders coincide, and positions count from there.
    pub fn asymmetric(&self, i: usize) -> Position {
        Position::of_ratio(i as i128 * self.step.numerator, self.step.denominator)
    }

    /// `(i + 1/2) · step`
    pub fn centre(&self, i: usize) -> Position {
        Position::of_ratio((2 * i as i128 + 1) * self.step.numerator, 2 * self.step.denominator)
    }

    /// `(i + 1/2) · step − 1/2`: pixel centres lie at half-integers.
    pub fn half_pixel(&self, i: usize) -> Position {
        let Ratio { numerator, denominator } = self.step;
        Position::of_ratio((2 * i as i128 + 1) * numerator - denominator, 2 * denominator)
    }

    /// The same, and the middles of input and output coincide where the output's size was rounded.
    pub fn symmetric(&self, i: usize) -> Position {
        let Ratio { numerator, denominator } = self.step;
        let from_middle = 2 * i as i128 + 1 - self.output as i128;
        Position::of_ratio((self.input as i128 - 1) * denominator + from_middle * numerator, 2 * denominator)
    }

    /// `i · (input − 1) / (output − 1)`: the corner pixels' centres coincide.
    pub fn align_corners(&self, i: usize) -> Position {
        match self.output {
            1 => Position::of_ratio(0, 1),
            n => Position::of_ratio(i as i128 * (self.input as i128 - 1), n as i128 - 1),
        }
    }

    /// The pixel of the axis that a place counts as: those beyond the border are that at the border.
    pub fn pixel(&self, place: i64) -> usize {
        place.clamp(0, self.input as i64 - 1) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_stand_for_simple_ratios() {
        let cases = [(0.1, 1, 10), (0.3, 3, 10), (1.7, 17, 10), (2.0, 2, 1), (0.29, 29, 100), (1.0 / 3.0, 1, 3)];
        for (value, numerator, denominator) in cases {
            assert_eq!(Ratio::of(value), Ratio::new(numerator, denominator));
            assert_eq!(Ratio::of_single(value as f32), Ratio::new(numerator, denominator));
        }
        assert_eq!(Ratio::of_single(224.0 / 7.0), Ratio::new(32, 1));
        assert_eq!(Ratio::of(1.0 + f64::EPSILON), Ratio::new((1 << 52) + 1, 1 << 52));
    }

    #[test]
    fn halves_are_rounded_as_told() {
        let axis = Axis { input: 4, output: 2, step: Ratio::new(4, 2) };
        let of = |rounding| [0, 1].map(|i| axis.half_pixel(i).nearest(rounding));
        assert_eq!(of(Rounding::Floor), [0, 2]);
        assert_eq!(of(Rounding::Ceil), [1, 3]);
        assert_eq!(of(Rounding::HalfDown), [0, 2]);
        assert_eq!(of(Rounding::HalfUp), [1, 3]);
        // Before the first pixel.
        let finer = Axis { input: 2, output: 4, step: Ratio::new(1, 2) };
        assert_eq!(finer.half_pixel(0), Position { whole: -1, part: 0.75 });
    }

    proptest! {
        /// The ratio of any two sizes is known again from the factor that single precision makes of it.
        #[test]
        fn ratios_of_sizes_survive_single_precision(input in 1usize..1024, output in 1usize..1024) {
            let ratio = Ratio::of_single(output as f32 / input as f32);
            prop_assert_eq!(ratio.numerator * input as i128, ratio.denominator * output as i128);
        }

        #[test]
        fn a_ratio_is_rounded_to_the_number_that_it_stands_for(bits in any::<u64>()) {
            let value = f64::from_bits(bits >> 12 | (1023 - 33 + bits % 66) << 52);
            prop_assert_eq!(Ratio::of(value).value(), value);
            prop_assert_eq!(Ratio::of(Ratio::of_single(value as f32).value()), Ratio::of_single(value as f32));
        }
    }
}
