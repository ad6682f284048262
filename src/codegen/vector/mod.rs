//! The vector builder: the small language in which every kernel is written, once.
//!
//! A kernel is a [`Function`]: structured loops over integer variables (addresses, counters) and
//! vector variables of [`Unit::lanes`] f32 each. Back ends turn a function into machine code
//! ([`backend`] has the table): `clif` goes through Cranelift (128 bits, portable), `x86` assembles
//! AVX2 (256) and AVX-512 (512) directly. A kernel asks the unit for its width and register count and shapes its tiles by
//! them; it never asks which back end will run.
//!
//! Variables are mutable, not SSA: an accumulator is defined before a loop and updated within it.
//! The rule that makes live ranges easy: a variable's first occurrence in text order defines it
//! (checked by [`Function::verify`]).
//!
//! This folder knows nothing of networks, layouts or plans.

pub mod backend;
mod builder;
pub mod clif;
mod function;
mod machine;
mod print;
#[cfg(test)]
pub mod simulate;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod verify;
pub mod x86;

pub use builder::Builder;
pub use function::*;
pub use machine::{Compiled, Relocation};
pub use verify::{Problem, VerifyError};
