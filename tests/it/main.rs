//! Integration tests, in one binary: linking the compiler takes longer than most of them.

mod artifact;
mod runtime;
mod tiny;
