//! Integration tests, in one binary: linking the compiler takes longer than most of them.

mod artifact;
mod cli;
mod docs;
mod driver;
mod export;
mod goldens;
mod hostile;
mod images;
mod import;
mod onnx;
mod optimized_zoo;
mod runtime;
mod stress;
mod strict;
mod tiny;
mod verify;
