//! The rules of a vector function, which every back end takes for granted.
//!
//! 1. Variables are scoped as in the language this is written in: the first occurrence in text
//!    order defines a variable, and the innermost block of that occurrence is its scope; it does
//!    not occur outside. Parameters live in the whole function.
//! 2. A loop's counter is a variable of its own, in scope in the body, and the body writes neither
//!    the counter nor the variables that bound the loop. The step is positive.
//! 3. A lane range is within the unit, and each memory operand's displacement fits 32 bits. An
//!    index is scaled by 1, 2, 4 or 8.
//! 4. Division and remainder are by a constant ≥ 1; shifts are by less than the element has bits.
//! 5. Reductions are by add, min or max, and their temporary is a third variable. A permutation
//!    names lanes that exist, and its result is another variable than its source.
//! 6. Broadcast memory operands, multiply-adds by lane, dot products, narrowing to bf16 and vectors of
//!    narrow elements occur only where the unit has them.
//! 7. A call passes as many arguments as the callee has parameters, and the callee stands earlier
//!    in the program: there is no recursion.
//! 8. A half vector is written by arithmetic, moves and whole loads only.
//! 9. Vectors are of f32, bf16, u8, i8, i16 or i32, and an instruction takes those that it is stated for
//!    ([`types`] has the table).

mod types;

use super::*;
use std::fmt;

/// A function that breaks rules: all of them, in text order.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub struct VerifyError {
    pub function: String,
    /// The instruction's line and what is wrong with it.
    pub problems: Vec<(String, Problem)>,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    #[error("{0} is read before it is defined")]
    Undefined(String),
    #[error("{0} is used outside of the block that defines it")]
    OutOfScope(String),
    #[error("{0} was not made by this function's builder")]
    Unknown(String),
    #[error("the loop's counter {0} is in use already")]
    CounterInUse(Int),
    #[error("{0} is written within the loop that it counts or bounds")]
    WritesLoopVariable(Int),
    #[error("the loop's step {0} is not positive")]
    Step(i64),
    #[error("lanes {from}..{to} of {lanes}")]
    Lanes { from: u8, to: u8, lanes: usize },
    #[error("an index is scaled by 1, 2, 4 or 8, not {0}")]
    Scale(u8),
    #[error("a lane's displacement exceeds 32 bits")]
    Displacement,
    #[error("division by something other than a constant >= 1")]
    Divisor,
    #[error("a shift by {by} of {bits} bits")]
    Shift { by: u8, bits: usize },
    #[error("reduction by {0}")]
    Reduction(VectorOp),
    #[error("the temporary {0} is an operand as well")]
    Temporary(Vector),
    #[error("{0} is permuted into itself")]
    PermutesInto(Vector),
    #[error("half the vector {0} is written by an instruction that writes whole ones")]
    Half(Vector),
    #[error("the unit has no broadcast memory operands")]
    EmbeddedBroadcast,
    #[error("the unit has no multiply-add by lane")]
    MultiplyByLane,
    #[error("the unit has no such dot product")]
    Dot,
    #[error("the unit does not round to bf16")]
    RoundToBf16,
    #[error("the unit has no vectors of {0}")]
    Narrow(Element),
    #[error("no vector is of {0}")]
    Element(Element),
    #[error("{vector} is of {element}, and must be of {expected}")]
    Type { vector: Vector, element: Element, expected: Element },
    #[error("is not for vectors of {0}")]
    Operation(Element),
    #[error("{from} does not become {to} on the way")]
    Conversion { from: Element, to: Element },
    #[error("vectors of {0} bytes: no such unit")]
    Unit(usize),
    #[error("calls {0}, which does not stand before it")]
    Callee(Callee),
    #[error("passes {given} arguments to {callee}, which has {expected} parameters")]
    Arity { callee: Callee, given: usize, expected: usize },
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} breaks rules of vector functions", self.function)?;
        self.problems.iter().try_for_each(|(line, problem)| write!(f, "\n  {line}: {problem}"))
    }
}

impl Function {
    /// Checks the rules that back ends rely on, except those about the callees of calls.
    ///
    /// # Errors
    /// Lists every broken rule with the line that breaks it.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let mut checker = Checker::new(self);
        checker.block(&self.body);
        let problems = checker.problems;
        if problems.is_empty() { Ok(()) } else { Err(VerifyError { function: self.name.clone(), problems }) }
    }
}

impl Program {
    /// Checks every function, and their calls.
    ///
    /// # Errors
    /// For the first function that breaks a rule.
    pub fn verify(&self) -> Result<(), VerifyError> {
        for (index, function) in self.functions.iter().enumerate() {
            function.verify()?;
            let mut problems = vec![];
            self.check_calls(&function.body, index, &mut problems);
            if !problems.is_empty() {
                return Err(VerifyError { function: function.name.clone(), problems });
            }
        }
        Ok(())
    }

    fn check_calls(&self, block: &[Inst], caller: usize, problems: &mut Vec<(String, Problem)>) {
        for inst in block {
            inst.blocks().for_each(|b| self.check_calls(b, caller, problems));
            let Inst::Call { callee, arguments } = inst else { continue };
            if callee.0 >= caller {
                problems.push((inst.to_string(), Problem::Callee(*callee)));
                continue;
            }
            let (given, expected) = (arguments.len(), self.functions[callee.0].parameters.len());
            if given != expected {
                problems.push((inst.to_string(), Problem::Arity { callee: *callee, given, expected }));
            }
        }
    }
}

/// Where a variable stands at the present point of the text.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Fresh,
    InScope,
    Gone,
}

struct Checker<'a> {
    function: &'a Function,
    ints: Vec<State>,
    vectors: Vec<State>,
    /// Definitions in order; a block truncates to its start when it ends.
    defined_ints: Vec<Int>,
    defined_vectors: Vec<Vector>,
    /// Counters and bounds of the open loops.
    frozen: Vec<Int>,
    problems: Vec<(String, Problem)>,
}

impl<'a> Checker<'a> {
    fn new(function: &'a Function) -> Self {
        let mut ints = vec![State::Fresh; function.ints as usize];
        function.parameters.iter().for_each(|p| ints[p.0 as usize] = State::InScope);
        let vectors = vec![State::Fresh; function.elements.len()];
        let (defined_ints, defined_vectors, frozen, problems) = (vec![], vec![], vec![], vec![]);
        Self { function, ints, vectors, defined_ints, defined_vectors, frozen, problems }
    }

    fn report(&mut self, inst: &Inst, problem: Problem) {
        self.problems.push((inst.to_string(), problem));
    }

    fn block(&mut self, block: &[Inst]) {
        let (ints, vectors) = (self.defined_ints.len(), self.defined_vectors.len());
        block.iter().for_each(|inst| self.inst(inst));
        self.leave(ints, vectors);
    }

    fn leave(&mut self, ints: usize, vectors: usize) {
        self.defined_ints.drain(ints..).for_each(|v| self.ints[v.0 as usize] = State::Gone);
        self.defined_vectors.drain(vectors..).for_each(|v| self.vectors[v.0 as usize] = State::Gone);
    }

    fn inst(&mut self, inst: &Inst) {
        let uses = inst.uses();
        uses.int_reads.iter().for_each(|v| self.read_int(inst, *v));
        uses.reads.iter().for_each(|v| self.read_vector(inst, *v));
        uses.writes.iter().for_each(|v| self.write_vector(inst, *v));
        self.operands(inst);
        if let Some(problem) = types::problem(self.function, inst, &uses) {
            self.report(inst, problem);
        }
        match inst {
            Inst::Loop { counter, start, end, step, body } => {
                if *step <= 0 {
                    self.report(inst, Problem::Step(*step));
                }
                self.looped(inst, *counter, [*start, *end], body);
            }
            _ => {
                uses.int_writes.iter().for_each(|v| self.write_int(inst, *v));
                inst.blocks().for_each(|b| self.block(b));
            }
        }
    }

    fn looped(&mut self, inst: &Inst, counter: Int, bounds: [Operand; 2], body: &[Inst]) {
        let (ints, vectors) = (self.defined_ints.len(), self.defined_vectors.len());
        if self.ints.get(counter.0 as usize).is_some_and(|s| *s != State::Fresh) {
            self.report(inst, Problem::CounterInUse(counter));
        }
        self.write_int(inst, counter);
        let outer = self.frozen.len();
        self.frozen.push(counter);
        self.frozen.extend(bounds.iter().filter_map(|b| if let Operand::Var(v) = b { Some(*v) } else { None }));
        self.block(body);
        self.frozen.truncate(outer);
        self.leave(ints, vectors);
    }

    fn read_int(&mut self, inst: &Inst, v: Int) {
        if let Some(problem) = read(self.ints.get(v.0 as usize), v) {
            self.report(inst, problem);
        }
    }

    fn read_vector(&mut self, inst: &Inst, v: Vector) {
        if let Some(problem) = read(self.vectors.get(v.0 as usize), v) {
            self.report(inst, problem);
        }
    }

    fn write_int(&mut self, inst: &Inst, v: Int) {
        if self.frozen.contains(&v) {
            self.report(inst, Problem::WritesLoopVariable(v));
        }
        match write(&mut self.ints, v.0, v) {
            Ok(true) => self.defined_ints.push(v),
            Ok(false) => {}
            Err(problem) => self.report(inst, problem),
        }
    }

    fn write_vector(&mut self, inst: &Inst, v: Vector) {
        match write(&mut self.vectors, v.0, v) {
            Ok(true) => self.defined_vectors.push(v),
            Ok(false) => {}
            Err(problem) => self.report(inst, problem),
        }
        let Unit { bytes, lanes, .. } = self.function.unit;
        if !matches!(bytes, 16 | 32 | 64) || lanes * 4 != bytes {
            self.report(inst, Problem::Unit(bytes));
        }
    }

    /// The rules about constants within an instruction.
    fn operands(&mut self, inst: &Inst) {
        let problem = match inst {
            Inst::IntBinary { op: IntOp::Div | IntOp::Rem, b, .. } => divisor(*b),
            Inst::Unary {
                op: UnaryOp::ShiftLeft(n) | UnaryOp::ShiftRight(n) | UnaryOp::ShiftRightSigned(n),
                a,
                ..
            } => {
                let bits = 8 * self.function.element(*a).bytes();
                (usize::from(*n) >= bits).then_some(Problem::Shift { by: *n, bits })
            }
            Inst::LoadInt { address, .. }
            | Inst::LoadByte { address, .. }
            | Inst::StoreByte { address, .. }
            | Inst::LoadWord { address, .. }
            | Inst::StoreInt { address, .. }
            | Inst::Load { address, .. }
            | Inst::Store { address, .. }
            | Inst::LoadAs { address, .. }
            | Inst::StoreAs { address, .. }
            | Inst::Broadcast { address, .. }
            | Inst::BroadcastGroup { address, .. }
            | Inst::DotLoad { address, .. }
            | Inst::Prefetch { address }
            | Inst::FmaLoad { address, .. } => self.memory(address, 4, 0, 1),
            Inst::FmaBroadcast { .. } | Inst::DotBroadcast { .. } if !self.function.unit.embedded_broadcast => {
                Some(Problem::EmbeddedBroadcast)
            }
            Inst::FmaBroadcast { address, .. } | Inst::DotBroadcast { address, .. } => self.memory(address, 4, 0, 1),
            Inst::FmaLane { .. } if !self.function.unit.multiply_by_lane => Some(Problem::MultiplyByLane),
            Inst::FmaLane { lane, .. } if usize::from(*lane) >= self.function.unit.lanes => {
                Some(Problem::Lanes { from: *lane, to: *lane + 1, lanes: self.function.unit.lanes })
            }
            Inst::LoadLanes { address, from, to, .. } | Inst::StoreLanes { address, from, to, .. } => {
                self.memory(address, 4, *from, *to)
            }
            Inst::Gather { address, stride, count, .. } | Inst::Scatter { address, stride, count, .. } => {
                self.memory(address, *stride, 0, *count)
            }
            Inst::Reduce { op, dst, src, temp } => reduction(*op, *dst, *src, *temp),
            Inst::Narrow { dst, sources } => sources.contains(dst).then_some(Problem::PermutesInto(*dst)),
            Inst::Permute { dst, sources, lanes } => permutation(*dst, *sources, lanes, self.function.unit.lanes),
            _ => None,
        };
        if let Some(problem) = problem {
            self.report(inst, problem);
        }
        if !inst.can_write_halves() {
            let halves: Vec<Vector> = inst.uses().writes.into_iter().filter(|&v| self.function.is_half(v)).collect();
            halves.into_iter().for_each(|v| self.report(inst, Problem::Half(v)));
        }
    }

    /// Lanes `from..to`, `stride` bytes apart.
    fn memory(&self, address: &Address, stride: i32, from: u8, to: u8) -> Option<Problem> {
        let lanes = self.function.unit.lanes;
        if from > to || usize::from(to) > lanes {
            return Some(Problem::Lanes { from, to, lanes });
        }
        if let Some((_, scale)) = address.index
            && !matches!(scale, 1 | 2 | 4 | 8)
        {
            return Some(Problem::Scale(scale));
        }
        let last = i64::from(address.offset) + i64::from(stride) * i64::from(to.max(1) - 1);
        i32::try_from(last).is_err().then_some(Problem::Displacement)
    }
}

fn read(state: Option<&State>, v: impl fmt::Display) -> Option<Problem> {
    match state {
        Some(State::InScope) => None,
        Some(State::Fresh) => Some(Problem::Undefined(v.to_string())),
        Some(State::Gone) => Some(Problem::OutOfScope(v.to_string())),
        None => Some(Problem::Unknown(v.to_string())),
    }
}

/// Whether the write defines the variable.
fn write(states: &mut [State], index: u32, v: impl fmt::Display) -> Result<bool, Problem> {
    match states.get_mut(index as usize) {
        Some(State::InScope) => Ok(false),
        Some(State::Gone) => Err(Problem::OutOfScope(v.to_string())),
        None => Err(Problem::Unknown(v.to_string())),
        Some(fresh) => {
            *fresh = State::InScope;
            Ok(true)
        }
    }
}

fn divisor(b: Operand) -> Option<Problem> {
    (!matches!(b, Operand::Const(1..))).then_some(Problem::Divisor)
}

fn reduction(op: VectorOp, dst: Vector, src: Vector, temp: Vector) -> Option<Problem> {
    if !matches!(op, VectorOp::Add | VectorOp::Min | VectorOp::Max) {
        return Some(Problem::Reduction(op));
    }
    (temp == dst || temp == src).then_some(Problem::Temporary(temp))
}

fn permutation(dst: Vector, sources: [Vector; 2], lanes: &Lanes, count: usize) -> Option<Problem> {
    let highest = *lanes.iter().max().expect("sixteen lanes");
    match usize::from(highest) >= 2 * count {
        true => Some(Problem::Lanes { from: highest, to: highest + 1, lanes: count }),
        false => sources.contains(&dst).then_some(Problem::PermutesInto(dst)),
    }
}

#[cfg(test)]
mod tests;
