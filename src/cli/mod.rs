//! The command line. The only part of netc that prints.

pub mod render;
