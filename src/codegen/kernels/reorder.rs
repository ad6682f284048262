//! Copies between values whose axes stand in another order, so that neighbours of one are far apart in the other.
//!
//! ```text
//! squares        rows of the input are columns of the output: as many rows as there are lanes are read, a vector each,
//!                transposed in registers, and written as rows
//! interleaved    few rows of the input, whose elements of a column are neighbours in the output, column by column:
//!                a a a a, b b b b ⟶ a b a b a b a b
//! ```
//!
//! What is neither is a loop nest like any other.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Builder, Callee, Function, Operand, Vector};
use super::LANE;
use super::nest::{self, Nest};
use crate::target::Unit;

/// Elements along an axis of squares at least: narrower ones leave most lanes unused.
const LEAST: usize = 4;
/// Rows that are interleaved at most.
const MOST_ROWS: usize = 8;
/// Columns of a task.
const COLUMNS: usize = 512;
/// Bytes from one row to the next at most, so that 32 bits hold the last one's displacement.
const FARTHEST: usize = i32::MAX as usize / 64;

/// `first..first + count` pieces of an axis, each of `size` elements, where those before are as long.
pub(super) type Pieces = (usize, usize, usize);

/// The whole pieces of an axis, and what is left.
pub(super) fn pieces(length: usize, size: usize) -> impl Iterator<Item = Pieces> + Clone {
    let all = [(0, length / size, size), (length / size, 1, length % size)];
    all.into_iter().filter(|&(_, count, size)| count * size > 0)
}

/// Copies the nest's operand; its body is that.
pub(super) fn emit(e: &mut Emitter, name: &str, nest: Nest) -> Emitted {
    let nest = nest.merged();
    match Form::of(&nest) {
        Some(form) => form.emit(e, name, &nest),
        None => nest::emit(e, name, vec![nest]),
    }
}

/// The two axes that a kernel goes along, of a nest of which the others are tasks.
struct Form {
    /// Elements side by side in the output, and how many are rows of one kernel.
    rows: usize,
    /// The axis whose elements lie side by side in the input.
    columns: usize,
    interleaved: bool,
}

impl Form {
    fn of(nest: &Nest) -> Option<Form> {
        let [to, from] = [0, 1].map(|i| &nest.arrays[i].strides);
        let near = |stride: i64| usize::try_from(stride).is_ok_and(|stride| stride <= FARTHEST);
        let rows = nest.dims.len().checked_sub(1)?;
        let columns = from.iter().position(|&stride| stride == LANE as i64)?;
        if to[rows] != LANE as i64 || columns == rows || !near(from[rows]) || !near(to[columns]) {
            return None;
        }
        let (count, neighbours) = (nest.dims[rows], to[columns] == (nest.dims[rows] * LANE) as i64);
        let interleaved = neighbours && count <= MOST_ROWS;
        let square = count >= LEAST && nest.dims[columns] >= LEAST;
        let positive = to.iter().chain(from).all(|&stride| stride >= 0);
        (positive && (interleaved || square)).then_some(Form { rows, columns, interleaved })
    }

    /// One task is some rows and columns of one index of the other axes.
    fn emit(&self, e: &mut Emitter, name: &str, nest: &Nest) -> Emitted {
        let [to, from] = [0, 1].map(|i| &nest.arrays[i]);
        let stride = |array: &nest::Array, axis: usize| array.strides[axis] as usize;
        let count = nest.dims[self.rows];
        let at_once = if self.interleaved { count } else { e.unit().lanes };
        let others: Vec<usize> = (0..nest.dims.len()).filter(|&i| i != self.rows && i != self.columns).collect();
        let outer: usize = others.iter().map(|&axis| nest.dims[axis]).product();
        let mut regions: Vec<(Pieces, Pieces, Callee)> = vec![];
        for columns in pieces(nest.dims[self.columns], COLUMNS) {
            for rows in pieces(count, at_once) {
                let copy = Copy {
                    interleaved: self.interleaved,
                    rows: rows.2,
                    columns: columns.2,
                    from_row: stride(from, self.rows),
                    to_column: stride(to, self.columns),
                };
                regions.push((columns, rows, e.kernel(&copy)));
            }
        }
        let grid = regions.iter().map(|(columns, rows, _)| outer * columns.1 * rows.1).sum();
        let entry = e.driver(name, |e, d| {
            let mut first = 0;
            for &(columns, rows, kernel) in &regions {
                let tasks = outer * columns.1 * rows.1;
                d.tasks(first, tasks, |d, task| {
                    // The rows of some columns one after the other: together they fill lines of the output.
                    let (rest, row) = d.split(task, rows.1);
                    let rest = d.int(rest);
                    let (rest, column) = d.split(rest, columns.1);
                    let pointers = [from, to].map(|array| {
                        let base = array.address(e, d);
                        let [of_row, of_column] = [stride(array, self.rows), stride(array, self.columns)];
                        d.step(base, row, at_once * of_row);
                        d.step(base, column, COLUMNS * of_column);
                        d.b.advance(base, rows.0 * at_once * of_row + columns.0 * COLUMNS * of_column);
                        base
                    });
                    let mut rest = rest;
                    for (i, &axis) in others.iter().enumerate().rev() {
                        let at = d.int(rest);
                        let (outer, index) = if i == 0 { (0i64.into(), rest) } else { d.split(at, nest.dims[axis]) };
                        pointers.iter().zip([from, to]).for_each(|(&p, array)| d.step(p, index, stride(array, axis)));
                        rest = outer;
                    }
                    d.b.call(kernel, pointers.map(Operand::from).to_vec());
                });
                first += tasks;
            }
        });
        Emitted { entry, grid, scratch: 0 }
    }
}

/// Rows of the input, whose columns are written one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Copy {
    interleaved: bool,
    rows: usize,
    columns: usize,
    /// Bytes from a row to the next in the input, and from a column to the next in the output.
    from_row: usize,
    to_column: usize,
}

impl KernelKey for Copy {
    /// Parameters: the first row and column in the input and in the output.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("transpose {self:?}"), unit, 2);
        b.repeat(self.columns / unit.lanes, |b| {
            self.some(b, unit.lanes);
            b.advance(b.parameter(0), unit.bytes());
            b.advance(b.parameter(1), unit.lanes * self.to_column);
        });
        if self.columns % unit.lanes > 0 {
            self.some(&mut b, self.columns % unit.lanes);
        }
        b.finish()
    }
}

impl Copy {
    /// A vector of columns, or of what is left of them.
    fn some(&self, b: &mut Builder, columns: usize) {
        let (from, to, lanes) = (b.parameter(0), b.parameter(1), b.lanes());
        let mut rows: Vec<Vector> =
            (0..self.rows).map(|row| b.load_first(from.at(row * self.from_row), columns)).collect();
        if self.interleaved {
            // Each is stored at once: units of few registers have none for rows and results together.
            for i in 0..self.rows {
                let wanted = (columns * self.rows).saturating_sub(i * lanes).min(lanes);
                if wanted > 0 {
                    let vector = interleaved(b, &rows, i);
                    b.store_first(to.at(i * b.unit().bytes()), vector, wanted);
                }
            }
            return;
        }
        if rows.len() < lanes {
            let zero = b.splat(0.0);
            rows.resize(lanes, zero);
        }
        for (i, column) in transposed(b, rows, columns).into_iter().enumerate() {
            b.store_first(to.at(i * self.to_column), column, self.rows);
        }
    }
}

/// One of as many vectors as there are rows, which have the elements of the rows column by column.
fn interleaved(b: &mut Builder, rows: &[Vector], vector: usize) -> Vector {
    let lanes = b.lanes();
    let of = |lane: usize| {
        let at = vector * lanes + lane;
        (at % rows.len(), at / rows.len())
    };
    let mut all = rows[0];
    for (i, &row) in rows.iter().enumerate().skip(1) {
        all = b.shuffle([all, row], |lane| match of(lane) {
            (0, column) if i == 1 => column,
            (own, column) if own == i => lanes + column,
            _ => lane,
        });
    }
    all
}

/// The first `wanted` rows of the transposed square. Each stage exchanges one bit of the row's number
/// with the same bit of the lane's (Eklundh 1972).
pub(super) fn transposed(b: &mut Builder, mut rows: Vec<Vector>, wanted: usize) -> Vec<Vector> {
    let lanes = rows.len();
    let stages: Vec<usize> = (0..lanes.ilog2()).map(|bit| 1 << bit).collect();
    for (stage, &bit) in stages.iter().enumerate() {
        // A row serves the wanted ones whose numbers differ from its own in bits that are yet to come.
        let later: usize = stages[stage + 1..].iter().sum();
        let serves = |row: usize| row & !later < wanted;
        for low in (0..lanes).filter(|row| row & bit == 0) {
            let pair = [rows[low], rows[low | bit]];
            let shift = |lane: usize, row: usize| match (lane & bit == 0, row & bit == 0) {
                (true, true) => lane,
                (false, true) => lanes + lane - bit,
                (true, false) => lane + bit,
                (false, false) => lanes + lane,
            };
            for row in [low, low | bit].into_iter().filter(|&row| serves(row)) {
                rows[row] = if pair[0] == pair[1] { pair[0] } else { b.shuffle(pair, |lane| shift(lane, row)) };
            }
        }
    }
    rows.truncate(wanted);
    rows
}

#[cfg(test)]
mod tests {
    use crate::codegen::testing::check;
    use crate::ir::Phase;
    use crate::ops::{Op, PixelShuffle, Transpose};
    use crate::testing::GraphBuilder;

    fn on(op: impl Into<Op>, shape: &[usize]) {
        let mut b = GraphBuilder::new("transpose", Phase::Infer);
        let x = b.input(crate::tensor::Shape::new(shape));
        let y = b.add(op, &[x]);
        check(b.finish(&[y]));
    }

    #[test]
    fn squares() {
        for shape in [[2, 19, 33], [1, 64, 530], [3, 4, 5], [2, 16, 16]] {
            on(Transpose { perm: vec![0, 2, 1] }, &shape);
        }
        on(Transpose { perm: vec![0, 2, 3, 1] }, &[2, 18, 5, 33]);
        on(Transpose { perm: vec![3, 2, 1, 0] }, &[2, 5, 7, 33]);
        on(Transpose { perm: vec![2, 0, 3, 1] }, &[3, 20, 5, 33]);
    }

    #[test]
    fn interleaved_rows() {
        for factor in [2, 3, 4, 5, 9] {
            for width in [3, 16, 37] {
                on(PixelShuffle { factor }, &[2, 2 * factor * factor, 2, width]);
            }
        }
        on(PixelShuffle { factor: 2 }, &[1, 4, 1, 1030]);
        // As many rows as there are at most.
        on(Transpose { perm: vec![0, 2, 1] }, &[1, 8, 16]);
    }
}
