//! Random masks: Philox4x32-10 ([`crate::random`]) on vectors of counters.
//!
//! A lane is a counter, which gives the numbers of four neighbouring elements. In plain memory these are four lanes of
//! a result; in blocks of channels, whose lanes are channels, they are four pixels, so that nothing moves between
//! lanes. Products of 32 bits are put together from those of 16.

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::packing::Part;
use super::super::vector::{Builder, Callee, Compare, Element, Function, Int, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::parts::{self, Run};
use crate::ops::DropoutMask;
use crate::plan::Step;
use crate::random::{MULTIPLIERS, ROUNDS, WEYL, WORDS};
use crate::target::Unit;

/// Elements of a task in plain memory.
const TASK: usize = 16384;
/// Counters that the lanes of any unit are.
const LANES: usize = 16;

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &DropoutMask) -> Emitted {
    let mask = Mask::of(op);
    if step.outputs[0].layout.is_blocked() { blocked(e, step, mask) } else { plain(e, step, mask) }
}

/// One task is so many elements.
fn plain(e: &mut Emitter, step: &Step, mask: Mask) -> Emitted {
    let elements = step.outputs[0].shape.elements();
    let grid = elements.div_ceil(TASK);
    let firsts = (0..grid).map(|task| (task * (TASK / WORDS)) as u32).collect();
    let packed = e.pack(vec![], vec![Part::words(firsts), Part::words((0..LANES as u32).collect())]);
    let runs: Vec<(Run, Callee)> = parts::cut(elements, TASK)
        .into_iter()
        .map(|run| (run, e.kernel(&Kernel { mask, shape: Shape::Elements(run.elements) })))
        .collect();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        for &(run, kernel) in &runs {
            d.tasks(run.first, run.tasks, |d, task| {
                let task = d.b.add(task, run.first);
                let (random, first, lanes) = (d.view(e, &step.inputs[0]), d.weights(packed[0]), d.weights(packed[1]));
                d.step(first, task.into(), LANE);
                let to = parts::part_of(e, d, &step.outputs[0], task, TASK);
                d.b.call(kernel, vec![random.into(), first.into(), lanes.into(), to]);
            });
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

/// One task is a block of an image, whose pixels are a multiple of [`WORDS`].
fn blocked(e: &mut Emitter, step: &Step, mask: Mask) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let output = &step.outputs[0];
    let [images, channels, h, w] = output.image();
    let (blocks, counters) = (output.blocks(), h * w / WORDS);
    let grid = images * blocks;
    let first = |task: usize| ((task / blocks * channels + task % blocks * output.block()) * counters) as u32;
    let lanes = (0..LANES).map(|lane| (lane * counters) as u32).collect();
    let packed = e.pack(vec![], vec![Part::words((0..grid).map(first).collect()), Part::words(lanes)]);
    let kernel = e.kernel(&Kernel { mask, shape: Shape::Pixels(h * w) });
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let (image, block) = d.split(task, blocks);
            let (random, first, lanes) = (d.view(e, &step.inputs[0]), d.weights(packed[0]), d.weights(packed[1]));
            d.step(first, task.into(), LANE);
            let to = d.view(e, output);
            d.step(to, image, output.batch_stride);
            d.step(to, block, output.block_stride());
            d.b.call(kernel, [random, first, lanes, to].map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid, scratch: 0 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mask {
    stream: u32,
    /// Numbers of 24 bits below it are dropped.
    dropped: i32,
    /// What the others become.
    kept: Bits,
}

impl Mask {
    fn of(op: &DropoutMask) -> Mask {
        let p = f64::from(op.p);
        // A whole number is below p · 2²⁴ exactly where it is below the next whole number.
        let dropped = (p * f64::from(1 << 24)).ceil() as i32;
        Mask { stream: op.stream as u32, dropped, kept: Bits::of((1.0 / (1.0 - p)) as f32) }
    }
}

/// What the results of a kernel are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Shape {
    /// Neighbours.
    Elements(usize),
    /// Vectors of channels.
    Pixels(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kernel {
    mask: Mask,
    shape: Shape,
}

impl KernelKey for Kernel {
    /// Parameters: seed and step, the task's first counter, what each lane adds to it, the result.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("dropout mask {self:?}"), unit, 4);
        let [random, first, lanes, to] = [0, 1, 2, 3].map(|i| b.parameter(i));
        let first = b.broadcast_of(Element::I32, first.at(0));
        let lanes = b.load_of(Element::I32, lanes.at(0));
        let counter = b.op(VectorOp::Add, first, lanes);
        let step = if let Shape::Elements(_) = self.shape { unit.lanes } else { 1 };
        let item = |b: &mut Builder, vectors: &dyn Fn(&mut Builder, [Vector; WORDS])| {
            let numbers = self.numbers(b, random, counter);
            vectors(b, numbers);
            let step = b.splat_int(Element::I32, step as i32);
            b.op_into(counter, VectorOp::Add, counter, step);
            b.advance(to, WORDS * unit.bytes());
        };
        match self.shape {
            Shape::Pixels(pixels) => b.repeat(pixels / WORDS, |b| {
                item(b, &|b, numbers| {
                    numbers.iter().enumerate().for_each(|(i, &v)| b.store(to.at(i * unit.bytes()), v));
                });
            }),
            Shape::Elements(elements) => {
                let round = WORDS * unit.lanes;
                let store = |b: &mut Builder, numbers: [Vector; WORDS], elements: usize| {
                    for (i, v) in neighbours(b, numbers).into_iter().enumerate() {
                        let left = elements.saturating_sub(i * unit.lanes).min(unit.lanes);
                        if left > 0 {
                            b.store_first(to.at(i * unit.bytes()), v, left);
                        }
                    }
                };
                b.repeat(elements / round, |b| item(b, &|b, numbers| store(b, numbers, round)));
                if elements % round > 0 {
                    item(&mut b, &|b, numbers| store(b, numbers, elements % round));
                }
            }
        }
        b.finish()
    }
}

/// Of four vectors of each lane's first, second, third and fourth: lane after lane.
fn neighbours(b: &mut Builder, [first, second, third, fourth]: [Vector; WORDS]) -> [Vector; WORDS] {
    let lanes = b.lanes();
    // Pairs of neighbours of the lower lanes, and of the upper ones.
    let pairs = [[first, second], [third, fourth]].map(|pair| {
        [0, lanes / 2].map(|from| b.shuffle(pair, |lane| from + lane / 2 + if lane % 2 == 0 { 0 } else { lanes }))
    });
    [0, 1, 2, 3].map(|i| {
        let (half, from) = (i / 2, i % 2 * (lanes / 2));
        b.shuffle([pairs[0][half], pairs[1][half]], |lane| {
            from + lane / 4 * 2 + lane % 2 + if lane % 4 < 2 { 0 } else { lanes }
        })
    })
}

impl Kernel {
    /// The factors of each counter's four elements.
    fn numbers(&self, b: &mut Builder, random: Int, counter: Vector) -> [Vector; WORDS] {
        // Seed and step are two words each, the lower first.
        let [low, high, step, of_steps] = [0, 4, 8, 12].map(|at| b.broadcast_of(Element::I32, random.at(at)));
        let stream = b.splat_int(Element::I32, self.mask.stream as i32);
        let (mut words, mut key) = ([counter, of_steps, step, stream], [low, high]);
        for round in 0..ROUNDS {
            if round > 0 {
                key = [0, 1].map(|i| {
                    let more = b.splat_int(Element::I32, WEYL[i] as i32);
                    b.op(VectorOp::Add, key[i], more)
                });
            }
            let [first, second, third, fourth] = words;
            let [high0, low0] = product(b, first, MULTIPLIERS[0]);
            let [high1, low1] = product(b, third, MULTIPLIERS[1]);
            let mixed = [(high1, second, key[0]), (high0, fourth, key[1])].map(|(high, word, key)| {
                let mixed = b.op(VectorOp::Xor, high, word);
                b.op(VectorOp::Xor, mixed, key)
            });
            words = [mixed[0], low1, mixed[1], low0];
        }
        words.map(|word| {
            let number = b.unary(UnaryOp::ShiftRight(8), word);
            let dropped = b.splat_int(Element::I32, self.mask.dropped);
            let (zero, kept) = (b.splat(0.0), b.splat(self.mask.kept.value()));
            b.select(Compare::Less, number, dropped, zero, kept)
        })
    }
}

/// The upper and the lower half of `x · factor`, both without sign.
fn product(b: &mut Builder, x: Vector, factor: u32) -> [Vector; 2] {
    let int = |b: &mut Builder, value: u32| b.splat_int(Element::I32, value as i32);
    let half = int(b, 0xffff);
    let low = b.op(VectorOp::And, x, half);
    let high = b.unary(UnaryOp::ShiftRight(16), x);
    let by = int(b, factor & 0xffff);
    let lows = b.op(VectorOp::Mul, low, by);
    let middle = b.op(VectorOp::Mul, high, by);
    // No sum of a product of 16 bits and a number of 16 bits leaves 32.
    let carried = b.unary(UnaryOp::ShiftRight(16), lows);
    let middle = b.op(VectorOp::Add, middle, carried);
    let by = int(b, factor >> 16);
    let other = b.op(VectorOp::Mul, low, by);
    let highs = b.op(VectorOp::Mul, high, by);
    let lower = b.op(VectorOp::And, middle, half);
    let other = b.op(VectorOp::Add, other, lower);
    let sum = [middle, other].into_iter().fold(highs, |sum, v| {
        let upper = b.unary(UnaryOp::ShiftRight(16), v);
        b.op(VectorOp::Add, sum, upper)
    });
    let by = int(b, factor);
    [sum, b.op(VectorOp::Mul, x, by)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::{model, targets};
    use crate::interpreter;
    use crate::ir::{self, Phase};
    use crate::plan::{Layout, plan};
    use crate::runtime::{Stateful, Values};
    use crate::target::Target;
    use crate::tensor;
    use crate::testing::{GraphBuilder, relu};

    /// The mask, and what an image that is given to all of its ops is times it.
    fn graph(shape: &[usize], p: f32, stream: usize) -> ir::Graph {
        let mut b = GraphBuilder::new("mask", Phase::Train);
        let random = b.input(tensor::Shape::of(tensor::Element::I64, [2]));
        let x = b.input(tensor::Shape::new(shape));
        let mask = b.add(DropoutMask { shape: shape.to_vec(), p, stream }, &[random]);
        let y = b.add(relu(), &[x]);
        let y = b.add(crate::testing::binary(crate::ops::binary::BinaryKind::Mul), &[y, mask]);
        b.finish(&[mask, y])
    }

    /// Every bit is the definition's.
    #[test]
    fn masks_are_the_definitions() {
        let randoms = [[0i64, 0], [1, 7], [-1, 3], [0x1234_5678_9abc, 0x1_0000_0003], [i64::MIN + 3, i64::MAX]];
        let shapes: [&[usize]; 7] =
            [&[3, 37], &[1], &[2, 19, 4, 5], &[2, 33, 7, 7], &[2, 5, 2, 2], &[5, 4100], &[3, 2, 5]];
        for (i, shape) in shapes.into_iter().enumerate() {
            let p = [0.5, 0.0, 0.3, 1.0, 0.999_999_9, 1e-7, 0.2][i];
            let graph = graph(shape, p, 3 + 1000 * i);
            let elements = shape.iter().product::<usize>();
            let x: Vec<f32> = (0..elements).map(|i| i as f32 - 5.0).collect();
            for random in randoms {
                let bytes = random.map(i64::to_ne_bytes).concat();
                let seed = tensor::Tensor::from_bytes(tensor::Shape::of(tensor::Element::I64, [2]), &bytes).unwrap();
                let inputs = [seed, tensor::Tensor::new(tensor::Shape::new(shape), x.clone())];
                let expected = interpreter::run(&graph, &inputs).unwrap();
                for target in targets() {
                    for threads in [1, 2] {
                        let mut stateful = Stateful::new(model(&graph, &target, &Default::default(), threads)).unwrap();
                        let mut outputs = [vec![f32::NAN; elements], vec![f32::NAN; elements]];
                        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
                        stateful.run(&[Values::I64(&random), Values::F32(&x)], &mut slices, None).unwrap();
                        for (got, expected) in outputs.iter().zip(&expected) {
                            assert_eq!(got, expected.data(), "{shape:?}, {random:?}, {} lanes", target.unit.lanes);
                        }
                    }
                }
            }
        }
    }

    /// Images whose pixels come in fours are made in blocks; other values are brought there.
    #[test]
    fn layouts() {
        let layout = |shape: &[usize]| {
            let graph = graph(shape, 0.5, 0);
            let plan = plan(ir::verify(&graph).unwrap(), &Target::host(), &Default::default()).unwrap();
            plan.steps.iter().find(|s| s.node == graph.outputs()[0].node).unwrap().outputs[0].layout
        };
        assert!(layout(&[2, 19, 4, 5]).is_blocked());
        assert_eq!(layout(&[2, 19, 3, 5]), Layout::Plain);
        assert_eq!(layout(&[2, 20]), Layout::Plain);
    }

    /// Seed and step are no numbers that a run of f32 could give.
    #[test]
    fn other_runs_are_refused() {
        let model = model(&graph(&[2, 3], 0.5, 0), &Target::host(), &Default::default(), 1);
        let (random, x) = ([0.0; 2], [1.0; 6]);
        let (mut mask, mut y) = ([0.0; 6], [0.0; 6]);
        let error = model.run(&[&random, &x], &mut [&mut mask, &mut y]).unwrap_err().to_string();
        assert!(error.contains("i64[2]"), "{error}");
        let random = tensor::Tensor::from_values(tensor::Shape::of(tensor::Element::I64, [2]), [1.0, 2.0]);
        let x = tensor::Tensor::new([2, 3], x.to_vec());
        let error = model.run_tensors(&[random, x]).unwrap_err().to_string();
        assert!(error.contains("i64[2]"), "{error}");
    }
}
