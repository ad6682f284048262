//! Mean and variance of each channel over a batch: what batch normalisation normalises by in training.

use crate::parallel;
use rayon::prelude::*;

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart};
use crate::ops::layer::Layer;
use crate::ops::{Operation, ShapeError, channels_of};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `[N, C, …] → [2, C]`: of each channel (axis 1) the mean, and the biased variance.
    pub struct ChannelMoments {}
}

/// The elements of channel `c` of a value `[N, C, …]`, in f64.
pub fn channel(value: &Tensor, c: usize) -> impl ExactSizeIterator<Item = f64> + Clone + '_ {
    let dims = value.shape().dims();
    let (channels, pixels) = (dims[1], dims[2..].iter().product::<usize>());
    let at = move |i: usize| (i / pixels * channels + c) * pixels + i % pixels;
    (0..dims[0] * pixels).map(move |i| f64::from(value.data()[at(i)]))
}

/// `[2, C]` of two numbers a channel.
pub(super) fn pair_per_channel(output: &Shape, pair: impl Fn(usize) -> [f64; 2] + Send + Sync) -> Tensor {
    let pairs: Vec<[f64; 2]> = parallel::shared(|| (0..output[1]).into_par_iter().map(pair).collect());
    Tensor::from_values(output.clone(), [0, 1].into_iter().flat_map(|i| pairs.iter().map(move |pair| pair[i])))
}

impl Operation for ChannelMoments {
    const NAME: &'static str = "channel_moments";
    const LAYERS: &'static [Layer] = &[];

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        Ok([2, channels_of(inputs, Self::NAME)?].into())
    }

    fn images(&self, images: &[Images], inputs: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &(0..inputs[0].rank()).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        pair_per_channel(output, |c| {
            let values = channel(inputs[0], c);
            let count = values.len() as f64;
            let mean = values.clone().sum::<f64>() / count;
            [mean, values.map(|v| (v - mean).powi(2)).sum::<f64>() / count]
        })
    }
}
