//! The compiled model as data: what codegen makes, what a `.netc` file holds, what the runtime runs.
//!
//! The same [`Image`] is run at once or written to a file; the runtime sees no difference. This
//! folder knows neither the compiler nor the thread pool.
//!
//! # The file
//!
//! ```text
//!      0  header page      magic, version, byte order, architecture, file length, section table
//!   4096  weights          packed, in the order in which steps read them
//!         code             machine code
//!         metadata         JSON: for each program manifest and facts, and checksums of the weights' blocks
//!         texts            JSON: for each program the spec, the optimized IR
//! ```
//!
//! Sections begin on pages and are padded with zeros, so that no byte is outside a checksum. The
//! weights come first because the packers write them straight into the file, at a place that depends
//! on nothing that is known only later.
//!
//! | header bytes | |
//! |---|---|
//! | 0..8 | magic `\x89NETC\r\n\x1a` |
//! | 8..12 | format version |
//! | 12..16 | 0x01020304 in the byte order of the weights |
//! | 16..32 | architecture, `x86_64` or `portable`, padded with zeros |
//! | 32..40 | length of the file |
//! | 40..44 | number of sections: 4 |
//! | 48.. | for each section, 32 bytes: kind (4), zero (4), offset (8), used bytes (8), checksum (8) |
//! | 4088..4096 | checksum of the bytes before |
//!
//! Numbers of the header are little-endian. Checksums are xxh3-64. Those of header, code, metadata
//! and texts are compared when the file is opened. The weights have one for each block of 1 MiB,
//! compared before the first step runs that reads the block: opening takes no time that grows
//! with the weights, and yet no result comes from a damaged block.
//!
//! **Trust.** Checksums find damage, not malice: running a model runs its code, so open only files
//! from people whose programs you would run. Opening copies code and metadata into memory of the
//! process and checks them there; the weights stay in the file unless
//! [`ModelOptions::copy_weights`](crate::ModelOptions::copy_weights) asks for a copy.
//!
//! **Portable files** have `portable` for their architecture and no code. Their weights section holds
//! the numbers of the optimized graph's weights (f32, one tensor after the other, as the metadata
//! list them by name and shape), their texts the graph. They are checked as strictly as the text of
//! a network and compiled where they are opened, so that they may come from anybody.
//!
//! **Programs.** A file has a program for each of the sizes of inputs that it was compiled for (`netc compile --shapes`,
//! `--batch 1,4,16`). All are in one code section and read one weights section: what two programs pack alike is there once.
//! The first is the one for whoever names no size.
//!
//! **Packed files.** A file of another version number holds one of these, as `packed.rs` describes: `--small` writes small
//! networks so, whose code and texts are a large share of the file. It is unpacked into memory when it is opened.
//!
//! **Versions.** Magic, version and the header's checksum keep their place in all versions. A file
//! of another version is refused with both numbers and never half understood; there is no
//! conversion, since compiling again takes seconds. A file of each past version stays among the
//! tests, with the command that made it, to prove that refusal.
//!
//! **Replacing.** A file is written beside its place and renamed over what is there. A model that is
//! open keeps the old file. One that is changed in place while it is open is noticed by its size and
//! time of change, which every run compares before it begins and when it is done; then the run fails.
//! Cutting the file while a run reads it ends the process by a signal, as it does with programs and
//! shared libraries.

mod about;
mod error;
mod format;
mod image;
mod metadata;
mod packed;
#[cfg(feature = "compile")]
mod portable;
mod read;
#[cfg(feature = "compile")]
mod weights;
#[cfg(feature = "compile")]
mod write;

pub use about::Origin;
pub(crate) use about::{About, Recipe, SourceHash, Texts};
pub(crate) use error::WriteError;
pub use error::{Cause, OpenError};
pub(crate) use format::BLOCK;
pub(crate) use format::MAGIC;
#[cfg(feature = "compile")]
pub(crate) use image::{Bundle, Image};
pub use image::{Images, Port, StepRecord};
pub(crate) use image::{Manifest, Slot, StateRecord, WeightRange, flush_denormals};
#[cfg(feature = "compile")]
pub(crate) use metadata::TensorRecord;
pub(crate) use metadata::{Program, check_programs};
#[cfg(feature = "compile")]
pub(crate) use portable::{Portable, StoredTensor};
pub use read::describe;
pub(crate) use read::is_portable;
pub(crate) use read::{Artifact, Container, FileWeights};
#[cfg(feature = "compile")]
pub(crate) use weights::{Destination, Weights};
#[cfg(feature = "compile")]
pub(crate) use write::{Writer, to_bytes};
