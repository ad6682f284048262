//! The kernels, one family a file, each written once against the vector builder.

mod adjoint;
mod batch_norm;
mod body;
mod channels;
mod columns;
mod convert;
pub(super) mod cook_toom;
mod cross_entropy;
mod depthwise;
mod direct;
mod dropout_mask;
mod elementwise;
pub(crate) mod epilogue;
mod grid;
mod grid_sample;
mod group_norm;
mod indexed;
mod layer_norm;
mod lookup;
mod lrn;
mod math;
mod matmul;
mod max_pool_gradient;
mod movement;
mod nest;
mod norm_gradient;
mod optimizer;
mod partial;
mod parts;
mod pointwise_loss;
mod pool;
mod recurrence;
mod reduce;
mod reduce_gradient;
mod regions;
mod reorder;
pub(super) mod repack;
mod selection;
mod slope;
mod softmax;
mod softmax_gradient;
mod table;
#[cfg(test)]
mod tests;
mod topk;
mod upsample;
mod walk;
mod weight_gradient;
mod winograd;

pub(crate) use winograd::{largest as winograd_largest, sets as winograd_sets};

use super::Error;
use super::emit::{Emitted, Emitter};
use crate::ops::Op;
use crate::plan::{Algorithm, Step};
use crate::tensor::Element;

/// Bytes of a lane: kernels compute f32.
const LANE: usize = Element::F32.bytes();
/// Bytes that are brought nearer at a time: a line of a cache.
const LINE: usize = 64;

/// Generates the code of one step.
///
/// # Errors
/// As the convolutions'.
pub(crate) fn emit(e: &mut Emitter, step: &Step) -> Result<Emitted, Error> {
    Ok(match &step.kernel {
        Algorithm::Direct(d) => direct::emit(e, step, d)?,
        Algorithm::Winograd(w) => winograd::emit(e, step, w)?,
        Algorithm::Depthwise(_) | Algorithm::Grouped(_) => depthwise::emit(e, step),
        Algorithm::Convert => convert::emit(e, step),
        Algorithm::Gather(gather) => channels::emit(e, step, gather),
        Algorithm::Updates(updates) => optimizer::updates(e, step, updates),
        Algorithm::Plain | Algorithm::PartialSums(_) | Algorithm::JoinParts(_) => plain(e, step),
    })
}

/// Ops that have one kernel, or one for each of two steps, in the layouts that the plan gives them.
fn plain(e: &mut Emitter, step: &Step) -> Emitted {
    match e.graph.node(step.node).op().expect("inputs are not computed") {
        Op::Activate(op) => elementwise::activate(e, step, op.kind),
        Op::Binary(op) => elementwise::binary(e, step, op),
        Op::Where(_) => elementwise::choose(e, step),
        Op::Cast(op) => elementwise::cast(e, step, op),
        Op::ArgReduce(op) => columns::arg_reduce(e, step, op),
        Op::CumSum(op) => columns::cumulative_sum(e, step, op),
        Op::Compact(op) => selection::compact(e, step, op),
        Op::Nms(op) => selection::nms(e, step, op),
        Op::TopK(op) => topk::emit(e, step, op),
        Op::Gather(op) => indexed::gather(e, step, op),
        Op::GatherElements(op) => indexed::gather_elements(e, step, op),
        Op::GatherNd(op) => indexed::gather_nd(e, step, op),
        Op::IndexSelect(op) => indexed::index_select(e, step, op),
        Op::ScatterElements(op) => indexed::scatter_elements(e, step, op),
        Op::ScatterNd(op) => indexed::scatter_nd(e, step, op),
        Op::ActivationGradient(op) => elementwise::activation_gradient(e, step, op),
        Op::PReluGradient(op) => elementwise::prelu_gradient(e, step, op),
        Op::ExtremeGradient(op) => elementwise::extreme_gradient(e, step, op.kind),
        Op::Expand(_) => elementwise::expand(e, step),
        Op::Fill(op) => elementwise::fill(e, step, op.value),
        Op::ChannelAffine(op) => elementwise::channel_affine(e, step, op),
        Op::ChannelConstants(op) => elementwise::channel_constants(e, step, op),
        Op::BatchNorm(op) => elementwise::batch_norm(e, step, op),
        Op::ChannelMoments(_) => batch_norm::moments(e, step),
        Op::BatchNormTrain(op) => batch_norm::train(e, step, op),
        Op::BatchNormSums(op) => batch_norm::sums(e, step, op),
        Op::BatchNormInputGradient(op) => batch_norm::input_gradient(e, step, op),
        Op::PRelu(op) => elementwise::prelu(e, step, op),
        Op::Quantize(op) => elementwise::quantize(e, step, op),
        Op::Dequantize(op) => elementwise::dequantize(e, step, op),
        Op::QuantizedAffine(op) => elementwise::quantized_affine(e, step, op),
        Op::QuantizedBinary(op) => elementwise::quantized_binary(e, step, op),
        Op::QuantizedAvgPool(op) => pool::average_of_levels(e, step, op),
        Op::QuantizedAdaptiveAvgPool(op) => pool::adaptive_of_levels(e, step, op),
        Op::Requantize(op) => elementwise::requantize(e, step, op),
        Op::QuantizedGlobalPool(op) => pool::global_of_levels(e, step, op),
        Op::MaxPool(op) => pool::max(e, step, op),
        Op::AvgPool(op) => pool::average(e, step, op),
        Op::AdaptiveAvgPool(op) => pool::adaptive(e, step, op),
        Op::GlobalPool(op) => pool::global(e, step, op),
        Op::Lrn(op) => lrn::emit(e, step, op),
        Op::Softmax(op) => softmax::emit(e, step, op),
        Op::InstanceNorm(op) => group_norm::instance(e, step, op),
        Op::LayerNorm(op) => layer_norm::emit(e, step, op),
        Op::GroupNorm(op) => group_norm::emit(e, step, op),
        Op::LrnGradient(op) => lrn::gradient(e, step, op),
        Op::SoftmaxGradient(op) => softmax_gradient::emit(e, step, op),
        Op::InstanceNormGradient(op) => norm_gradient::instance(e, step, op),
        Op::LayerNormGradient(op) => norm_gradient::layer(e, step, op),
        Op::Upsample(op) => upsample::emit(e, step, op),
        Op::Pad(op) => movement::pad(e, step, op),
        Op::Concat(op) => movement::concat(e, step, op),
        Op::Slice(op) => movement::slice(e, step, op),
        Op::Transpose(op) => movement::transpose(e, step, op),
        Op::PixelShuffle(op) => movement::pixel_shuffle(e, step, op),
        Op::PixelUnshuffle(op) => movement::pixel_unshuffle(e, step, op),
        Op::ChannelShuffle(op) => movement::channel_shuffle(e, step, op),
        Op::Constant(_) => movement::constant(e, step),
        Op::Reduce(op) => reduce::emit(e, step, op),
        Op::MatMul(_) => matmul::emit(e, step),
        Op::Recurrence(op) => recurrence::emit(e, step, op),
        Op::GridSample(op) => grid_sample::emit(e, step, op),
        Op::RoiAlign(op) => regions::align(e, step, op),
        Op::RoiPool(op) => regions::pool(e, step, op),
        Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_) | Op::LinearW8(_) => {
            unreachable!("these have algorithms")
        }
        Op::QuantizedConv2d(_) | Op::QuantizedConvTranspose2d(_) | Op::QuantizedLinear(_) => {
            unreachable!("these have algorithms")
        }
        Op::Conv2dW8(_)
        | Op::ConvTranspose2dW8(_)
        | Op::FakeQuantize(_)
        | Op::ConstantValues(_)
        | Op::ConvNd(_)
        | Op::DeformConv2d(_)
        | Op::DynamicConv2d(_)
        | Op::DynamicQuantize(_)
        | Op::ExpandImages(_)
        | Op::PoolNd(_)
        | Op::Recurrent(_) => unreachable!("the plan refuses these"),
        Op::Flatten(_) | Op::Reshape(_) | Op::Identity(_) | Op::Dropout(_) => unreachable!("these are views"),
        Op::Conv2dWeightGradient(op) => weight_gradient::emit(e, step, op),
        Op::OptimizerUpdate(_) => unreachable!("these have a step with others"),
        Op::SquaredNorm(_) => optimizer::squared_norm(e, step),
        Op::ClipFactor(op) => optimizer::clip_factor(e, step, op),
        Op::CrossEntropy(op) => cross_entropy::loss(e, step, op),
        Op::CrossEntropyGradient(op) => cross_entropy::gradient(e, step, op),
        Op::MaxPoolGradient(op) => max_pool_gradient::emit(e, step, op),
        Op::DropoutMask(op) => dropout_mask::emit(e, step, op),
        Op::PointwiseLoss(op) => pointwise_loss::loss(e, step, op),
        Op::PointwiseLossGradient(op) => pointwise_loss::gradient(e, step, op),
        Op::AvgPoolGradient(op) => adjoint::average(e, step, op),
        Op::AdaptiveAvgPoolGradient(op) => adjoint::adaptive(e, step, op),
        Op::UpsampleGradient(op) => adjoint::upsample(e, step, op),
        Op::RoiAlignGradient(op) => regions::align_gradient(e, step, op),
        Op::PadGradient(op) => adjoint::pad(e, step, op),
        Op::SliceGradient(op) => movement::slice_gradient(e, step, op),
        Op::ReduceMaxGradient(op) => reduce_gradient::emit(e, step, op),
    }
}

/// What kernels rely on that take a pixel's channels of a block as one vector: a lane is a channel, and
/// vectors lie as far apart as pixels. To loop nests a block's channels are an axis, of any size.
fn check_blocks_are_vectors(e: &Emitter, step: &Step) {
    let mut blocked = step.inputs.iter().chain(&step.outputs).filter(|v| v.layout.is_blocked());
    debug_assert!(blocked.all(|v| v.block() == e.unit().lanes), "a block is one vector of f32");
}

/// Name of a step's driver.
fn step_name(e: &Emitter, step: &Step) -> String {
    let node = e.graph.node(step.node);
    let op = node.op().map_or("input", |op| op.name());
    format!("step {}", node.name.as_deref().unwrap_or(op))
}
