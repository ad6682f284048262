//! What instructions read and write, and other questions that verification, register allocation and
//! back ends ask of all of them.

use super::{Address, Dot, Element, Inst, Int, Operand, Vector};

/// What one instruction reads and writes, for verification and register allocation. Structured
/// statements give their own operands only, not those of their bodies.
#[derive(Default, Debug)]
pub struct Uses {
    pub int_reads: Vec<Int>,
    pub int_writes: Vec<Int>,
    pub reads: Vec<Vector>,
    pub writes: Vec<Vector>,
}

impl Inst {
    pub fn uses(&self) -> Uses {
        let mut u = Uses::default();
        if let Some(address) = self.address() {
            u.address(address);
        }
        match self {
            Inst::SetInt { dst, src } => {
                u.operand(src);
                u.int_writes.push(*dst);
            }
            Inst::IntBinary { dst, a, b, .. } => {
                u.int_reads.push(*a);
                u.operand(b);
                u.int_writes.push(*dst);
            }
            Inst::LoadInt { dst, .. } | Inst::LoadWord { dst, .. } | Inst::LoadByte { dst, .. } => {
                u.int_writes.push(*dst);
            }
            Inst::StoreInt { src, .. } | Inst::StoreByte { src, .. } => u.int_reads.push(*src),
            Inst::Splat { dst, .. } => u.writes.push(*dst),
            Inst::Move { dst, src } | Inst::Reinterpret { dst, src } => {
                u.reads.push(*src);
                u.writes.push(*dst);
            }
            Inst::Load { dst, .. }
            | Inst::LoadAs { dst, .. }
            | Inst::Gather { dst, .. }
            | Inst::Broadcast { dst, .. }
            | Inst::BroadcastGroup { dst, .. } => u.writes.push(*dst),
            Inst::Prefetch { .. } => {}
            Inst::Store { src, .. }
            | Inst::StoreAs { src, .. }
            | Inst::StoreLanes { src, .. }
            | Inst::Scatter { src, .. } => u.reads.push(*src),
            Inst::LoadLanes { dst, .. } => {
                u.reads.push(*dst);
                u.writes.push(*dst);
            }
            Inst::Binary { dst, a, b, .. } | Inst::MaddI16 { dst, a, b } => {
                u.reads.extend([*a, *b]);
                u.writes.push(*dst);
            }
            Inst::Unary { dst, a, .. } => {
                u.reads.push(*a);
                u.writes.push(*dst);
            }
            Inst::Permute { dst, sources, .. } => {
                u.reads.extend(sources);
                u.writes.push(*dst);
            }
            Inst::Narrow { dst, sources } => {
                u.reads.extend(sources);
                u.writes.push(*dst);
            }
            Inst::Fma { acc, a, b } | Inst::FmaLane { acc, a, b, .. } | Inst::Dot { acc, a, b, .. } => {
                u.reads.extend([*acc, *a, *b]);
                u.writes.push(*acc);
            }
            Inst::FmaLoad { acc, a, .. }
            | Inst::FmaBroadcast { acc, a, .. }
            | Inst::DotLoad { acc, a, .. }
            | Inst::DotBroadcast { acc, a, .. } => {
                u.reads.extend([*acc, *a]);
                u.writes.push(*acc);
            }
            Inst::Select { dst, a, b, x, y, .. } => {
                u.reads.extend([*a, *b, *x, *y]);
                u.writes.push(*dst);
            }
            Inst::Reduce { dst, src, temp, .. } => {
                u.reads.push(*src);
                u.writes.extend([*temp, *dst]);
            }
            Inst::Loop { counter, start, end, .. } => {
                u.operand(start);
                u.operand(end);
                u.int_writes.push(*counter);
            }
            Inst::If { a, b, .. } => {
                u.int_reads.push(*a);
                u.operand(b);
            }
            Inst::Call { arguments, .. } => arguments.iter().for_each(|a| u.operand(a)),
        }
        u
    }

    /// The memory that the instruction reads, writes or names.
    pub(super) fn address(&self) -> Option<&Address> {
        match self {
            Inst::LoadInt { address, .. }
            | Inst::LoadByte { address, .. }
            | Inst::StoreByte { address, .. }
            | Inst::LoadWord { address, .. }
            | Inst::StoreInt { address, .. }
            | Inst::Load { address, .. }
            | Inst::LoadAs { address, .. }
            | Inst::LoadLanes { address, .. }
            | Inst::Gather { address, .. }
            | Inst::Broadcast { address, .. }
            | Inst::BroadcastGroup { address, .. }
            | Inst::Prefetch { address }
            | Inst::Store { address, .. }
            | Inst::StoreAs { address, .. }
            | Inst::StoreLanes { address, .. }
            | Inst::Scatter { address, .. }
            | Inst::FmaLoad { address, .. }
            | Inst::FmaBroadcast { address, .. }
            | Inst::DotLoad { address, .. }
            | Inst::DotBroadcast { address, .. } => Some(address),
            Inst::SetInt { .. }
            | Inst::IntBinary { .. }
            | Inst::Splat { .. }
            | Inst::Move { .. }
            | Inst::Reinterpret { .. }
            | Inst::Binary { .. }
            | Inst::Unary { .. }
            | Inst::Fma { .. }
            | Inst::FmaLane { .. }
            | Inst::MaddI16 { .. }
            | Inst::Dot { .. }
            | Inst::Narrow { .. }
            | Inst::Select { .. }
            | Inst::Reduce { .. }
            | Inst::Permute { .. }
            | Inst::Loop { .. }
            | Inst::If { .. }
            | Inst::Call { .. } => None,
        }
    }

    /// Whether the vectors it writes may be halves.
    pub(super) fn can_write_halves(&self) -> bool {
        matches!(
            self,
            Inst::Splat { .. }
                | Inst::Move { .. }
                | Inst::Load { .. }
                | Inst::Broadcast { .. }
                | Inst::Binary { .. }
                | Inst::Unary { .. }
                | Inst::Fma { .. }
                | Inst::FmaLoad { .. }
                | Inst::FmaBroadcast { .. }
                | Inst::Reinterpret { .. }
                | Inst::LoadAs { .. }
                | Inst::BroadcastGroup { .. }
                | Inst::MaddI16 { .. }
                | Inst::Dot { .. }
                | Inst::DotLoad { .. }
                | Inst::DotBroadcast { .. }
        )
    }

    /// The dot product that the instruction adds.
    pub(super) fn dot(&self) -> Option<Dot> {
        match self {
            Inst::Dot { dot, .. } | Inst::DotLoad { dot, .. } | Inst::DotBroadcast { dot, .. } => Some(*dot),
            _ => None,
        }
    }

    /// Whether the instruction makes bf16 of f32, which not every unit has.
    pub(super) fn rounds_to_bf16(&self) -> bool {
        matches!(self, Inst::StoreAs { to: Element::Bf16, .. })
    }

    /// The nested blocks of a structured statement.
    pub fn blocks(&self) -> impl Iterator<Item = &[Inst]> {
        let blocks = match self {
            Inst::Loop { body, .. } => [Some(body.as_slice()), None],
            Inst::If { then, otherwise, .. } => [Some(then.as_slice()), Some(otherwise.as_slice())],
            _ => [None, None],
        };
        blocks.into_iter().flatten()
    }
}

impl Uses {
    fn operand(&mut self, operand: &Operand) {
        if let Operand::Var(v) = operand {
            self.int_reads.push(*v);
        }
    }

    fn address(&mut self, address: &Address) {
        self.int_reads.push(address.base);
        self.int_reads.extend(address.index.map(|(i, _)| i));
    }
}

/// Whether the test holds for an instruction of the block or of one within it.
pub(super) fn any(block: &[Inst], test: &impl Fn(&Inst) -> bool) -> bool {
    block.iter().any(|inst| test(inst) || inst.blocks().any(|b| any(b, test)))
}
