//! The rules of a vector function, which every back end takes for granted.
//!
//! 1. Variables are scoped as in the language this is written in: the first occurrence in text
//!    order defines a variable, and the innermost block of that occurrence is its scope; it does
//!    not occur outside. Parameters live in the whole function.
//! 2. A loop's counter is a variable of its own, in scope in the body, and the body writes neither
//!    the counter nor the variables that bound the loop. The step is positive.
//! 3. A lane range is within the unit, and each memory operand's displacement fits 32 bits. An
//!    index is scaled by 1, 2, 4 or 8.
//! 4. Division and remainder are by a constant ≥ 1; shifts are by less than 32.
//! 5. Reductions are by add, min or max, and their temporary is a third variable. A permutation
//!    names lanes that exist, and its result is another variable than its source.
//! 6. Broadcast memory operands and multiply-adds by lane occur only where the unit has them.
//! 7. A call passes as many arguments as the callee has parameters, and the callee stands earlier
//!    in the program: there is no recursion.
//! 8. A half vector is written by arithmetic, moves and whole loads only.

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
    #[error("a shift by {0} of 32 bits")]
    Shift(u8),
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
    #[error("vectors of {0} lanes: no such unit")]
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

impl Inst {
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
        let vectors = vec![State::Fresh; function.vectors as usize];
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
        let lanes = self.function.unit.lanes;
        if !matches!(lanes, 4 | 8 | 16) {
            self.report(inst, Problem::Unit(lanes));
        }
    }

    /// The rules about constants within an instruction.
    fn operands(&mut self, inst: &Inst) {
        let problem = match inst {
            Inst::IntBinary { op: IntOp::Div | IntOp::Rem, b, .. } => divisor(*b),
            Inst::Unary { op: UnaryOp::ShiftLeft(n) | UnaryOp::ShiftRight(n), .. } if *n >= 32 => {
                Some(Problem::Shift(*n))
            }
            Inst::LoadInt { address, .. }
            | Inst::Load { address, .. }
            | Inst::Store { address, .. }
            | Inst::Broadcast { address, .. }
            | Inst::FmaLoad { address, .. } => self.memory(address, 4, 0, 1),
            Inst::FmaBroadcast { .. } if !self.function.unit.embedded_broadcast => Some(Problem::EmbeddedBroadcast),
            Inst::FmaBroadcast { address, .. } => self.memory(address, 4, 0, 1),
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
mod tests {
    use super::*;

    fn function(lines: impl FnOnce(&mut Builder)) -> Function {
        let unit = Unit { embedded_broadcast: false, ..Unit::V128 };
        let mut b = Builder::new("f", unit, 2);
        lines(&mut b);
        b.finish_unverified()
    }

    fn problems(lines: impl FnOnce(&mut Builder)) -> Vec<Problem> {
        match function(lines).verify() {
            Ok(()) => vec![],
            Err(error) => error.problems.into_iter().map(|(_, p)| p).collect(),
        }
    }

    #[test]
    fn definitions_come_first() {
        let found = problems(|b| {
            let (v, i) = (b.new_vector(), b.new_int());
            b.store(b.parameter(0).at(0), v);
            b.advance(i, 1i64);
        });
        assert_eq!(found, [Problem::Undefined("v0".into()), Problem::Undefined("i2".into())]);
    }

    #[test]
    fn accumulators_outlive_a_loop_and_temporaries_do_not() {
        let found = problems(|b| {
            let p = b.parameter(0);
            let acc = b.splat(0.0);
            let mut inner = acc;
            b.loop_range(0i64, 4i64, 1, |b, _| {
                inner = b.load(p.at(0));
                b.fma(acc, inner, inner);
            });
            b.store(p.at(0), acc);
            b.store(p.at(0), inner);
        });
        assert_eq!(found, [Problem::OutOfScope("v1".into())]);
    }

    #[test]
    fn branches_do_not_share_definitions() {
        let found = problems(|b| {
            let p = b.parameter(0);
            let v = b.new_vector();
            b.if_else(Condition::Less, p, 3i64, |b| b.set_splat(v, 0.0), |b| b.set_splat(v, 1.0));
        });
        assert_eq!(found, [Problem::OutOfScope("v0".into())]);
    }

    #[test]
    fn loops_own_their_counter_and_bounds() {
        let found = problems(|b| {
            let (p, end) = (b.parameter(0), b.parameter(1));
            b.loop_range(0i64, end, 0, |b, i| {
                b.advance(i, 1i64);
                b.advance(end, 1i64);
                b.advance(p, 1i64);
            });
            b.push(Inst::Loop { counter: p, start: 0i64.into(), end: 3i64.into(), step: 1, body: vec![] });
        });
        let (p, end, i) = (Int(0), Int(1), Int(2));
        let expected = [
            Problem::Step(0),
            Problem::WritesLoopVariable(i),
            Problem::WritesLoopVariable(end),
            Problem::CounterInUse(p),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn constants_in_range() {
        let found = problems(|b| {
            let p = b.parameter(0);
            let v = b.splat(1.0);
            b.push(Inst::LoadLanes { dst: v, address: p.at(0), from: 3, to: 5 });
            b.push(Inst::StoreLanes { address: p.at(0), src: v, from: 3, to: 2 });
            b.push(Inst::Gather { dst: v, address: p.at(0), stride: i32::MAX, count: 4 });
            b.push(Inst::Load { dst: v, address: Address { base: p, index: Some((p, 3)), offset: 0 } });
            b.push(Inst::FmaBroadcast { acc: v, a: v, address: p.at(0) });
            b.unary(UnaryOp::ShiftLeft(32), v);
            b.int_op(IntOp::Div, p, 0i64);
            b.int_op(IntOp::Rem, p, p);
            b.reduce(VectorOp::Mul, v);
            b.push(Inst::Reduce { op: VectorOp::Add, dst: v, src: v, temp: v });
        });
        let expected = [
            Problem::Lanes { from: 3, to: 5, lanes: 4 },
            Problem::Lanes { from: 3, to: 2, lanes: 4 },
            Problem::Displacement,
            Problem::Scale(3),
            Problem::EmbeddedBroadcast,
            Problem::Shift(32),
            Problem::Divisor,
            Problem::Divisor,
            Problem::Reduction(VectorOp::Mul),
            Problem::Temporary(Vector(0)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn permutations_and_halves() {
        let unit = Unit::V512;
        let mut b = Builder::new("f", unit, 1);
        let p = b.parameter(0);
        let v = b.load(p.at(0));
        b.halve(v);
        b.push(Inst::Permute { dst: v, sources: [v, v], lanes: [32; 16] });
        b.push(Inst::LoadLanes { dst: v, address: p.at(0), from: 0, to: 3 });
        let w = b.permute(v, |i| i);
        b.push(Inst::Permute { dst: w, sources: [v, w], lanes: [15; 16] });
        let found: Vec<Problem> =
            b.finish_unverified().verify().unwrap_err().problems.into_iter().map(|(_, p)| p).collect();
        let expected = [
            Problem::Lanes { from: 32, to: 33, lanes: 16 },
            Problem::Half(v),
            Problem::Half(v),
            Problem::PermutesInto(w),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn calls_go_backwards_with_matching_arguments() {
        let mut program = Program::default();
        let callee = program.add(function(|_| {}));
        let calls = |callee: Callee, count: usize| {
            let mut program = program.clone();
            program.add(function(|b| b.call(callee, vec![Operand::Const(0); count])));
            program.verify().map_err(|e| e.problems[0].1.clone())
        };
        assert_eq!(calls(callee, 2), Ok(()));
        assert_eq!(calls(callee, 1), Err(Problem::Arity { callee, given: 1, expected: 2 }));
        assert_eq!(calls(Callee(1), 2), Err(Problem::Callee(Callee(1))));
    }

    #[test]
    fn the_message_shows_the_line() {
        let error = function(|b| {
            let v = b.new_vector();
            b.store(b.parameter(0).at(4), v);
        });
        let message = error.verify().unwrap_err().to_string();
        assert_eq!(
            message,
            "f breaks rules of vector functions\n  store [i0 + 4], v0: v0 is read before it is defined"
        );
    }
}
