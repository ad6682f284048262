//! Other people's formats for networks: in and out.
//!
//! A network comes in as a graph and the values of its weights; what becomes of them (text, a
//! compiled model) is not this folder's business. It knows graphs, ops and weights, never passes,
//! plans or targets.

pub mod onnx;
pub mod text;
