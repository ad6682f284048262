//! Vectors of elements other than f32.
//!
//! Most methods are one instruction. Two make several where the unit lacks one, to the same bits:
//! [`Builder::add_products_of_i16`] and [`Builder::store_bf16`].

use super::*;

#[allow(
    dead_code,
    reason = "kernels of 8 bits and bfloat16 are to be written in these; tests hold them to the simulator"
)]
impl Builder {
    /// What a vector consists of.
    pub(crate) fn element(&self, v: Vector) -> Element {
        self.function.element(v)
    }

    /// All lanes the same whole number, of which as many bits as fit count.
    pub(crate) fn splat_int(&mut self, element: Element, value: i32) -> Vector {
        let dst = self.new_vector_of(element);
        let mut bits = value as u32;
        for width in [8, 16].into_iter().skip_while(|width| *width < 8 * element.bytes() as u32) {
            let low = bits & ((1 << width) - 1);
            bits = low | low << width;
        }
        self.push(Inst::Splat { dst, bits });
        dst
    }

    /// A vector of elements in memory.
    pub(crate) fn load_of(&mut self, element: Element, address: Address) -> Vector {
        let dst = self.new_vector_of(element);
        self.load_into(dst, address);
        dst
    }

    /// Elements `from` in memory, widened to `element`.
    pub(crate) fn load_as(&mut self, element: Element, address: Address, from: Element) -> Vector {
        let dst = self.new_vector_of(element);
        self.push(Inst::LoadAs { dst, address, from });
        dst
    }

    /// Narrows to the nearest numbers that there are, and stores.
    pub(crate) fn store_as(&mut self, address: Address, src: Vector, to: Element) {
        self.push(Inst::StoreAs { address, src, to });
    }

    /// Four vectors of i32 as one of i8 or u8, one after the other, each number narrowed to the nearest that there is.
    pub(crate) fn narrow(&mut self, element: Element, sources: [Vector; 4]) -> Vector {
        let dst = self.new_vector_of(element);
        self.push(Inst::Narrow { dst, sources });
        dst
    }

    /// All lanes the element at the address.
    pub(crate) fn broadcast_of(&mut self, element: Element, address: Address) -> Vector {
        let dst = self.new_vector_of(element);
        self.broadcast_into(dst, address);
        dst
    }

    /// The group of elements that the 32 bits at the address hold, for all lanes of 32 bits.
    pub(crate) fn broadcast_group(&mut self, element: Element, address: Address) -> Vector {
        let dst = self.new_vector_of(element);
        self.push(Inst::BroadcastGroup { dst, address });
        dst
    }

    /// The same bits as another element.
    pub(crate) fn reinterpret(&mut self, element: Element, src: Vector) -> Vector {
        let dst = self.computed(element, &[src]);
        self.push(Inst::Reinterpret { dst, src });
        dst
    }

    /// f32 → i32, to the nearest, ties to even. Undefined beyond the range of i32.
    pub(crate) fn convert_to_int(&mut self, a: Vector) -> Vector {
        let dst = self.computed(Element::I32, &[a]);
        self.push(Inst::Unary { op: UnaryOp::ToInt, dst, a });
        dst
    }

    /// i32 → f32, to the nearest, ties to even.
    pub(crate) fn convert_from_int(&mut self, a: Vector) -> Vector {
        let dst = self.computed(Element::F32, &[a]);
        self.push(Inst::Unary { op: UnaryOp::FromInt, dst, a });
        dst
    }

    /// Each i32 the sum of the products of two neighbouring i16.
    pub(crate) fn madd_i16(&mut self, a: Vector, b: Vector) -> Vector {
        let dst = self.computed(Element::I32, &[a, b]);
        self.push(Inst::MaddI16 { dst, a, b });
        dst
    }

    /// `acc += a · b`; only where the unit has it.
    pub(crate) fn dot(&mut self, dot: Dot, acc: Vector, a: Vector, b: Vector) {
        self.push(Inst::Dot { dot, acc, a, b });
    }

    /// `acc += a · b` of i16, by one instruction or by two, to the same bits.
    pub(crate) fn add_products_of_i16(&mut self, acc: Vector, a: Vector, b: Vector) {
        if Dot::I16.is_of(self.unit()) {
            return self.dot(Dot::I16, acc, a, b);
        }
        let products = self.madd_i16(a, b);
        self.op_into(acc, VectorOp::Add, acc, products);
    }

    /// Rounds f32 to bf16 as [`round_to_bf16`] says, and stores: by the unit's instruction or by several
    /// others, to the same bits.
    pub(crate) fn store_bf16(&mut self, address: Address, src: Vector) {
        if self.unit().dot_bf16 {
            return self.store_as(address, src, Element::Bf16);
        }
        let bits = self.reinterpret(Element::I32, src);
        let rounded = self.rounded_to_bf16(bits);
        // Signed, so that narrowing finds each number in range.
        let upper = self.unary(UnaryOp::ShiftRightSigned(16), rounded);
        self.store_as(address, upper, Element::I16);
    }

    /// Of the bits of f32 in a vector of i32: those of bf16 in the upper halves.
    fn rounded_to_bf16(&mut self, bits: Vector) -> Vector {
        let constant = |b: &mut Self, bits: u32| b.splat_int(Element::I32, bits as i32);
        let (one, half) = (constant(self, 1), constant(self, 0x7fff));
        let upper = self.unary(UnaryOp::ShiftRight(16), bits);
        let odd = self.op(VectorOp::And, upper, one);
        let bias = self.op(VectorOp::Add, odd, half);
        let rounded = self.op(VectorOp::Add, bits, bias);

        let (exponent, magnitude) = (constant(self, 0x7f80_0000), constant(self, 0x7fff_ffff));
        let (sign, quiet) = (constant(self, 0x8000_0000), constant(self, 0x0040_0000));
        let zero = self.op(VectorOp::And, bits, sign);
        let nan = self.op(VectorOp::Or, bits, quiet);
        let absolute = self.op(VectorOp::And, bits, magnitude);
        let number = self.select(Compare::LessEqual, absolute, exponent, rounded, nan);
        let normal = constant(self, 0x0080_0000);
        self.select(Compare::Less, absolute, normal, zero, number)
    }
}
