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

pub mod artifact;
pub mod codegen;
pub mod diagnostic;
pub mod elaborate;
pub mod interpreter;
pub mod ir;
pub mod ops;
pub mod passes;
pub mod plan;
pub mod runtime;
pub mod syntax;
pub mod target;
pub mod tensor;
pub mod weights;
