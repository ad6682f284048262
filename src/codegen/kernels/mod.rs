//! The kernels, one family a file, each written once against the vector builder.

mod convert;
mod cook_toom;
mod direct;
pub mod epilogue;
mod winograd;

use super::Error;
use super::emit::{Emitted, Emitter};
use crate::plan::{Kernel, Step};

/// Generates the code of one step.
///
/// # Errors
/// Where no kernel is written for the op.
pub fn emit(e: &mut Emitter, step: &Step) -> Result<Emitted, Error> {
    match &step.kernel {
        Kernel::Direct(d) => direct::emit(e, step, d),
        Kernel::Winograd(w) => winograd::emit(e, step, w),
        Kernel::Convert => convert::emit(e, step),
        _ => {
            let node = e.graph.node(step.node);
            let op = node.op().map_or("input", |op| op.name());
            Err(Error::NoKernel { op: op.into(), name: node.name.clone().unwrap_or_default() })
        }
    }
}
