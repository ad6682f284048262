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
//! `docs/ARCHITECTURE.md` tells what each folder may know of the others, `docs/LANGUAGE.md` how networks are written.
//!
//! # Compiling
//!
//! [`Compiler`](struct.Compiler.html) holds the settings of a compilation, such as weights, batch and
//! [`Target`](struct.Target.html), and makes a [`Model`] of a file in one call; a model's parameters are set to a
//! [`Value`](enum.Value.html), its [`Phase`](enum.Phase.html) is training or inference, passes are a
//! [`Selection`](struct.Selection.html), and what the plan may do are [`PlanOptions`](struct.PlanOptions.html). Its stages can
//! also be called one by one: each takes a [`Network`](struct.Network.html), which holds the graph, its weights and what the stages said of them. All
//! fail with an [`Error`](enum.Error.html). What is likely not meant though it compiles is a [`Warning`](struct.Warning.html).
//!
//! ```
//! # #[cfg(not(feature = "compile"))] fn main() {}
//! # #[cfg(feature = "compile")] fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use netc::{Compiler, Tensor};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("small.net");
//! let text = "netc 1
//! model small(classes = 10) {
//!     input image: f32[N, 3, 32, 32]
//!     conv(16, 3, pad = 1)
//!     relu
//!     global_avg_pool
//!     flatten
//!     linear(classes)
//!     output logits
//! }
//! ";
//! std::fs::write(&path, text)?;
//! // No file of weights is beside the text: they are initialised by the seed.
//! let model = Compiler::new().seed(1).set("classes", 4i64.into()).compile_file(&path)?;
//! // Any number of images, since this network treats them one by one.
//! let images = Tensor::new([5, 3, 32, 32], vec![0.5; 5 * 3 * 32 * 32]);
//! let logits = model.run_tensors(&[images])?;
//! assert_eq!(logits[0].shape().dims(), [5, 4]);
//! # Ok(()) }
//! ```
//!
//! # Running
//!
//! A [`Model`] is compiled code with its weights, in memory or in a `.netc` file. Its [`Port`]s tell what it takes and
//! gives, [`Images`] how many images a run takes; [`ModelOptions`] limits threads and memory. Opening fails with an
//! [`OpenError`], running with a [`RunError`]. [`Model::run`] works on slices and allocates nothing after the first run.
//! [`Model::run_tensors`] takes and gives [`Tensor`]s: dense values, row-major, whose [`Shape`] is their sizes and their
//! [`Element`] type. Data that do not fill a shape are a [`TensorError`].
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use netc::{Model, ModelOptions};
//!
//! // SAFETY: `netc compile` wrote this file for us, and it is replaced by renaming only.
//! let model = unsafe { Model::open_with("resnet34.netc", ModelOptions::default().threads(4))? };
//! for port in model.inputs() {
//!     println!("{}: {}{:?}", port.name(), port.element(), port.shape());
//! }
//! let inputs: Vec<Vec<f32>> = model.inputs().iter().map(|port| vec![0.0; port.elements()]).collect();
//! let mut logits = vec![0.0; model.outputs()[0].elements()];
//! model.run(&[&inputs[0]], &mut [&mut logits])?;
//! # Ok(()) }
//! ```
//!
//! [`include_model!`] opens a compiled model that is a part of the program.
//!
//! A [`Picture`](struct.Picture.html) is read from a file and becomes an input by the steps of a [`Preprocess`], which the
//! network's text states and a compiled model keeps ([`Model::about`]): [`Resize`], a crop, the order of [`Color`]s. Both
//! fail with an [`ImageError`](enum.ImageError.html).
//!
//! # Features
//!
//! `compile` is the compiler, `images` reads picture files, `train` trains networks and implies both, `cli` is the command
//! line and implies all. Without any, the
//! crate opens and runs compiled models and depends on little.
//!
//! # Trust
//!
//! A compiled model (`.netc`) is a program: opening one is `unsafe`, since its machine code runs in
//! this process with all of its rights. Texts, ONNX models, weights, pictures, arrays and *portable*
//! compiled models (`netc compile --portable`, `Compiler::open`) may come from anybody. `SECURITY.md`
//! says what is promised.

#![warn(unreachable_pub)]
#![cfg_attr(
    not(feature = "cli"),
    allow(dead_code, unused_imports, unreachable_pub, reason = "builds for a library lack who uses them")
)]

pub mod advice;
mod artifact;
mod balance;
pub mod classes;
mod cpu;
mod fork;
#[cfg(feature = "images")]
mod image;
mod include;
mod kind;
mod mapped;
mod memory;
mod npy;
mod opened;
mod preprocess;
mod runtime;
mod tensor;

#[cfg(feature = "compile")]
mod archive;
#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "compile")]
mod codegen;
#[cfg(feature = "train")]
pub mod data;
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
#[cfg(feature = "train")]
pub mod journal;
#[cfg(feature = "compile")]
mod ops;
#[cfg(feature = "compile")]
mod output;
#[cfg(feature = "compile")]
mod parallel;
#[cfg(feature = "compile")]
mod passes;
#[cfg(feature = "compile")]
mod plan;
#[cfg(feature = "train")]
mod quantize;
#[cfg(feature = "compile")]
mod random;
#[cfg(feature = "compile")]
mod recipe;
#[cfg(feature = "render")]
pub mod render;
#[cfg(feature = "compile")]
mod syntax;
#[cfg(feature = "compile")]
mod target;
#[cfg(feature = "compile")]
mod testing;
#[cfg(feature = "compile")]
mod train;
#[cfg(feature = "train")]
pub mod trainer;
#[cfg(feature = "compile")]
mod trial;
#[cfg(feature = "compile")]
mod verify;
#[cfg(feature = "compile")]
mod weights;

// For this crate's own program, tests, benchmarks and fuzzers; see its text.
#[doc(hidden)]
pub mod internals;

pub use artifact::{Cause, Images, OpenError, Port, StepRecord};
#[cfg(feature = "compile")]
pub use driver::{
    BlockChoice, Cache, Compiler, Error, ModelFile, ModelsBySize, Network, NetworkSource, ObjectForm, ObjectOptions,
    Part, SizesError, Warning, Warnings,
};
#[cfg(feature = "images")]
pub use image::{ImageError, Picture};
#[cfg(feature = "compile")]
pub use ir::Phase;
#[cfg(feature = "compile")]
pub use ops::layer::Value;
#[cfg(feature = "compile")]
pub use passes::Selection;
#[cfg(feature = "compile")]
pub use plan::{Options as PlanOptions, Precision, UnknownPrecision};
pub use preprocess::{Color, Preprocess, Resize};
pub use runtime::{Model, ModelOptions, ModelSize, RunError};
#[cfg(feature = "compile")]
pub use target::Target;
pub use tensor::{Element, Rows, Shape, Tensor, TensorError};
#[cfg(feature = "compile")]
pub use weights::rename::RenameError;
