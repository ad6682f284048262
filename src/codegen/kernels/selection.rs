//! What stays of a value as its numbers say: boxes that no better one overlaps, entries that a mask names.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Address, Builder, Compare, Condition, Function, Int, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::columns::load_apart;
use crate::ops::{Compact, Nms};
use crate::plan::Step;
use crate::target::Unit;

/// One task is a class of an image.
pub(crate) fn nms(e: &mut Emitter, step: &Step, op: &Nms) -> Emitted {
    let (boxes, scores, output) = (&step.inputs[0], &step.inputs[1], &step.outputs[0]);
    let &[images, classes, count] = scores.shape.dims() else { unreachable!("checked by the shape rule") };
    let kernel = Suppression {
        count,
        kept: op.kept(count),
        iou: op.iou.to_bits(),
        score: op.score.to_bits(),
        centers: op.centers,
    };
    let callee = e.kernel(&kernel);
    let scratch = kernel.scratch(e.unit());
    let grid = images * classes;
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let (image, _) = d.split(task, classes);
            let [of_boxes, of_scores, to] = [boxes, scores, output].map(|view| d.view(e, view));
            d.step(of_boxes, image, 4 * count * LANE);
            d.step(of_scores, task.into(), count * LANE);
            d.step(to, task.into(), kernel.kept * LANE);
            let arguments = [of_boxes, of_scores, to, d.scratch];
            d.b.call(callee, arguments.map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid, scratch }
}

/// One task: an entry's place depends on all before it.
pub(crate) fn compact(e: &mut Emitter, step: &Step, _: &Compact) -> Emitted {
    let (value, mask, output) = (&step.inputs[0], &step.inputs[1], &step.outputs[0]);
    let rows = value.shape[0];
    let kernel = Compaction { rows, width: value.shape.elements() / rows };
    let callee = e.kernel(&kernel);
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, 1, |d, _| {
            let pointers = [value, mask, output].map(|view| d.view(e, view));
            let arguments = [pointers[0], pointers[1], pointers[2], d.scratch];
            d.b.call(callee, arguments.map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid: 1, scratch: LANE * e.unit().lanes }
}

/// Boxes of one class. In scratch memory lie, each `padded` numbers long, the boxes' lower corners, their upper ones, their
/// areas and the scores of those that are still there, −∞ of others; behind them a vector.
///
/// In each turn the best one is taken out, and one pass over all takes out what overlaps it and finds the next best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Suppression {
    count: usize,
    kept: usize,
    iou: u32,
    score: u32,
    centers: bool,
}

/// Arrays in scratch memory.
const LOW: [usize; 2] = [0, 1];
const HIGH: [usize; 2] = [2, 3];
const AREA: usize = 4;
const SCORE: usize = 5;
const ARRAYS: usize = 6;

/// The best scores so far lane by lane, where they are, and where the lanes are now.
struct Best {
    score: Vector,
    index: Vector,
    at: Vector,
}

impl Suppression {
    fn padded(&self, unit: Unit) -> usize {
        self.count.next_multiple_of(unit.lanes)
    }

    fn scratch(&self, unit: Unit) -> usize {
        (ARRAYS * self.padded(unit) + unit.lanes) * LANE
    }

    fn array(&self, scratch: Int, place: Int, array: usize, unit: Unit) -> Address {
        scratch.plus(place, array * self.padded(unit) * LANE)
    }

    /// A vector to exchange numbers with integers through.
    fn exchange(&self, scratch: Int, unit: Unit) -> Address {
        scratch.at(ARRAYS * self.padded(unit) * LANE)
    }

    /// The first lane as bits.
    fn bits(&self, b: &mut Builder, scratch: Int, v: Vector) -> Int {
        let place = self.exchange(scratch, b.unit());
        b.store(place, v);
        b.load_word(place)
    }

    /// Looks at so many boxes, whose scores are these; moves on.
    fn look(&self, b: &mut Builder, best: &Best, scores: Vector) {
        let index = b.select(Compare::Less, best.score, scores, best.at, best.index);
        let score = b.select(Compare::Less, best.score, scores, scores, best.score);
        b.copy(best.index, index);
        b.copy(best.score, score);
        let lanes = b.splat(b.lanes() as f32);
        b.op_into(best.at, VectorOp::Add, best.at, lanes);
    }

    /// Begins to look from the first box on.
    fn begin(&self, b: &mut Builder, best: &Best, counted: Vector) {
        let (none, zero) = (b.splat(f32::NEG_INFINITY), b.splat(0.0));
        b.copy(best.score, none);
        b.copy(best.index, zero);
        b.copy(best.at, counted);
    }

    /// Corners, areas and scores of some boxes. Lanes behind the last box have a score of −∞.
    fn prepare(&self, b: &mut Builder, pointers: [Int; 3], place: Int, lanes: usize, best: &Best) {
        let [boxes, scores, scratch] = pointers;
        let unit = b.unit();
        let numbers = [0, 1, 2, 3].map(|i| load_apart(b, boxes.at(i * LANE), 4 * LANE, lanes));
        let (first, second) = if self.centers {
            let half = b.splat(0.5);
            let halves = [numbers[2], numbers[3]].map(|size| b.op(VectorOp::Mul, size, half));
            let first = [0, 1].map(|i| b.op(VectorOp::Sub, numbers[i], halves[i]));
            let second = [0, 1].map(|i| b.op(VectorOp::Add, numbers[i], halves[i]));
            (first, second)
        } else {
            ([numbers[0], numbers[1]], [numbers[2], numbers[3]])
        };
        let low = [0, 1].map(|i| b.op(VectorOp::Min, first[i], second[i]));
        let high = [0, 1].map(|i| b.op(VectorOp::Max, first[i], second[i]));
        let sides = [0, 1].map(|i| b.op(VectorOp::Sub, high[i], low[i]));
        let area = b.op(VectorOp::Mul, sides[0], sides[1]);
        for (array, v) in [(LOW[0], low[0]), (LOW[1], low[1]), (HIGH[0], high[0]), (HIGH[1], high[1]), (AREA, area)] {
            b.store(self.array(scratch, place, array, unit), v);
        }
        let score = b.load_first(scores.at(0), lanes);
        let (least, none) = (b.splat(f32::from_bits(self.score)), b.splat(f32::NEG_INFINITY));
        let score = b.select(Compare::Less, least, score, score, none);
        let score = if lanes < b.lanes() {
            let (ends, counted) = (b.splat(lanes as f32), b.new_vector());
            self.count_lanes(b, counted, scratch);
            b.select(Compare::Less, counted, ends, score, none)
        } else {
            score
        };
        b.store(self.array(scratch, place, SCORE, unit), score);
        self.look(b, best, score);
    }

    /// 0, 1, 2, …
    fn count_lanes(&self, b: &mut Builder, to: Vector, scratch: Int) {
        let place = self.exchange(scratch, b.unit());
        for lane in 0..b.lanes() {
            let number = b.splat(lane as f32);
            b.store_first(scratch.at(ARRAYS * self.padded(b.unit()) * LANE + lane * LANE), number, 1);
        }
        b.load_into(to, place);
    }

    /// Takes out the boxes of one vector that the chosen one overlaps.
    fn suppress(&self, b: &mut Builder, scratch: Int, place: Int, chosen: [Vector; 5], best: &Best) {
        let unit = b.unit();
        let zero = b.splat(0.0);
        // Operands are loaded where they are used: AVX2 has few registers.
        let side = |b: &mut Builder, i: usize| {
            let low = b.load(self.array(scratch, place, LOW[i], unit));
            let low = b.op(VectorOp::Max, chosen[i], low);
            let high = b.load(self.array(scratch, place, HIGH[i], unit));
            let high = b.op(VectorOp::Min, chosen[2 + i], high);
            let length = b.op(VectorOp::Sub, high, low);
            b.op(VectorOp::Max, length, zero)
        };
        let (first, second) = (side(b, 0), side(b, 1));
        let common = b.op(VectorOp::Mul, first, second);
        let area = b.load(self.array(scratch, place, AREA, unit));
        let areas = b.op(VectorOp::Add, chosen[4], area);
        let union = b.op(VectorOp::Sub, areas, common);
        let share = b.op(VectorOp::Div, common, union);
        let none = b.splat(f32::NEG_INFINITY);
        // Boxes that have nothing in common stay, whatever is asked for.
        let share = b.select(Compare::Less, zero, common, share, none);
        let at = self.array(scratch, place, SCORE, unit);
        let score = b.load(at);
        let iou = b.splat(f32::from_bits(self.iou));
        let left = b.select(Compare::Less, iou, share, none, score);
        b.store(at, left);
        self.look(b, best, left);
    }
}

impl KernelKey for Suppression {
    /// Parameters: boxes, scores, the first result, scratch memory.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("nms {self:?}"), unit, 4);
        let [boxes, scores, to] = [0, 1, 2].map(|i| b.int(b.parameter(i)));
        let scratch = b.parameter(3);
        let lanes = unit.lanes;
        let counted = b.new_vector();
        self.count_lanes(&mut b, counted, scratch);
        let best = Best { score: b.splat(0.0), index: b.splat(0.0), at: b.splat(0.0) };
        self.begin(&mut b, &best, counted);
        let whole = self.count / lanes * lanes;
        b.loop_range(0i64, whole * LANE, (lanes * LANE) as i64, |b, place| {
            self.prepare(b, [boxes, scores, scratch], place, lanes, &best);
            b.advance(boxes, 4 * lanes * LANE);
            b.advance(scores, lanes * LANE);
        });
        if whole < self.count {
            let place = b.int((whole * LANE) as i64);
            self.prepare(&mut b, [boxes, scores, scratch], place, self.count - whole, &best);
        }
        let padded = self.padded(unit) * LANE;
        b.repeat(self.kept, |b| {
            let most = b.reduce(VectorOp::Max, best.score);
            let none = b.splat(f32::NEG_INFINITY);
            let (one, zero) = (b.splat(1.0), b.splat(0.0));
            let is_there = b.select(Compare::Less, none, most, one, zero);
            let flag = self.bits(b, scratch, is_there);
            b.if_else(
                Condition::NotEqual,
                flag,
                0i64,
                |b| {
                    // Of equal scores the first.
                    let far = b.splat(f32::INFINITY);
                    let index = b.select(Compare::Equal, best.score, most, best.index, far);
                    let index = b.reduce(VectorOp::Min, index);
                    b.store_first(to.at(0), index, 1);
                    let whole = b.unary(UnaryOp::ToInt, index);
                    let place = self.bits(b, scratch, whole);
                    let place = b.mul(place, LANE);
                    b.store_first(self.array(scratch, place, SCORE, unit), none, 1);
                    let chosen = [LOW[0], LOW[1], HIGH[0], HIGH[1], AREA]
                        .map(|array| b.broadcast(self.array(scratch, place, array, unit)));
                    self.begin(b, &best, counted);
                    b.loop_range(0i64, padded, (lanes * LANE) as i64, |b, place| {
                        self.suppress(b, scratch, place, chosen, &best);
                    });
                },
                |b| {
                    let nothing = b.splat(-1.0);
                    b.store_first(to.at(0), nothing, 1);
                },
            );
            b.advance(to, LANE);
        });
        b.finish()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Compaction {
    rows: usize,
    width: usize,
}

impl KernelKey for Compaction {
    /// Parameters: the value, the mask, the result, a vector's scratch memory.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("compact {self:?}"), unit, 4);
        let [value, mask, to] = [0, 1, 2].map(|i| b.int(b.parameter(i)));
        let (scratch, bytes) = (b.parameter(3), self.width * LANE);
        let left = b.int(self.rows as i64);
        b.repeat(self.rows, |b| {
            let (v, zero, one) = (b.broadcast(mask.at(0)), b.splat(0.0), b.splat(1.0));
            let flag = b.select(Compare::Equal, v, zero, zero, one);
            b.store(scratch.at(0), flag);
            let flag = b.load_word(scratch.at(0));
            b.if_then(Condition::NotEqual, flag, 0i64, |b| {
                self.row(b, to, |b, place, lanes| b.load_first(value.plus(place, 0), lanes));
                b.advance(to, bytes);
                b.advance(left, -1i64);
            });
            b.advance(value, bytes);
            b.advance(mask, LANE);
        });
        b.loop_range(0i64, left, 1, |b, _| {
            self.row(b, to, |b, _, _| b.splat(0.0));
            b.advance(to, bytes);
        });
        b.finish()
    }
}

impl Compaction {
    /// Writes one entry, a vector at a time.
    fn row(&self, b: &mut Builder, to: Int, from: impl Fn(&mut Builder, Int, usize) -> Vector) {
        let lanes = b.lanes();
        let whole = self.width / lanes * lanes;
        b.loop_range(0i64, whole * LANE, (lanes * LANE) as i64, |b, place| {
            let v = from(b, place, lanes);
            b.store(to.plus(place, 0), v);
        });
        if whole < self.width {
            let place = b.int((whole * LANE) as i64);
            let v = from(b, place, self.width - whole);
            b.store_first(to.plus(place, 0), v, self.width - whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check_on;
    use crate::ir::Phase;
    use crate::random::Draws;
    use crate::tensor::{Shape, Tensor};
    use crate::testing;

    fn check_nms(op: Nms, [images, classes, count]: [usize; 3], scores: impl Fn(&mut Draws) -> f64) {
        let mut random = Draws::new(7, 0, [0; 3]);
        let boxes = (0..images * count).flat_map(|_| {
            let [a, b] = [0, 1].map(|_| f64::from(random.below(40)) / 4.0);
            let [h, w] = [0, 1].map(|_| f64::from(random.below(20)) / 4.0 - 1.0);
            if op.centers { [a, b, h, w] } else { [a, b, a + h, b + w] }
        });
        let boxes = Tensor::from_values(Shape::new([images, count, 4]), boxes.collect::<Vec<_>>());
        let scores = (0..images * classes * count).map(|_| scores(&mut random)).collect::<Vec<_>>();
        let scores = Tensor::from_values(Shape::new([images, classes, count]), scores);
        let mut b = testing::GraphBuilder::new("nms", Phase::Infer);
        let inputs = [&boxes, &scores].map(|tensor| b.input(tensor.shape().clone()));
        let y = b.add(op, &inputs);
        check_on(&b.finish(&[y]), &[boxes, scores], 0.0);
    }

    #[test]
    fn boxes_that_a_better_one_overlaps_go() {
        let op = |iou, score, most, centers| Nms { iou, score, most, centers };
        for count in [1, 2, 7, 16, 17, 100, 333] {
            for op in [
                op(0.5, f32::NEG_INFINITY, usize::MAX, false),
                op(0.1, 0.0, 5, true),
                op(0.0, 0.2, 20, false),
                op(1.0, -0.5, 1, false),
            ] {
                check_nms(op.clone(), [2, 3, count], Draws::normal);
                // Many equal ones.
                check_nms(op, [1, 2, count], |random| f64::from(random.below(3)));
            }
        }
    }

    #[test]
    fn scores_that_are_no_numbers_do_not_count() {
        let odd = |random: &mut Draws| [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0][random.below(4) as usize];
        for count in [1, 16, 50] {
            check_nms(Nms { iou: 0.3, score: f32::NEG_INFINITY, most: 9, centers: false }, [1, 1, count], odd);
        }
    }

    #[test]
    fn masks_name_entries() {
        for dims in [&[1][..], &[7], &[40, 3], &[33, 17], &[5, 2, 16]] {
            for share in [0, 1, 2, 3] {
                let mut random = Draws::new(3, 0, [0; 3]);
                let mut b = testing::GraphBuilder::new("compact", Phase::Infer);
                let count = dims.iter().product();
                let value =
                    Tensor::from_values(Shape::new(dims), (0..count).map(|_| random.normal()).collect::<Vec<_>>());
                let mask = (0..dims[0]).map(|_| f64::from(u8::from(random.below(3) < share))).collect::<Vec<_>>();
                let mask = Tensor::from_values(Shape::from([dims[0]]), mask);
                let inputs = [&value, &mask].map(|tensor| b.input(tensor.shape().clone()));
                let y = b.add(Compact {}, &inputs);
                check_on(&b.finish(&[y]), &[value, mask], 0.0);
            }
        }
    }
}
