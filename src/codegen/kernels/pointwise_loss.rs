//! Losses that compare each number with a target, and their gradients.

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Bits, KernelKey};
use super::super::vector::{Builder, Compare, Function, Operand, Vector, VectorOp};
use super::partial::{self, Partial};
use super::parts;
use super::{LANE, math};
use crate::ops::training::pointwise_loss::LossKind;
use crate::ops::training::pointwise_loss_gradient::Of;
use crate::ops::{PointwiseLoss, PointwiseLossGradient};
use crate::plan::Step;
use crate::target::Unit;

/// Elements of a task of the gradient.
const TASK: usize = 4096;

pub(crate) fn loss(e: &mut Emitter, step: &Step, op: &PointwiseLoss) -> Emitted {
    let elements = step.inputs[0].shape.elements();
    let count = parts::count(elements);
    let at = e.reserve(count * LANE);
    let formula = Formula { kind: op.kind, beta: Bits::of(op.beta) };
    let [x, target] = [&step.inputs[0], &step.inputs[1]];
    parts::emit(e, step, at, &[x, target], &[], |elements| LossKernel { formula, elements });
    let kernel = e.kernel(&Mean { count, elements });
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, 1, |d, _| {
            let arguments = [d.weights(at), d.view(e, &step.outputs[0])];
            d.b.call(kernel, arguments.map(Operand::from).to_vec());
        });
    });
    Emitted { entry, grid: 1, scratch: 0 }
}

pub(crate) fn gradient(e: &mut Emitter, step: &Step, op: &PointwiseLossGradient) -> Emitted {
    let elements = step.outputs[0].shape.elements();
    let formula = Formula { kind: op.kind, beta: Bits::of(op.beta) };
    let runs: Vec<_> = parts::cut(elements, TASK)
        .into_iter()
        .map(|run| (run, e.kernel(&GradientKernel { formula, of: op.of, elements: run.elements, all: elements })))
        .collect();
    let [x, target, own] = [0, 1, 2].map(|i| &step.inputs[i]);
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        for &(run, kernel) in &runs {
            d.tasks(run.first, run.tasks, |d, task| {
                let task = d.b.add(task, run.first);
                let mut arguments = [x, target, &step.outputs[0]].map(|v| parts::part_of(e, d, v, task, TASK)).to_vec();
                arguments.push(d.view(e, own).into());
                d.b.call(kernel, arguments);
            });
        }
    });
    Emitted { entry, grid: elements.div_ceil(TASK), scratch: 0 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Formula {
    kind: LossKind,
    beta: Bits,
}

impl Formula {
    /// What `x` costs beside its target `t`.
    fn cost(self, b: &mut Builder, x: Vector, t: Vector) -> Vector {
        let zero = b.splat(0.0);
        match self.kind {
            LossKind::Bce => {
                let positive = math::softplus(b, x);
                let product = b.op(VectorOp::Mul, x, t);
                b.op(VectorOp::Sub, positive, product)
            }
            LossKind::Mse => {
                let distance = b.op(VectorOp::Sub, x, t);
                b.op(VectorOp::Mul, distance, distance)
            }
            LossKind::L1 => distance(b, x, t),
            LossKind::SmoothL1 => {
                let beta = self.beta.value();
                let distance = distance(b, x, t);
                let (half, end, middle) = (b.splat(0.5), b.splat(beta), b.splat(beta / 2.0));
                let near = b.op(VectorOp::Div, distance, end);
                let near = b.op(VectorOp::Mul, near, distance);
                let near = b.op(VectorOp::Mul, near, half);
                let far = b.op(VectorOp::Sub, distance, middle);
                b.select(Compare::Less, distance, end, near, far)
            }
            LossKind::Hinge => {
                let product = b.op(VectorOp::Mul, t, x);
                let one = b.splat(1.0);
                let missing = b.op(VectorOp::Sub, one, product);
                b.op(VectorOp::Max, missing, zero)
            }
            LossKind::Wasserstein => {
                let product = b.op(VectorOp::Mul, t, x);
                b.op(VectorOp::Sub, zero, product)
            }
        }
    }

    /// The slope along x or t.
    fn slope(self, b: &mut Builder, of: Of, x: Vector, t: Vector) -> Vector {
        let zero = b.splat(0.0);
        let (first, second) = match of {
            Of::Value => (x, t),
            Of::Target => (t, x),
        };
        match self.kind {
            LossKind::Bce if of == Of::Value => {
                let share = math::sigmoid(b, x);
                b.op(VectorOp::Sub, share, t)
            }
            LossKind::Bce => b.op(VectorOp::Sub, zero, x),
            LossKind::Mse => {
                let distance = b.op(VectorOp::Sub, first, second);
                b.op(VectorOp::Add, distance, distance)
            }
            LossKind::L1 => sign(b, first, second),
            LossKind::SmoothL1 => {
                let end = b.splat(self.beta.value());
                let size = distance(b, x, t);
                let near = b.op(VectorOp::Sub, first, second);
                let near = b.op(VectorOp::Div, near, end);
                let far = sign(b, first, second);
                b.select(Compare::Less, size, end, near, far)
            }
            LossKind::Hinge => {
                let product = b.op(VectorOp::Mul, t, x);
                let (one, slope) = (b.splat(1.0), b.op(VectorOp::Sub, zero, second));
                b.select(Compare::Less, product, one, slope, zero)
            }
            LossKind::Wasserstein => b.op(VectorOp::Sub, zero, second),
        }
    }
}

/// |x − t|
fn distance(b: &mut Builder, x: Vector, t: Vector) -> Vector {
    let (one, other) = (b.op(VectorOp::Sub, x, t), b.op(VectorOp::Sub, t, x));
    b.op(VectorOp::Max, one, other)
}

/// 1 where x is greater, −1 where it is less, 0 where both are equal.
fn sign(b: &mut Builder, x: Vector, t: Vector) -> Vector {
    let [zero, one, minus_one] = [0.0, 1.0, -1.0].map(|v| b.splat(v));
    let difference = b.op(VectorOp::Sub, x, t);
    let sign = b.select(Compare::Less, t, x, one, minus_one);
    let sign = b.select(Compare::Equal, x, t, zero, sign);
    // NaN where one of them is; the difference of equal infinities is NaN, but no such NaN.
    let comparable = b.select(Compare::Equal, difference, difference, sign, difference);
    b.select(Compare::Equal, x, t, zero, comparable)
}

/// The sum of what so many elements cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LossKernel {
    formula: Formula,
    elements: usize,
}

impl KernelKey for LossKernel {
    /// Parameters: x, target, the sum.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("pointwise loss {self:?}"), unit, 3);
        let [x, t, result] = [0, 1, 2].map(|i| b.parameter(i));
        let sums = Partial::new(&mut b);
        partial::walk(&mut b, self.elements, |b, lanes, index| {
            let values = [x, t].map(|p| b.load_first(p.at(0), lanes));
            let cost = self.formula.cost(b, values[0], values[1]);
            let cost = parts::keep_first(b, cost, lanes);
            sums.add(b, index, cost);
            [x, t].iter().for_each(|&p| b.advance(p, LANE * lanes));
        });
        let sum = sums.total(&mut b);
        b.store_first(result.at(0), sum, 1);
        b.finish()
    }
}

/// The sum of so many parts, divided by the number of elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Mean {
    count: usize,
    elements: usize,
}

impl KernelKey for Mean {
    /// Parameters: the parts, the result.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("mean of {} in {}", self.elements, self.count), unit, 2);
        let first = b.parameter(0);
        let sum = parts::total(&mut b, first, self.count);
        let elements = b.splat(self.elements as f32);
        let mean = b.op(VectorOp::Div, sum, elements);
        b.store_first(b.parameter(1).at(0), mean, 1);
        b.finish()
    }
}

/// The gradients of so many elements among `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct GradientKernel {
    formula: Formula,
    of: Of,
    elements: usize,
    all: usize,
}

impl KernelKey for GradientKernel {
    /// Parameters: x, target, the gradients, the loss's own gradient.
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("pointwise loss gradient {self:?}"), unit, 4);
        let [x, t, result, own] = [0, 1, 2, 3].map(|i| b.parameter(i));
        let (own, all) = (b.broadcast(own.at(0)), b.splat(self.all as f32));
        let factor = b.op(VectorOp::Div, own, all);
        partial::walk(&mut b, self.elements, |b, lanes, _| {
            let values = [x, t].map(|p| b.load_first(p.at(0), lanes));
            let slope = self.formula.slope(b, self.of, values[0], values[1]);
            let gradient = b.op(VectorOp::Mul, slope, factor);
            b.store_first(result.at(0), gradient, lanes);
            [x, t, result].iter().for_each(|&p| b.advance(p, LANE * lanes));
        });
        b.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check_on;
    use crate::ir::Phase;
    use crate::tensor::Shape;
    use crate::testing::{GraphBuilder, random_inputs};

    const KINDS: [LossKind; 6] =
        [LossKind::Bce, LossKind::Mse, LossKind::L1, LossKind::SmoothL1, LossKind::Hinge, LossKind::Wasserstein];

    /// Each loss and its gradients; where targets are signs, or equal to what the network says, too.
    #[test]
    fn losses_and_gradients() {
        for shape in [&[3, 7][..], &[2, 5, 9, 11], &[1], &[2, 3, 40, 70], &[4113]] {
            for kind in KINDS {
                let mut b = GraphBuilder::new("loss", Phase::Train);
                let (x, t) = (b.input(Shape::new(shape)), b.input(Shape::new(shape)));
                let own = b.input(Shape::new([]));
                let beta = 0.7;
                let mut outputs = vec![b.add(PointwiseLoss { kind, beta }, &[x, t])];
                for of in [Of::Value, Of::Target] {
                    outputs.push(b.add(PointwiseLossGradient { kind, of, beta }, &[x, t, own]));
                }
                let graph = b.finish(&outputs);
                let mut inputs = random_inputs(&graph, 5);
                let x = inputs[0].data().to_vec();
                let signs = matches!(kind, LossKind::Hinge | LossKind::Wasserstein);
                for (i, t) in inputs[1].data_mut().iter_mut().enumerate() {
                    *t = if signs {
                        t.signum()
                    } else if i % 5 == 2 {
                        x[i]
                    } else {
                        *t
                    };
                }
                check_on(&graph, &inputs, 1e-5);
            }
        }
    }
}
