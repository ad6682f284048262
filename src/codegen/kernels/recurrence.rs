//! The steps of recurrent layers, of plain values.
//!
//! One task is one sequence in one direction, from its first step to its last. A step has two parts:
//!
//! ```text
//! sums[gate][unit] = x[gate][unit] + Σ h[k] · weight[k][gate][unit]     lanes are units; k goes over what was hidden before
//! c, h             = the cell's functions of the sums                    unit by unit
//! ```
//!
//! Weights lie in the order in which they are read, `[block of units][k][gate][lane]`: a step reads them all once, and they
//! come from the second-level cache or farther. What was hidden is read where the step before has written it.

use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::key::KernelKey;
use super::super::packing::{Fill, Loop, Part, Walk};
use super::super::vector::{Builder, Callee, Function, Inst, Int, Operand, Vector, VectorOp};
use super::{LANE, math};
use crate::ops::Recurrence;
use crate::ops::recurrent::Cell;
use crate::plan::Step;
use crate::target::Unit;
use crate::tensor::Element;

/// Gates whose sums are made in one go, by their first and their number: those of a set read the same vector.
fn gate_sets(cell: Cell) -> &'static [(usize, usize)] {
    match cell {
        Cell::Lstm => &[(0, 4)],
        Cell::Gru => &[(0, 3)],
        Cell::GruResetBefore => &[(0, 2), (2, 1)],
        Cell::Tanh | Cell::Relu => &[(0, 1)],
    }
}

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &Recurrence) -> Emitted {
    let (gates, output) = (&step.inputs[0], &step.outputs[0]);
    let [images, steps] = op.axes().map(|axis| output.shape[axis]);
    let (hidden, directions, lanes) = (op.hidden, op.direction.count(), e.unit().lanes);
    let blocks = hidden.div_ceil(lanes);
    let mut parts: Vec<Part> = gate_sets(op.cell).iter().map(|&set| packed_gates(op, set, lanes)).collect();
    if op.bias {
        let walk = Walk::new(
            0,
            0,
            [
                Loop { count: directions, from: hidden as isize, to: blocks * lanes },
                Loop { count: hidden, from: 1, to: 1 },
            ],
        );
        let elements = directions * blocks * lanes;
        parts.push(Part { element: Element::F32, elements, fill: Fill::Copy { weight: 1, walk } });
    }
    // Bytes of a direction in each part.
    let sizes: Vec<usize> = parts.iter().map(|part| part.elements / directions * LANE).collect();
    let packed = e.pack(e.weights(step), parts);
    let (row_in, row_out) = (gates.shape[2] * LANE, output.shape[2] * LANE);
    // From a step to the next, and from an image to the next, in rows.
    let (step_rows, image_rows) = if op.batch_first { (1, steps) } else { (images, 1) };
    let kernel_of = |reverse: bool| StepsKernel {
        cell: op.cell,
        hidden,
        steps,
        strides: [row_in, row_out].map(|row| (row * step_rows) as i64 * if reverse { -1 } else { 1 }),
        bias: op.bias,
        states: step.inputs.len() - 1,
        cells: op.cells.then_some(directions * hidden * LANE),
    };
    let kernels: Vec<(bool, StepsKernel)> =
        (0..directions).map(|d| (op.is_reverse(d), kernel_of(op.is_reverse(d)))).collect();
    let scratch = kernels[0].1.scratch(e.unit());
    let callees: Vec<(bool, Callee)> = kernels.iter().map(|(reverse, key)| (*reverse, e.kernel(key))).collect();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        for (direction, &(reverse, callee)) in callees.iter().enumerate() {
            d.tasks(direction * images, images, |d, image| {
                let first = if reverse { (steps - 1) * step_rows } else { 0 };
                let mut arguments: Vec<Operand> = vec![];
                for (view, row) in [(gates, row_in), (output, row_out)] {
                    let own = row / if op.cells && row == row_out { 2 * directions } else { directions };
                    let base = d.view(e, view);
                    d.b.advance(base, first * row + direction * own);
                    d.step(base, image.into(), image_rows * row);
                    arguments.push(base.into());
                }
                arguments.push(d.scratch.into());
                let weights = packed.iter().zip(&sizes).map(|(&at, size)| at + direction * size);
                arguments.extend(weights.map(|at: Packed| Operand::from(d.weights(at))).collect::<Vec<_>>());
                arguments.extend(states(e, d, step, [direction, images, hidden], image));
                d.b.call(callee, arguments);
            });
        }
    });
    Emitted { entry, grid: directions * images, scratch }
}

/// The addresses of what a sequence begins with.
fn states(
    e: &Emitter,
    d: &mut Driver,
    step: &Step,
    [direction, images, hidden]: [usize; 3],
    image: Int,
) -> Vec<Operand> {
    let mut addresses = vec![];
    for view in &step.inputs[1..] {
        let base = d.view(e, view);
        d.b.advance(base, direction * images * hidden * LANE);
        d.step(base, image.into(), hidden * LANE);
        addresses.push(base.into());
    }
    addresses
}

/// `[direction][block of units][k][gate][lane]`, of the weight `[direction, all gates, unit, k]`.
fn packed_gates(op: &Recurrence, (first, gates): (usize, usize), lanes: usize) -> Part {
    let (hidden, directions, all) = (op.hidden, op.direction.count(), op.cell.gates());
    let (whole, rest) = (hidden / lanes, hidden % lanes);
    let block = hidden * gates * lanes;
    let blocks = hidden.div_ceil(lanes);
    let square = hidden * hidden;
    let walk = |from_block: usize, count: usize, units: usize| {
        Walk::new(
            first * square + from_block * lanes * hidden,
            from_block * block,
            [
                Loop { count: directions, from: (all * square) as isize, to: blocks * block },
                Loop { count, from: (lanes * hidden) as isize, to: block },
                Loop { count: gates, from: square as isize, to: lanes },
                Loop { count: units, from: hidden as isize, to: 1 },
                Loop { count: hidden, from: 1, to: gates * lanes },
            ],
        )
    };
    let mut walks = vec![];
    if whole > 0 {
        walks.push((0, walk(0, whole, lanes)));
    }
    if rest > 0 {
        walks.push((0, walk(whole, 1, rest)));
    }
    Part { element: Element::F32, elements: directions * blocks * block, fill: Fill::Copies(walks) }
}

/// All that the code of a sequence depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct StepsKernel {
    cell: Cell,
    hidden: usize,
    steps: usize,
    /// Bytes from a step to the next, of the gates' products and of the results.
    strides: [i64; 2],
    bias: bool,
    /// States that are given.
    states: usize,
    /// Where the cells are written, from what is hidden.
    cells: Option<usize>,
}

/// Addresses within a step.
struct Places {
    /// The products with the inputs, what is hidden after the step, and what was before.
    gates: Int,
    output: Int,
    before: Int,
    /// Sums by gate, then cells, then what a reset leaves; each as long as all blocks.
    scratch: Int,
}

impl KernelKey for StepsKernel {
    /// Parameters: the first step's products and results, scratch, weights of each set of gates, bias, states.
    fn build(&self, unit: Unit) -> Function {
        let sets = gate_sets(self.cell).len();
        let count = 3 + sets + usize::from(self.bias) + self.states;
        let mut b = Builder::new(format!("recurrence {self:?}"), unit, count);
        let (gates, output, scratch) = (b.int(b.parameter(0)), b.int(b.parameter(1)), b.parameter(2));
        let first_state = count - self.states;
        self.begin(&mut b, scratch, first_state);
        let before = match self.states {
            0 => b.add(scratch, self.at(self.cell.gates() + 1, unit)),
            _ => b.int(b.parameter(first_state)),
        };
        let places = Places { gates, output, before, scratch };
        b.repeat(self.steps, |b| {
            for (i, &(first, gates)) in gate_sets(self.cell).iter().enumerate() {
                let weights = b.parameter(3 + i);
                self.sums(b, &places, weights, (first, gates));
                self.each_block(b, &places, |b, place| self.finish(b, place, first + gates == self.cell.gates()));
            }
            b.set_int(places.before, places.output);
            b.advance(places.gates, self.strides[0]);
            b.advance(places.output, self.strides[1]);
        });
        b.finish()
    }
}

/// A block of units: its addresses, and how many units it has.
struct Block {
    gates: Int,
    output: Int,
    before: Int,
    scratch: Int,
    lanes: usize,
}

impl StepsKernel {
    /// Bytes of one number for each unit, in scratch.
    fn row(&self, unit: Unit) -> usize {
        self.hidden.next_multiple_of(unit.lanes) * LANE
    }

    fn at(&self, row: usize, unit: Unit) -> usize {
        row * self.row(unit)
    }

    /// Sums of all gates, cells, what a reset leaves, and a bias. What a reset leaves are zeros at first, which stand for
    /// what is hidden.
    fn scratch(&self, unit: Unit) -> usize {
        self.at(self.cell.gates() + 3, unit)
    }

    /// Cells and zeros, or the cells that are given; the bias beside them, so that one address goes through all.
    fn begin(&self, b: &mut Builder, scratch: Int, first_state: usize) {
        let unit = b.unit();
        let cells = self.cell.gates();
        let zero = b.splat(0.0);
        let to = b.add(scratch, self.at(cells, unit));
        b.repeat(2 * self.row(unit) / unit.bytes(), |b| {
            b.store(to.at(0), zero);
            b.advance(to, unit.bytes());
        });
        if self.states == 2 {
            self.copy(b, first_state + 1, self.at(cells, unit));
        }
        if self.bias {
            self.copy(b, first_state - 1, self.at(cells + 2, unit));
        }
    }

    /// Copies a number for each unit from where a parameter points to.
    fn copy(&self, b: &mut Builder, parameter: usize, place: usize) {
        let unit = b.unit();
        let (from, to) = (b.int(b.parameter(parameter)), b.add(b.parameter(2), place));
        let one = |b: &mut Builder, lanes: usize| {
            let v = b.load_first(from.at(0), lanes);
            b.store(to.at(0), v);
            b.advance(from, unit.bytes());
            b.advance(to, unit.bytes());
        };
        b.repeat(self.hidden / unit.lanes, |b| one(b, unit.lanes));
        if self.hidden % unit.lanes > 0 {
            one(b, self.hidden % unit.lanes);
        }
    }

    /// The sums of a set of gates, in groups of as many blocks as registers hold.
    fn sums(&self, b: &mut Builder, places: &Places, weights: Int, set: (usize, usize)) {
        let unit = b.unit();
        let (whole, rest) = (self.hidden / unit.lanes, self.hidden % unit.lanes);
        let most = (unit.registers / 2 / set.1).max(1);
        // The second set of a GRU reads what a reset leaves.
        let vector = match set.0 {
            0 => b.int(places.before),
            _ => b.add(places.scratch, self.at(self.cell.gates() + 1, unit)),
        };
        let (gates, sums, weights) = (b.int(places.gates), b.int(places.scratch), b.int(weights));
        let at = Sums { vector, gates, sums, weights, set };
        let group = |b: &mut Builder, lanes: &[usize]| {
            self.group(b, &at, lanes);
            let bytes = lanes.len() * unit.bytes();
            [at.gates, at.sums].into_iter().for_each(|p| b.advance(p, bytes));
            b.advance(at.weights, bytes * self.hidden * set.1);
        };
        b.repeat(whole / most, |b| group(b, &vec![unit.lanes; most]));
        let mut last = vec![unit.lanes; whole % most];
        last.extend((rest > 0).then_some(rest));
        if !last.is_empty() {
            group(b, &last);
        }
    }

    fn group(&self, b: &mut Builder, at: &Sums, lanes: &[usize]) {
        let unit = b.unit();
        let (first, count) = at.set;
        let mut acc: Vec<Vec<Vector>> = vec![];
        for (block, &lanes) in lanes.iter().enumerate() {
            let offset = block * unit.bytes();
            let begin = |b: &mut Builder, gate: usize| match (self.cell, gate, self.bias) {
                // What a reset multiplies; the product with the input joins later.
                (Cell::Gru, 2, true) => b.load(at.sums.at(self.at(self.cell.gates() + 2, unit) + offset)),
                (Cell::Gru, 2, false) => b.splat(0.0),
                _ => b.load_first(at.gates.at(gate * self.hidden * LANE + offset), lanes),
            };
            acc.push((0..count).map(|gate| begin(b, first + gate)).collect());
        }
        let (vector, weights) = (b.int(at.vector), b.int(at.weights));
        let block = self.hidden * count * unit.bytes();
        b.repeat(self.hidden, |b| {
            let x = b.broadcast(vector.at(0));
            for (i, acc) in acc.iter().enumerate() {
                for (gate, &acc) in acc.iter().enumerate() {
                    let address = weights.at(i * block + gate * unit.bytes());
                    b.push(Inst::FmaLoad { acc, a: x, address });
                }
            }
            b.advance(vector, LANE);
            b.advance(weights, count * unit.bytes());
        });
        for (block, acc) in acc.iter().enumerate() {
            for (gate, &acc) in acc.iter().enumerate() {
                b.store(at.sums.at(self.at(first + gate, unit) + block * unit.bytes()), acc);
            }
        }
    }

    /// Runs `body` for each block of units.
    fn each_block(&self, b: &mut Builder, places: &Places, body: impl Fn(&mut Builder, &Block)) {
        let unit = b.unit();
        let [gates, output, before, scratch] =
            [places.gates, places.output, places.before, places.scratch].map(|p| b.int(p));
        let block = |b: &mut Builder, lanes: usize| {
            body(b, &Block { gates, output, before, scratch, lanes });
            [gates, output, before, scratch].iter().for_each(|&p| b.advance(p, unit.bytes()));
        };
        b.repeat(self.hidden / unit.lanes, |b| block(b, unit.lanes));
        if self.hidden % unit.lanes > 0 {
            block(b, self.hidden % unit.lanes);
        }
    }

    /// The functions of the sums. `is_last`: all gates have theirs.
    fn finish(&self, b: &mut Builder, at: &Block, is_last: bool) {
        let unit = b.unit();
        let sum = |b: &mut Builder, gate: usize| b.load(at.scratch.at(self.at(gate, unit)));
        let sigmoid = |b: &mut Builder, gate: usize| {
            let v = sum(b, gate);
            math::sigmoid(b, v)
        };
        let hidden = match self.cell {
            Cell::Tanh => {
                let v = sum(b, 0);
                math::tanh(b, v)
            }
            Cell::Relu => {
                // The sum comes second, which a NaN of it stays by.
                let (v, zero) = (sum(b, 0), b.splat(0.0));
                b.op(VectorOp::Max, zero, v)
            }
            Cell::Lstm => {
                let cell = at.scratch.at(self.at(self.cell.gates(), unit));
                let forget = sigmoid(b, 1);
                let old = b.load(cell);
                let kept = b.op(VectorOp::Mul, forget, old);
                let input = sigmoid(b, 0);
                let candidate = sum(b, 2);
                let candidate = math::tanh(b, candidate);
                b.fma(kept, input, candidate);
                b.store(cell, kept);
                if let Some(cells) = self.cells {
                    b.store_first(at.output.at(cells), kept, at.lanes);
                }
                let size = math::tanh(b, kept);
                let output = sigmoid(b, 3);
                b.op(VectorOp::Mul, output, size)
            }
            Cell::GruResetBefore if !is_last => {
                let reset = sigmoid(b, 0);
                let before = b.load_first(at.before.at(0), at.lanes);
                let left = b.op(VectorOp::Mul, reset, before);
                b.store(at.scratch.at(self.at(self.cell.gates() + 1, unit)), left);
                return;
            }
            Cell::Gru => {
                let reset = sigmoid(b, 0);
                let product = sum(b, 2);
                let x = b.load_first(at.gates.at(2 * self.hidden * LANE), at.lanes);
                b.fma(x, reset, product);
                let new = math::tanh(b, x);
                self.mixed(b, at, new)
            }
            Cell::GruResetBefore => {
                let v = sum(b, 2);
                let new = math::tanh(b, v);
                self.mixed(b, at, new)
            }
        };
        b.store_first(at.output.at(0), hidden, at.lanes);
    }

    /// `n + σ(z) · (h − n)`
    fn mixed(&self, b: &mut Builder, at: &Block, new: Vector) -> Vector {
        let unit = b.unit();
        let update = b.load(at.scratch.at(self.at(1, unit)));
        let update = math::sigmoid(b, update);
        let before = b.load_first(at.before.at(0), at.lanes);
        let difference = b.op(VectorOp::Sub, before, new);
        b.fma(new, update, difference);
        new
    }
}

/// Where the sums of a set of gates begin and go.
struct Sums {
    vector: Int,
    gates: Int,
    sums: Int,
    weights: Int,
    set: (usize, usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::recurrent::Direction;
    use crate::testing;

    #[test]
    fn cells_directions_and_states() {
        for cell in [Cell::Lstm, Cell::Gru, Cell::GruResetBefore, Cell::Tanh, Cell::Relu] {
            for direction in [Direction::Forward, Direction::Reverse, Direction::Both] {
                for (hidden, batch_first, states) in [(1, true, 0), (19, false, 1), (32, true, 2), (70, false, 0)] {
                    let states = if cell == Cell::Lstm { states } else { states.min(1) };
                    let (cells, bias) = (cell == Cell::Lstm && hidden == 19, cell == Cell::Gru && hidden > 1);
                    let op = Recurrence { cell, hidden, direction, batch_first, cells, bias };
                    let mut b = testing::GraphBuilder::new("recurrence", Phase::Infer);
                    let (images, steps, directions) = (3, 4, direction.count());
                    let lead = if batch_first { [images, steps] } else { [steps, images] };
                    let mut operands = vec![b.input([lead[0], lead[1], directions * cell.gates() * hidden])];
                    operands.extend((0..states).map(|_| b.input([directions, images, hidden])));
                    let y = b.add(op, &operands);
                    check(b.finish(&[y]));
                }
            }
        }
    }
}
