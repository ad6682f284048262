//! Layer normalisation over channels, or over the last axes, written out as arithmetic.
//!
//! ```text
//! %m = reduce %x { kind=mean axes=[1] }
//! %c = binary %x, %m { kind=sub }
//! %s = binary %c, %c { kind=mul }
//! %v = reduce %s { kind=mean axes=[1] }                   ⟶     %n = layer_norm %x { eps=1e-6 affine=false }
//! %e = activation %v { kind=scale(1.0,1e-6) }
//! %d = activation %e { kind=sqrt }
//! %n = binary %c, %d { kind=div }
//!
//! %n = layer_norm %x { affine=false }                     ⟶     %y = layer_norm %x, @w, @b
//! %y = channel_affine %n, @w, @b
//!
//! %m = reduce %x { kind=mean axes=[2] }                          %r = reshape %x { shape=[-1,768] }
//! …                                                       ⟶     %l = layer_norm %r, @w, @b
//! %p = binary %n, %w { kind=mul }                                %y = reshape %l { shape=[-1,197,768] }
//! %y = binary %p, %b { kind=add }
//! ```
//!
//! The end may be `c · (1 / d)` too, and the difference may stand there twice. Legal when: both means are over the channels
//! of images or vectors, or over the last axes, and keep them; nobody else reads what lies
//! between x and the result; of an inverse, the constant holds ones; and what a norm of the last axes is multiplied by, or
//! what is added, is constant and has those axes. Numerics: bounded; the sums are the
//! same, and fewer values between are rounded. Order: after `cse`; before `fold_batch_norm`, which takes
//! factors per channel to other layers.

use std::collections::HashSet;

use super::fold_batch_norm::bias_name;
use super::pattern::{activation, binary, in_order, is_closed, scale};
use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::reduce::ReduceKind;
use crate::ops::{LayerNorm, Op, Reduce, Reshape};
use crate::weights::WeightId;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        if recognise(e, id).is_none() && take_affine(e, id).is_none() {
            take_constant(e, id);
        }
    });
}

fn recognise(e: &mut Editor, last: NodeId) -> Option<()> {
    let mut norm = Norm { e, axes: vec![], inside: HashSet::new() };
    let (x, eps) = norm.found(last)?;
    let (mut inside, axes) = (norm.inside, norm.axes);
    inside.remove(&last);
    let shape = e.node(x).shape.clone();
    let of_channels = axes == [1] && matches!(shape.rank(), 2 | 4);
    let first = axes[0];
    let of_rows = first > 0 && axes.iter().copied().eq(first..shape.rank());
    if !(of_channels || of_rows) || !is_closed(e, &inside, last) {
        return None;
    }
    let nodes = in_order(&inside, last);
    let message = format!("wrote the {} operations up to {} as layer_norm", nodes.len(), e.describe(last));
    let locations = e.locations(&nodes);
    let op = LayerNorm { eps, affine: false, sizes: vec![] };
    match of_channels {
        true => e.rewrite(last, op, &[x], vec![]),
        // As the language has it: rows are vectors for the while.
        false => {
            let size = |dims: &[usize]| dims.iter().product::<usize>() as i64;
            let rows = e.insert(Reshape { shape: vec![-1, size(&shape.dims()[first..])] }, &[x], vec![], last);
            let normal = e.insert(op, &[rows], vec![], last);
            let back = [-1].into_iter().chain(shape.dims()[1..].iter().map(|&size| size as i64)).collect();
            e.rewrite(last, Reshape { shape: back }, &[normal], vec![]);
        }
    }
    e.remark(message, locations);
    Some(())
}

/// The search for one norm.
struct Norm<'e, 'g> {
    e: &'e Editor<'g>,
    /// What the means are over; empty before one is found.
    axes: Vec<usize>,
    /// Nodes that would vanish.
    inside: HashSet<NodeId>,
}

impl Norm<'_, '_> {
    /// The x and the eps of a norm that ends in a node.
    fn found(&mut self, last: NodeId) -> Option<(NodeId, f32)> {
        let (centred, deviation) = self.quotient(last)?;
        let (x, eps) = self.deviation(deviation)?;
        (self.centred(centred)? == x).then_some((x, eps))
    }

    /// The a and b of `a / b`, or of `a · (1 / b)`.
    fn quotient(&mut self, id: NodeId) -> Option<(NodeId, NodeId)> {
        if let Some([a, b]) = binary(self.e, id, BinaryKind::Div) {
            return Some((a, b));
        }
        let [a, b] = binary(self.e, id, BinaryKind::Mul)?;
        let (a, inverse, b) =
            [(a, b), (b, a)].into_iter().find_map(|(a, factor)| Some((a, factor, self.inverted(factor)?)))?;
        self.inside.insert(inverse);
        Some((a, b))
    }

    /// The x of `1 / x`.
    fn inverted(&self, id: NodeId) -> Option<NodeId> {
        let [one, x] = binary(self.e, id, BinaryKind::Div)?;
        let is_constant = matches!(self.e.node(one).op(), Some(Op::Constant(_)));
        let keeps_shape = self.e.node(id).shape == self.e.node(x).shape;
        let holds_ones = || {
            let [weight] = self.e.weights_read(one)[..] else { return false };
            self.e.weight_values(weight).iter().all(|&v| v == 1.0)
        };
        (is_constant && keeps_shape && holds_ones()).then_some(x)
    }

    /// The x of `sqrt(mean((x − mean(x))²) + eps)` over channels, and the eps.
    fn deviation(&mut self, id: NodeId) -> Option<(NodeId, f32)> {
        let (Activation::Sqrt, sum) = activation(self.e, id)? else { return None };
        let (1.0, eps, variance) = scale(self.e, sum)? else { return None };
        let square = self.mean(variance)?;
        let [a, b] = binary(self.e, square, BinaryKind::Mul)?;
        let (x, y) = (self.centred(a)?, self.centred(b)?);
        self.inside.extend([id, sum, variance, square]);
        // Of what is below 0 there is no square root, and no norm.
        (x == y && eps >= 0.0).then_some((x, eps))
    }

    /// The x of `x − mean(x)`.
    fn centred(&mut self, id: NodeId) -> Option<NodeId> {
        let [x, mean] = binary(self.e, id, BinaryKind::Sub)?;
        let of = self.mean(mean)?;
        self.inside.extend([id, mean]);
        (of == x).then_some(x)
    }

    /// What a mean over the norm's axes is taken of.
    fn mean(&mut self, id: NodeId) -> Option<NodeId> {
        match self.e.node(id).op()? {
            Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, keepdims: true }) => {
                if self.axes.is_empty() {
                    self.axes.clone_from(axes);
                }
                (self.axes == *axes && !axes.is_empty()).then(|| self.e.operands(id)[0])
            }
            _ => None,
        }
    }
}

/// A factor and a term per channel behind a norm that has none.
fn take_affine(e: &mut Editor, id: NodeId) -> Option<()> {
    let Op::ChannelAffine(affine) = e.node(id).op()? else { return None };
    let norm = e.operands(id)[0];
    let &Op::LayerNorm(LayerNorm { eps, affine: false, .. }) = e.node(norm).op()? else { return None };
    if !affine.epilogue.is_empty() || !e.feeds_only(norm, id) {
        return None;
    }
    let message = format!("took {} into {}", e.describe(id), e.describe(norm));
    let locations = e.locations(&[norm, id]);
    let x = e.operands(norm)[0];
    let mut weights = e.weights_of(id)?;
    if let [weight] = weights[..] {
        let weight = e.weights.get(weight);
        let (name, shape) = (weight.name.clone(), weight.shape.clone());
        let zeros = vec![0.0; shape.elements()];
        weights.push(e.derive(&name, shape, &zeros, true));
    }
    e.rewrite(id, LayerNorm { eps, affine: true, sizes: vec![] }, &[x], weights);
    e.remark(message, locations);
    Some(())
}

/// Constants of the normalised axes that a norm of rows is multiplied by, or that are added.
fn take_constant(e: &mut Editor, id: NodeId) -> Option<()> {
    let (kind, operands) = [BinaryKind::Mul, BinaryKind::Add]
        .into_iter()
        .find_map(|kind| binary(e, id, kind).map(|operands| (kind, operands)))?;
    let [a, b] = operands;
    let (rows, constant) = match e.node(b).op()? {
        Op::Constant(_) => (a, b),
        _ => (b, a),
    };
    let (Op::Reshape(back), Op::Constant(_)) = (e.node(rows).op()?.clone(), e.node(constant).op()?) else {
        return None;
    };
    let norm = e.operands(rows)[0];
    let Op::LayerNorm(op) = e.node(norm).op()?.clone() else { return None };
    let (of_norm, shape) = (e.node(norm).shape.clone(), e.node(id).shape.clone());
    let dims = e.node(constant).shape.dims();
    let each = of_norm[1];
    // The last sizes are the row's, and those before them 1.
    let inner = dims.iter().position(|&size| size != 1).map_or(&[][..], |first| &dims[first..]);
    let is_row = inner.iter().product::<usize>() == each && shape.dims().ends_with(inner);
    let is_inside = e.feeds_only(norm, rows) && e.feeds_only(rows, id) && e.node(rows).shape == shape;
    if of_norm.rank() != 2 || !op.sizes.is_empty() || !is_row || !is_inside {
        return None;
    }
    // A layer with weights has a label, which is the norm's, or the constant's that goes.
    let of_constant = || e.feeds_only(constant, id).then(|| e.node(constant).name.clone()).flatten();
    let label = e.node(norm).name.clone().or_else(of_constant)?;
    let [weight] = e.weights_read(constant)[..] else { return None };
    let values = e.weight_values(weight);
    let known = if op.affine { e.weights_of(norm)? } else { vec![] };
    // Behind a term there is no factor to be taken.
    let [factors, terms] = match (kind, known[..].is_empty()) {
        (BinaryKind::Mul, true) => [values, vec![0.0; each]],
        (BinaryKind::Mul, false) => return None,
        (_, true) => [vec![1.0; each], values],
        (_, false) => {
            let sum = e.weight_values(known[1]).iter().zip(values).map(|(a, b)| a + b).collect();
            [e.weight_values(known[0]), sum]
        }
    };
    let message = format!("took {} into {}", e.describe(id), e.describe(norm));
    let locations = e.locations(&[norm, id]);
    let name = e.weights.get(weight).name.clone();
    let name_of =
        |known: Option<&WeightId>, e: &Editor| known.map_or(name.clone(), |&known| e.weights.get(known).name.clone());
    let names = [name_of(known.first(), e), if kind == BinaryKind::Add { name.clone() } else { bias_name(&name) }];
    let weights = [(&names[0], factors), (&names[1], terms)];
    let weights = weights.map(|(name, values)| e.derive(name, [each], &values, true)).to_vec();
    let x = e.operands(norm)[0];
    let with_weights = e.insert(LayerNorm { affine: true, ..op }, &[x], weights, id);
    e.rewrite(id, back, &[with_weights], vec![]);
    e.rename(with_weights, Some(label));
    e.remark(message, locations);
    Some(())
}
