//! Loop nests over arrays with strides: the one shape of every kernel that computes each element
//! of its output from at most one element of each operand.
//!
//! A [`Nest`] is a box of indices and, for each array, the distance of its elements along each
//! axis. Elementwise functions, broadcasts and every copy that permutes, cuts or repeats axes are
//! nests; so are both layouts, the channels of a block being one more axis. Adjacent axes that walk
//! alike in every array are joined, so that the innermost axis is as long as it can be; along it,
//! elements are loaded as vectors, broadcast (stride 0) or gathered. The outer axes become tasks.
//!
//! This module knows strides, not ops.

use super::super::emit::{Driver, Emitted, Emitter, Packed};
use super::super::key::KernelKey;
use super::super::vector::{Address, Builder, Callee, Function, Inst, Int, Operand, Vector};
use super::body::Body;
use super::grid::{self, Grid};
use crate::plan::View;
use crate::target::Unit;
use crate::tensor::{Element, Shape};

/// Elements that one task computes, about: 16 KiB of output.
const TASK: usize = 4096;
/// Axes that a kernel loops over at most; each takes an integer register.
const MOST_AXES: usize = 4;
/// Copies of a loop's body.
const UNROLL: usize = 4;
/// Bytes from one lane to the next at most, so that 32 bits hold the last lane's displacement.
const FARTHEST_LANE: i64 = i32::MAX as i64 / 32;
/// Arrays of so many bytes do not stay in a second-level cache: their lines are asked for ahead of time. Hardware that sees
/// rows coming stops at the end of a page, and begins anew with each.
const STREAMED: usize = 1 << 20;
/// How far ahead: what arrives while memory answers.
const AHEAD: i64 = 2 << 10;
/// Bytes from one lane to the next where elements are neighbours.
const NEIGHBOUR: i32 = super::LANE as i32;
/// The same where rows are read from their ends, or every other element is taken: shuffles of neighbours.
const BACKWARDS: i32 = -NEIGHBOUR;
const EVERY_OTHER: i32 = 2 * NEIGHBOUR;

/// The memory that an array lies in.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    View(View),
    Weights(Packed),
}

/// An array as a nest walks it. Strides are in bytes, one an axis.
#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub base: Base,
    pub strides: Vec<i64>,
}

impl Array {
    pub(crate) fn new(view: &View, strides: Vec<i64>) -> Array {
        Array { base: Base::View(view.clone()), strides }
    }

    pub(crate) fn weights(at: Packed, strides: Vec<i64>) -> Array {
        Array { base: Base::Weights(at), strides }
    }

    /// The array that begins `bytes` later.
    pub(crate) fn shifted(mut self, bytes: usize) -> Array {
        match &mut self.base {
            Base::View(view) => view.offset += bytes,
            Base::Weights(at) => at.offset += bytes,
        }
        self
    }

    /// What lies there. Bytes are read and written a whole vector of channels at a time.
    fn element(&self) -> Element {
        match &self.base {
            Base::View(view) => view.shape.element(),
            Base::Weights(_) => Element::F32,
        }
    }

    pub(super) fn address(&self, e: &Emitter, d: &mut Driver) -> Int {
        match &self.base {
            Base::View(view) => d.view(e, view),
            Base::Weights(at) => d.weights(*at),
        }
    }
}

/// The operands' elements for one vector of results.
pub(crate) struct Operands<'a> {
    kernel: &'a NestKernel<'a>,
    /// Those that a loop does not change, by array.
    hoisted: &'a [Option<Vector>],
    offsets: &'a [i64],
    lanes: usize,
}

impl Operands<'_> {
    /// Operand `index`, loaded where this stands. It may be shared with other results and must not
    /// be written.
    pub(crate) fn get(&self, b: &mut Builder, index: usize) -> Vector {
        let array = index + 1;
        self.hoisted[array].unwrap_or_else(|| self.kernel.load(b, array, self.offsets[array], self.lanes))
    }

    pub(crate) fn count(&self) -> usize {
        self.hoisted.len() - 1
    }
}

/// `arrays[0][i] = body(arrays[1][i], …)` for every index i of the box `dims`.
#[derive(Clone)]
pub(crate) struct Nest<'a> {
    pub dims: Vec<usize>,
    /// The output, then the operands.
    pub arrays: Vec<Array>,
    pub body: &'a Body,
}

/// Where the tasks of a nest end and its kernel begins.
#[derive(Clone, Copy)]
struct Cut {
    /// The first axis that a kernel loops over.
    axis: usize,
    /// How much of it at most, where the whole of it is too long.
    most: Option<usize>,
}

/// A nest whose first `outer` axes are tasks.
struct Region<'a> {
    nest: Nest<'a>,
    outer: usize,
}

/// One driver for all nests, which may run in any order.
pub(crate) fn emit(e: &mut Emitter, name: &str, nests: Vec<Nest>) -> Emitted {
    emit_side_by_side(e, name, nests.into_iter().map(|nest| vec![nest]).collect())
}

/// One driver for all nests, which may run in any order. The nests of a group write pieces of the same rows: a task writes
/// the same rows of each, so that a line of memory with elements of two of them is fetched once.
pub(crate) fn emit_side_by_side(e: &mut Emitter, name: &str, groups: Vec<Vec<Nest>>) -> Emitted {
    let lanes = e.unit().lanes;
    let sets: Vec<Vec<(Callee, Region)>> = groups
        .into_iter()
        .flat_map(|group| side_by_side(group, lanes))
        .map(|set| set.into_iter().map(|region| (region.kernel(e), region)).collect())
        .collect();
    let tasks = |set: &[(Callee, Region)]| set[0].1.tasks();
    let grid = sets.iter().map(|set| tasks(set)).sum();
    let entry = e.driver(name, |e, d| {
        let mut first = 0;
        for set in &sets {
            d.tasks(first, tasks(set), |d, task| {
                set.iter().for_each(|(kernel, region)| region.call(e, d, task, *kernel))
            });
            first += tasks(set);
        }
    });
    Emitted { entry, grid, scratch: 0 }
}

/// Regions that share their tasks, set by set: every set has a region of each nest where all of them are cut alike, else
/// each region is a set of its own.
fn side_by_side<'a>(group: Vec<Nest<'a>>, lanes: usize) -> Vec<Vec<Region<'a>>> {
    let nests: Vec<Nest> = group.into_iter().map(Nest::merged).collect();
    let widest = nests.iter().max_by_key(|nest| nest.dims.iter().product::<usize>()).expect("a group has nests");
    let cut = widest.cut();
    let rows = widest.dims[..=cut.axis].to_vec();
    let has_rows = nests.len() > 1 && rows.len() < widest.dims.len();
    let fits = |nest: &Nest| nest.dims.starts_with(&rows) && nest.dims.len() - cut.axis <= MOST_AXES;
    if !has_rows || !nests.iter().all(fits) {
        return nests.into_iter().flat_map(|nest| nest.regions(lanes)).map(|region| vec![region]).collect();
    }
    let mut sets: Vec<Vec<Region>> = vec![];
    for mut nest in nests {
        if nest.dims.len() == rows.len() {
            nest.push_one();
        }
        for (i, region) in nest.divided(cut, lanes).into_iter().enumerate() {
            if sets.len() == i {
                sets.push(vec![]);
            }
            sets[i].push(region);
        }
    }
    sets
}

/// Strides of a plain value of that shape.
pub(crate) fn row_major(shape: &Shape) -> Vec<i64> {
    let mut strides = vec![shape.element().bytes() as i64; shape.rank()];
    for axis in (1..shape.rank()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as i64;
    }
    strides
}

/// The axes of an image, `[n, blocks, h, w, block]`; in plain memory blocks are of one channel.
pub(crate) fn blocked_dims(view: &View) -> Vec<usize> {
    let [n, _, h, w] = view.image();
    vec![n, view.blocks(), h, w, view.block()]
}

/// Strides along [`blocked_dims`].
pub(crate) fn blocked_strides(view: &View) -> Vec<i64> {
    let strides =
        [view.batch_stride, view.block_stride(), view.row_stride(), view.pixel_stride(), view.element_bytes()];
    strides.map(|s| s as i64).to_vec()
}

impl<'a> Nest<'a> {
    /// The same nest without axes of size 1, and with axes joined that walk as one.
    pub(super) fn merged(self) -> Nest<'a> {
        let mut dims: Vec<usize> = vec![];
        let mut strides: Vec<Vec<i64>> = vec![vec![]; self.arrays.len()];
        for (axis, &size) in self.dims.iter().enumerate() {
            if size == 1 {
                continue;
            }
            let own: Vec<i64> = self.arrays.iter().map(|a| a.strides[axis]).collect();
            let joins =
                !dims.is_empty() && strides.iter().zip(&own).all(|(s, own)| s.last() == Some(&(own * size as i64)));
            if joins {
                *dims.last_mut().expect("not empty") *= size;
                strides.iter_mut().zip(own).for_each(|(s, own)| *s.last_mut().expect("not empty") = own);
            } else {
                dims.push(size);
                strides.iter_mut().zip(own).for_each(|(s, own)| s.push(own));
            }
        }
        // Lanes farther apart than an address reaches are loaded one by one.
        let far = strides.iter().any(|s| s.last().is_some_and(|s| s.abs() > FARTHEST_LANE));
        let one = dims.is_empty() || far;
        let arrays = self.arrays.into_iter().zip(strides).map(|(a, strides)| Array { base: a.base, strides }).collect();
        let mut merged = Nest { dims, arrays, body: self.body };
        if one {
            merged.push_one();
        }
        merged
    }

    /// An innermost axis of one element.
    fn push_one(&mut self) {
        self.dims.push(1);
        self.arrays.iter_mut().for_each(|array| array.strides.push(array.element().bytes() as i64));
    }

    fn regions(self, lanes: usize) -> Vec<Region<'a>> {
        let cut = self.cut();
        self.divided(cut, lanes)
    }

    /// Chooses the axes that a kernel loops over.
    fn cut(&self) -> Cut {
        let rank = self.dims.len();
        let mut inner = 1;
        let mut size = self.dims[rank - 1];
        while inner < rank.min(MOST_AXES) && size * self.dims[rank - inner - 1] <= TASK {
            size *= self.dims[rank - inner - 1];
            inner += 1;
        }
        match () {
            () if size > TASK => Cut { axis: rank - 1, most: Some(TASK) },
            () if inner < rank && inner < MOST_AXES => Cut { axis: rank - inner - 1, most: Some(TASK / size) },
            () => Cut { axis: rank - inner, most: None },
        }
    }

    /// The axis that is too long for a kernel is cut into pieces of nearly equal size and a last one of what is left.
    fn divided(self, Cut { axis, most }: Cut, lanes: usize) -> Vec<Region<'a>> {
        let Some(most) = most else {
            return vec![Region { nest: self, outer: axis }];
        };
        let length = self.dims[axis];
        let piece = length.div_ceil(length.div_ceil(most));
        let piece = if axis == self.dims.len() - 1 { piece.next_multiple_of(lanes) } else { piece };
        let (whole, rest) = (length / piece, length % piece);
        let mut regions = vec![];
        if whole > 0 {
            let mut nest = self.clone();
            nest.dims[axis] = piece;
            nest.dims.insert(axis, whole);
            for array in &mut nest.arrays {
                array.strides.insert(axis, array.strides[axis] * piece as i64);
            }
            regions.push(Region { nest, outer: axis + 1 });
        }
        if rest > 0 {
            let mut nest = self;
            nest.dims[axis] = rest;
            for array in &mut nest.arrays {
                let skipped = array.strides[axis] * (whole * piece) as i64;
                *array = array.clone().moved(skipped);
            }
            regions.push(Region { nest, outer: axis });
        }
        regions
    }
}

impl Array {
    fn moved(mut self, bytes: i64) -> Array {
        let offset = match &mut self.base {
            Base::View(view) => &mut view.offset,
            Base::Weights(at) => &mut at.offset,
        };
        *offset = (*offset as i64 + bytes) as usize;
        self
    }
}

impl Region<'_> {
    fn tasks(&self) -> usize {
        self.nest.dims[..self.outer].iter().product()
    }

    fn kernel(&self, e: &mut Emitter) -> Callee {
        let dims = &self.nest.dims[self.outer..];
        let strides = self.nest.arrays.iter().map(|a| a.strides[self.outer..].to_vec()).collect();
        let elements = self.nest.arrays.iter().map(Array::element).collect();
        let streamed = self.nest.dims.iter().product::<usize>().saturating_mul(super::LANE) >= STREAMED;
        e.kernel(&Loops { dims: dims.to_vec(), strides, elements, streamed, body: self.nest.body.clone() })
    }

    fn call(&self, e: &Emitter, d: &mut Driver, task: Int, kernel: Callee) {
        let pointers: Vec<Int> = self.nest.arrays.iter().map(|a| a.address(e, d)).collect();
        let mut rest: Operand = task.into();
        for axis in (0..self.outer).rev() {
            let Operand::Var(t) = rest else { unreachable!("only the outermost axis takes all that is left") };
            let (outer, index) = if axis == 0 { (0i64.into(), rest) } else { d.split(t, self.nest.dims[axis]) };
            for (&pointer, array) in pointers.iter().zip(&self.nest.arrays) {
                advance_by(d, pointer, index, array.strides[axis]);
            }
            rest = outer;
        }
        d.b.call(kernel, pointers.into_iter().map(Operand::from).collect());
    }
}

/// `pointer += index · stride`
fn advance_by(d: &mut Driver, pointer: Int, index: Operand, stride: i64) {
    if let (Operand::Var(index), true) = (index, stride != 0) {
        let bytes = d.b.mul(index, stride);
        d.b.advance(pointer, bytes);
    }
}

/// The loops of one task; all that their kernel depends on.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Loops {
    dims: Vec<usize>,
    /// Of each array.
    strides: Vec<Vec<i64>>,
    elements: Vec<Element>,
    /// Whether lines are asked for ahead of time.
    streamed: bool,
    body: Body,
}

impl KernelKey for Loops {
    /// Parameters: one pointer an array.
    fn build(&self, unit: Unit) -> Function {
        let &Loops { ref dims, ref strides, ref elements, streamed, ref body } = self;
        let mut b = Builder::new(format!("{body} {dims:?} {strides:?}"), unit, strides.len());
        NestKernel { unit, dims, strides, elements, streamed, body }.axis(&mut b, 0);
        b.finish()
    }
}

struct NestKernel<'a> {
    unit: Unit,
    dims: &'a [usize],
    strides: &'a [Vec<i64>],
    elements: &'a [Element],
    streamed: bool,
    body: &'a Body,
}

impl NestKernel<'_> {
    /// The loops from `axis` inwards. Returns by how many bytes each pointer has moved.
    fn axis(&self, b: &mut Builder, axis: usize) -> Vec<i64> {
        let lanes = self.unit.lanes;
        let last = self.dims.len() - 1;
        let own: Vec<i64> = self.strides.iter().map(|s| s[axis]).collect();
        let size = self.dims[axis];
        if axis == last {
            let steps: Vec<i64> = own.iter().map(|s| s * lanes as i64).collect();
            self.run(b, size / lanes, &steps, lanes);
            if size % lanes > 0 {
                let hoisted = vec![None; own.len()];
                self.item(b, &hoisted, &vec![0; own.len()], size % lanes);
            }
            return steps.iter().map(|s| s * (size / lanes) as i64).collect();
        }
        if axis + 1 == last && self.dims[last] <= lanes {
            self.run(b, size, &own, self.dims[last]);
        } else {
            b.repeat(size, |b| {
                let moved = self.axis(b, axis + 1);
                let steps: Vec<i64> = own.iter().zip(moved).map(|(s, m)| s - m).collect();
                self.advance(b, &steps);
            });
        }
        own.iter().map(|s| s * size as i64).collect()
    }

    /// The innermost loop: `count` vectors of `lanes` elements, each `steps` from the one before.
    fn run(&self, b: &mut Builder, count: usize, steps: &[i64], lanes: usize) {
        if count == 0 {
            return;
        }
        let mut hoisted = vec![None; steps.len()];
        let bytes = self.bytes_side_by_side(steps[0], lanes);
        // Results that are stored together wait for one another.
        let waiting = if bytes.is_some() { grid::TOGETHER } else { 0 };
        let free = self.unit.registers.saturating_sub(self.body.registers() + waiting);
        let invariant = (1..steps.len()).filter(|&i| steps[i] == 0).take(free);
        invariant.for_each(|i| hoisted[i] = Some(self.load(b, i, 0, lanes)));
        let near = steps.iter().all(|s| s.abs() < 1 << 24);
        let unroll = if near { count.min(UNROLL) } else { 1 };
        let copies = |b: &mut Builder, copies: usize| {
            self.ask_ahead(b, steps, copies);
            let offsets = |i: usize| steps.iter().map(|s| s * i as i64).collect::<Vec<_>>();
            match bytes {
                Some(grid) if copies == grid::TOGETHER => {
                    let results = std::array::from_fn(|i| self.result(b, &hoisted, &offsets(i), lanes));
                    let address = self.address(b, 0, 0);
                    grid.store_four(b, address, results);
                }
                _ => (0..copies).for_each(|i| self.item(b, &hoisted, &offsets(i), lanes)),
            }
            self.advance(b, &steps.iter().map(|s| s * copies as i64).collect::<Vec<_>>());
        };
        b.repeat(count / unroll, |b| copies(b, unroll));
        copies(b, count % unroll);
    }

    /// Brings the lines nearer that so many vectors are on whose turn comes later.
    fn ask_ahead(&self, b: &mut Builder, steps: &[i64], copies: usize) {
        for (array, &step) in steps.iter().enumerate() {
            // Vectors of whole rows, one behind the other.
            let is_row = step == (self.unit.lanes * super::LANE) as i64 && !self.is_narrow(array);
            if !self.streamed || !is_row || self.vector_stride(array) != NEIGHBOUR {
                continue;
            }
            for byte in (0..step as usize * copies).step_by(super::LINE) {
                let address = self.address(b, array, AHEAD + byte as i64);
                b.prefetch(address);
            }
        }
    }

    fn advance(&self, b: &mut Builder, steps: &[i64]) {
        for (i, &step) in steps.iter().enumerate().filter(|(_, step)| **step != 0) {
            b.advance(b.parameter(i), step);
        }
    }

    /// The grid of results whose vectors are neighbours, so that four of them are narrowed and stored together.
    fn bytes_side_by_side(&self, step: i64, lanes: usize) -> Option<Grid> {
        let fits = self.is_narrow(0) && step == lanes as i64 && lanes == self.unit.lanes;
        self.body.grid().filter(|grid| fits && grid.stores_four(self.unit))
    }

    fn result(&self, b: &mut Builder, hoisted: &[Option<Vector>], offsets: &[i64], lanes: usize) -> Vector {
        self.body.apply(b, &Operands { kernel: self, hoisted, offsets, lanes })
    }

    /// One vector: loads, the body, the store.
    fn item(&self, b: &mut Builder, hoisted: &[Option<Vector>], offsets: &[i64], lanes: usize) {
        let result = self.result(b, hoisted, offsets, lanes);
        let address = self.address(b, 0, offsets[0]);
        if self.is_narrow(0) {
            assert!(lanes == self.unit.lanes && self.vector_stride(0) == self.elements[0].bytes() as i32, "a block");
            return match self.body.grid() {
                Some(grid) => grid::store(b, address, result, Some(grid)),
                None => grid::store_stored(b, address, result, self.elements[0]),
            };
        }
        let result = self.body.grid().map_or(result, |grid| grid.nearest(b, result));
        match self.vector_stride(0) {
            NEIGHBOUR => b.store_first(address, result, lanes),
            _ if lanes == 1 => b.store_first(address, result, 1),
            stride => b.push(Inst::Scatter { address, src: result, stride, count: lanes as u8 }),
        }
    }

    fn load(&self, b: &mut Builder, array: usize, offset: i64, lanes: usize) -> Vector {
        let address = self.address(b, array, offset);
        if self.is_narrow(array) {
            let element = self.elements[array];
            assert!(lanes == self.unit.lanes && self.vector_stride(array) == element.bytes() as i32, "a block");
            return grid::load_stored(b, address, element);
        }
        match self.vector_stride(array) {
            0 => b.broadcast(address),
            NEIGHBOUR => b.load_first(address, lanes),
            _ if lanes == 1 => b.load_first(address, 1),
            BACKWARDS => {
                let last = (lanes as i64 - 1) * i64::from(BACKWARDS);
                let address = self.address(b, array, offset + last);
                let forwards = b.load_first(address, lanes);
                b.permute(forwards, |lane| (lanes - 1).saturating_sub(lane))
            }
            EVERY_OTHER => {
                // The second half ends with the last element, behind which may be nothing.
                let behind = (lanes as i64 - 1) * i64::from(NEIGHBOUR);
                let address = [0, behind].map(|from| self.address(b, array, offset + from));
                let halves = address.map(|address| b.load_first(address, lanes));
                let all = self.unit.lanes;
                b.shuffle(halves, |lane| match 2 * lane {
                    at if at < lanes => at,
                    at if lane < lanes => all + at + 1 - lanes,
                    _ => 0,
                })
            }
            stride => {
                let dst = b.new_vector();
                b.push(Inst::Gather { dst, address, stride, count: lanes as u8 });
                dst
            }
        }
    }

    fn is_narrow(&self, array: usize) -> bool {
        self.elements[array].bytes() < super::LANE
    }

    fn vector_stride(&self, array: usize) -> i32 {
        let stride = *self.strides[array].last().expect("at least one axis");
        i32::try_from(stride).expect("farther lanes are separate items")
    }

    fn address(&self, b: &Builder, array: usize, offset: i64) -> Address {
        let offset = i32::try_from(offset).expect("unrolled steps are near");
        Address { base: b.parameter(array), index: None, offset }
    }
}
