//! What every kernel family builds with: the program under construction, the addresses of views,
//! the weights to pack.
//!
//! A step becomes one *driver*, the function that the runtime calls with a range of tasks, and the
//! kernels that it calls for each. Drivers hold integer arithmetic only; kernels hold the vectors.

use std::collections::HashMap;

use super::key::{KernelKey, Kernels};
use super::packing::{Packing, Part};
use super::vector::{Builder, Callee, Condition, Int, IntOp, Operand, Program};
use crate::artifact::Slot;
use crate::balance::TaskCost;
use crate::ir::Graph;
use crate::plan::{Place, Plan, Step, View};
use crate::target::{Target, Unit};
use crate::weights::WeightId;

/// What a kernel family returns for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// The driver.
    pub entry: Callee,
    pub grid: usize,
    /// Bytes of scratch that each thread needs.
    pub scratch: usize,
}

/// The state of code generation for one model.
pub(crate) struct Emitter<'a> {
    pub graph: &'a Graph,
    pub plan: &'a Plan,
    pub target: &'a Target,
    pub program: Program,
    pub packings: Vec<Packing>,
    /// What the tasks of the step at hand cost, where they are not alike.
    pub task_costs: Vec<TaskCost>,
    /// Which packing the step at hand reads.
    pub packed: Option<usize>,
    weight_bytes: usize,
    /// The packings of the same weights, by these.
    packings_of: HashMap<Vec<WeightId>, Vec<usize>>,
    kernels: Kernels,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(graph: &'a Graph, plan: &'a Plan, target: &'a Target) -> Self {
        Self {
            graph,
            plan,
            target,
            program: Program::default(),
            packings: vec![],
            task_costs: vec![],
            packed: None,
            weight_bytes: 0,
            packings_of: HashMap::new(),
            kernels: Kernels::default(),
        }
    }

    pub(crate) fn unit(&self) -> Unit {
        self.target.unit
    }

    pub(crate) fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// Adds a kernel; one with an equal key is built once and shared.
    pub(crate) fn kernel(&mut self, key: &impl KernelKey) -> Callee {
        self.kernels.get_or_insert(key, || self.program.add(key.build(self.target.unit)))
    }

    /// The weights of a step's node, as its op declares them.
    pub(crate) fn weights(&self, step: &Step) -> Vec<WeightId> {
        self.graph.weights_of(step.node).expect("a plan has no parameters that are computed")
    }

    /// Reserves packed weights, each part rounded up to the alignment; returns their byte offset in
    /// the weights section and that of each part relative to it.
    pub(crate) fn pack(&mut self, weights: Vec<WeightId>, parts: Vec<Part>) -> (usize, Vec<usize>) {
        let packing = Packing::new(weights, self.weight_bytes, parts);
        let offsets = packing.offsets();
        // Layers that share weights and are computed alike share what is packed.
        if !packing.weights.is_empty() {
            let of_these = self.packings_of.entry(packing.weights.clone()).or_default();
            if let Some(same) = of_these.iter().copied().find(|&p| self.packings[p].is_same(&packing)) {
                self.packed = Some(same);
                return (self.packings[same].offset, offsets);
            }
            of_these.push(self.packings.len());
        }
        self.packed = Some(self.packings.len());
        self.weight_bytes += packing.bytes();
        self.packings.push(packing);
        (self.packings[self.packings.len() - 1].offset, offsets)
    }

    /// Writes a driver: `body` gets the builder and `begin`, `end` of the tasks.
    pub(crate) fn driver(&mut self, name: &str, body: impl FnOnce(&Self, &mut Driver)) -> Callee {
        let builder = Builder::new(name, self.target.unit, 4);
        let [frame, scratch, begin, end] = [0, 1, 2, 3].map(|i| builder.parameter(i));
        let mut driver = Driver { b: builder, frame, scratch, begin, end, inputs: self.graph.inputs().len() };
        body(self, &mut driver);
        self.program.add(driver.b.finish())
    }

    /// Where a place begins, and at which byte of it.
    fn locate(&self, view: &View) -> (Slot, usize) {
        match view.place {
            Place::Input(i) => (Slot::Input(i as u32), view.offset),
            Place::Output(i) => (Slot::Output(i as u32), view.offset),
            Place::Buffer(b) => (Slot::Arena, self.plan.buffers[b.0].offset + view.offset),
        }
    }
}

/// A driver under construction.
pub(crate) struct Driver {
    pub b: Builder,
    frame: Int,
    pub scratch: Int,
    pub begin: Int,
    pub end: Int,
    inputs: usize,
}

impl Driver {
    fn slot(&mut self, slot: Slot, offset: usize) -> Int {
        let base = self.b.load_int(self.frame.at(8 * slot.index(self.inputs)));
        self.b.advance(base, offset);
        base
    }

    /// The address of a view's first element.
    pub(crate) fn view(&mut self, emitter: &Emitter, view: &View) -> Int {
        let (slot, offset) = emitter.locate(view);
        self.slot(slot, offset)
    }

    /// The address of packed weights.
    pub(crate) fn weights(&mut self, offset: usize) -> Int {
        self.slot(Slot::Weights, offset)
    }

    /// Runs `body` for every task of `begin..end` that lies in `first..first + count`, with the
    /// task's index relative to `first`.
    pub(crate) fn tasks(&mut self, first: usize, count: usize, body: impl FnOnce(&mut Driver, Int)) {
        let start = self.b.int_op(IntOp::Max, self.begin, first);
        let stop = self.b.int_op(IntOp::Min, self.end, first + count);
        self.range(start, stop, |d, task| {
            let local = d.b.int_op(IntOp::Sub, task, first);
            body(d, local);
        });
    }

    /// `for index in start..end`.
    pub(crate) fn range(
        &mut self,
        start: impl Into<Operand>,
        end: impl Into<Operand>,
        body: impl FnOnce(&mut Driver, Int),
    ) {
        let outer = self.take();
        let mut b = outer.b;
        let mut inner = Driver { b: Builder::new("", b.unit(), 0), ..outer };
        b.loop_range(start, end, 1, |b, index| inner.lend(b, |d| body(d, index)));
        self.b = b;
    }

    pub(crate) fn if_then(
        &mut self,
        condition: Condition,
        a: Int,
        other: impl Into<Operand>,
        then: impl FnOnce(&mut Driver),
    ) {
        let outer = self.take();
        let mut b = outer.b;
        let mut inner = Driver { b: Builder::new("", b.unit(), 0), ..outer };
        b.if_then(condition, a, other, |b| inner.lend(b, then));
        self.b = b;
    }

    /// Runs `then` where `first <= index < first + count`, with the index relative to `first`.
    pub(crate) fn if_within(&mut self, index: Int, first: usize, count: usize, then: impl FnOnce(&mut Driver, Int)) {
        let before = self.b.int(first as i64 - 1);
        self.if_then(Condition::Less, before, index, |d| {
            d.if_then(Condition::Less, index, first + count, |d| {
                let local = d.b.int_op(IntOp::Sub, index, first);
                then(d, local);
            });
        });
    }

    /// This driver with its builder, which an empty one replaces for the while.
    fn take(&mut self) -> Driver {
        let empty = Builder::new("", self.b.unit(), 0);
        let b = std::mem::replace(&mut self.b, empty);
        Driver { b, ..*self }
    }

    /// Lets `body` write into a block that the builder has open.
    fn lend(&mut self, b: &mut Builder, body: impl FnOnce(&mut Driver)) {
        std::mem::swap(&mut self.b, b);
        body(self);
        std::mem::swap(&mut self.b, b);
    }

    /// The operand as a variable.
    pub(crate) fn int(&mut self, operand: Operand) -> Int {
        match operand {
            Operand::Var(v) => v,
            Operand::Const(_) => self.b.int(operand),
        }
    }

    /// `(task / inner, task % inner)`; no arithmetic where one of them is constant.
    pub(crate) fn split(&mut self, task: Int, inner: usize) -> (Operand, Operand) {
        if inner == 1 {
            return (task.into(), 0i64.into());
        }
        (self.b.int_op(IntOp::Div, task, inner).into(), self.b.int_op(IntOp::Rem, task, inner).into())
    }

    /// `base += index * stride`.
    pub(crate) fn step(&mut self, base: Int, index: Operand, stride: usize) {
        match index {
            Operand::Const(c) => {
                if c != 0 && stride != 0 {
                    self.b.advance(base, c * stride as i64);
                }
            }
            Operand::Var(v) => {
                let bytes = self.b.mul(v, stride);
                self.b.advance(base, bytes);
            }
        }
    }
}
