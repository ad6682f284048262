//! The vector builder: the small language in which every kernel is written, once.
//!
//! A kernel is a [`Function`]: structured loops over integer variables (addresses, counters) and
//! vector variables, each of one [`Element`]: f32, or bf16, u8, i8, i16, i32. Back ends turn a function
//! into machine code ([`backend`] has the table): `clif` goes through Cranelift (128 bits, portable),
//! `x86` assembles AVX2 (256) and AVX-512 (512) directly. A kernel asks the unit for the size of its
//! vectors, its registers and the dot products that it has, and shapes its tiles by them; it never asks
//! which back end will run.
//!
//! Types are there so that a kernel's author does not mix them up, and so that one word, `add`, is the
//! right instruction for each: [`Function::verify`] holds every instruction to them. An instruction means
//! the same on all units to the last bit, but for multiply-adds of f32 where the machine has none that
//! round once. So instructions whose results differ between machines are not in the language (saturating
//! sums of products), and what only some have ([`Dot`]) is refused where the unit lacks it: a kernel's
//! author decides what else to do, the back end never does.
//!
//! Variables are mutable, not SSA: an accumulator is defined before a loop and updated within it.
//! The rule that makes live ranges easy: a variable's first occurrence in text order defines it
//! (checked by [`Function::verify`]).
//!
//! This folder knows nothing of networks, layouts or plans.

pub(crate) mod backend;
mod builder;
pub(crate) mod clif;
mod function;
mod inst;
mod machine;
mod print;
#[cfg(test)]
pub(crate) mod simulate;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod uses;
mod verify;
pub(crate) mod x86;

pub(crate) use builder::Builder;
pub(crate) use function::*;
pub(crate) use inst::*;
pub(crate) use machine::{Compiled, Relocation};
pub(crate) use uses::Uses;
use uses::any;
pub(crate) use verify::VerifyError;
