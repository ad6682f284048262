//! Values on grids of 8 bits, in registers: how a number in memory becomes f32, and f32 a number in memory.
//!
//! ```text
//! f32   = fl((q − zero) · scale)
//! q     = saturate(round(fl(x / scale)) + zero)         round: to the nearest, ties to even; of NaN 0
//! ```
//!
//! Both are what `ops` says of them, to the last bit. The difference and the sum are exact in f32, so that a
//! vector needs no more than one constant at a time.

use super::super::key::Bits;
use super::super::vector::{Address, Builder, Compare, UnaryOp, Vector, VectorOp};
use super::epilogue;
use crate::ops::epilogue::PostOp;
use crate::ops::quantized;
use crate::plan::{Layout, stored};
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

    fn real(self, b: &mut Builder, v: Vector) -> Vector {
        let v = match self.zero {
            0 => v,
            zero => {
                let zero = b.splat(zero as f32);
                b.op(VectorOp::Sub, v, zero)
            }
        };
        match self.scale.value() {
            1.0 => v,
            scale => {
                let scale = b.splat(scale);
                b.op(VectorOp::Mul, v, scale)
            }
        }
    }

    /// The nearest numbers, as f32.
    fn nearest(self, b: &mut Builder, v: Vector) -> Vector {
        let v = match self.scale.value() {
            1.0 => v,
            scale => {
                let scale = b.splat(scale);
                b.op(VectorOp::Div, v, scale)
            }
        };
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
        Some(grid) => {
            let v = load_stored(b, address, grid.element);
            grid.real(b, v)
        }
    }
}

/// Stores a vector of f32, of a grid the nearest numbers.
pub(crate) fn store(b: &mut Builder, address: Address, v: Vector, grid: Option<Grid>) {
    match grid {
        None => b.store(address, v),
        Some(grid) => {
            let v = grid.nearest(b, v);
            store_stored(b, address, v, grid.element);
        }
    }
}

/// A vector in memory as f32, whole numbers as what they are.
pub(crate) fn load_stored(b: &mut Builder, address: Address, element: Element) -> Vector {
    match element {
        Element::F32 => b.load(address),
        element => b.load_as(Element::F32, address, element),
    }
}

/// Stores a vector of f32, which are whole numbers where others do not fit.
pub(crate) fn store_stored(b: &mut Builder, address: Address, v: Vector, element: Element) {
    match element {
        Element::F32 => b.store(address, v),
        element => {
            let v = b.convert_to_int(v);
            b.store_as(address, v, element);
        }
    }
}

/// The nearest whole numbers; of NaN 0.
pub(crate) fn round(b: &mut Builder, v: Vector) -> Vector {
    let v = b.unary(UnaryOp::Round, v);
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
