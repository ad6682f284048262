//! From sums, vectors of output channels, to the rows of a weight.

use super::super::super::key::KernelKey;
use super::super::super::vector::{Builder, Function, Inst, Int, Vector, VectorOp};
use super::super::LANE;
use crate::target::Unit;

/// Stores `run` vectors of sums, one after the other, as rows: row k has lane k of each.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transposed {
    pub run: usize,
    /// Rows that are stored.
    pub rows: usize,
    /// Bytes from a row to the next.
    pub row: usize,
    /// Partial sums, and bytes from one to the next: they are added in their order.
    pub parts: usize,
    pub part: usize,
}

impl KernelKey for Transposed {
    /// Parameters: the sums of the first part, the first row.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("transposed sums {self:?}"), unit, 2);
        let [from, to] = [0, 1].map(|i| b.parameter(i));
        b.repeat(self.run / unit.lanes, |b| {
            self.square(b, from, to, unit.lanes);
            b.advance(from, unit.lanes * unit.bytes());
            b.advance(to, unit.bytes());
        });
        let rest = self.run % unit.lanes;
        if rest > 0 {
            self.square(&mut b, from, to, rest);
        }
        b.finish()
    }
}

impl Transposed {
    /// `count` vectors, no more than a vector has lanes.
    fn square(&self, b: &mut Builder, from: Int, to: Int, count: usize) {
        let vector = b.unit().bytes();
        let mut vectors: Vec<Vector> = (0..count).map(|i| b.load(from.at(i * vector))).collect();
        if self.parts > 1 {
            let next = b.int(from);
            b.repeat(self.parts - 1, |b| {
                b.advance(next, self.part);
                for (i, &sum) in vectors.iter().enumerate() {
                    let other = b.load(next.at(i * vector));
                    b.op_into(sum, VectorOp::Add, sum, other);
                }
            });
        }
        while vectors.len() < b.lanes() {
            vectors.push(b.splat(0.0));
        }
        let rows = transpose(b, vectors);
        let row = b.int(to);
        for (i, &values) in rows[..self.rows].iter().enumerate() {
            b.store_first(row.at(0), values, count);
            if i + 1 < self.rows {
                b.advance(row, self.row);
            }
        }
    }
}

/// The transpose of a square of as many vectors as a vector has lanes: at each distance 1, 2, 4, … the vectors and
/// lanes whose numbers differ by it change places.
fn transpose(b: &mut Builder, mut vectors: Vec<Vector>) -> Vec<Vector> {
    let lanes = b.lanes();
    let mut distance = 1;
    while distance < lanes {
        for i in (0..lanes).filter(|i| i & distance == 0) {
            let pair = [vectors[i], vectors[i + distance]];
            let low = b.shuffle(pair, |lane| if lane & distance == 0 { lane } else { lanes + lane - distance });
            let high = b.shuffle(pair, |lane| if lane & distance == 0 { lane + distance } else { lanes + lane });
            (vectors[i], vectors[i + distance]) = (low, high);
        }
        distance *= 2;
    }
    vectors
}

/// Stores one lane of `run` vectors of sums as a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Gathered {
    pub run: usize,
    /// As of [`Transposed`].
    pub parts: usize,
    pub part: usize,
}

impl KernelKey for Gathered {
    /// Parameters: the lane in the first vector of the first part, the row.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("a lane of sums {self:?}"), unit, 2);
        let [from, to] = [0, 1].map(|i| b.parameter(i));
        let item = |b: &mut Builder, count: usize| {
            let lane = |b: &mut Builder, from: Int| {
                let dst = b.new_vector();
                b.push(Inst::Gather { dst, address: from.at(0), stride: unit.bytes() as i32, count: count as u8 });
                dst
            };
            let sum = lane(b, from);
            if self.parts > 1 {
                let next = b.int(from);
                b.repeat(self.parts - 1, |b| {
                    b.advance(next, self.part);
                    let other = lane(b, next);
                    b.op_into(sum, VectorOp::Add, sum, other);
                });
            }
            b.store_first(to.at(0), sum, count);
            b.advance(from, count * unit.bytes());
            b.advance(to, count * LANE);
        };
        b.repeat(self.run / unit.lanes, |b| item(b, unit.lanes));
        if self.run % unit.lanes > 0 {
            item(&mut b, self.run % unit.lanes);
        }
        b.finish()
    }
}
