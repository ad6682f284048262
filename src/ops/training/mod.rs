//! Ops that only training needs: gradients that no layer's op computes, statistics of a batch, losses, random
//! masks. One op, one file, as in the folder above. The language has no layers of them; what exports refuses them by
//! name.
//!
//! A gradient's operands are those values of the layer that it reads, then the gradient of the layer's result.
//! Its attributes are the layer's, and the sizes that the result's gradient does not tell.

pub mod activation_gradient;
pub mod adaptive_avg_pool_gradient;
pub mod avg_pool_gradient;
pub mod batch_norm_input_gradient;
pub mod batch_norm_sums;
pub mod batch_norm_train;
pub mod channel_moments;
pub mod clip_factor;
pub mod conv2d_weight_gradient;
pub mod cross_entropy;
pub mod cross_entropy_gradient;
pub mod dropout_mask;
pub mod expand;
pub mod extreme_gradient;
pub mod fill;
pub mod instance_norm_gradient;
pub mod layer_norm_gradient;
pub mod lrn_gradient;
pub mod max_pool_gradient;
pub mod optimizer_update;
pub mod pad_gradient;
pub mod pointwise_loss;
pub mod pointwise_loss_gradient;
pub mod prelu_gradient;
pub mod reduce_max_gradient;
pub mod roi_align_gradient;
pub mod slice_gradient;
pub mod softmax_gradient;
pub mod squared_norm;
pub mod upsample_gradient;

#[cfg(test)]
mod tests;
