//! Layers of levels: what follows a sum of products up to the grid that it ends on.

use std::collections::HashMap;

use super::super::affine::{self, Affine};
use super::super::fold_batch_norm::{bias_name, origin};
use super::grids::{OnGrid, byte_on_grid, on_grid, on_grids_of_channels, target};
use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::epilogue::{PostOp, extra_operands};
use crate::ops::global_pool::PoolKind;
use crate::ops::quantized::{Grid, Levels, MOST_PIXELS, check_scale, is_exact, most_pixels};
use crate::ops::{
    Op, QuantizedAdaptiveAvgPool, QuantizedAffine, QuantizedAvgPool, QuantizedBinary, QuantizedConv2d,
    QuantizedConvTranspose2d, QuantizedGlobalPool, QuantizedLinear, Requantize,
};
use crate::tensor::Element;
use crate::weights::WeightId;

pub(super) fn run(e: &mut Editor) {
    let depths = depths(e);
    e.for_each(|e, id| {
        if let Some(Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_) | Op::LinearW8(_)) = e.node(id).op() {
            layer(e, id, &depths);
        }
    });
    e.for_each(|e, id| {
        match e.node(id).op() {
            Some(Op::Binary(_)) => binary(e, id),
            Some(Op::GlobalPool(_) | Op::AvgPool(_) | Op::AdaptiveAvgPool(_)) => mean(e, id),
            _ => affine(e, id),
        };
    });
    e.for_each(|e, id| {
        function(e, id);
    });
}

/// Operations on the longest way from an input to each node.
fn depths(e: &Editor) -> HashMap<NodeId, usize> {
    let mut depths = HashMap::new();
    for id in e.order() {
        let deepest = e.computed_reads(id).iter().map(|o| depths[o]).max();
        depths.insert(id, deepest.map_or(0, |d: usize| d + 1));
    }
    depths
}

/// A weight of 8 bits: what a layer multiplies by, and the scale of each output channel.
struct Weight {
    id: WeightId,
    /// The sum of the absolute values of each output channel.
    norms: Vec<u64>,
    scales: Vec<f64>,
}

/// Steps from a layer to the end of what it computes.
struct Tail {
    /// The last node, which becomes the layer.
    last: NodeId,
    /// All nodes from the layer to the last.
    nodes: Vec<NodeId>,
    affine: Affine,
    steps: Vec<PostOp>,
    /// What the steps read, and the grids of these values.
    extra: Vec<NodeId>,
    reads: Vec<Option<Grid>>,
    output: Option<Grid>,
}

/// Makes a layer one of whole numbers, or tells why its weights of 8 bits are of no use.
fn layer(e: &mut Editor, id: NodeId, depths: &HashMap<NodeId, usize>) {
    if let Err(why) = try_layer(e, id, depths) {
        let message = format!("{} has weights of 8 bits and computes in f32: {why}", e.describe(id));
        e.remark(message, e.locations(&[id]));
    }
}

fn try_layer(e: &mut Editor, id: NodeId, depths: &HashMap<NodeId, usize>) -> Result<(), String> {
    let op = e.node(id).op().expect("a layer is one").clone();
    let (x, zeros) = on_grids_of_channels(e, e.operands(id)[0])
        .ok_or("what it reads is on no grid with one scale; put `quantize` before it")?;
    let takes_zeros = matches!(&op, Op::Conv2dW8(op) if op.of_reals.groups == 1) && x.grid.levels == Levels::U8;
    if !zeros.is_empty() && !takes_zeros {
        return Err("each channel of what it reads has a zero point of its own".into());
    }
    if !matches!(e.node(x.levels).shape.element(), Element::U8 | Element::I8) {
        return Err("what it reads has more than 8 bits".into());
    }
    let parameters = e.weights_of(id).ok_or("its weights are computed in the run")?;
    let weight = weight(e, &op, parameters[0], parameters[1]);
    let bias = parameters.get(2).map_or(vec![], |&bias| e.weight_values(bias));
    let channels = weight.scales.len();
    let farthest = |zero: i64| x.grid.levels.high().abs_diff(zero).max(x.grid.levels.low().abs_diff(zero));
    let largest = zeros.iter().map(|&zero| farthest(zero)).fold(farthest(x.grid.zero), u64::max);
    if weight.norms.iter().any(|&norm| norm.saturating_mul(largest) >= 1 << 31) {
        return Err("a sum of its products could leave 32 bits".into());
    }
    let scaled = Affine { mul: vec![1.0; channels], add: vec![0.0; channels], uniform: false };
    let mut tail = tail(e, id, depths, scaled);
    saturate(&mut tail);
    let fold = fold(&tail.steps, &mut tail.reads, tail.output.as_mut());
    let sx = f64::from(x.grid.scale);
    let multiplier: Vec<f64> = weight.scales.iter().zip(&tail.affine.mul).map(|(sw, a)| sx * sw * a / fold).collect();
    let offset: Vec<f64> =
        (0..channels).map(|o| (bias.get(o).unwrap_or(&0.0) * tail.affine.mul[o] + tail.affine.add[o]) / fold).collect();
    if !are_finite(&multiplier) || !are_finite(&offset) {
        return Err("its scales and those of its input and output give no finite number".into());
    }
    let quantized: Op = match &op {
        Op::Conv2dW8(op) => QuantizedConv2d {
            channels: op.of_reals.channels,
            kernel: op.of_reals.kernel,
            stride: op.of_reals.stride,
            pad: op.of_reals.pad,
            dilation: op.of_reals.dilation,
            groups: op.of_reals.groups,
            zero: x.grid.zero,
            weight_bits: op.bits.max(8),
            zeros,
            epilogue: tail.steps.clone(),
            reads: tail.reads.clone(),
            output: tail.output,
        }
        .into(),
        Op::ConvTranspose2dW8(op) => QuantizedConvTranspose2d {
            channels: op.of_reals.channels,
            kernel: op.of_reals.kernel,
            stride: op.of_reals.stride,
            pad: op.of_reals.pad,
            output_pad: op.of_reals.output_pad,
            dilation: op.of_reals.dilation,
            groups: op.of_reals.groups,
            zero: x.grid.zero,
            weight_bits: op.bits.max(8),
            epilogue: tail.steps.clone(),
            reads: tail.reads.clone(),
            output: tail.output,
        }
        .into(),
        Op::LinearW8(op) => QuantizedLinear {
            features: op.of_reals.features,
            zero: x.grid.zero,
            weight_bits: op.bits.max(8),
            epilogue: tail.steps.clone(),
            reads: tail.reads.clone(),
            output: tail.output,
        }
        .into(),
        _ => unreachable!("layers are these three"),
    };
    let message = described(e, &tail);
    let locations = e.locations(&tail.nodes);
    let name = tail.nodes.iter().find_map(|&node| e.node(node).name.clone());
    let named = |weight: WeightId| e.weights.get(weight).name.clone();
    let (scale_name, bias_name) = (named(parameters[1]), named(*parameters.get(2).unwrap_or(&parameters[1])));
    let multiplier = e.derive(&scale_name, [channels], &multiplier, false);
    let offset = e.derive(&bias_name, [channels], &offset, true);
    let operands = [&[x.levels], &tail.extra[..]].concat();
    e.rewrite(tail.last, quantized, &operands, vec![weight.id, multiplier, offset]);
    if e.node(tail.last).name.is_none() {
        e.rename(tail.last, name);
    }
    e.remark(message, locations);
    Ok(())
}

/// `conv1 with relu and add computes in 8 bits`
fn described(e: &Editor, tail: &Tail) -> String {
    let layers: Vec<String> = tail.nodes[1..]
        .iter()
        .filter_map(|&node| match e.node(node).op() {
            Some(Op::Quantize(_)) | None => None,
            Some(op) => Some(op.layer_name().to_string()),
        })
        .collect();
    let with = if layers.is_empty() { String::new() } else { format!(" with {}", layers.join(", ")) };
    format!("{}{with} computes in 8 bits", e.describe(tail.nodes[0]))
}

/// The weight of a layer, by its numbers.
fn weight(e: &Editor, layer: &Op, id: WeightId, scale: WeightId) -> Weight {
    let (levels, scales) = (e.weight_values(id), e.weight_values(scale));
    let shape = &e.weights.get(id).shape;
    let mut norms = vec![0; scales.len()];
    let mut add = |channel: &dyn Fn(usize) -> usize| {
        levels.iter().enumerate().for_each(|(i, w)| norms[channel(i)] += w.abs() as u64);
    };
    match layer {
        Op::Conv2dW8(op) => add(&op.channel(shape)),
        Op::ConvTranspose2dW8(op) => add(&op.channel(shape)),
        Op::LinearW8(op) => add(&op.channel(shape)),
        _ => unreachable!("layers are these three"),
    }
    Weight { id, norms, scales }
}

/// An epilogue has no more steps than this.
const LONGEST: usize = 16;
/// Values that it reads.
const MOST_READ: usize = 4;

/// All that a layer can compute of its sums before anybody reads them.
fn tail(e: &Editor, id: NodeId, depths: &HashMap<NodeId, usize>, affine: Affine) -> Tail {
    let (steps, extra, reads) = (vec![], vec![], vec![]);
    let mut tail = Tail { last: id, nodes: vec![id], affine, steps, extra, reads, output: None };
    while let Some(user) = e.sole_user(tail.last) {
        if let Some(grid) = target(e, user) {
            (tail.last, tail.output) = (user, Some(grid));
            tail.nodes.push(user);
            break;
        }
        if !extend(e, &mut tail, user, depths) {
            break;
        }
        tail.last = user;
        tail.nodes.push(user);
    }
    tail
}

/// Takes one node into the tail, where it can be.
fn extend(e: &Editor, tail: &mut Tail, user: NodeId, depths: &HashMap<NodeId, usize>) -> bool {
    if tail.steps.len() == LONGEST {
        return false;
    }
    if tail.steps.is_empty()
        && let Some((operand, map)) = affine::of(e, user)
        && operand == tail.last
        && map.mul.len() == tail.affine.mul.len()
    {
        tail.affine = tail.affine.then(&map);
        return true;
    }
    match e.node(user).op() {
        Some(Op::Activate(op)) if is_exact(op.kind) => {
            tail.steps.push(PostOp::Activate(op.kind));
            true
        }
        Some(Op::Binary(op)) if op.kind == BinaryKind::Add && op.epilogue.is_empty() => {
            let operands = e.operands(user);
            let other = operands[usize::from(operands[0] == tail.last)];
            let fits = e.node(other).shape == e.node(user).shape && tail.extra.len() < MOST_READ;
            // Of two layers, the one at the end of the longer way takes the sum: the other is there by then.
            let depth = |id: NodeId| depths.get(&id).copied().unwrap_or(0);
            if !fits || other == tail.last || (is_open(e, other, user) && depth(other) > depth(tail.last)) {
                return false;
            }
            let value = on_grid(e, other);
            tail.steps.push(PostOp::Add);
            tail.extra.push(value.map_or(other, |value| value.levels));
            tail.reads.push(value.map(|value| value.grid));
            true
        }
        _ => false,
    }
}

/// Whether a value that only `user` reads is that of a layer which could take `user` in.
fn is_open(e: &Editor, id: NodeId, user: NodeId) -> bool {
    let is_layer = matches!(e.node(id).op(), Some(Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_) | Op::LinearW8(_)));
    is_layer && e.feeds_only(id, user) && on_grid(e, e.operands(id)[0]).is_some()
}

/// Leaves out at the end what the grid's ends do anyway.
fn saturate(tail: &mut Tail) {
    let Some(grid) = tail.output else { return };
    drop_saturating(&mut tail.steps, &grid);
}

fn drop_saturating(steps: &mut Vec<PostOp>, grid: &Grid) {
    let (low, high) = (grid.real(grid.levels.low() as f64), grid.real(grid.levels.high() as f64));
    let is_idle = |step: &PostOp| match step {
        PostOp::Activate(Activation::Relu) => low >= 0.0,
        PostOp::Activate(Activation::Clip { min, max }) => *min <= low && *max >= high,
        _ => false,
    };
    while steps.last().is_some_and(is_idle) {
        steps.pop();
    }
}

/// What everything is divided by before the epilogue, so that the grid's steps are 1. It is 1 where the epilogue does
/// more than keep the sign of what it is given.
fn fold(steps: &[PostOp], reads: &mut Vec<Option<Grid>>, output: Option<&mut Grid>) -> f64 {
    let Some(grid) = output else { return 1.0 };
    match divided(steps, reads, grid.scale) {
        Some(divided) => {
            *reads = divided;
            f64::from(std::mem::replace(&mut grid.scale, 1.0))
        }
        None => 1.0,
    }
}

/// The grids of what an epilogue reads, with scales divided; `None` where the epilogue of divided numbers is not the
/// divided epilogue.
fn divided(steps: &[PostOp], reads: &[Option<Grid>], scale: f32) -> Option<Vec<Option<Grid>>> {
    let is_homogeneous =
        |step: &PostOp| matches!(step, PostOp::Add | PostOp::Activate(Activation::Relu | Activation::LeakyRelu { .. }));
    if !steps.iter().all(is_homogeneous) {
        return None;
    }
    let divide = |grid: &Option<Grid>| {
        let grid = (*grid)?;
        let scale = (f64::from(grid.scale) / f64::from(scale)) as f32;
        check_scale(scale).is_ok().then_some(Some(Grid { scale, ..grid }))
    };
    reads.iter().map(divide).collect()
}

/// A sum, difference, product or extremum of two values on grids that ends on a grid.
fn binary(e: &mut Editor, id: NodeId) -> Option<()> {
    let Op::Binary(op) = e.node(id).op()?.clone() else { return None };
    let operands = e.operands(id);
    let [a, b] = [on_grid(e, operands[0])?, on_grid(e, *operands.get(1)?)?];
    if !op.kind.is_continuous() || !op.epilogue.is_empty() {
        return None;
    }
    let mut nodes = vec![id];
    let (mut steps, mut output) = to_grid(e, &mut nodes)?;
    drop_saturating(&mut steps, &output);
    let mut reads = vec![Some(a.grid), Some(b.grid)];
    // A product is divided where one of its factors is.
    let divides = if op.kind == BinaryKind::Mul { 1 } else { 2 };
    if let Some(divided) = divided(&steps, &reads[..divides], output.scale) {
        reads.splice(..divides, divided);
        output.scale = 1.0;
    }
    debug_assert_eq!(extra_operands(&steps), 0);
    let verb = match op.kind {
        BinaryKind::Add => "adds",
        BinaryKind::Sub => "subtracts",
        BinaryKind::Mul => "multiplies",
        _ => "compares",
    };
    let message = format!("{} {verb} levels", e.describe(id));
    let op = QuantizedBinary { kind: op.kind, reads, epilogue: steps, output: Some(output) };
    replace(e, &nodes, op, &[a.levels, b.levels], vec![], message);
    Some(())
}

/// The functions from the last of these nodes to a grid, which alone reads them; the nodes are put behind the others.
fn to_grid(e: &Editor, nodes: &mut Vec<NodeId>) -> Option<(Vec<PostOp>, Grid)> {
    let mut steps = vec![];
    loop {
        let user = e.sole_user(nodes[nodes.len() - 1])?;
        nodes.push(user);
        if let Some(grid) = target(e, user) {
            return Some((steps, grid));
        }
        match e.node(user).op()? {
            Op::Activate(op) if is_exact(op.kind) && steps.len() < LONGEST => steps.push(PostOp::Activate(op.kind)),
            _ => return None,
        }
    }
}

/// Factors and offsets of channels that no layer before them takes in, and which end on a grid.
fn affine(e: &mut Editor, id: NodeId) -> Option<()> {
    let (x, mut map) = affine::of(e, id).filter(|(_, map)| !map.uniform)?;
    let mut nodes = vec![id];
    while let Some(user) = e.sole_user(nodes[nodes.len() - 1])
        && let Some((_, next)) = affine::of(e, user)
    {
        map = map.then(&next);
        nodes.push(user);
    }
    let (mut steps, mut output) = to_grid(e, &mut nodes)?;
    drop_saturating(&mut steps, &output);
    let fold = fold(&steps, &mut vec![], Some(&mut output));
    let (value, scale, zero) = match byte_on_grid(e, x) {
        Some(OnGrid { levels, grid }) => (levels, f64::from(grid.scale), grid.zero),
        None => (x, 1.0, 0),
    };
    let divide = |values: &[f64], by: f64| values.iter().map(|v| v / by).collect::<Vec<_>>();
    let (multiplier, offset) = (divide(&map.mul, fold / scale), divide(&map.add, fold));
    if !are_finite(&multiplier) || !are_finite(&offset) {
        return None;
    }
    let message = format!("{} writes levels", e.describe(id));
    let origin = origin(e, id).unwrap_or_else(|| "affine.weight".into());
    let weights = vec![
        e.derive(&origin, [multiplier.len()], &multiplier, false),
        e.derive(&bias_name(&origin), [offset.len()], &offset, false),
    ];
    replace(e, &nodes, QuantizedAffine { zero, epilogue: steps, output }, &[value], weights, message);
    Some(())
}

/// Whether numbers stay finite as f32.
fn are_finite(values: &[f64]) -> bool {
    values.iter().all(|&v| (v as f32).is_finite())
}

/// Makes the last of these nodes the op, with the first name that there is.
fn replace(
    e: &mut Editor,
    nodes: &[NodeId],
    op: impl Into<Op>,
    operands: &[NodeId],
    weights: Vec<WeightId>,
    message: String,
) {
    let last = nodes[nodes.len() - 1];
    let locations = e.locations(nodes);
    let name = nodes.iter().find_map(|&node| e.node(node).name.clone());
    e.rewrite(last, op, operands, weights);
    if e.node(last).name.is_none() {
        e.rename(last, name);
    }
    e.remark(message, locations);
}

/// The mean of pixels of levels.
fn mean(e: &mut Editor, id: NodeId) -> Option<()> {
    let pool = e.node(id).op()?.clone();
    let OnGrid { levels, grid } = byte_on_grid(e, e.operands(id)[0])?;
    let shape = e.node(levels).shape.clone();
    let [.., h, w] = shape.nchw()?;
    let largest = grid.levels.high().abs_diff(grid.zero).max(grid.levels.low().abs_diff(grid.zero));
    // The sum is exact, and what it is divided by beside what the op counts itself.
    let (is_exact, pixels) = match &pool {
        Op::GlobalPool(op) => {
            (op.kind == PoolKind::Avg && largest.saturating_mul((h * w) as u64) < 1 << 31, (h * w) as f64)
        }
        Op::AvgPool(op) => (most_pixels(op, &shape) <= MOST_PIXELS, 1.0),
        Op::AdaptiveAvgPool(op) => (most_pixels(op, &shape) <= MOST_PIXELS, 1.0),
        _ => return None,
    };
    if !is_exact {
        return None;
    }
    let quantizes = e.sole_user(id).and_then(|user| Some((user, target(e, user)?)));
    let (last, scale, output) = match quantizes {
        Some((user, grid)) => (user, f64::from(grid.scale), Some(Grid { scale: 1.0, ..grid })),
        None => (id, 1.0, None),
    };
    let multiplier = (f64::from(grid.scale) / pixels / scale) as f32;
    check_scale(multiplier).ok()?;
    let zero = grid.zero;
    let op: Op = match pool {
        Op::AvgPool(of_reals) => QuantizedAvgPool { of_reals, zero, multiplier, output }.into(),
        Op::AdaptiveAvgPool(of_reals) => QuantizedAdaptiveAvgPool { of_reals, zero, multiplier, output }.into(),
        _ => QuantizedGlobalPool { zero, multiplier, output }.into(),
    };
    let message = format!("{} adds up levels", e.describe(id));
    let nodes = if last == id { vec![id] } else { vec![id, last] };
    replace(e, &nodes, op, &[levels], vec![], message);
    Some(())
}

/// Functions of a value on a grid that end on a grid, or none where the two grids differ: what each level becomes is
/// known.
fn function(e: &mut Editor, id: NodeId) -> Option<()> {
    let output = target(e, id)?;
    let (mut steps, mut nodes) = (vec![], vec![id]);
    let mut at = e.operands(id)[0];
    while let Some(Op::Activate(op)) = e.node(at).op()
        && steps.len() < LONGEST
    {
        steps.push(PostOp::Activate(op.kind));
        nodes.push(at);
        at = e.operands(at)[0];
    }
    steps.reverse();
    nodes.reverse();
    let OnGrid { levels, grid } = on_grid(e, at)?;
    drop_saturating(&mut steps, &output);
    let op = Requantize { input: grid, epilogue: steps, output };
    Op::from(op.clone()).infer(&[&e.node(levels).shape]).ok()?;
    let message = match nodes.len() {
        1 => format!("{} becomes levels of another grid", e.describe(at)),
        _ => format!("{} maps levels to levels", e.describe(nodes[0])),
    };
    replace(e, &nodes, op, &[levels], vec![], message);
    Some(())
}
