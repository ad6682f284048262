//! netc: a compiler for convolutional networks.
//!
//! A network is a short text (`resnet34.net`). netc parses it into a typed graph, optimizes the
//! graph for inference, plans layouts, algorithms and memory, and generates native CPU kernels
//! made for exactly that network. The result runs at once or is written to one file that other
//! programs map and run.
//!
//! ```text
//!  .net text ─syntax─▶ AST ─elaborate─▶ Graph ─passes─▶ Graph ─plan─▶ Plan ─codegen─▶ Image ─artifact─▶ .netc
//!                                         │                                             │
//!                               reference interpreter  ◀──── must agree ────▶        runtime
//! ```
//!
//! Each arrow is one folder; dependencies point from right to left in that picture and never back.
//! `docs/ARCHITECTURE.md` tells what each folder may know of the others.
//!
//! Features: `compile` is the compiler, `images` reads picture files, `cli` is the command line and
//! implies both. Without any, the crate opens and runs compiled models and depends on little.
//!
//! # Trust
//!
//! A compiled model (`.netc`) is a program: opening one is `unsafe`, since its machine code runs in
//! this process with all of its rights. Texts, ONNX models, weights, pictures, arrays and *portable*
//! compiled models (`netc compile --portable`, `Compiler::open`) may come from anybody. `SECURITY.md`
//! says what is promised.

pub mod artifact;
mod balance;
mod cpu;
#[cfg(feature = "images")]
pub mod image;
mod mapped;
mod memory;
pub mod npy;
pub mod preprocess;
pub mod runtime;
pub mod tensor;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "compile")]
pub mod codegen;
#[cfg(feature = "compile")]
pub mod diagnostic;
#[cfg(feature = "compile")]
pub mod driver;
#[cfg(feature = "compile")]
pub mod elaborate;
#[cfg(feature = "compile")]
pub mod interop;
#[cfg(feature = "compile")]
pub mod interpreter;
#[cfg(feature = "compile")]
pub mod ir;
#[cfg(feature = "compile")]
pub mod ops;
#[cfg(feature = "compile")]
pub mod output;
#[cfg(feature = "compile")]
pub mod passes;
#[cfg(feature = "compile")]
pub mod plan;
#[cfg(feature = "compile")]
pub mod syntax;
#[cfg(feature = "compile")]
pub mod target;
#[cfg(feature = "compile")]
#[doc(hidden)]
pub mod testing;
#[cfg(feature = "compile")]
pub mod trial;
#[cfg(feature = "compile")]
pub mod verify;
#[cfg(feature = "compile")]
pub mod weights;

#[cfg(feature = "compile")]
pub use driver::Compiler;
pub use runtime::{Model, ModelOptions};
pub use tensor::{Shape, Tensor};
