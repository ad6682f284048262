//! GELU written out, by the error function or in its tanh approximation.
//!
//! ```text
//! %a = activation %x { kind=scale(0.70710677,0.0) }
//! %b = activation %a { kind=erf }
//! %c = activation %b { kind=scale(1.0,1.0) }              ⟶     %y = activation %x { kind=gelu }
//! %d = binary %x, %c { kind=mul }
//! %y = activation %d { kind=scale(0.5,0.0) }
//! ```
//!
//! Programs write the factors in any order, so no order is looked for. With t for the error function, or for
//! tanh, both its argument and the result are polynomials, whose coefficients tell:
//!
//! ```text
//! gelu         t = erf(x / √2)                           ½ x + ½ x t
//! gelu_tanh    t = tanh(√(2/π) x + √(2/π) 0.044715 x³)   ½ x + ½ x t
//! ```
//!
//! Legal when: each coefficient is that of the formula, as f32 or five decimal digits hold it; nothing
//! broadcasts; and nobody else reads what lies between x and the result. Numerics: bounded. The constants may
//! differ by 1e-5 of their size, which moves the result by less than 2e-5 of |x|. The fused function rounds
//! once and keeps the digits of small values, which `1 + t` loses; at −∞ it is 0, where the product is NaN.
//! Order: after `cse`, which leaves one of equal parts, and before `compose_scales`, which may take the ½
//! into a factor behind.

use std::collections::{HashMap, HashSet};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::pattern::{activation, in_order, is_closed, is_near, scale};
use crate::ir::{Editor, NodeId};
use crate::ops::activation::Activation;
use crate::ops::binary::BinaryKind;
use crate::ops::{Activate, Binary, Op};

/// Nodes of the longest formula that is looked at.
const MAX_NODES: usize = 12;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, t| {
        recognise(e, t);
    });
}

/// The GELU around an error function or tanh.
fn recognise(e: &mut Editor, t: NodeId) -> Option<()> {
    let (kind, argument, expected) = match activation(e, t)? {
        (Activation::Erf, argument) => (Activation::Gelu, argument, Polynomial::x(FRAC_1_SQRT_2, 0.0)),
        (Activation::Tanh, argument) => {
            let root = (2.0 / PI).sqrt();
            (Activation::GeluTanh, argument, Polynomial::x(root, root * 0.044715))
        }
        _ => return None,
    };
    let (x, mut inside) = argument_of(e, argument, &expected)?;
    let (last, between) = result(e, x, t)?;
    inside.extend(between);
    inside.insert(t);
    inside.remove(&last);
    if !is_closed(e, &inside, last) {
        return None;
    }
    let nodes = in_order(&inside, last);
    let message = format!("wrote the {} operations up to {} as gelu", nodes.len(), e.describe(last));
    let locations = e.locations(&nodes);
    e.rewrite(last, Activate { kind }, &[x], vec![]);
    e.remark(message, locations);
    Some(())
}

/// The x of which a value is the expected polynomial, and the nodes that compute it.
fn argument_of(e: &Editor, value: NodeId, expected: &Polynomial) -> Option<(NodeId, HashSet<NodeId>)> {
    let mut candidates = vec![value];
    let mut next = 0;
    while let Some(&x) = candidates.get(next) {
        let mut formula = Formula::new(e, x, None);
        if formula.of(value).is_some_and(|p| p.is_near(expected)) {
            return Some((x, formula.nodes()));
        }
        let deeper = if is_term(e, x) { e.operands(x) } else { vec![] };
        let unseen: Vec<NodeId> = deeper.into_iter().filter(|id| !candidates.contains(id)).collect();
        candidates.extend(unseen);
        candidates.truncate(MAX_NODES);
        next += 1;
    }
    None
}

fn is_term(e: &Editor, id: NodeId) -> bool {
    scale(e, id).is_some() || matches!(e.node(id).op(), Some(Op::Binary(_)))
}

/// The first value behind t that is ½ x + ½ x t, and the nodes that compute it from the two.
fn result(e: &Editor, x: NodeId, t: NodeId) -> Option<(NodeId, HashSet<NodeId>)> {
    let mut formula = Formula::new(e, x, Some(t));
    let mut value = t;
    loop {
        value = sole_reader(e, value)?;
        if formula.of(value)?.is_near(&Polynomial::GELU) {
            return Some((value, formula.nodes()));
        }
    }
}

/// The node that alone reads a value, be it twice.
fn sole_reader(e: &Editor, value: NodeId) -> Option<NodeId> {
    let (reader, _) = e.only_user(value)?;
    (!e.is_output(value)).then_some(reader)
}

/// Coefficients by the powers of x, from 0 to 3, and of t, 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Polynomial([[f64; 2]; 4]);

impl Polynomial {
    const X: Self = Self([[0.0; 2], [1.0, 0.0], [0.0; 2], [0.0; 2]]);
    const T: Self = Self([[0.0, 1.0], [0.0; 2], [0.0; 2], [0.0; 2]]);
    const GELU: Self = Self([[0.0; 2], [0.5, 0.5], [0.0; 2], [0.0; 2]]);

    /// Of x and x³.
    fn x(first: f64, third: f64) -> Self {
        Self([[0.0; 2], [first, 0.0], [0.0; 2], [third, 0.0]])
    }

    fn scaled(mut self, mul: f32, add: f32) -> Self {
        self.0.as_flattened_mut().iter_mut().for_each(|c| *c *= f64::from(mul));
        self.0[0][0] += f64::from(add);
        self
    }

    /// `self + factor · other`
    fn plus(mut self, factor: f64, other: &Self) -> Self {
        self.0.as_flattened_mut().iter_mut().zip(other.0.as_flattened()).for_each(|(a, b)| *a += factor * b);
        self
    }

    /// The product, where it has no higher powers.
    fn times(&self, other: &Self) -> Option<Self> {
        let mut product = Self([[0.0; 2]; 4]);
        let terms = |p: &Self| {
            let powers =
                p.0.into_iter()
                    .enumerate()
                    .flat_map(|(x, row)| row.into_iter().enumerate().map(move |(t, c)| (x, t, c)));
            powers.filter(|(.., c)| *c != 0.0).collect::<Vec<_>>()
        };
        for (x, t, a) in terms(self) {
            for (other_x, other_t, b) in terms(other) {
                *product.0.get_mut(x + other_x)?.get_mut(t + other_t)? += a * b;
            }
        }
        Some(product)
    }

    fn is_near(&self, expected: &Self) -> bool {
        self.0.as_flattened().iter().zip(expected.0.as_flattened()).all(|(&found, &e)| is_near(found, e))
    }
}

/// Values as polynomials in x and t, which have the shape of x.
struct Formula<'e, 'g> {
    e: &'e Editor<'g>,
    x: NodeId,
    t: Option<NodeId>,
    /// `None` for what is no polynomial.
    known: HashMap<NodeId, Option<Polynomial>>,
}

impl<'e, 'g> Formula<'e, 'g> {
    fn new(e: &'e Editor<'g>, x: NodeId, t: Option<NodeId>) -> Self {
        Self { e, x, t, known: HashMap::new() }
    }

    /// The nodes that were looked at, x and t apart.
    fn nodes(&self) -> HashSet<NodeId> {
        self.known.keys().copied().collect()
    }

    fn of(&mut self, value: NodeId) -> Option<Polynomial> {
        if value == self.x {
            return Some(Polynomial::X);
        }
        if Some(value) == self.t {
            return Some(Polynomial::T);
        }
        if let Some(&known) = self.known.get(&value) {
            return known;
        }
        if self.known.len() == MAX_NODES {
            return None;
        }
        self.known.insert(value, None);
        let polynomial = self.computed(value);
        self.known.insert(value, polynomial);
        polynomial
    }

    fn computed(&mut self, value: NodeId) -> Option<Polynomial> {
        if let Some((mul, add, of)) = scale(self.e, value) {
            return Some(self.of(of)?.scaled(mul, add));
        }
        let Op::Binary(Binary { kind, epilogue }) = self.e.node(value).op()? else { return None };
        let operands = self.e.operands(value);
        let shape = &self.e.node(self.x).shape;
        if !epilogue.is_empty() || operands.iter().any(|&o| self.e.node(o).shape != *shape) {
            return None;
        }
        let (kind, a, b) = (*kind, self.of(operands[0])?, self.of(operands[1])?);
        match kind {
            BinaryKind::Add => Some(a.plus(1.0, &b)),
            BinaryKind::Sub => Some(a.plus(-1.0, &b)),
            BinaryKind::Mul => a.times(&b),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_have_their_powers() {
        let square = Polynomial::X.times(&Polynomial::X).unwrap();
        let cube = square.times(&Polynomial::X).unwrap();
        assert_eq!(cube, Polynomial::x(0.0, 1.0));
        assert_eq!(cube.times(&Polynomial::X), None);
        assert_eq!(Polynomial::T.times(&Polynomial::T), None);
        let gelu = Polynomial::T.scaled(0.5, 0.5).times(&Polynomial::X).unwrap();
        assert_eq!(gelu, Polynomial::GELU);
        assert_eq!(gelu.plus(-1.0, &gelu), Polynomial([[0.0; 2]; 4]));
    }
}
