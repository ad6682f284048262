//! Walks blocks of channels through parts of a batch: what kernels have in common that sum over images and pixels for
//! each channel, or compute pixels with numbers of their channel.
//!
//! One task is one block of channels of one part. The lanes are channels; of the last block fewer may count, which has
//! kernels of its own.

use super::super::emit::{Driver, Emitted, Emitter};
use super::super::vector::{Builder, Callee, Int, Operand, Vector};
use crate::plan::parts::{Parts, Run};
use crate::plan::{Step, View};

/// Pixels whose loads and sums overlap.
pub(super) const COPIES: usize = 4;

/// The pixels that one call of a kernel sees: all that its loops depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Walk {
    images: usize,
    pixels: usize,
    /// Bytes from an image to the next in each array; the arrays are a kernel's first parameters.
    strides: Vec<usize>,
    /// Lanes that are channels.
    pub lanes: usize,
}

impl Walk {
    /// Pixels of all images.
    pub(super) fn count(&self) -> usize {
        self.images * self.pixels
    }

    /// Pixels of the first stretch that [`Self::runs`] makes.
    pub(super) fn stretch(&self, most: usize) -> usize {
        most.min(self.pixels)
    }

    /// The vector, with zeros in lanes that are no channels.
    pub(super) fn masked(&self, b: &mut Builder, v: Vector) -> Vector {
        let (lanes, all) = (self.lanes, b.lanes());
        if lanes == all {
            return v;
        }
        let zero = b.splat(0.0);
        b.shuffle([v, zero], |lane| if lane < lanes { lane } else { all })
    }

    /// Runs `body` for each pixel, [`COPIES`] at a time, with its place among them: the arrays' pixels lie as many
    /// vectors behind the pointers, which are the kernel's first parameters and are moved along.
    pub(super) fn each(&self, b: &mut Builder, body: impl Fn(&mut Builder, usize)) {
        self.runs(b, self.pixels, |b, pointers, pixels| along(b, pointers, pixels, &body));
    }

    /// Moves the pointers back to where they were before a walk.
    pub(super) fn rewind(&self, b: &mut Builder) {
        let image = self.pixels * b.unit().bytes();
        for (i, &stride) in self.strides.iter().enumerate() {
            let moved = if self.images > 1 { self.images * stride } else { image };
            b.advance(b.parameter(i), -(moved as i64));
        }
    }

    /// Runs `body` for stretches of at most `most` pixels of an image, with the pointers and the number of pixels.
    /// It moves the pointers behind them.
    pub(super) fn runs(&self, b: &mut Builder, most: usize, body: impl Fn(&mut Builder, &[Int], usize)) {
        let pointers: Vec<Int> = (0..self.strides.len()).map(|i| b.parameter(i)).collect();
        let most = self.stretch(most);
        b.repeat(self.images, |b| {
            b.repeat(self.pixels / most, |b| body(b, &pointers, most));
            if self.pixels % most > 0 {
                body(b, &pointers, self.pixels % most);
            }
            if self.images > 1 {
                let image = (self.pixels * b.unit().bytes()) as i64;
                for (&pointer, &stride) in pointers.iter().zip(&self.strides) {
                    b.advance(pointer, stride as i64 - image);
                }
            }
        });
    }
}

/// Runs `body` for so many neighbouring pixels, [`COPIES`] at a time, and moves the pointers behind them.
pub(super) fn along(b: &mut Builder, pointers: &[Int], pixels: usize, body: impl Fn(&mut Builder, usize)) {
    let some = |b: &mut Builder, count: usize| {
        (0..count).for_each(|i| body(b, i));
        if count > 0 {
            pointers.iter().for_each(|&pointer| b.advance(pointer, count * b.unit().bytes()));
        }
    };
    b.repeat(pixels / COPIES, |b| some(b, COPIES));
    some(b, pixels % COPIES);
}

/// The tasks of a step: kernels of the same walk, one after the other.
struct Group {
    run: Run,
    /// First block, and their number.
    block: usize,
    blocks: usize,
    kernel: Callee,
}

/// One task for every block of the arrays and every part. `kernel` makes the kernel of a walk. `more` gives a kernel's
/// parameters behind the arrays, of a part and a block.
pub(super) fn emit(
    e: &mut Emitter,
    step: &Step,
    arrays: &[&View],
    parts: &Parts,
    mut kernel: impl FnMut(&mut Emitter, Walk) -> Callee,
    more: impl Fn(&Emitter, &mut Driver, Int, Int) -> Vec<Operand>,
) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let [_, channels, ..] = arrays[0].image();
    let strides: Vec<usize> = arrays.iter().map(|view| view.batch_stride).collect();
    let mut groups = vec![];
    for run in parts.runs() {
        for (block, blocks, lanes) in blocks(channels, e.unit().lanes) {
            let walk = Walk { images: run.images, pixels: run.pixels, strides: strides.clone(), lanes };
            groups.push(Group { run, block, blocks, kernel: kernel(e, walk) });
        }
    }
    let grid = groups.iter().map(Group::tasks).sum();
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        let mut first = 0;
        for group in &groups {
            d.tasks(first, group.tasks(), |d, task| group.call(e, d, task, arrays, &more));
            first += group.tasks();
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

/// One task for every block, without a walk: `kernel` makes the kernel of blocks of which so many lanes are channels.
pub(super) fn emit_blocks(
    e: &mut Emitter,
    step: &Step,
    channels: usize,
    mut kernel: impl FnMut(&mut Emitter, usize) -> Callee,
    arguments: impl Fn(&Emitter, &mut Driver, Int) -> Vec<Operand>,
) -> Emitted {
    let blocks = blocks(channels, e.unit().lanes);
    let kernels: Vec<Callee> = blocks.iter().map(|&(_, _, lanes)| kernel(e, lanes)).collect();
    let grid = channels.div_ceil(e.unit().lanes);
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        for (&(first, count, _), &kernel) in blocks.iter().zip(&kernels) {
            d.tasks(first, count, |d, block| {
                let block = d.b.add(block, first);
                let arguments = arguments(e, d, block);
                d.b.call(kernel, arguments);
            });
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

/// The first block, the number of blocks, and how many of their lanes are channels: of whole blocks, and of the last.
fn blocks(channels: usize, lanes: usize) -> Vec<(usize, usize, usize)> {
    let (whole, rest) = (channels / lanes, channels % lanes);
    [(0, whole, lanes), (whole, 1, rest)].into_iter().filter(|&(_, count, lanes)| count * lanes > 0).collect()
}

impl Group {
    fn tasks(&self) -> usize {
        self.run.count * self.blocks
    }

    fn call(
        &self,
        e: &Emitter,
        d: &mut Driver,
        task: Int,
        arrays: &[&View],
        more: &impl Fn(&Emitter, &mut Driver, Int, Int) -> Vec<Operand>,
    ) {
        let run = self.run;
        let (part, block) = d.split(task, self.blocks);
        let [part, block] = [part, block].map(|operand| d.int(operand));
        let block = d.b.add(block, self.block);
        let (image, pixel) = d.split(part, run.per_image);
        let mut arguments: Vec<Operand> = vec![];
        for view in arrays {
            let base = d.view(e, view);
            d.step(base, image, run.images * view.batch_stride);
            d.step(base, pixel, run.pixels * view.pixel_stride());
            d.step(base, block.into(), view.block_stride());
            let from = run.first_image * view.batch_stride + run.first_pixel * view.pixel_stride();
            if from > 0 {
                d.b.advance(base, from);
            }
            arguments.push(base.into());
        }
        let part = d.b.add(part, run.first);
        arguments.extend(more(e, d, part, block));
        d.b.call(self.kernel, arguments);
    }
}
