//! Sums over an axis whose elements are the lanes, in an order that all vector units share.
//!
//! Element i of the axis is added to partial sum i mod 16, whatever the number of lanes; then the
//! sixteen are added in pairs 8, 4, 2 and 1 apart. So a wider unit gives the same bits.

use super::super::vector::{Builder, Vector, VectorOp};
use crate::target::Unit;

/// Lanes of the widest unit.
const SUMS: usize = 16;

/// The partial sums, in one vector or several.
pub(crate) struct Partial(Vec<Vector>);

impl Partial {
    pub(crate) fn new(b: &mut Builder) -> Partial {
        Partial((0..vectors(b.unit())).map(|_| b.splat(0.0)).collect())
    }

    /// Adds the axis's vector of that index, counted from the axis's beginning.
    pub(crate) fn add(&self, b: &mut Builder, index: usize, v: Vector) {
        let sum = self.0[index % self.0.len()];
        b.op_into(sum, VectorOp::Add, sum, v);
    }

    /// Adds other partial sums to these.
    pub(crate) fn join(&self, b: &mut Builder, other: &Partial) {
        self.0.iter().zip(&other.0).for_each(|(&sum, &more)| b.op_into(sum, VectorOp::Add, sum, more));
    }

    /// The sum in all lanes.
    pub(crate) fn total(self, b: &mut Builder) -> Vector {
        let mut apart = self.0.len() / 2;
        while apart > 0 {
            (0..apart).for_each(|i| b.op_into(self.0[i], VectorOp::Add, self.0[i], self.0[i + apart]));
            apart /= 2;
        }
        b.reduce(VectorOp::Add, self.0[0])
    }
}

/// Vectors of the unit that the partial sums take.
pub(crate) fn vectors(unit: Unit) -> usize {
    SUMS.div_ceil(unit.lanes)
}

/// Walks an axis of `length` elements a vector at a time: `body` gets the number of lanes that are of
/// the axis and the vector's index (counted anew after as many as there are partial sums).
pub(crate) fn walk(b: &mut Builder, length: usize, body: impl Fn(&mut Builder, usize, usize)) {
    let (lanes, round) = (b.lanes(), vectors(b.unit()));
    let whole = length / lanes;
    b.repeat(whole / round, |b| (0..round).for_each(|i| body(b, lanes, i)));
    (0..whole % round).for_each(|i| body(b, lanes, i));
    if length % lanes > 0 {
        body(b, length % lanes, whole % round);
    }
}
