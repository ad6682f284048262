//! Copies a value between plain and blocked layout, at the borders of the graph and around ops that
//! work on plain memory.
//!
//! Each lane of a block is a channel, a plane apart from the next in plain memory: blocks are
//! gathered from planes, or scattered to them. Padding lanes become zeros.

use super::super::emit::{Emitted, Emitter};
use super::nest::{self, Array, Body, Nest};
use crate::plan::{Layout, Step, View};
use crate::target::Unit;

pub fn emit(e: &mut Emitter, step: &Step) -> Emitted {
    let unit = e.unit();
    let (from, to) = (&step.inputs[0], &step.outputs[0]);
    let (copy, zero) = (Body::copy(), Body::fill(0.0));
    if from.layout == Layout::Plain && to.layout == Layout::Plain {
        let arrays = [to, from].map(|v| Array::new(v, vec![4])).to_vec();
        let whole = Nest { dims: vec![from.shape.elements()], arrays, body: &copy };
        return nest::emit(e, "step copy", vec![whole]);
    }
    let [images, channels, h, w] = from.image();
    let (blocks, rest) = (channels / unit.lanes, channels % unit.lanes);
    let nest = |arrays: &[&Array], body, blocks: usize, lanes: usize| Nest {
        dims: vec![images, blocks, h * w, lanes],
        arrays: arrays.iter().map(|a| (*a).clone()).collect(),
        body,
    };
    let [target, source] = [to, from].map(|v| Array::new(v, strides(v, unit)));
    let mut nests = vec![nest(&[&target, &source], &copy, blocks, unit.lanes)];
    let [target, source] = [target, source].map(|a| after(a, 1, blocks));
    nests.push(nest(&[&target, &source], &copy, 1, rest));
    if to.layout == Layout::Blocked && rest > 0 {
        nests.push(nest(&[&after(target, 3, rest)], &zero, 1, unit.lanes - rest));
    }
    nests.retain(|n| !n.dims.contains(&0));
    nest::emit(e, "step convert", nests)
}

/// Strides along image, block, pixel and lane.
fn strides(view: &View, unit: Unit) -> Vec<i64> {
    let block = view.block_stride(unit);
    let (block, lane) = match view.layout {
        Layout::Blocked => (block, 4),
        Layout::Plain => (block * unit.lanes, block),
    };
    [view.batch_stride, block, view.pixel_stride(unit), lane].map(|s| s as i64).to_vec()
}

/// The array from element `count` of an axis on.
fn after(array: Array, axis: usize, count: usize) -> Array {
    let bytes = array.strides[axis] as usize * count;
    array.shifted(bytes)
}
