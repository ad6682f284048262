//! Register allocation: one register for each variable's whole life, by linear scan.
//!
//! Live ranges are intervals in text order. A variable that is defined before a loop and occurs in
//! it lives to the loop's end, because the next iteration may read it; one that is first set inside
//! a loop dies at its last occurrence (the verifier has it set before it is read).
//!
//! Vectors never go to memory: a kernel that has too many is a mistake of its author. Parameters may stay on the stack, on
//! which all but the first of them arrive, where they are only the bases of addresses and moved by additions: those of
//! operands, which kernels read when all else is done.

use std::collections::BTreeSet;

use super::super::{Element, Function, Inst, Int, IntOp, Operand, any};
use super::Error;

/// Integer registers in the order in which they are given out: parameters' own first.
pub(crate) const INT_REGISTERS: usize = 14;
/// Parameters that arrive in registers.
pub(crate) const REGISTER_PARAMETERS: usize = 6;

/// Register numbers by variable: integers index `emit::INTS`, vectors are machine numbers.
#[derive(Debug)]
pub(crate) struct Registers {
    pub ints: Vec<u8>,
    pub vectors: Vec<u8>,
    /// Which integer registers are in use, and so which to save.
    pub used_ints: Vec<bool>,
    /// Parameters that have no register.
    pub on_stack: BTreeSet<Int>,
}

/// First and last position of a variable. Reads happen at even, writes at odd half-positions, so
/// that an instruction's result may take the register of an operand that dies there.
#[derive(Clone, Copy, Debug)]
struct Interval {
    first: usize,
    last: usize,
}

struct Scan {
    position: usize,
    ints: Vec<Option<Interval>>,
    vectors: Vec<Option<Interval>>,
}

impl Scan {
    fn touch(slot: &mut Option<Interval>, at: usize) {
        match slot {
            None => *slot = Some(Interval { first: at, last: at }),
            Some(i) => i.last = i.last.max(at),
        }
    }

    fn block(&mut self, body: &[Inst]) {
        for inst in body {
            self.position += 1;
            let (read, write) = (2 * self.position, 2 * self.position + 1);
            // An instruction that becomes several may write its result before its last read.
            let read = if becomes_several(inst) { write } else { read };
            let uses = inst.uses();
            uses.int_reads.iter().for_each(|v| Self::touch(&mut self.ints[v.0 as usize], read));
            uses.reads.iter().for_each(|v| Self::touch(&mut self.vectors[v.0 as usize], read));
            uses.int_writes.iter().for_each(|v| Self::touch(&mut self.ints[v.0 as usize], write));
            uses.writes.iter().for_each(|v| Self::touch(&mut self.vectors[v.0 as usize], write));
            match inst {
                Inst::Loop { counter, end, body, .. } => self.loop_body(counter.0, end, body),
                Inst::If { then, otherwise, .. } => {
                    self.block(then);
                    self.block(otherwise);
                }
                _ => {}
            }
        }
    }

    fn loop_body(&mut self, counter: u32, end: &Operand, body: &[Inst]) {
        let header = 2 * self.position + 1;
        let before = (self.ints.clone(), self.vectors.clone());
        self.block(body);
        self.position += 1;
        let exit = 2 * self.position + 1;
        Self::touch(&mut self.ints[counter as usize], exit);
        if let Operand::Var(end) = end {
            Self::touch(&mut self.ints[end.0 as usize], exit);
        }
        let extend = |now: &mut Vec<Option<Interval>>, before: &[Option<Interval>]| {
            for (slot, old) in now.iter_mut().zip(before) {
                if let (Some(i), Some(_)) = (slot, old)
                    && i.first <= header
                    && i.last > header
                {
                    i.last = i.last.max(exit);
                }
            }
        };
        extend(&mut self.ints, &before.0);
        extend(&mut self.vectors, &before.1);
    }
}

fn becomes_several(inst: &Inst) -> bool {
    match inst {
        Inst::IntBinary { dst, a, .. } => dst != a,
        Inst::Select { .. } | Inst::Reduce { .. } | Inst::Permute { .. } | Inst::Narrow { .. } => true,
        Inst::Gather { .. } | Inst::Scatter { .. } => true,
        Inst::Loop { .. } | Inst::If { .. } => true,
        _ => false,
    }
}

/// Whether the function needs a scratch vector register of the back end.
pub(crate) fn needs_scratch(function: &Function) -> bool {
    let needs = |inst: &Inst| match inst {
        Inst::Gather { .. } | Inst::Scatter { .. } | Inst::Narrow { .. } => true,
        Inst::StoreAs { to, .. } => matches!(to, Element::U8 | Element::Bf16),
        _ => false,
    };
    function.unit.bytes == 32 || any(&function.body, &needs)
}

pub(crate) fn allocate(function: &Function) -> Result<Registers, Error> {
    let mut scan =
        Scan { position: 0, ints: vec![None; function.ints as usize], vectors: vec![None; function.elements.len()] };
    for p in &function.parameters {
        Scan::touch(&mut scan.ints[p.0 as usize], 0);
    }
    scan.block(&function.body);

    let machine = if function.unit.bytes == 64 { 32 } else { 16 };
    let available = machine - usize::from(needs_scratch(function));
    let spill =
        |class, available| move |needed| Error::Spill { function: function.name.clone(), class, needed, available };
    let vectors = linear_scan(&scan.vectors, available, 0).map_err(spill("vector", available))?;
    let fixed = function.parameters.len().min(REGISTER_PARAMETERS);
    let mut may_stay: Vec<Int> = function.parameters[fixed..].to_vec();
    may_stay.retain(|&p| !any(&function.body, &|inst| needs_register(inst, p)));
    let mut on_stack = BTreeSet::new();
    let ints = loop {
        match linear_scan(&scan.ints, INT_REGISTERS, fixed) {
            Ok(ints) => break ints,
            Err(needed) => match may_stay.pop() {
                Some(p) => {
                    scan.ints[p.0 as usize] = None;
                    on_stack.insert(p);
                }
                None => return Err(spill("integer", INT_REGISTERS)(needed)),
            },
        }
    };
    let mut used_ints = vec![false; INT_REGISTERS];
    let of_variables = ints.iter().zip(&scan.ints).filter(|(_, interval)| interval.is_some());
    of_variables.for_each(|(&r, _)| used_ints[r as usize] = true);
    Ok(Registers { ints, vectors, used_ints, on_stack })
}

/// Whether an instruction does more with a parameter than to take it as a base or to add to it.
fn needs_register(inst: &Inst, p: Int) -> bool {
    let uses = inst.uses();
    let read = uses.int_reads.iter().filter(|&&v| v == p).count();
    let as_base = usize::from(inst.address().is_some_and(|address| address.base == p));
    match inst {
        Inst::IntBinary { op: IntOp::Add, dst, a, b } if *dst == p && *a == p => *b == Operand::Var(p),
        _ => read > as_base || uses.int_writes.contains(&p),
    }
}

/// The first `fixed` variables get the registers of their own numbers. `Err` tells how many
/// registers would be needed at once.
fn linear_scan(intervals: &[Option<Interval>], available: usize, fixed: usize) -> Result<Vec<u8>, usize> {
    let mut by_start: Vec<usize> = (0..intervals.len()).filter(|&v| intervals[v].is_some()).collect();
    by_start.sort_by_key(|&v| (intervals[v].map(|i| i.first), v));
    let mut assigned = vec![0u8; intervals.len()];
    // The last position at which each register is taken.
    let mut busy: Vec<Option<usize>> = vec![None; available];
    for v in by_start {
        let interval = intervals[v].expect("filtered above");
        let free = |r: &usize| busy[*r].is_none_or(|last| last < interval.first);
        let register = if v < fixed { Some(v) } else { (0..available).find(free) };
        let Some(r) = register else {
            return Err(pressure(intervals));
        };
        assigned[v] = r as u8;
        busy[r] = Some(interval.last);
    }
    Ok(assigned)
}

fn pressure(intervals: &[Option<Interval>]) -> usize {
    let live_at = |p: usize| intervals.iter().flatten().filter(|i| i.first <= p && p <= i.last).count();
    intervals.iter().flatten().map(|i| live_at(i.first)).max().unwrap_or(0)
}
