//! The kernels, one family a file, each written once against the vector builder.

mod channels;
mod convert;
mod cook_toom;
mod depthwise;
mod direct;
mod elementwise;
pub mod epilogue;
mod instance_norm;
mod lrn;
mod math;
mod matmul;
mod movement;
mod nest;
mod pool;
mod reduce;
mod softmax;
mod table;
mod upsample;
mod winograd;

use super::Error;
use super::emit::{Emitted, Emitter};
use crate::ops::Op;
use crate::plan::{Kernel, Layout, Step};

/// Generates the code of one step.
///
/// # Errors
/// Where no kernel is written for the op.
pub fn emit(e: &mut Emitter, step: &Step) -> Result<Emitted, Error> {
    match &step.kernel {
        Kernel::Direct(d) => direct::emit(e, step, d),
        Kernel::Winograd(w) => winograd::emit(e, step, w),
        Kernel::Convert => convert::emit(e, step),
        Kernel::Copy { channel } => channels::concat(e, step, *channel),
        Kernel::Depthwise => depthwise::emit(e, step),
        Kernel::Plain => plain(e, step),
    }
}

fn plain(e: &mut Emitter, step: &Step) -> Result<Emitted, Error> {
    let node = e.graph.node(step.node);
    let blocked = step.outputs[0].layout == Layout::Blocked;
    match node.op() {
        Some(Op::Activate(op)) => elementwise::activate(e, step, op.kind),
        Some(Op::Binary(op)) => elementwise::binary(e, step, op),
        Some(Op::ChannelAffine(op)) => elementwise::channel_affine(e, step, op),
        Some(Op::BatchNorm(op)) => elementwise::batch_norm(e, step, op),
        Some(Op::PRelu(op)) => elementwise::prelu(e, step, op),
        Some(Op::Slice(op)) if blocked => channels::slice(e, step, op),
        Some(Op::MaxPool(op)) => pool::max(e, step, op),
        Some(Op::AvgPool(op)) => pool::average(e, step, op),
        Some(Op::AdaptiveAvgPool(op)) => pool::adaptive(e, step, op),
        Some(Op::GlobalPool(op)) => pool::global(e, step, op),
        Some(Op::Lrn(op)) => lrn::emit(e, step, op),
        Some(Op::Softmax(op)) => softmax::emit(e, step, op),
        Some(Op::InstanceNorm(op)) => instance_norm::emit(e, step, op),
        Some(Op::Upsample(op)) => upsample::emit(e, step, op),
        Some(Op::Pad(op)) => movement::pad(e, step, op),
        Some(Op::Concat(op)) => movement::concat(e, step, op),
        Some(Op::Slice(op)) => movement::slice(e, step, op),
        Some(Op::Transpose(op)) => movement::transpose(e, step, op),
        Some(Op::PixelShuffle(op)) => movement::pixel_shuffle(e, step, op),
        Some(Op::PixelUnshuffle(op)) => movement::pixel_unshuffle(e, step, op),
        Some(Op::ChannelShuffle(op)) => movement::channel_shuffle(e, step, op),
        Some(Op::Constant(_)) => movement::constant(e, step),
        Some(Op::Reduce(op)) => reduce::emit(e, step, op),
        Some(Op::MatMul(_)) => matmul::emit(e, step),
        _ => Err(no_kernel(e, step)),
    }
}

fn no_kernel(e: &Emitter, step: &Step) -> Error {
    let node = e.graph.node(step.node);
    let op = node.op().map_or("input", |op| op.name());
    Error::NoKernel { op: op.into(), name: node.name.clone().unwrap_or_default() }
}

/// Name of a step's driver.
fn step_name(e: &Emitter, step: &Step) -> String {
    let node = e.graph.node(step.node);
    let op = node.op().map_or("input", |op| op.name());
    format!("step {}", node.name.as_deref().unwrap_or(op))
}
