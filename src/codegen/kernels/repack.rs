//! Packs parameters that are values of a run: weights that are trained, before each step that reads them.
//!
//! The descriptions are those by which known weights are packed when a model is compiled ([`Part`]); their walks
//! become loop nests. The loop that writes neighbours is the innermost, the others go through the parameter as it
//! lies.

use super::super::emit::{Emitted, Emitter, Packed};
use super::super::key::Bits;
use super::super::packing::{Fill, Part, Walk};
use super::body::Body;
use super::nest::{self, Array, Nest};
use crate::plan::View;

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
}

/// The walks of a part, and which parameter each is over.
fn walks(part: &Part) -> Vec<(usize, &Walk)> {
    match &part.fill {
        Fill::Zeros => vec![],
        Fill::Copy { weight, walk } => vec![(*weight, walk)],
        Fill::Filters { weight, walks } => walks.iter().map(|walk| (*weight, walk)).collect(),
        Fill::Winograd(_) | Fill::BatchNorm(_) | Fill::Words(_) => {
            unreachable!("the plan has no kernel with these for parameters that are computed")
        }
    }
}

/// Whether there are elements that no walk reaches.
fn has_zeros(part: &Part) -> bool {
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
