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

mod artifact;
mod balance;
mod cpu;
#[cfg(feature = "images")]
mod image;
mod mapped;
mod memory;
mod npy;
mod preprocess;
mod runtime;
mod tensor;

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "compile")]
mod codegen;
#[cfg(feature = "compile")]
mod diagnostic;
#[cfg(feature = "compile")]
mod driver;
#[cfg(feature = "compile")]
mod elaborate;
#[cfg(feature = "compile")]
mod interop;
#[cfg(feature = "compile")]
mod interpreter;
#[cfg(feature = "compile")]
mod ir;
#[cfg(feature = "compile")]
mod ops;
#[cfg(feature = "compile")]
mod output;
#[cfg(feature = "compile")]
mod passes;
#[cfg(feature = "compile")]
mod plan;
#[cfg(feature = "compile")]
mod syntax;
#[cfg(feature = "compile")]
mod target;
#[cfg(feature = "compile")]
mod testing;
#[cfg(feature = "compile")]
mod train;
#[cfg(feature = "compile")]
mod trial;
#[cfg(feature = "compile")]
mod verify;
#[cfg(feature = "compile")]
mod weights;

#[doc(hidden)]
pub mod internals;

pub use artifact::{Images, OpenError, Port};
#[cfg(feature = "compile")]
pub use driver::{Compiler, Error, Network};
#[cfg(feature = "images")]
pub use image::{ImageError, Picture};
pub use preprocess::Preprocess;
pub use runtime::{Model, ModelOptions, RunError};
#[cfg(feature = "compile")]
pub use target::Target;
pub use tensor::{Element, Shape, Tensor, TensorError};
