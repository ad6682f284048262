//! Walks the graph once and writes the steps.

use std::collections::{HashMap, HashSet};

use super::choice::{Bounds, Choice, Findings, Layer, choose};
use super::conv::{self, Arithmetic, Problem};
use super::layout::{self, Layouts, Want};
use super::parts::Parts;
use super::place::{Placements, placements};
use super::precision::{Precision, Slow, reduced};
use super::state::States;
use super::view::{self, Layout, Place, View};
use super::{Algorithm, Buffer, BufferId, Channel, Gather, Plan, Step, Update, limits};
use crate::ir::{self, Graph, Kind, NodeId, Verified, updates};
use crate::memory::size;
use crate::ops::Op;
use crate::target::Target;
use crate::tensor::{Element, Shape};
use crate::weights::WeightId;

/// What the user may ask of the plan.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Algorithms forced by label: `conv1` → `direct`, `winograd4`, …; `*` is every layer without one of its own.
    pub algorithms: Vec<(String, String)>,
    /// The same bits whatever the vector unit and the batch: algorithms are chosen by the op alone.
    pub strict: bool,
    /// No kernels whose packed weights are larger than the weights: Winograd's are four times as large and more.
    pub small: bool,
    /// In what values are stored and multiplied.
    pub precision: Precision,
    /// What running kernels on the target has shown.
    pub findings: Findings,
    /// Bytes that generating code and packing weights may take; without a number there is no bound.
    pub memory: Option<u64>,
}

impl Options {
    /// Whether values may be bf16 in plans for that target.
    pub(crate) fn has_bf16(&self, target: &Target) -> bool {
        match self.precision {
            Precision::F32 => false,
            Precision::Bf16 => true,
            Precision::FastestWithin(_) => target.unit.dot_bf16 && !self.strict && !self.findings.unproved,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("{node}: algorithm {algorithm} cannot compute this layer; possible: {}", possible.join(", "))]
    Algorithm { node: String, algorithm: String, possible: Vec<String> },
    #[error("no algorithm is called {algorithm}; there are {}", ALGORITHMS.join(", "))]
    Unknown { algorithm: String },
    #[error("no layer of the optimized network can be computed by {algorithm}, which is asked for all that it fits")]
    Unused { algorithm: String },
    #[error("no convolution or linear layer of the optimized network is called {0}, for which an algorithm is given")]
    NoLayer(String),
    #[error(
        "--strict promises the bits of fused multiply-adds, which the target does not have; those from `fma` on do"
    )]
    StrictWithoutFma,
    #[error(
        "bf16 needs a CPU with AVX512_BF16 (`avx512bf16`), which the target does not have: `--precision f32` needs \
         none of it, and `--target-features avx512+avx512bf16` makes code for a CPU that has it"
    )]
    NoBf16,
    #[error(
        "--strict promises the same bits on every vector unit, and only one multiplies bf16; `--precision f32` keeps that \
         promise"
    )]
    StrictInBf16,
    #[error("steps of training are f32")]
    TrainingInBf16,
    #[error("{node} reads weights that are computed in a run; code is made for weights that are known before it")]
    ComputedWeights { node: String },
    #[error(
        "{node} is of a quantized network as written; code is made of what the passes `lower_quantized` and \
         `fold_whole_weights` make of it"
    )]
    Unlowered { node: String },
    #[error("{node} is several of the layers that have kernels; code is made of what the pass `{pass}` makes of it")]
    Compound { node: String, pass: &'static str },
    #[error("{node} is {shape}; code is made for f32")]
    Element { node: String, shape: Shape },
    #[error("{node}: {found} {what}; code is made for at most {most}")]
    TooLarge { node: String, found: usize, most: usize, what: &'static str },
    #[error(
        "{what} takes {} of memory, more than the {} that compiling may take; --max-memory allows more",
        size(*needed),
        size(*limit)
    )]
    Memory { what: String, needed: u64, limit: u64 },
    #[error(
        "{what} takes {} of addresses, more than the {} that this process may still have (ulimit -v)",
        size(*needed),
        size(*left)
    )]
    Addresses { what: String, needed: u64, left: u64 },
}

/// The names of kernels between which there is a choice.
const ALGORITHMS: [&str; 12] = [
    "direct",
    "winograd2",
    "winograd3",
    "winograd4",
    "winograd6",
    "winograd2-bf16",
    "winograd2c-bf16",
    "winograd3-bf16",
    "winograd4-bf16",
    "winograd4c-bf16",
    "depthwise",
    "grouped",
];

/// Share of a network's time that F(6×6) must save. Its rounding error is four times that of F(4×4),
/// which deep networks amplify; for less, the digits are worth more than the time.
const WORTH_ITS_ERROR: f64 = 0.04;

/// Share of a network's time that weights must save whose transformed copies add as many bytes as all of its weights have.
const WORTH_ITS_WEIGHTS: f64 = 1.0 / 16.0;

/// Nanoseconds that a byte of transformed weights needs to save at most, whatever the network is: a millisecond for 4 MB.
const MOST_A_BYTE: f64 = 0.25;

/// Plans an optimized graph for a target.
///
/// # Errors
/// Where a forced algorithm does not exist, has no layer or does not fit it, the target rounds otherwise than
/// [`Options::strict`] promises, or a value or window is too large to be addressed.
pub(crate) fn plan(graph: Verified, target: &Target, options: &Options) -> Result<Plan, PlanError> {
    let graph = graph.graph();
    if options.strict && !target.fuses() {
        return Err(PlanError::StrictWithoutFma);
    }
    if options.precision == Precision::Bf16 && options.strict {
        return Err(PlanError::StrictInBf16);
    }
    if options.precision != Precision::F32 && !graph.updates().is_empty() {
        return Err(PlanError::TrainingInBf16);
    }
    if options.precision == Precision::Bf16 && !target.unit.dot_bf16 {
        return Err(PlanError::NoBf16);
    }
    if let Some((_, algorithm)) = options.algorithms.iter().find(|(_, a)| !ALGORITHMS.contains(&a.as_str())) {
        return Err(PlanError::Unknown { algorithm: algorithm.clone() });
    }
    if let Some((label, _)) = options.algorithms.iter().find(|(label, _)| !has_choice(graph, label)) {
        return Err(PlanError::NoLayer(label.clone()));
    }
    limits::check_lowered(graph)?;
    limits::check(graph)?;
    let slow = slow_in_bf16(graph, target, options)?;
    let planned = |tile: usize, price: f64| plan_within(Bounds { tile, price }, graph, target, options, &slow);
    let time = |plan: &Plan| plan.steps.iter().map(|s| s.estimate_ns).sum::<f64>();
    let any = planned(6, 0.0)?;
    let is_winograd = |s: &Step| matches!(s.kernel, Algorithm::Winograd(_));
    if !any.steps.iter().any(|s| !s.forced && is_winograd(s)) {
        return Ok(any);
    }
    // Copies of weights have to earn their bytes, which a file has and memory brings in each run.
    let weights = graph.all_parameters().map(|(_, id)| graph.weights.get(id).shape.bytes()).sum::<usize>().max(1);
    let price = (WORTH_ITS_WEIGHTS * time(&any) / weights as f64).min(MOST_A_BYTE);
    let fast = planned(6, price)?;
    if !fast.steps.iter().any(|s| !s.forced && s.kernel.tile() > 4) {
        return Ok(fast);
    }
    let exact = planned(4, price)?;
    let saved = 1.0 - time(&fast) / time(&exact);
    Ok(if saved >= WORTH_ITS_ERROR { fast } else { exact })
}

/// Whether an algorithm that is asked for all layers fits some of the plan's. A plan is as good without, so that this
/// is for whoever asked.
///
/// # Errors
/// Names the algorithm that fits none.
pub(crate) fn check_forced(plan: &Plan, options: &Options) -> Result<(), PlanError> {
    let is_used = |name: &str| plan.steps.iter().any(|s| s.forced && s.kernel.name() == name);
    match options.algorithms.iter().find(|(label, algorithm)| label == "*" && !is_used(algorithm)) {
        Some((_, algorithm)) => Err(PlanError::Unused { algorithm: algorithm.clone() }),
        None => Ok(()),
    }
}

/// Whether algorithms can be forced by this name.
fn has_choice(graph: &Graph, label: &str) -> bool {
    let named = |node: &ir::Node| node.name.as_deref() == Some(label);
    let is_one = |node: &ir::Node| named(node) && node.op().is_some_and(Op::is_convolution_or_linear);
    label == "*" || graph.order().into_iter().any(|id| is_one(graph.node(id)))
}

/// The layers that had better read f32, where values may be bf16.
fn slow_in_bf16(graph: &Graph, target: &Target, options: &Options) -> Result<Vec<Slow>, PlanError> {
    if !options.has_bf16(target) {
        return Ok(vec![]);
    }
    // An algorithm of bf16 that is forced is none of f32.
    let in_f32 = Options { precision: Precision::F32, algorithms: vec![], ..options.clone() };
    let in_bf16 = Options { algorithms: vec![], ..options.clone() };
    let planned = |options: &Options| plan_within(Bounds { tile: 4, price: 0.0 }, graph, target, options, &[]);
    Ok(Slow::of(&planned(&in_f32)?, &planned(&in_bf16)?))
}

/// A plan within bounds, in which layers that are slow in bf16 read f32.
fn plan_within(
    bounds: Bounds,
    graph: &Graph,
    target: &Target,
    options: &Options,
    slow: &[Slow],
) -> Result<Plan, PlanError> {
    let block = layout::block(target.unit);
    let in_f32 = options.findings.coarse.iter().map(|c| c.node).chain(slow.iter().map(|s| s.node));
    let layouts = Layouts::of(graph, block);
    let mut planner = Planner {
        graph,
        target,
        options,
        bounds,
        block,
        placements: placements(&layouts),
        reduced: if options.has_bf16(target) { reduced(&layouts, in_f32) } else { HashSet::new() },
        slow,
        layouts,
        states: States::of(graph),
        views: HashMap::new(),
        buffers: vec![],
        steps: vec![],
        updates: vec![],
    };
    for id in graph.order() {
        let goes_on = match graph.node(id).op() {
            Some(Op::OptimizerUpdate(_)) | None => true,
            // It may read what an update that waits gives.
            Some(Op::Constant(_)) => graph.computed_reads(id).is_empty(),
            Some(_) => false,
        };
        if !goes_on {
            planner.push_updates();
        }
        planner.node(id)?;
    }
    planner.push_updates();
    for (i, output) in graph.outputs().iter().enumerate() {
        planner.output(i, output.node);
    }
    planner.store_updates();
    Ok(planner.finish())
}

struct Planner<'a> {
    graph: &'a Graph,
    target: &'a Target,
    options: &'a Options,
    bounds: Bounds,
    /// Channels of a block.
    block: usize,
    layouts: Layouts<'a>,
    placements: Placements,
    /// Values that are bf16 in blocks.
    reduced: HashSet<NodeId>,
    /// Layers that read f32 for that.
    slow: &'a [Slow],
    states: States,
    /// Where each value lies, by layout.
    views: HashMap<(NodeId, Layout), View>,
    buffers: Vec<Buffer>,
    steps: Vec<Step>,
    /// Updates whose step is not there yet: the next may join it.
    updates: Vec<WaitingUpdate>,
}

struct WaitingUpdate {
    node: NodeId,
    inputs: Vec<View>,
    outputs: Vec<View>,
}

impl Planner<'_> {
    /// The layout of all values in blocks.
    fn blocked(&self) -> Layout {
        Layout::Blocked { block: self.block }
    }

    fn node(&mut self, id: NodeId) -> Result<(), PlanError> {
        let graph = self.graph;
        let node = graph.node(id);
        let op = match &node.kind {
            Kind::Input(_) => {
                let index = graph.inputs().iter().position(|&i| i == id).expect("inputs are listed");
                let view = View::whole(Place::Input(index), Layout::Plain, &self.shape(id, Layout::Plain));
                self.views.insert((id, Layout::Plain), view);
                return Ok(());
            }
            Kind::Parameter(_) => return Ok(()),
            Kind::Op(op) => op,
        };
        if let Some(state) = self.states.of_constant(graph, id) {
            let view = View::whole(Place::State(state), Layout::Plain, &node.shape);
            self.views.insert((id, Layout::Plain), view);
            return Ok(());
        }
        match op {
            // Other names or shapes of a value: views are derived when somebody asks.
            Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) | Op::Dropout(_) => Ok(()),
            Op::Slice(_) if self.placements.is_split_part(graph, id) => Ok(()),
            _ if self.placements.unstored.contains(&id) => Ok(()),
            Op::Slice(s) if self.is_aligned_slice(id) => {
                let whole = self.get(graph.operands(id)[0], self.blocked());
                let view = whole.channels(s.start, &self.shape(id, self.blocked()));
                self.views.insert((id, self.blocked()), view);
                Ok(())
            }
            Op::Concat(_) if self.layouts.works_on_blocks(id) => {
                self.concat(id);
                Ok(())
            }
            Op::Slice(_) | Op::ChannelShuffle(_) | Op::IndexSelect(_) if self.layouts.works_on_blocks(id) => {
                self.gather(id);
                Ok(())
            }
            _ if op.is_convolution_or_linear() => self.convolution(id, op),
            Op::OptimizerUpdate(_) => {
                self.optimizer(id);
                Ok(())
            }
            Op::ChannelMoments(_) | Op::BatchNormSums(_) => {
                self.channel_sums(id);
                Ok(())
            }
            _ => {
                let inputs = self.operands(id);
                let output = self.allocate(id, self.layouts.signature(id).output);
                let ns = match op {
                    Op::Conv2dWeightGradient(_) => {
                        let (unit, core) = (self.target.unit, self.target.core);
                        core.nanoseconds(graph.macs(id) as f64 / (core.vectors * unit.lanes as f64))
                    }
                    _ => self.of_bytes(inputs.iter().chain([&output])),
                };
                self.push(id, inputs, vec![output], Algorithm::Plain, ns);
                Ok(())
            }
        }
    }

    /// The time that kernels take which do little but read and write.
    fn of_bytes<'v>(&self, views: impl Iterator<Item = &'v View>) -> f64 {
        let bytes: usize = views.map(|view| view.shape.bytes()).sum();
        self.target.core.nanoseconds(bytes as f64 / 16.0)
    }

    /// Two numbers for each channel, sums over images and pixels: part by part, where that is worth a second step.
    fn channel_sums(&mut self, id: NodeId) {
        let inputs = self.operands(id);
        let ns = self.of_bytes(inputs.iter());
        let output = self.allocate(id, Layout::Plain);
        let parts = match inputs[0].layout {
            Layout::Plain => None,
            Layout::Blocked { .. } => {
                let [images, _, h, w] = inputs[0].image();
                Some(Parts::of_sum(images, h * w)).filter(|parts| parts.count() > 1)
            }
        };
        let Some(parts) = parts else {
            self.push(id, inputs, vec![output], Algorithm::Plain, ns);
            return;
        };
        let sums = Shape::new([parts.count(), inputs[0].blocks(), 2, self.block]);
        let sums = self.buffer(Layout::Plain, &sums);
        let joined = [sums.clone()].into_iter().chain(inputs[1..].iter().filter(|v| !v.layout.is_blocked()).cloned());
        let joined = joined.collect();
        self.push(id, inputs, vec![sums], Algorithm::PartialSums(parts), ns);
        self.push(id, joined, vec![output], Algorithm::JoinParts(parts), 0.0);
    }

    /// All results of an update at once, where the first of them stands. Updates that follow one another are one step:
    /// those of a thousand small weights would be a thousand steps in which threads mostly wait for one another.
    fn optimizer(&mut self, id: NodeId) {
        if self.views.contains_key(&(id, Layout::Plain)) {
            return;
        }
        let inputs = self.operands(id);
        if inputs.iter().any(|input| self.updates.iter().flat_map(|u| &u.outputs).any(|o| o.place == input.place)) {
            self.push_updates();
        }
        let group = updates::results(self.graph, id);
        let Some(Op::OptimizerUpdate(op)) = self.graph.node(id).op() else { unreachable!("called for updates") };
        let shape = self.graph.node(id).shape.clone();
        let of_result = |result: usize| {
            let is_it =
                |&id: &NodeId| matches!(self.graph.node(id).op(), Some(Op::OptimizerUpdate(o)) if o.result == result);
            group.iter().copied().find(is_it)
        };
        let results: Vec<Option<NodeId>> = (0..=op.rule.states().len()).map(of_result).collect();
        let outputs: Vec<View> = results
            .into_iter()
            .map(|result| match result {
                Some(result) => self.allocate(result, Layout::Plain),
                // Nobody reads it, but it is computed.
                None => self.buffer(Layout::Plain, &shape),
            })
            .collect();
        self.updates.push(WaitingUpdate { node: id, inputs, outputs });
    }

    /// Adds the step of the updates that wait.
    fn push_updates(&mut self) {
        let waiting = std::mem::take(&mut self.updates);
        let Some(first) = waiting.first() else { return };
        let node = first.node;
        let pieces = waiting.iter().map(|u| Update { node: u.node, inputs: u.inputs.len(), outputs: u.outputs.len() });
        let pieces = pieces.collect();
        let ns = self.of_bytes(waiting.iter().flat_map(|u| u.inputs.iter().chain(&u.outputs)));
        let (inputs, outputs): (Vec<_>, Vec<_>) = waiting.into_iter().map(|u| (u.inputs, u.outputs)).unzip();
        self.push(node, inputs.concat(), outputs.concat(), Algorithm::Updates(pieces), ns);
    }

    /// Brings a value into output `i`: what is computed in plain memory of its own is computed there.
    fn output(&mut self, i: usize, id: NodeId) {
        let to = View::whole(Place::Output(i), Layout::Plain, &self.shape(id, Layout::Plain));
        let value = self.existing(id, Layout::Plain).unwrap_or_else(|| self.any(id));
        let plain = self.as_it_lies(&value, id, Layout::Plain);
        match plain.map(|view| view.place) {
            Some(Place::Buffer(buffer)) if value.offset == 0 && self.buffers[buffer.0].bytes == to.shape.bytes() => {
                self.replace(buffer, to.place);
            }
            _ => {
                self.push(id, vec![value], vec![to], Algorithm::Convert, 0.0);
            }
        }
    }

    /// Puts what is in a buffer somewhere else.
    fn replace(&mut self, buffer: BufferId, place: Place) {
        let steps =
            self.steps.iter_mut().flat_map(|s| s.inputs.iter_mut().chain(&mut s.outputs).chain(&mut s.parameters));
        for view in steps.chain(self.views.values_mut()).filter(|view| view.place == Place::Buffer(buffer)) {
            view.place = place;
        }
        self.buffers[buffer.0] = Buffer { bytes: 0, first: 0, last: 0, offset: 0 };
    }

    /// The view as one of another layout, where the value's bytes are the same in both: pixels of whole blocks, one an
    /// image. Of a single one with fewer channels, plain memory is where its blocks begin.
    fn as_it_lies(&self, view: &View, id: NodeId, layout: Layout) -> Option<View> {
        if view.layout == layout {
            return Some(view.clone());
        }
        // A state may change while others still read it as it was.
        if matches!(view.place, Place::State(_)) {
            return None;
        }
        let [images, channels, h, w] = view::image(&view.shape)?;
        let shape = self.shape(id, layout);
        let packed = channels * view.element_bytes();
        let whole = channels % self.block == 0 && (images == 1 || view.batch_stride == packed);
        let begins = images == 1 && layout == Layout::Plain;
        let is_same = h * w == 1 && view.element_bytes() == shape.element().bytes() && (whole || begins);
        is_same.then(|| View { layout, shape, batch_stride: packed, ..view.clone() })
    }

    /// Copies what weights become to where they lie, unless it was written there.
    fn store_updates(&mut self) {
        let graph = self.graph;
        let mut copies = vec![];
        for update in graph.updates() {
            let state = self.states.of_weight(update.weight).expect("updated weights are states");
            let shape = &graph.node(update.node).shape;
            // A weight that stays what it is.
            if self.states.of_constant(graph, update.node) == Some(state) {
                continue;
            }
            let mut from = self.any(update.node);
            if from.place == Place::State(state) && self.states.in_place.contains_key(&update.node) {
                continue;
            }
            if let Place::State(_) = from.place {
                // Another state's value, which a copy before this one may change.
                let kept = self.buffer(Layout::Plain, shape);
                self.push(update.node, vec![from], vec![kept.clone()], Algorithm::Convert, 0.0);
                from = kept;
            }
            copies.push((update.node, from, View::whole(Place::State(state), Layout::Plain, shape)));
        }
        for (node, from, to) in copies {
            self.push(node, vec![from], vec![to], Algorithm::Convert, 0.0);
        }
    }

    /// The shape of a node's value as it lies in memory.
    fn shape(&self, id: NodeId, layout: Layout) -> Shape {
        let shape = self.graph.node(id).shape.clone();
        let element = match layout.is_blocked() && self.reduced.contains(&id) {
            true => Element::Bf16,
            false if limits::is_random(self.graph, id) => shape.element(),
            false => view::stored(shape.element(), layout),
        };
        shape.with_element(element)
    }

    fn is_aligned_slice(&self, id: NodeId) -> bool {
        let Some(Op::Slice(s)) = self.graph.node(id).op() else { return false };
        let is_whole_blocks = s.step == 1 && s.start % self.block == 0;
        is_whole_blocks && self.layouts.works_on_blocks(id) && self.is_stored(id)
    }

    /// Whether what a slice is of lies in memory.
    fn is_stored(&self, slice: NodeId) -> bool {
        !self.placements.unstored.contains(&self.graph.operands(slice)[0])
    }

    /// Operands that were not computed in place are copied into their slices.
    fn concat(&mut self, id: NodeId) {
        let whole = self.allocate(id, self.blocked());
        let mut first = 0;
        for operand in self.graph.operands(id) {
            if self.placements.in_concat.get(&operand) != Some(&(id, first)) {
                let from = self.get(operand, self.blocked());
                let channels = (0..from.image()[1]).map(|channel| Channel { input: 0, channel }).collect();
                self.move_channels(id, vec![from], &whole, Gather { first, from: channels });
            }
            first += self.graph.node(operand).shape[1];
        }
    }

    /// A slice or a shuffle, from the values that lie in memory.
    fn gather(&mut self, id: NodeId) {
        let channels = self.placements.channels(self.graph, id);
        let mut sources: Vec<NodeId> = vec![];
        let mut from = vec![];
        for (source, channel) in channels {
            let input = sources.iter().position(|&s| s == source).unwrap_or(sources.len());
            if input == sources.len() {
                sources.push(source);
            }
            from.push(Channel { input, channel });
        }
        let inputs = sources.into_iter().map(|source| self.get(source, self.blocked())).collect();
        let output = self.allocate(id, self.blocked());
        self.move_channels(id, inputs, &output, Gather { first: 0, from });
    }

    fn move_channels(&mut self, id: NodeId, inputs: Vec<View>, output: &View, gather: Gather) {
        let [images, _, h, w] = output.image();
        let ns = self.target.core.nanoseconds((images * gather.from.len() * h * w) as f64 / 4.0);
        self.push(id, inputs, vec![output.clone()], Algorithm::Gather(gather), ns);
    }

    fn convolution(&mut self, id: NodeId, op: &Op) -> Result<(), PlanError> {
        let graph = self.graph;
        let operands = graph.operands(id);
        let source = self.linear_source(op, operands[0]);
        let input = match op {
            Op::QuantizedConv2d(_) | Op::QuantizedConvTranspose2d(_) | Op::QuantizedLinear(_) => {
                self.get(source, self.blocked())
            }
            _ => self.any(source),
        };
        let label = graph.node(id).name.as_deref().unwrap_or_default();
        let chosen = |input: &View| {
            let mut layer = Layer::new(op, problem_of(op, &input.shape, &graph.node(id).shape), input, self.block);
            if conv::wants_sums(&layer.problem, self.block) && self.has_known_parameters(id) {
                let weight = graph.weights_read(id)[0];
                layer.problem.largest_sum = conv::largest_sum(&layer.problem, (*graph.weights.values(weight)).as_ref());
            }
            choose(id, label, &layer, self.bounds_of(id), self.target, self.options).map(|choice| (layer, choice))
        };
        let (layer, mut choice, brought) = match self.brought_into_bf16(source, &input) {
            None => chosen(&input).map(|(layer, choice)| (layer, choice, false))?,
            Some(blocks) => match (chosen(&input), chosen(&blocks)) {
                (Err(error), Err(_)) => return Err(error),
                (Ok((layer, choice)), Err(_)) => (layer, choice, false),
                (Err(_), Ok((layer, choice))) => (layer, choice, true),
                (Ok((of_f32, in_f32)), Ok((of_bf16, in_bf16))) => {
                    let convert = conv::convert_cost(&of_bf16.problem, self.block, self.target) / 2.0;
                    match in_bf16.ns + convert < in_f32.ns {
                        true => (of_bf16, in_bf16, true),
                        false => (of_f32, in_f32, false),
                    }
                }
            },
        };
        choice.notes.extend(self.slow.iter().filter(|s| s.node == id).map(Slow::to_string));
        let input = if brought { self.get(source, self.blocked()) } else { input };
        let mut inputs = vec![input];
        inputs.extend(operands[1..].iter().map(|&o| self.get(o, self.blocked())));
        let outputs = match self.placements.split.get(&id).cloned() {
            Some(parts) => parts.into_iter().map(|part| self.allocate(part, self.blocked())).collect(),
            None => vec![self.allocate(id, self.blocked())],
        };
        let Choice { kernel, ns, alternatives, forced, notes } = choice;
        if inputs[0].layout == Layout::Plain && !matches!(kernel, Algorithm::Direct(_)) {
            inputs[0] = self.get(source, self.blocked());
        }
        let step = self.push(id, inputs, outputs, kernel, ns);
        *step = Step { alternatives, forced, notes, layer: Some(layer), ..step.clone() };
        Ok(())
    }

    /// A plain value as blocks of bf16, where it may be brought into these for layers that multiply bf16: what they would
    /// read, which is not there yet.
    fn brought_into_bf16(&self, source: NodeId, input: &View) -> Option<View> {
        let may_be = input.layout == Layout::Plain && self.reduced.contains(&source);
        let is_image = view::image(&input.shape).is_some();
        (may_be && is_image).then(|| View::whole(input.place, self.blocked(), &self.shape(source, self.blocked())))
    }

    /// The bounds of a layer. What transforms filters in a run addresses those of a set of output channels at once.
    fn bounds_of(&self, id: NodeId) -> Bounds {
        const SET: usize = 64;
        let filters = self.graph.parameters(id).first().map_or(0, |&weight| {
            let shape = &self.graph.node(weight).shape;
            shape.bytes() / shape.dims().iter().copied().take(2).min().unwrap_or(1).max(1)
        });
        let tile = match self.has_known_parameters(id) {
            true => return self.bounds,
            // Whoever compiles for inference tries Winograd kernels with the layer's own weights, which are not there yet.
            false if self.graph.updates().is_empty() => 0,
            false if filters.saturating_mul(SET) < i32::MAX as usize => self.bounds.tile,
            false => 0,
        };
        // What is transformed in a run is in no file.
        Bounds { tile, price: 0.0 }
    }

    fn has_known_parameters(&self, id: NodeId) -> bool {
        let is_known = |weight: WeightId| self.states.of_weight(weight).is_none();
        self.graph.weights_of(id).is_some_and(|weights| weights.into_iter().all(is_known))
    }

    /// The values that are a node's parameters; empty where they are known before a run.
    fn parameters(&mut self, id: NodeId) -> Vec<View> {
        if self.graph.node(id).op().is_none() || self.has_known_parameters(id) {
            return vec![];
        }
        let parameters = self.graph.parameters(id);
        let view = |planner: &mut Self, parameter: NodeId| match planner.graph.node(parameter).parameter() {
            Some(weight) => {
                let state = planner.states.of_weight(weight).expect("all parameters of a node are values of a run");
                View::whole(Place::State(state), Layout::Plain, &planner.graph.node(parameter).shape)
            }
            None => planner.get(parameter, Layout::Plain),
        };
        parameters.into_iter().map(|parameter| view(self, parameter)).collect()
    }

    /// A linear layer reads the image behind a flatten: its weights are packed in the image's order.
    fn linear_source(&self, op: &Op, operand: NodeId) -> NodeId {
        match (op, self.graph.node(operand).op()) {
            (Op::Linear(_) | Op::LinearW8(_) | Op::QuantizedLinear(_), Some(Op::Flatten(_))) => {
                let source = self.graph.operands(operand)[0];
                if view::image(&self.graph.node(source).shape).is_some() { source } else { operand }
            }
            _ => operand,
        }
    }

    fn operands(&mut self, id: NodeId) -> Vec<View> {
        let wants = self.layouts.signature(id).operands;
        let operands = self.graph.operands(id);
        operands
            .into_iter()
            .zip(wants)
            .map(|(operand, want)| match want {
                Want::Only(layout) => self.get(operand, layout),
                Want::Any => self.any(operand),
            })
            .collect()
    }

    /// The value in whichever layout it has; blocked where it has both.
    fn any(&mut self, id: NodeId) -> View {
        match self.existing(id, self.blocked()) {
            Some(view) => view,
            None => match self.existing(id, Layout::Plain) {
                Some(view) => view,
                None => self.get(id, layout::natural(&self.graph.node(id).shape, self.block)),
            },
        }
    }

    /// The value in that layout, converted first where it only has the other.
    fn get(&mut self, id: NodeId, layout: Layout) -> View {
        if let Some(view) = self.existing(id, layout) {
            return view;
        }
        let other = match layout {
            Layout::Plain => self.blocked(),
            Layout::Blocked { .. } => Layout::Plain,
        };
        let from = match self.existing(id, other) {
            Some(view) => view,
            None => self.renamed(id),
        };
        if let Some(view) = self.as_it_lies(&from, id, layout) {
            self.views.insert((id, layout), view.clone());
            return view;
        }
        let shape = self.shape(id, layout);
        let to = self.buffer(layout, &shape);
        let ns = self.target.core.nanoseconds(shape.elements() as f64);
        self.push(id, vec![from], vec![to.clone()], Algorithm::Convert, ns);
        self.views.insert((id, layout), to.clone());
        to
    }

    /// A view that exists, or that is only another name of one.
    fn existing(&self, id: NodeId, layout: Layout) -> Option<View> {
        // From name to name, of which there may be as many as there are nodes.
        let (mut names, mut value) = (vec![], id);
        let found = loop {
            if let Some(view) = self.views.get(&(value, layout)) {
                break view.clone();
            }
            let source = *self.graph.operands(value).first()?;
            let is_name = match self.graph.node(value).op()? {
                Op::Identity(_) | Op::Dropout(_) => true,
                // Blocks of one pixel are the same as an image's channels or as a vector.
                Op::Flatten(_) if layout.is_blocked() => {
                    let [.., h, w] = view::image(&self.graph.node(source).shape)?;
                    h * w == 1
                }
                Op::Flatten(_) | Op::Reshape(_) => layout == Layout::Plain,
                _ => false,
            };
            if !is_name {
                return None;
            }
            names.push(value);
            value = source;
        };
        Some(names.into_iter().rev().fold(found, |view, name| match self.graph.node(name).op() {
            Some(Op::Identity(_) | Op::Dropout(_)) => view,
            _ if layout.is_blocked() => View { shape: self.shape(name, layout), ..view },
            _ => self.reshaped(view, name),
        }))
    }

    /// The view of a flatten or reshape, whose source is converted to plain memory first.
    fn renamed(&mut self, id: NodeId) -> View {
        let (mut names, mut source) = (vec![id], self.graph.operands(id)[0]);
        // None of them is in plain memory, or this one would be.
        while self.existing(source, self.blocked()).is_none()
            && matches!(
                self.graph.node(source).op(),
                Some(Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) | Op::Dropout(_))
            )
        {
            names.push(source);
            source = self.graph.operands(source)[0];
        }
        let from = self.get(source, Layout::Plain);
        names.into_iter().rev().fold(from, |from, name| {
            let view = self.reshaped(from, name);
            self.views.insert((name, Layout::Plain), view.clone());
            view
        })
    }

    fn reshaped(&self, from: View, id: NodeId) -> View {
        let whole = View::whole(from.place, Layout::Plain, &self.shape(id, Layout::Plain));
        View { offset: from.offset, ..whole }
    }

    /// Memory for a node's value: its slice of a concat, or a buffer of its own.
    fn allocate(&mut self, id: NodeId, layout: Layout) -> View {
        if let Some(view) = self.views.get(&(id, layout)) {
            return view.clone();
        }
        let shape = &self.shape(id, layout);
        if let (Some(&state), Layout::Plain) = (self.states.in_place.get(&id), layout) {
            let view = View::whole(Place::State(state), Layout::Plain, shape);
            self.views.insert((id, layout), view.clone());
            return view;
        }
        let view = match self.placements.in_concat.get(&id).copied() {
            Some((concat, first)) => self.allocate(concat, self.blocked()).channels(first, shape),
            None => self.buffer(layout, shape),
        };
        self.views.insert((id, layout), view.clone());
        view
    }

    fn buffer(&mut self, layout: Layout, shape: &crate::tensor::Shape) -> View {
        let bytes = view::bytes(layout, shape);
        let id = BufferId(self.buffers.len());
        self.buffers.push(Buffer { bytes, first: usize::MAX, last: 0, offset: 0 });
        View::whole(Place::Buffer(id), layout, shape)
    }

    fn push(
        &mut self,
        node: NodeId,
        inputs: Vec<View>,
        outputs: Vec<View>,
        kernel: Algorithm,
        estimate_ns: f64,
    ) -> &mut Step {
        let computes = !matches!(kernel, Algorithm::Convert | Algorithm::Gather(_));
        let parameters = if computes { self.parameters(node) } else { vec![] };
        let index = self.steps.len();
        for view in inputs.iter().chain(&outputs).chain(&parameters) {
            if let Place::Buffer(BufferId(b)) = view.place {
                let buffer = &mut self.buffers[b];
                buffer.first = buffer.first.min(index);
                buffer.last = buffer.last.max(index);
            }
        }
        self.steps.push(Step {
            node,
            inputs,
            parameters,
            outputs,
            temporary: None,
            kernel,
            estimate_ns,
            alternatives: vec![],
            layer: None,
            forced: false,
            notes: vec![],
        });
        &mut self.steps[index]
    }

    fn finish(mut self) -> Plan {
        // A buffer that no step touches belongs to a value that nobody reads.
        self.buffers.iter_mut().filter(|b| b.first == usize::MAX).for_each(|b| {
            b.first = 0;
            b.bytes = 0;
        });
        let (unit, strict) = (self.target.unit, self.options.strict);
        let States { list: states, bytes: state_bytes, .. } = self.states;
        let (steps, buffers) = (self.steps, self.buffers);
        let mut plan = Plan { unit, strict, steps, buffers, states, state_bytes, arena_bytes: 0, arena_lower_bound: 0 };
        plan.pack_arena();
        plan
    }
}

/// The sum over taps that an op is, of an input with the shape of its view.
fn problem_of(op: &Op, input: &Shape, output: &Shape) -> Problem {
    let of_levels = |problem: Problem, zero: i64, weight_bits: usize| {
        let (signed, wide) = (input.element() == Element::I8, weight_bits > 8);
        let arithmetic = Arithmetic::Bytes { signed, zero: zero as i16, wide };
        Problem { arithmetic, ..problem }
    };
    match op {
        Op::Conv2d(c) => Problem::conv(c, input, output),
        Op::Linear(l) => Problem::linear(l, input),
        Op::LinearW8(l) => Problem { arithmetic: Arithmetic::WholeWeights, ..Problem::linear(&l.of_reals, input) },
        Op::ConvTranspose2d(c) => Problem::conv_transpose(c, input, output),
        Op::QuantizedConv2d(c) => {
            let zeros = c.zeros.iter().map(|&zero| zero as i16).collect();
            of_levels(Problem { zeros, ..Problem::conv(&c.of_reals(), input, output) }, c.zero, c.weight_bits)
        }
        Op::QuantizedConvTranspose2d(c) => {
            of_levels(Problem::conv_transpose(&c.of_reals(), input, output), c.zero, c.weight_bits)
        }
        Op::QuantizedLinear(l) => of_levels(Problem::linear(&l.of_reals(), input), l.zero, l.weight_bits),
        _ => unreachable!("called for convolutions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Phase;
    use crate::ops::{ChannelShuffle, Concat, Slice};
    use crate::target::Unit;
    use crate::testing::{GraphBuilder, conv};

    /// Winograd kernels of a 3×3 convolution after `others` 1×1 ones.
    fn kernels(others: usize, options: &Options) -> Vec<String> {
        let mut b = GraphBuilder::new("net", Phase::Infer);
        let mut x = b.input([1, 64, 120, 120]);
        for _ in 0..others {
            x = b.add(conv(64, 1, 1, 0), &[x]);
        }
        let y = b.add(conv(64, 3, 1, 1), &[x]);
        let target = Target { unit: Unit::V512, ..Target::host() };
        let plan = plan(crate::ir::verify(&b.finish(&[y])).unwrap(), &target, options).unwrap();
        plan.steps.iter().map(|s| s.kernel.name()).filter(|n| n.starts_with("winograd")).collect()
    }

    /// ShuffleNet's unit: one step a half, and nothing is converted but the output.
    #[test]
    fn halves_of_shuffled_concats_are_gathered_at_once() {
        let mut b = GraphBuilder::new("unit", Phase::Infer);
        let x = b.input([1, 64, 4, 4]);
        let [left, right] = [(); 2].map(|()| b.add(conv(29, 1, 1, 0), &[x]));
        let whole = b.add(Concat { axis: 1 }, &[left, right]);
        let mixed = b.add(ChannelShuffle { groups: 2 }, &[whole]);
        let [first, second] =
            [(0, 29), (29, 58)].map(|(start, end)| b.add(Slice { axis: 1, start, end, step: 1 }, &[mixed]));
        let y = b.add(conv(32, 1, 1, 0), &[second]);
        let y = b.add(Concat { axis: 1 }, &[y, first]);
        let target = Target { unit: Unit::V512, ..Target::host() };
        let plan = plan(crate::ir::verify(&b.finish(&[y])).unwrap(), &target, &Options::default()).unwrap();
        let names: Vec<String> = plan.steps.iter().map(|s| s.kernel.name()).collect();
        assert_eq!(names, ["direct", "direct", "gather", "gather", "direct", "convert"]);
        let gathered: Vec<(usize, Vec<Channel>)> = plan
            .steps
            .iter()
            .filter_map(|s| match &s.kernel {
                Algorithm::Gather(g) => Some((s.inputs.len(), g.from[..3].to_vec())),
                _ => None,
            })
            .collect();
        let channel = |input, channel| Channel { input, channel };
        let from_left = vec![channel(0, 0), channel(1, 0), channel(0, 1)];
        // Channel 29 of the shuffled value is the second's 14th.
        let from_right = vec![channel(0, 14), channel(1, 15), channel(0, 15)];
        assert_eq!(gathered, [(2, from_left), (2, from_right)]);
    }

    /// As many names of one value as there may be nodes: each was a call within a call.
    #[test]
    fn names_of_names_do_not_fill_the_stack() {
        let mut b = GraphBuilder::new("names", Phase::Infer);
        let x = b.input([1, 16, 4, 4]);
        let mut y = b.add(conv(16, 1, 1, 0), &[x]);
        for i in 0..50_000 {
            let shape = [[0, 16, 4, 4], [0, 4, 8, 8]][i % 2].to_vec();
            y = b.add(crate::ops::Reshape { shape }, &[y]);
        }
        let y = b.add(crate::testing::relu(), &[y]);
        let plan = plan(crate::ir::verify(&b.finish(&[y])).unwrap(), &Target::host(), &Options::default()).unwrap();
        assert!(plan.steps.len() <= 5, "{}", plan.steps.len());
    }

    #[test]
    fn the_largest_tiles_must_be_worth_their_error() {
        assert_eq!(kernels(0, &Options::default()), ["winograd6"]);
        assert_eq!(kernels(30, &Options::default()), ["winograd4"]);
        let forced = Options { algorithms: vec![("*".into(), "winograd6".into())], ..Options::default() };
        assert_eq!(kernels(30, &forced), ["winograd6"]);
    }

    #[test]
    fn algorithms_that_do_nothing_are_told() {
        let force = |pairs: &[(&str, &str)]| Options {
            algorithms: pairs.iter().map(|(label, name)| (label.to_string(), name.to_string())).collect(),
            ..Options::default()
        };
        let mut b = GraphBuilder::new("two", Phase::Infer);
        let x = b.input([1, 16, 8, 8]);
        let x = b.add(conv(16, 3, 1, 1), &[x]);
        let y = b.add(conv(16, 3, 1, 1), &[x]);
        let graph = b.finish(&[y]);
        let made = |options: &Options| plan(crate::ir::verify(&graph).unwrap(), &Target::host(), options);
        let names = |options: &Options| {
            let plan = made(options).unwrap();
            plan.steps[..2].iter().map(|s| s.kernel.name()).collect::<Vec<_>>()
        };
        // What is said of a layer holds, wherever it stands.
        for pairs in [[("n1", "direct"), ("*", "winograd2")], [("*", "winograd2"), ("n1", "direct")]] {
            assert_eq!(names(&force(&pairs)), ["direct", "winograd2"]);
        }
        let unknown = made(&force(&[("*", "gemm")])).unwrap_err().to_string();
        assert_eq!(
            unknown,
            "no algorithm is called gemm; there are direct, winograd2, winograd3, winograd4, winograd6, winograd2-bf16, \
             winograd2c-bf16, winograd3-bf16, winograd4-bf16, winograd4c-bf16, depthwise, grouped"
        );
        let idle = force(&[("*", "depthwise")]);
        assert!(matches!(check_forced(&made(&idle).unwrap(), &idle), Err(PlanError::Unused { .. })));
        let used = force(&[("*", "winograd4")]);
        assert!(check_forced(&made(&used).unwrap(), &used).is_ok());
    }
}
