//! Convolution in groups of few channels, the lanes being channels of a block: depthwise, where every
//! channel is a group, and groups of which several share a block.
//!
//! ```text
//! for each kernel row in the image:               weights [block][ky][kx][turn][lanes]
//!   for each kernel column:
//!     x[p] = input[p · stride + kx · dilation]                for the pixels p of a tile
//!     for each turn t < channels of a group:
//!       acc[p][t] += x[p] · weights
//! ```
//!
//! The lane of input channel c is multiplied by its weight for output channel c + t, counted round
//! within the group. So no product is computed that would be zero, and no input is permuted; at the
//! end each sum of turn t is turned back by t lanes and added to the result.
//!
//! One call computes one row of output pixels of a block. Which kernel rows lie in the image comes
//! from a table; columns that fall into the padding are left out when the code is made.

use std::fmt;

use super::super::emit::{Emitted, Emitter};
use super::super::key::{Epilogue, KernelKey};
use super::super::packing::{Fill, Loop, Part, Walk};
use super::super::vector::{Address, Builder, Function, Inst, Int, Operand, Vector, VectorOp};
use super::LANE;
use super::epilogue::{self, Elements};
use super::grid::{self, Places, Tail};
use super::table::{self, Entry};
use crate::ops::epilogue::extra_operands;
use crate::ops::{Conv2d, Op};
use crate::plan::{Step, View, conv};
use crate::target::Unit;
use crate::tensor::Element;

/// Accumulators of a depthwise tile at most: enough multiply-adds in flight, whatever the number of
/// registers.
const MOST_PIXELS: usize = 12;

pub(crate) fn emit(e: &mut Emitter, step: &Step) -> Emitted {
    super::check_blocks_are_vectors(e, step);
    let unit = e.unit();
    let node = e.graph.node(step.node);
    let (op, levels) = match node.op() {
        Some(Op::Conv2d(op)) => (op.clone(), None),
        Some(Op::QuantizedConv2d(op)) => {
            let layer = step.layer.as_ref().expect("convolutions have one");
            let tail = super::direct::Tail::of(e.graph, step.node, &layer.problem).of_sums();
            (Conv2d { epilogue: op.epilogue.clone(), ..op.of_reals() }, Some((op.zero as i32, tail)))
        }
        _ => unreachable!("planned for convolutions only"),
    };
    let op = &op;
    let (input, output) = (&step.inputs[0], &step.outputs[0]);
    let levels = levels.map(|(zero, tail)| Levels { zero, tail });
    let ([.., h, w], [images, channels, height, width]) = (input.image(), output.image());
    let blocks = output.blocks();
    let group = channels / op.groups;
    let kernel = Kernel {
        group,
        taps: op.kernel[1],
        stride: op.stride[1],
        dilation: op.dilation[1],
        pad: op.pad[1],
        row: op.dilation[0] * input.row_stride(),
        input: w,
        width,
        epilogue: Epilogue::of(&op.epilogue),
        element: input.shape.element(),
        elements: Elements::of(output, &step.inputs[1..]),
        levels,
    };
    let block_bytes = op.kernel[0] * kernel.row_bytes(unit);
    let parts = vec![
        weights(op, output, group, kernel.factor(unit)),
        match kernel.levels {
            None => Part::bias(op.bias, channels, output),
            Some(_) => grid::scales(0, channels, output.block(), true),
        },
        rows(op, [h, height], input.row_stride(), kernel.row_bytes(unit)),
    ];
    let packed = e.pack(e.weights(step), parts);
    let callee = e.kernel(&kernel);
    let bias_bytes = if kernel.levels.is_some() { 2 } else { 1 } * unit.bytes();
    let scratch = if kernel.has_scratch(unit) { unit.registers * unit.bytes() } else { 0 };
    let grid = images * blocks * height;
    let entry = e.driver(&super::step_name(e, step), |e, d| {
        d.tasks(0, grid, |d, task| {
            let (rest, y) = d.split(task, height);
            let rest = d.int(rest);
            let (image, block) = d.split(rest, blocks);
            let [weights, bias, row] = [0, 1, 2].map(|i| d.weights(packed[i]));
            d.step(weights, block, block_bytes);
            d.step(bias, block, bias_bytes);
            d.step(row, y, table::ENTRY);
            let mut arguments = vec![row.into(), weights.into(), bias.into()];
            for (view, row) in [(input, 0), (output, output.row_stride())]
                .into_iter()
                .chain(step.inputs[1..].iter().map(|v| (v, v.row_stride())))
            {
                let base = d.view(e, view);
                d.step(base, image, view.batch_stride);
                d.step(base, block, view.block_stride());
                d.step(base, y, row);
                arguments.push(Operand::from(base));
            }
            if scratch > 0 {
                arguments.push(d.scratch.into());
            }
            d.b.call(callee, arguments);
        });
    });
    Emitted { entry, grid, scratch }
}

/// `[block][ky][kx][turn][lane of the input channel]` from `[channel][input of the group][ky][kx]`. Of i16 each has a 0
/// beside it.
fn weights(op: &Conv2d, output: &View, group: usize, factor: Element) -> Part {
    let each = LANE / factor.bytes();
    let taps = op.kernel[0] * op.kernel[1];
    let (channels, lanes) = (output.shape[1], output.block());
    let filter = group * taps;
    let (blocks, rest) = (channels / lanes, channels % lanes / group);
    let mut walks = vec![];
    for (turn, input) in (0..group).flat_map(|turn| (0..group).map(move |input| (turn, input))) {
        // Of the first group: the output channel whose turn it is, and where its weights for the input lie.
        let from = (input + turn) % group * filter + input * taps;
        let to = (turn * lanes + input) * each;
        let each_tap = Loop { count: taps, from: 1, to: group * lanes * each };
        let groups = |count: usize| Loop { count, from: (group * filter) as isize, to: group * each };
        let block = Loop { count: blocks, from: (lanes * filter) as isize, to: taps * group * lanes * each };
        if blocks > 0 {
            walks.push(Walk::new(from, to, [block, groups(lanes / group), each_tap]));
        }
        if rest > 0 {
            walks.push(Walk::new(
                from + blocks * lanes * filter,
                to + blocks * taps * group * lanes * each,
                [groups(rest), each_tap],
            ));
        }
    }
    let elements = output.blocks() * lanes * taps * group * each;
    Part { element: factor, elements, fill: Fill::Filters { weight: 0, walks } }
}

/// For each output row the byte offset of the first input row that its kernel rows meet, and their
/// number and the byte offset of the first one's weights. Rows lie `input_row` bytes apart, those of weights
/// `row_bytes`.
fn rows(op: &Conv2d, [h, height]: [usize; 2], input_row: usize, row_bytes: usize) -> Part {
    let taps = conv::Taps::window(op.kernel[0], op.stride[0], op.pad[0], op.dilation[0]);
    let entry = |y: usize| {
        let (inside, first) = (taps.inside(y, h), taps.first_inside(y, h));
        Entry { numbers: [first * input_row, inside.len(), inside.start * row_bytes], factor: 0.0 }
    };
    table::part(&(0..height).map(entry).collect::<Vec<_>>())
}

/// All that a row kernel's code depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kernel {
    /// Channels of a group: a power of two that is less than the lanes.
    group: usize,
    /// Kernel columns.
    taps: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
    /// Bytes from one of the window's rows to the next.
    row: usize,
    /// Input columns.
    input: usize,
    width: usize,
    epilogue: Epilogue,
    /// Of the input, and of what is written and read besides: all is multiplied as f32.
    element: Element,
    elements: Elements,
    /// Of whole numbers of 8 bits. Products are of i16, one of each pair being 0; or of f32 where there are no vectors of
    /// i16, since numbers are few enough for products and sums of f32 to be exact.
    levels: Option<Levels>,
}

/// What is done with whole numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Levels {
    /// What stands for 0.
    zero: i32,
    tail: Tail,
}

/// For the kernel's name.
impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kernel { group, taps, stride, dilation, pad, row, input, width, epilogue, element, elements, levels } =
            self;
        let mut kernel = f.debug_struct("Kernel");
        kernel.field("group", group).field("taps", taps).field("stride", stride).field("dilation", dilation);
        kernel.field("pad", pad).field("row", row).field("input", input).field("width", width);
        kernel.field("epilogue", epilogue);
        if let Some(levels) = levels {
            kernel.field("levels", levels);
        }
        if *element != Element::F32 || elements.output != Element::F32 {
            kernel.field("from", element).field("to", &elements.output);
        }
        kernel.finish()
    }
}

impl KernelKey for Kernel {
    /// Parameters: the row's entry, weights, bias, input, output, the epilogue's operands; of whole numbers multipliers
    /// and offsets for the bias, and scratch memory.
    fn build(&self, unit: Unit) -> Function {
        let parameters = 5 + extra_operands(&self.epilogue) + usize::from(self.has_scratch(unit));
        let mut b = Builder::new(format!("depthwise {self:?}"), unit, parameters);
        let (in_pixel, out_pixels) = (self.in_pixel(unit), self.out_pixels(unit));
        let [entry, weights, input] = [0, 1, 3].map(|i| b.parameter(i));
        for (pointer, number) in [(input, 0), (weights, 2)] {
            let offset = table::number(&mut b, entry, number);
            b.advance(pointer, offset);
        }
        let rows = table::number(&mut b, entry, 1);
        let mut tiles = vec![];
        let mut first = 0;
        for pixels in conv::split(self.width, self.most_pixels(unit)) {
            tiles.push((first, pixels));
            first += pixels;
        }
        // From a tile's first pixel's window, which may begin in the padding.
        b.advance(input, -((self.pad * in_pixel) as i64));
        while let [(first, pixels), ..] = tiles[..] {
            let alike = tiles.iter().take_while(|t| t.1 == pixels && self.is_interior(t.0, t.1)).count().max(1);
            b.repeat(alike, |b| {
                self.tile(b, rows.into(), first, pixels);
                b.advance(input, pixels * self.stride * in_pixel);
                out_pixels.iter().enumerate().for_each(|(i, pixel)| b.advance(b.parameter(4 + i), pixels * pixel));
            });
            tiles.drain(..alike);
        }
        b.finish()
    }
}

impl Kernel {
    /// Bytes from a pixel of the input to the next.
    fn in_pixel(&self, unit: Unit) -> usize {
        unit.lanes * self.element.bytes()
    }

    /// The same of the output and the epilogue's operands.
    fn out_pixels(&self, unit: Unit) -> Vec<usize> {
        let elements = [self.elements.output].into_iter().chain(self.elements.operands.iter().copied());
        elements.map(|element| unit.lanes * element.bytes()).collect()
    }

    /// Results may wait in scratch memory for what is done to them.
    fn has_scratch(&self, unit: Unit) -> bool {
        self.levels.is_some() || self.elements.wants_scratch(&self.epilogue, self.most_pixels(unit), unit)
    }

    /// What weights consist of.
    fn factor(&self, unit: Unit) -> Element {
        if self.levels.is_some() && unit.narrow { Element::I16 } else { Element::F32 }
    }

    fn is_f32(&self) -> bool {
        self.element == Element::F32 && self.elements.output == Element::F32
    }

    fn row_bytes(&self, unit: Unit) -> usize {
        self.taps * self.group * unit.bytes()
    }

    /// Most pixels of a tile: an accumulator a turn, and the inputs where they serve several turns.
    fn most_pixels(&self, unit: Unit) -> usize {
        // An input that is no operand of memory, its zero point, and stores of narrow elements take registers.
        let registers = unit.registers - if self.is_f32() { 0 } else { 2 };
        match self.group {
            1 => (registers - 3).min(MOST_PIXELS),
            group => (registers - 2) / (group + 1),
        }
    }

    fn applies(&self, pixel: usize, tap: usize) -> bool {
        (self.pad..self.pad + self.input).contains(&(pixel * self.stride + tap * self.dilation))
    }

    fn is_interior(&self, first: usize, pixels: usize) -> bool {
        (first..first + pixels).all(|p| (0..self.taps).all(|k| self.applies(p, k)))
    }

    fn tile(&self, b: &mut Builder, rows: Operand, first: usize, pixels: usize) {
        let (pixel, vector) = (self.in_pixel(b.unit()), b.unit().bytes());
        let bias = if self.levels.is_some() { self.zero(b) } else { b.load(b.parameter(2).at(0)) };
        let acc: Vec<Vec<Vector>> = (0..pixels).map(|_| self.accumulators(b, bias)).collect();
        let (weights, from) = (b.int(b.parameter(1)), b.int(b.parameter(3)));
        b.repeat(rows, |b| {
            for tap in 0..self.taps {
                let pixels = acc.iter().enumerate().filter(|(p, _)| self.applies(first + p, tap));
                let places =
                    pixels.map(|(p, acc)| (acc.as_slice(), from.at((p * self.stride + tap * self.dilation) * pixel)));
                self.tap(b, weights.at(tap * self.group * vector), &places.collect::<Vec<_>>());
            }
            b.advance(weights, self.row_bytes(b.unit()));
            b.advance(from, self.row);
        });
        let results: Vec<Vector> = acc.iter().map(|acc| self.turned_back(b, acc)).collect();
        self.store(b, &results);
    }

    /// A pixel's accumulator a turn.
    fn accumulators(&self, b: &mut Builder, bias: Vector) -> Vec<Vector> {
        let first = b.new_vector_like(&[bias]);
        b.copy(first, bias);
        std::iter::once(first).chain((1..self.group).map(|_| self.zero(b))).collect()
    }

    /// An empty sum.
    fn zero(&self, b: &mut Builder) -> Vector {
        match self.factor(b.unit()) {
            Element::F32 => b.splat(0.0),
            _ => b.splat_int(Element::I32, 0),
        }
    }

    /// A pixel's channels, of whole numbers less what stands for 0.
    fn load(&self, b: &mut Builder, address: Address) -> Vector {
        let zero = self.levels.as_ref().map_or(0, |levels| levels.zero);
        if self.factor(b.unit()) == Element::F32 {
            let v = grid::load_stored(b, address, self.element);
            if zero == 0 {
                return v;
            }
            let zero = b.splat(zero as f32);
            return b.op(VectorOp::Sub, v, zero);
        }
        let mut v = b.load_as(Element::I32, address, self.element);
        if zero != 0 {
            let zero = b.splat_int(Element::I32, zero);
            v = b.op(VectorOp::Sub, v, zero);
        }
        // The lower half of a lane is the number as i16; the upper one meets the weight 0.
        b.reinterpret(Element::I16, v)
    }

    /// `acc += x · w`
    fn add_product(&self, b: &mut Builder, acc: Vector, x: Vector, w: Vector) {
        match self.factor(b.unit()) {
            Element::F32 => b.fma(acc, x, w),
            _ => b.add_products_of_i16(acc, x, w),
        }
    }

    /// One tap of the pixels whose accumulators and inputs are given.
    fn tap(&self, b: &mut Builder, weights: Address, pixels: &[(&[Vector], Address)]) {
        if self.group == 1 && self.element != Element::F32 {
            let w = b.load_of(self.factor(b.unit()), weights);
            for &(acc, address) in pixels {
                let x = self.load(b, address);
                self.add_product(b, acc[0], x, w);
            }
            return;
        }
        if self.group == 1 {
            let w = b.load(weights);
            pixels.iter().for_each(|&(acc, address)| b.push(Inst::FmaLoad { acc: acc[0], a: w, address }));
            return;
        }
        let x: Vec<Vector> = pixels.iter().map(|&(_, address)| self.load(b, address)).collect();
        for turn in 0..self.group {
            let offset = weights.offset + (turn * b.unit().bytes()) as i32;
            let w = b.load_of(self.factor(b.unit()), Address { offset, ..weights });
            pixels.iter().zip(&x).for_each(|((acc, _), &x)| self.add_product(b, acc[turn], x, w));
        }
    }

    /// The sum of a pixel's accumulators, each turned back.
    fn turned_back(&self, b: &mut Builder, acc: &[Vector]) -> Vector {
        for (turn, &v) in acc.iter().enumerate().skip(1) {
            let back = b.permute(v, |lane| {
                let (first, channel) = (lane - lane % self.group, lane % self.group);
                first + (channel + self.group - turn) % self.group
            });
            b.op_into(acc[0], VectorOp::Add, acc[0], back);
        }
        acc[0]
    }

    /// Applies the epilogue and stores the tile.
    fn store(&self, b: &mut Builder, acc: &[Vector]) {
        let (bytes, pixels) = (b.unit().bytes(), self.out_pixels(b.unit()));
        let to = b.parameter(4);
        let extra: Vec<Int> = (0..extra_operands(&self.epilogue)).map(|i| b.parameter(5 + i)).collect();
        if let Some(levels) = &self.levels {
            let (scales, scratch) = (b.parameter(2), b.parameter(5 + extra.len()));
            let places =
                |p: usize| Places { to: to.at(p * pixels[0]), scales: scales.at(0), kept: scratch.at(p * bytes) };
            let sums: Vec<(Vector, Places)> = acc.iter().enumerate().map(|(p, &sum)| (sum, places(p))).collect();
            let registers = b.unit().registers - usize::from(bytes == 64);
            return levels.tail.store(b, &sums, registers, |p, i| extra[i].at(p * pixels[1 + i]));
        }
        let results: Vec<(Vector, Address)> = acc.iter().enumerate().map(|(p, &v)| (v, to.at(p * pixels[0]))).collect();
        let scratch = self.has_scratch(b.unit()).then(|| b.parameter(5 + extra.len()));
        epilogue::store_all(b, &self.epilogue, &self.elements, scratch, &results, |p, i| {
            extra[i].at(p * pixels[1 + i])
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::testing::check_with;
    use crate::ir::Phase;
    use crate::ops::activation::Activation;
    use crate::ops::epilogue::PostOp;
    use crate::plan::Options;
    use crate::testing::{self, conv};

    fn on(channels: usize, size: [usize; 2], op: Conv2d) {
        groups_on(channels, 1, size, op);
    }

    fn groups_on(channels: usize, group: usize, size: [usize; 2], op: Conv2d) {
        let mut b = testing::GraphBuilder::new("depthwise", Phase::Infer);
        let x = b.input([2, 3, size[0], size[1]]);
        let x = b.add(conv(channels, 1, 1, 0), &[x]);
        let op = Conv2d { channels, groups: channels / group, ..op };
        let y = b.add(op.clone(), &[x]);
        let fused = vec![PostOp::Add, PostOp::Activate(Activation::Relu)];
        let z = b.add(Conv2d { epilogue: fused, bias: false, ..op.clone() }, &[x, y]);
        // An activation that needs more registers than the tile leaves.
        let fused = vec![PostOp::Activate(Activation::Gelu), PostOp::Mul];
        let z = b.add(Conv2d { epilogue: fused, ..op }, &[x, z]);
        let algorithm = if group == 1 { "depthwise" } else { "grouped" };
        let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..Options::default() };
        check_with(b.finish(&[y, z]), &options, 1e-5);
    }

    /// Groups that fit the unit's vectors; direct convolution where they do not.
    #[test]
    fn groups() {
        for group in [2, 4, 8] {
            groups_on(5 * group, group, [9, 14], conv(0, 3, 1, 1));
            groups_on(8 * group, group, [7, 9], conv(0, 3, 2, 1));
            groups_on(3 * group, group, [6, 5], Conv2d { pad: [2, 3, 4, 1], dilation: [2, 3], ..conv(0, 3, 1, 0) });
        }
    }

    #[test]
    fn windows() {
        for channels in [19, 32] {
            on(channels, [9, 40], conv(0, 3, 1, 1));
            on(channels, [15, 14], conv(0, 3, 2, 1));
            on(channels, [7, 7], conv(0, 5, 1, 2));
        }
        on(6, [5, 6], Conv2d { pad: [2, 3, 4, 1], dilation: [2, 3], ..conv(0, 3, 1, 0) });
        on(6, [2, 2], conv(0, 5, 3, 4));
        on(6, [5, 5], conv(0, 1, 2, 0));
    }
}
