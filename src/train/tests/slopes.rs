//! Gradients beside central differences of what the forward graph computes: they share no code.
//!
//! A loss is the sum of the outputs times random numbers. It is summed in f64 of what the interpreter stores in f32,
//! so that only the rounding of what changes shows.

use std::sync::Arc;

use proptest::prelude::*;

use crate::interpreter;
use crate::ir::{self, Editor, Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::global_pool::PoolKind;
use crate::ops::lrn::LongerHalf;
use crate::ops::pad::PadMode;
use crate::ops::reduce::ReduceKind;
use crate::ops::roi_align::RoiMode;
use crate::ops::training::pointwise_loss::LossKind;
use crate::ops::upsample::{Coordinates, Interpolation, ResizeTo, Rounding};
use crate::ops::*;
use crate::tensor::{Element, Shape, Tensor};
use crate::testing::{GraphBuilder, binary, conv, graph_from, random_graph, random_inputs, randomize_weights};
use crate::train::*;
use crate::weights::{SplitMix, WeightId};

/// A step, and what it is to be run on.
struct Trial {
    step: Step,
    /// What the step computes of the network alone.
    forward: Graph,
    inputs: Vec<Tensor>,
    /// How many of the step's outputs are the network's, and which inputs they are multiplied by in the loss.
    factors: Vec<usize>,
}

/// Numbers a power of two apart, in random order, none of which is a multiple of their distance; and that distance.
/// Moved by a quarter of it, they keep their order and pass no knee that is a multiple of it.
fn scattered(count: usize, seed: u64) -> (Vec<f32>, f32) {
    let spacing = 2f32.powi(2 - (count.max(2) as f32).log2().ceil() as i32).min(0.5);
    let mut random = SplitMix(seed);
    let mut places: Vec<usize> = (0..count).collect();
    (1..count).rev().for_each(|i| places.swap(i, random.below(i + 1)));
    let value = |place: usize| (place as f32 + 0.5 - (count / 2) as f32) * spacing;
    (places.into_iter().map(value).collect(), spacing)
}

impl Trial {
    /// All inputs of f32 and all learnable weights are differentiated.
    fn new(graph: Graph, training_forms: bool, seed: u64) -> Result<Self, String> {
        let wanted: Vec<NodeId> =
            graph.inputs().iter().copied().filter(|&i| graph.node(i).shape.element() == Element::F32).collect();
        let mut graph = graph;
        let outputs: Vec<(String, NodeId)> = graph.outputs().iter().map(|o| (o.name.clone(), o.node)).collect();
        graph.clear_outputs();
        let (mut losses, mut factors) = (vec![], vec![]);
        for (i, (name, node)) in outputs.iter().enumerate() {
            let node = *node;
            graph.output(name.clone(), node, None);
            let shape = graph.node(node).shape.clone();
            factors.push(graph.inputs().len());
            let axes = (0..shape.rank()).collect();
            let factor = graph.add_input(format!("factor{i}"), shape, None, None);
            let mut add = |op: Op, operands: &[NodeId]| graph.add(op, operands, vec![], None, None).unwrap();
            let product = add(binary(BinaryKind::Mul).into(), &[node, factor]);
            let sum = add(Reduce { kind: ReduceKind::Sum, axes, keepdims: false }.into(), &[product]);
            losses.push(Loss { node: sum, weight: 1.0, auxiliary: false });
        }
        let dropout = training_forms;
        let options = Options { inputs: wanted, batch_statistics: training_forms, dropout, ..Options::default() };
        let step = differentiate(graph, &losses, &options).map_err(|e| format!("{e:?}"))?;
        ir::verify(&step.graph).unwrap_or_else(|e| panic!("{e:?}\n{}", step.graph));
        let mut forward = step.graph.clone();
        let is_own = |name: &str| outputs.iter().any(|(own, _)| own == name);
        Editor::new(&mut forward, "test").remove_outputs(|output| !is_own(&output.name));
        let mut inputs = random_inputs(&step.graph, seed);
        for (tensor, &input) in inputs.iter_mut().zip(step.graph.inputs()) {
            let shape = step.graph.node(input).shape.clone();
            if shape.element() != Element::F32 {
                *tensor = Tensor::from_values(shape.clone(), (0..shape.elements()).map(|i| (i % 3) as f64));
            }
        }
        Ok(Self { step, forward, inputs, factors })
    }

    /// What the loss is the sum of.
    fn terms(&self) -> impl Iterator<Item = f64> {
        let outputs = interpreter::run(&self.forward, &self.inputs).unwrap();
        let term = |(y, &factor): (Tensor, &usize)| {
            y.values().zip(self.inputs[factor].values()).map(|(y, factor)| y * factor).collect::<Vec<f64>>()
        };
        outputs.into_iter().zip(&self.factors).flat_map(term).collect::<Vec<f64>>().into_iter()
    }

    fn loss(&self) -> f64 {
        self.terms().sum()
    }

    fn output(&self, name: &str) -> Tensor {
        let outputs = interpreter::run(&self.step.graph, &self.inputs).unwrap();
        let at = self.step.graph.outputs().iter().position(|o| o.name == name);
        outputs[at.unwrap_or_else(|| panic!("no output {name} in\n{}", self.step.graph))].clone()
    }

    /// What is differentiated: inputs, then weights, by name.
    fn variables(&self) -> Vec<(String, Variable)> {
        let graph = &self.step.graph;
        let name = |id: NodeId| graph.node(id).name.clone().unwrap();
        let place = |id: NodeId| graph.inputs().iter().position(|&i| i == id).unwrap();
        let inputs = self.step.input_gradients.iter().map(|&(id, _)| (name(id), Variable::Input(place(id))));
        let weights = self.step.gradients.iter();
        inputs.chain(weights.map(|&(id, _)| (graph.weights.get(id).name.clone(), Variable::Weight(id)))).collect()
    }

    fn get(&self, variable: Variable) -> Vec<f32> {
        match variable {
            Variable::Input(index) => self.inputs[index].data().to_vec(),
            Variable::Weight(id) => (*self.step.graph.weights.values(id)).as_ref().to_vec(),
        }
    }

    fn set(&mut self, variable: Variable, values: Vec<f32>) {
        match variable {
            Variable::Input(index) => self.inputs[index].data_mut().copy_from_slice(&values),
            Variable::Weight(id) => {
                let values = Arc::new(values);
                self.forward.weights.set(id, values.clone());
                self.step.graph.weights.set(id, values);
            }
        }
    }

    /// The slope along a direction, by four points around.
    fn slope(&mut self, variable: Variable, direction: &[f32], by: f32) -> f64 {
        let values = self.get(variable);
        let mut at = |steps: f32| {
            let moved = values.iter().zip(direction).map(|(v, d)| v + d * steps * by).collect();
            self.set(variable, moved);
            self.loss()
        };
        let (near, far) = (at(1.0) - at(-1.0), at(2.0) - at(-2.0));
        self.set(variable, values);
        (8.0 * near - far) / (12.0 * f64::from(by))
    }
}

#[derive(Clone, Copy, Debug)]
enum Variable {
    Input(usize),
    Weight(WeightId),
}

/// Compares every element of every gradient of one op, or of what `build` makes of inputs of those shapes.
fn check(what: &str, shapes: &[&[usize]], build: impl FnOnce(&mut GraphBuilder, &[NodeId]) -> NodeId) -> usize {
    check_moved(what, shapes, 0.0, build)
}

/// As [`check`], with all inputs moved by a number.
fn check_moved(
    what: &str,
    shapes: &[&[usize]],
    offset: f32,
    build: impl FnOnce(&mut GraphBuilder, &[NodeId]) -> NodeId,
) -> usize {
    check_forms(what, shapes, offset, true, build)
}

/// As [`check_moved`], with batch statistics and dropout, or without.
fn check_forms(
    what: &str,
    shapes: &[&[usize]],
    offset: f32,
    training_forms: bool,
    build: impl FnOnce(&mut GraphBuilder, &[NodeId]) -> NodeId,
) -> usize {
    let mut b = GraphBuilder::new("g", Phase::Train);
    let inputs: Vec<NodeId> = shapes.iter().map(|&dims| b.input(Shape::new(dims))).collect();
    let y = build(&mut b, &inputs);
    let mut graph = b.finish(&[y]);
    randomize_weights(&mut graph, 5);
    let mut trial = Trial::new(graph, training_forms, 7).unwrap_or_else(|e| panic!("{what}: {e}"));
    // Numbers of several inputs are apart, too.
    let mut all = scattered(shapes.iter().map(|dims| dims.iter().product::<usize>()).sum(), 11);
    all.0.iter_mut().for_each(|v| *v += offset);
    for (input, dims) in shapes.iter().enumerate() {
        let rest = all.0.split_off(dims.iter().product());
        trial.set(Variable::Input(input), std::mem::replace(&mut all.0, rest));
    }
    let by = (all.1 / 8.0).min(1.0 / 64.0);
    let mut compared = 0;
    for (name, variable) in trial.variables() {
        let gradient = trial.output(&format!("gradient.{name}"));
        let count = gradient.len();
        let slopes = (0..count).map(|i| {
            let direction: Vec<f32> = (0..count).map(|j| f32::from(u8::from(i == j))).collect();
            trial.slope(variable, &direction, by)
        });
        let slopes: Vec<f64> = slopes.collect();
        let scale = slopes.iter().fold(0.1, |a: f64, v| a.max(v.abs()));
        for (i, (found, expected)) in gradient.values().zip(&slopes).enumerate() {
            assert!(
                // What changes is rounded to f32 before and after.
                (found - expected).abs() <= 2e-4 * scale + 1e-6 / f64::from(by),
                "{what}: gradient of {name} at {i} is {found}, the slope {expected}\n{}",
                trial.step.graph
            );
        }
        compared += count;
    }
    compared
}

fn check_op(op: impl Into<Op>, shapes: &[&[usize]]) {
    let op = op.into();
    let what = format!("{} {:?} of {shapes:?}", op.name(), op.print_attributes());
    let compared = check(&what, shapes, |b, inputs| b.add(op, inputs));
    assert!(compared >= shapes.iter().map(|dims| dims.iter().product::<usize>()).sum(), "{what}: {compared}");
}

fn conv_transpose(stride: [usize; 2], pad: [usize; 4], output_pad: [usize; 2], groups: usize) -> ConvTranspose2d {
    let (kernel, dilation) = ([3, 2], [1, 2]);
    ConvTranspose2d { channels: 4, kernel, stride, pad, output_pad, dilation, groups, bias: true, epilogue: vec![] }
}

#[test]
fn convolutions() {
    check_op(conv(3, 3, 1, 1), &[&[2, 2, 4, 5]]);
    check_op(Conv2d { pad: [2, 0, 1, 3], stride: [3, 2], dilation: [1, 2], ..conv(2, 3, 1, 0) }, &[&[1, 2, 6, 7]]);
    check_op(Conv2d { groups: 2, bias: false, kernel: [1, 2], ..conv(4, 1, 2, 0) }, &[&[2, 4, 3, 4]]);
    check_op(Conv2d { groups: 4, ..conv(4, 3, 2, 1) }, &[&[1, 4, 5, 4]]);
    // Strides beyond the kernel.
    check_op(conv(2, 1, 3, 0), &[&[1, 2, 6, 5]]);
}

#[test]
fn transposed_convolutions() {
    check_op(conv_transpose([2, 1], [1, 0, 0, 1], [1, 0], 1), &[&[2, 2, 3, 3]]);
    check_op(conv_transpose([1, 3], [0; 4], [0, 2], 2), &[&[1, 2, 3, 2]]);
    // An output_pad beyond the stride.
    let beyond = ConvTranspose2d { bias: false, dilation: [3, 3], ..conv_transpose([1, 2], [1; 4], [2, 2], 1) };
    check_op(beyond, &[&[1, 2, 2, 3]]);
}

#[test]
fn what_is_repeated_for_each_image() {
    // Of the other value only the number of images is read.
    let compared = |shapes: &[&[usize]]| check("expand_images", shapes, |b, inputs| b.add(ExpandImages {}, inputs));
    assert_eq!([compared(&[&[1, 2, 3], &[4, 2]]), compared(&[&[1, 3], &[1, 2]])], [6, 3]);
}

#[test]
fn products_of_matrices() {
    check_op(Linear { features: 3, bias: true, epilogue: vec![] }, &[&[2, 5]]);
    check_op(Linear { features: 2, bias: false, epilogue: vec![] }, &[&[1, 3]]);
    check_op(MatMul {}, &[&[3, 4], &[4, 2]]);
    check_op(MatMul {}, &[&[2, 1, 3, 2], &[3, 2, 2]]);
}

#[test]
fn functions_of_elements() {
    // Others have the slope 0 wherever they have one.
    for &kind in Activation::EACH.iter().filter(|kind| kind.is_continuous()) {
        // Roots and logarithms are of positive numbers.
        let offset = if matches!(kind, Activation::Log | Activation::Sqrt | Activation::Acosh) { 4.0 } else { 0.0 };
        let what = format!("{kind:?}");
        check_moved(&what, &[&[2, 3, 2]], offset, |b, x| {
            let x = match kind {
                Activation::Asin | Activation::Acos | Activation::Atanh => {
                    let bounded = b.add(Activate { kind: Activation::Tanh }, x);
                    b.add(Activate { kind: Activation::Scale { mul: 0.75, add: 0.0 } }, &[bounded])
                }
                _ => x[0],
            };
            b.add(Activate { kind }, &[x])
        });
    }
    for per_channel in [true, false] {
        check_op(PRelu { per_channel }, &[&[2, 3, 2, 2]]);
    }
}

#[test]
fn functions_of_two_values() {
    for kind in [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Max, BinaryKind::Min] {
        check_op(binary(kind), &[&[2, 3], &[2, 3]]);
        check_op(binary(kind), &[&[2, 3, 2], &[3, 1]]);
        check_op(binary(kind), &[&[1], &[2, 2, 2]]);
    }
    let divide = |b: &mut GraphBuilder, x: &[NodeId]| b.add(binary(BinaryKind::Div), x);
    check_moved("div", &[&[2, 3], &[3]], 4.0, divide);
    check_moved("div", &[&[3, 1], &[1, 2]], 4.0, divide);
    check_moved("pow", &[&[2, 3], &[3]], 2.0, |b, x| b.add(binary(BinaryKind::Pow), x));
    // Both operands are the same value.
    check("square", &[&[2, 3]], |b, x| b.add(binary(BinaryKind::Mul), &[x[0], x[0]]));
}

#[test]
fn pools() {
    for (ceil, dilation) in [(false, [1; 2]), (true, [1; 2]), (false, [2, 1])] {
        let (kernel, stride, pad) = ([3, 2], [2, 1], [1, 1, 1, 0]);
        check_op(MaxPool { kernel, stride, pad, dilation, ceil }, &[&[1, 2, 5, 6]]);
        for count_include_pad in [false, true] {
            check_op(AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad }, &[&[1, 2, 5, 6]]);
        }
    }
    check_op(GlobalPool { kind: PoolKind::Avg }, &[&[2, 2, 3, 2]]);
    check_op(GlobalPool { kind: PoolKind::Max }, &[&[2, 2, 3, 2]]);
    check_op(AdaptiveAvgPool { output: [3, 2] }, &[&[1, 2, 5, 4]]);
    check_op(AdaptiveAvgPool { output: [3, 4] }, &[&[1, 1, 2, 3]]);
}

#[test]
fn normalisations() {
    for affine in [true, false] {
        check_op(BatchNorm { eps: 0.1, affine }, &[&[2, 2, 2, 3]]);
        check_op(BatchNorm { eps: 0.1, affine }, &[&[4, 3]]);
        let constant = |b: &mut GraphBuilder, x: &[NodeId]| b.add(BatchNorm { eps: 0.1, affine }, x);
        check_forms("batch norm at inference", &[&[1, 2, 2, 3]], 0.0, false, constant);
        check_op(LayerNorm { eps: 0.1, affine, sizes: vec![] }, &[&[2, 4, 2, 1]]);
        check_op(LayerNorm { eps: 0.1, affine, sizes: vec![] }, &[&[2, 5]]);
        check_op(InstanceNorm { eps: 0.1, affine }, &[&[2, 2, 3, 2]]);
        check_op(ChannelAffine { bias: affine, epilogue: vec![] }, &[&[2, 3, 2, 2]]);
    }
    for (size, longer_half, alpha_over_size) in
        [(3, LongerHalf::Before, true), (2, LongerHalf::After, false), (4, LongerHalf::Before, false)]
    {
        check_op(Lrn { size, alpha: 0.5, beta: 0.75, k: 1.5, alpha_over_size, longer_half }, &[&[2, 5, 2, 1]]);
    }
    for (axis, log) in [(1, false), (2, false), (1, true)] {
        check_op(Softmax { axis, log }, &[&[2, 3, 2]]);
    }
}

#[test]
fn what_moves_elements() {
    check_op(Flatten {}, &[&[2, 3, 2]]);
    check_op(Reshape { shape: vec![0, -1, 2] }, &[&[2, 3, 4]]);
    check_op(Transpose { perm: vec![2, 0, 1] }, &[&[2, 3, 4]]);
    check_op(ChannelShuffle { groups: 2 }, &[&[1, 6, 2]]);
    check_op(PixelShuffle { factor: 2 }, &[&[1, 8, 2, 1]]);
    check_op(PixelUnshuffle { factor: 2 }, &[&[1, 2, 2, 4]]);
    check_op(Identity {}, &[&[2, 3]]);
    check_op(Concat { axis: 1 }, &[&[2, 1, 2], &[2, 3, 2], &[2, 2, 2]]);
    check_op(Slice { axis: 1, start: 1, end: 6, step: 2 }, &[&[2, 7, 2]]);
    check_op(Slice { axis: 0, start: 1, end: 2, step: 1 }, &[&[3, 2]]);
    for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge] {
        check_op(Pad { pads: [1, 2, 0, 1], mode, value: 0.5 }, &[&[1, 2, 3, 3]]);
    }
    check_op(Expand { shape: vec![2, 3, 4] }, &[&[3, 1]]);
    check_op(SliceGradient { axis: 1, start: 1, step: 2, size: 7 }, &[&[2, 3]]);
    for kind in [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max] {
        for keepdims in [true, false] {
            check_op(Reduce { kind, axes: vec![2, 0], keepdims }, &[&[2, 3, 4]]);
        }
    }
}

#[test]
fn resizing() {
    use Interpolation::{Bicubic, Bilinear, CatmullRom, Nearest};
    for mode in [Nearest, Bilinear, Bicubic, CatmullRom] {
        for to in [ResizeTo::Scale([2.0; 2]), ResizeTo::Scale([1.5, 0.7]), ResizeTo::Size([2, 5])] {
            for coordinates in [Coordinates::Usual, Coordinates::Asymmetric] {
                check_op(Upsample { to, mode, coordinates, rounding: Rounding::Floor }, &[&[1, 2, 3, 4]]);
            }
        }
    }
}

#[test]
fn losses() {
    for kind in [LossKind::Bce, LossKind::Mse, LossKind::L1, LossKind::SmoothL1, LossKind::Wasserstein] {
        check_op(PointwiseLoss { kind, beta: 0.5 }, &[&[2, 3], &[2, 3]]);
    }
    // Margins that are nowhere near the knee.
    check("hinge", &[&[2, 4]], |b, x| {
        let target = b.add(Activate { kind: Activation::Scale { mul: 0.0, add: -1.0 } }, x);
        b.add(PointwiseLoss { kind: LossKind::Hinge, beta: 1.0 }, &[x[0], target])
    });
    for smoothing in [0.0, 0.2] {
        check("cross entropy", &[&[4, 3]], |b, x| {
            let labels = b.graph.add_input("labels", Shape::of(Element::I64, [4]), None, None);
            b.add(CrossEntropy { smoothing, ignored: -100 }, &[x[0], labels])
        });
        // Labels 0, 1, 2, 0, … of pixels, of which 1 is ignored.
        check("cross entropy a pixel", &[&[2, 3, 2, 2]], |b, x| {
            let labels = b.graph.add_input("labels", Shape::of(Element::I32, [2, 2, 2]), None, None);
            b.add(CrossEntropy { smoothing, ignored: 1 }, &[x[0], labels])
        });
    }
}

#[test]
fn networks() {
    // A residual block with batch statistics, a shared weight, dropout and two readers of most values.
    let compared = check("block", &[&[3, 2, 4, 4]], |b, x| {
        let stem = b.add(conv(3, 3, 1, 1), x);
        let normal = b.add(BatchNorm { eps: 0.1, affine: true }, &[stem]);
        let positive = b.add(Activate { kind: Activation::Softplus }, &[normal]);
        let shared = b.graph.weights_of(stem).unwrap();
        let again = b.graph.add(conv(3, 3, 1, 1), x, shared, None, None).unwrap();
        let sum = b.add(binary(BinaryKind::Add), &[positive, again]);
        let joined = b.add(Concat { axis: 1 }, &[sum, positive]);
        let dropped = b.add(Dropout { p: 0.4 }, &[joined]);
        let pooled = b.add(GlobalPool { kind: PoolKind::Avg }, &[dropped]);
        let flat = b.add(Flatten {}, &[pooled]);
        b.add(Linear { features: 3, bias: true, epilogue: vec![] }, &[flat])
    });
    assert_eq!(compared, 96 + 54 + 3 + 6 + 18 + 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_of_any_geometry(
        kernel in prop::array::uniform2(1usize..4), stride in prop::array::uniform2(1usize..4),
        dilation in prop::array::uniform2(1usize..3), pad in prop::array::uniform4(0usize..3),
        size in prop::array::uniform2(1usize..6), output_pad in prop::array::uniform2(0usize..3),
        groups in 1usize..3, bias: bool,
    ) {
        let x: &[usize] = &[1, 2 * groups, size[0], size[1]];
        let channels = groups;
        let conv = Conv2d { channels, kernel, stride, pad, dilation, groups, bias, epilogue: vec![] };
        if conv.infer(&[&Shape::new(x)]).is_ok() {
            check_op(conv, &[x]);
        }
        let transposed =
            ConvTranspose2d { channels, kernel, stride, pad, output_pad, dilation, groups, bias, epilogue: vec![] };
        if transposed.infer(&[&Shape::new(x)]).is_ok() {
            check_op(transposed, &[x]);
        }
    }

    #[test]
    fn pools_of_any_geometry(
        kernel in prop::array::uniform2(1usize..4), stride in prop::array::uniform2(1usize..4),
        dilation in prop::array::uniform2(1usize..3), pad in prop::array::uniform4(0usize..3),
        size in prop::array::uniform2(1usize..7), ceil: bool, count_include_pad: bool,
    ) {
        let x: &[usize] = &[1, 1, size[0], size[1]];
        let pool = MaxPool { kernel, stride, pad, dilation, ceil };
        if pool.infer(&[&Shape::new(x)]).is_ok() {
            check_op(pool, &[x]);
            check_op(AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad }, &[x]);
        }
    }
}

impl Trial {
    /// Whether a gradient agrees with the slope along a random direction.
    fn agrees(&mut self, name: &str, variable: Variable, seed: u64) -> bool {
        let gradient = self.output(&format!("gradient.{name}"));
        let mut random = SplitMix(seed);
        let direction: Vec<f32> = (0..gradient.len()).map(|_| random.normal()).collect();
        let expected: f64 = gradient.values().zip(&direction).map(|(g, &d)| g * f64::from(d)).sum();
        let size = gradient.values().map(|g| g * g).sum::<f64>().sqrt();
        // The loss is rounded by about this, as its terms are.
        let rounding = 2e-7 * self.terms().map(|term| term * term).sum::<f64>().sqrt();
        [10, 12, 13].into_iter().any(|bits| {
            let by = 2f32.powi(-bits);
            (self.slope(variable, &direction, by) - expected).abs() <= 0.01 * size + rounding / f64::from(by)
        })
    }
}

/// Compares all gradients of a random graph, and tells how many they are. `None` where it cannot be differentiated.
///
/// A knee that is nearer than any step makes the slope another one, so that each gradient may be tried with other
/// inputs.
fn check_graph(graph: &Graph, training_forms: bool, seed: u64) -> Option<usize> {
    let trial = |attempt: u64| Trial::new(graph.clone(), training_forms, seed ^ attempt << 32);
    let mut first = trial(0).ok()?;
    let variables = first.variables();
    for (name, variable) in &variables {
        let agrees = first.agrees(name, *variable, seed)
            || (1..4).any(|attempt| trial(attempt).is_ok_and(|mut trial| trial.agrees(name, *variable, attempt)));
        assert!(agrees, "seed {seed}: the gradient of {name} is no slope\n{}", first.step.graph);
    }
    Some(variables.len())
}

#[test]
fn random_graphs() {
    let counts: Vec<usize> = (0..20).filter_map(|seed| check_graph(&random_graph(seed), seed % 2 == 0, seed)).collect();
    assert!(counts.len() > 15 && counts.iter().sum::<usize>() > 100, "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn graphs_of_any_steps(steps in prop::collection::vec(any::<u64>(), 2..8)) {
        check_graph(&graph_from(&steps), false, steps[0]);
    }
}

/// What is taken by index gets its slope back where it came from, several times where it was taken so.
#[test]
fn choices_and_indices() {
    use crate::ops::indices::Reduction;
    use crate::ops::training::fill::Fill;
    let all = |b: &mut GraphBuilder, dims: &[usize], value: f32| b.add(Fill { shape: dims.to_vec(), value }, &[]);
    for yes in [0.0, 1.0] {
        check("where", &[&[2, 3], &[1, 3]], |b, x| {
            let condition = all(b, &[2, 1], yes);
            b.add(Where {}, &[condition, x[0], x[1]])
        });
    }
    check("gather", &[&[2, 3, 4]], |b, x| {
        let indices = all(b, &[2, 2], 1.0);
        b.add(Gather { axis: 1 }, &[x[0], indices])
    });
    check("gather_elements", &[&[2, 3]], |b, x| {
        let indices = all(b, &[2, 2], 2.0);
        b.add(GatherElements { axis: 1 }, &[x[0], indices])
    });
    check("regions", &[&[2, 3, 4, 5]], |b, x| {
        // Of the second image, from (1, 1) on.
        let boxes = all(b, &[2, 5], 1.0);
        b.add(RoiAlign { size: [2, 3], scale: 1.0, samples: 0, aligned: false, mode: RoiMode::Avg }, &[x[0], boxes])
    });
    check("gather_nd", &[&[2, 3, 2]], |b, x| {
        let indices = all(b, &[3, 2], 1.0);
        b.add(GatherNd { batch_dims: 0 }, &[x[0], indices])
    });
    check("scatter_elements", &[&[2, 3], &[2, 2]], |b, x| {
        let indices = all(b, &[2, 2], 1.0);
        b.add(ScatterElements { axis: 1, reduction: Reduction::Add }, &[x[0], indices, x[1]])
    });
    check("scatter_nd", &[&[3, 2], &[2, 2]], |b, x| {
        let indices = all(b, &[2, 1], 1.0);
        b.add(ScatterNd { reduction: Reduction::Add }, &[x[0], indices, x[1]])
    });
    check_op(IndexSelect { axis: 1, indices: vec![2, 0, 2] }, &[&[2, 3, 2]]);
    for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
        check_op(CumSum { axis: 1, exclusive, reverse }, &[&[2, 3, 2]]);
    }
}
