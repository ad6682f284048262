//! The text form of a function, for people and for tests: `netc ir --stage kernels`.
//!
//! One instruction a line; integers are `i0, i1, …`, vectors `v0, v1, …`, memory stands in square
//! brackets, and `f3` is the program's function 3. Vectors are of f32 where the function's head does not
//! declare another element.
//!
//! ```text
//! function scale(i0, i1) lanes=4 {
//!   v0 = splat 2.0
//!   for i2 in 0..256 step 16 {
//!     v1 = load [i0 + i2 + 64]
//!     v2 = mul v1, v0
//!     store [i1 + i2], v2
//!   }
//! }
//!
//! function products(i0, i1, i2) lanes=16 {
//!   u8 v0
//!   i8 v1
//!   i32 v2
//!   v0 = load [i0]
//!   v1 = load [i1]
//!   v2 = splat 0
//!   v2 += dot_u8i8 v0, v1
//!   store [i2], v2
//! }
//! ```

use super::*;
use std::fmt::{self, Display, Formatter};

impl Display for Int {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "i{}", self.0)
    }
}

impl Display for Vector {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for Callee {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "f{}", self.0)
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Var(v) => v.fmt(f),
            Operand::Const(c) => c.fmt(f),
        }
    }
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "[{}", self.base)?;
        match self.index {
            None => {}
            Some((index, 1)) => write!(f, " + {index}")?,
            Some((index, scale)) => write!(f, " + {index}*{scale}")?,
        }
        match self.offset {
            0 => {}
            o if o < 0 => write!(f, " - {}", o.unsigned_abs())?,
            o => write!(f, " + {o}")?,
        }
        f.write_str("]")
    }
}

impl Display for IntOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IntOp::Add => "add",
            IntOp::Sub => "sub",
            IntOp::Mul => "mul",
            IntOp::Div => "div",
            IntOp::Rem => "rem",
            IntOp::Min => "min",
            IntOp::Max => "max",
        })
    }
}

impl Display for VectorOp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VectorOp::Add => "add",
            VectorOp::Sub => "sub",
            VectorOp::Mul => "mul",
            VectorOp::Div => "div",
            VectorOp::Min => "min",
            VectorOp::Max => "max",
            VectorOp::And => "and",
            VectorOp::Or => "or",
            VectorOp::Xor => "xor",
            VectorOp::AddBits => "add_bits",
            VectorOp::SubBits => "sub_bits",
            VectorOp::Scale => "scale",
        })
    }
}

impl Display for Dot {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dot::U8I8 => "dot_u8i8",
            Dot::I16 => "dot_i16",
            Dot::Bf16 => "dot_bf16",
        })
    }
}

impl Display for Compare {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compare::Less => "<",
            Compare::LessEqual => "<=",
            Compare::Equal => "==",
        })
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::Less => "<",
            Condition::LessEqual => "<=",
            Condition::Equal => "==",
            Condition::NotEqual => "!=",
        })
    }
}

/// The instruction's line, a constant as if it were of f32. A structured statement shows its head only.
impl Display for Inst {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Inst::SetInt { dst, src } => write!(f, "{dst} = {src}"),
            Inst::IntBinary { op, dst, a, b } => write!(f, "{dst} = {op} {a}, {b}"),
            Inst::LoadInt { dst, address } => write!(f, "{dst} = load_int {address}"),
            Inst::LoadByte { dst, address } => write!(f, "{dst} = load_byte {address}"),
            Inst::LoadWord { dst, address } => write!(f, "{dst} = load_word {address}"),
            Inst::StoreInt { address, src } => write!(f, "store_int {address}, {src}"),
            Inst::StoreByte { address, src } => write!(f, "store_byte {address}, {src}"),
            Inst::Splat { dst, bits } => write_splat(f, *dst, *bits),
            Inst::Move { dst, src } => write!(f, "{dst} = {src}"),
            Inst::Reinterpret { dst, src } => write!(f, "{dst} = reinterpret {src}"),
            Inst::LoadAs { dst, address, from } => write!(f, "{dst} = load {from} {address}"),
            Inst::StoreAs { address, src, to } => write!(f, "store {to} {address}, {src}"),
            Inst::Load { dst, address } => write!(f, "{dst} = load {address}"),
            Inst::Store { address, src } => write!(f, "store {address}, {src}"),
            Inst::LoadLanes { dst, address, from, to } => write!(f, "{dst}.{from}..{to} = load {address}"),
            Inst::StoreLanes { address, src, from, to } => write!(f, "store {address}, {src}.{from}..{to}"),
            Inst::Gather { dst, address, stride, count } => {
                write!(f, "{dst} = gather {address} stride={stride} count={count}")
            }
            Inst::Scatter { address, src, stride, count } => {
                write!(f, "scatter {address}, {src} stride={stride} count={count}")
            }
            Inst::Broadcast { dst, address } => write!(f, "{dst} = broadcast {address}"),
            Inst::BroadcastGroup { dst, address } => write!(f, "{dst} = broadcast_group {address}"),
            Inst::MaddI16 { dst, a, b } => write!(f, "{dst} = madd_i16 {a}, {b}"),
            Inst::Dot { dot, acc, a, b } => write!(f, "{acc} += {dot} {a}, {b}"),
            Inst::DotLoad { dot, acc, a, address } => write!(f, "{acc} += {dot} {a}, load {address}"),
            Inst::DotBroadcast { dot, acc, a, address } => write!(f, "{acc} += {dot} {a}, broadcast {address}"),
            Inst::Binary { op, dst, a, b } => write!(f, "{dst} = {op} {a}, {b}"),
            Inst::Unary { op, dst, a } => write_unary(f, *op, *dst, *a),
            Inst::Fma { acc, a, b } => write!(f, "{acc} += {a} * {b}"),
            Inst::FmaLane { acc, a, b, lane } => write!(f, "{acc} += {a} * {b}.{lane}"),
            Inst::Prefetch { address } => write!(f, "prefetch {address}"),
            Inst::FmaLoad { acc, a, address } => write!(f, "{acc} += {a} * load {address}"),
            Inst::FmaBroadcast { acc, a, address } => write!(f, "{acc} += {a} * broadcast {address}"),
            Inst::Select { dst, compare, a, b, x, y } => write!(f, "{dst} = if {a} {compare} {b} then {x} else {y}"),
            Inst::Reduce { op, dst, src, temp } => write!(f, "{dst} = reduce {op} {src} temp={temp}"),
            Inst::Narrow { dst, sources: [a, b, c, d] } => write!(f, "{dst} = narrow {a}, {b}, {c}, {d}"),
            Inst::Permute { dst, sources: [a, b], lanes } => write!(f, "{dst} = permute {a} {b} {}", list(lanes)),
            Inst::Loop { counter, start, end, step: 1, .. } => write!(f, "for {counter} in {start}..{end}"),
            Inst::Loop { counter, start, end, step, .. } => write!(f, "for {counter} in {start}..{end} step {step}"),
            Inst::If { condition, a, b, .. } => write!(f, "if {a} {condition} {b}"),
            Inst::Call { callee, arguments } => write!(f, "call {callee}({})", list(arguments)),
        }
    }
}

/// The line of an instruction whose vectors are the function's.
fn write_line(f: &mut Formatter<'_>, function: &Function, inst: &Inst) -> fmt::Result {
    match *inst {
        Inst::Splat { dst, bits } if function.element(dst) != Element::F32 => {
            let element = function.element(dst);
            match element.integer_range().and_then(|_| whole_number(element, bits)) {
                Some(value) => write!(f, "{dst} = splat {value}"),
                None => write!(f, "{dst} = splat bits {bits:#010x}"),
            }
        }
        _ => write!(f, "{inst}"),
    }
}

/// The number that all elements within 32 bits are.
fn whole_number(element: Element, bits: u32) -> Option<i32> {
    let width = 8 * element.bytes() as u32;
    let repeats = bits == bits.rotate_left(width);
    let value =
        if element == Element::U8 { (bits & 0xff) as i32 } else { (bits << (32 - width)) as i32 >> (32 - width) };
    repeats.then_some(value)
}

fn write_splat(f: &mut Formatter<'_>, dst: Vector, bits: u32) -> fmt::Result {
    let value = f32::from_bits(bits);
    match value.is_normal() || value == 0.0 {
        true => write!(f, "{dst} = splat {value:?}"),
        false => write!(f, "{dst} = splat bits {bits:#010x}"),
    }
}

fn write_unary(f: &mut Formatter<'_>, op: UnaryOp, dst: Vector, a: Vector) -> fmt::Result {
    match op {
        UnaryOp::Sqrt => write!(f, "{dst} = sqrt {a}"),
        UnaryOp::Round => write!(f, "{dst} = round {a}"),
        UnaryOp::Floor => write!(f, "{dst} = floor {a}"),
        UnaryOp::ToInt => write!(f, "{dst} = to_int {a}"),
        UnaryOp::FromInt => write!(f, "{dst} = from_int {a}"),
        UnaryOp::ShiftLeft(n) => write!(f, "{dst} = shift_left {a}, {n}"),
        UnaryOp::ShiftRight(n) => write!(f, "{dst} = shift_right {a}, {n}"),
        UnaryOp::ShiftRightSigned(n) => write!(f, "{dst} = shift_right_signed {a}, {n}"),
    }
}

fn list<T: Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Function { name, unit, parameters, body, halves, elements, .. } = self;
        writeln!(f, "function {name}({}) lanes={} {{", list(parameters), unit.lanes)?;
        if !halves.is_empty() {
            writeln!(f, "  halves {}", list(&halves.iter().collect::<Vec<_>>()))?;
        }
        let vectors = elements.iter().zip((0..).map(Vector));
        for element in Element::ALL.into_iter().filter(|&e| e != Element::F32) {
            let declared: Vec<Vector> = vectors.clone().filter(|(e, _)| **e == element).map(|(_, v)| v).collect();
            if !declared.is_empty() {
                writeln!(f, "  {element} {}", list(&declared))?;
            }
        }
        write_block(f, self, body, 1)?;
        writeln!(f, "}}")
    }
}

fn write_block(f: &mut Formatter<'_>, function: &Function, block: &[Inst], depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for inst in block {
        f.write_str(&indent)?;
        write_line(f, function, inst)?;
        match inst {
            Inst::Loop { body, .. } => {
                writeln!(f, " {{")?;
                write_block(f, function, body, depth + 1)?;
                writeln!(f, "{indent}}}")?;
            }
            Inst::If { then, otherwise, .. } => {
                writeln!(f, " {{")?;
                write_block(f, function, then, depth + 1)?;
                if !otherwise.is_empty() {
                    writeln!(f, "{indent}}} else {{")?;
                    write_block(f, function, otherwise, depth + 1)?;
                }
                writeln!(f, "{indent}}}")?;
            }
            _ => writeln!(f)?,
        }
    }
    Ok(())
}

/// The functions in order, each preceded by the number that calls use.
impl Display for Program {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, function) in self.functions.iter().enumerate() {
            writeln!(f, "// {}", Callee(i))?;
            writeln!(f, "{function}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structure_and_memory() {
        let mut b = Builder::new("sample", Unit::V128, 2);
        let (src, dst) = (b.parameter(0), b.parameter(1));
        let acc = b.splat(0.0);
        b.splat_bits(f32::NEG_INFINITY.to_bits());
        let limit = b.load_int(src.at(8));
        b.loop_range(0i64, limit, 16, |b, i| {
            let x = b.load(src.plus(i, 64));
            b.push(Inst::FmaLoad { acc, a: x, address: Address { base: src, index: Some((i, 4)), offset: -4 } });
            b.if_else(
                Condition::Less,
                i,
                32i64,
                |b| b.store(dst.at(0), x),
                |b| b.call(Callee(3), vec![dst.into(), Operand::Const(5)]),
            );
        });
        let sum = b.reduce(VectorOp::Add, acc);
        b.store_first(dst.at(16), sum, 3);
        insta::assert_snapshot!(b.finish().to_string());
    }

    #[test]
    fn every_instruction_of_vectors() {
        let mut b = Builder::new("sample", Unit::V512, 1);
        let p = b.parameter(0);
        let x = b.load_first(p.at(0), 5);
        let y = b.broadcast(p.at(4));
        b.push(Inst::FmaBroadcast { acc: x, a: y, address: p.at(8) });
        b.prefetch(p.at(4096));
        b.fma(x, y, y);
        let s = b.unary(UnaryOp::ShiftLeft(23), x);
        let t = b.select(Compare::LessEqual, x, y, s, y);
        b.copy(t, y);
        b.push(Inst::Gather { dst: s, address: p.at(0), stride: 196, count: 7 });
        b.push(Inst::Scatter { address: p.at(0), src: s, stride: -4, count: 16 });
        b.op(VectorOp::AddBits, s, t);
        b.halve(y);
        b.shuffle([s, t], |i| 2 * i);
        let q = b.int_op(IntOp::Div, p, 7i64);
        b.repeat(q, |b| b.advance(p, -64i64));
        insta::assert_snapshot!(b.finish().to_string());
    }

    #[test]
    fn other_elements() {
        let unit = Unit { narrow: true, dot_u8i8: true, dot_i16: true, dot_bf16: true, ..Unit::V512 };
        let mut b = Builder::new("sample", unit, 2);
        let (p, out) = (b.parameter(0), b.parameter(1));
        let (x, w) = (b.broadcast_group(Element::U8, p.at(0)), b.load_of(Element::I8, p.at(64)));
        let sums = b.splat_int(Element::I32, -3);
        let [_, _, pattern] =
            [(Element::U8, 200), (Element::I16, -2), (Element::Bf16, 0x3f80)].map(|(e, n)| b.splat_int(e, n));
        b.dot(Dot::U8I8, sums, x, w);
        b.push(Inst::DotLoad { dot: Dot::U8I8, acc: sums, a: x, address: p.at(64) });
        let a = b.load_as(Element::I16, p.at(0), Element::U8);
        let shifted = b.unary(UnaryOp::ShiftRightSigned(3), a);
        let products = b.madd_i16(a, shifted);
        b.push(Inst::DotBroadcast { dot: Dot::I16, acc: products, a, address: p.at(8) });
        let float = b.convert_from_int(products);
        let pairs = b.reinterpret(Element::Bf16, products);
        b.dot(Dot::Bf16, float, pairs, pattern);
        b.store_bf16(out.at(0), float);
        let int = b.convert_to_int(float);
        b.store_as(out.at(64), int, Element::U8);
        let bytes = b.narrow(Element::I8, [int, sums, int, sums]);
        b.store(out.at(128), bytes);
        insta::assert_snapshot!(b.finish().to_string());
    }
}
