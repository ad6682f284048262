//! Nodes that map each channel affinely, whatever op they are: the common view that
//! `fold_batch_norm` and `fold_input_normalization` have of them.

use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::{BatchNorm, Binary, ChannelAffine, Op};
use crate::weights::WeightId;

/// `x · mul[c] + add[c]` for each channel c (axis 1), in f64.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Affine {
    pub mul: Vec<f64>,
    pub add: Vec<f64>,
    /// All channels alike by what the nodes are, not by what their weights happen to hold: a
    /// network is to be optimized the same way with and without its trained weights.
    pub uniform: bool,
}

impl Affine {
    pub(crate) fn uniform(mul: f64, add: f64, channels: usize) -> Self {
        Self { mul: vec![mul; channels], add: vec![add; channels], uniform: true }
    }

    /// First `self`, then `next`.
    pub(crate) fn then(&self, next: &Affine) -> Affine {
        let mul = self.mul.iter().zip(&next.mul).map(|(a, b)| a * b).collect();
        let add = self.add.iter().zip(next.mul.iter().zip(&next.add)).map(|(a, (m, b))| a * m + b).collect();
        Affine { mul, add, uniform: self.uniform && next.uniform }
    }

    /// Whether it is a constant 1 and a constant 0.
    pub(crate) fn is_identity(&self) -> bool {
        self.uniform && self.mul.iter().all(|&m| m == 1.0) && self.add.iter().all(|&a| a == 0.0)
    }
}

/// The operand that a node maps affinely, and how. `None` where it does something else.
pub(crate) fn of(e: &Editor, id: NodeId) -> Option<(NodeId, Affine)> {
    let node = e.node(id);
    let operands = e.operands(id);
    let channels = *node.shape.dims().get(1)?;
    match node.op()? {
        Op::BatchNorm(op) => Some((operands[0], batch_norm(e, op, &e.weights_of(id)?))),
        Op::ChannelAffine(op) if op.epilogue.is_empty() => {
            Some((operands[0], channel_affine(e, op, &e.weights_of(id)?)))
        }
        Op::Binary(op) if op.epilogue.is_empty() => binary(e, id, op, &operands),
        Op::Activate(op) => match op.kind {
            Activation::Scale { mul, add } => {
                Some((operands[0], Affine::uniform(f64::from(mul), f64::from(add), channels)))
            }
            _ => None,
        },
        _ => None,
    }
}

fn batch_norm(e: &Editor, op: &BatchNorm, weights: &[WeightId]) -> Affine {
    let (scale, [mean, var]) = match *weights {
        [weight, bias, mean, var] => (Some((weight, bias)), [mean, var]),
        [mean, var] => (None, [mean, var]),
        _ => unreachable!("two or four weights, as declared"),
    };
    let deviation = e.weight_values(var).into_iter().map(|v| (v + f64::from(op.eps)).sqrt());
    let inverse: Vec<f64> = deviation.map(|d| 1.0 / d).collect();
    let add = e.weight_values(mean).iter().zip(&inverse).map(|(m, i)| -m * i).collect();
    let normalized = Affine { mul: inverse, add, uniform: false };
    let scale = scale.map(|(w, b)| Affine { mul: e.weight_values(w), add: e.weight_values(b), uniform: false });
    scale.map_or(normalized.clone(), |s| normalized.then(&s))
}

fn channel_affine(e: &Editor, op: &ChannelAffine, weights: &[WeightId]) -> Affine {
    let mul = e.weight_values(weights[0]);
    let add = if op.bias { e.weight_values(weights[1]) } else { vec![0.0; mul.len()] };
    Affine { mul, add, uniform: false }
}

/// A binary with one constant of one value, or of one value per channel.
fn binary(e: &Editor, id: NodeId, op: &Binary, operands: &[NodeId]) -> Option<(NodeId, Affine)> {
    let shape = &e.node(id).shape;
    let per_channel = |constant: NodeId| -> Option<(Vec<f64>, bool)> {
        let node = e.node(constant);
        let Op::Constant(_) = node.op()? else { return None };
        // Axis 1 of the result, counted from the end as broadcasting does.
        let from_end = shape.rank() - 1;
        let dims = node.shape.dims();
        let varies = |(axis, &size): (usize, &usize)| size != 1 && dims.len() - axis != from_end;
        if dims.iter().enumerate().any(varies) {
            return None;
        }
        let values = e.weight_values(*e.weights_of(constant)?.first()?);
        Some(if values.len() == 1 { (vec![values[0]; shape[1]], true) } else { (values, false) })
    };
    let (value, (constant, uniform), flipped) = match *operands {
        [a, b] if per_channel(b).is_some() => (a, per_channel(b)?, false),
        [a, b] => (b, per_channel(a)?, true),
        _ => return None,
    };
    if e.node(value).shape != *shape {
        return None;
    }
    let each = |f: fn(f64) -> f64| constant.iter().map(|&v| f(v)).collect::<Vec<_>>();
    let (zeros, ones) = (each(|_| 0.0), each(|_| 1.0));
    let (mul, add) = match (op.kind, flipped) {
        (BinaryKind::Add, _) => (ones, constant),
        (BinaryKind::Mul, _) => (constant, zeros),
        (BinaryKind::Sub, false) => (ones, each(|v| -v)),
        (BinaryKind::Sub, true) => (each(|_| -1.0), constant),
        (BinaryKind::Div, false) => (each(|v| 1.0 / v), zeros),
        _ => return None,
    };
    Some((value, Affine { mul, add, uniform }))
}
