//! Batch normalisation as it is in training: moments of channels, results by them, and the gradients.
//!
//! ```text
//! moments           x                → mean, variance          a step reads each value that it needs once, but
//! results           x, moments       → y                       for stretches of x that are read again while the
//! sums              x, dy, moments   → Σ dy, Σ dy · x̂          first-level cache has them
//! input's gradient  x, dy, all that  → dx
//! ```
//!
//! Sums are made of short ones: stretches of an image's pixels, then parts of the batch ([`Parts`]), then all. A
//! variance is that within stretches and that of their means, so that a mean that is large beside it does no harm. Two
//! numbers of all channels, `[2, C]`, lie row by row in plain memory.
//!
//! Images and vectors lie in blocks ([`walk`]). Values of other ranks are rare: the lanes are their pixels.

use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::key::{Bits, Epilogue, KernelKey};
use super::super::packing::Part;
use super::super::vector::{Builder, Compare, Function, Inst, Int, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::body::Body;
use super::elementwise::{channel_weights, finish};
use super::epilogue::{apply_all, temporaries};
use super::nest::{self, Array, Nest, Operands, row_major};
use super::partial::{self, Partial};
use super::walk::{self, COPIES, Walk, along};
use crate::ops::epilogue::are_total;
use crate::ops::epilogue::{PostOp, extra_operands};
use crate::ops::{BatchNormInputGradient, BatchNormSums, BatchNormTrain};
use crate::plan::parts::Parts;
use crate::plan::{Algorithm, Step, View};
use crate::target::Unit;

/// Pixels of a stretch: 8 KiB of a block of 16 channels.
const STRETCH: usize = 128;
/// Pixels of a task that makes a value, about: 64 KiB of a block of 16 channels.
const TASK: usize = 1024;

// ---- Sums ---------------------------------------------------------------------------------------

/// The sums of a step's parts, or of all where the step is the only one.
pub(crate) fn moments(e: &mut Emitter, step: &Step) -> Emitted {
    match &step.kernel {
        Algorithm::PartialSums(parts) => {
            let second = e.unit().bytes();
            let kernel = |e: &mut Emitter, walk: Walk| e.kernel(&Moments { walk, second, whole: true });
            walk::emit(e, step, &[&step.inputs[0]], parts, kernel, |e, d, part, block| {
                vec![part_of(e, d, &step.outputs[0], part, block)]
            })
        }
        Algorithm::JoinParts(parts) => {
            let (from, to) = (&step.inputs[0], &step.outputs[0]);
            let sizes = parts.runs().iter().map(|run| (run.count, run.images * run.pixels)).collect();
            let join = JoinMoments { sizes, stride: part_bytes(from), second: row(to), lanes: 0 };
            let kernel = |e: &mut Emitter, lanes| e.kernel(&JoinMoments { lanes, ..join.clone() });
            walk::emit_blocks(e, step, to.shape[1], kernel, |e, d, block| {
                let zero = d.b.int(0i64);
                vec![part_of(e, d, from, zero, block), of_block(e, d, to, block)]
            })
        }
        _ if step.inputs[0].layout.is_blocked() => {
            let (x, to) = (&step.inputs[0], &step.outputs[0]);
            let second = row(to);
            let kernel = |e: &mut Emitter, walk: Walk| e.kernel(&Moments { walk, second, whole: false });
            walk::emit(e, step, &[x], &all(x), kernel, |e, d, _, block| vec![of_block(e, d, to, block)])
        }
        _ => plain_sums(e, step, PlainOf::Moments),
    }
}

/// As [`moments`]. Operands: x, moments, dy.
pub(crate) fn sums(e: &mut Emitter, step: &Step, op: &BatchNormSums) -> Emitted {
    let (eps, weights) = (Bits::of(op.eps), if op.relu { 2 } else { 0 });
    match &step.kernel {
        Algorithm::PartialSums(parts) => {
            let [x, moments, dy] = [0, 1, 2].map(|i| &step.inputs[i]);
            let (row, second) = (row(moments), e.unit().bytes());
            let packed = pack(e, step, x, weights);
            let sums = |walk| Sums { walk, row, second, eps, relu: op.relu, joins: false };
            let kernel = |e: &mut Emitter, walk: Walk| e.kernel(&sums(walk));
            walk::emit(e, step, &[x, dy], parts, kernel, |e, d, part, block| {
                let mut arguments = vec![of_block(e, d, moments, block), part_of(e, d, &step.outputs[0], part, block)];
                arguments.extend(packed.iter().map(|&at| weights_of_block(e, d, at, block)));
                arguments
            })
        }
        Algorithm::JoinParts(parts) => {
            let (from, moments, to) = (&step.inputs[0], &step.inputs[1], &step.outputs[0]);
            let join = JoinSums { parts: parts.count(), stride: part_bytes(from), row: row(to), eps, lanes: 0 };
            let kernel = |e: &mut Emitter, lanes| e.kernel(&JoinSums { lanes, ..join.clone() });
            walk::emit_blocks(e, step, to.shape[1], kernel, |e, d, block| {
                let zero = d.b.int(0i64);
                let rows = [moments, to].map(|view| of_block(e, d, view, block));
                [part_of(e, d, from, zero, block)].into_iter().chain(rows).collect()
            })
        }
        _ if step.inputs[0].layout.is_blocked() => {
            let [x, moments, dy] = [0, 1, 2].map(|i| &step.inputs[i]);
            let (to, row) = (&step.outputs[0], row(moments));
            let packed = pack(e, step, x, weights);
            let sums = |walk| Sums { walk, row, second: row, eps, relu: op.relu, joins: true };
            let kernel = |e: &mut Emitter, walk: Walk| e.kernel(&sums(walk));
            walk::emit(e, step, &[x, dy], &all(x), kernel, |e, d, _, block| {
                let mut arguments = [moments, to].map(|view| of_block(e, d, view, block)).to_vec();
                arguments.extend(packed.iter().map(|&at| weights_of_block(e, d, at, block)));
                arguments
            })
        }
        _ => plain_sums(e, step, PlainOf::Sums { eps, relu: op.relu }),
    }
}

/// The batch as one part.
fn all(x: &View) -> Parts {
    let [images, _, h, w] = x.image();
    Parts::of_size(images, h * w, images * h * w)
}

/// Bytes of a row of two numbers a channel.
fn row(pairs: &View) -> usize {
    pairs.shape[1] * pairs.element_bytes()
}

/// Where a block's channels begin in the first row of two numbers a channel.
fn of_block(e: &Emitter, d: &mut Driver, pairs: &View, block: Int) -> Operand {
    let base = d.view(e, pairs);
    d.step(base, block.into(), e.unit().bytes());
    base.into()
}

/// Bytes from a part's sums to the next part's: `[parts, blocks, 2, block]`.
fn part_bytes(sums: &View) -> usize {
    sums.shape.bytes() / sums.shape[0]
}

fn part_of(e: &Emitter, d: &mut Driver, sums: &View, part: Int, block: Int) -> Operand {
    let base = d.view(e, sums);
    d.step(base, part.into(), part_bytes(sums));
    d.step(base, block.into(), 2 * e.unit().bytes());
    base.into()
}

/// Mean and variance of stretches or parts, put together.
struct Spread {
    sum: Vector,
    /// Σ (x − mean)², each of the mean of its own.
    within: Vector,
    /// What the means are counted from.
    origin: Vector,
    /// Σ (mean − origin) and Σ (mean − origin)², of all that have the mean.
    first: Vector,
    second: Vector,
}

impl Spread {
    fn new(b: &mut Builder, origin: Vector) -> Spread {
        let [sum, within, first, second] = [(); 4].map(|()| b.splat(0.0));
        Spread { sum, within, origin, first, second }
    }

    /// Adds `count` numbers.
    fn add(&self, b: &mut Builder, count: usize, sum: Vector, mean: Vector, within: Option<Vector>) {
        b.op_into(self.sum, VectorOp::Add, self.sum, sum);
        if let Some(within) = within {
            b.op_into(self.within, VectorOp::Add, self.within, within);
        }
        let distance = b.op(VectorOp::Sub, mean, self.origin);
        let count = b.splat(count as f32);
        let of_all = b.op(VectorOp::Mul, distance, count);
        b.op_into(self.first, VectorOp::Add, self.first, of_all);
        b.fma(self.second, of_all, distance);
    }

    /// Mean and variance of all `count` numbers.
    fn moments(self, b: &mut Builder, count: usize) -> [Vector; 2] {
        let share = b.splat(1.0 / count as f32);
        let mean = b.op(VectorOp::Mul, self.sum, share);
        let distance = b.op(VectorOp::Mul, self.first, share);
        let correction = b.op(VectorOp::Mul, self.first, distance);
        let between = b.op(VectorOp::Sub, self.second, correction);
        let squares = b.op(VectorOp::Add, self.within, between);
        let variance = b.op(VectorOp::Mul, squares, share);
        let zero = b.splat(0.0);
        [mean, b.op(VectorOp::Max, zero, variance)]
    }
}

/// The sum of what `term` makes of neighbouring pixels, behind which it moves the pointers.
fn sum(b: &mut Builder, pointers: &[Int], pixels: usize, term: impl Fn(&mut Builder, &[Vector], Vector)) -> Vector {
    let sums: Vec<Vector> = (0..COPIES.min(pixels)).map(|_| b.splat(0.0)).collect();
    along(b, pointers, pixels, |b, i| {
        let values: Vec<Vector> = pointers.iter().map(|p| b.load(p.at(i * b.unit().bytes()))).collect();
        term(b, &values, sums[i]);
    });
    sums[1..].iter().for_each(|&more| b.op_into(sums[0], VectorOp::Add, sums[0], more));
    sums[0]
}

fn add(b: &mut Builder, values: &[Vector], to: Vector) {
    b.op_into(to, VectorOp::Add, to, values[0]);
}

/// Parameters: x, what the moments are written to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Moments {
    walk: Walk,
    /// Bytes from the mean to the variance.
    second: usize,
    /// All lanes are written.
    whole: bool,
}

impl KernelKey for Moments {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("channel_moments {self:?}"), unit, 2);
        let pixels = self.walk.stretch(STRETCH);
        let from = b.int(b.parameter(0));
        let origin = sum(&mut b, &[from], pixels, add);
        let share = b.splat(1.0 / pixels as f32);
        let origin = b.op(VectorOp::Mul, origin, share);
        let spread = Spread::new(&mut b, origin);
        self.walk.runs(&mut b, STRETCH, |b, pointers, pixels| {
            let from = b.int(pointers[0]);
            let total = sum(b, &[from], pixels, add);
            let share = b.splat(1.0 / pixels as f32);
            let mean = b.op(VectorOp::Mul, total, share);
            let within = sum(b, pointers, pixels, |b, values, to| {
                let distance = b.op(VectorOp::Sub, values[0], mean);
                b.fma(to, distance, distance);
            });
            spread.add(b, pixels, total, mean, Some(within));
        });
        let moments = spread.moments(&mut b, self.walk.count());
        let lanes = if self.whole { unit.lanes } else { self.walk.lanes };
        store_pair(&mut b, 1, moments, self.second, lanes);
        b.finish()
    }
}

/// Writes the first lanes of two vectors.
fn store_pair(b: &mut Builder, parameter: usize, pair: [Vector; 2], second: usize, lanes: usize) {
    let to = b.parameter(parameter);
    b.store_first(to.at(0), pair[0], lanes);
    // Rows may lie farther apart than an address reaches.
    let to = b.add(to, second);
    b.store_first(to.at(0), pair[1], lanes);
}

/// The first lanes of a row, so many bytes behind what a parameter points to.
fn load_row(b: &mut Builder, parameter: usize, row: usize, lanes: usize) -> Vector {
    let from = b.add(b.parameter(parameter), row);
    b.load_first(from.at(0), lanes)
}

/// Parameters: the first part's moments, the moments of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct JoinMoments {
    /// How many parts have how many pixels.
    sizes: Vec<(usize, usize)>,
    /// Bytes from a part's moments to the next part's.
    stride: usize,
    /// Bytes from the mean of all to the variance.
    second: usize,
    lanes: usize,
}

impl KernelKey for JoinMoments {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("join moments {self:?}"), unit, 2);
        let from = b.parameter(0);
        let origin = b.load(from.at(0));
        let spread = Spread::new(&mut b, origin);
        for &(parts, pixels) in &self.sizes {
            b.repeat(parts, |b| {
                let (mean, variance) = (b.load(from.at(0)), b.load(from.at(unit.bytes())));
                let count = b.splat(pixels as f32);
                let [sum, within] = [mean, variance].map(|v| b.op(VectorOp::Mul, v, count));
                spread.add(b, pixels, sum, mean, Some(within));
                b.advance(from, self.stride);
            });
        }
        let moments = spread.moments(&mut b, self.sizes.iter().map(|(parts, pixels)| parts * pixels).sum());
        store_pair(&mut b, 1, moments, self.second, self.lanes);
        b.finish()
    }
}

/// Parameters: x, dy, moments, what the sums are written to, and with relu, weight and bias.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Sums {
    walk: Walk,
    /// Bytes from mean to variance.
    row: usize,
    /// Bytes from the first sum to the second.
    second: usize,
    eps: Bits,
    /// dy counts where the result is positive.
    relu: bool,
    /// These are the sums of all: the second is divided by the deviation. Otherwise all lanes are written.
    joins: bool,
}

impl KernelKey for Sums {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("batch_norm_sums {self:?}"), unit, if self.relu { 6 } else { 4 });
        let mean = b.load_first(b.parameter(2).at(0), self.walk.lanes);
        let relu = self.relu.then(|| {
            let variance = load_row(&mut b, 2, self.row, self.walk.lanes);
            let inverse = inverse_deviation(&mut b, &self.walk, variance, self.eps);
            Relu::new(&mut b, inverse, 4)
        });
        let totals = [(); 2].map(|()| b.splat(0.0));
        self.walk.runs(&mut b, STRETCH, |b, pointers, pixels| {
            // With relu, sixteen registers do not hold more.
            let copies = if self.relu { 2 } else { COPIES };
            let products: Vec<Vector> = (0..copies.min(pixels)).map(|_| b.splat(0.0)).collect();
            let sums: Vec<Vector> = products.iter().map(|_| b.splat(0.0)).collect();
            along(b, pointers, pixels, |b, i| {
                let [x, dy] = [0, 1].map(|array| b.load(pointers[array].at(i * unit.bytes())));
                let distance = b.op(VectorOp::Sub, x, mean);
                let dy = relu.as_ref().map_or(dy, |relu| relu.gradient(b, distance, dy));
                let i = i % sums.len();
                b.op_into(sums[i], VectorOp::Add, sums[i], dy);
                b.fma(products[i], distance, dy);
            });
            for (total, sums) in totals.into_iter().zip([sums, products]) {
                sums[1..].iter().for_each(|&more| b.op_into(sums[0], VectorOp::Add, sums[0], more));
                b.op_into(total, VectorOp::Add, total, sums[0]);
            }
        });
        let lanes = self.walk.lanes;
        let (lanes, totals) = match self.joins {
            false => (unit.lanes, totals),
            true => (lanes, by_deviation(&mut b, totals, 2, self.row, lanes, self.eps)),
        };
        store_pair(&mut b, 3, totals, self.second, lanes);
        b.finish()
    }
}

/// What lets a gradient through where a normalised value is positive, computed as the value was.
struct Relu {
    factor: Vector,
    bias: Vector,
    zero: Vector,
}

impl Relu {
    /// Weight and bias are where the parameters from `first` on point to.
    fn new(b: &mut Builder, inverse: Vector, first: usize) -> Relu {
        let [weight, bias] = [first, first + 1].map(|i| b.load(b.parameter(i).at(0)));
        Relu { factor: b.op(VectorOp::Mul, inverse, weight), bias, zero: b.splat(0.0) }
    }

    /// dy or 0; `distance` is that of x to the mean.
    fn gradient(&self, b: &mut Builder, distance: Vector, dy: Vector) -> Vector {
        let y = b.new_vector();
        b.copy(y, self.bias);
        b.fma(y, distance, self.factor);
        b.select(Compare::Less, self.zero, y, dy, self.zero)
    }
}

/// The sums, the second divided by the deviation, whose moments are a parameter.
fn by_deviation(
    b: &mut Builder,
    sums: [Vector; 2],
    moments: usize,
    row: usize,
    lanes: usize,
    eps: Bits,
) -> [Vector; 2] {
    let variance = load_row(b, moments, row, lanes);
    let deviation = deviation(b, variance, eps);
    [sums[0], b.op(VectorOp::Div, sums[1], deviation)]
}

fn deviation(b: &mut Builder, variance: Vector, eps: Bits) -> Vector {
    let eps = b.splat(eps.value());
    let variance = b.op(VectorOp::Add, variance, eps);
    b.unary(UnaryOp::Sqrt, variance)
}

/// Parameters: the first part's sums, moments, the sums of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct JoinSums {
    parts: usize,
    /// Bytes from a part's sums to the next part's.
    stride: usize,
    /// Bytes from the first of two numbers a channel to the second.
    row: usize,
    eps: Bits,
    lanes: usize,
}

impl KernelKey for JoinSums {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("join batch_norm_sums {self:?}"), unit, 3);
        let from = b.parameter(0);
        let totals = [(); 2].map(|()| b.splat(0.0));
        b.repeat(self.parts, |b| {
            for (i, &total) in totals.iter().enumerate() {
                let v = b.load(from.at(i * unit.bytes()));
                b.op_into(total, VectorOp::Add, total, v);
            }
            b.advance(from, self.stride);
        });
        let totals = by_deviation(&mut b, totals, 1, self.row, self.lanes, self.eps);
        store_pair(&mut b, 2, totals, self.row, self.lanes);
        b.finish()
    }
}

// ---- Values -------------------------------------------------------------------------------------

/// Operands: x, moments, then the epilogue's.
pub(crate) fn train(e: &mut Emitter, step: &Step, op: &BatchNormTrain) -> Emitted {
    let [x, moments] = [0, 1].map(|i| &step.inputs[i]);
    let y = &step.outputs[0];
    let weights = if op.affine { 2 } else { 0 };
    let (eps, steps) = (Bits::of(op.eps), Epilogue::of(&op.epilogue));
    let extra = &step.inputs[2..];
    if !y.layout.is_blocked() {
        let arrays: Vec<&View> = [x].into_iter().chain(extra).collect();
        return plain(e, step, Body::BatchNormTrain { eps, steps }, &arrays, [moments], weights);
    }
    let (row, affine) = (row(moments), op.affine);
    let packed = pack(e, step, y, weights);
    let kernel = |e: &mut Emitter, walk: Walk| e.kernel(&Train { walk, row, eps, affine, steps: steps.clone() });
    let arrays: Vec<&View> = [x, y].into_iter().chain(extra).collect();
    walk::emit(e, step, &arrays, &tasks(y), kernel, |e, d, _, block| {
        let mut arguments = vec![of_block(e, d, moments, block)];
        arguments.extend(packed.iter().map(|&at| weights_of_block(e, d, at, block)));
        arguments
    })
}

/// Operands: x, moments, dy, their sums.
pub(crate) fn input_gradient(e: &mut Emitter, step: &Step, op: &BatchNormInputGradient) -> Emitted {
    let [x, moments, dy, sums] = [0, 1, 2, 3].map(|i| &step.inputs[i]);
    let dx = &step.outputs[0];
    let count = dx.shape.elements() / dx.shape[1];
    let (eps, weights) = (Bits::of(op.eps), usize::from(op.affine) + usize::from(op.relu));
    if !dx.layout.is_blocked() {
        let body = Body::BatchNormInputGradient { eps, count, relu: op.relu };
        return plain(e, step, body, &[x, dy], [moments, sums], weights);
    }
    let (row, affine, relu) = (row(moments), op.affine, op.relu);
    let packed = pack(e, step, dx, weights);
    let kernel = |e: &mut Emitter, walk: Walk| e.kernel(&InputGradient { walk, row, eps, affine, relu, count });
    walk::emit(e, step, &[x, dy, dx], &tasks(dx), kernel, |e, d, _, block| {
        let mut arguments = [moments, sums].map(|view| of_block(e, d, view, block)).to_vec();
        arguments.extend(packed.iter().map(|&at| weights_of_block(e, d, at, block)));
        arguments
    })
}

fn tasks(output: &View) -> Parts {
    let [images, _, h, w] = output.image();
    Parts::of_size(images, h * w, TASK)
}

/// Weights for each channel of a value in blocks.
fn pack(e: &mut Emitter, step: &Step, value: &View, weights: usize) -> Vec<Packed> {
    let parts = (0..weights).map(|i| Part::per_channel(i, value.shape[1], value)).collect();
    e.pack(e.weights(step), parts)
}

fn weights_of_block(e: &Emitter, d: &mut Driver, at: Packed, block: Int) -> Operand {
    let base = d.weights(at);
    d.step(base, block.into(), e.unit().bytes());
    base.into()
}

/// `1 / sqrt(variance + eps)`, and 0 in lanes that are no channels, whose results are 0 then.
fn inverse_deviation(b: &mut Builder, walk: &Walk, variance: Vector, eps: Bits) -> Vector {
    let deviation = deviation(b, variance, eps);
    let one = b.splat(1.0);
    let inverse = b.op(VectorOp::Div, one, deviation);
    walk.masked(b, inverse)
}

/// Parameters: x, y, what the epilogue reads, moments, and where affine, weight and bias.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Train {
    walk: Walk,
    row: usize,
    eps: Bits,
    affine: bool,
    steps: Epilogue,
}

impl KernelKey for Train {
    fn build(&self, unit: Unit) -> Function {
        let moments = 2 + extra_operands(&self.steps);
        let parameters = moments + if self.affine { 3 } else { 1 };
        let mut b = Builder::new(format!("batch_norm_train {self:?}"), unit, parameters);
        let [mean, variance] = [0, self.row].map(|row| load_row(&mut b, moments, row, self.walk.lanes));
        let mut factor = inverse_deviation(&mut b, &self.walk, variance, self.eps);
        let mut bias = None;
        if self.affine {
            let weight = b.load(b.parameter(moments + 1).at(0));
            factor = b.op(VectorOp::Mul, factor, weight);
            bias = Some(b.load(b.parameter(moments + 2).at(0)));
        }
        let [from, to] = [0, 1].map(|i| b.parameter(i));
        // Where registers are few, results are stored first and finished when nothing else is held.
        let crowded = 5 + temporaries(&self.steps) > unit.registers;
        self.walk.each(&mut b, |b, i| {
            let x = b.load(from.at(i * unit.bytes()));
            let centred = b.op(VectorOp::Sub, x, mean);
            let y = match bias {
                None => b.op(VectorOp::Mul, centred, factor),
                Some(bias) => {
                    let y = b.new_vector();
                    b.copy(y, bias);
                    b.fma(y, centred, factor);
                    y
                }
            };
            let y = if crowded { y } else { self.finished(b, i, y) };
            b.store(to.at(i * unit.bytes()), y);
        });
        if crowded {
            self.walk.rewind(&mut b);
            self.walk.each(&mut b, |b, i| {
                let y = b.load(to.at(i * unit.bytes()));
                let y = self.finished(b, i, y);
                b.store(to.at(i * unit.bytes()), y);
            });
        }
        b.finish()
    }
}

impl Train {
    /// What the epilogue makes of the pixel's result.
    fn finished(&self, b: &mut Builder, pixel: usize, y: Vector) -> Vector {
        if self.steps.is_empty() {
            return y;
        }
        let extra: Vec<Int> = (0..extra_operands(&self.steps)).map(|i| b.parameter(2 + i)).collect();
        let offset = pixel * b.unit().bytes();
        let y = apply_all(b, &self.steps, y, |b, i| b.load(extra[i].at(offset)));
        // What may be no finite number is kept from lanes that are no channels.
        if are_total(&self.steps) { y } else { self.walk.masked(b, y) }
    }
}

/// Parameters: x, dy, dx, moments, sums, and where affine, weight; with relu, bias.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct InputGradient {
    walk: Walk,
    row: usize,
    eps: Bits,
    affine: bool,
    relu: bool,
    /// Numbers of a channel.
    count: usize,
}

impl KernelKey for InputGradient {
    fn build(&self, unit: Unit) -> Function {
        let name = format!("batch_norm_input_gradient {self:?}");
        let mut b = Builder::new(name, unit, 5 + usize::from(self.affine) + usize::from(self.relu));
        let pair =
            |b: &mut Builder, parameter: usize| [0, self.row].map(|row| load_row(b, parameter, row, self.walk.lanes));
        let [mean, variance] = pair(&mut b, 3);
        let inverse = inverse_deviation(&mut b, &self.walk, variance, self.eps);
        let means = pair(&mut b, 4);
        let [mean_dy, slope] = corrections(&mut b, means, inverse, self.count);
        let relu = self.relu.then(|| Relu::new(&mut b, inverse, 5));
        let factor = match &relu {
            Some(relu) => relu.factor,
            None if self.affine => {
                let weight = b.load(b.parameter(5).at(0));
                b.op(VectorOp::Mul, inverse, weight)
            }
            None => inverse,
        };
        let [x, dy, dx] = [0, 1, 2].map(|i| b.parameter(i));
        self.walk.each(&mut b, |b, i| {
            let [x, dy] = [x, dy].map(|from| b.load(from.at(i * unit.bytes())));
            let distance = b.op(VectorOp::Sub, x, mean);
            let dy = relu.as_ref().map_or(dy, |relu| relu.gradient(b, distance, dy));
            let result = corrected(b, distance, dy, mean_dy, slope);
            let result = b.op(VectorOp::Mul, result, factor);
            b.store(dx.at(i * unit.bytes()), result);
        });
        b.finish()
    }
}

/// The mean of dy, and what x − mean is multiplied by: −Σ dy · x̂ / count / deviation.
fn corrections(b: &mut Builder, sums: [Vector; 2], inverse: Vector, count: usize) -> [Vector; 2] {
    let share = b.splat(1.0 / count as f32);
    let mean = b.op(VectorOp::Mul, sums[0], share);
    let minus_share = b.splat(-1.0 / count as f32);
    let slope = b.op(VectorOp::Mul, sums[1], minus_share);
    [mean, b.op(VectorOp::Mul, slope, inverse)]
}

/// `dy − mean of dy + distance · slope`
fn corrected(b: &mut Builder, distance: Vector, dy: Vector, mean_dy: Vector, slope: Vector) -> Vector {
    let result = b.op(VectorOp::Sub, dy, mean_dy);
    b.fma(result, distance, slope);
    result
}

// ---- Plain memory -------------------------------------------------------------------------------

/// A loop nest over values `arrays`, then two numbers a channel of each of `pairs`, then weights.
fn plain<const P: usize>(
    e: &mut Emitter,
    step: &Step,
    body: Body,
    arrays: &[&View],
    pairs: [&View; P],
    weights: usize,
) -> Emitted {
    let output = &step.outputs[0];
    let whole = |view: &View| Array::new(view, row_major(&view.shape));
    let element = output.element_bytes() as i64;
    let along: Vec<i64> = (0..output.shape.rank()).map(|axis| if axis == 1 { element } else { 0 }).collect();
    let mut all = vec![whole(output)];
    all.extend(arrays.iter().copied().map(whole));
    for view in pairs {
        all.extend([0, row(view)].map(|row| Array::new(view, along.clone()).shifted(row)));
    }
    let parts: Vec<Part> = (0..weights).map(|i| Part::per_channel(i, output.shape[1], output)).collect();
    all.extend(channel_weights(e, step, parts));
    let nest = Nest { dims: output.shape.dims().to_vec(), arrays: all, body: &body };
    nest::emit(e, &super::step_name(e, step), vec![nest])
}

/// Operands: x, the epilogue's, mean, variance, and where affine, weight and bias.
pub(super) fn apply_train(b: &mut Builder, eps: Bits, steps: &[PostOp], operands: &Operands) -> Vector {
    let first = 1 + extra_operands(steps);
    let [x, mean, variance] = [0, first, first + 1].map(|i| operands.get(b, i));
    let centred = b.op(VectorOp::Sub, x, mean);
    let deviation = deviation(b, variance, eps);
    let normal = b.op(VectorOp::Div, centred, deviation);
    let mut y = normal;
    if operands.count() > first + 2 {
        let [weight, bias] = [first + 2, first + 3].map(|i| operands.get(b, i));
        y = b.new_vector();
        b.copy(y, bias);
        b.fma(y, normal, weight);
    }
    finish(b, steps, y, operands, 1)
}

/// Operands: x, dy, mean, variance, both sums, and where affine, weight; with relu, bias.
pub(super) fn apply_input_gradient(
    b: &mut Builder,
    eps: Bits,
    count: usize,
    relu: bool,
    operands: &Operands,
) -> Vector {
    let [mean, variance] = [2, 3].map(|i| operands.get(b, i));
    let deviation = deviation(b, variance, eps);
    let one = b.splat(1.0);
    let inverse = b.op(VectorOp::Div, one, deviation);
    let sums = [4, 5].map(|i| operands.get(b, i));
    let [mean_dy, slope] = corrections(b, sums, inverse, count);
    let factor = match operands.count() {
        6 => inverse,
        _ => {
            let weight = operands.get(b, 6);
            b.op(VectorOp::Mul, inverse, weight)
        }
    };
    let [x, mut dy] = [0, 1].map(|i| operands.get(b, i));
    let distance = b.op(VectorOp::Sub, x, mean);
    if relu {
        let (bias, zero) = (operands.get(b, 7), b.splat(0.0));
        dy = Relu { factor, bias, zero }.gradient(b, distance, dy);
    }
    let result = corrected(b, distance, dy, mean_dy, slope);
    b.op(VectorOp::Mul, result, factor)
}

/// What is summed of each channel of plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PlainOf {
    /// Of x.
    Moments,
    /// Of x and dy, with moments; with relu, weights, too.
    Sums { eps: Bits, relu: bool },
}

/// One task is one channel.
fn plain_sums(e: &mut Emitter, step: &Step, of: PlainOf) -> Emitted {
    let (x, to) = (&step.inputs[0], &step.outputs[0]);
    let (images, channels) = (x.shape[0], x.shape[1]);
    let pixels = x.shape.elements() / images / channels;
    let kernel = e.kernel(&PlainSums { of, images, channels, pixels });
    let arrays: Vec<&View> = if of == PlainOf::Moments { vec![x] } else { vec![x, &step.inputs[2]] };
    let pairs: Vec<&View> = if of == PlainOf::Moments { vec![to] } else { vec![&step.inputs[1], to] };
    let weights = if matches!(of, PlainOf::Sums { relu: true, .. }) { 2 } else { 0 };
    let packed = pack(e, step, x, weights);
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, channels, |d, channel| {
            let mut arguments: Vec<Operand> = vec![];
            for (views, stride) in [(&arrays, LANE * pixels), (&pairs, LANE)] {
                for view in views {
                    let base = d.view(e, view);
                    d.step(base, channel.into(), stride);
                    arguments.push(base.into());
                }
            }
            for &at in &packed {
                let base = d.weights(at);
                d.step(base, channel.into(), LANE);
                arguments.push(base.into());
            }
            d.b.call(kernel, arguments);
        });
    });
    Emitted { entry, grid: channels, scratch: 0 }
}

/// Parameters: x, dy and moments if there are any, results, weight and bias if there are any.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PlainSums {
    of: PlainOf,
    images: usize,
    channels: usize,
    pixels: usize,
}

impl KernelKey for PlainSums {
    fn build(&self, unit: Unit) -> Function {
        let row = LANE * self.channels;
        let count = self.images * self.pixels;
        let parameters = match self.of {
            PlainOf::Moments => 2,
            PlainOf::Sums { relu, .. } => 4 + if relu { 2 } else { 0 },
        };
        let mut b = Builder::new(format!("plain {self:?}"), unit, parameters);
        match self.of {
            PlainOf::Moments => {
                let zero = b.splat(0.0);
                let share = b.splat(1.0 / count as f32);
                let sum = self.sum(&mut b, 1, zero, |_, values| values[0]);
                let mean = b.op(VectorOp::Mul, sum, share);
                // What is no pixel counts as the mean.
                let squares = self.sum(&mut b, 1, mean, |b, values| {
                    let distance = b.op(VectorOp::Sub, values[0], mean);
                    b.op(VectorOp::Mul, distance, distance)
                });
                let variance = b.op(VectorOp::Mul, squares, share);
                store_pair(&mut b, 1, [mean, variance], row, 1);
            }
            PlainOf::Sums { eps, relu } => {
                let mean = b.broadcast(b.parameter(2).at(0));
                let zero = b.splat(0.0);
                let relu = relu.then(|| {
                    let variance = b.add(b.parameter(2), row);
                    let variance = b.broadcast(variance.at(0));
                    let deviation = deviation(&mut b, variance, eps);
                    let [weight, bias] = [4, 5].map(|i| b.broadcast(b.parameter(i).at(0)));
                    Relu { factor: b.op(VectorOp::Div, weight, deviation), bias, zero }
                });
                let term = |b: &mut Builder, values: &[Vector]| {
                    let distance = b.op(VectorOp::Sub, values[0], mean);
                    let dy = relu.as_ref().map_or(values[1], |relu| relu.gradient(b, distance, values[1]));
                    (distance, dy)
                };
                let sum = self.sum(&mut b, 2, zero, |b, values| term(b, values).1);
                let products = self.sum(&mut b, 2, zero, |b, values| {
                    let (distance, dy) = term(b, values);
                    b.op(VectorOp::Mul, distance, dy)
                });
                let sums = by_deviation(&mut b, [sum, products], 2, row, 1, eps);
                store_pair(&mut b, 3, sums, row, 1);
            }
        }
        b.finish()
    }
}

impl PlainSums {
    /// The sum over all images of what `term` makes of the arrays' pixels, which are `rest` behind the last.
    fn sum(
        &self,
        b: &mut Builder,
        arrays: usize,
        rest: Vector,
        term: impl Fn(&mut Builder, &[Vector]) -> Vector,
    ) -> Vector {
        let pointers: Vec<Int> = (0..arrays).map(|i| b.int(b.parameter(i))).collect();
        let total = Partial::new(b);
        b.repeat(self.images, |b| {
            let sums = Partial::new(b);
            partial::walk(b, self.pixels, |b, lanes, index| {
                let values: Vec<Vector> = pointers.iter().map(|&from| load_or(b, from, rest, lanes)).collect();
                let v = term(b, &values);
                sums.add(b, index, v);
                pointers.iter().for_each(|&from| b.advance(from, LANE * lanes));
            });
            total.join(b, &sums);
            let skipped = LANE * self.pixels * (self.channels - 1);
            pointers.iter().for_each(|&from| b.advance(from, skipped));
        });
        total.total(b)
    }
}

/// The first `lanes` lanes of memory, the others from `rest`.
fn load_or(b: &mut Builder, from: Int, rest: Vector, lanes: usize) -> Vector {
    if lanes == b.lanes() {
        return b.load(from.at(0));
    }
    let v = b.new_vector();
    b.copy(v, rest);
    b.push(Inst::LoadLanes { dst: v, address: from.at(0), from: 0, to: lanes as u8 });
    v
}
