//! Graphs for tests: built by hand with few words, or at random but valid by construction.
//!
//! Unit tests, integration tests, benches and fuzzers share it; nothing of the compiler uses it. A
//! random graph is a list of numbers, one a step, so that a property test can shrink a failing
//! graph by dropping steps; a seed gives such a list.

pub mod tiny;

use std::path::Path;
use std::sync::Arc;

use crate::artifact::{Destination, Image, Texts, WriteError, Writer};
use crate::codegen;

use crate::ir::{AuxHead, Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::adaptive_avg_pool::AdaptiveAvgPool;
use crate::ops::binary::BinaryKind;
use crate::ops::global_pool::PoolKind;
use crate::ops::lrn::LongerHalf;
use crate::ops::pad::PadMode;
use crate::ops::reduce::ReduceKind;
use crate::ops::upsample::{Coordinates, Interpolation, Rounding, Target};
use crate::ops::*;
use crate::plan;
use crate::runtime::{Model, ModelOptions};
use crate::target::Target as Cpu;
use crate::tensor::{Shape, Tensor};
use crate::weights::SplitMix;

/// Compiles a graph for a CPU that is here, without trying its kernels first.
///
/// # Errors
/// As for compiling.
pub fn compiled(graph: &Graph, cpu: &Cpu, plan: &plan::Options, options: ModelOptions) -> Result<Model, String> {
    let image = codegen::compile(graph, cpu, plan, &Destination::Memory).map_err(|e| e.to_string())?;
    let texts = Texts { sources: vec![], ir: graph.to_string() };
    let preprocess = vec![None; graph.inputs().len()];
    let about = crate::artifact::About { preprocess, ..Default::default() };
    Model::from_image(image, about, texts, options).map_err(|e| e.to_string())
}

/// Writes a model as if it had been compiled for a CPU that nobody has; it has no weights.
///
/// # Errors
/// As for writing a file.
///
/// # Panics
/// Where there is no memory.
pub fn write_foreign(model: &Model, path: &Path) -> Result<(), WriteError> {
    let mut manifest = model.manifest().clone();
    manifest.features.push("avx1024f".into());
    manifest.steps.iter_mut().for_each(|s| s.weights = None);
    let weights = Destination::Memory.region(4096).expect("memory");
    let image = Image { manifest, code: model.code().to_vec(), weights };
    Writer::create(path)?.finish(&image, model.about(), &model.texts().expect("what was written"))
}

/// A convolution with square window and equal padding, one group, with bias.
pub fn conv(channels: usize, kernel: usize, stride: usize, pad: usize) -> Conv2d {
    let (kernel, stride, pad) = ([kernel; 2], [stride; 2], [pad; 4]);
    Conv2d { channels, kernel, stride, pad, dilation: [1; 2], groups: 1, bias: true, epilogue: vec![] }
}

pub fn conv_transpose(channels: usize, kernel: usize, stride: usize, pad: usize) -> ConvTranspose2d {
    let (kernel, stride, pad) = ([kernel; 2], [stride; 2], [pad; 4]);
    let (output_pad, dilation) = ([0; 2], [1; 2]);
    ConvTranspose2d { channels, kernel, stride, pad, output_pad, dilation, groups: 1, bias: true, epilogue: vec![] }
}

pub fn relu() -> Activate {
    Activate { kind: Activation::Relu }
}

pub fn binary(kind: BinaryKind) -> Binary {
    Binary { kind, epilogue: vec![] }
}

/// A tensor of small integers 0, 1, 2, …, the last axis first: sums of them are exact.
pub fn counting(shape: impl Into<Shape>) -> Tensor {
    let shape = shape.into();
    let data = (0..shape.elements()).map(|i| i as f32).collect();
    Tensor::new(shape, data)
}

/// Evaluates one op on values.
///
/// # Errors
/// Where the operands do not fit.
pub fn evaluate(op: impl Into<Op>, inputs: &[&Tensor], weights: &[&Tensor]) -> Result<Tensor, ShapeError> {
    let op = op.into();
    let shapes: Vec<&Shape> = inputs.iter().map(|t| t.shape()).collect();
    let output = op.infer(&shapes)?;
    let declared: Vec<Shape> = op.weights(&shapes).into_iter().map(|w| w.shape).collect();
    assert!(declared.iter().eq(weights.iter().map(|w| w.shape())), "weights are to be {declared:?}");
    Ok(op.evaluate(inputs, weights, &output))
}

/// A graph under construction: declares the weights of each op under labels `n0`, `n1`, ….
pub struct Builder {
    pub graph: Graph,
}

impl Builder {
    pub fn new(name: &str, phase: Phase) -> Self {
        Self { graph: Graph::new(name, phase) }
    }

    pub fn input(&mut self, shape: impl Into<Shape>) -> NodeId {
        let name = format!("x{}", self.graph.inputs().len());
        self.graph.add_input(name, shape.into(), None, None)
    }

    /// Adds an op with new weights.
    ///
    /// # Errors
    /// Where the operands do not fit; the graph is then unchanged.
    pub fn try_add(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> Result<NodeId, ShapeError> {
        let op = op.into();
        let shapes = self.graph.shapes(operands);
        op.infer(&shapes)?;
        let declared = op.weights(&shapes);
        let label = format!("n{}", self.graph.len());
        let declare = |d: WeightDecl| {
            let name = format!("{label}.{}", d.role);
            self.graph.weights.declare(&name, d.shape, d.init, d.learnable).expect("labels are unique")
        };
        let weights = declared.into_iter().map(declare).collect();
        self.graph.add(op, operands, weights, Some(label), None)
    }

    /// # Panics
    /// Where the operands do not fit.
    pub fn add(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> NodeId {
        self.try_add(op, operands).expect("a test's graph fits")
    }

    pub fn finish(mut self, outputs: &[NodeId]) -> Graph {
        for (i, &node) in outputs.iter().enumerate() {
            self.graph.output(format!("y{i}"), node, None);
        }
        self.graph
    }
}

/// Gives every weight values that make its op do something: what is initialised as a constant is
/// moved off it at random, variances staying positive.
pub fn randomize_weights(graph: &mut Graph, seed: u64) {
    for id in graph.order() {
        let Some(op) = graph.node(id).op() else { continue };
        let declared = op.weights(&graph.operand_shapes(id));
        for (decl, weight) in declared.into_iter().zip(graph.weights_read(id)) {
            let Init::Constant(value) = decl.init else { continue };
            let name = graph.weights.get(weight).name.clone();
            let mut random = SplitMix(seed ^ xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
            let values: Vec<f32> = (0..decl.shape.elements()).map(|_| value + random.uniform() - 0.5).collect();
            graph.weights.set(weight, Arc::new(values));
        }
    }
}

/// Normally distributed inputs for a graph.
pub fn random_inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut random = SplitMix(seed);
    let mut fill = |shape: &Shape| Tensor::new(shape.clone(), (0..shape.elements()).map(|_| random.normal()).collect());
    graph.inputs().iter().map(|&i| fill(&graph.node(i).shape)).collect()
}

/// A verified graph with random weights: small images, chains, branches, residuals, joins, odd
/// channel counts, strides beyond kernels, 1×1 images, auxiliary heads, dead code.
pub fn random_graph(seed: u64) -> Graph {
    let mut random = SplitMix(seed);
    let steps = 2 + random.below(14);
    graph_from(&(0..steps).map(|_| random.next()).collect::<Vec<_>>())
}

/// The graph that a list of steps gives; see the module's text. Any list gives a valid graph.
pub fn graph_from(steps: &[u64]) -> Graph {
    let mut random = SplitMix(steps.first().copied().unwrap_or_default());
    let phase = if random.below(4) == 0 { Phase::Train } else { Phase::Infer };
    let mut walk = Walk { builder: Builder::new("random", phase), values: vec![], random };
    walk.start();
    for &step in &steps[steps.len().min(1)..] {
        walk.random = SplitMix(step);
        walk.step();
    }
    walk.finish()
}

/// The op that the call of `op` makes, and the layer that it calls. `None` where no layer makes it.
pub fn remade(op: &Op) -> Option<(&'static str, Op)> {
    let (layer, arguments) = op.call()?;
    let mut args = layer.defaults();
    arguments.into_iter().for_each(|(name, value)| args.set(name, value));
    let remade = (layer.build)(&args).unwrap_or_else(|e| panic!("{}: {}", layer.name, e.message));
    Some((layer.name, remade))
}

/// Values larger than this are not built: random graphs are to be evaluated many times.
const LARGEST: usize = 20_000;

struct Walk {
    builder: Builder,
    /// The last one is where the flow stands.
    values: Vec<NodeId>,
    random: SplitMix,
}

type Step = fn(&mut Walk, NodeId) -> Option<NodeId>;

/// Steps from an image. Frequent patterns stand more than once.
const IMAGE_STEPS: &[Step] = &[
    Walk::conv,
    Walk::conv,
    Walk::pointwise,
    Walk::pointwise,
    Walk::depthwise,
    Walk::conv_norm_act,
    Walk::conv_norm_act,
    Walk::residual,
    Walk::residual,
    Walk::inception,
    Walk::inception,
    Walk::conv_transpose,
    Walk::norm,
    Walk::activate,
    Walk::activate,
    Walk::pool,
    Walk::pool,
    Walk::pool_then_pointwise,
    Walk::global_pool,
    Walk::gate,
    Walk::join,
    Walk::concat,
    Walk::slice,
    Walk::rearrange,
    Walk::resize,
    Walk::nothing,
    Walk::reduce,
    Walk::constant,
    Walk::twice,
    Walk::classify,
];

/// Steps from anything else.
const OTHER_STEPS: &[Step] = &[
    Walk::linear,
    Walk::linear,
    Walk::norm,
    Walk::activate,
    Walk::nothing,
    Walk::join,
    Walk::concat,
    Walk::softmax,
    Walk::matmul,
    Walk::constant,
    Walk::twice,
    Walk::back,
];

impl Walk {
    fn start(&mut self) {
        for _ in 0..1 + usize::from(self.chance(8)) {
            let shape = [self.size(1, 3), self.size(1, 20), self.size(1, 14), self.size(1, 14)];
            let input = self.builder.input(shape);
            self.values.push(input);
        }
    }

    fn step(&mut self) {
        let from = self.pick();
        let image = self.shape(from).rank() == 4;
        let steps = if image { IMAGE_STEPS } else { OTHER_STEPS };
        let step = steps[self.random.below(steps.len())];
        if let Some(value) = step(self, from) {
            self.values.push(value);
        }
    }

    fn finish(mut self) -> Graph {
        let graph = &mut self.builder.graph;
        let last = *self.values.last().expect("there is an input");
        for id in graph.order() {
            let op = graph.node(id).op().is_some();
            let read = !graph.users(id).is_empty();
            // Some unread values stay dead; some that are read are outputs as well.
            let chosen = self.random.below(8) < if read { 1 } else { 6 };
            if id == last || (op && chosen) {
                let name = format!("y{}", graph.outputs().len());
                let aux = (id != last && self.random.below(4) == 0)
                    .then(|| AuxHead { label: format!("aux{}", graph.outputs().len()), weight: 0.3 });
                graph.output(name, id, aux);
            }
        }
        graph.weights.seed = self.random.next();
        randomize_weights(graph, graph.weights.seed);
        self.builder.graph
    }

    fn shape(&self, id: NodeId) -> &Shape {
        &self.builder.graph.node(id).shape
    }

    /// Mostly where the flow stands, at times anywhere.
    fn pick(&mut self) -> NodeId {
        if self.chance(4) { self.any() } else { *self.values.last().expect("never empty") }
    }

    fn any(&mut self) -> NodeId {
        self.values[self.random.below(self.values.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.random.below(one_in) == 0
    }

    fn size(&mut self, least: usize, most: usize) -> usize {
        least + self.random.below(most - least + 1)
    }

    fn pair(&mut self, least: usize, most: usize) -> [usize; 2] {
        let first = self.size(least, most);
        [first, if self.chance(3) { self.size(least, most) } else { first }]
    }

    fn pad(&mut self, most: usize) -> [usize; 4] {
        let first = self.size(0, most);
        if self.chance(4) { [(); 4].map(|()| self.size(0, most)) } else { [first; 4] }
    }

    /// Adds an op, unless its operands do not fit or its result is too large for a test.
    fn add(&mut self, op: impl Into<Op>, operands: &[NodeId]) -> Option<NodeId> {
        let op = op.into();
        let shape = op.infer(&self.builder.graph.shapes(operands)).ok()?;
        if shape.elements() > LARGEST {
            return None;
        }
        self.builder.try_add(op, operands).ok()
    }

    fn conv(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        let groups =
            if self.chance(4) { (1..=c).rev().find(|g| c.is_multiple_of(*g) && *g <= 4).unwrap_or(1) } else { 1 };
        let op = Conv2d {
            channels: groups * self.size(1, 24 / groups),
            kernel: self.pair(1, 5),
            stride: self.pair(1, 3),
            pad: self.pad(2),
            dilation: if self.chance(5) { self.pair(1, 2) } else { [1; 2] },
            groups,
            bias: self.chance(2),
            epilogue: vec![],
        };
        self.add(op, &[x])
    }

    fn pointwise(&mut self, x: NodeId) -> Option<NodeId> {
        let op = Conv2d { bias: self.chance(2), ..conv(self.size(1, 24), 1, 1, 0) };
        self.add(op, &[x])
    }

    fn depthwise(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        let multiplier = self.size(1, 2);
        let op = Conv2d { groups: c, ..conv(c * multiplier, 3, self.size(1, 2), 1) };
        self.add(op, &[x])
    }

    fn conv_norm_act(&mut self, x: NodeId) -> Option<NodeId> {
        let op = Conv2d { bias: self.chance(2), ..conv(self.size(1, 20), 3, self.size(1, 2), 1) };
        let y = self.add(op, &[x])?;
        let y = self.norm(y)?;
        self.activate(y)
    }

    fn residual(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        let squeeze = conv(self.size(1, 8), 1, 1, 0);
        let narrow = self.add(squeeze, &[x])?;
        let narrow = self.add(relu(), &[narrow])?;
        let wide = self.add(Conv2d { bias: false, ..conv(c, 3, 1, 1) }, &[narrow])?;
        let wide = self.add(BatchNorm { eps: 1e-5, affine: true }, &[wide])?;
        let kind = if self.chance(4) { BinaryKind::Mul } else { BinaryKind::Add };
        let operands = if self.chance(2) { [wide, x] } else { [x, wide] };
        let sum = self.add(binary(kind), &operands)?;
        self.add(relu(), &[sum])
    }

    fn inception(&mut self, x: NodeId) -> Option<NodeId> {
        let mut branches = vec![];
        for _ in 0..self.size(2, 3) {
            let (reduce, widen) = (conv(self.size(1, 9), 1, 1, 0), conv(self.size(1, 9), 3, 1, 1));
            let reduced = self.add(reduce, &[x])?;
            let reduced = self.add(relu(), &[reduced])?;
            branches.push(if self.chance(2) { self.add(widen, &[reduced])? } else { reduced });
        }
        if self.chance(2) {
            let op = MaxPool { kernel: [3; 2], stride: [1; 2], pad: [1; 4], dilation: [1; 2], ceil: true };
            branches.push(self.add(op, &[x])?);
        }
        self.add(Concat { axis: 1 }, &branches)
    }

    fn conv_transpose(&mut self, x: NodeId) -> Option<NodeId> {
        let stride = self.pair(1, 3);
        let c = self.shape(x)[1];
        let groups = if self.chance(3) && c.is_multiple_of(2) { 2 } else { 1 };
        let op = ConvTranspose2d {
            channels: groups * self.size(1, 9),
            kernel: self.pair(1, 4),
            stride,
            pad: self.pad(1),
            output_pad: if self.chance(3) { stride.map(|s| s - 1) } else { [0; 2] },
            dilation: if self.chance(5) { [2; 2] } else { [1; 2] },
            groups,
            bias: self.chance(2),
            epilogue: vec![],
        };
        let y = self.add(op, &[x])?;
        if self.chance(2) { self.norm(y) } else { Some(y) }
    }

    fn norm(&mut self, x: NodeId) -> Option<NodeId> {
        let affine = self.chance(2);
        match self.random.below(8) {
            0..3 => self.add(BatchNorm { eps: 1e-3, affine: true }, &[x]),
            3 => {
                let plain = self.add(BatchNorm { eps: 1e-5, affine: false }, &[x])?;
                self.add(ChannelAffine { bias: true, epilogue: vec![] }, &[plain])
            }
            4 => self.add(ChannelAffine { bias: affine, epilogue: vec![] }, &[x]),
            5 => self.add(InstanceNorm { eps: 1e-2, affine }, &[x]),
            6 => self.add(LayerNorm { eps: 1e-2, affine }, &[x]),
            _ => {
                let longer_half = if affine { LongerHalf::Before } else { LongerHalf::After };
                let (size, alpha_over_size) = (self.size(1, 6), self.chance(2));
                self.add(Lrn { size, alpha: 0.1, beta: 0.75, k: 1.0, alpha_over_size, longer_half }, &[x])
            }
        }
    }

    fn activate(&mut self, x: NodeId) -> Option<NodeId> {
        let kind = match self.random.below(24) {
            0..6 => Activation::Relu,
            6 => Activation::LeakyRelu { slope: 0.2 },
            7 => Activation::Elu { alpha: 0.7 },
            8 => Activation::Sigmoid,
            9 => Activation::Tanh,
            10 => Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
            11 => Activation::HardSwish,
            12 => Activation::Silu,
            13 => Activation::Gelu,
            14 => Activation::GeluTanh,
            15 => Activation::Softplus,
            16 => Activation::Clip { min: -1.5, max: 6.0 },
            17 => Activation::Scale { mul: -0.75, add: 0.25 },
            18 => Activation::Abs,
            19 => Activation::Erf,
            20 => return self.of_positive(x, Activation::Log),
            21 => return self.of_positive(x, Activation::Sqrt),
            22 => return self.of_positive(x, Activation::Exp),
            _ => {
                let per_channel = self.chance(2);
                return self.add(PRelu { per_channel }, &[x]);
            }
        };
        self.add(Activate { kind }, &[x])
    }

    /// A function that is not good for all numbers: of |x| + 1/2, of −|x| where it grows fast.
    fn of_positive(&mut self, x: NodeId, kind: Activation) -> Option<NodeId> {
        let grows = kind == Activation::Exp;
        let (mul, add) = if grows { (-1.0, 0.0) } else { (1.0, 0.5) };
        let size = self.add(Activate { kind: Activation::Abs }, &[x])?;
        let moved = self.add(Activate { kind: Activation::Scale { mul, add } }, &[size])?;
        self.add(Activate { kind }, &[moved])
    }

    fn pool(&mut self, x: NodeId) -> Option<NodeId> {
        let kernel = self.pair(1, 3);
        let stride = self.pair(1, 4);
        let pad = if self.chance(2) { [0; 4] } else { [0, 1, 2, 3].map(|i| kernel[i % 2] / 2) };
        let (ceil, count_include_pad) = (self.chance(2), self.chance(2));
        if self.chance(2) {
            let dilation = if self.chance(6) { [2; 2] } else { [1; 2] };
            return self.add(MaxPool { kernel, stride, pad, dilation, ceil }, &[x]);
        }
        self.add(AvgPool { kernel, stride, pad, dilation: [1; 2], ceil, count_include_pad }, &[x])
    }

    /// A linear 1×1 convolution beside an average: what may commute.
    fn pool_then_pointwise(&mut self, x: NodeId) -> Option<NodeId> {
        let (bias, ceil) = (self.chance(2), self.chance(2));
        let pointwise = Conv2d { bias, ..conv(self.size(1, 24), 1, 1, 0) };
        let pad = if self.chance(2) { [0; 4] } else { [1; 4] };
        let count_include_pad = self.chance(2);
        let pool = AvgPool { kernel: [3; 2], stride: [2; 2], pad, dilation: [1; 2], ceil, count_include_pad };
        let pool: Op = if self.chance(2) { GlobalPool { kind: PoolKind::Avg }.into() } else { pool.into() };
        if self.chance(2) {
            let y = self.add(pool, &[x])?;
            self.add(pointwise, &[y])
        } else {
            let y = self.add(pointwise, &[x])?;
            self.add(pool, &[y])
        }
    }

    fn global_pool(&mut self, x: NodeId) -> Option<NodeId> {
        match self.random.below(4) {
            0 => self.add(GlobalPool { kind: PoolKind::Max }, &[x]),
            1 => self.add(GlobalPool { kind: PoolKind::Avg }, &[x]),
            _ => {
                let output = self.pair(1, 5);
                self.add(AdaptiveAvgPool { output }, &[x])
            }
        }
    }

    /// Squeeze and excitation: a broadcast product.
    fn gate(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        let squeezed = self.add(GlobalPool { kind: PoolKind::Avg }, &[x])?;
        let scores = self.add(conv(c, 1, 1, 0), &[squeezed])?;
        let gates = self.add(Activate { kind: Activation::Sigmoid }, &[scores])?;
        self.add(binary(BinaryKind::Mul), &[x, gates])
    }

    /// Any value of a shape that fits.
    fn join(&mut self, x: NodeId) -> Option<NodeId> {
        let shape = self.shape(x).clone();
        let fits: Vec<NodeId> = self.values.iter().copied().filter(|&v| *self.shape(v) == shape).collect();
        let other = *fits.get(self.random.below(fits.len().max(1)))?;
        match self.random.below(8) {
            0 => self.add(binary(BinaryKind::Sub), &[x, other]),
            1 => self.add(binary(BinaryKind::Mul), &[x, other]),
            2 => self.add(binary(BinaryKind::Max), &[x, other]),
            3 => self.add(binary(BinaryKind::Min), &[other, x]),
            4 => {
                // Keeps divisors away from 0.
                let size = self.add(Activate { kind: Activation::Abs }, &[other])?;
                let divisor = self.add(Activate { kind: Activation::Scale { mul: 1.0, add: 1.0 } }, &[size])?;
                self.add(binary(BinaryKind::Div), &[x, divisor])
            }
            _ => self.add(binary(BinaryKind::Add), &[x, other]),
        }
    }

    fn concat(&mut self, x: NodeId) -> Option<NodeId> {
        let others: Vec<NodeId> = (0..self.size(1, 3)).map(|_| self.any()).collect();
        let axis = if self.chance(6) { self.random.below(self.shape(x).rank()) } else { 1 };
        let fits = |&&o: &&NodeId| (Concat { axis }).infer(&[self.shape(x), self.shape(o)]).is_ok();
        let fitting: Vec<NodeId> = others.iter().filter(fits).copied().collect();
        self.add(Concat { axis }, &[&[x][..], &fitting].concat())
    }

    fn slice(&mut self, x: NodeId) -> Option<NodeId> {
        let axis = if self.chance(4) { self.random.below(self.shape(x).rank()) } else { 1 };
        let size = self.shape(x)[axis];
        let start = self.random.below(size);
        let end = self.size(start + 1, size);
        let step = if self.chance(4) { self.size(1, 3) } else { 1 };
        self.add(Slice { axis, start, end, step }, &[x])
    }

    fn rearrange(&mut self, x: NodeId) -> Option<NodeId> {
        let c = self.shape(x)[1];
        match self.random.below(5) {
            0 => self.add(PixelShuffle { factor: 2 }, &[x]),
            1 => self.add(PixelUnshuffle { factor: 2 }, &[x]),
            2 => {
                let groups = (2..=c).find(|g| c.is_multiple_of(*g)).unwrap_or(1);
                self.add(ChannelShuffle { groups }, &[x])
            }
            3 => {
                let perm = [[0, 1, 3, 2], [0, 2, 3, 1], [0, 3, 1, 2]][self.random.below(3)].to_vec();
                self.add(Transpose { perm }, &[x])
            }
            _ => {
                let shape = self.shape(x);
                let shape = vec![0, shape[1] as i64, -1, 1];
                self.add(Reshape { shape }, &[x])
            }
        }
    }

    fn resize(&mut self, x: NodeId) -> Option<NodeId> {
        if self.chance(2) {
            let mode = [PadMode::Constant, PadMode::Reflect, PadMode::Edge][self.random.below(3)];
            let pads = self.pad(2);
            return self.add(Pad { pads, mode, value: -0.5 }, &[x]);
        }
        let to = match self.random.below(3) {
            0 => Target::Scale([2.0; 2]),
            1 => Target::Scale([1.5, 0.7]),
            _ => Target::Size(self.pair(1, 12)),
        };
        use Interpolation::{Bicubic, Bilinear, CatmullRom, Nearest};
        let mode = [Nearest, Nearest, Bilinear, Bilinear, Bicubic, CatmullRom][self.random.below(6)];
        let coordinates =
            [Coordinates::Usual, Coordinates::HalfPixel, Coordinates::Asymmetric, Coordinates::AlignCorners];
        let coordinates = coordinates[self.random.below(4)];
        let rounding = match mode {
            Nearest => [Rounding::Floor, Rounding::Ceil, Rounding::HalfDown, Rounding::HalfUp][self.random.below(4)],
            _ => Rounding::Floor,
        };
        self.add(Upsample { to, mode, coordinates, rounding }, &[x])
    }

    fn nothing(&mut self, x: NodeId) -> Option<NodeId> {
        if self.chance(2) { self.add(Dropout { p: 0.5 }, &[x]) } else { self.add(Identity {}, &[x]) }
    }

    fn reduce(&mut self, x: NodeId) -> Option<NodeId> {
        let kind = [ReduceKind::Mean, ReduceKind::Max, ReduceKind::Sum][self.random.below(3)];
        let axes = [&[2, 3][..], &[1], &[3]][self.random.below(3)].to_vec();
        let keepdims = self.chance(2);
        self.add(Reduce { kind, axes, keepdims }, &[x])
    }

    fn constant(&mut self, x: NodeId) -> Option<NodeId> {
        let mut shape = self.shape(x).dims().to_vec();
        if self.chance(2) {
            shape.iter_mut().enumerate().filter(|(axis, _)| *axis != 1).for_each(|(_, size)| *size = 1);
        }
        let value = self.add(Constant { shape }, &[])?;
        let value = if self.chance(2) { self.add(relu(), &[value])? } else { value };
        let kind = if self.chance(2) { BinaryKind::Add } else { BinaryKind::Mul };
        self.add(binary(kind), &[x, value])
    }

    /// The same operation with the same weights on the same operands, and a join of both.
    fn twice(&mut self, x: NodeId) -> Option<NodeId> {
        let first = if self.shape(x).rank() == 4 { self.pointwise(x)? } else { self.linear(x)? };
        let operands = self.builder.graph.operands(first);
        let name = Some(format!("n{}", self.builder.graph.len()));
        let op = self.builder.graph.node(first).op().cloned()?;
        let weights = self.builder.graph.weights_of(first)?;
        let second = self.builder.graph.add(op, &operands, weights, name, None).ok()?;
        let second = if self.chance(2) { self.add(relu(), &[second])? } else { second };
        self.add(binary(BinaryKind::Add), &[first, second])
    }

    fn classify(&mut self, x: NodeId) -> Option<NodeId> {
        let flat = self.add(Flatten {}, &[x])?;
        if self.chance(3) { Some(flat) } else { self.linear(flat) }
    }

    fn linear(&mut self, x: NodeId) -> Option<NodeId> {
        let (features, bias) = (self.size(1, 20), self.chance(2));
        let y = self.add(Linear { features, bias, epilogue: vec![] }, &[x])?;
        if self.chance(2) { self.activate(y) } else { Some(y) }
    }

    fn softmax(&mut self, x: NodeId) -> Option<NodeId> {
        let (axis, log) = (self.random.below(self.shape(x).rank()), self.chance(2));
        self.add(Softmax { axis, log }, &[x])
    }

    fn matmul(&mut self, x: NodeId) -> Option<NodeId> {
        let rank = self.shape(x).rank();
        let perm = (0..rank.checked_sub(2)?).chain([rank - 1, rank - 2]).collect();
        let turned = self.add(Transpose { perm }, &[x])?;
        self.add(MatMul {}, &[x, turned])
    }

    /// Nothing; the flow goes on from an earlier image.
    fn back(&mut self, _: NodeId) -> Option<NodeId> {
        let images: Vec<NodeId> = self.values.iter().copied().filter(|&v| self.shape(v).rank() == 4).collect();
        Some(images[self.random.below(images.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{interpreter, ir};
    use std::collections::BTreeSet;

    #[test]
    fn random_graphs_are_valid_and_reach_every_op() {
        let mut names = BTreeSet::new();
        for seed in 0..400 {
            let graph = random_graph(seed);
            ir::verify(&graph).unwrap_or_else(|e| panic!("seed {seed}: {e:?}\n{graph}"));
            names.extend(graph.order().into_iter().filter_map(|id| graph.node(id).op().map(Op::name)));
        }
        assert_eq!(names, Op::NAMES.iter().copied().collect());
    }

    /// All words by which ops differ: kinds, modes, activations. New ones are to be built above, too.
    #[test]
    fn random_graphs_reach_every_kind_of_an_op() {
        let mut reached = BTreeSet::new();
        let mut note = |graph: &Graph| {
            for (op, (key, value)) in graph
                .order()
                .into_iter()
                .filter_map(|id| graph.node(id).op())
                .flat_map(|op| op.print_attributes().into_iter().map(move |attribute| (op.name(), attribute)))
            {
                let word = value.split('(').next().unwrap_or_default();
                if word.starts_with(|c: char| c.is_ascii_alphabetic()) {
                    reached.insert(format!("{op} {key}={word}"));
                }
            }
        };
        (0..1500).for_each(|seed| note(&random_graph(seed)));
        let missing = |op: &str, key: &str, words: &[&str]| -> Vec<String> {
            words.iter().map(|w| format!("{op} {key}={w}")).filter(|w| !reached.contains(w)).collect()
        };
        // The layers of the language are the list of all activations; some are others' special cases.
        let same = [("relu6", "clip"), ("swish", "silu"), ("affine", "scale")];
        let name = |layer: &'static str| same.iter().find(|s| s.0 == layer).map_or(layer, |s| s.1);
        let activations: Vec<&str> = Activate::LAYERS.iter().map(|l| name(l.name)).collect();
        let missing = [
            missing("activation", "kind", &activations),
            missing("activation", "kind", &["gelu_tanh"]),
            missing("binary", "kind", &BinaryKind::NAMES),
            missing("reduce", "kind", &ReduceKind::NAMES),
            missing("global_pool", "kind", &PoolKind::NAMES),
            missing("pad", "mode", &PadMode::NAMES[1..]),
            missing("upsample", "mode", &Interpolation::NAMES[1..]),
            missing("upsample", "coordinates", &Coordinates::NAMES[1..]),
            missing("upsample", "rounding", &Rounding::NAMES[1..]),
        ];
        assert_eq!(missing.concat(), Vec::<String>::new());
    }

    #[test]
    fn random_graphs_have_finite_outputs() {
        for seed in 0..60 {
            let graph = random_graph(seed);
            for (output, value) in
                graph.outputs().iter().zip(interpreter::run(&graph, &random_inputs(&graph, seed)).unwrap())
            {
                assert!(value.data().iter().all(|v| v.is_finite()), "seed {seed}, output {}\n{graph}", output.name);
            }
        }
    }
}
