//! Writes a [`Function`] statement by statement.

mod typed;

use std::collections::BTreeSet;

use super::*;

/// Appends instructions to the innermost open block. Loops and conditions take closures.
#[derive(Debug)]
pub(crate) struct Builder {
    function: Function,
    blocks: Vec<Vec<Inst>>,
}

impl Builder {
    /// A function with `parameters` integer parameters.
    pub(crate) fn new(name: impl Into<String>, unit: Unit, parameters: usize) -> Self {
        let parameters: Vec<Int> = (0..parameters as u32).map(Int).collect();
        let ints = parameters.len() as u32;
        let function = Function {
            name: name.into(),
            unit,
            parameters,
            body: vec![],
            ints,
            elements: vec![],
            halves: BTreeSet::new(),
        };
        Self { function, blocks: vec![vec![]] }
    }

    /// The finished function.
    ///
    /// # Panics
    /// When the function breaks a rule of [`Function::verify`]: a bug of the kernel's author.
    pub(crate) fn finish(self) -> Function {
        let function = self.finish_unverified();
        if let Err(error) = function.verify() {
            panic!("{error}");
        }
        function
    }

    /// The function as it stands, for tests of the verifier.
    pub(super) fn finish_unverified(mut self) -> Function {
        self.function.body = self.blocks.pop().expect("the outermost block");
        self.function
    }

    pub(crate) fn unit(&self) -> Unit {
        self.function.unit
    }

    /// Lanes of 32 bits.
    pub(crate) fn lanes(&self) -> usize {
        self.function.unit.lanes
    }

    pub(crate) fn parameter(&self, index: usize) -> Int {
        self.function.parameters[index]
    }

    pub(crate) fn push(&mut self, inst: Inst) {
        self.blocks.last_mut().expect("an open block").push(inst);
    }

    /// A new integer variable, to be set before it is read.
    pub(crate) fn new_int(&mut self) -> Int {
        self.function.ints += 1;
        Int(self.function.ints - 1)
    }

    /// A new vector variable of f32, to be set before it is read.
    pub(crate) fn new_vector(&mut self) -> Vector {
        self.new_vector_of(Element::F32)
    }

    /// A new vector variable, to be set before it is read.
    pub(crate) fn new_vector_of(&mut self, element: Element) -> Vector {
        self.function.elements.push(element);
        Vector(self.function.elements.len() as u32 - 1)
    }

    /// Leaves the upper half of the vector's lanes out of all that is computed into it: they are 0.
    /// A machine whose wide registers pass through its units in halves then does half the work. Does
    /// nothing for other units.
    pub(crate) fn halve(&mut self, v: Vector) {
        if self.unit().halves {
            self.function.halves.insert(v);
        }
    }

    /// A new variable for what is computed from others, of the first one's element: half a vector where
    /// one of them is.
    pub(crate) fn new_vector_like(&mut self, sources: &[Vector]) -> Vector {
        let element = sources.first().map_or(Element::F32, |&v| self.function.element(v));
        self.computed(element, sources)
    }

    fn computed(&mut self, element: Element, sources: &[Vector]) -> Vector {
        let v = self.new_vector_of(element);
        if sources.iter().any(|&s| self.function.is_half(s)) {
            self.halve(v);
        }
        v
    }

    // Integers.

    pub(crate) fn int(&mut self, src: impl Into<Operand>) -> Int {
        let dst = self.new_int();
        self.set_int(dst, src);
        dst
    }

    pub(crate) fn set_int(&mut self, dst: Int, src: impl Into<Operand>) {
        self.push(Inst::SetInt { dst, src: src.into() });
    }

    pub(crate) fn int_op(&mut self, op: IntOp, a: Int, b: impl Into<Operand>) -> Int {
        let dst = self.new_int();
        self.push(Inst::IntBinary { op, dst, a, b: b.into() });
        dst
    }

    /// `a + b` as a new variable.
    pub(crate) fn add(&mut self, a: Int, b: impl Into<Operand>) -> Int {
        self.int_op(IntOp::Add, a, b)
    }

    pub(crate) fn mul(&mut self, a: Int, b: impl Into<Operand>) -> Int {
        self.int_op(IntOp::Mul, a, b)
    }

    /// `a += b`.
    pub(crate) fn advance(&mut self, a: Int, b: impl Into<Operand>) {
        self.push(Inst::IntBinary { op: IntOp::Add, dst: a, a, b: b.into() });
    }

    pub(crate) fn load_int(&mut self, address: Address) -> Int {
        let dst = self.new_int();
        self.push(Inst::LoadInt { dst, address });
        dst
    }

    /// A byte, as a number from 0 to 255.
    pub(crate) fn load_byte(&mut self, address: Address) -> Int {
        let dst = self.new_int();
        self.push(Inst::LoadByte { dst, address });
        dst
    }

    /// 32 bits as a number that is not negative.
    pub(crate) fn load_word(&mut self, address: Address) -> Int {
        let dst = self.new_int();
        self.push(Inst::LoadWord { dst, address });
        dst
    }

    /// All 64 bits.
    pub(crate) fn store_int(&mut self, address: Address, src: Int) {
        self.push(Inst::StoreInt { address, src });
    }

    /// The lowest 8 bits.
    pub(crate) fn store_byte(&mut self, address: Address, src: Int) {
        self.push(Inst::StoreByte { address, src });
    }

    // Vectors.

    pub(crate) fn splat(&mut self, value: f32) -> Vector {
        self.splat_bits(value.to_bits())
    }

    pub(crate) fn splat_bits(&mut self, bits: u32) -> Vector {
        let dst = self.new_vector();
        self.push(Inst::Splat { dst, bits });
        dst
    }

    #[cfg(test)]
    pub(crate) fn set_splat(&mut self, dst: Vector, value: f32) {
        self.push(Inst::Splat { dst, bits: value.to_bits() });
    }

    pub(crate) fn copy(&mut self, dst: Vector, src: Vector) {
        self.push(Inst::Move { dst, src });
    }

    pub(crate) fn load(&mut self, address: Address) -> Vector {
        let dst = self.new_vector();
        self.load_into(dst, address);
        dst
    }

    pub(crate) fn load_into(&mut self, dst: Vector, address: Address) {
        self.push(Inst::Load { dst, address });
    }

    pub(crate) fn prefetch(&mut self, address: Address) {
        self.push(Inst::Prefetch { address });
    }

    pub(crate) fn store(&mut self, address: Address, src: Vector) {
        self.push(Inst::Store { address, src });
    }

    /// The first `count` lanes of memory; the rest 0.
    pub(crate) fn load_first(&mut self, address: Address, count: usize) -> Vector {
        if count == self.lanes() {
            return self.load(address);
        }
        let dst = self.splat(0.0);
        self.push(Inst::LoadLanes { dst, address, from: 0, to: count as u8 });
        dst
    }

    /// The first `count` lanes of memory; the others are those of `rest`.
    pub(crate) fn load_beside(&mut self, address: Address, count: usize, rest: Vector) -> Vector {
        if count == self.lanes() {
            return self.load(address);
        }
        let dst = self.new_vector();
        self.copy(dst, rest);
        self.push(Inst::LoadLanes { dst, address, from: 0, to: count as u8 });
        dst
    }

    pub(crate) fn store_first(&mut self, address: Address, src: Vector, count: usize) {
        if count == self.lanes() {
            return self.store(address, src);
        }
        self.push(Inst::StoreLanes { address, src, from: 0, to: count as u8 });
    }

    pub(crate) fn broadcast(&mut self, address: Address) -> Vector {
        let dst = self.new_vector();
        self.broadcast_into(dst, address);
        dst
    }

    pub(crate) fn broadcast_into(&mut self, dst: Vector, address: Address) {
        self.push(Inst::Broadcast { dst, address });
    }

    pub(crate) fn op(&mut self, op: VectorOp, a: Vector, b: Vector) -> Vector {
        let dst = self.new_vector_like(&[a, b]);
        self.op_into(dst, op, a, b);
        dst
    }

    pub(crate) fn op_into(&mut self, dst: Vector, op: VectorOp, a: Vector, b: Vector) {
        self.push(Inst::Binary { op, dst, a, b });
    }

    /// Of f32 the result is of f32 too: of [`UnaryOp::ToInt`] the bits ([`Self::to_int`] gives i32).
    pub(crate) fn unary(&mut self, op: UnaryOp, a: Vector) -> Vector {
        let dst = self.new_vector_like(&[a]);
        self.push(Inst::Unary { op, dst, a });
        dst
    }

    pub(crate) fn fma(&mut self, acc: Vector, a: Vector, b: Vector) {
        self.push(Inst::Fma { acc, a, b });
    }

    /// `acc += a * b[lane]`.
    pub(crate) fn fma_lane(&mut self, acc: Vector, a: Vector, b: Vector, lane: usize) {
        self.push(Inst::FmaLane { acc, a, b, lane: lane as u8 });
    }

    pub(crate) fn select(&mut self, compare: Compare, a: Vector, b: Vector, x: Vector, y: Vector) -> Vector {
        let dst = self.new_vector_of(self.function.element(x));
        self.push(Inst::Select { dst, compare, a, b, x, y });
        dst
    }

    /// All lanes the sum (Add), least (Min) or greatest (Max) of `src`'s lanes.
    pub(crate) fn reduce(&mut self, op: VectorOp, src: Vector) -> Vector {
        let element = self.function.element(src);
        let (dst, temp) = (self.new_vector_of(element), self.new_vector_of(element));
        self.push(Inst::Reduce { op, dst, src, temp });
        dst
    }

    /// Lane i is `src`'s lane `of(i)`.
    pub(crate) fn permute(&mut self, src: Vector, of: impl Fn(usize) -> usize) -> Vector {
        self.shuffle([src, src], of)
    }

    /// Lane i is lane `of(i)` of the two sources, one after the other.
    pub(crate) fn shuffle(&mut self, sources: [Vector; 2], of: impl Fn(usize) -> usize) -> Vector {
        let dst = self.new_vector_of(self.function.element(sources[0]));
        let mut lanes = Lanes::default();
        (0..self.lanes()).for_each(|i| lanes[i] = of(i) as u8);
        self.push(Inst::Permute { dst, sources, lanes });
        dst
    }

    // Structure.

    /// `for counter in (start..end).step_by(step)`.
    pub(crate) fn loop_range(
        &mut self,
        start: impl Into<Operand>,
        end: impl Into<Operand>,
        step: i64,
        body: impl FnOnce(&mut Self, Int),
    ) {
        let counter = self.new_int();
        self.blocks.push(vec![]);
        body(self, counter);
        let body = self.blocks.pop().expect("pushed above");
        self.push(Inst::Loop { counter, start: start.into(), end: end.into(), step, body });
    }

    /// Runs the body `count` times. A constant count of 1 needs no loop.
    pub(crate) fn repeat(&mut self, count: impl Into<Operand>, body: impl FnOnce(&mut Self)) {
        match count.into() {
            Operand::Const(0) => {}
            Operand::Const(1) => body(self),
            count => self.loop_range(0i64, count, 1, |b, _| body(b)),
        }
    }

    pub(crate) fn if_then(
        &mut self,
        condition: Condition,
        a: Int,
        b: impl Into<Operand>,
        then: impl FnOnce(&mut Self),
    ) {
        self.if_else(condition, a, b, then, |_| {});
    }

    pub(crate) fn if_else(
        &mut self,
        condition: Condition,
        a: Int,
        b: impl Into<Operand>,
        then: impl FnOnce(&mut Self),
        otherwise: impl FnOnce(&mut Self),
    ) {
        self.blocks.push(vec![]);
        then(self);
        let then = self.blocks.pop().expect("pushed above");
        self.blocks.push(vec![]);
        otherwise(self);
        let otherwise = self.blocks.pop().expect("pushed above");
        self.push(Inst::If { condition, a, b: b.into(), then, otherwise });
    }

    /// Begins a block whose instructions [`Self::close_block`] hands back, for authors whose state
    /// does not fit a closure.
    #[cfg(test)]
    pub(crate) fn open_block(&mut self) {
        self.blocks.push(vec![]);
    }

    /// Ends the innermost block.
    #[cfg(test)]
    pub(crate) fn close_block(&mut self) -> Vec<Inst> {
        self.blocks.pop().expect("an open block")
    }

    pub(crate) fn call(&mut self, callee: Callee, arguments: Vec<Operand>) {
        self.push(Inst::Call { callee, arguments });
    }
}
