//! Values on grids of 8 bits, in registers: how a number in memory becomes f32, and f32 a number in memory.
//!
//! ```text
//! f32   = fl((q − zero) · scale)
//! q     = saturate(round(fl(x / scale)) + zero)         round: to the nearest, ties to even; of NaN 0
//! ```
//!
//! Both are what `ops` says of them, to the last bit. The difference and the sum are exact in f32, so that a
//! vector needs no more than one constant at a time.

use super::super::key::{Bits, Epilogue};
use super::super::packing::{Fill, Loop, Part, Walk};
use super::super::vector::{Address, Builder, Compare, UnaryOp, Vector, VectorOp};
use super::epilogue;
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::ops::quantized;
use crate::plan::{Layout, stored};
use crate::target::Unit;
use crate::tensor::Element;

/// A grid in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grid {
    /// What lies in memory, in blocks.
    element: Element,
    zero: i32,
    /// The least and the greatest number.
    low: i32,
    high: i32,
    scale: Bits,
}

impl Grid {
    /// The grid of a value that lies in blocks.
    pub(crate) fn in_blocks(grid: &quantized::Grid) -> Grid {
        let [zero, low, high] = [grid.zero, grid.levels.low(), grid.levels.high()].map(|level| level as i32);
        let element = stored(grid.levels.element(), Layout::Blocked { block: 1 });
        Grid { element, zero, low, high, scale: Bits::of(grid.scale) }
    }

    /// The real numbers at levels.
    pub(crate) fn real(self, b: &mut Builder, v: Vector) -> Vector {
        let v = centred(b, v, self.zero);
        self.scaled(b, v)
    }

    /// The real numbers at levels in memory. The zero point is subtracted before they become f32, by units that wait.
    fn load(self, b: &mut Builder, address: Address) -> Vector {
        if self.element == Element::F32 {
            let v = b.load(address);
            return self.real(b, v);
        }
        let v = b.load_as(Element::I32, address, self.element);
        let v = match self.zero {
            0 => v,
            zero => {
                let zero = b.splat_int(Element::I32, zero);
                b.op(VectorOp::Sub, v, zero)
            }
        };
        let v = b.convert_from_int(v);
        self.scaled(b, v)
    }

    fn scaled(self, b: &mut Builder, v: Vector) -> Vector {
        match self.scale.value() {
            1.0 => v,
            scale => {
                let scale = b.splat(scale);
                b.op(VectorOp::Mul, v, scale)
            }
        }
    }

    /// The levels of the nearest numbers, as f32.
    pub(crate) fn nearest(self, b: &mut Builder, v: Vector) -> Vector {
        let v = self.steps(b, v);
        let v = round(b, v);
        let v = clamp(b, v, [self.low - self.zero, self.high - self.zero].map(|bound| bound as f32));
        match self.zero {
            0 => v,
            zero => {
                let zero = b.splat(zero as f32);
                b.op(VectorOp::Add, v, zero)
            }
        }
    }

    /// `fl(v / scale)`
    fn steps(self, b: &mut Builder, v: Vector) -> Vector {
        match self.scale.value() {
            1.0 => v,
            scale => {
                let scale = b.splat(scale);
                b.op(VectorOp::Div, v, scale)
            }
        }
    }

    /// Stores the levels of the nearest numbers, of `rectified` ones no number below 0.
    fn store(
        self,
        b: &mut Builder,
        address: Address,
        v: Vector,
        (rectified, small): (bool, bool),
        constants: &mut Constants,
    ) {
        if self.element == Element::F32 {
            let zero = constants.number(b, Element::F32, 0);
            let v = if rectified { b.op(VectorOp::Max, zero, v) } else { v };
            let v = self.nearest(b, v);
            return b.store(address, v);
        }
        let v = self.whole(b, v, (rectified, small), constants);
        b.store_as(address, v, self.element);
    }

    /// The levels of the nearest numbers as i32, of `rectified` ones no number below 0.
    ///
    /// Bounds are whole numbers, so that what is between them may be rounded after it was clamped, on the way to i32.
    /// Of `small` numbers those that are not are clamped when they are narrowed.
    fn whole(self, b: &mut Builder, v: Vector, (rectified, small): (bool, bool), constants: &mut Constants) -> Vector {
        let v = self.steps(b, v);
        let ends = self.element.integer_range().map(|(least, greatest)| [least as i32, greatest as i32]);
        let [least, greatest] = ends.expect("of whole numbers");
        let low_level = if rectified { self.zero } else { self.low };
        let (narrowed_low, narrowed_high) = (small && low_level == least, small && self.high == greatest);
        let low = low_level - self.zero;
        // The extremum is its second operand where one is NaN, whose level is that of 0.
        let v = match low {
            _ if narrowed_low => v,
            0 => {
                let low = constants.number(b, Element::F32, low);
                b.op(VectorOp::Max, v, low)
            }
            _ => {
                let low = constants.number(b, Element::F32, low);
                let v = if small { v } else { or_zero(b, v) };
                b.op(VectorOp::Max, v, low)
            }
        };
        let v = match narrowed_high {
            true => v,
            false => {
                let high = constants.number(b, Element::F32, self.high - self.zero);
                b.op(VectorOp::Min, v, high)
            }
        };
        let v = b.convert_to_int(v);
        match self.zero {
            0 => v,
            zero => {
                let zero = constants.number(b, Element::I32, zero);
                b.op(VectorOp::Add, v, zero)
            }
        }
    }

    /// Whether results that are neighbours are narrowed and stored together, four at a time.
    pub(crate) fn stores_four(self, unit: Unit) -> bool {
        self.element.bytes() == 1 && unit.narrow
    }

    /// Stores the levels of the nearest numbers of vectors that are neighbours, where [`Self::stores_four`].
    pub(crate) fn store_four(self, b: &mut Builder, address: Address, results: [Vector; TOGETHER]) {
        let mut constants = Constants::default();
        let levels = results.map(|v| self.whole(b, v, (false, false), &mut constants));
        let bytes = b.narrow(self.element, levels);
        b.store(address, bytes);
    }
}

/// Levels as f32 less their zero point.
pub(crate) fn centred(b: &mut Builder, v: Vector, zero: i32) -> Vector {
    match zero {
        0 => v,
        zero => {
            let zero = b.splat(zero as f32);
            b.op(VectorOp::Sub, v, zero)
        }
    }
}

/// What is done to sums of levels: two numbers a channel, an epilogue, the nearest levels of a grid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tail {
    pub steps: Epilogue,
    /// Of each operand of the steps the grid.
    pub reads: Vec<Option<Grid>>,
    pub output: Option<Grid>,
    /// What is rounded to levels is known to be finite and within the range of i32, whatever the inputs are: narrowing
    /// clamps it.
    pub small: bool,
}

/// Where a sum's result goes, the multipliers and then the offsets of its channels, and a place in scratch memory.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub to: Address,
    pub scales: Address,
    pub kept: Address,
}

impl Tail {
    /// Finishes sums, of i32 or of f32 that are whole numbers, and stores the results. Where there are not `registers`
    /// enough for that, the sums go to scratch memory first and come back one by one. `operand` tells where the nth
    /// operand of a result lies.
    pub(crate) fn store(
        &self,
        b: &mut Builder,
        sums: &[(Vector, Places)],
        registers: usize,
        operand: impl Fn(usize, usize) -> Address,
    ) {
        let (steps, rectified) = self.without_last_relu();
        let needed = temporaries(steps);
        let crowded = self.is_crowded(sums.len(), registers);
        if crowded {
            sums.iter().for_each(|&(sum, places)| b.store(places.kept, sum));
        }
        let mut constants = Constants::default();
        let mut result = 0;
        while result < sums.len() {
            let together = match self.output {
                Some(grid) if grid.stores_four(b.unit()) && are_neighbours(&sums[result..], b.lanes()) => TOGETHER,
                _ => 1,
            };
            // Sums that are stored leave registers to constants, which are then loaded once.
            let live = if crowded { together } else { sums.len() - result };
            constants.kept = live + needed + Constants::MOST <= registers;
            let mut levels = vec![];
            for (i, &(sum, places)) in sums.iter().enumerate().skip(result).take(together) {
                let element = b.element(sum);
                let sum = if crowded { b.load_of(element, places.kept) } else { sum };
                let v = if element == Element::I32 { b.convert_from_int(sum) } else { sum };
                let multiplier = constants.vector(b, places.scales);
                let v = b.op(VectorOp::Mul, v, multiplier);
                let bytes = b.unit().bytes() as i32;
                let offset = constants.vector(b, Address { offset: places.scales.offset + bytes, ..places.scales });
                let v = constants.plus(b, v, offset);
                let v = epilogue::apply_all(b, steps, v, |b, n| load(b, operand(i, n), self.reads[n]));
                match self.output {
                    None => b.store(places.to, v),
                    Some(grid) if together == 1 => grid.store(b, places.to, v, (rectified, self.small), &mut constants),
                    Some(grid) => levels.push(grid.whole(b, v, (rectified, self.small), &mut constants)),
                }
            }
            if let (Ok(levels), Some(grid)) = (levels.try_into(), self.output) {
                let bytes = b.narrow(grid.element, levels);
                b.store(sums[result].1.to, bytes);
            }
            result += together;
        }
    }

    /// Whether so many sums leave too few registers.
    pub(crate) fn is_crowded(&self, sums: usize, registers: usize) -> bool {
        sums + temporaries(self.without_last_relu().0) > registers
    }

    /// The steps without a rectifier at the end where results are levels: those are clamped anyway, then to what is
    /// not below the number 0.
    fn without_last_relu(&self) -> (&[PostOp], bool) {
        match self.steps.split_last() {
            Some((PostOp::Activate(Activation::Relu), before)) if self.output.is_some() => (before, true),
            _ => (&self.steps, false),
        }
    }
}

/// Results of bytes that are narrowed together: as many as bytes fit in 32 bits.
pub(crate) const TOGETHER: usize = 4;

/// Whether the first results lie side by side, `lanes` bytes each.
fn are_neighbours(sums: &[(Vector, Places)], lanes: usize) -> bool {
    let first = sums[0].1.to;
    let at = |i: usize| Address { offset: first.offset + (i * lanes) as i32, ..first };
    sums.len() >= TOGETHER && (1..TOGETHER).all(|i| sums[i].1.to == at(i))
}

/// Constants in registers, where there are enough.
#[derive(Default)]
struct Constants {
    kept: bool,
    numbers: Vec<(Element, u32, Vector)>,
    vectors: Vec<(Address, Vector)>,
}

impl Constants {
    /// Registers of constants at most: a multiplier and an offset, two bounds, a zero point, one.
    const MOST: usize = 6;

    /// `v + w`. Units that add and convert are busy with results, those that multiply wait: where there is a register for a
    /// factor of 1 they take the sum, which is rounded once and so is the same.
    fn plus(&mut self, b: &mut Builder, v: Vector, w: Vector) -> Vector {
        if !self.kept || b.unit().registers < 32 {
            return b.op(VectorOp::Add, v, w);
        }
        let one = self.number(b, Element::F32, 1);
        let sum = b.new_vector_like(&[v]);
        b.copy(sum, w);
        b.fma(sum, v, one);
        sum
    }

    /// All lanes that number.
    fn number(&mut self, b: &mut Builder, element: Element, value: i32) -> Vector {
        let bits = if element == Element::I32 { value as u32 } else { (value as f32).to_bits() };
        if let Some(&(.., v)) = self.numbers.iter().find(|n| (n.0, n.1) == (element, bits)) {
            return v;
        }
        let v = match element {
            Element::I32 => b.splat_int(element, value),
            _ => b.splat(value as f32),
        };
        if self.kept {
            self.numbers.push((element, bits, v));
        }
        v
    }

    /// A vector in memory; of these the last two are kept.
    fn vector(&mut self, b: &mut Builder, address: Address) -> Vector {
        if let Some(&(_, v)) = self.vectors.iter().find(|known| known.0 == address) {
            return v;
        }
        let v = b.load(address);
        if self.kept {
            self.vectors.truncate(2);
            self.vectors.insert(0, (address, v));
            self.vectors.truncate(2);
        }
        v
    }
}

/// The part of packed weights that holds the multipliers and offsets of channels from `from` on, the step's second and
/// third weights: of each block a vector of one and then of the other. Offsets are 0 where there is no third weight.
pub(crate) fn scales(from: usize, channels: usize, block: usize, has_offsets: bool) -> Part {
    let (blocks, rest) = (channels / block, channels % block);
    let walk = |first: usize, count: usize, lanes: usize, which: usize| {
        let blocks = Loop { count, from: block as isize, to: 2 * block };
        let lanes = Loop { count: lanes, from: 1, to: 1 };
        (1 + which, Walk::new(from + first * block, (2 * first + which) * block, [blocks, lanes]))
    };
    let walks = (0..1 + usize::from(has_offsets))
        .flat_map(|which| [walk(0, blocks, block, which), walk(blocks, 1, rest, which)]);
    let walks = walks.filter(|(_, walk)| walk.loops.iter().all(|l| l.count > 0)).collect();
    Part { element: Element::F32, elements: 2 * channels.next_multiple_of(block), fill: Fill::Copies(walks) }
}

/// Registers that what is done to a result of whole numbers needs beside it, with the steps of an epilogue.
pub(crate) fn temporaries(steps: &[PostOp]) -> usize {
    TEMPORARIES.max(1 + epilogue::temporaries(steps))
}

/// Two constants, or an operand and a constant; what chooses between two vectors where one is NaN.
const TEMPORARIES: usize = 3;

/// A vector of numbers in memory as f32: of a grid's the real numbers.
pub(crate) fn load(b: &mut Builder, address: Address, grid: Option<Grid>) -> Vector {
    match grid {
        None => b.load(address),
        Some(grid) => grid.load(b, address),
    }
}

/// Stores a vector of f32, of a grid the nearest numbers.
pub(crate) fn store(b: &mut Builder, address: Address, v: Vector, grid: Option<Grid>) {
    match grid {
        None => b.store(address, v),
        Some(grid) => grid.store(b, address, v, (false, false), &mut Constants::default()),
    }
}

/// A vector in memory as f32, whole numbers and bf16 as what they are.
pub(crate) fn load_stored(b: &mut Builder, address: Address, element: Element) -> Vector {
    match element {
        Element::F32 => b.load(address),
        element => b.load_as(Element::F32, address, element),
    }
}

/// The first `count` channels of a block as f32, zeros behind them. Blocks of other elements are read whole.
pub(crate) fn load_first_stored(b: &mut Builder, address: Address, count: usize, element: Element) -> Vector {
    match element {
        Element::F32 => b.load_first(address, count),
        _ => {
            let v = load_stored(b, address, element);
            first_lanes(b, v, count)
        }
    }
}

/// The first `count` lanes, zeros behind them.
pub(crate) fn first_lanes(b: &mut Builder, v: Vector, count: usize) -> Vector {
    let lanes = b.lanes();
    if count == lanes {
        return v;
    }
    let zero = b.splat(0.0);
    b.shuffle([v, zero], |lane| if lane < count { lane } else { lanes + lane })
}

/// Stores a vector of f32, which are whole numbers where others do not fit; as bf16 the nearest.
pub(crate) fn store_stored(b: &mut Builder, address: Address, v: Vector, element: Element) {
    match element {
        Element::F32 => b.store(address, v),
        Element::Bf16 => b.store_as(address, v, element),
        element => {
            let v = b.convert_to_int(v);
            b.store_as(address, v, element);
        }
    }
}

/// The nearest whole numbers; of NaN 0.
pub(crate) fn round(b: &mut Builder, v: Vector) -> Vector {
    let v = b.unary(UnaryOp::Round, v);
    or_zero(b, v)
}

/// 0 for NaN.
fn or_zero(b: &mut Builder, v: Vector) -> Vector {
    let zero = b.splat(0.0);
    b.select(Compare::Equal, v, v, v, zero)
}

/// What is no NaN between two numbers.
pub(crate) fn clamp(b: &mut Builder, v: Vector, [low, high]: [f32; 2]) -> Vector {
    let low = b.splat(low);
    let v = b.op(VectorOp::Max, low, v);
    let high = b.splat(high);
    b.op(VectorOp::Min, high, v)
}
