//! Copies a value between plain and blocked layout, at the borders of the graph.

use super::super::Error;
use super::super::emit::{Emitted, Emitter};
use super::super::vector::{Builder, Inst, Operand};
use crate::plan::{Layout, Step, View};
use crate::target::Unit;

/// One task is one channel block of one image.
pub fn emit(e: &mut Emitter, step: &Step) -> Result<Emitted, Error> {
    let (from, to) = (&step.inputs[0], &step.outputs[0]);
    let unit = e.unit();
    if from.layout == to.layout {
        return copy(e, step);
    }
    let [n, c, h, w] = from.image();
    let (blocks, last) = (c.div_ceil(unit.lanes), c - (c - 1) / unit.lanes * unit.lanes);
    let pixels = h * w;
    let mut calls = vec![];
    for (first, count, lanes) in [(0, blocks - 1, unit.lanes), (blocks - 1, 1, last)] {
        if count > 0 {
            let to_blocked = to.layout == Layout::Blocked;
            let name = format!("convert_{lanes}_{pixels}_{to_blocked}");
            let kernel = e.kernel(&name, |unit| block_kernel(&name, unit, lanes, pixels, to_blocked));
            calls.push((first, count, kernel));
        }
    }
    let entry = e.driver("step convert", |e, d| {
        let mut start = 0;
        for &(first, count, kernel) in &calls {
            d.tasks(start, count * n, |d, task| {
                let (image, block) = d.split(task, count);
                let addresses: Vec<Operand> = [from, to]
                    .into_iter()
                    .map(|view| {
                        let base = d.view(e, view);
                        let block_bytes = block_bytes(view, unit);
                        d.step(base, image, view.batch_stride);
                        d.step(base, block, block_bytes);
                        d.b.advance(base, first * block_bytes);
                        base.into()
                    })
                    .collect();
                d.b.call(kernel, addresses);
            });
            start += count * n;
        }
    });
    Ok(Emitted { entry, grid: blocks * n, scratch: 0 })
}

/// Bytes that a block of channels takes in either layout.
fn block_bytes(view: &View, unit: Unit) -> usize {
    match view.layout {
        Layout::Blocked => view.block_stride(unit),
        Layout::Plain => view.block_stride(unit) * unit.lanes,
    }
}

/// Parameters: from, to. Each lane is a channel, `4 · pixels` bytes from the next in plain memory.
fn block_kernel(
    name: &str,
    unit: Unit,
    lanes: usize,
    pixels: usize,
    to_blocked: bool,
) -> super::super::vector::Function {
    let mut b = Builder::new(name, unit, 2);
    let (from, to) = (b.parameter(0), b.parameter(1));
    let stride = i32::try_from(4 * pixels).expect("a plane is smaller than 2 GiB");
    let count = lanes as u8;
    b.repeat(pixels, |b| {
        if to_blocked {
            let dst = b.new_vector();
            b.push(Inst::Gather { dst, address: from.at(0), stride, count });
            b.store(to.at(0), dst);
            b.advance(from, 4usize);
            b.advance(to, unit.bytes());
        } else {
            let src = b.load(from.at(0));
            b.push(Inst::Scatter { address: to.at(0), src, stride, count });
            b.advance(from, unit.bytes());
            b.advance(to, 4usize);
        }
    });
    b.finish()
}

/// Same layout: whole vectors, then the rest.
fn copy(e: &mut Emitter, step: &Step) -> Result<Emitted, Error> {
    let unit = e.unit();
    let (from, to) = (&step.inputs[0], &step.outputs[0]);
    let floats = from.shape.elements();
    let name = format!("copy_{floats}");
    let kernel = e.kernel(&name, |unit| {
        let mut b = Builder::new(&name, unit, 2);
        let (from, to) = (b.parameter(0), b.parameter(1));
        b.repeat(floats / unit.lanes, |b| {
            let v = b.load(from.at(0));
            b.store(to.at(0), v);
            b.advance(from, unit.bytes());
            b.advance(to, unit.bytes());
        });
        if floats % unit.lanes > 0 {
            let v = b.load_first(from.at(0), floats % unit.lanes);
            b.store_first(to.at(0), v, floats % unit.lanes);
        }
        b.finish()
    });
    let _ = unit;
    let entry = e.driver("step copy", |e, d| {
        d.tasks(0, 1, |d, _| {
            let from = d.view(e, from);
            let to = d.view(e, to);
            d.b.call(kernel, vec![from.into(), to.into()]);
        });
    });
    Ok(Emitted { entry, grid: 1, scratch: 0 })
}
