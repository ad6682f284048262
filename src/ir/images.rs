//! Whether a network treats the images of a batch one by one: the one analysis that everybody asks who
//! would give it another number of images than it was made for.
//!
//! ```text
//! inputs: images along axis 0 ──each op's own rule──▶ where they are in every value, or what mixes them
//! ```
//!
//! With one image, a size of 1 does not tell whether it counts images. So the shapes of all values are
//! inferred once more, for a number of images that is prime and divides none of the graph's sizes: then a
//! size counts images where that prime divides it, and an op that fits no such number is found as well.
//! Nothing is computed. The answer may say "mixes" of a graph whose images stay apart after all (a concat
//! along the batch that is cut up again), never the other way round.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Graph, Kind, NodeId};
use crate::diagnostic::Location;
use crate::ops::images::{Images as Place, ONE_NUMBER};
use crate::ops::{Op, Reshape};
use crate::tensor::Shape;

/// Primes that are tried as a number of images.
const PRIMES_BELOW: usize = 8192;

/// How many images a network takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Images {
    /// Any number: each image's results depend on that image only, and lie side by side.
    Independent,
    /// So many as its inputs have, since the first size of this one is a number.
    Fixed { input: String, location: Option<Location> },
    /// So many as it was made for: results of several images differ from those of each alone.
    Mixed(Mixed),
}

/// What mixes images, as people call it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// The step's label, else its layer.
    pub step: String,
    pub location: Option<Location>,
    /// Of a subject "it".
    pub reason: String,
}

impl std::fmt::Display for Mixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.location.as_ref().map(|l| format!(" ({l})")).unwrap_or_default();
        write!(f, "{}{place} does not treat images one by one: {}", self.step, self.reason)
    }
}

/// A node that keeps images from being independent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mixing {
    pub node: NodeId,
    /// Of a subject "it".
    pub reason: String,
}

impl Mixing {
    pub(crate) fn named(&self, graph: &Graph) -> Mixed {
        let node = graph.node(self.node);
        let step = node.name.clone().or(node.op().map(|op| op.layer_name().to_string()));
        Mixed { step: step.unwrap_or_default(), location: node.location.clone(), reason: self.reason.clone() }
    }
}

/// Where images are in a graph's values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// By value, of those that outputs need. What comes after a mixing is not known and not listed.
    pub places: HashMap<NodeId, Place>,
    /// What mixes images, in topological order; without what comes after.
    pub mixing: Vec<Mixing>,
}

impl Graph {
    /// How many images the graph takes, where those of the inputs `open` are along the first axis of these
    /// and other inputs are the same for all images.
    pub fn images(&self, open: &[NodeId]) -> Images {
        trace(self, open).images(self, open)
    }
}

impl Trace {
    /// What [`Graph::images`] says of the graph that was traced.
    pub(crate) fn images(&self, graph: &Graph, open: &[NodeId]) -> Images {
        let fixed = graph.inputs().iter().find(|input| !open.contains(input));
        match (self.mixing.first(), fixed) {
            (_, Some(&input)) => {
                let node = graph.node(input);
                Images::Fixed { input: node.name.clone().unwrap_or_default(), location: node.location.clone() }
            }
            (Some(mixing), None) => Images::Mixed(mixing.named(graph)),
            (None, None) => Images::Independent,
        }
    }
}

/// Follows the images from the inputs `open` to the outputs.
pub(crate) fn trace(graph: &Graph, open: &[NodeId]) -> Trace {
    let mut trace = Trace::default();
    let live = live(graph);
    let Some(count) = unusual_count(graph) else {
        let mixing = |&node: &NodeId| Mixing { node, reason: "it is too large a network to be told".into() };
        trace.mixing = live.first().map(mixing).into_iter().collect();
        return trace;
    };
    let mut shapes: HashMap<NodeId, Shape> = HashMap::new();
    for &id in &live {
        match step(graph, id, open, count, &shapes, &trace.places) {
            None => {}
            Some(Ok((shape, place))) => {
                shapes.insert(id, shape);
                trace.places.insert(id, place);
            }
            Some(Err(reason)) => trace.mixing.push(Mixing { node: id, reason }),
        }
    }
    let outputs = graph.outputs().iter().filter_map(|o| Some((o, trace.places.get(&o.node)?)));
    let misplaced = outputs.filter_map(|(output, place)| {
        let reason = match place {
            place if place.are_outermost() => return None,
            Place::Nowhere => format!("the output {} is the same whatever the images are", output.name),
            Place::Along { .. } => format!("the output {} does not have the images along its first axis", output.name),
        };
        Some(Mixing { node: output.node, reason })
    });
    let misplaced: Vec<Mixing> = misplaced.collect();
    trace.mixing.extend(misplaced);
    trace
}

/// What outputs need of the graph, for another number of images of the inputs `open`; `None` where that fits no
/// other.
pub(crate) fn resized(graph: &Graph, open: &[NodeId], count: usize) -> Option<Graph> {
    let mut resized = graph.clone();
    let needed = needed(graph);
    let (live, dead): (Vec<NodeId>, Vec<NodeId>) = graph.order().into_iter().partition(|id| needed.contains(id));
    dead.into_iter().rev().for_each(|id| resized.remove(id));
    for id in live {
        let shape = match &graph.node(id).kind {
            Kind::Input(_) => sized(&graph.node(id).shape, open.contains(&id).then_some(count)),
            Kind::Parameter(_) => continue,
            Kind::Op(op) => fitting(graph, id, op, &resized.operand_shapes(id))?,
        };
        resized.node_mut(id).shape = shape;
    }
    Some(resized)
}

/// The graph with its reshapes open where the images are, which an importer cannot tell. `count` images of it are a prime
/// that divides no other size: what it divides is along the images, and is what is left (-1), the other sizes are stated.
pub(crate) fn with_open_reshapes(graph: &Graph, count: usize) -> Graph {
    let mut open = graph.clone();
    for id in graph.order() {
        let Kind::Op(Op::Reshape(op)) = &graph.node(id).kind else { continue };
        let dims = graph.node(id).shape.dims();
        let is_counted = |axis: &usize| dims[*axis].is_multiple_of(count);
        let [axis] = (0..dims.len()).filter(is_counted).collect::<Vec<_>>()[..] else { continue };
        // A size that is kept is open already.
        if op.shape[axis] > 0 {
            let stated = |(at, &size): (usize, &usize)| if at == axis { -1 } else { size as i64 };
            let shape = dims.iter().enumerate().map(stated).collect();
            open.node_mut(id).kind = Kind::Op(Reshape { shape }.into());
        }
    }
    open
}

/// The smallest prime that divides no size of the graph's values.
pub(crate) fn unusual_count(graph: &Graph) -> Option<usize> {
    let sizes = graph.order().into_iter().flat_map(|id| graph.node(id).shape.dims());
    let sizes: BTreeSet<usize> = sizes.copied().collect();
    let is_prime = |n: &usize| (2..).take_while(|d| d * d <= *n).all(|d| n % d != 0);
    (2..PRIMES_BELOW).filter(is_prime).find(|prime| sizes.iter().all(|size| size % prime != 0))
}

/// A node's shape for `count` images, and where they are in it; `None` behind a mixing.
fn step(
    graph: &Graph,
    id: NodeId,
    open: &[NodeId],
    count: usize,
    shapes: &HashMap<NodeId, Shape>,
    places: &HashMap<NodeId, Place>,
) -> Option<Result<(Shape, Place), String>> {
    let node = graph.node(id);
    let Kind::Op(op) = &node.kind else {
        let is_open = open.contains(&id) && node.shape.rank() > 0;
        let place = if is_open { Place::FIRST } else { Place::Nowhere };
        return Some(Ok((sized(&node.shape, is_open.then_some(count)), place)));
    };
    let operands = graph.operands(id);
    // Nothing is known of a computed parameter's images but where there are none: weights serve all alike.
    let parameters = graph.parameters(id).into_iter().filter(|&p| graph.node(p).parameter().is_none());
    let parameter_places: Vec<Place> = parameters.map(|p| places.get(&p).copied()).collect::<Option<_>>()?;
    if parameter_places.iter().any(|&place| place != Place::Nowhere) {
        return Some(Err("reads weights that are computed of images".into()));
    }
    let operand_places: Vec<Place> = operands.iter().map(|o| places.get(o).copied()).collect::<Option<_>>()?;
    if operand_places.iter().all(|&place| place == Place::Nowhere) {
        return Some(Ok((node.shape.clone(), Place::Nowhere)));
    }
    let operand_shapes: Vec<&Shape> = operands.iter().map(|o| &shapes[o]).collect();
    let Some(shape) = fitting(graph, id, op, &operand_shapes) else {
        // Where the op's own rule knows better, since it looks at no sizes, that is the reason.
        let rule = op.images(&operand_places, &operand_shapes, &node.shape);
        return Some(Err(rule.err().unwrap_or_else(|| ONE_NUMBER.into())));
    };
    let place = op.images(&operand_places, &operand_shapes, &shape);
    Some(place.map(|place| (shape, place)))
}

/// The shape of a node for operands of other sizes, where these fit it and its weights.
pub(super) fn fitting(graph: &Graph, id: NodeId, op: &Op, operands: &[&Shape]) -> Option<Shape> {
    let shape = op.infer_unlimited(operands).ok()?;
    let own = graph.parameters(id);
    let own = own.iter().map(|&parameter| &graph.node(parameter).shape);
    op.weights(operands).iter().map(|declared| &declared.shape).eq(own).then_some(shape)
}

/// A shape with another first size.
fn sized(shape: &Shape, first: Option<usize>) -> Shape {
    let mut dims = shape.dims().to_vec();
    if let (Some(size), Some(count)) = (dims.first_mut(), first) {
        *size = count;
    }
    Shape::of(shape.element(), dims)
}

/// All inputs, and what the outputs need; operands before their users.
fn live(graph: &Graph) -> Vec<NodeId> {
    let needed = needed(graph);
    graph.order().into_iter().filter(|id| needed.contains(id)).collect()
}

fn needed(graph: &Graph) -> HashSet<NodeId> {
    let mut needed = needed_by_outputs(graph);
    needed.extend(graph.inputs());
    needed
}

/// The values that outputs are made of, inputs among them.
pub(super) fn needed_by_outputs(graph: &Graph) -> HashSet<NodeId> {
    let mut needed: HashSet<NodeId> = HashSet::new();
    let mut pending: Vec<NodeId> = graph.outputs().iter().map(|o| o.node).collect();
    while let Some(id) = pending.pop() {
        if needed.insert(id) {
            pending.extend(graph.computed_reads(id));
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interpreter;
    use crate::ir::Phase;
    use crate::ops::activation::Activation;
    use crate::ops::adaptive_avg_pool::AdaptiveAvgPool;
    use crate::ops::binary::BinaryKind;
    use crate::ops::epilogue::PostOp;
    use crate::ops::global_pool::PoolKind;
    use crate::ops::lrn::LongerHalf;
    use crate::ops::pad::PadMode;
    use crate::ops::reduce::ReduceKind;
    use crate::ops::upsample::{Interpolation, ResizeTo};
    use crate::ops::*;
    use crate::tensor::Tensor;
    use crate::testing::{
        GraphBuilder, binary, conv, conv_transpose, random_graph, random_inputs, randomize_weights, relu,
    };

    /// A graph of one image of `[4, 6, 8]`.
    fn graph(build: impl FnOnce(&mut GraphBuilder, NodeId) -> NodeId) -> Graph {
        let mut b = GraphBuilder::new("g", Phase::Infer);
        let x = b.input([1, 4, 6, 8]);
        let y = build(&mut b, x);
        let mut graph = b.finish(&[y]);
        randomize_weights(&mut graph, 3);
        graph
    }

    /// What three images give together, and each alone, one after the other.
    fn together_and_alone(graph: &Graph) -> Option<(Vec<Tensor>, Vec<Vec<f32>>)> {
        let of = |count| resized(graph, graph.inputs(), count);
        let (three, one) = (of(3)?, of(1)?);
        let inputs = random_inputs(&three, 5);
        let together = interpreter::run(&three, &inputs).unwrap();
        let mut alone = vec![vec![]; together.len()];
        for image in 0..3 {
            let part = |t: &Tensor| {
                let size = t.data().len() / 3;
                Tensor::new(sized(t.shape(), Some(1)), t.data()[image * size..][..size].to_vec())
            };
            let results = interpreter::run(&one, &inputs.iter().map(part).collect::<Vec<_>>()).unwrap();
            alone.iter_mut().zip(results).for_each(|(all, one)| all.extend(one.into_data()));
        }
        Some((together, alone))
    }

    fn same(graph: &Graph) -> bool {
        together_and_alone(graph)
            .is_some_and(|(together, alone)| together.iter().zip(&alone).all(|(t, a)| t.data() == a.as_slice()))
    }

    /// Whether the analysis says that images are independent; where it does, three give what each gives.
    fn independent(graph: &Graph) -> bool {
        let independent = graph.images(graph.inputs()) == Images::Independent;
        assert!(!independent || same(graph), "images are not independent in\n{graph}");
        independent
    }

    /// Moves the images to another axis and back, with an op in between.
    fn with_images_along(axis: usize, op: Op) -> Option<Graph> {
        let mut there: Vec<usize> = vec![1, 2, 3];
        there.insert(axis, 0);
        let back = (0..4).map(|a| there.iter().position(|&t| t == a).unwrap()).collect();
        let mut b = GraphBuilder::new("g", Phase::Infer);
        let x = b.input([1, 4, 4, 4]);
        let moved = b.add(Transpose { perm: there }, &[x]);
        let y = b.try_add(op, &[moved]).ok()?;
        let y = b.add(Transpose { perm: back }, &[y]);
        let mut graph = b.finish(&[y]);
        randomize_weights(&mut graph, 3);
        Some(graph)
    }

    #[test]
    fn ops_on_one_value_keep_images_apart_along_some_axes() {
        let pool = MaxPool { kernel: [2; 2], stride: [1; 2], pad: [0; 4], dilation: [1; 2], ceil: false };
        let mean = AvgPool {
            kernel: [1; 2],
            stride: [1; 2],
            pad: [0; 4],
            dilation: [1; 2],
            ceil: false,
            count_include_pad: true,
        };
        let lrn =
            Lrn { size: 3, alpha: 0.5, beta: 0.75, k: 1.0, alpha_over_size: true, longer_half: LongerHalf::Before };
        let up = Upsample::new(ResizeTo::Scale([2.0; 2]), Interpolation::Nearest, false);
        let affine = ChannelAffine { bias: true, epilogue: vec![] };
        // The axes along which images may lie.
        let rules: Vec<(Op, &[usize])> = vec![
            (relu().into(), &[0, 1, 2, 3]),
            (Identity {}.into(), &[0, 1, 2, 3]),
            (Dropout { p: 0.5 }.into(), &[0, 1, 2, 3]),
            (PRelu { per_channel: false }.into(), &[0, 1, 2, 3]),
            (PRelu { per_channel: true }.into(), &[0, 2, 3]),
            (BatchNorm { eps: 0.1, affine: true }.into(), &[0, 2, 3]),
            (affine.into(), &[0, 2, 3]),
            (LayerNorm { eps: 0.1, affine: true, sizes: vec![] }.into(), &[0, 2, 3]),
            (lrn.into(), &[0, 2, 3]),
            (ChannelShuffle { groups: 1 }.into(), &[0, 2, 3]),
            (InstanceNorm { eps: 0.1, affine: false }.into(), &[0, 1]),
            (InstanceNorm { eps: 0.1, affine: true }.into(), &[0]),
            (pool.into(), &[0, 1]),
            (mean.into(), &[0, 1]),
            (GlobalPool { kind: PoolKind::Max }.into(), &[0, 1]),
            (AdaptiveAvgPool { output: [2; 2] }.into(), &[0, 1]),
            (Pad { pads: [1; 4], mode: PadMode::Edge, value: 0.0 }.into(), &[0, 1]),
            (up.into(), &[0, 1]),
            (conv(3, 1, 1, 0).into(), &[0]),
            (conv_transpose(3, 2, 2, 0).into(), &[0]),
            (PixelShuffle { factor: 1 }.into(), &[0]),
            (PixelUnshuffle { factor: 1 }.into(), &[0]),
            (Softmax { axis: 2, log: false }.into(), &[0, 1, 3]),
            (Reduce { kind: ReduceKind::Mean, axes: vec![1, 3], keepdims: true }.into(), &[0, 2]),
            (Slice { axis: 3, start: 0, end: 1, step: 1 }.into(), &[0, 1, 2]),
            (Concat { axis: 0 }.into(), &[1, 2, 3]),
        ];
        for (op, expected) in rules {
            let name = op.name();
            let free: Vec<usize> =
                (0..4).filter(|&a| with_images_along(a, op.clone()).is_some_and(|g| independent(&g))).collect();
            assert_eq!(free, expected, "{name} {:?}", op.print_attributes());
        }
    }

    #[test]
    fn rows_of_a_matrix_are_images_where_they_were() {
        let linear = Linear { features: 5, bias: true, epilogue: vec![] };
        let flat = |turn: bool| {
            graph(|b, x| {
                let flat = b.add(Flatten {}, &[x]);
                let flat = if turn { b.add(Transpose { perm: vec![1, 0] }, &[flat]) } else { flat };
                b.add(linear.clone(), &[flat])
            })
        };
        assert!(independent(&flat(false)));
        assert!(!independent(&flat(true)));
    }

    #[test]
    fn reductions_shift_the_axis_of_the_images() {
        let reduced = |axes: Vec<usize>, keepdims: bool| {
            graph(|b, x| {
                let moved = b.add(Transpose { perm: vec![1, 0, 2, 3] }, &[x]);
                b.add(Reduce { kind: ReduceKind::Sum, axes, keepdims }, &[moved])
            })
        };
        // The channels before the images vanish, and the images are first again.
        assert!(independent(&reduced(vec![0, 2], false)));
        assert!(!independent(&reduced(vec![0, 2], true)), "the images are not outermost");
        let mean = graph(|b, x| b.add(Reduce { kind: ReduceKind::Mean, axes: vec![0], keepdims: true }, &[x]));
        assert!(!independent(&mean) && !same(&mean));
    }

    /// Reshapes that put more than images into an axis and take it out again.
    #[test]
    fn harmless_reshapes_pass() {
        let reshape = |b: &mut GraphBuilder, x, shape: &[i64]| b.add(Reshape { shape: shape.to_vec() }, &[x]);
        let turn = |b: &mut GraphBuilder, x, perm: &[usize]| b.add(Transpose { perm: perm.to_vec() }, &[x]);
        let shuffle = graph(|b, x| {
            let apart = reshape(b, x, &[0, 2, 2, 6, 8]);
            let turned = turn(b, apart, &[0, 2, 1, 3, 4]);
            reshape(b, turned, &[0, 4, 6, 8])
        });
        let folded = graph(|b, x| {
            let planes = reshape(b, x, &[-1, 1, 6, 8]);
            let planes = b.add(conv(2, 3, 1, 1), &[planes]);
            reshape(b, planes, &[-1, 8, 6, 8])
        });
        // Windows of 3 × 4 pixels, as in window attention.
        let windows = graph(|b, x| {
            let apart = reshape(b, x, &[0, 4, 2, 3, 2, 4]);
            let turned = turn(b, apart, &[0, 2, 4, 3, 5, 1]);
            let windows = reshape(b, turned, &[-1, 12, 4]);
            let other = turn(b, windows, &[0, 2, 1]);
            let likeness = b.add(MatMul {}, &[windows, other]);
            let likeness = b.add(Softmax { axis: 2, log: false }, &[likeness]);
            let mixed = b.add(MatMul {}, &[likeness, windows]);
            let apart = reshape(b, mixed, &[-1, 2, 2, 3, 4, 4]);
            let turned = turn(b, apart, &[0, 5, 1, 3, 2, 4]);
            reshape(b, turned, &[-1, 4, 6, 8])
        });
        // Images in the middle of an axis: [C, N, …] as [C · N, …].
        let inner = graph(|b, x| {
            let turned = turn(b, x, &[1, 0, 2, 3]);
            let planes = reshape(b, turned, &[-1, 48]);
            let planes = b.add(Softmax { axis: 1, log: true }, &[planes]);
            let apart = reshape(b, planes, &[4, -1, 48]);
            turn(b, apart, &[1, 0, 2])
        });
        for (name, graph) in [("shuffle", shuffle), ("folded", folded), ("windows", windows), ("inner", inner)] {
            assert!(independent(&graph), "{name}: {:?}", graph.images(graph.inputs()));
        }
    }

    #[test]
    fn what_mixes_images_is_found_though_there_is_one() {
        let mixing: Vec<(&str, Graph)> = vec![
            ("its sizes cut across images", {
                graph(|b, x| {
                    let cut = b.add(Reshape { shape: vec![2, -1] }, &[x]);
                    let positive = b.add(Softmax { axis: 1, log: false }, &[cut]);
                    b.add(Reshape { shape: vec![-1, 192] }, &[positive])
                })
            }),
            ("it works along axis 0, where the images are", {
                graph(|b, x| {
                    let joined = b.add(Concat { axis: 0 }, &[x, x]);
                    b.add(Reduce { kind: ReduceKind::Max, axes: vec![0], keepdims: true }, &[joined])
                })
            }),
            ("it works along axis 0, where the images are", {
                graph(|b, x| b.add(Slice { axis: 0, start: 0, end: 1, step: 1 }, &[x]))
            }),
            ("it works along axis 0, where the images are", {
                graph(|b, x| b.add(Softmax { axis: 0, log: false }, &[x]))
            }),
            ("the output y0 does not have the images along its first axis", {
                graph(|b, x| b.add(Transpose { perm: vec![1, 0, 2, 3] }, &[x]))
            }),
            ("its operands have the images in different places", {
                graph(|b, x| {
                    let flat = b.add(Flatten {}, &[x]);
                    let turned = b.add(Transpose { perm: vec![1, 0] }, &[flat]);
                    b.add(MatMul {}, &[flat, turned])
                })
            }),
            ("its operands have the images in different places", {
                graph(|b, x| {
                    let mean = b.add(Reduce { kind: ReduceKind::Mean, axes: vec![1, 2, 3], keepdims: false }, &[x]);
                    b.add(binary(BinaryKind::Add), &[x, mean])
                })
            }),
            (ONE_NUMBER, graph(|b, x| b.add(Reshape { shape: vec![1, 192] }, &[x]))),
            ("the output y0 is the same whatever the images are", {
                graph(|b, _| b.add(Constant::of(vec![1, 3]), &[]))
            }),
        ];
        for (reason, graph) in mixing {
            assert!(!independent(&graph));
            assert!(!same(&graph), "{reason}\n{graph}");
            let found = trace(&graph, graph.inputs()).mixing;
            assert_eq!(found.iter().map(|m| m.reason.as_str()).collect::<Vec<_>>(), [reason], "{graph}");
        }
    }

    /// A constant is the same for all images, whether it is repeated or stands beside them in a product or a concat.
    #[test]
    fn constants_are_everybodys() {
        let product = graph(|b, x| {
            let known = b.add(Constant::of(vec![8, 5]), &[]);
            let other = b.add(Constant::of(vec![4, 6, 5]), &[]);
            let y = b.add(MatMul {}, &[x, known]);
            b.add(binary(BinaryKind::Mul), &[y, other])
        });
        assert!(independent(&product));
        let beside = graph(|b, x| {
            let known = b.add(Constant::of(vec![1, 2, 6, 8]), &[]);
            b.add(Concat { axis: 1 }, &[x, known])
        });
        assert!(independent(&beside));
        let columns = graph(|b, x| {
            let rows = b.add(Reshape { shape: vec![0, -1] }, &[x]);
            let turned = b.add(Transpose { perm: vec![1, 0] }, &[rows]);
            let known = b.add(Constant::of(vec![3, 192]), &[]);
            let y = b.add(MatMul {}, &[known, turned]);
            b.add(Transpose { perm: vec![1, 0] }, &[y])
        });
        assert!(independent(&columns));
    }

    /// What a fused kernel adds must be the same image's.
    #[test]
    fn operands_of_an_epilogue_count() {
        let fused = |turned: bool| {
            graph(|b, x| {
                let op = Conv2d { epilogue: vec![PostOp::Add, PostOp::Activate(Activation::Relu)], ..conv(4, 1, 1, 0) };
                let shape = Reshape { shape: vec![-1, 4, 6, 8] };
                let other = if turned { b.add(Softmax { axis: 0, log: false }, &[x]) } else { b.add(shape, &[x]) };
                b.add(op, &[x, other])
            })
        };
        assert!(independent(&fused(false)));
        assert!(!independent(&fused(true)));
    }

    #[test]
    fn inputs_of_fixed_first_sizes_are_the_same_for_all() {
        let mut b = GraphBuilder::new("g", Phase::Infer);
        let (x, table) = (b.input([1, 8]), b.input([8, 5]));
        let y = b.add(MatMul {}, &[x, table]);
        let graph = b.finish(&[y]);
        assert_eq!(trace(&graph, &[x]).mixing, []);
        assert!(matches!(graph.images(&[x]), Images::Fixed { input, .. } if input == "x1"));
        assert!(matches!(graph.images(&[]), Images::Fixed { input, .. } if input == "x0"));
        assert!(matches!(graph.images(graph.inputs()), Images::Mixed(_)));
    }

    /// The promise itself: wherever the answer is yes, a batch gives what its images give.
    #[test]
    fn random_graphs_give_for_a_batch_what_they_give_for_its_images() {
        let (mut independent_graphs, mut mixed_and_differ) = (0, 0);
        for seed in 0..300 {
            let graph = random_graph(seed);
            if graph.images(graph.inputs()) == Images::Independent {
                assert!(same(&graph), "seed {seed}: images are not independent in\n{graph}");
                independent_graphs += 1;
            } else {
                mixed_and_differ += usize::from(!same(&graph));
            }
        }
        assert!(independent_graphs > 120, "only {independent_graphs}");
        assert!(mixed_and_differ > 10, "only {mixed_and_differ}");
    }
}
