//! Whether Winograd kernels are accurate enough, layer by layer, with the layer's own weights.
//!
//! Winograd convolution adds and subtracts numbers that are larger than the results, so that its error
//! depends on the weights and grows with the tile. One task of each layer's step (a block of tiles for
//! one set of output channels) is run on random inputs, with the code and the packed weights that the
//! model is to have; one tile in the middle of the image is compared with the op's definition.
//!
//! ```text
//! inputs ─generated code─▶ a block of tiles ──▶ the tile's pixels, some channels ┐
//!    └─window of the tile─▶ Conv2d::evaluate (plain loops, f64) ─────────────────┴▶ error
//! ```
//!
//! The numbers on the way are also larger than the results, and one that is no finite number spreads over
//! its tile. Which layers have weights with which that could happen, [`out_of_range`] knows by a bound:
//!
//! ```text
//! |V| ≤ ‖Bᵀ‖² |d|     |U| ≤ ‖G‖² |w|     |y| ≤ growth² · channels · |w| |d|  ≥  all of them
//! ```
//!
//! Kernels of whole numbers are exact and are not tried: the plan has none without proof.
//!
//! The trial takes a millisecond a layer. Layers of one shape whose weights come from a seed are alike:
//! the first stands for all.

use std::collections::HashSet;

use crate::parallel;
use rayon::prelude::*;

use super::outputs::difference;
use crate::artifact::{Cause, Image};
use crate::codegen::vector::round_to_bf16;
use crate::codegen::{Generated, winograd_largest, winograd_sets};
use crate::ir::{Graph, NodeId};
use crate::ops::{Conv2d, Op};
use crate::plan::conv::{Arithmetic, Axis, Geometry, Points, Problem, Winograd};
use crate::plan::{Algorithm, Place, Plan, Step, View};
use crate::runtime::{Activations, Workbench};
use crate::target::Unit;
use crate::tensor::{Element, Shape, Tensor};
use crate::weights::SplitMix;

/// Largest difference from the definition that is accepted, as a share of the largest result.
///
/// Errors of different layers are independent and add up as squares: over a hundred layers, ten times
/// this is the 1e-3 that whole networks are held to. F(6×6, 3×3) on ordinary weights stays several
/// times below it.
pub(crate) const TOLERANCE: f64 = 1e-4;

/// The same of a layer that multiplies in bf16, unless whole networks are held to something: a step of bf16 at the largest
/// result, at most. What is stored as bf16 is off by half a step.
pub(crate) const TOLERANCE_BF16: f64 = 1.0 / 128.0;

/// Multiply-adds that the definition may spend on a layer.
const MACS: usize = 400_000;
const MOST_CHANNELS: usize = 8;

/// What was found of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Probed {
    /// Of the plan.
    pub step: usize,
    pub node: NodeId,
    /// In which arithmetic transformed numbers are multiplied.
    pub products: Arithmetic,
    pub points: Points,
    /// Outputs along each axis of a tile.
    pub m: usize,
    /// Largest difference from the definition, as a share of the largest result; infinite where a
    /// result is no number though the definition's is one.
    pub error: f64,
    /// The largest error that is accepted, where nothing stricter is asked for.
    pub tolerance: f64,
}

impl Probed {
    /// Whether it is, with `bf16` the largest error of a layer that multiplies in bf16.
    pub(crate) fn is_accurate(&self, bf16: f64) -> bool {
        self.error <= if self.products == Arithmetic::Bf16 { bf16 } else { self.tolerance }
    }
}

/// The Winograd kernel of a step, where it has one that rounds.
pub(crate) fn rounding_winograd(step: &Step) -> Option<&Winograd> {
    match &step.kernel {
        Algorithm::Winograd(w) if !w.is_exact() => Some(w),
        _ => None,
    }
}

/// Which set of a layer's output channels is probed, of how many.
fn probed_set(sets: usize) -> usize {
    sets / 2
}

/// Whether a probe reads that part of a step's packed weights.
pub(crate) fn reads(plan: &Plan, step: usize, part: usize) -> bool {
    rounding_winograd(&plan.steps[step]).is_some_and(|w| {
        let sets = winograd_sets(&plan.steps[step], w, plan.unit).len();
        part == 0 || part == 1 + probed_set(sets)
    })
}

/// Probes the layers of an image for which the plan chose Winograd.
///
/// # Errors
/// Where the image cannot be run here, or there is no memory.
pub(crate) fn probe(graph: &Graph, generated: &Generated, image: &Image) -> Result<Vec<Probed>, Cause> {
    let plan = &generated.plan;
    let mut known = HashSet::new();
    let mut layers = vec![];
    for (index, step) in plan.steps.iter().enumerate() {
        let Some(w) = rounding_winograd(step) else { continue };
        let seeded = graph.weights_read(step.node).into_iter().all(|w| graph.weights.is_seeded(w));
        let key = step.layer.as_ref().map(|l| (l.key.as_str(), w.m));
        if !seeded || known.insert(key) {
            layers.push((index, step, w));
        }
    }
    if layers.is_empty() {
        return Ok(vec![]);
    }
    let bench = Workbench::new(image)?;
    let run = |(index, step, w)| Probe { graph, plan, index, step, w }.run(&bench);
    parallel::shared(|| layers.into_par_iter().map(run).collect())
}

/// Inputs up to this size are to be convolved without a sum that leaves the range of f32.
pub(crate) const MOST_INPUT: f64 = 1e20;

/// The layers for which the plan chose Winograd although transforms could overflow with their weights, or
/// would spread weights that are no finite numbers: each step with its largest weight. No code is run.
pub(crate) fn out_of_range<'p>(graph: &Graph, plan: &'p Plan) -> Vec<(&'p Step, f32)> {
    let check = |step: &'p Step| {
        let w = rounding_winograd(step)?;
        let weight = graph.weights_read(step.node)[0];
        if graph.weights.is_seeded(weight) {
            return None;
        }
        // Compared as integers, since NaN is larger than all others there.
        let bits = |v: &f32| v.to_bits() & !(1 << 31);
        let largest = f32::from_bits((*graph.weights.values(weight)).as_ref().iter().map(bits).max().unwrap_or(0));
        let fits = winograd_largest(w) * f64::from(largest) * MOST_INPUT <= f64::from(f32::MAX);
        (!fits).then_some((step, largest))
    };
    parallel::shared(|| plan.steps.par_iter().filter_map(check).collect())
}

/// How far the direct kernels that multiply in bf16 are off for their weights, each with its step, as a share of the
/// largest result: what rounded weights make of random inputs. No code is run, since kernels add up products of bf16 as
/// they are.
pub(crate) fn rounding<'p>(graph: &Graph, plan: &'p Plan) -> Vec<(&'p Step, f64)> {
    let mut known = HashSet::new();
    let mut layers = vec![];
    for step in &plan.steps {
        let Algorithm::Direct(direct) = &step.kernel else { continue };
        if direct.problem.arithmetic != Arithmetic::Bf16 {
            continue;
        }
        let seeded = graph.weights_read(step.node).into_iter().all(|w| graph.weights.is_seeded(w));
        if !seeded || known.insert(step.layer.as_ref().map(|l| l.key.as_str())) {
            layers.push((step, &direct.problem));
        }
    }
    let of_layer = |(step, problem)| (step, rounding_of(graph, step, problem));
    parallel::shared(|| layers.into_par_iter().map(of_layer).collect())
}

fn rounding_of(graph: &Graph, step: &Step, problem: &Problem) -> f64 {
    const INPUTS: u64 = 4;
    let values = graph.weights.values(graph.weights_read(step.node)[0]);
    let values = (*values).as_ref();
    let [kh, kw] = problem.kernel;
    let terms = problem.in_per_group() * kh * kw;
    let count = (MACS / terms.max(1)).clamp(1, MOST_CHANNELS.min(problem.out_channels));
    let rounded = |v: f32| f32::from_bits(u32::from(round_to_bf16(v.to_bits())) << 16);
    let mut results: Vec<[f64; 2]> = vec![];
    for draw in 0..INPUTS {
        for channel in (0..count).map(|i| i * problem.out_channels / count) {
            // Channels of a group read the same inputs.
            let mut random = SplitMix(draw);
            let mut sums = [0.0; 2];
            for ic in problem.inputs_of(problem.groups_of(&(channel..channel + 1)).start) {
                for (y, x) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                    let weight = problem.weight_index(channel, ic, y, x).map_or(0.0, |index| values[index]);
                    let input = f64::from(rounded(random.uniform()));
                    sums[0] += input * f64::from(rounded(weight));
                    sums[1] += input * f64::from(weight);
                }
            }
            results.push(sums);
        }
    }
    let [got, expected] = [0, 1].map(|i| {
        let sums: Vec<f32> = results.iter().map(|sums| sums[i] as f32).collect();
        Tensor::new(Shape::from([sums.len()]), sums)
    });
    extrapolated(&got, &expected)
}

/// What the largest error of all results is, as a share of the largest result, by a few: errors of products in bf16 are many
/// and independent, and the largest is about four times their root mean square. Of results, which may be alike, it is
/// taken to be three times theirs at least. Infinite where a result is no number though the definition's is one.
fn extrapolated(got: &Tensor, expected: &Tensor) -> f64 {
    const LARGEST_ERROR: f64 = 4.0;
    const LARGEST_RESULT: f64 = 3.0;
    if difference(std::slice::from_ref(got), std::slice::from_ref(expected)).is_infinite() {
        return f64::INFINITY;
    }
    let pairs = || expected.data().iter().zip(got.data()).filter(|(e, _)| e.is_finite());
    let root_mean_square = |values: &mut dyn Iterator<Item = f64>| {
        (values.map(|v| v * v).sum::<f64>() / pairs().count().max(1) as f64).sqrt()
    };
    let error = root_mean_square(&mut pairs().map(|(e, g)| f64::from(*e) - f64::from(*g)));
    let result = root_mean_square(&mut pairs().map(|(e, _)| f64::from(*e)));
    let largest = pairs().map(|(e, _)| f64::from(e.abs())).fold(0.0, f64::max);
    if error == 0.0 { 0.0 } else { LARGEST_ERROR * error / largest.max(LARGEST_RESULT * result) }
}

struct Probe<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    index: usize,
    step: &'a Step,
    w: &'a Winograd,
}

/// What of the output is compared.
struct Sample {
    /// Of the layer's output, and the first of them within the view that is written.
    channels: Vec<usize>,
    shift: usize,
    /// First row and column, and how many.
    first: [usize; 2],
    size: [usize; 2],
}

impl Probe<'_> {
    fn run(&self, bench: &Workbench) -> Result<Probed, Cause> {
        let mut memory = bench.activations()?;
        let mut random = SplitMix(self.index as u64);
        self.step.inputs.iter().for_each(|view| self.fill(view, &mut memory, &mut random));

        let [height, width] = self.w.grid(self.geometry());
        let tile = [height / 2, width / 2];
        let sets = winograd_sets(self.step, self.w, self.unit());
        let index = probed_set(sets.len());
        let block = (tile[0] * width + tile[1]) / self.w.tiles;
        let task = (block * sets.len() + index) as u32;
        bench.run(self.index, task..task + 1, &mut memory)?;

        let set = &sets[index];
        let sample = self.sample(tile, set.channels.clone(), set.channels.start - set.first_in_output);
        let got = self.pixels(&self.step.outputs[set.output], &memory, &sample, sample.shift);
        let expected = self.definition(&memory, &sample);
        let (node, products, points, m) = (self.step.node, self.w.products, self.w.points, self.w.m);
        let error = match products {
            Arithmetic::Bf16 => extrapolated(&got, &expected),
            _ => difference(&[got], &[expected]),
        };
        let tolerance = match (products, self.step.outputs[set.output].shape.element()) {
            (Arithmetic::Bf16, _) => TOLERANCE_BF16,
            // What is stored is rounded by half a step of bf16.
            (_, Element::Bf16) => TOLERANCE + 1.0 / 256.0,
            _ => TOLERANCE,
        };
        Ok(Probed { step: self.index, node, products, points, m, error, tolerance })
    }

    fn unit(&self) -> Unit {
        self.plan.unit
    }

    /// Of a transposed convolution, its first phase is probed; the others have the same taps in another order.
    fn geometry(&self) -> &Geometry {
        &self.w.problem.phases[0]
    }

    /// What is computed from a window, as a convolution of its own without padding.
    fn op(&self, channels: usize) -> Conv2d {
        let (bias, epilogue) = match self.graph.node(self.step.node).op() {
            Some(Op::Conv2d(c)) => (c.bias, c.epilogue.clone()),
            Some(Op::ConvTranspose2d(c)) => (c.bias, c.epilogue.clone()),
            _ => unreachable!("winograd is planned for convolutions only"),
        };
        let (kernel, stride) = ([self.w.taps(); 2], [self.w.stride(); 2]);
        Conv2d { channels, kernel, stride, pad: [0; 4], dilation: [1; 2], groups: 1, bias, epilogue }
    }

    /// Fills the first image of a view as a ReLU would: with values that are not negative.
    fn fill(&self, view: &View, memory: &mut Activations, random: &mut SplitMix) {
        let first = self.position(view, 0, 0, 0);
        let elements = view.blocks() * view.block_stride() / view.element_bytes();
        match view.shape.element() {
            Element::Bf16 => {
                let halves: &mut [u16] = bytemuck::cast_slice_mut(memory);
                halves[first..first + elements].iter_mut().for_each(|v| *v = round_to_bf16(random.uniform().to_bits()));
            }
            _ => memory[first..first + elements].iter_mut().for_each(|v| *v = random.uniform()),
        }
    }

    /// A value of the first image.
    fn value(&self, view: &View, memory: &Activations, channel: usize, y: usize, x: usize) -> f32 {
        let at = self.position(view, channel, y, x);
        match view.shape.element() {
            Element::Bf16 => f32::from_bits(u32::from(bytemuck::cast_slice::<f32, u16>(memory)[at]) << 16),
            _ => memory[at],
        }
    }

    /// The tile's pixels that lie in the image, and as many channels as the definition has time for.
    fn sample(&self, tile: [usize; 2], channels: std::ops::Range<usize>, shift: usize) -> Sample {
        let g = self.geometry();
        let first = tile.map(|t| t * self.w.m);
        let size = [g.y.output - first[0], g.x.output - first[1]].map(|rest| rest.min(self.w.m));
        let taps = self.w.taps() * self.w.taps() * self.w.problem.in_channels;
        let count = (MACS / (taps * size[0] * size[1])).clamp(1, MOST_CHANNELS.min(channels.len()));
        let channels = (0..count).map(|i| channels.start + i * channels.len() / count).collect();
        Sample { channels, shift, first, size }
    }

    /// Index of a value of the first image in the arena, as one of its elements.
    fn position(&self, view: &View, channel: usize, y: usize, x: usize) -> usize {
        let Place::Buffer(buffer) = view.place else { unreachable!("winograd works on blocked values") };
        let (block, lane) = (channel / view.block(), channel % view.block());
        let first = self.plan.buffers[buffer.0].offset + view.offset;
        let pixel = block * view.block_stride() + y * view.row_stride() + x * view.pixel_stride();
        (first + pixel) / view.element_bytes() + lane
    }

    /// The sample of a view with the output's sizes; its channels begin at the layer's channel `shift`.
    fn pixels(&self, view: &View, memory: &Activations, sample: &Sample, shift: usize) -> Tensor {
        let ([top, left], [rows, columns]) = (sample.first, sample.size);
        let g = self.geometry();
        let place = |axis: &Axis, q: usize| axis.output_first + q * axis.output_step;
        let mut values = vec![];
        for &channel in &sample.channels {
            for y in (top..top + rows).map(|q| place(&g.y, q)) {
                let columns = (left..left + columns).map(|q| place(&g.x, q));
                values.extend(columns.map(|x| self.value(view, memory, channel - shift, y, x)));
            }
        }
        Tensor::new(Shape::from([1, sample.channels.len(), rows, columns]), values)
    }

    /// The sample by the op's definition: a convolution of the window around it.
    fn definition(&self, memory: &Activations, sample: &Sample) -> Tensor {
        let count = sample.channels.len();
        let op = self.op(count);
        let values: Vec<_> =
            self.graph.weights_read(self.step.node).into_iter().map(|w| self.graph.weights.values(w)).collect();
        let mut weights = vec![self.filters((*values[0]).as_ref(), &sample.channels)];
        if op.bias {
            let bias = sample.channels.iter().map(|&c| (*values[1]).as_ref()[c]).collect();
            weights.push(Tensor::new(Shape::from([count]), bias));
        }
        let mut inputs = vec![self.window(memory, sample)];
        inputs.extend(self.step.inputs[1..].iter().map(|view| self.pixels(view, memory, sample, 0)));
        let output = Shape::from([1, count, sample.size[0], sample.size[1]]);
        let (inputs, weights): (Vec<&Tensor>, Vec<&Tensor>) = (inputs.iter().collect(), weights.iter().collect());
        Op::from(op).evaluate(&inputs, &weights, &output)
    }

    /// The weights of some output channels, as the phase's taps have them.
    fn filters(&self, values: &[f32], channels: &[usize]) -> Tensor {
        let (problem, g, taps) = (&self.w.problem, self.geometry(), self.w.taps());
        let mut filters = vec![];
        for (&oc, ic) in channels.iter().flat_map(|oc| (0..problem.in_channels).map(move |ic| (oc, ic))) {
            for (y, x) in (0..taps).flat_map(|y| (0..taps).map(move |x| (y, x))) {
                let index = problem.weight_index(oc, ic, g.y.taps.kernel_index(y), g.x.taps.kernel_index(x));
                filters.push(index.map_or(0.0, |i| values[i]));
            }
        }
        Tensor::new(Shape::from([channels.len(), problem.in_channels, taps, taps]), filters)
    }

    /// The input around the sample, with zeros where the padding is.
    fn window(&self, memory: &Activations, sample: &Sample) -> Tensor {
        let (view, problem) = (&self.step.inputs[0], &self.w.problem);
        let g = self.geometry();
        let [height, width] = sample.size.map(|size| self.w.stride() * (size - 1) + self.w.taps());
        let inside =
            |first: isize, at: usize, size: usize| usize::try_from(first + at as isize).ok().filter(|&p| p < size);
        let first = [g.y.taps.position(sample.first[0], 0), g.x.taps.position(sample.first[1], 0)];
        let mut values = vec![];
        for channel in 0..problem.in_channels {
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let at = inside(first[0], y, g.y.input).zip(inside(first[1], x, g.x.input));
                values.push(at.map_or(0.0, |(y, x)| self.value(view, memory, channel, y, x)));
            }
        }
        Tensor::new(Shape::from([1, problem.in_channels, height, width]), values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Destination;
    use crate::codegen::testing::targets;
    use crate::codegen::{build, generate};
    use crate::ir::Phase;
    use crate::ops::activation::Activation;
    use crate::ops::epilogue::PostOp;
    use crate::plan::Options;
    use crate::target::Target;
    use crate::testing::{GraphBuilder, conv, conv_transpose, randomize_weights};

    /// Two 3×3 layers, the second with a residual operand and a ReLU.
    fn layers(channels: usize, size: usize) -> Graph {
        let mut b = GraphBuilder::new("layers", Phase::Infer);
        let x = b.input([1, 3, size, size]);
        let x = b.add(conv(channels, 1, 1, 0), &[x]);
        let y = b.add(conv(channels, 3, 1, 1), &[x]);
        let epilogue = vec![PostOp::Add, PostOp::Activate(Activation::Relu)];
        let z = b.add(Conv2d { epilogue, ..conv(channels, 3, 1, 1) }, &[y, x]);
        let mut graph = b.finish(&[z]);
        randomize_weights(&mut graph, 5);
        graph
    }

    /// A convolution of stride 2 and its transposed counterpart.
    fn strided() -> Graph {
        let mut b = GraphBuilder::new("strided", Phase::Infer);
        let x = b.input([1, 3, 14, 18]);
        let x = b.add(conv(20, 1, 1, 0), &[x]);
        let y = b.add(conv(24, 4, 2, 1), &[x]);
        let z = b.add(conv_transpose(18, 4, 2, 1), &[y]);
        let mut graph = b.finish(&[z]);
        randomize_weights(&mut graph, 6);
        graph
    }

    #[test]
    fn strides_and_phases_are_accurate() {
        for target in targets() {
            for algorithm in ["winograd2", "winograd4"] {
                let found = probed(&strided(), &target, algorithm, true);
                assert_eq!(found.len(), 2);
                assert!(found.iter().all(|p| p.is_accurate(TOLERANCE_BF16) && p.error > 0.0), "{algorithm} {found:?}");
            }
        }
    }

    fn probed(graph: &Graph, target: &Target, algorithm: &str, all: bool) -> Vec<Probed> {
        let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..Options::default() };
        let generated = generate(graph, target, &options).unwrap();
        let wanted = |step: usize, part: usize| all || reads(&generated.plan, step, part);
        let image = build(graph, target, &generated, &Destination::Memory, &[], &wanted).unwrap();
        probe(graph, &generated, &image).unwrap()
    }

    #[test]
    fn ordinary_weights_are_accurate() {
        for target in targets() {
            for (channels, size) in [(40, 13), (16, 6), (70, 20)] {
                for algorithm in ["winograd2", "winograd4", "winograd6"] {
                    let graph = layers(channels, size);
                    let found = probed(&graph, &target, algorithm, true);
                    assert_eq!(found.len(), 2);
                    let accurate = found.iter().all(|p| p.is_accurate(TOLERANCE_BF16) && p.error > 0.0);
                    assert!(accurate, "{algorithm} {} lanes {found:?}", target.unit.lanes);
                    // The parts that a probe reads are enough for it.
                    assert_eq!(probed(&graph, &target, algorithm, false), found);
                }
            }
        }
    }

    /// Multiplies every weight of the 3×3 layers, biases included.
    fn scaled(mut graph: Graph, factor: f32) -> Graph {
        for node in graph.order() {
            let Some(Op::Conv2d(Conv2d { kernel: [3, 3], .. })) = graph.node(node).op() else { continue };
            for id in graph.weights_read(node) {
                let values: Vec<f32> = (*graph.weights.values(id)).as_ref().iter().map(|v| v * factor).collect();
                graph.weights.set(id, std::sync::Arc::new(values));
            }
        }
        graph
    }

    #[test]
    fn weights_that_could_overflow_are_known_by_a_bound() {
        for target in targets() {
            for algorithm in ["winograd2", "winograd4", "winograd6"] {
                let found = |factor: f32| {
                    let graph = scaled(layers(20, 13), factor);
                    let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..Options::default() };
                    let generated = generate(&graph, &target, &options).unwrap();
                    out_of_range(&graph, &generated.plan).into_iter().map(|(_, largest)| largest).collect::<Vec<_>>()
                };
                assert!(found(1e3).is_empty());
                let large = found(1e18);
                assert!(large.len() == 2 && large.iter().all(|l| (1e17..1e19).contains(l)), "{algorithm}: {large:?}");
                let odd = found(f32::NAN);
                assert!(odd.len() == 2 && odd.iter().all(|l| l.is_nan()), "{algorithm}: {odd:?}");
            }
        }
    }

    #[test]
    fn wild_weights_are_found_out() {
        for target in targets() {
            // Transformed weights below the smallest normal number are lost.
            let graph = scaled(layers(20, 13), 1e-36);
            assert!(!probed(&graph, &target, "winograd6", true)[0].is_accurate(TOLERANCE_BF16));
            // Sums within a tile leave the range of f32, the results do not.
            let graph = scaled(layers(20, 13), 8e37);
            assert_eq!(probed(&graph, &target, "winograd6", true)[0].error, f64::INFINITY);
        }
    }
}
