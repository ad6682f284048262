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
            Inst::LoadInt { dst, address } | Inst::LoadByte { dst, address } => {
                u.address(address);
                u.int_writes.push(*dst);
            }
            Inst::StoreByte { address, src } => {
                u.address(address);
                u.int_reads.push(*src);
            }
            Inst::Splat { dst, .. } => u.writes.push(*dst),
            Inst::Move { dst, src } | Inst::Reinterpret { dst, src } => {
                u.reads.push(*src);
                u.writes.push(*dst);
            }
            Inst::Load { dst, address }
            | Inst::LoadAs { dst, address, .. }
            | Inst::Gather { dst, address, .. }
            | Inst::Broadcast { dst, address }
            | Inst::BroadcastGroup { dst, address } => {
                u.address(address);
                u.writes.push(*dst);
            }
            Inst::Prefetch { address } => u.address(address),
            Inst::Store { address, src }
            | Inst::StoreAs { address, src, .. }
            | Inst::StoreLanes { address, src, .. }
            | Inst::Scatter { address, src, .. } => {
                u.address(address);
                u.reads.push(*src);
            }
            Inst::LoadLanes { dst, address, .. } => {
                u.address(address);
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
            Inst::Fma { acc, a, b } | Inst::FmaLane { acc, a, b, .. } | Inst::Dot { acc, a, b, .. } => {
                u.reads.extend([*acc, *a, *b]);
                u.writes.push(*acc);
            }
            Inst::FmaLoad { acc, a, address }
            | Inst::FmaBroadcast { acc, a, address }
            | Inst::DotLoad { acc, a, address, .. }
            | Inst::DotBroadcast { acc, a, address, .. } => {
                u.address(address);
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
