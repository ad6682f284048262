//! Packed weights as data: from which weights of a step a part is made, in which order, with what done
//! to them.
//!
//! A kernel family describes what its kernels will read. The descriptions hold no code, so that they can be
//! printed ([`print`](print()), `netc ir --stage packing`), compared (what is equal is packed once), and followed
//! by more than one:
//!
//! - [`Part::fill`] follows them when a model is compiled, whose weights then stay what they are.
//! - Where weights change at run time (training), a kernel can be generated that packs them: from the same
//!   data, which say all that it needs. The loops of a [`Walk`] are its loops, [`Fill`] names what it does to a
//!   number, and the matrices of [`Winograd`] follow from three numbers. Zeros and tables need no second
//!   packing: no weight reaches them.
//!
//! What they do not say is which numbers the weights are: a packing is the same for all.
//!
//! ```text
//! packed[to + Σ index · loop.to] = weight[from + Σ index · loop.from]     for all indices of the loops
//! ```
//!
//! What no loop reaches (channels that fill up a block, inputs of other groups) is zero.

mod print;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_128;

use super::kernels::cook_toom;
use super::vector::round_to_bf16;
use crate::ir::Graph;
use crate::plan::conv::Points;
use crate::plan::{Plan, View};
use crate::tensor::{Element, Shape};
use crate::weights::{Values, WeightId};

pub(crate) use print::print;

/// Bytes that parts begin at multiples of: packed weights are read by vector loads and prefetched by line.
pub(crate) const ALIGNMENT: usize = 64;

/// Weights of one step, packed in the order in which its kernel reads them.
pub(crate) struct Packing {
    pub weights: Vec<WeightId>,
    /// Byte offset of the first part in the weights section.
    pub offset: usize,
    /// An earlier program of the same artifact has packed it there.
    pub is_there: bool,
    /// One after the other, without gaps.
    pub parts: Vec<Part>,
}

impl Packing {
    /// Parts one after the other from `offset` on, each made so long that the next begins aligned.
    pub(crate) fn new(weights: Vec<WeightId>, offset: usize, parts: Vec<Part>) -> Packing {
        Packing { weights, offset, is_there: false, parts: parts.into_iter().map(Part::aligned).collect() }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }

    /// Byte offset of each part from the first.
    pub(crate) fn offsets(&self) -> Vec<usize> {
        let begin = |at: &mut usize, part: &Part| {
            *at += part.bytes();
            Some(*at - part.bytes())
        };
        self.parts.iter().scan(0, begin).collect()
    }

    /// Whether the two hold the same bytes, whatever the weights' values are.
    pub(crate) fn is_same(&self, other: &Packing) -> bool {
        self.weights == other.weights && self.parts == other.parts
    }

    /// Code adds some of the numbers to addresses: of a file that others may write to, the runtime keeps these in
    /// memory of its own.
    pub(crate) fn has_tables(&self) -> bool {
        self.parts.iter().any(|part| matches!(part.fill, Fill::Words(_)))
    }
}

/// What programs of one artifact have packed so far: a later one reads there what it would pack alike.
#[derive(Default)]
pub(crate) struct Earlier {
    /// Each with what its weights hold.
    packings: Vec<(Vec<Content>, Packing)>,
    /// As [`Findings::packed`](crate::plan::Findings::packed).
    kernels: BTreeMap<String, BTreeSet<String>>,
    bytes: usize,
}

/// Shape and numbers of a weight. Each program has a graph of its own, whose weights are known by nothing else: passes name
/// and derive them anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    shape: Shape,
    /// xxh3-128 of the numbers.
    hash: u128,
}

impl Content {
    pub(crate) fn of(graph: &Graph, weight: WeightId) -> Content {
        let values = graph.weights.values(weight);
        let hash = xxh3_128(bytemuck::cast_slice((*values).as_ref()));
        Content { shape: graph.weights.get(weight).shape.clone(), hash }
    }
}

impl Earlier {
    /// Adds what a program packs itself.
    pub(crate) fn add(&mut self, graph: &Graph, plan: &Plan, packings: Vec<Packing>, bytes: usize) {
        for step in plan.steps.iter().filter(|step| step.layer.is_some()) {
            let label = graph.node(step.node).name.clone().unwrap_or_default();
            self.kernels.entry(label).or_default().insert(step.kernel.packing());
        }
        let content = |packing: &Packing| packing.weights.iter().map(|&weight| Content::of(graph, weight)).collect();
        let own = packings.into_iter().filter(|packing| !packing.is_there);
        self.packings.extend(own.map(|packing| (content(&packing), packing)));
        self.bytes = bytes;
    }

    /// How layers' weights are packed, by their labels.
    pub(crate) fn kernels(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.kernels
    }

    /// Where the weights of the next program begin.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packings.is_empty()
    }

    /// Where there is what a packing would hold.
    pub(crate) fn find(&self, weights: &[Content], parts: &[Part]) -> Option<usize> {
        let same = |(contents, packing): &&(Vec<Content>, Packing)| contents == weights && packing.parts == parts;
        self.packings.iter().find(same).map(|(_, packing)| packing.offset)
    }
}

/// A piece of packed weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    /// What its kernel reads.
    pub element: Element,
    /// Its length.
    pub elements: usize,
    pub fill: Fill,
}

/// What a part holds. Weights are named by their place among the step's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fill {
    Zeros,
    /// The weight's values as they are.
    Copy {
        weight: usize,
        walk: Walk,
    },
    /// Values of several weights as they are.
    Copies(Vec<(usize, Walk)>),
    /// The values of filters in another order, denormal ones as zeros.
    Filters {
        weight: usize,
        walks: Vec<Walk>,
    },
    /// Filters in the Winograd domain.
    Winograd(Winograd),
    /// What sums of products with whole numbers begin with.
    Starts(Starts),
    /// What a batch normalization in inference comes to.
    BatchNorm(BatchNorm),
    /// 32 bits each that depend on no weight: tables of geometry.
    Words(Vec<u32>),
}

/// Nested loops, the outermost first, over values of a weight and places in a part.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Walk {
    /// The weight's value and the place in the part at which the loops begin.
    pub from: usize,
    pub to: usize,
    pub loops: Vec<Loop>,
}

/// A loop of a walk: how often it runs, and how far each turn moves in the weight and in the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Loop {
    pub count: usize,
    pub from: isize,
    pub to: usize,
}

/// `U = G g Gᵀ` of the filters of a set of output channels, in f64: `[element][input channel][the set's channels]`, input
/// channels in groups of [`Self::together`]. Of real numbers, denormal results are zeros; whole ones all fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Winograd {
    /// Outputs along each axis of a tile, taps along each axis, stride, and numbers: what [`cook_toom::transforms`]
    /// makes G of.
    pub m: usize,
    pub taps: usize,
    pub stride: usize,
    pub points: Points,
    pub weight: usize,
    /// The filters of the first input channel, as `[tap][the set's channels]`.
    pub filters: Walk,
    pub inputs: usize,
    /// From an input channel to the next in the weight.
    pub input_step: usize,
    /// Channels of the set, in the packed weights.
    pub channels: usize,
    /// Input channels whose weights of one output channel are neighbours.
    pub together: usize,
    /// From an element to the next in the packed weights.
    pub element_step: usize,
}

/// `−zero · Σ weight` of each output channel, over its inputs and the taps of a window that lie in the image: what
/// a sum of products begins with, from whose inputs the zero point is not subtracted one by one. For each set of
/// taps and each block of channels a vector: `[rows][block][columns][lane]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Starts {
    pub weight: usize,
    /// One for all inputs of an output channel, or one for each.
    pub zeros: Vec<i32>,
    /// Output channels, those of a group, and those of a block.
    pub channels: usize,
    pub group: usize,
    pub block: usize,
    /// From the filters of a group to the next in the weight, from an output channel's to the next within a group, and
    /// from an input's to the next.
    pub steps: [usize; 3],
    /// Inputs of an output channel.
    pub inputs: usize,
    /// The taps of the window in the stored kernel.
    pub rows: TapSets,
    pub columns: TapSets,
}

/// The sets of taps along an axis that lie in the image, and where the taps are in the stored kernel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TapSets {
    pub sets: Vec<Range<usize>>,
    /// In the weight, tap 0, and from one tap to the next.
    pub first: usize,
    pub step: isize,
}

impl TapSets {
    /// A tap's place in the stored kernel.
    pub(crate) fn place(&self, tap: usize) -> usize {
        (self.first as isize + tap as isize * self.step) as usize
    }
}

/// One of the two numbers a channel by which `(x − mean) / √(variance + ε) · weight + bias` is
/// `x · factor + term`. The step's weights are weight and bias, where it is affine, then mean and variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchNorm {
    pub which: Affine,
    pub channels: usize,
    pub affine: bool,
    pub eps: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affine {
    Factor,
    Term,
}

impl Part {
    /// A number for each of `channels` channels of blocks such as the output's, the last filled up with zeros.
    pub(crate) fn of_channels(channels: usize, output: &View, fill: Fill) -> Part {
        Part { element: Element::F32, elements: channels.next_multiple_of(output.block()), fill }
    }

    /// The step's weight `weight`, which has a number for each channel.
    pub(crate) fn per_channel(weight: usize, channels: usize, output: &View) -> Part {
        let walk = Walk::new(0, 0, [Loop { count: channels, from: 1, to: 1 }]);
        Part::of_channels(channels, output, Fill::Copy { weight, walk })
    }

    /// The bias, which is the step's second weight; all zeros where the step has none.
    pub(crate) fn bias(has_bias: bool, channels: usize, output: &View) -> Part {
        match has_bias {
            true => Part::per_channel(1, channels, output),
            false => Part::of_channels(channels, output, Fill::Zeros),
        }
    }

    pub(crate) fn words(words: Vec<u32>) -> Part {
        Part { element: Element::I32, elements: words.len(), fill: Fill::Words(words) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.elements * self.element.bytes()
    }

    pub(crate) fn aligned(self) -> Part {
        Part { elements: self.elements.next_multiple_of(ALIGNMENT / self.element.bytes()), ..self }
    }

    /// Fills the part from the values of the step's weights. `out` are its bytes, aligned as its elements are.
    ///
    /// # Panics
    /// When `out` is shorter or not aligned.
    pub(crate) fn fill(&self, values: &[Values], out: &mut [u8]) {
        out.fill(0);
        match (&self.fill, self.element) {
            (Fill::Words(words), _) => {
                bytemuck::cast_slice_mut::<u8, u32>(out)[..words.len()].copy_from_slice(words);
            }
            (Fill::Starts(starts), _) => starts.fill((*values[starts.weight]).as_ref(), bytemuck::cast_slice_mut(out)),
            (_, Element::F32) => self.fill_f32(values, bytemuck::cast_slice_mut(out)),
            (Fill::Filters { weight, walks }, element) => {
                let source = (*values[*weight]).as_ref();
                for walk in walks {
                    match element {
                        Element::Bf16 => walk.follow(source, bytemuck::cast_slice_mut(out), bf16),
                        Element::I8 => walk.follow(source, bytemuck::cast_slice_mut(out), |v| v as i8),
                        Element::I16 => walk.follow(source, bytemuck::cast_slice_mut(out), |v| v as i16),
                        Element::I32 => walk.follow(source, bytemuck::cast_slice_mut(out), |v| v as i32),
                        element => unreachable!("kernels do not read weights as {element}"),
                    }
                }
            }
            (Fill::Winograd(winograd), element) => {
                let source = (*values[winograd.weight]).as_ref();
                match element {
                    Element::Bf16 => winograd.fill(source, bytemuck::cast_slice_mut(out), |v| bf16(v as f32)),
                    Element::I16 => winograd.fill(source, bytemuck::cast_slice_mut(out), |v| v as i16),
                    Element::I32 => winograd.fill(source, bytemuck::cast_slice_mut(out), |v| v as i32),
                    element => unreachable!("kernels do not read transformed filters as {element}"),
                }
            }
            (_, element) => unreachable!("what is computed of weights is no {element}"),
        }
    }

    /// [`Self::fill`] from weights, over zeros.
    fn fill_f32(&self, values: &[Values], out: &mut [f32]) {
        let source = |weight: usize| (*values[weight]).as_ref();
        match &self.fill {
            Fill::Zeros | Fill::Words(_) | Fill::Starts(_) => {}
            Fill::Copy { weight, walk } => walk.follow(source(*weight), out, |v| v),
            Fill::Copies(walks) => {
                walks.iter().for_each(|(weight, walk)| walk.follow(source(*weight), out, |v| v));
            }
            Fill::Filters { weight, walks } => {
                walks.iter().for_each(|walk| walk.follow(source(*weight), out, flushed));
            }
            Fill::Winograd(winograd) => winograd.fill(source(winograd.weight), out, |v| flushed(v as f32)),
            Fill::BatchNorm(norm) => {
                out.iter_mut().take(norm.channels).enumerate().for_each(|(c, v)| *v = norm.of(values, c));
            }
        }
    }
}

/// Denormal weights cost hundreds of cycles a product and mean nothing.
fn flushed(v: f32) -> f32 {
    if v.is_subnormal() { 0.0 } else { v }
}

/// The nearest bf16, as its bits; of denormal ones zero.
fn bf16(v: f32) -> u16 {
    round_to_bf16(v.to_bits())
}

impl Walk {
    pub(crate) fn new(from: usize, to: usize, loops: impl IntoIterator<Item = Loop>) -> Walk {
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
    /// Elements along an axis.
    pub(crate) fn distinct(&self) -> usize {
        self.transforms().distinct
    }

    /// The matrices.
    pub(crate) fn transforms(&self) -> cook_toom::Transforms {
        cook_toom::transforms(self.m, self.taps, self.stride, self.points)
    }

    fn fill<T>(&self, source: &[f32], out: &mut [T], convert: impl Fn(f64) -> T) {
        let (r, channels, together) = (self.taps, self.channels, self.together);
        let cook_toom::Transforms { kernel, distinct, .. } = self.transforms();
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
                    let place = ic / together * together * channels + ic % together;
                    let at = (i * distinct + j) * self.element_step + place;
                    for (oc, t) in out[at..].iter_mut().step_by(together).take(channels).enumerate() {
                        let sum: f64 = row.iter().enumerate().map(|(x, f)| f * half[(i * r + x) * channels + oc]).sum();
                        *t = convert(sum);
                    }
                }
            }
        }
    }
}

impl Starts {
    fn fill(&self, source: &[f32], out: &mut [i32]) {
        let blocks = self.channels.div_ceil(self.block);
        let [group_step, channel_step, input_step] = self.steps;
        let taps = |sets: &TapSets| sets.sets.iter().map(|set| set.end).max().unwrap_or(0);
        let (height, width) = (taps(&self.rows), taps(&self.columns));
        for channel in 0..self.channels {
            let filter = channel / self.group * group_step + channel % self.group * channel_step;
            // Of each tap, the sum over the inputs of what their zero points come to.
            let mut sums = vec![0i64; height * width];
            for input in 0..self.inputs {
                let zero = i64::from(self.zeros[input % self.zeros.len()]);
                for (i, sum) in sums.iter_mut().enumerate() {
                    let tap = self.rows.place(i / width) + self.columns.place(i % width);
                    *sum += zero * source[filter + input * input_step + tap] as i64;
                }
            }
            for (r, rows) in self.rows.sets.iter().enumerate() {
                for (c, columns) in self.columns.sets.iter().enumerate() {
                    let taps = rows.clone().flat_map(|y| columns.clone().map(move |x| y * width + x));
                    let sum: i64 = taps.map(|tap| sums[tap]).sum();
                    let at = (r * blocks + channel / self.block) * self.columns.sets.len() + c;
                    // Modulo 2³², as sums are.
                    out[at * self.block + channel % self.block] = (-sum) as i32;
                }
            }
        }
    }

    /// Numbers of a part of these.
    pub(crate) fn elements(&self) -> usize {
        self.rows.sets.len() * self.columns.sets.len() * self.channels.next_multiple_of(self.block)
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
