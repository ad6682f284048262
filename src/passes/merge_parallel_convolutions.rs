//! Convolutions of one value that are added become one convolution, and with them factors of its channels and the value
//! itself: the branches of a network that was trained with several and infers with one (RepVGG, Ding et al. 2021,
//! arXiv:2101.03697, section 3.3).
//!
//! ```text
//! %a = conv2d %x, @wa, @ba { channels=64 kernel=3x3 pad=1,1,1,1 … }
//! %b = conv2d %x, @wb, @bb { channels=64 kernel=1x1 … }
//! %c = channel_affine %x, @wc, @bc                                  ⟶     %y = conv2d %x, @w, @b { channels=64 kernel=3x3 pad=1,1,1,1 … }
//! %d = binary %a, %b { kind=add }
//! %y = binary %d, %c { kind=add }
//! ```
//!
//! The mean of windows is such a convolution, too (Diverse Branch Block, Ding et al. 2021, arXiv:2103.13425, section 3.2).
//!
//! Legal when: nobody else reads the convolutions, which have no epilogues, the same stride, and groups that lie within those
//! of the one with the largest window, and every tap of one reads what a tap of that one reads; a factor of a channel, and the
//! value itself, are the tap in the middle, of a layer whose output has the input's size. The terms of a sum may stand in any
//! order, with others between them. Numerics: sums have another order, and weights are added in f64 and rounded
//! once. Order: behind `fold_batch_norm`, which leaves convolutions and factors side by side, and before all that
//! looks at single convolutions.

use super::affine::{self, Affine};
use super::fold_batch_norm::bias_name;
use super::pattern::binary;
use crate::ir::{Editor, NodeId};
use crate::ops::binary::BinaryKind;
use crate::ops::{AvgPool, Binary, Conv2d, Op};

/// Terms of the longest sum that is looked at as a whole.
const MAX_TERMS: usize = 16;

pub(crate) fn run(e: &mut Editor) {
    // What is merged is a term of the next sum, and may be merged again there.
    e.for_each(|e, id| while merge(e, id).is_some() {});
}

/// A convolution with its weights.
struct Branch {
    op: Conv2d,
    weight: Vec<f64>,
    bias: Vec<f64>,
}

/// A term of a sum, and the addition that reads it.
#[derive(Clone, Copy)]
struct Term {
    node: NodeId,
    reader: NodeId,
}

/// Merges terms of a sum with the first convolution of the largest window that takes any.
fn merge(e: &mut Editor, add: NodeId) -> Option<()> {
    let terms = terms(e, add);
    let mut convolutions: Vec<usize> = (0..terms.len()).filter(|&at| convolution(e, terms[at]).is_some()).collect();
    convolutions
        .sort_by_key(|&at| convolution(e, terms[at]).map(|(_, op)| std::cmp::Reverse(op.kernel[0] * op.kernel[1])));
    for at in convolutions {
        let (x, op) = convolution(e, terms[at])?;
        let others = terms.iter().enumerate().filter(|(other, _)| *other != at);
        let within = others.filter_map(|(other, term)| Some((other, branch(e, *term, x, &op)?)));
        let within: Vec<_> = within.collect();
        if within.is_empty() {
            continue;
        }
        let mut merged = with_weights(e, terms[at].node, &op)?;
        let inputs = e.node(x).shape[1];
        let mut places = vec![at];
        for (other, (small, taps)) in within {
            join(&mut merged, &small, &taps, inputs);
            places.push(other);
        }
        replace(e, add, x, merged, &terms, places);
        return Some(());
    }
    None
}

/// The terms of a sum in order, those of sums in it that nobody else reads among them; none where it broadcasts.
fn terms(e: &Editor, add: NodeId) -> Vec<Term> {
    let shape = &e.node(add).shape;
    let mut terms = vec![];
    let mut stack = vec![Term { node: add, reader: add }];
    while let Some(term) = stack.pop() {
        let goes_on =
            term.node == add || (e.feeds_only(term.node, term.reader) && terms.len() + stack.len() < MAX_TERMS);
        let operands = binary(e, term.node, BinaryKind::Add).filter(|_| goes_on);
        match operands.filter(|both| both.iter().all(|&id| e.node(id).shape == *shape)) {
            Some([a, b]) => stack.extend([b, a].map(|node| Term { node, reader: term.node })),
            None if term.node == add => return vec![],
            None => terms.push(term),
        }
    }
    terms
}

/// Puts a convolution in the place of several terms, of which the first is where it stands in what is left of the sum.
fn replace(e: &mut Editor, add: NodeId, x: NodeId, merged: Branch, terms: &[Term], mut places: Vec<usize>) {
    let at = places[0];
    let is_convolution = |&place: &usize| convolution(e, terms[place]).is_some();
    places.sort_by_key(|place| (!is_convolution(place), *place));
    let nodes: Vec<NodeId> = places.iter().map(|&place| terms[place].node).collect();
    let names: Vec<String> = nodes.iter().map(|&node| e.describe(node)).collect();
    let (last, first) = names.split_last().expect("it merges several");
    let message = format!("merged {} and {last} into one convolution", first.join(", "));
    let locations = e.locations(&[nodes.as_slice(), &[add]].concat());
    let origin = e.parameter_name(nodes[0], 0);
    let inputs = e.node(x).shape[1];
    let sizes = [merged.op.channels, inputs / merged.op.groups, merged.op.kernel[0], merged.op.kernel[1]];
    let weights = vec![
        e.derive(&origin, sizes, &merged.weight, true),
        e.derive(&bias_name(&origin), [merged.bias.len()], &merged.bias, true),
    ];
    let is_left = |place: &usize| *place == at || !places.contains(place);
    let left: Vec<usize> = (0..terms.len()).filter(is_left).collect();
    match left.as_slice() {
        [_] => e.rewrite(add, merged.op, &[x], weights),
        _ => {
            let convolution = e.insert(merged.op, &[x], weights, terms[at].node);
            let node = |&place: &usize| if place == at { convolution } else { terms[place].node };
            let left: Vec<NodeId> = left.iter().map(node).collect();
            let plus = || Binary { kind: BinaryKind::Add, epilogue: vec![] };
            let (last, first) = left.split_last().expect("it has several terms");
            let before = first[1..].iter().fold(first[0], |sum, &term| e.insert(plus(), &[sum, term], vec![], add));
            e.rewrite(add, plus(), &[before, *last], vec![]);
        }
    }
    e.remark(message, locations);
}

/// A convolution of known weights that only the sum reads, and what it is of.
fn convolution(e: &Editor, term: Term) -> Option<(NodeId, Conv2d)> {
    let Op::Conv2d(op) = e.node(term.node).op()? else { return None };
    let is_free = op.epilogue.is_empty() && e.feeds_only(term.node, term.reader);
    e.weights_of(term.node).filter(|_| is_free).map(|_| (e.operands(term.node)[0], op.clone()))
}

fn with_weights(e: &Editor, id: NodeId, op: &Conv2d) -> Option<Branch> {
    let weights = e.weights_of(id)?;
    let weight = e.weight_values(weights[0]);
    let bias = weights.get(1).map_or_else(|| vec![0.0; op.channels], |&bias| e.weight_values(bias));
    Some(Branch { op: Conv2d { bias: true, ..op.clone() }, weight, bias })
}

/// A term as a convolution of x, and for each axis its taps within the window of a larger one.
fn branch(e: &Editor, term: Term, x: NodeId, large: &Conv2d) -> Option<(Branch, [Vec<usize>; 2])> {
    if let Some((of, op)) = convolution(e, term) {
        let taps = taps_within(large, &op).filter(|_| of == x)?;
        return Some((with_weights(e, term.node, &op)?, taps));
    }
    let small = of_channels(e, term.node, x)?;
    let taps = taps_within(large, &small.op)?;
    Some((small, taps))
}

/// Factors and terms of x's channels, or of the means of windows of x, as a convolution of single channels. x itself is one.
fn of_channels(e: &Editor, id: NodeId, x: NodeId) -> Option<Branch> {
    let channels = e.node(id).shape[1];
    let itself = || (id, Affine::uniform(1.0, 0.0, channels));
    let (of, map) = if id == x { itself() } else { affine::of(e, id).unwrap_or_else(itself) };
    let point =
        AvgPool { kernel: [1, 1], stride: [1, 1], pad: [0; 4], dilation: [1, 1], ceil: false, count_include_pad: true };
    let pool = match e.node(of).op() {
        _ if of == x => &point,
        Some(Op::AvgPool(pool)) if e.operands(of)[0] == x => pool,
        _ => return None,
    };
    let &AvgPool { kernel, stride, pad, dilation, ceil, count_include_pad } = pool;
    // The divisor is the same for all pixels where all taps of a window count.
    if ceil || !(count_include_pad || pad == [0; 4]) || map.mul.len() != channels {
        return None;
    }
    let taps = kernel[0] * kernel[1];
    let weight = map.mul.iter().flat_map(|factor| vec![factor / taps as f64; taps]).collect();
    let op = Conv2d { channels, kernel, stride, pad, dilation, groups: channels, bias: true, epilogue: vec![] };
    Some(Branch { op, weight, bias: map.add })
}

/// For each axis, the taps of the large window that read what those of the small one read.
fn taps_within(large: &Conv2d, small: &Conv2d) -> Option<[Vec<usize>; 2]> {
    if large.stride != small.stride || small.groups % large.groups != 0 || large.channels != small.channels {
        return None;
    }
    let along = |axis: usize| {
        let tap = |tap: usize| {
            let place = tap * small.dilation[axis] + large.pad[axis];
            let place = place.checked_sub(small.pad[axis])?;
            let fits = place.is_multiple_of(large.dilation[axis]);
            Some(place / large.dilation[axis]).filter(|&tap| fits && tap < large.kernel[axis])
        };
        (0..small.kernel[axis]).map(tap).collect::<Option<Vec<_>>>()
    };
    Some([along(0)?, along(1)?])
}

/// Adds weights to those of a larger window, each group's to those of the group around it.
fn join(large: &mut Branch, small: &Branch, [rows, columns]: &[Vec<usize>; 2], inputs: usize) {
    let ([h, w], [small_h, small_w]) = (large.op.kernel, small.op.kernel);
    // The first input of the group that an output channel is of, and how many inputs it has.
    let inputs_of = |op: &Conv2d, channel: usize| {
        let each = inputs / op.groups;
        (channel / (op.channels / op.groups) * each, each)
    };
    for channel in 0..large.op.channels {
        let ((first, each), (small_first, small_each)) = (inputs_of(&large.op, channel), inputs_of(&small.op, channel));
        for input in 0..small_each {
            let plane = channel * each + small_first + input - first;
            let small_plane = channel * small_each + input;
            for (y, &row) in rows.iter().enumerate() {
                for (x, &column) in columns.iter().enumerate() {
                    large.weight[(plane * h + row) * w + column] +=
                        small.weight[(small_plane * small_h + y) * small_w + x];
                }
            }
        }
    }
    large.bias.iter_mut().zip(&small.bias).for_each(|(sum, term)| *sum += term);
}
