//! Runs compiled models: maps code and weights, keeps a pool of threads and arenas.
//!
//! The runtime knows images and files of images. It knows nothing of the compiler and is built
//! without it where the feature `compile` is off.

pub mod code;
