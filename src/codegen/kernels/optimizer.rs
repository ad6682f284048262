//! What an optimizer does in a step: sums of squares, the factor that clips, and the updates of weights with all that
//! is remembered of them, each value read and written once.

use std::fmt;
use std::ops::Range;

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::vector::{Address, Builder, Callee, Function, Operand, UnaryOp, Vector, VectorOp};
use super::LANE;
use super::partial::{self, Partial};
use crate::balance::TaskCost;
use crate::ops::training::optimizer_update::{Arithmetic, Element, RATES};
use crate::ops::{ClipFactor, Op, OptimizerUpdate};
use crate::plan::{Step, Update};
use crate::target::Unit;

/// Elements of a task of an update: 64 KiB of each array.
const TASK: usize = 16384;

/// What a call costs, in elements: many weights are a few numbers.
const CALL: usize = 64;

/// Tasks of one size, of one of the updates.
struct Run {
    kernel: Callee,
    tasks: usize,
    /// Where the first task begins in each array, in elements.
    from: usize,
    inputs: Range<usize>,
    outputs: Range<usize>,
    /// Of the inputs, those that are arrays.
    values: usize,
}

/// One step for weights and their states, which may lie where they are read. A task is a part of one of them.
pub(crate) fn updates(e: &mut Emitter, step: &Step, updates: &[Update]) -> Emitted {
    let mut runs = vec![];
    let (mut input, mut output) = (0, 0);
    for update in updates {
        let (inputs, outputs) = (input..input + update.inputs, output..output + update.outputs);
        (input, output) = (inputs.end, outputs.end);
        let Some(Op::OptimizerUpdate(op)) = e.graph.node(update.node).op() else { unreachable!("these are updates") };
        let elements = step.outputs[outputs.start].shape.elements();
        let values = 2 + op.rule.states().len();
        let (tasks, rest) = (elements / TASK, elements % TASK);
        for (from, tasks, elements) in [(0, tasks, TASK), (tasks * TASK, usize::from(rest > 0), rest)] {
            if tasks > 0 {
                let key = UpdateKernel { op: op.clone(), factor: update.inputs > values + 1, elements };
                let kernel = e.kernel(&key);
                e.task_costs.push(TaskCost::new(tasks, (elements + CALL) as f64));
                runs.push(Run { kernel, tasks, from, inputs: inputs.clone(), outputs: outputs.clone(), values });
            }
        }
    }
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut first = 0;
        for run in &runs {
            let (arrays, numbers) = step.inputs[run.inputs.clone()].split_at(run.values);
            d.tasks(first, run.tasks, |d, task| {
                let mut arguments: Vec<Operand> = vec![];
                for view in arrays.iter().chain(&step.outputs[run.outputs.clone()]) {
                    let base = d.view(e, view);
                    d.step(base, task.into(), TASK * LANE);
                    d.b.advance(base, run.from * LANE);
                    arguments.push(base.into());
                }
                arguments.extend(numbers.iter().map(|view| Operand::from(d.view(e, view))));
                d.b.call(run.kernel, arguments);
            });
            first += run.tasks;
        }
    });
    Emitted { entry, grid: runs.iter().map(|run| run.tasks).sum(), scratch: 0 }
}

/// Parameters: weight, gradient and states, what they become, rates, the factor.
#[derive(Clone)]
struct UpdateKernel {
    op: OptimizerUpdate,
    factor: bool,
    elements: usize,
}

impl UpdateKernel {
    fn parts(&self) -> (&'static str, [Bits; 4], usize, bool, usize) {
        let OptimizerUpdate { rule, rates_from, momentum, beta2, eps, decay, .. } = &self.op;
        let numbers = [*momentum, *beta2, *eps, *decay].map(Bits::of);
        (rule.name(), numbers, *rates_from, self.factor, self.elements)
    }
}

impl PartialEq for UpdateKernel {
    fn eq(&self, other: &UpdateKernel) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for UpdateKernel {}

impl std::hash::Hash for UpdateKernel {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Debug for UpdateKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

impl KernelKey for UpdateKernel {
    fn build(&self, unit: Unit) -> Function {
        let states = self.op.rule.states().len();
        let (read, written) = (2 + states, 1 + states);
        let arrays = read + written;
        let rated = usize::from(self.op.rule.rates() > 0);
        let mut b = Builder::new(format!("update {self:?}"), unit, arrays + rated + usize::from(self.factor));
        let item = |b: &mut Builder, lanes: usize| {
            let values: Vec<Vector> = (0..read).map(|i| b.load_first(b.parameter(i).at(0), lanes)).collect();
            let rates: Vec<Vector> = (0..RATES * rated)
                .map(|i| b.broadcast(b.parameter(arrays).at(LANE * (self.op.rates_from + i))))
                .collect();
            let factor = self.factor.then(|| b.broadcast(b.parameter(arrays + rated).at(0)));
            let x = Element { weight: values[0], gradient: values[1], states: &values[2..], rates: &rates, factor };
            let results = self.op.apply(&mut Vectors(b), &x);
            for (i, result) in results.into_iter().enumerate() {
                let address: Address = b.parameter(read + i).at(0);
                b.store_first(address, result, lanes);
            }
        };
        let lanes = unit.lanes;
        b.repeat(self.elements / lanes, |b| {
            item(b, lanes);
            (0..arrays).for_each(|i| b.advance(b.parameter(i), unit.bytes() as i64));
        });
        if self.elements % lanes > 0 {
            item(&mut b, self.elements % lanes);
        }
        b.finish()
    }
}

/// The formulas of updates, written into a kernel.
struct Vectors<'b>(&'b mut Builder);

impl Arithmetic for Vectors<'_> {
    type Value = Vector;
    fn constant(&mut self, value: f32) -> Vector {
        self.0.splat(value)
    }
    fn add(&mut self, a: Vector, b: Vector) -> Vector {
        self.0.op(VectorOp::Add, a, b)
    }
    fn sub(&mut self, a: Vector, b: Vector) -> Vector {
        self.0.op(VectorOp::Sub, a, b)
    }
    fn mul(&mut self, a: Vector, b: Vector) -> Vector {
        self.0.op(VectorOp::Mul, a, b)
    }
    fn div(&mut self, a: Vector, b: Vector) -> Vector {
        self.0.op(VectorOp::Div, a, b)
    }
    fn sqrt(&mut self, a: Vector) -> Vector {
        self.0.unary(UnaryOp::Sqrt, a)
    }
}

/// Rounds of partial sums that are added up before they join the sum of all: rounding errors stay those of short sums.
const RUN: usize = 64;

/// One task: the order of the sum is the array's.
pub(crate) fn squared_norm(e: &mut Emitter, step: &Step) -> Emitted {
    let kernel = e.kernel(&SquaredNormKernel { elements: step.inputs[0].shape.elements() });
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, 1, |d, _| {
            let arguments = [&step.inputs[0], &step.outputs[0]].map(|view| Operand::from(d.view(e, view)));
            d.b.call(kernel, arguments.to_vec());
        });
    });
    Emitted { entry, grid: 1, scratch: 0 }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct SquaredNormKernel {
    elements: usize,
}

impl KernelKey for SquaredNormKernel {
    /// Parameters: the values, the result.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("squared norm {}", self.elements), unit, 2);
        let total = Partial::new(&mut b);
        let round = partial::vectors(unit);
        let add = |b: &mut Builder, sums: &Partial, index: usize, lanes: usize| {
            let x = b.load_first(b.parameter(0).at(0), lanes);
            let square = b.op(VectorOp::Mul, x, x);
            sums.add(b, index, square);
            b.advance(b.parameter(0), unit.bytes() as i64);
        };
        let run = |b: &mut Builder, rounds: usize| {
            let sums = Partial::new(b);
            b.repeat(rounds, |b| (0..round).for_each(|i| add(b, &sums, i, unit.lanes)));
            total.join(b, &sums);
        };
        let (vectors, rest) = (self.elements / unit.lanes, self.elements % unit.lanes);
        let rounds = vectors / round;
        b.repeat(rounds / RUN, |b| run(b, RUN));
        if rounds % RUN > 0 {
            run(&mut b, rounds % RUN);
        }
        (0..vectors % round).for_each(|i| add(&mut b, &total, i, unit.lanes));
        if rest > 0 {
            add(&mut b, &total, vectors % round, rest);
        }
        let sum = total.total(&mut b);
        let result = b.parameter(1).at(0);
        b.store_first(result, sum, 1);
        b.finish()
    }
}

pub(crate) fn clip_factor(e: &mut Emitter, step: &Step, op: &ClipFactor) -> Emitted {
    let kernel = e.kernel(&ClipKernel { norm: Bits::of(op.norm) });
    let [first, next] = [true, false].map(|first| e.kernel(&AddKernel { first }));
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, 1, |d, _| {
            let to = d.view(e, &step.outputs[0]);
            for (i, view) in step.inputs.iter().enumerate() {
                let from = d.view(e, view);
                d.b.call(if i == 0 { first } else { next }, vec![from.into(), to.into()]);
            }
            d.b.call(kernel, vec![to.into()]);
        });
    });
    Emitted { entry, grid: 1, scratch: 0 }
}

/// Parameters: a number, the sum so far.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct AddKernel {
    /// There is no sum yet.
    first: bool,
}

impl KernelKey for AddKernel {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(if self.first { "first square" } else { "next square" }, unit, 2);
        let [from, to] = [0, 1].map(|i| b.parameter(i).at(0));
        let mut sum = b.load_first(from, 1);
        if !self.first {
            let before = b.load_first(to, 1);
            sum = b.op(VectorOp::Add, before, sum);
        }
        b.store_first(to, sum, 1);
        b.finish()
    }
}

/// Parameter: the sum of squares, which becomes the factor.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct ClipKernel {
    norm: Bits,
}

impl KernelKey for ClipKernel {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("clip {:?}", self.norm), unit, 1);
        let at = b.parameter(0).at(0);
        let (sum, norm) = (b.load_first(at, 1), b.splat(self.norm.value()));
        let root = b.unary(UnaryOp::Sqrt, sum);
        let (least, one) = (b.splat(1e-6), b.splat(1.0));
        let length = b.op(VectorOp::Add, root, least);
        let share = b.op(VectorOp::Div, norm, length);
        let factor = b.op(VectorOp::Min, share, one);
        b.store_first(at, factor, 1);
        b.finish()
    }
}
