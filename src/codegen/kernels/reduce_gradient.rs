//! The gradient of a maximum over axes of a plain value, shared alike among those that are the maximum.
//!
//! A task goes three times through the elements that [`reduce`] makes one result of, or a row of results: for the
//! greatest, for how many are as great, and to store what each gets.

use super::super::emit::{Emitted, Emitter};
use super::super::key::KernelKey;
use super::super::vector::{Address, Builder, Compare, Function, Inst, Int, Operand, Vector, VectorOp};
use super::reduce::{self, Division};
use super::{LANE, partial, parts};
use crate::ops::ReduceMaxGradient;
use crate::ops::reduce::ReduceKind;
use crate::plan::Step;
use crate::target::Unit;

pub(crate) fn emit(e: &mut Emitter, step: &Step, op: &ReduceMaxGradient) -> Emitted {
    let ([x, dy], dx) = ([&step.inputs[0], &step.inputs[1]], &step.outputs[0]);
    let Division { kept, row, reduced } = Division::of(&x.shape, &op.axes);
    let kernel = Kernel { forward: reduce::Kernel { kind: ReduceKind::Max, row, axes: reduced } };
    let callee = e.kernel(&kernel);
    let grid = kept.iter().map(|a| a.size).product();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let [x, dx] = [x, dx].map(|view| {
                let base = d.view(e, view);
                reduce::walk(d, base, task, &kept);
                base
            });
            let own = d.view(e, dy);
            d.step(own, task.into(), dy.element_bytes() * row.unwrap_or(1));
            d.b.call(callee, [x, own, dx].map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid, scratch: 0 }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kernel {
    /// The maximum that this is the gradient of.
    forward: reduce::Kernel,
}

impl KernelKey for Kernel {
    /// Parameters: the first element, the gradient of the result, that of the first element.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("gradient of {:?}", self.forward), unit, 3);
        match self.forward.row {
            Some(row) => {
                b.repeat(row / unit.lanes, |b| {
                    self.row(b, unit.lanes);
                    (0..3).for_each(|i| b.advance(b.parameter(i), unit.bytes()));
                });
                if row % unit.lanes > 0 {
                    self.row(&mut b, row % unit.lanes);
                }
            }
            None => self.one(&mut b),
        }
        b.finish()
    }
}

impl Kernel {
    /// Those of `lanes` neighbouring results.
    fn row(&self, b: &mut Builder, lanes: usize) {
        let [x, dy, dx] = [0, 1, 2].map(|i| b.parameter(i));
        let each = |b: &mut Builder, body: &dyn Fn(&mut Builder, Int)| {
            let first = b.int(0i64);
            self.forward.loops(b, first, &self.forward.axes, body);
        };
        let greatest = self.forward.start(b);
        each(b, &|b, at| {
            let v = b.load_first(x.plus(at, 0), lanes);
            self.forward.combine(b, greatest, v);
        });
        let count = b.splat(0.0);
        each(b, &|b, at| {
            let v = b.load_first(x.plus(at, 0), lanes);
            let mark = is_greatest(b, v, greatest);
            b.op_into(count, VectorOp::Add, count, mark);
        });
        let own = b.load_first(dy.at(0), lanes);
        let share = b.op(VectorOp::Div, own, count);
        each(b, &|b, at| {
            let v = b.load_first(x.plus(at, 0), lanes);
            let zero = b.splat(0.0);
            let v = b.select(Compare::Equal, v, greatest, share, zero);
            b.store_first(dx.plus(at, 0), v, lanes);
        });
    }

    /// Those of one result; the lanes are elements of the innermost axis.
    fn one(&self, b: &mut Builder) {
        let [x, dy, dx] = [0, 1, 2].map(|i| b.parameter(i));
        let greatest = self.forward.start(b);
        self.vectors(b, &|b, at, lanes| {
            let v = self.load(b, x.plus(at, 0), lanes);
            self.forward.combine(b, greatest, v);
        });
        let greatest = self.forward.greatest(b, greatest);
        let count = b.splat(0.0);
        self.vectors(b, &|b, at, lanes| {
            let v = self.load(b, x.plus(at, 0), lanes);
            let mark = is_greatest(b, v, greatest);
            let mark = parts::keep_first(b, mark, lanes);
            b.op_into(count, VectorOp::Add, count, mark);
        });
        let count = b.reduce(VectorOp::Add, count);
        let own = b.broadcast(dy.at(0));
        let share = b.op(VectorOp::Div, own, count);
        self.vectors(b, &|b, at, lanes| {
            let v = self.load(b, x.plus(at, 0), lanes);
            let zero = b.splat(0.0);
            let v = b.select(Compare::Equal, v, greatest, share, zero);
            b.store_first(dx.plus(at, 0), v, lanes);
        });
    }

    /// Runs `body` with the place of each vector of each innermost axis, in bytes, and how many lanes it has.
    fn vectors(&self, b: &mut Builder, body: &dyn Fn(&mut Builder, Int, usize)) {
        let (inner, outer) = match self.forward.axes.split_last() {
            Some((inner, outer)) => (inner.size, outer),
            None => (1, &[][..]),
        };
        let first = b.int(0i64);
        self.forward.loops(b, first, outer, &|b, from| {
            let at = b.int(from);
            partial::walk(b, inner, |b, lanes, _| {
                body(b, at, lanes);
                b.advance(at, LANE * lanes);
            });
        });
    }

    /// The first lanes; the others change no maximum.
    fn load(&self, b: &mut Builder, address: Address, lanes: usize) -> Vector {
        if lanes == b.lanes() {
            return b.load(address);
        }
        let v = self.forward.start(b);
        b.push(Inst::LoadLanes { dst: v, address, from: 0, to: lanes as u8 });
        v
    }
}

/// 1 where it is. Where the greatest is no number, nothing is.
fn is_greatest(b: &mut Builder, v: Vector, greatest: Vector) -> Vector {
    let (zero, one) = (b.splat(0.0), b.splat(1.0));
    b.select(Compare::Equal, v, greatest, one, zero)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check_on;
    use crate::ir::Phase;
    use crate::tensor::{Shape, Tensor};
    use crate::testing::{GraphBuilder, random_inputs};

    /// Values of few sizes, so that several are the greatest.
    fn on(shape: &[usize], axes: &[usize]) {
        let mut b = GraphBuilder::new("gradient", Phase::Train);
        let reduced: Vec<usize> =
            shape.iter().enumerate().map(|(i, &size)| if axes.contains(&i) { 1 } else { size }).collect();
        let (x, dy) = (b.input(Shape::new(shape)), b.input(Shape::new(reduced)));
        let dx = b.add(ReduceMaxGradient { axes: axes.to_vec() }, &[x, dy]);
        let graph = b.finish(&[dx]);
        let mut inputs = random_inputs(&graph, 5);
        inputs[0].data_mut().iter_mut().for_each(|v| *v = v.round());
        check_on(&graph, &inputs, 1e-6);
        // All are as great as the lanes that are no elements.
        inputs[0] = Tensor::new(Shape::new(shape), vec![f32::NEG_INFINITY; inputs[0].len()]);
        check_on(&graph, &inputs, 1e-6);
    }

    #[test]
    fn shared_among_the_greatest() {
        on(&[2, 19, 5, 7], &[2, 3]);
        on(&[3, 40], &[1]);
        on(&[37], &[0]);
        on(&[2, 19, 5, 7], &[1]);
        on(&[2, 3, 4, 5, 3], &[3, 1]);
        on(&[2, 3, 4, 5, 3], &[0, 2, 4]);
        on(&[3, 40], &[0]);
        on(&[2, 3, 4], &[]);
        on(&[1, 1], &[1]);
    }
}
