//! Every kernel that the planner may choose, on every vector unit, against the interpreter.

mod bf16;
mod composed;
mod levels;
mod special;
mod states;
mod training;

use std::collections::BTreeMap;

use crate::codegen::testing::{check, model, targets};
use crate::interpreter;
use crate::ir::{Graph, NodeId, Phase};
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::ops::{Conv2d, ConvTranspose2d, Flatten, Linear, Op};
use crate::plan::{Algorithm, Layer, Options, plan};
use crate::target::Target;
use crate::tensor::Tensor;
use crate::testing::{GraphBuilder, conv, conv_transpose, random_inputs, randomize_weights};

/// Relative to the largest value. Winograd's errors are larger than those of plain sums.
fn tolerance(kernel: &Algorithm) -> f32 {
    if matches!(kernel, Algorithm::Winograd(_)) { 1e-4 } else { 1e-5 }
}

/// A layer behind a 1×1 convolution, so that it reads blocks of channels.
fn behind(batch: usize, channels: usize, size: [usize; 2], op: impl Into<Op>) -> Graph {
    let mut b = GraphBuilder::new("behind", Phase::Infer);
    let x = b.input([batch, 3, size[0], size[1]]);
    let x = b.add(conv(channels, 1, 1, 0), &[x]);
    let y = b.add(op, &[x]);
    b.finish(&[y])
}

/// The same with a residual operand and activations.
fn fused(batch: usize, channels: usize, size: [usize; 2], op: Conv2d) -> Graph {
    let mut b = GraphBuilder::new("fused", Phase::Infer);
    let x = b.input([batch, 3, size[0], size[1]]);
    let x = b.add(conv(channels, 1, 1, 0), &[x]);
    let other = b.add(op.clone(), &[x]);
    let epilogue = vec![PostOp::Add, PostOp::Activate(Activation::Relu)];
    let y = b.add(Conv2d { epilogue, ..op }, &[x, other]);
    b.finish(&[y])
}

fn linear(batch: usize, channels: usize, size: [usize; 2], features: usize) -> Graph {
    let mut b = GraphBuilder::new("linear", Phase::Infer);
    let x = b.input([batch, 3, size[0], size[1]]);
    let x = b.add(conv(channels, 1, 1, 0), &[x]);
    let x = b.add(Flatten {}, &[x]);
    let y = b.add(Linear { features, bias: true, epilogue: vec![] }, &[x]);
    b.finish(&[y])
}

/// A graph's last layer, on one target.
struct Contest<'a> {
    graph: &'a Graph,
    target: &'a Target,
    node: NodeId,
    layer: Layer,
    inputs: Vec<Tensor>,
    expected: &'a [Tensor],
}

impl Contest<'_> {
    /// All kernels that fit: by `one_each`, the best tile of each algorithm only.
    fn kernels(&self, one_each: bool) -> Vec<Algorithm> {
        let mut kernels = self.layer.kernels(self.target);
        kernels.sort_by(|a, b| a.1.total_cmp(&b.1));
        let mut seen = std::collections::HashSet::new();
        kernels.into_iter().map(|(k, _)| k).filter(|k| !one_each || seen.insert(k.name())).collect()
    }

    fn holds(&self, kernel: &Algorithm, threads: usize) {
        let mut options = Options::default();
        let times = BTreeMap::from([(kernel.describe(), 0.0)]);
        options.findings.measured = BTreeMap::from([(self.layer.key.clone(), times)]);
        let step = plan(crate::ir::verify(self.graph).unwrap(), self.target, &options)
            .unwrap()
            .steps
            .into_iter()
            .find(|s| s.node == self.node);
        assert_eq!(step.unwrap().kernel, *kernel);
        let got = model(self.graph, self.target, &options, threads).run_tensors(&self.inputs).unwrap();
        for (got, expected) in got.iter().zip(self.expected) {
            let (worst, scale) = got.difference(expected);
            assert!(
                worst <= tolerance(kernel) * scale.max(1e-3),
                "{} lanes, {threads} threads, {}: {} differs by {worst} of {scale}",
                self.target.unit.lanes,
                self.layer.key,
                kernel.describe(),
            );
        }
    }
}

/// Runs `check` with the graph's last layer on every target.
fn on_every_unit(mut graph: Graph, check: impl Fn(&Contest)) {
    randomize_weights(&mut graph, 7);
    let inputs = random_inputs(&graph, 11);
    let expected = interpreter::run(&graph, &inputs).unwrap();
    for target in &targets() {
        let node = graph.outputs()[0].node;
        let steps = plan(crate::ir::verify(&graph).unwrap(), target, &Options::default()).unwrap().steps;
        let layer = steps.into_iter().find(|s| s.node == node).and_then(|s| s.layer).unwrap();
        let (graph, inputs, expected) = (&graph, inputs.clone(), expected.as_slice());
        check(&Contest { graph, target, node, layer, inputs, expected });
    }
}

/// Every algorithm that fits, with one thread, two and three.
fn every_algorithm(graph: Graph) {
    on_every_unit(graph, |contest| {
        for kernel in contest.kernels(true) {
            [1, 2, 3].into_iter().for_each(|threads| contest.holds(&kernel, threads));
        }
    });
}

/// Every tile of every algorithm.
fn every_tile(graph: Graph) {
    on_every_unit(graph, |contest| contest.kernels(false).iter().for_each(|kernel| contest.holds(kernel, 1)));
}

#[test]
fn square_kernels() {
    for kernel in [3, 5] {
        every_algorithm(behind(1, 16, [8, 8], conv(16, kernel, 1, kernel / 2)));
        every_algorithm(behind(2, 35, [13, 7], conv(37, kernel, 1, kernel / 2)));
        every_algorithm(behind(3, 20, [11, 6], conv(33, kernel, 1, 0)));
        every_algorithm(fused(2, 19, [7, 9], conv(40, kernel, 1, kernel / 2)));
        every_algorithm(behind(1, 5, [kernel; 2], conv(7, kernel, 1, 0)));
    }
}

#[test]
fn strides_dilations_and_odd_windows() {
    every_algorithm(behind(2, 20, [15, 13], conv(33, 3, 2, 1)));
    every_algorithm(behind(1, 19, [9, 9], conv(16, 1, 2, 0)));
    every_algorithm(behind(1, 7, [9, 4], conv(10, 5, 3, 4)));
    every_algorithm(behind(2, 24, [8, 9], Conv2d { dilation: [2, 3], pad: [2, 3, 4, 1], ..conv(18, 3, 1, 0) }));
    every_algorithm(behind(1, 20, [9, 10], Conv2d { kernel: [1, 7], pad: [0, 3, 0, 3], ..conv(33, 1, 1, 0) }));
    every_algorithm(behind(1, 20, [9, 10], Conv2d { kernel: [4, 2], ..conv(33, 1, 1, 0) }));
}

#[test]
fn groups() {
    for (channels, out, groups) in [(32, 64, 2), (48, 96, 3), (24, 40, 4), (12, 12, 3), (16, 32, 16)] {
        every_algorithm(behind(2, channels, [7, 6], Conv2d { groups, ..conv(out, 3, 1, 1) }));
    }
    for (channels, out, groups) in [(32, 64, 2), (96, 48, 3), (64, 64, 4)] {
        every_algorithm(fused(1, channels, [9, 7], Conv2d { groups, ..conv(out, 3, 1, 1) }));
    }
    for (channels, group, stride) in [(36, 4, 1), (24, 2, 2), (56, 8, 1)] {
        every_algorithm(fused(
            2,
            channels,
            [7, 9],
            Conv2d { groups: channels / group, ..conv(channels, 3, stride, 1) },
        ));
    }
    for (channels, stride) in [(19, 1), (32, 1), (35, 2)] {
        every_algorithm(behind(2, channels, [9, 11], Conv2d { groups: channels, ..conv(channels, 3, stride, 1) }));
    }
}

#[test]
fn pointwise_and_linear_layers() {
    every_algorithm(behind(1, 35, [7, 7], conv(70, 1, 1, 0)));
    every_algorithm(fused(3, 16, [5, 9], conv(33, 1, 1, 0)));
    every_algorithm(linear(1, 19, [3, 2], 37));
    every_algorithm(linear(20, 16, [1, 1], 16));
}

#[test]
fn phases_of_transposed_convolutions() {
    every_algorithm(behind(2, 20, [5, 6], conv_transpose(33, 4, 2, 1)));
    every_algorithm(behind(1, 20, [5, 6], conv_transpose(9, 2, 3, 0)));
    every_algorithm(behind(1, 16, [1, 1], conv_transpose(16, 4, 1, 0)));
    every_algorithm(behind(2, 19, [4, 5], ConvTranspose2d { dilation: [2, 1], ..conv_transpose(9, 3, 2, 1) }));
}

/// A stride of 20 is 400 convolutions. What each knows of the whole must not grow with their number:
/// it took memory by the fourth power of the stride.
#[test]
fn a_large_stride_is_many_convolutions() {
    check(behind(1, 3, [2, 3], conv_transpose(8, 1, 20, 0)));
    let (x, y) = ([1, 3, 4, 4].into(), [1, 8, 193, 193].into());
    let op = ConvTranspose2d { stride: [64, 64], ..conv_transpose(8, 1, 64, 0) };
    let problem = crate::plan::conv::Problem::conv_transpose(&op, &x, &y);
    assert_eq!(problem.phases.len(), 4096);
    assert!(std::sync::Arc::ptr_eq(&problem.phases, &problem.clone().phases), "its kernels share it");
}

#[test]
fn every_tile_of_a_square_kernel() {
    every_tile(behind(1, 19, [7, 31], conv(130, 3, 1, 1)));
}

#[test]
fn every_tile_of_a_pointwise_kernel() {
    every_tile(behind(2, 19, [4, 9], conv(70, 1, 1, 0)));
}

#[test]
fn every_tile_of_a_linear_layer() {
    every_tile(linear(31, 19, [2, 1], 70));
}
