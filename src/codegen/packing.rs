//! Packed weights as data: from which weights of a step a part is made, in which order, with what done
//! to them.
//!
//! A kernel family describes what its kernels will read; the descriptions are followed here, once, when
//! a model is compiled. They hold no code, so that they can be printed, and followed by others too.
//!
//! ```text
//! packed[to + Σ index · loop.to] = weight[from + Σ index · loop.from]     for all indices of the loops
//! ```
//!
//! What no loop reaches (channels that fill up a block, inputs of other groups) is zero.

use std::fmt;

use super::kernels::cook_toom;
use crate::target::Unit;
use crate::weights::{Values, WeightId};

/// Weights of one step, packed in the order in which its kernel reads them.
pub struct Packing {
    pub weights: Vec<WeightId>,
    /// Byte offset of the first part in the weights section.
    pub offset: usize,
    /// One after the other.
    pub parts: Vec<Part>,
}

impl Packing {
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.floats * 4).sum()
    }

    /// Code adds some of the numbers to addresses: of a file that others may write to, the runtime keeps these in
    /// memory of its own.
    pub fn has_tables(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.fill, Fill::Words(_)))
    }
}

/// A piece of packed weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its length.
    pub floats: usize,
    pub fill: Fill,
}

/// What a part holds. Weights are named by their place among the step's.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    Zeros,
    /// The weight's values as they are.
    Copy {
        weight: usize,
        walk: Walk,
    },
    /// The values of filters in another order, denormal ones as zeros.
    Filters {
        weight: usize,
        walks: Vec<Walk>,
    },
    /// Filters in the Winograd domain.
    Winograd(Winograd),
    /// What a batch normalization in inference comes to.
    BatchNorm(BatchNorm),
    /// Numbers that depend on no weight: tables of geometry.
    Words(Vec<u32>),
}

/// Nested loops, the outermost first, over values of a weight and places in a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    from: usize,
    to: usize,
    loops: Vec<Loop>,
}

/// A loop of a walk: how often it runs, and how far each turn moves in the weight and in the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loop {
    pub count: usize,
    pub from: isize,
    pub to: usize,
}

/// `U = G g Gᵀ` of the filters of a set of output channels, in f64:
/// `[element][input channel][the set's channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Winograd {
    /// Outputs along each axis of a tile, taps along each axis, and stride: what [`cook_toom::transforms`]
    /// makes G of.
    pub m: usize,
    pub taps: usize,
    pub stride: usize,
    pub weight: usize,
    /// The filters of the first input channel, as `[tap][the set's channels]`.
    pub filters: Walk,
    pub inputs: usize,
    /// From an input channel to the next in the weight.
    pub input_step: usize,
    /// Channels of the set, in the packed weights.
    pub channels: usize,
    /// From an element to the next in the packed weights.
    pub element_step: usize,
}

/// One of the two numbers a channel by which `(x − mean) / √(variance + ε) · weight + bias` is
/// `x · factor + term`. The step's weights are weight and bias, where it is affine, then mean and variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    pub which: Affine,
    pub channels: usize,
    pub affine: bool,
    pub eps: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affine {
    Factor,
    Term,
}

impl Part {
    /// The step's weight `weight`, a number for each of `channels` channels, filled up to whole blocks with
    /// zeros.
    pub fn per_channel(weight: usize, channels: usize, unit: Unit) -> Part {
        let walk = Walk::new(0, 0, [Loop { count: channels, from: 1, to: 1 }]);
        Part { floats: channels.next_multiple_of(unit.lanes), fill: Fill::Copy { weight, walk } }
    }

    /// The bias, which is the step's second weight; all zeros where the step has none.
    pub fn bias(has_bias: bool, channels: usize, unit: Unit) -> Part {
        match has_bias {
            true => Part::per_channel(1, channels, unit),
            false => Part { floats: channels.next_multiple_of(unit.lanes), fill: Fill::Zeros },
        }
    }

    pub fn words(words: Vec<u32>) -> Part {
        Part { floats: words.len(), fill: Fill::Words(words) }
    }

    /// Fills the part from the values of the step's weights. `out` may be longer than the part, by what aligns
    /// the next.
    pub fn fill(&self, values: &[Values], out: &mut [f32]) {
        let source = |weight: usize| (*values[weight]).as_ref();
        out.fill(0.0);
        match &self.fill {
            Fill::Zeros => {}
            Fill::Copy { weight, walk } => walk.follow(source(*weight), out, |v| v),
            Fill::Filters { weight, walks } => {
                walks.iter().for_each(|walk| walk.follow(source(*weight), out, flushed));
            }
            Fill::Winograd(winograd) => winograd.fill(source(winograd.weight), out),
            Fill::BatchNorm(norm) => {
                out.iter_mut().take(norm.channels).enumerate().for_each(|(c, v)| *v = norm.of(values, c));
            }
            Fill::Words(words) => out.iter_mut().zip(words).for_each(|(v, &word)| *v = f32::from_bits(word)),
        }
    }
}

/// Denormal weights cost hundreds of cycles a product and mean nothing.
fn flushed(v: f32) -> f32 {
    if v.is_subnormal() { 0.0 } else { v }
}

impl Walk {
    pub fn new(from: usize, to: usize, loops: impl IntoIterator<Item = Loop>) -> Walk {
        Walk { from, to, loops: loops.into_iter().filter(|l| l.count != 1).collect() }
    }

    fn follow<T>(&self, source: &[f32], out: &mut [T], convert: impl Fn(f32) -> T + Copy) {
        follow(&self.loops, source, self.from as isize, out, self.to, convert);
    }
}

/// Positions in the weight may lie before its beginning only where nothing is read: after the last turn of a
/// loop that goes backwards.
fn follow<T>(
    loops: &[Loop],
    source: &[f32],
    mut from: isize,
    out: &mut [T],
    mut to: usize,
    convert: impl Fn(f32) -> T + Copy,
) {
    // The innermost two are often short: a call for each of their turns would cost more than they do.
    match *loops {
        [] => out[to] = convert(source[from as usize]),
        [line] => follow_line(line, source, from, out, to, convert),
        [rows, line] => {
            for _ in 0..rows.count {
                follow_line(line, source, from, out, to, convert);
                from += rows.from;
                to += rows.to;
            }
        }
        [this, ref inner @ ..] => {
            for _ in 0..this.count {
                follow(inner, source, from, out, to, convert);
                from += this.from;
                to += this.to;
            }
        }
    }
}

#[inline]
fn follow_line<T>(
    line: Loop,
    source: &[f32],
    mut from: isize,
    out: &mut [T],
    mut to: usize,
    convert: impl Fn(f32) -> T + Copy,
) {
    for _ in 0..line.count {
        out[to] = convert(source[from as usize]);
        from += line.from;
        to += line.to;
    }
}

impl Winograd {
    fn fill(&self, source: &[f32], out: &mut [f32]) {
        let (r, channels) = (self.taps, self.channels);
        let cook_toom::Transforms { kernel, distinct, .. } = cook_toom::transforms(self.m, r, self.stride);
        let rows = &kernel[..distinct];
        let mut g = vec![0f64; r * r * channels];
        let mut half = vec![0f64; distinct * r * channels];
        for ic in 0..self.inputs {
            self.filters.follow(&source[ic * self.input_step..], &mut g, f64::from);
            // G g, then (G g) Gᵀ; channels innermost.
            for (i, row) in rows.iter().enumerate() {
                for x in 0..r {
                    let to = &mut half[(i * r + x) * channels..][..channels];
                    to.fill(0.0);
                    for (y, &factor) in row.iter().enumerate() {
                        let from = &g[(y * r + x) * channels..][..channels];
                        to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
                    }
                }
            }
            for i in 0..distinct {
                for (j, row) in rows.iter().enumerate() {
                    let at = (i * distinct + j) * self.element_step + ic * channels;
                    for (oc, t) in out[at..][..channels].iter_mut().enumerate() {
                        let sum: f64 = row.iter().enumerate().map(|(x, f)| f * half[(i * r + x) * channels + oc]).sum();
                        *t = flushed(sum as f32);
                    }
                }
            }
        }
    }
}

impl BatchNorm {
    fn of(&self, values: &[Values], c: usize) -> f32 {
        let at = |i: usize| f64::from((*values[i]).as_ref()[c]);
        let (weight, bias, statistics) = if self.affine { (at(0), at(1), 2) } else { (1.0, 0.0, 0) };
        let factor = weight / (at(statistics + 1) + f64::from(self.eps)).sqrt();
        match self.which {
            Affine::Factor => factor as f32,
            Affine::Term => (bias - at(statistics) * factor) as f32,
        }
    }
}

/// A line for each part.
impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            writeln!(f, "{part}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f32[{}] = ", self.floats)?;
        match &self.fill {
            Fill::Zeros => write!(f, "zeros"),
            Fill::Copy { weight, walk } => write!(f, "weight {weight}: {walk}"),
            Fill::Filters { weight, walks } => {
                write!(f, "filters of weight {weight}")?;
                for (i, walk) in walks.iter().enumerate() {
                    write!(f, "{} {walk}", if i == 0 { ":" } else { ";" })?;
                }
                Ok(())
            }
            Fill::Winograd(w) => {
                let Winograd { m, taps, stride, weight, filters, inputs, input_step, channels, element_step } = w;
                write!(f, "winograd{m} of {taps}x{taps} stride {stride} of weight {weight}: ")?;
                write!(f, "{inputs} inputs ({input_step} -> {channels}), elements -> {element_step}, filters {filters}")
            }
            Fill::BatchNorm(BatchNorm { which, channels, affine, eps }) => {
                let which = if *which == Affine::Factor { "factor" } else { "term" };
                let weights = if *affine { "weights 0 to 3" } else { "weights 0 and 1" };
                write!(f, "{which} of the normalization of {channels} channels by {weights}, eps {eps:e}")
            }
            Fill::Words(_) => write!(f, "words"),
        }
    }
}

/// `from -> to`, then each loop as `count (step in the weight -> step in the part)`.
impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)?;
        self.loops.iter().try_for_each(|l| write!(f, ", {} ({} -> {})", l.count, l.from, l.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::generate;
    use crate::ir::Phase;
    use crate::ops::Conv2d;
    use crate::plan::Options;
    use crate::target::Target;
    use crate::testing::{Builder, conv, conv_transpose};

    fn packings(input: [usize; 4], op: impl Into<crate::ops::Op>, algorithm: &str) -> String {
        let mut b = Builder::new("packed", Phase::Infer);
        let x = b.input(input);
        let y = b.add(op, &[x]);
        let target = Target::parse("avx2").expect("a known name");
        let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..Options::default() };
        let generated = generate(&b.finish(&[y]), &target, &options).expect("it fits");
        generated.packings.iter().map(Packing::to_string).collect()
    }

    #[test]
    fn packings_as_text() {
        insta::assert_snapshot!(packings([1, 20, 6, 6], conv(12, 3, 1, 1), "direct"), @r"
        f32[16] = weight 1: 0 -> 0, 12 (1 -> 1)
        f32[2880] = filters of weight 0: 0 -> 0, 20 (9 -> 48), 12 (180 -> 1), 3 (3 -> 960), 3 (1 -> 16)
        ");
        insta::assert_snapshot!(packings([1, 8, 6, 6], conv_transpose(8, 4, 2, 1), "direct"), @r"
        f32[16] = weight 1: 0 -> 0, 8 (1 -> 1)
        f32[256] = filters of weight 0: 15 -> 0, 8 (128 -> 16), 8 (16 -> 1), 2 (-8 -> 128), 2 (-2 -> 8)
        f32[256] = filters of weight 0: 14 -> 0, 8 (128 -> 16), 8 (16 -> 1), 2 (-8 -> 128), 2 (-2 -> 8)
        f32[256] = filters of weight 0: 11 -> 0, 8 (128 -> 16), 8 (16 -> 1), 2 (-8 -> 128), 2 (-2 -> 8)
        f32[256] = filters of weight 0: 10 -> 0, 8 (128 -> 16), 8 (16 -> 1), 2 (-8 -> 128), 2 (-2 -> 8)
        ");
        insta::assert_snapshot!(packings([1, 8, 6, 6], conv(16, 3, 1, 1), "winograd2"), @r"
        f32[16] = weight 1: 0 -> 0, 16 (1 -> 1)
        f32[2048] = winograd2 of 3x3 stride 1 of weight 0: 8 inputs (9 -> 16), elements -> 128, filters 0 -> 0, 16 (72 -> 1), 3 (3 -> 48), 3 (1 -> 16)
        ");
        insta::assert_snapshot!(packings([1, 12, 6, 6], Conv2d { groups: 12, ..conv(12, 3, 1, 1) }, "depthwise"), @r"
        f32[144] = filters of weight 0: 0 -> 0, 8 (9 -> 1), 9 (1 -> 8); 72 -> 72, 4 (9 -> 1), 9 (1 -> 8)
        f32[16] = weight 1: 0 -> 0, 12 (1 -> 1)
        f32[48] = words
        ");
        insta::assert_snapshot!(packings([1, 8, 6, 6], Conv2d { groups: 4, ..conv(8, 3, 1, 1) }, "grouped"), @r"
        f32[144] = filters of weight 0: 0 -> 0, 4 (36 -> 2), 9 (1 -> 16); 27 -> 1, 4 (36 -> 2), 9 (1 -> 16); 18 -> 8, 4 (36 -> 2), 9 (1 -> 16); 9 -> 9, 4 (36 -> 2), 9 (1 -> 16)
        f32[16] = weight 1: 0 -> 0, 8 (1 -> 1)
        f32[48] = words
        ");
    }

    /// Loops that go backwards, and what they do not reach.
    #[test]
    fn walks() {
        let source: Vec<f32> = (0..6).map(|i| i as f32).collect();
        let mut out = [9.0; 8];
        let rows = Loop { count: 2, from: 3, to: 1 };
        let walk = Walk::new(2, 1, [rows, Loop { count: 1, from: 7, to: 7 }, Loop { count: 3, from: -1, to: 2 }]);
        assert_eq!(walk.to_string(), "2 -> 1, 2 (3 -> 1), 3 (-1 -> 2)");
        walk.follow(&source, &mut out, |v| v);
        assert_eq!(out, [9.0, 2.0, 5.0, 1.0, 4.0, 0.0, 3.0, 9.0]);
        let mut untouched = [9.0];
        Walk::new(0, 0, [Loop { count: 0, from: 1, to: 1 }]).follow(&[], &mut untouched, |v| v);
        assert_eq!(untouched, [9.0]);
    }
}
