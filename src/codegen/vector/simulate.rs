//! The meaning of vector functions, by interpretation: the back ends' referee in tests.
//!
//! Memory is a set of regions far apart from one another, and every access is checked against
//! them, so a kernel that runs here without a fault touches nothing but its buffers.

mod lanes;
mod memory;

pub(crate) use memory::Memory;

use super::*;

/// An access outside of all regions, with the instruction that made it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{instruction}: {bytes} bytes at region {region}, offset {offset} of {size}")]
pub(crate) struct Fault {
    pub instruction: String,
    pub bytes: usize,
    pub region: usize,
    pub offset: i64,
    pub size: usize,
}

/// Runs a function of the program.
///
/// # Errors
/// At the first access outside of memory.
pub(crate) fn run(program: &Program, callee: Callee, arguments: &[i64], memory: &mut Memory) -> Result<(), Fault> {
    let function = &program.functions[callee.0];
    let mut state = State {
        program,
        function,
        lanes: function.unit.lanes,
        ints: vec![0; function.ints as usize],
        vectors: vec![[0; 16]; function.elements.len()],
        memory,
    };
    function.parameters.iter().zip(arguments).for_each(|(p, a)| state.ints[p.0 as usize] = *a);
    state.block(&function.body)
}

/// The bits of a vector of any element, lane 0 in the lowest.
type Words = [u32; 16];

struct State<'a> {
    program: &'a Program,
    function: &'a Function,
    lanes: usize,
    ints: Vec<i64>,
    /// Bits of the vectors; those beyond the unit's are unused.
    vectors: Vec<Words>,
    memory: &'a mut Memory,
}

impl State<'_> {
    fn operand(&self, operand: Operand) -> i64 {
        match operand {
            Operand::Var(v) => self.ints[v.0 as usize],
            Operand::Const(c) => c,
        }
    }

    fn address(&self, a: &Address) -> i64 {
        let index = a.index.map_or(0, |(i, scale)| self.ints[i.0 as usize].wrapping_mul(i64::from(scale)));
        self.ints[a.base.0 as usize].wrapping_add(index).wrapping_add(i64::from(a.offset))
    }

    fn load(&mut self, inst: &Inst, address: i64) -> Result<u32, Fault> {
        let bytes = self.memory.slice(inst, address, 4)?;
        Ok(u32::from_le_bytes((&*bytes).try_into().expect("four bytes")))
    }

    fn store(&mut self, inst: &Inst, address: i64, bits: u32) -> Result<(), Fault> {
        self.memory.slice(inst, address, 4)?.copy_from_slice(&bits.to_le_bytes());
        Ok(())
    }

    fn load_lanes(
        &mut self,
        inst: &Inst,
        dst: Vector,
        address: &Address,
        stride: i32,
        lanes: std::ops::Range<usize>,
    ) -> Result<(), Fault> {
        let base = self.address(address);
        for lane in lanes {
            self.vectors[dst.0 as usize][lane] = self.load(inst, base + lane as i64 * i64::from(stride))?;
        }
        Ok(())
    }

    fn store_lanes(
        &mut self,
        inst: &Inst,
        src: Vector,
        address: &Address,
        stride: i32,
        lanes: std::ops::Range<usize>,
    ) -> Result<(), Fault> {
        let base = self.address(address);
        for lane in lanes {
            let bits = self.vectors[src.0 as usize][lane];
            self.store(inst, base + lane as i64 * i64::from(stride), bits)?;
        }
        Ok(())
    }

    fn words(&self, v: Vector) -> Words {
        self.vectors[v.0 as usize]
    }

    fn set(&mut self, v: Vector, words: Words) {
        self.vectors[v.0 as usize] = words;
    }

    fn element(&self, v: Vector) -> Element {
        self.function.element(v)
    }

    /// A vector of memory.
    fn whole_vector(&mut self, inst: &Inst, address: &Address) -> Result<Words, Fault> {
        let base = self.address(address);
        let mut words = [0; 16];
        for (lane, bits) in words.iter_mut().take(self.lanes).enumerate() {
            *bits = self.load(inst, base + 4 * lane as i64)?;
        }
        Ok(words)
    }

    /// One element of memory.
    fn load_element(&mut self, inst: &Inst, address: i64, element: Element) -> Result<i64, Fault> {
        let bytes = self.memory.slice(inst, address, element.bytes())?;
        Ok(lanes::read(element, bytes))
    }

    fn load_as(&mut self, inst: &Inst, dst: Vector, address: &Address, from: Element) -> Result<Words, Fault> {
        let (base, to) = (self.address(address), self.element(dst));
        let lane = |i: usize| base + (i * from.bytes()) as i64;
        let count = self.function.unit.lanes(to);
        let loaded = (0..count).map(|i| self.load_element(inst, lane(i), from)).collect::<Result<Vec<i64>, Fault>>()?;
        Ok(lanes::words(to, loaded.into_iter().map(|value| lanes::widen(from, to, value))))
    }

    fn store_as(&mut self, inst: &Inst, address: &Address, src: Vector, to: Element) -> Result<(), Fault> {
        let (base, from) = (self.address(address), self.element(src));
        let narrowed = lanes::of(from, self.words(src)).map(|value| lanes::narrow(from, to, value));
        let count = self.function.unit.lanes(from);
        for (i, value) in narrowed.take(count).collect::<Vec<i64>>().into_iter().enumerate() {
            let bytes = self.memory.slice(inst, base + (i * to.bytes()) as i64, to.bytes())?;
            bytes.copy_from_slice(&value.to_le_bytes()[..to.bytes()]);
        }
        Ok(())
    }

    fn broadcast(&mut self, inst: &Inst, address: &Address, element: Element) -> Result<Words, Fault> {
        let value = self.load_element(inst, self.address(address), element)?;
        Ok(lanes::words(element, std::iter::repeat_n(value, 64 / element.bytes())))
    }

    /// Sets each lane of 32 bits by a function of the lanes of other vectors.
    fn map<const N: usize>(&mut self, dst: Vector, sources: [Vector; N], f: impl Fn([u32; N]) -> u32) {
        let sources = sources.map(|v| self.words(v));
        self.set(dst, std::array::from_fn(|lane| f(sources.map(|s| s[lane]))));
    }

    fn multiply_add(&mut self, acc: Vector, a: Vector, b: Words) {
        let (sums, a) = (self.words(acc), self.words(a));
        let sum = |lane: usize| float(a[lane]).mul_add(float(b[lane]), float(sums[lane])).to_bits();
        self.set(acc, std::array::from_fn(sum));
    }

    fn dot(&mut self, dot: Dot, acc: Vector, a: Vector, b: Words) {
        let (sums, a) = (self.words(acc), self.words(a));
        self.set(acc, std::array::from_fn(|lane| lanes::dot(dot, sums[lane], a[lane], b[lane])));
    }

    fn block(&mut self, block: &[Inst]) -> Result<(), Fault> {
        block.iter().try_for_each(|inst| self.inst(inst))
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), Fault> {
        self.whole(inst)?;
        for v in inst.uses().writes {
            if self.function.is_half(v) {
                self.vectors[v.0 as usize][self.lanes / 2..].fill(0);
            }
        }
        Ok(())
    }

    /// The instruction as it is where no vector is half.
    fn whole(&mut self, inst: &Inst) -> Result<(), Fault> {
        let lanes = self.lanes;
        match inst {
            Inst::SetInt { dst, src } => self.ints[dst.0 as usize] = self.operand(*src),
            Inst::IntBinary { op, dst, a, b } => {
                let value = int_binary(*op, self.ints[a.0 as usize], self.operand(*b));
                self.ints[dst.0 as usize] = value;
            }
            Inst::LoadInt { dst, address } => {
                let address = self.address(address);
                let bytes = self.memory.slice(inst, address, 8)?;
                self.ints[dst.0 as usize] = i64::from_le_bytes((&*bytes).try_into().expect("eight bytes"));
            }
            Inst::LoadByte { dst, address } => {
                let address = self.address(address);
                self.ints[dst.0 as usize] = self.memory.slice(inst, address, 1)?[0].into();
            }
            Inst::LoadWord { dst, address } => {
                let address = self.address(address);
                let bytes = self.memory.slice(inst, address, 4)?;
                self.ints[dst.0 as usize] = u32::from_le_bytes((&*bytes).try_into().expect("four bytes")).into();
            }
            Inst::StoreInt { address, src } => {
                let (address, value) = (self.address(address), self.ints[src.0 as usize]);
                self.memory.slice(inst, address, 8)?.copy_from_slice(&value.to_le_bytes());
            }
            Inst::StoreByte { address, src } => {
                let (address, byte) = (self.address(address), self.ints[src.0 as usize] as u8);
                self.memory.slice(inst, address, 1)?[0] = byte;
            }
            Inst::Splat { dst, bits } => self.set(*dst, [*bits; 16]),
            Inst::Move { dst, src } | Inst::Reinterpret { dst, src } => self.set(*dst, self.words(*src)),
            Inst::Load { dst, address } => {
                let words = self.whole_vector(inst, address)?;
                self.set(*dst, words);
            }
            Inst::Store { address, src } => self.store_lanes(inst, *src, address, 4, 0..lanes)?,
            Inst::LoadAs { dst, address, from } => {
                let words = self.load_as(inst, *dst, address, *from)?;
                self.set(*dst, words);
            }
            Inst::StoreAs { address, src, to } => self.store_as(inst, address, *src, *to)?,
            Inst::LoadLanes { dst, address, from, to } => {
                self.load_lanes(inst, *dst, address, 4, usize::from(*from)..usize::from(*to))?;
            }
            Inst::StoreLanes { address, src, from, to } => {
                self.store_lanes(inst, *src, address, 4, usize::from(*from)..usize::from(*to))?;
            }
            Inst::Gather { dst, address, stride, count } => {
                self.set(*dst, [0; 16]);
                self.load_lanes(inst, *dst, address, *stride, 0..usize::from(*count))?;
            }
            Inst::Scatter { address, src, stride, count } => {
                self.store_lanes(inst, *src, address, *stride, 0..usize::from(*count))?;
            }
            Inst::Broadcast { dst, address } => {
                let words = self.broadcast(inst, address, self.element(*dst))?;
                self.set(*dst, words);
            }
            Inst::BroadcastGroup { dst, address } => {
                let words = self.broadcast(inst, address, Element::I32)?;
                self.set(*dst, words);
            }
            Inst::Binary { op, dst, a, b } => match self.element(*a) {
                Element::F32 => self.map(*dst, [*a, *b], |[a, b]| binary(*op, a, b)),
                element => self.set(*dst, lanes::binary(element, *op, self.words(*a), self.words(*b))),
            },
            Inst::Unary { op, dst, a } => match self.element(*a) {
                Element::F32 => self.map(*dst, [*a], |[a]| unary(*op, a)),
                _ if *op == UnaryOp::FromInt => self.map(*dst, [*a], |[a]| unary(*op, a)),
                element => self.set(*dst, lanes::shift(element, *op, self.words(*a))),
            },
            Inst::Fma { acc, a, b } => self.multiply_add(*acc, *a, self.words(*b)),
            Inst::FmaLane { acc, a, b, lane } => {
                self.multiply_add(*acc, *a, [self.words(*b)[usize::from(*lane)]; 16]);
            }
            Inst::Prefetch { .. } => {}
            Inst::FmaLoad { acc, a, address } => {
                let b = self.whole_vector(inst, address)?;
                self.multiply_add(*acc, *a, b);
            }
            Inst::FmaBroadcast { acc, a, address } => {
                let b = self.broadcast(inst, address, Element::F32)?;
                self.multiply_add(*acc, *a, b);
            }
            // A sum of products that has nothing to be added to.
            Inst::MaddI16 { dst, a, b } => {
                self.map(*dst, [*a, *b], |[a, b]| lanes::dot(Dot::I16, 0, a, b));
            }
            Inst::Dot { dot, acc, a, b } => self.dot(*dot, *acc, *a, self.words(*b)),
            Inst::DotLoad { dot, acc, a, address } => {
                let b = self.whole_vector(inst, address)?;
                self.dot(*dot, *acc, *a, b);
            }
            Inst::DotBroadcast { dot, acc, a, address } => {
                let b = self.broadcast(inst, address, Element::I32)?;
                self.dot(*dot, *acc, *a, b);
            }
            Inst::Select { dst, compare, a, b, x, y } => {
                let is_float = self.element(*a).is_float();
                let holds = |a, b| if is_float { holds(*compare, a, b) } else { lanes::holds(*compare, a, b) };
                self.map(*dst, [*a, *b, *x, *y], |[a, b, x, y]| if holds(a, b) { x } else { y });
            }
            Inst::Reduce { op, dst, src, .. } => {
                let (element, mut value) = (self.element(*src), self.words(*src));
                let mut apart = lanes / 2;
                while apart > 0 {
                    let other: Words = std::array::from_fn(|lane| value[lane ^ apart]);
                    value = match element {
                        Element::F32 => std::array::from_fn(|lane| binary(*op, value[lane], other[lane])),
                        element => lanes::binary(element, *op, value, other),
                    };
                    apart /= 2;
                }
                self.set(*dst, value);
            }
            Inst::Narrow { dst, sources } => {
                let to = self.element(*dst);
                let lanes = sources.iter().flat_map(|&v| lanes::of(Element::I32, self.words(v)).take(self.lanes));
                let words = lanes::words(to, lanes.map(|value| lanes::narrow(Element::I32, to, value)));
                self.set(*dst, words);
            }
            Inst::Permute { dst, sources, lanes: from } => {
                let sources = sources.map(|v| self.words(v));
                let lane = |l: u8| sources[usize::from(l) / lanes][usize::from(l) % lanes];
                self.set(*dst, from.map(lane));
            }
            Inst::Loop { counter, start, end, step, body } => {
                let (mut value, end) = (self.operand(*start), self.operand(*end));
                while value < end {
                    self.ints[counter.0 as usize] = value;
                    self.block(body)?;
                    value += step;
                }
            }
            Inst::If { condition, a, b, then, otherwise } => {
                let (a, b) = (self.ints[a.0 as usize], self.operand(*b));
                let holds = match condition {
                    Condition::Less => a < b,
                    Condition::LessEqual => a <= b,
                    Condition::Equal => a == b,
                    Condition::NotEqual => a != b,
                };
                self.block(if holds { then } else { otherwise })?;
            }
            Inst::Call { callee, arguments } => {
                let arguments: Vec<i64> = arguments.iter().map(|a| self.operand(*a)).collect();
                run(self.program, *callee, &arguments, self.memory)?;
            }
        }
        Ok(())
    }
}

fn float(bits: u32) -> f32 {
    f32::from_bits(bits)
}

pub(crate) fn int_binary(op: IntOp, a: i64, b: i64) -> i64 {
    match op {
        IntOp::Add => a.wrapping_add(b),
        IntOp::Sub => a.wrapping_sub(b),
        IntOp::Mul => a.wrapping_mul(b),
        IntOp::Div => (a as u64 / b as u64) as i64,
        IntOp::Rem => (a as u64 % b as u64) as i64,
        IntOp::Min => a.min(b),
        IntOp::Max => a.max(b),
    }
}

fn binary(op: VectorOp, a: u32, b: u32) -> u32 {
    let (x, y) = (float(a), float(b));
    match op {
        VectorOp::Add => (x + y).to_bits(),
        VectorOp::Sub => (x - y).to_bits(),
        VectorOp::Mul => (x * y).to_bits(),
        VectorOp::Div => (x / y).to_bits(),
        VectorOp::Min => {
            if x < y {
                a
            } else {
                b
            }
        }
        VectorOp::Max => {
            if x > y {
                a
            } else {
                b
            }
        }
        VectorOp::And => a & b,
        VectorOp::Or => a | b,
        VectorOp::Xor => a ^ b,
        VectorOp::AddBits => a.wrapping_add(b),
        VectorOp::SubBits => a.wrapping_sub(b),
        VectorOp::Scale => (x * power_of_two(y)).to_bits(),
    }
}

/// 2ʸ of a whole number within −126..=127.
fn power_of_two(y: f32) -> f32 {
    f32::from_bits(((y as i32 + 127) as u32) << 23)
}

fn unary(op: UnaryOp, a: u32) -> u32 {
    match op {
        UnaryOp::Sqrt => float(a).sqrt().to_bits(),
        UnaryOp::Round => float(a).round_ties_even().to_bits(),
        UnaryOp::Floor => float(a).floor().to_bits(),
        UnaryOp::ToInt => (float(a).round_ties_even() as i32) as u32,
        UnaryOp::FromInt => (a as i32 as f32).to_bits(),
        UnaryOp::ShiftLeft(n) => a << n,
        UnaryOp::ShiftRight(n) => a >> n,
        UnaryOp::ShiftRightSigned(_) => unreachable!("not of f32"),
    }
}

fn holds(compare: Compare, a: u32, b: u32) -> bool {
    match compare {
        Compare::Less => float(a) < float(b),
        Compare::LessEqual => float(a) <= float(b),
        Compare::Equal => float(a) == float(b),
    }
}
