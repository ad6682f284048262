//! Layer normalisation over channels, written out as arithmetic.
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
//! ```
//!
//! The end may be `c · (1 / d)` too, and the difference may stand there twice. Legal when: x is an image or a
//! vector, whose channels are axis 1; both means are over that axis and keep it; nobody else reads what lies
//! between x and the result; and of an inverse, the constant holds ones. Numerics: bounded; the sums are the
//! same, and fewer values between are rounded. Order: after `cse`; before `fold_batch_norm`, which takes
//! factors per channel to other layers.

use std::collections::HashSet;

use super::pattern::{activation, binary, in_order, is_closed, scale};
use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::reduce::ReduceKind;
use crate::ops::{LayerNorm, Op, Reduce};

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        if recognise(e, id).is_none() {
            take_affine(e, id);
        }
    });
}

fn recognise(e: &mut Editor, last: NodeId) -> Option<()> {
    let mut norm = Norm { e, inside: HashSet::new() };
    let (x, eps) = norm.found(last)?;
    let mut inside = norm.inside;
    inside.remove(&last);
    if !matches!(e.node(x).shape.rank(), 2 | 4) || !is_closed(e, &inside, last) {
        return None;
    }
    let nodes = in_order(&inside, last);
    let message = format!("wrote the {} operations up to {} as layer_norm", nodes.len(), e.describe(last));
    let locations = e.locations(&nodes);
    e.rewrite(last, LayerNorm { eps, affine: false, sizes: vec![] }, &[x], vec![]);
    e.remark(message, locations);
    Some(())
}

/// The search for one norm.
struct Norm<'e, 'g> {
    e: &'e Editor<'g>,
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

    /// What a mean over channels is taken of.
    fn mean(&self, id: NodeId) -> Option<NodeId> {
        match self.e.node(id).op()? {
            Op::Reduce(Reduce { kind: ReduceKind::Mean, axes, keepdims: true }) if axes[..] == [1] => {
                Some(self.e.operands(id)[0])
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
