//! A recurrent layer becomes products with its inputs, of all steps at once, and its steps.
//!
//! ```text
//! %y = lstm %x, @weight_ih_l0, @weight_hh_l0, … { hidden=h }
//!    ⟶
//! %a = reshape %x                                   [N · T, inputs]
//! %b = linear %a, @weight_ih', @bias'               both directions' rows, both biases added
//! %c = reshape %b                                   [N, T, D · gates · h]
//! %y = recurrence %c, @weight_hh' { … }
//! ```
//!
//! Legal when: always. Numerics: sums are the same but for their order, biases are added in f64. Order: before passes that
//! fold into linear layers.

use crate::ir::{Editor, NodeId};
use crate::ops::{Linear, Op, Reshape, Slice};
use crate::weights::WeightId;

pub(crate) fn run(e: &mut Editor) {
    e.for_each(|e, id| {
        lower(e, id);
    });
}

fn lower(e: &mut Editor, id: NodeId) -> Option<()> {
    let Some(Op::Recurrent(op)) = e.node(id).op().cloned() else { return None };
    let weights = e.weights_of(id)?;
    let operands = e.operands(id);
    let (directions, each, rows) = (op.direction.count(), op.weights_each(), op.cell.gates() * op.hidden);
    let [outer, inner] = [0, 1].map(|axis| e.node(id).shape[axis]);
    let message = format!("{} multiplies the inputs of all its steps at once", e.describe(id));
    let mut x = operands[0];
    for layer in 0..op.layers {
        let own = &weights[layer * directions * each..][..directions * each];
        let width = e.node(x).shape[2];
        let flat = e.insert(Reshape { shape: vec![-1, width as i64] }, &[x], vec![], id);
        let (mut input, mut recurrent, mut added, mut kept) = (vec![], vec![], vec![], vec![]);
        for of_direction in own.chunks(each) {
            input.extend(e.weight_values(of_direction[0]));
            recurrent.extend(e.weight_values(of_direction[1]));
            if op.bias {
                let (sum, stays) = op.biases(&e.weight_values(of_direction[2]), &e.weight_values(of_direction[3]));
                added.extend(sum);
                kept.extend(stays);
            }
        }
        let name = |weight: WeightId| e.weights.get(weight).name.clone();
        let names: Vec<String> = own.iter().map(|&weight| name(weight)).collect();
        let mut parameters = vec![e.derive(&names[0], [directions * rows, width], &input, true)];
        if op.bias {
            parameters.push(e.derive(&names[2], [directions * rows], &added, true));
        }
        let linear = Linear { features: directions * rows, bias: op.bias, epilogue: vec![] };
        let product = e.insert(linear, &[flat], parameters, id);
        let shape = vec![outer as i64, inner as i64, (directions * rows) as i64];
        let gates = e.insert(Reshape { shape }, &[product], vec![], id);
        let mut reads = vec![gates];
        for &state in &operands[1..] {
            reads.push(match op.layers {
                1 => state,
                _ => {
                    let (start, end) = (layer * directions, (layer + 1) * directions);
                    e.insert(Slice { axis: 0, start, end, step: 1 }, &[state], vec![], id)
                }
            });
        }
        let mut parameters = vec![e.derive(&names[1], [directions, rows, op.hidden], &recurrent, true)];
        if op.keeps_bias() {
            parameters.push(e.derive(&names[3], [directions, op.hidden], &kept, true));
        }
        if layer + 1 == op.layers {
            e.rewrite(id, op.recurrence(), &reads, parameters);
        } else {
            x = e.insert(op.recurrence(), &reads, parameters, id);
        }
    }
    e.remark(message, e.locations(&[id]));
    Some(())
}
