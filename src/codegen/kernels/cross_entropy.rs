//! Cross entropy of scores and labels, and its gradient.
//!
//! The labels' weights and the losses are added up in [`parts`]; the gradient needs the former, too, before its first
//! element. The scores of one image or pixel are gone through three times:
//!
//! ```text
//! greatest = max score          sum = Σ exp(score − greatest)
//! loss     = −Σ share · (score − greatest − ln sum)
//! gradient = (exp(score − greatest) / sum · Σ share − share) · factor
//! ```
//!
//! Where a score has neighbours of other pixels, the lanes are pixels; else they are classes.

use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::key::{Bits, KernelKey};
use super::super::packing::Part;
use super::super::vector::{
    Address, Builder, Callee, Compare, Function, Inst, Int, IntOp, Operand, UnaryOp, Vector, VectorOp,
};
use super::partial::{self, Partial};
use super::parts::{self, GRAIN, PARTS, Run, keep_first};
use super::{LANE, math};
use crate::ops::{CrossEntropy, CrossEntropyGradient};
use crate::plan::{Step, View};
use crate::target::Unit;

/// Scores of a task of the gradient, about.
const TASK: usize = 4096;

pub(crate) fn loss(e: &mut Emitter, step: &Step, op: &CrossEntropy) -> Emitted {
    let problem = Problem::new(step, step.inputs.get(2), op.smoothing, op.ignored);
    let weights = parts::count(problem.labels.shape.elements());
    let division = problem.division(0);
    let losses = division.grid(&problem);
    let at = e.reserve((weights + losses) * LANE);
    problem.add_label_weights(e, at);
    let of_losses = at + weights * LANE;
    let emitted = problem.emit(e, division, Work::Loss, &|_, d| vec![d.weights(of_losses)]);
    e.repackings.push(emitted);
    let kernel = e.kernel(&Mean { losses, weights });
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, 1, |d, _| {
            let arguments = [d.weights(of_losses), d.weights(at), d.view(e, &step.outputs[0])];
            d.b.call(kernel, arguments.map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid: 1, scratch: 0 }
}

pub(crate) fn gradient(e: &mut Emitter, step: &Step, op: &CrossEntropyGradient) -> Emitted {
    let problem = Problem::new(step, step.inputs.get(3), op.smoothing, op.ignored);
    let weights = parts::count(problem.labels.shape.elements());
    let at = e.reserve(weights * LANE);
    problem.add_label_weights(e, at);
    problem.emit(e, problem.division(TASK), Work::Gradient { weights }, &|e, d| {
        vec![d.view(e, &step.outputs[0]), d.view(e, &step.inputs[2]), d.weights(at)]
    })
}

/// What is asked of each image or pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Loss {
    classes: usize,
    /// The share of the label, and that of every other class.
    label: Bits,
    other: Bits,
    ignored: Bits,
    weighted: bool,
}

/// The operands of both ops.
struct Problem<'a> {
    step: &'a Step,
    scores: &'a View,
    labels: &'a View,
    weights: Option<&'a View>,
    /// Images and pixels of each.
    images: usize,
    pixels: usize,
    loss: Loss,
}

impl<'a> Problem<'a> {
    fn new(step: &'a Step, weights: Option<&'a View>, smoothing: f32, ignored: i64) -> Self {
        let (scores, labels) = (&step.inputs[0], &step.inputs[1]);
        let dims = scores.shape.dims();
        let (classes, spread) = (dims[1], f64::from(smoothing) / dims[1] as f64);
        // A number that no f32 is, no label is.
        let nearest = ignored as f32;
        let loss = Loss {
            classes,
            label: Bits::of((1.0 - f64::from(smoothing) + spread) as f32),
            other: Bits::of(spread as f32),
            ignored: Bits::of(if f64::from(nearest) == ignored as f64 { nearest } else { f32::NAN }),
            weighted: weights.is_some(),
        };
        Self { step, scores, labels, weights, images: dims[0], pixels: dims[2..].iter().product(), loss }
    }

    /// Adds up the labels' weights, in parts from `at` on.
    fn add_label_weights(&self, e: &mut Emitter, at: Packed) {
        let more: Vec<&View> = self.weights.into_iter().collect();
        parts::emit(e, self.step, at, &[self.labels], &more, |elements| LabelWeights { elements, loss: self.loss });
    }

    /// Tasks of so many scores or, where there are many, as few tasks as suffice for all threads.
    fn division(&self, scores: usize) -> Division {
        if self.pixels == 1 {
            let most = self.images.div_ceil(PARTS);
            let images = if scores == 0 { most } else { scores.div_ceil(self.loss.classes) };
            return Division::Images(images.min(self.images));
        }
        let most = self.pixels.div_ceil(PARTS.div_ceil(self.images)).max(TASK);
        let pixels = if scores == 0 { most } else { scores.div_ceil(self.loss.classes) };
        Division::Pixels(pixels.next_multiple_of(GRAIN))
    }

    /// The driver of all tasks. `outputs` gives what the kernel gets behind the operands, the first of these moved to
    /// the task's own.
    fn emit(
        &self,
        e: &mut Emitter,
        division: Division,
        work: Work,
        outputs: &dyn Fn(&Emitter, &mut Driver) -> Vec<Int>,
    ) -> Emitted {
        let kernel = |e: &mut Emitter, lanes| e.kernel(&Samples { lanes, loss: self.loss, work });
        let name = super::step_name(e, self.step);
        let grid = division.grid(self);
        let image = self.loss.classes * self.pixels * LANE;
        let pointers = |e: &Emitter, d: &mut Driver| {
            let [scores, labels] = [self.scores, self.labels].map(|view| d.view(e, view));
            (scores, labels, outputs(e, d))
        };
        let entry = match division {
            Division::Images(each) => {
                let numbers = (0..self.loss.classes).map(|class| (class as f32).to_bits()).collect();
                let table = e.pack(vec![], vec![Part::words(numbers)])[0];
                let kernel = kernel(e, Lanes::Classes);
                e.driver(&name, |e, d| {
                    d.tasks(0, grid, |d, task| {
                        let (scores, labels, outputs) = pointers(e, d);
                        d.step(scores, task.into(), each * image);
                        d.step(labels, task.into(), each * LANE);
                        d.step(outputs[0], task.into(), if work == Work::Loss { LANE } else { each * image });
                        let (first, all) = (d.b.mul(task, each), d.b.int(self.images as i64));
                        let left = d.b.int_op(IntOp::Sub, all, first);
                        let count = d.b.int_op(IntOp::Min, left, each);
                        let mut arguments = vec![scores, labels, d.weights(table), count];
                        arguments.extend(self.weights.map(|view| d.view(e, view)));
                        arguments.extend(outputs);
                        d.b.call(kernel, arguments.into_iter().map(Operand::from).collect());
                    });
                })
            }
            Division::Pixels(each) => {
                let stride = self.pixels;
                let runs: Vec<(Run, Callee)> = parts::cut(self.pixels, each)
                    .into_iter()
                    .map(|run| (run, kernel(e, Lanes::Pixels { count: run.elements, stride })))
                    .collect();
                e.driver(&name, |e, d| {
                    d.tasks(0, grid, |d, task| {
                        let (index, piece) = d.split(task, self.pixels.div_ceil(each));
                        let piece = d.int(piece);
                        for &(run, kernel) in &runs {
                            d.if_within(piece, run.first, run.tasks, |d, _| {
                                let (scores, labels, outputs) = pointers(e, d);
                                let mut moved = vec![(scores, image), (labels, self.pixels * LANE)];
                                match work {
                                    Work::Loss => d.step(outputs[0], task.into(), LANE),
                                    Work::Gradient { .. } => moved.push((outputs[0], image)),
                                }
                                for (pointer, image) in moved {
                                    d.step(pointer, index, image);
                                    d.step(pointer, piece.into(), each * LANE);
                                }
                                let mut arguments = vec![scores, labels];
                                arguments.extend(self.weights.map(|view| d.view(e, view)));
                                arguments.extend(outputs);
                                d.b.call(kernel, arguments.into_iter().map(Operand::from).collect());
                            });
                        }
                    });
                })
            }
        };
        Emitted { entry, grid, scratch: 0 }
    }
}

/// What is a task.
#[derive(Clone, Copy, Debug)]
enum Division {
    /// So many images of one pixel.
    Images(usize),
    /// So many pixels of one image.
    Pixels(usize),
}

impl Division {
    /// How many tasks there are.
    fn grid(self, problem: &Problem) -> usize {
        match self {
            Division::Images(each) => problem.images.div_ceil(each),
            Division::Pixels(each) => problem.images * problem.pixels.div_ceil(each),
        }
    }
}

/// The sum of the labels' weights; NaN where a label is no class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LabelWeights {
    elements: usize,
    loss: Loss,
}

impl KernelKey for LabelWeights {
    /// Parameters: labels, the weights of classes if there are some, the sum.
    fn build(&self, unit: Unit) -> Function {
        let weighted = self.loss.weighted;
        let mut b = Builder::new(format!("label weights {self:?}"), unit, if weighted { 3 } else { 2 });
        let (labels, result) = (b.parameter(0), b.parameter(if weighted { 2 } else { 1 }));
        let sums = Partial::new(&mut b);
        partial::walk(&mut b, self.elements, |b, lanes, index| {
            let label = b.load_first(labels.at(0), lanes);
            let weight = if weighted { self.looked_up(b, label) } else { self.one(b, label) };
            let (ignored, zero) = (b.splat(self.loss.ignored.value()), b.splat(0.0));
            let weight = b.select(Compare::Equal, label, ignored, zero, weight);
            let weight = keep_first(b, weight, lanes);
            sums.add(b, index, weight);
            b.advance(labels, LANE * lanes);
        });
        let sum = sums.total(&mut b);
        b.store_first(result.at(0), sum, 1);
        b.finish()
    }
}

impl LabelWeights {
    /// 1 where the label is a class.
    fn one(&self, b: &mut Builder, label: Vector) -> Vector {
        let (zero, one, nan) = (b.splat(0.0), b.splat(1.0), b.splat(f32::NAN));
        let whole = b.unary(UnaryOp::Floor, label);
        let weight = b.select(Compare::Equal, whole, label, one, nan);
        let weight = b.select(Compare::Less, label, zero, nan, weight);
        let classes = b.splat(self.loss.classes as f32);
        b.select(Compare::Less, label, classes, weight, nan)
    }

    fn looked_up(&self, b: &mut Builder, label: Vector) -> Vector {
        let (weight, class, one) = (b.splat(f32::NAN), b.splat(0.0), b.splat(1.0));
        let from = b.int(b.parameter(1));
        b.repeat(self.loss.classes, |b| {
            let of_class = b.broadcast(from.at(0));
            b.push(Inst::Select { dst: weight, compare: Compare::Equal, a: label, b: class, x: of_class, y: weight });
            b.op_into(class, VectorOp::Add, class, one);
            b.advance(from, LANE);
        });
        weight
    }
}

/// One mean of both sums.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Mean {
    losses: usize,
    weights: usize,
}

impl KernelKey for Mean {
    /// Parameters: parts of the losses, parts of the weights, the result.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("mean of {} by {}", self.losses, self.weights), unit, 3);
        let [losses, weights, result] = [0, 1, 2].map(|i| b.parameter(i));
        let losses = parts::total(&mut b, losses, self.losses);
        let weights = parts::total(&mut b, weights, self.weights);
        let mean = b.op(VectorOp::Div, losses, weights);
        b.store_first(result.at(0), mean, 1);
        b.finish()
    }
}

/// What the lanes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lanes {
    /// Of one image after the other.
    Classes,
    /// So many of an image, whose classes are `stride` elements apart.
    Pixels { count: usize, stride: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Loss,
    /// The sum of the labels' weights is in so many parts.
    Gradient {
        weights: usize,
    },
}

/// The loss of some images or pixels, or the gradients of their scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Samples {
    lanes: Lanes,
    loss: Loss,
    work: Work,
}

/// Where a kernel finds what it works on.
struct Pointers {
    scores: Int,
    labels: Int,
    /// The numbers of the classes, where these are the lanes.
    numbers: Option<Int>,
    weights: Option<Int>,
    /// The sum of the losses, or the gradients.
    output: Int,
    /// Of gradients, what all are multiplied by.
    factor: Option<Vector>,
}

/// Neighbouring scores of one class or several.
struct Group {
    /// Bytes from the first score.
    at: Int,
    lanes: usize,
    /// Among vectors of classes.
    index: usize,
    /// The class of each lane.
    class: Vector,
    weight: Option<Vector>,
}

impl KernelKey for Samples {
    /// Parameters: scores, labels; where the lanes are classes their numbers and how many images; weights of classes
    /// if there are some; the output; of gradients the loss's own, and the parts of the labels' weights.
    fn build(&self, unit: Unit) -> Function {
        let by_class = self.lanes == Lanes::Classes;
        let more = if self.work == Work::Loss { 1 } else { 3 };
        let count = 2 + 2 * usize::from(by_class) + usize::from(self.loss.weighted) + more;
        let mut b = Builder::new(format!("cross entropy {self:?}"), unit, count);
        let mut parameters = (0..count).map(|i| b.parameter(i)).collect::<Vec<_>>().into_iter();
        let mut next = || parameters.next().expect("counted above");
        let [scores, labels] = [next(), next()];
        let images = by_class.then(|| [next(), next()]);
        let weights = self.loss.weighted.then(&mut next);
        let output = next();
        let factor = match self.work {
            Work::Loss => None,
            Work::Gradient { weights } => {
                let (own, sums) = (next(), next());
                let own = b.broadcast(own.at(0));
                let sum = parts::total(&mut b, sums, weights);
                Some(b.op(VectorOp::Div, own, sum))
            }
        };
        let p = Pointers { scores, labels, numbers: images.map(|[numbers, _]| numbers), weights, output, factor };
        match (self.lanes, images) {
            (Lanes::Pixels { count, .. }, _) => self.pixels(&mut b, &p, count),
            (Lanes::Classes, Some([_, images])) => self.images(&mut b, &p, images),
            (Lanes::Classes, None) => unreachable!("made above"),
        }
        b.finish()
    }
}

impl Samples {
    fn images(&self, b: &mut Builder, p: &Pointers, images: Int) {
        let sum = b.splat(0.0);
        let image = self.loss.classes * LANE;
        b.repeat(images, |b| {
            let label = b.broadcast(p.labels.at(0));
            if let Some(loss) = self.sample(b, p, label, b.lanes()) {
                b.op_into(sum, VectorOp::Add, sum, loss);
            }
            b.advance(p.scores, image);
            b.advance(p.labels, LANE);
            if p.factor.is_some() {
                b.advance(p.output, image);
            }
        });
        if p.factor.is_none() {
            b.store_first(p.output.at(0), sum, 1);
        }
    }

    fn pixels(&self, b: &mut Builder, p: &Pointers, count: usize) {
        let sums = p.factor.is_none().then(|| Partial::new(b));
        partial::walk(b, count, |b, lanes, index| {
            let label = b.load_first(p.labels.at(0), lanes);
            if let (Some(loss), Some(sums)) = (self.sample(b, p, label, lanes), &sums) {
                let loss = keep_first(b, loss, lanes);
                sums.add(b, index, loss);
            }
            b.advance(p.scores, LANE * lanes);
            b.advance(p.labels, LANE * lanes);
            if p.factor.is_some() {
                b.advance(p.output, LANE * lanes);
            }
        });
        if let Some(sums) = sums {
            let sum = sums.total(b);
            b.store_first(p.output.at(0), sum, 1);
        }
    }

    /// The loss of one image in all lanes, or of one pixel in each of `lanes` lanes; `None` where gradients are
    /// stored.
    fn sample(&self, b: &mut Builder, p: &Pointers, label: Vector, lanes: usize) -> Option<Vector> {
        let greatest = b.splat(f32::NEG_INFINITY);
        self.each(b, p, lanes, |b, group| {
            let v = self.score(b, p, group);
            b.op_into(greatest, VectorOp::Max, greatest, v);
        });
        let greatest = if self.lanes == Lanes::Classes { b.reduce(VectorOp::Max, greatest) } else { greatest };
        let exponential = |b: &mut Builder, group: &Group| {
            let v = self.score(b, p, group);
            let v = b.op(VectorOp::Sub, v, greatest);
            math::exp(b, v)
        };
        let sum = self.sum(b);
        let ignored = |b: &mut Builder, v: Vector| {
            let (ignored, zero) = (b.splat(self.loss.ignored.value()), b.splat(0.0));
            b.select(Compare::Equal, label, ignored, zero, v)
        };
        let Some(factor) = p.factor else {
            self.each(b, p, lanes, |b, group| {
                let v = exponential(b, group);
                sum.add(b, group.index, v);
            });
            let sum = sum.total(b);
            let log = math::log(b, sum);
            let terms = self.sum(b);
            self.each(b, p, lanes, |b, group| {
                let v = self.score(b, p, group);
                // One after the other, so that large values lose nothing.
                let v = b.op(VectorOp::Sub, greatest, v);
                let v = b.op(VectorOp::Add, v, log);
                let (share, zero) = (self.share(b, group, label), b.splat(0.0));
                let term = b.op(VectorOp::Mul, share, v);
                // 0 · ∞ is 0: a class that cannot be is no loss where none is asked for.
                let term = b.select(Compare::Equal, share, zero, zero, term);
                let term = if self.lanes == Lanes::Classes { keep_first(b, term, group.lanes) } else { term };
                terms.add(b, group.index, term);
            });
            let loss = terms.total(b);
            return Some(ignored(b, loss));
        };
        let shares = self.loss.weighted.then(|| self.sum(b));
        self.each(b, p, lanes, |b, group| {
            let v = exponential(b, group);
            b.store_first(p.output.plus(group.at, 0), v, group.lanes);
            sum.add(b, group.index, v);
            if let Some(shares) = &shares {
                let share = self.share(b, group, label);
                shares.add(b, group.index, share);
            }
        });
        let shares = match shares {
            Some(shares) => shares.total(b),
            None => b.splat(1.0),
        };
        let sum = sum.total(b);
        let scale = b.op(VectorOp::Div, shares, sum);
        self.each(b, p, lanes, |b, group| {
            let at = p.output.plus(group.at, 0);
            let v = b.load_first(at, group.lanes);
            let v = b.op(VectorOp::Mul, v, scale);
            let share = self.share(b, group, label);
            let v = b.op(VectorOp::Sub, v, share);
            let v = b.op(VectorOp::Mul, v, factor);
            let v = ignored(b, v);
            b.store_first(at, v, group.lanes);
        });
        None
    }

    /// Runs `body` with the scores of every class.
    fn each(&self, b: &mut Builder, p: &Pointers, lanes: usize, body: impl Fn(&mut Builder, &Group)) {
        let at = b.int(0i64);
        match self.lanes {
            Lanes::Classes => partial::walk(b, self.loss.classes, |b, lanes, index| {
                let numbers = p.numbers.expect("the lanes are classes");
                let class = b.load_first(numbers.plus(at, 0), lanes);
                let weight = p.weights.map(|weights| b.load_first(weights.plus(at, 0), lanes));
                body(b, &Group { at, lanes, index, class, weight });
                b.advance(at, LANE * lanes);
            }),
            Lanes::Pixels { stride, .. } => {
                let (class, one) = (b.splat(0.0), b.splat(1.0));
                let weights = p.weights.map(|weights| b.int(weights));
                b.repeat(self.loss.classes, |b| {
                    let weight = weights.map(|weights| b.broadcast(weights.at(0)));
                    body(b, &Group { at, lanes, index: 0, class, weight });
                    b.op_into(class, VectorOp::Add, class, one);
                    b.advance(at, LANE * stride);
                    weights.iter().for_each(|&weights| b.advance(weights, LANE));
                });
            }
        }
    }

    /// The scores; −∞ in lanes that are no class.
    fn score(&self, b: &mut Builder, p: &Pointers, group: &Group) -> Vector {
        let address: Address = p.scores.plus(group.at, 0);
        if self.lanes != Lanes::Classes || group.lanes == b.lanes() {
            return b.load_first(address, group.lanes);
        }
        let v = b.splat(f32::NEG_INFINITY);
        b.push(Inst::LoadLanes { dst: v, address, from: 0, to: group.lanes as u8 });
        v
    }

    /// w · q of the classes; of lanes that are no class it means nothing, but is 0 where classes have weights.
    fn share(&self, b: &mut Builder, group: &Group, label: Vector) -> Vector {
        let [of_label, of_other] = [self.loss.label, self.loss.other].map(|share| b.splat(share.value()));
        let share = b.select(Compare::Equal, group.class, label, of_label, of_other);
        group.weight.map_or(share, |weight| b.op(VectorOp::Mul, share, weight))
    }

    fn sum(&self, b: &mut Builder) -> Sum {
        match self.lanes {
            Lanes::Classes => Sum::OfLanes(Partial::new(b)),
            Lanes::Pixels { .. } => Sum::InLanes(b.splat(0.0)),
        }
    }
}

/// A sum over classes.
enum Sum {
    OfLanes(Partial),
    InLanes(Vector),
}

impl Sum {
    fn add(&self, b: &mut Builder, index: usize, v: Vector) {
        match self {
            Sum::OfLanes(sums) => sums.add(b, index, v),
            Sum::InLanes(sum) => b.op_into(*sum, VectorOp::Add, *sum, v),
        }
    }

    fn total(self, b: &mut Builder) -> Vector {
        match self {
            Sum::OfLanes(sums) => sums.total(b),
            Sum::InLanes(sum) => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check_on;
    use crate::ir::Phase;
    use crate::tensor::{Shape, Tensor};
    use crate::testing::{GraphBuilder, random_inputs};

    /// Losses and gradients of scores of that shape, some of whose labels do not count.
    fn check_shape(shape: &[usize], smoothing: f32, weighted: bool) {
        let mut b = GraphBuilder::new("loss", Phase::Train);
        let scores = b.input(Shape::new(shape));
        let labels = b.input(Shape::new([&shape[..1], &shape[2..]].concat()));
        let own = b.input(Shape::new([]));
        let weights = weighted.then(|| b.input(Shape::new([shape[1]])));
        let ignored = 1;
        let operands: Vec<_> = [scores, labels].into_iter().chain(weights).collect();
        let loss = b.add(CrossEntropy { smoothing, ignored }, &operands);
        let operands: Vec<_> = [scores, labels, own].into_iter().chain(weights).collect();
        let gradient = b.add(CrossEntropyGradient { smoothing, ignored }, &operands);
        let graph = b.finish(&[loss, gradient]);
        let mut inputs = random_inputs(&graph, 5);
        let labels = (0..inputs[1].len()).map(|i| ((i * 7 + i / 3) % shape[1]) as f64).collect::<Vec<_>>();
        inputs[1] = Tensor::from_values(inputs[1].shape().clone(), labels);
        inputs.iter_mut().skip(3).for_each(|weights| weights.data_mut().iter_mut().for_each(|w| *w = w.abs()));
        check_on(&graph, &inputs, 1e-5);
    }

    #[test]
    fn classes_of_images() {
        for (shape, smoothing) in [([130, 10], 0.0), ([7, 37], 0.1), ([3, 1000], 0.0), ([1, 2], 0.5), ([5, 48], 0.0)] {
            for weighted in [false, true] {
                check_shape(&shape, smoothing, weighted);
                check_shape(&[&shape[..], &[1, 1]].concat(), smoothing, weighted);
            }
        }
    }

    #[test]
    fn classes_of_pixels() {
        for (shape, smoothing) in [([2, 5, 3, 7], 0.0), ([1, 21, 16, 8], 0.1), ([3, 3, 70, 71], 0.0)] {
            for weighted in [false, true] {
                check_shape(&shape, smoothing, weighted);
            }
        }
        check_shape(&[2, 4, 19], 0.1, true);
    }

    /// Where classes cannot be, where a label is no class, and where nothing counts: NaN stands where the definition
    /// has it.
    #[test]
    fn what_cannot_be() {
        let low = f32::NEG_INFINITY;
        let scores = vec![1.0, low, 2.0, low, 0.5, low, 3.0, f32::NAN, 1.0, 2.0, 1.0, 0.0];
        for labels in
            [[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 2.0, 7.0], [7.0; 4], [0.5, 1.0, 1.0, 1.0], [-1.0, 1.0, 1.0, 0.0]]
        {
            for shape in [vec![4, 3], vec![1, 3, 4]] {
                let mut b = GraphBuilder::new("loss", Phase::Train);
                let x = b.input(Shape::new(shape.clone()));
                let t = b.input(Shape::new([&shape[..1], &shape[2..]].concat()));
                let own = b.input(Shape::new([]));
                let loss = b.add(CrossEntropy { smoothing: 0.0, ignored: 7 }, &[x, t]);
                let gradient = b.add(CrossEntropyGradient { smoothing: 0.0, ignored: 7 }, &[x, t, own]);
                let graph = b.finish(&[loss, gradient]);
                let own = Tensor::new(Shape::new([]), vec![1.0]);
                let inputs = [(x, scores.clone()), (t, labels.to_vec())]
                    .map(|(node, values)| Tensor::new(graph.node(node).shape.clone(), values));
                let inputs = [&inputs[..], &[own]].concat();
                let expected = crate::interpreter::run(&graph, &inputs).unwrap();
                for target in crate::codegen::testing::targets() {
                    let model = crate::codegen::testing::model(&graph, &target, &Default::default(), 1);
                    let got = model.run_tensors(&inputs).unwrap();
                    let pairs = got.iter().zip(&expected).flat_map(|(g, e)| g.data().iter().zip(e.data()));
                    for (got, expected) in pairs {
                        let same = got == expected
                            || (got.is_nan() && expected.is_nan())
                            || (got - expected).abs() <= 1e-6 * expected.abs().max(1.0);
                        assert!(same, "{got}, not {expected}: {labels:?} {shape:?}, {} lanes", target.unit.lanes);
                    }
                }
            }
        }
    }
}
