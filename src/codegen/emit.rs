//! What every kernel family builds with: the program under construction, the addresses of views,
//! the weights to pack.
//!
//! A step becomes one *driver*, the function that the runtime calls with a range of tasks, and the
//! kernels that it calls for each. Drivers hold integer arithmetic only; kernels hold the vectors.

use std::collections::HashMap;
use std::ops::Add;

use super::kernels::repack;
use super::key::{KernelKey, Kernels};
use super::packing::{self, Content, Earlier, Fill, Packing, Part};
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

/// What a step's node reads as its parameters.
pub(crate) enum Parameters {
    /// Weights whose values are known before a run: they are packed when the model is compiled.
    Known(Vec<WeightId>),
    /// Values of a run: they are packed before the step, each time.
    Computed(Vec<View>),
}

impl From<Vec<WeightId>> for Parameters {
    fn from(weights: Vec<WeightId>) -> Parameters {
        Parameters::Known(weights)
    }
}

/// Where a part of what a step's parameters are packed to lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    slot: Slot,
    /// In bytes.
    pub offset: usize,
}

impl Packed {
    /// In the section of packed weights.
    pub(crate) fn known(offset: usize) -> Packed {
        Packed { slot: Slot::Weights, offset }
    }
}

impl Add<usize> for Packed {
    type Output = Packed;
    fn add(self, bytes: usize) -> Packed {
        Packed { offset: self.offset + bytes, ..self }
    }
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
    /// What runs before the step at hand: packs its parameters, or adds up parts of its operands.
    pub repackings: Vec<Emitted>,
    /// What ends the step at hand, after all of its tasks.
    pub finishings: Vec<Emitted>,
    /// What earlier programs of the artifact have packed.
    earlier: &'a Earlier,
    /// Of weights that were asked for.
    contents: HashMap<WeightId, Content>,
    weight_bytes: usize,
    /// Where the memory of the step at hand begins in the arena ([`Step::temporary`]); anywhere, as long as the plan
    /// does not know how much the step wants.
    temporary_from: usize,
    /// Bytes that the step at hand wants of it.
    temporary_bytes: usize,
    /// The packings of the same weights, by these.
    packings_of: HashMap<Vec<WeightId>, Vec<usize>>,
    kernels: Kernels,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(graph: &'a Graph, plan: &'a Plan, target: &'a Target, earlier: &'a Earlier) -> Self {
        Self {
            graph,
            plan,
            target,
            program: Program::default(),
            packings: vec![],
            task_costs: vec![],
            packed: None,
            repackings: vec![],
            finishings: vec![],
            earlier,
            contents: HashMap::new(),
            weight_bytes: earlier.bytes(),
            temporary_from: 0,
            temporary_bytes: 0,
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

    /// Begins a step: its memory lies where the plan says.
    pub(crate) fn begin(&mut self, step: &Step) {
        self.temporary_from = step.temporary.map_or(0, |buffer| self.plan.buffers[buffer.0].offset);
        self.temporary_bytes = 0;
    }

    /// Bytes that the step at hand wants for itself.
    pub(crate) fn temporary_bytes(&self) -> usize {
        self.temporary_bytes
    }

    /// Memory of the step at hand in one piece; for steps whose parameters are known, and once a step.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Packed {
        self.temporary(vec![bytes])[0]
    }

    /// The parameters of a step's node, as its op declares them.
    pub(crate) fn weights(&self, step: &Step) -> Parameters {
        match step.parameters.is_empty() {
            true => Parameters::Known(self.graph.weights_of(step.node).expect("the plan gives views of the others")),
            false => Parameters::Computed(step.parameters.clone()),
        }
    }

    /// Reserves packed parameters, each part rounded up to the alignment; tells where each part lies.
    pub(crate) fn pack(&mut self, parameters: impl Into<Parameters>, parts: Vec<Part>) -> Vec<Packed> {
        match parameters.into() {
            Parameters::Known(weights) => self.pack_known(weights, parts),
            Parameters::Computed(views) => self.pack_computed(&views, parts),
        }
    }

    /// Parts that depend on no parameter are packed with the model; the others before the step, in memory of its own:
    /// nothing of it is needed after the step.
    fn pack_computed(&mut self, views: &[View], parts: Vec<Part>) -> Vec<Packed> {
        let parts: Vec<Part> = parts.into_iter().map(Part::aligned).collect();
        let is_known = |part: &Part| matches!(part.fill, Fill::Words(_));
        let sizes = parts.iter().filter(|part| !is_known(part)).map(Part::bytes).collect();
        let mut places = self.temporary(sizes).into_iter();
        let mut packed = vec![];
        let mut computed = vec![];
        for part in parts {
            if is_known(&part) {
                packed.extend(self.pack_known(vec![], vec![part]));
                continue;
            }
            let at = places.next().expect("there is one for each");
            packed.push(at);
            computed.push((at, part));
        }
        repack::emit(self, views, &computed);
        packed
    }

    /// Memory for what the step at hand packs before it runs, or what its tasks leave for what ends it, in pieces of
    /// so many bytes. A step has one or the other.
    pub(crate) fn temporary(&mut self, sizes: Vec<usize>) -> Vec<Packed> {
        let mut end = self.temporary_from;
        let place = |bytes: usize| {
            let at = Packed { slot: Slot::Arena, offset: end };
            end += bytes.next_multiple_of(packing::ALIGNMENT);
            at
        };
        let pieces = sizes.into_iter().map(place).collect();
        self.temporary_bytes = self.temporary_bytes.max(end - self.temporary_from);
        pieces
    }

    fn pack_known(&mut self, weights: Vec<WeightId>, parts: Vec<Part>) -> Vec<Packed> {
        let mut packing = Packing::new(weights, self.weight_bytes, parts);
        let offsets = packing.offsets();
        let at = |base: usize| offsets.iter().map(|offset| Packed::known(base + offset)).collect();
        // Layers that share weights and are computed alike share what is packed.
        if !packing.weights.is_empty() {
            let of_these = self.packings_of.entry(packing.weights.clone()).or_default();
            if let Some(same) = of_these.iter().copied().find(|&p| self.packings[p].is_same(&packing)) {
                self.packed = Some(same);
                return at(self.packings[same].offset);
            }
            of_these.push(self.packings.len());
        }
        self.packed = Some(self.packings.len());
        match self.find_earlier(&packing) {
            Some(offset) => (packing.offset, packing.is_there) = (offset, true),
            None => self.weight_bytes += packing.bytes(),
        }
        let packed = at(packing.offset);
        self.packings.push(packing);
        packed
    }

    /// Where an earlier program has packed the same.
    fn find_earlier(&mut self, packing: &Packing) -> Option<usize> {
        if self.earlier.is_empty() {
            return None;
        }
        let graph = self.graph;
        let contents = packing.weights.iter();
        let contents: Vec<Content> = contents
            .map(|&weight| self.contents.entry(weight).or_insert_with(|| Content::of(graph, weight)).clone())
            .collect();
        self.earlier.find(&contents, &packing.parts)
    }

    /// Writes a driver: `body` gets the builder and `begin`, `end` of the tasks.
    pub(crate) fn driver(&mut self, name: &str, body: impl FnOnce(&Self, &mut Driver)) -> Callee {
        let builder = Builder::new(name, self.target.unit, 4);
        let [frame, scratch, begin, end] = [0, 1, 2, 3].map(|i| builder.parameter(i));
        let mut driver = Driver {
            b: builder,
            frame,
            scratch,
            begin,
            end,
            ports: [self.graph.inputs().len(), self.graph.outputs().len()],
        };
        body(self, &mut driver);
        self.program.add(driver.b.finish())
    }

    /// Where a place begins, and at which byte of it.
    fn locate(&self, view: &View) -> (Slot, usize) {
        match view.place {
            Place::Input(i) => (Slot::Input(i as u32), view.offset),
            Place::Output(i) => (Slot::Output(i as u32), view.offset),
            Place::Buffer(b) => (Slot::Arena, self.plan.buffers[b.0].offset + view.offset),
            Place::State(s) => (Slot::States, self.plan.states[s].offset + view.offset),
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
    /// Numbers of inputs and outputs.
    ports: [usize; 2],
}

impl Driver {
    fn slot(&mut self, slot: Slot, offset: usize) -> Int {
        let base = self.b.load_int(self.frame.at(8 * slot.index(self.ports)));
        self.b.advance(base, offset);
        base
    }

    /// The address of a view's first element.
    pub(crate) fn view(&mut self, emitter: &Emitter, view: &View) -> Int {
        let (slot, offset) = emitter.locate(view);
        self.slot(slot, offset)
    }

    /// The address of packed parameters.
    pub(crate) fn weights(&mut self, at: Packed) -> Int {
        self.slot(at.slot, at.offset)
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
