//! The meaning of vector functions, by interpretation: the back ends' referee in tests.
//!
//! Memory is a set of regions far apart from one another, and every access is checked against
//! them, so a kernel that runs here without a fault touches nothing but its buffers.

use super::*;

/// An access outside of all regions, with the instruction that made it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{instruction}: {bytes} bytes at region {region}, offset {offset} of {size}")]
pub struct Fault {
    pub instruction: String,
    pub bytes: usize,
    pub region: usize,
    pub offset: i64,
    pub size: usize,
}

/// Byte-addressed regions. Region n begins at address `(n + 1) << 40`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    regions: Vec<Vec<u8>>,
    /// Which regions hold addresses.
    ints: Vec<bool>,
}

const REGION_BITS: u32 = 40;

impl Memory {
    /// A region that holds the values; returns its address.
    pub fn add(&mut self, values: &[f32]) -> i64 {
        self.add_bytes(values.iter().flat_map(|v| v.to_le_bytes()).collect(), false)
    }

    /// A region of 64-bit integers, such as a frame of addresses.
    pub fn add_ints(&mut self, values: &[i64]) -> i64 {
        self.add_bytes(values.iter().flat_map(|v| v.to_le_bytes()).collect(), true)
    }

    fn add_bytes(&mut self, bytes: Vec<u8>, ints: bool) -> i64 {
        self.regions.push(bytes);
        self.ints.push(ints);
        (self.regions.len() as i64) << REGION_BITS
    }

    /// The values of the region that begins at `address`.
    pub fn values(&self, address: i64) -> Vec<f32> {
        let bytes = &self.regions[(address >> REGION_BITS) as usize - 1];
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
    }

    /// The first place at which two memories of the same layout differ, in words.
    pub fn difference(&self, other: &Memory) -> Option<String> {
        for (region, (a, b)) in self.regions.iter().zip(&other.regions).enumerate() {
            if let Some(byte) = a.iter().zip(b).position(|(a, b)| a != b) {
                let word = |r: &[u8]| f32::from_le_bytes(r[byte / 4 * 4..][..4].try_into().expect("four bytes"));
                let (a, b) = (word(a), word(b));
                let bits = format!("{:#010x}, not {:#010x}", b.to_bits(), a.to_bits());
                return Some(format!("element {} of region {region} is {b}, not {a} ({bits})", byte / 4));
            }
        }
        None
    }

    /// The same regions as real memory.
    pub fn to_native(&self) -> NativeMemory {
        let buffers = self.regions.iter().map(|r| Buffer::new(r)).collect();
        let mut native = NativeMemory { memory: self.clone(), buffers };
        for region in (0..self.regions.len()).filter(|&r| self.ints[r]) {
            for word in 0..self.regions[region].len() / 8 {
                let address = i64::from_le_bytes(self.regions[region][8 * word..][..8].try_into().expect("8 bytes"));
                let translated = native.translate(address).to_le_bytes();
                native.buffers[region].bytes_mut()[8 * word..][..8].copy_from_slice(&translated);
            }
        }
        native
    }

    fn slice(&mut self, inst: &Inst, address: i64, bytes: usize) -> Result<&mut [u8], Fault> {
        // Rounded, so that addresses shortly before a region count as that region's.
        let region = (((address + (1 << (REGION_BITS - 1))) >> REGION_BITS) - 1) as usize;
        let offset = address - ((region as i64 + 1) << REGION_BITS);
        let size = self.regions.get(region).map_or(0, Vec::len);
        if offset < 0 || offset as usize + bytes > size {
            return Err(Fault { instruction: inst.to_string(), bytes, region, offset, size });
        }
        Ok(&mut self.regions[region][offset as usize..offset as usize + bytes])
    }
}

/// Regions in this process's memory, each within a margin that shows writes beyond its ends.
pub struct NativeMemory {
    memory: Memory,
    buffers: Vec<Buffer>,
}

impl NativeMemory {
    /// The real address for an address of a region; any other number is itself.
    pub fn translate(&self, address: i64) -> i64 {
        match self.buffers.get(((address >> REGION_BITS) - 1) as usize) {
            Some(buffer) => buffer.address + (address & ((1 << REGION_BITS) - 1)),
            None => address,
        }
    }

    /// # Panics
    /// When a margin was written to.
    pub fn into_memory(mut self) -> Memory {
        for (region, buffer) in self.buffers.iter_mut().enumerate() {
            assert!(buffer.margins_are_intact(), "code wrote around region {region}");
            if !self.memory.ints[region] {
                self.memory.regions[region] = buffer.bytes_mut().to_vec();
            }
        }
        self.memory
    }
}

const MARGIN: usize = 256;
const MARGIN_BYTE: u8 = 0xa5;

/// Bytes at a 64-byte boundary with a margin before and after.
struct Buffer {
    storage: Vec<u8>,
    start: usize,
    size: usize,
    address: i64,
}

impl Buffer {
    fn new(bytes: &[u8]) -> Self {
        let mut storage = vec![MARGIN_BYTE; bytes.len() + 2 * MARGIN + 64];
        let start = MARGIN + storage[MARGIN..].as_ptr().align_offset(64);
        storage[start..start + bytes.len()].copy_from_slice(bytes);
        let address = storage[start..].as_mut_ptr().expose_provenance() as i64;
        Self { storage, start, size: bytes.len(), address }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.storage[self.start..self.start + self.size]
    }

    fn margins_are_intact(&self) -> bool {
        let end = self.start + self.size;
        self.storage[..self.start].iter().chain(&self.storage[end..]).all(|b| *b == MARGIN_BYTE)
    }
}

/// Runs a function of the program.
///
/// # Errors
/// At the first access outside of memory.
pub fn run(program: &Program, callee: Callee, arguments: &[i64], memory: &mut Memory) -> Result<(), Fault> {
    let function = &program.functions[callee.0];
    let mut state = State {
        program,
        function,
        lanes: function.unit.lanes,
        ints: vec![0; function.ints as usize],
        vectors: vec![[0; 16]; function.vectors as usize],
        memory,
    };
    function.parameters.iter().zip(arguments).for_each(|(p, a)| state.ints[p.0 as usize] = *a);
    state.block(&function.body)
}

/// Runs a function that calls no other.
///
/// # Errors
/// At the first access outside of memory.
pub fn run_leaf(function: &Function, arguments: &[i64], memory: &mut Memory) -> Result<(), Fault> {
    let program = Program { functions: vec![function.clone()] };
    run(&program, Callee(0), arguments, memory)
}

struct State<'a> {
    program: &'a Program,
    function: &'a Function,
    lanes: usize,
    ints: Vec<i64>,
    /// Bits of the lanes; those beyond the unit's are unused.
    vectors: Vec<[u32; 16]>,
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

    /// Sets each lane by a function of the lanes of other vectors.
    fn map<const N: usize>(&mut self, dst: Vector, sources: [Vector; N], f: impl Fn([u32; N]) -> u32) {
        let sources = sources.map(|v| self.vectors[v.0 as usize]);
        for lane in 0..self.lanes {
            self.vectors[dst.0 as usize][lane] = f(sources.map(|s| s[lane]));
        }
    }

    fn multiply_add(&mut self, acc: Vector, a: Vector, b: [u32; 16]) {
        let a = self.vectors[a.0 as usize];
        for lane in 0..self.lanes {
            let sum = &mut self.vectors[acc.0 as usize][lane];
            *sum = float(a[lane]).mul_add(float(b[lane]), float(*sum)).to_bits();
        }
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
            Inst::Splat { dst, bits } => self.vectors[dst.0 as usize] = [*bits; 16],
            Inst::Move { dst, src } => self.vectors[dst.0 as usize] = self.vectors[src.0 as usize],
            Inst::Load { dst, address } => self.load_lanes(inst, *dst, address, 4, 0..lanes)?,
            Inst::Store { address, src } => self.store_lanes(inst, *src, address, 4, 0..lanes)?,
            Inst::LoadLanes { dst, address, from, to } => {
                self.load_lanes(inst, *dst, address, 4, usize::from(*from)..usize::from(*to))?;
            }
            Inst::StoreLanes { address, src, from, to } => {
                self.store_lanes(inst, *src, address, 4, usize::from(*from)..usize::from(*to))?;
            }
            Inst::Gather { dst, address, stride, count } => {
                self.vectors[dst.0 as usize] = [0; 16];
                self.load_lanes(inst, *dst, address, *stride, 0..usize::from(*count))?;
            }
            Inst::Scatter { address, src, stride, count } => {
                self.store_lanes(inst, *src, address, *stride, 0..usize::from(*count))?;
            }
            Inst::Broadcast { dst, address } => {
                self.vectors[dst.0 as usize] = [self.load(inst, self.address(address))?; 16];
            }
            Inst::Binary { op, dst, a, b } => self.map(*dst, [*a, *b], |[a, b]| binary(*op, a, b)),
            Inst::Unary { op, dst, a } => self.map(*dst, [*a], |[a]| unary(*op, a)),
            Inst::Fma { acc, a, b } => self.multiply_add(*acc, *a, self.vectors[b.0 as usize]),
            Inst::FmaLane { acc, a, b, lane } => {
                self.multiply_add(*acc, *a, [self.vectors[b.0 as usize][usize::from(*lane)]; 16]);
            }
            Inst::FmaLoad { acc, a, address } => {
                let base = self.address(address);
                let mut b = [0; 16];
                for (lane, bits) in b.iter_mut().take(lanes).enumerate() {
                    *bits = self.load(inst, base + 4 * lane as i64)?;
                }
                self.multiply_add(*acc, *a, b);
            }
            Inst::FmaBroadcast { acc, a, address } => {
                let b = [self.load(inst, self.address(address))?; 16];
                self.multiply_add(*acc, *a, b);
            }
            Inst::Select { dst, compare, a, b, x, y } => {
                self.map(*dst, [*a, *b, *x, *y], |[a, b, x, y]| if holds(*compare, a, b) { x } else { y });
            }
            Inst::Reduce { op, dst, src, .. } => {
                let mut value = self.vectors[src.0 as usize];
                let mut apart = lanes / 2;
                while apart > 0 {
                    value = std::array::from_fn(|lane| binary(*op, value[lane], value[lane ^ apart]));
                    apart /= 2;
                }
                self.vectors[dst.0 as usize] = value;
            }
            Inst::Permute { dst, sources, lanes: from } => {
                let sources = sources.map(|v| self.vectors[v.0 as usize]);
                let lane = |l: u8| sources[usize::from(l) / lanes][usize::from(l) % lanes];
                self.vectors[dst.0 as usize] = from.map(lane);
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

pub fn int_binary(op: IntOp, a: i64, b: i64) -> i64 {
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
    }
}

fn holds(compare: Compare, a: u32, b: u32) -> bool {
    match compare {
        Compare::Less => float(a) < float(b),
        Compare::LessEqual => float(a) <= float(b),
        Compare::Equal => float(a) == float(b),
    }
}
