//! Packs parameters that are values of a run: weights that are trained, before each step that reads them.
//!
//! The descriptions are those by which known weights are packed when a model is compiled ([`Part`]); their walks
//! become loop nests. The loop that writes neighbours is the innermost, the others go through the parameter as it
//! lies. Filters of Winograd kernels have a kernel that transforms them, a vector of output channels at a time.

use super::super::emit::{Emitted, Emitter, Packed};
use super::super::key::{Bits, KernelKey};
use super::super::packing::{Fill, Part, Walk, Winograd};
use super::super::vector::{Address, Builder, Callee, Function, Inst, Vector, VectorOp};
use super::body::Body;
use super::cook_toom;
use super::nest::{self, Array, Nest};
use crate::plan::View;
use crate::target::Unit;

/// Adds what packs the parts to the repackings of the step at hand. First come zeros, where a part has some, then
/// values.
///
/// # Panics
/// On parts that are no copies: the plan chooses kernels whose parts are.
pub(crate) fn emit(e: &mut Emitter, views: &[View], parts: &[(Packed, Part)]) {
    let (zero, copy) = (Body::Fill(Bits::of(0.0)), Body::Copy);
    let zeros: Vec<Nest> =
        parts.iter().filter(|(_, part)| has_zeros(part)).map(|(at, part)| zeros(*at, part, &zero)).collect();
    let copies = parts.iter().flat_map(|(at, part)| walks(part).into_iter().map(|(view, walk)| (*at, view, walk)));
    let copies: Vec<Nest> = copies.map(|(at, view, walk)| nest_of(at, &views[view], walk, &copy)).collect();
    for nests in [zeros, copies] {
        if !nests.is_empty() {
            let emitted: Emitted = nest::emit(e, "step pack", nests);
            e.repackings.push(emitted);
        }
    }
    let filters: Vec<(Packed, &Winograd)> = parts
        .iter()
        .filter_map(|(at, part)| match &part.fill {
            Fill::Winograd(filters) => Some((*at, filters)),
            _ => None,
        })
        .collect();
    if !filters.is_empty() {
        let emitted = transform(e, views, &filters);
        e.repackings.push(emitted);
    }
}

/// Input channels of a task of a transform.
const INPUTS: usize = 8;

/// `U = G g Gᵀ` of all sets. A task is some input channels of a set.
fn transform(e: &mut Emitter, views: &[View], parts: &[(Packed, &Winograd)]) -> Emitted {
    let kernels: Vec<[Option<Callee>; 2]> = parts
        .iter()
        .map(|(_, filters)| {
            [INPUTS, filters.inputs % INPUTS].map(|inputs| {
                let fits = inputs > 0 && inputs <= filters.inputs;
                fits.then(|| e.kernel(&TransformKernel { filters: unplaced(filters), inputs }))
            })
        })
        .collect();
    let tasks = |filters: &Winograd| filters.inputs.div_ceil(INPUTS);
    let grid = parts.iter().map(|(_, filters)| tasks(filters)).sum();
    let entry = e.driver("step transform", |e, d| {
        let mut first = 0;
        for ((at, filters), kernels) in parts.iter().zip(&kernels) {
            let whole = filters.inputs / INPUTS;
            for (begin, count, kernel) in [(0, whole, kernels[0]), (whole, 1, kernels[1])] {
                let Some(kernel) = kernel else { continue };
                d.tasks(first + begin, count, |d, task| {
                    let (from, to) = (d.view(e, &views[filters.weight]), d.weights(*at));
                    let task = d.b.add(task, begin);
                    d.step(from, task.into(), INPUTS * filters.input_step * super::LANE);
                    d.b.advance(from, (filters.filters.from * super::LANE) as i64);
                    d.step(to, task.into(), INPUTS * filters.channels * super::LANE);
                    d.b.call(kernel, vec![from.into(), to.into(), d.scratch.into()]);
                });
            }
            first += tasks(filters);
        }
    });
    let halves = parts.iter().map(|(_, filters)| filters.distinct() * filters.taps).max().unwrap_or(0);
    Emitted { entry, grid, scratch: halves * e.unit().bytes() }
}

/// The same filters at the beginning of their weight: sets have one kernel.
fn unplaced(filters: &Winograd) -> Winograd {
    Winograd { filters: Walk { from: 0, ..filters.filters.clone() }, weight: 0, ..filters.clone() }
}

/// Parameters: the first input channel's filters, its place in the set, scratch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct TransformKernel {
    filters: Winograd,
    inputs: usize,
}

impl KernelKey for TransformKernel {
    fn build(&self, unit: Unit) -> Function {
        let mut b = Builder::new(format!("transform {self:?}"), unit, 3);
        b.repeat(self.inputs, |b| {
            for first in (0..self.filters.channels).step_by(unit.lanes) {
                self.vector(b, first);
            }
            let [from, to] = [0, 1].map(|i| b.parameter(i));
            b.advance(from, (self.filters.input_step * super::LANE) as i64);
            b.advance(to, (self.filters.channels * super::LANE) as i64);
        });
        b.finish()
    }
}

impl TransformKernel {
    /// The elements of a vector of output channels, of one input channel.
    fn vector(&self, b: &mut Builder, first: usize) {
        let Winograd { taps, channels, element_step, .. } = self.filters;
        let cook_toom::Transforms { kernel, distinct, .. } = self.filters.transforms();
        let rows = &kernel[..distinct];
        let lanes = b.lanes();
        // Loops of one turn are left out of walks: the steps are found by how far they move in the set.
        let step = |to: usize| self.filters.filters.loops.iter().find(|l| l.to == to).copied();
        let output = step(1);
        let outputs = output.map_or(1, |l| l.count).saturating_sub(first).min(lanes);
        let out_step = output.map_or(0, |l| l.from);
        let [row_step, column_step] = [taps * channels, channels].map(|to| step(to).map_or(0, |l| l.from));
        // G g by rows of taps, then each row by Gᵀ: what is between them waits in the scratch.
        let bytes = b.unit().bytes();
        let half = |i: usize, x: usize| (i * taps + x) * bytes;
        for x in 0..taps {
            let g: Vec<Option<Vector>> = (0..taps)
                .map(|y| {
                    let at = first as isize * out_step + y as isize * row_step + x as isize * column_step;
                    (outputs > 0).then(|| gather(b, at, out_step, outputs))
                })
                .collect();
            for (i, row) in rows.iter().enumerate() {
                let sum = combination(b, row, &g);
                b.store(b.parameter(2).at(half(i, x)), sum);
            }
        }
        for i in 0..distinct {
            let half: Vec<Option<Vector>> = (0..taps).map(|x| Some(b.load(b.parameter(2).at(half(i, x))))).collect();
            for (j, row) in rows.iter().enumerate() {
                let sum = combination(b, row, &half);
                let at = ((i * distinct + j) * element_step + first) * super::LANE;
                b.store_first(b.parameter(1).at(at), sum, lanes.min(channels - first));
            }
        }
    }
}

/// Values `step` floats apart, from float `at` on.
fn gather(b: &mut Builder, at: isize, step: isize, count: usize) -> Vector {
    // Turned filters are read from their last tap on, backwards.
    let offset = i32::try_from(at * super::LANE as isize).expect("the plan has no other filters");
    let address = Address { offset, ..b.parameter(0).at(0) };
    let dst = b.new_vector();
    b.push(Inst::Gather { dst, address, stride: (step * super::LANE as isize) as i32, count: count as u8 });
    dst
}

/// `Σ factor · value`.
fn combination(b: &mut Builder, factors: &[f64], values: &[Option<Vector>]) -> Vector {
    let mut sum: Option<Vector> = None;
    for (&factor, value) in factors.iter().zip(values) {
        let Some(value) = value.filter(|_| factor != 0.0) else { continue };
        let factor = b.splat(factor as f32);
        match sum {
            Some(sum) => b.fma(sum, factor, value),
            None => sum = Some(b.op(VectorOp::Mul, factor, value)),
        }
    }
    sum.unwrap_or_else(|| b.splat(0.0))
}
/// The walks of a part, and which parameter each is over.
fn walks(part: &Part) -> Vec<(usize, &Walk)> {
    match &part.fill {
        Fill::Zeros => vec![],
        Fill::Copy { weight, walk } => vec![(*weight, walk)],
        Fill::Copies(walks) => walks.iter().map(|(weight, walk)| (*weight, walk)).collect(),
        Fill::Filters { weight, walks } => walks.iter().map(|walk| (*weight, walk)).collect(),
        Fill::Winograd(_) => vec![],
        Fill::BatchNorm(_) | Fill::Starts(_) | Fill::Words(_) => {
            unreachable!("the plan has no kernel with these for parameters that are computed")
        }
    }
}

/// Whether there are elements that no walk reaches.
fn has_zeros(part: &Part) -> bool {
    if let Fill::Winograd(filters) = &part.fill {
        return filters.distinct().pow(2) * filters.inputs * filters.channels < part.elements;
    }
    let reached = |walk: &Walk| walk.loops.iter().map(|l| l.count).product::<usize>();
    walks(part).into_iter().map(|(_, walk)| reached(walk)).sum::<usize>() < part.elements
}

fn zeros<'a>(at: Packed, part: &Part, body: &'a Body) -> Nest<'a> {
    let arrays = vec![Array::weights(at, vec![part.element.bytes() as i64])];
    Nest { dims: vec![part.elements], arrays, body }
}

fn nest_of<'a>(at: Packed, view: &View, walk: &Walk, body: &'a Body) -> Nest<'a> {
    let bytes = view.element_bytes();
    let mut loops = walk.loops.clone();
    loops.sort_by_key(|l| (l.to == 1, std::cmp::Reverse(l.from.unsigned_abs())));
    let along =
        |stride: fn(&crate::codegen::packing::Loop) -> i64| loops.iter().map(|l| stride(l) * bytes as i64).collect();
    let to = Array::weights(at + walk.to * bytes, along(|l| l.to as i64));
    let from = Array::new(view, along(|l| l.from as i64)).shifted(walk.from * bytes);
    Nest { dims: loops.iter().map(|l| l.count).collect(), arrays: vec![to, from], body }
}
