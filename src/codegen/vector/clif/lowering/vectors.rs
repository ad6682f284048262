//! What is computed of vectors, and how their elements become others.

use super::{LITTLE_ENDIAN, Lowering, MEMORY, vector_type};
use crate::codegen::vector::{Address, Compare, Element, Lanes, UnaryOp, Vector, VectorOp};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

impl Lowering<'_> {
    pub(super) fn splat_bits(&mut self, ty: Type, bits: u32) -> Value {
        let bytes = bits.to_le_bytes().repeat(4);
        let constant = self.b.func.dfg.constants.insert(bytes.into());
        self.b.ins().vconst(ty, constant)
    }

    pub(super) fn splat_at(&mut self, base: Value, offset: i32) -> Value {
        self.splat_element(Element::F32, base, offset)
    }

    /// All lanes the element at `base + offset`.
    pub(super) fn splat_element(&mut self, element: Element, base: Value, offset: i32) -> Value {
        let ty = vector_type(element);
        let scalar = self.b.ins().load(ty.lane_type(), MEMORY, base, offset);
        self.b.ins().splat(ty, scalar)
    }

    /// `value` with the given lanes replaced from memory, lane i at `address + i * stride`.
    pub(super) fn load_lanes(
        &mut self,
        value: Value,
        address: &Address,
        stride: i32,
        lanes: std::ops::Range<u8>,
    ) -> Value {
        let base = self.base(address);
        let ty = self.b.func.dfg.value_type(value).lane_type();
        lanes.fold(value, |value, lane| {
            let scalar = self.b.ins().load(ty, MEMORY, base, address.offset + i32::from(lane) * stride);
            self.b.ins().insertlane(value, scalar, lane)
        })
    }

    pub(super) fn store_lanes(&mut self, src: Vector, address: &Address, stride: i32, lanes: std::ops::Range<u8>) {
        let (value, base) = (self.vector(src), self.base(address));
        for lane in lanes {
            let scalar = self.b.ins().extractlane(value, lane);
            self.b.ins().store(MEMORY, scalar, base, address.offset + i32::from(lane) * stride);
        }
    }

    /// The narrow elements of memory, widened.
    pub(super) fn load_as(&mut self, to: Element, address: &Address, from: Element) -> Value {
        let (base, offset) = (self.base(address), address.offset);
        match (from, to) {
            (Element::U8, Element::I16) => self.b.ins().uload8x8(MEMORY, base, offset),
            (Element::I8, Element::I16) => self.b.ins().sload8x8(MEMORY, base, offset),
            (Element::I16, _) => self.b.ins().sload16x4(MEMORY, base, offset),
            (Element::Bf16, _) => {
                let wide = self.b.ins().uload16x4(MEMORY, base, offset);
                let bits = self.b.ins().ishl_imm_u(wide, 16);
                self.as_floats(bits)
            }
            (_, Element::F32) => {
                let whole = self.load_as(Element::I32, address, from);
                self.b.ins().fcvt_from_sint(types::F32X4, whole)
            }
            _ => {
                let four = self.b.ins().load(types::I32, MEMORY, base, offset);
                let lowest = self.b.ins().scalar_to_vector(types::I32X4, four);
                let bytes = self.cast(types::I8X16, lowest);
                match from {
                    Element::U8 => {
                        let wide = self.b.ins().uwiden_low(bytes);
                        self.b.ins().uwiden_low(wide)
                    }
                    _ => {
                        let wide = self.b.ins().swiden_low(bytes);
                        self.b.ins().swiden_low(wide)
                    }
                }
            }
        }
    }

    /// Narrows to the lowest lanes, each to the nearest number that there is, and stores these.
    pub(super) fn store_as(&mut self, address: &Address, src: Vector, to: Element) {
        let (mut value, base) = (self.vector(src), self.base(address));
        let mut bytes = self.function.element(src).bytes();
        while bytes > to.bytes() {
            value = match to == Element::U8 && bytes == 2 {
                true => self.b.ins().unarrow(value, value),
                false => self.b.ins().snarrow(value, value),
            };
            bytes /= 2;
        }
        // As floats, which move from the register to memory without a detour.
        let stored = 16 / self.function.element(src).bytes() * to.bytes();
        let ty = if stored == 8 { types::F64X2 } else { types::F32X4 };
        let lanes = self.cast(ty, value);
        let lowest = self.b.ins().extractlane(lanes, 0);
        self.b.ins().store(MEMORY, lowest, base, address.offset);
    }

    pub(super) fn narrow(&mut self, sources: [Vector; 4], to: Element) -> Value {
        let [a, b, c, d] = sources.map(|v| self.vector(v));
        let (first, second) = (self.b.ins().snarrow(a, b), self.b.ins().snarrow(c, d));
        match to {
            Element::U8 => self.b.ins().unarrow(first, second),
            _ => self.b.ins().snarrow(first, second),
        }
    }

    /// The same bits as another vector.
    pub(super) fn cast(&mut self, ty: Type, v: Value) -> Value {
        let from = self.b.func.dfg.value_type(v);
        match from == ty {
            true => v,
            false if from.lane_count() == ty.lane_count() => self.b.ins().bitcast(ty, MEMORY, v),
            false => self.b.ins().bitcast(ty, LITTLE_ENDIAN, v),
        }
    }

    fn as_bits(&mut self, v: Value) -> Value {
        self.cast(types::I32X4, v)
    }

    fn as_floats(&mut self, v: Value) -> Value {
        self.cast(types::F32X4, v)
    }

    pub(super) fn binary(&mut self, element: Element, op: VectorOp, a: Value, b: Value) -> Value {
        if element != Element::F32 {
            return self.integer_binary(element, op, a, b);
        }
        match op {
            VectorOp::Add => self.b.ins().fadd(a, b),
            VectorOp::Sub => self.b.ins().fsub(a, b),
            VectorOp::Mul => self.b.ins().fmul(a, b),
            VectorOp::Div => self.b.ins().fdiv(a, b),
            // In this form Cranelift finds the machine's own min and max.
            VectorOp::Min => self.choose(FloatCC::LessThan, [a, b], [a, b]),
            VectorOp::Max => self.choose(FloatCC::LessThan, [b, a], [a, b]),
            VectorOp::Scale => {
                let whole = self.unary(UnaryOp::ToInt, types::F32X4, b);
                let bias = self.splat_bits(types::F32X4, 127);
                let biased = self.binary(element, VectorOp::AddBits, whole, bias);
                let power = self.unary(UnaryOp::ShiftLeft(23), types::F32X4, biased);
                self.b.ins().fmul(a, power)
            }
            VectorOp::And | VectorOp::Or | VectorOp::Xor | VectorOp::AddBits | VectorOp::SubBits => {
                let (a, b) = (self.as_bits(a), self.as_bits(b));
                let bits = self.integer_binary(Element::I32, op, a, b);
                self.as_floats(bits)
            }
        }
    }

    fn integer_binary(&mut self, element: Element, op: VectorOp, a: Value, b: Value) -> Value {
        let unsigned = element == Element::U8;
        let ins = self.b.ins();
        match op {
            VectorOp::And => ins.band(a, b),
            VectorOp::Or => ins.bor(a, b),
            VectorOp::Xor => ins.bxor(a, b),
            VectorOp::Add | VectorOp::AddBits => ins.iadd(a, b),
            VectorOp::Sub | VectorOp::SubBits => ins.isub(a, b),
            VectorOp::Mul => ins.imul(a, b),
            VectorOp::Min if unsigned => ins.umin(a, b),
            VectorOp::Min => ins.smin(a, b),
            VectorOp::Max if unsigned => ins.umax(a, b),
            VectorOp::Max => ins.smax(a, b),
            VectorOp::Div | VectorOp::Scale => unreachable!("the verifier has these of f32 only"),
        }
    }

    /// In the form in which Cranelift finds x86-64's instruction for it.
    pub(super) fn madd(&mut self, a: Value, b: Value) -> Value {
        let (low_a, low_b) = (self.b.ins().swiden_low(a), self.b.ins().swiden_low(b));
        let (high_a, high_b) = (self.b.ins().swiden_high(a), self.b.ins().swiden_high(b));
        let (low, high) = (self.b.ins().imul(low_a, low_b), self.b.ins().imul(high_a, high_b));
        self.b.ins().iadd_pairwise(low, high)
    }

    /// As a shuffle of bytes, which Cranelift makes the machine's shuffle of lanes of where it fits.
    pub(super) fn permute(&mut self, sources: [Vector; 2], lanes: &Lanes) -> Value {
        let ty = self.type_of(sources[0]);
        let mut bytes = |v| {
            let value = self.vector(v);
            self.cast(types::I8X16, value)
        };
        let a = bytes(sources[0]);
        // One value where the sources are one: by that Cranelift knows lanes that are factors of a
        // multiply-add.
        let b = if sources[1] == sources[0] { a } else { bytes(sources[1]) };
        let from = lanes[..4].iter().flat_map(|lane| (0..4).map(move |byte| 4 * lane + byte)).collect::<Vec<u8>>();
        let mask = self.b.func.dfg.immediates.push(from.as_slice().into());
        let shuffled = self.b.ins().shuffle(a, b, mask);
        self.cast(ty, shuffled)
    }

    /// By lane `compare(a, b) ? x : y`.
    fn choose(&mut self, compare: FloatCC, [a, b]: [Value; 2], xy: [Value; 2]) -> Value {
        let mask = self.b.ins().fcmp(compare, a, b);
        self.blend(mask, xy)
    }

    fn blend(&mut self, mask: Value, [x, y]: [Value; 2]) -> Value {
        let ty = self.b.func.dfg.value_type(x);
        let mask = self.cast(ty, mask);
        self.b.ins().bitselect(mask, x, y)
    }

    pub(super) fn select(&mut self, compare: Compare, operands: [Vector; 4]) -> Value {
        let [a, b, x, y] = operands.map(|v| self.vector(v));
        if self.function.element(operands[0]) == Element::F32 {
            let compare = match compare {
                Compare::Less => FloatCC::LessThan,
                Compare::LessEqual => FloatCC::LessThanOrEqual,
                Compare::Equal => FloatCC::Equal,
            };
            return self.choose(compare, [a, b], [x, y]);
        }
        let compare = match compare {
            Compare::Less => IntCC::SignedLessThan,
            Compare::LessEqual => IntCC::SignedLessThanOrEqual,
            Compare::Equal => IntCC::Equal,
        };
        let mask = self.b.ins().icmp(compare, a, b);
        self.blend(mask, [x, y])
    }

    /// `ty` is the result's type: that of the operand but for conversions.
    pub(super) fn unary(&mut self, op: UnaryOp, ty: Type, a: Value) -> Value {
        match op {
            UnaryOp::Sqrt => self.b.ins().sqrt(a),
            UnaryOp::Round => self.b.ins().nearest(a),
            UnaryOp::Floor => self.b.ins().floor(a),
            UnaryOp::ToInt => {
                let rounded = self.b.ins().nearest(a);
                let bits = match self.x86 {
                    true => self.b.ins().x86_cvtt2dq(types::I32X4, rounded),
                    false => self.b.ins().fcvt_to_sint_sat(types::I32X4, rounded),
                };
                self.cast(ty, bits)
            }
            UnaryOp::FromInt => {
                let bits = self.as_bits(a);
                self.b.ins().fcvt_from_sint(types::F32X4, bits)
            }
            UnaryOp::ShiftLeft(n) => {
                let bits = self.integers(a);
                let shifted = self.b.ins().ishl_imm_u(bits, i64::from(n));
                self.cast(ty, shifted)
            }
            UnaryOp::ShiftRight(n) => {
                let bits = self.integers(a);
                let shifted = self.b.ins().ushr_imm_u(bits, i64::from(n));
                self.cast(ty, shifted)
            }
            UnaryOp::ShiftRightSigned(n) => self.b.ins().sshr_imm_u(a, i64::from(n)),
        }
    }

    /// A vector of whole numbers as it is, one of f32 as its bits.
    fn integers(&mut self, v: Value) -> Value {
        match self.b.func.dfg.value_type(v) {
            types::F32X4 => self.as_bits(v),
            _ => v,
        }
    }

    pub(super) fn fma(&mut self, acc: Vector, a: Vector, b: Value) {
        let (sum, a) = (self.vector(acc), self.factor(a));
        let value = match self.fused {
            true => self.b.ins().fma(a, b, sum),
            false => {
                let product = self.b.ins().fmul(a, b);
                self.b.ins().fadd(sum, product)
            }
        };
        self.set(acc, value);
    }

    /// Combines each lane with the one two apart, then with its neighbour.
    pub(super) fn reduce(&mut self, op: VectorOp, src: Vector) -> Value {
        let (value, ty, element) = (self.vector(src), self.type_of(src), self.function.element(src));
        [[2u8, 3, 0, 1], [1, 0, 3, 2]].into_iter().fold(value, |value, lanes| {
            let bytes: Vec<u8> = lanes.iter().flat_map(|l| (0..4).map(move |i| 4 * l + i)).collect();
            let mask = self.b.func.dfg.immediates.push(bytes.into());
            let bits = self.cast(types::I8X16, value);
            let swapped = self.b.ins().shuffle(bits, bits, mask);
            let swapped = self.cast(ty, swapped);
            self.binary(element, op, value, swapped)
        })
    }
}
