//! The gradient of a convolution with respect to its weight.

use crate::parallel;
use rayon::prelude::*;

use crate::ops::attributes::attributes;
use crate::ops::images::{Images, apart, joined};
use crate::ops::layer::Layer;
use crate::ops::{Operation, ShapeError, Window, check_groups, image_shape, positive, window_output};
use crate::tensor::{Shape, Tensor};

attributes! {
    /// `(x [N, C, H, W], dy [N, channels, H', W']) → [channels, C / groups, kh, kw]`: for each tap the sum, over images
    /// and pixels, of dy times the pixel of x under the tap.
    ///
    /// A transposed convolution's weight gradient is the same with its gradient as x and its input as dy: it is the
    /// transpose of that convolution, and shares the weight as it lies.
    pub struct Conv2dWeightGradient {
        kernel: [usize; 2],
        stride: [usize; 2] = [1, 1],
        pad: [usize; 4] = [0; 4],
        dilation: [usize; 2] = [1, 1],
        groups: usize = 1,
    }
}

impl Conv2dWeightGradient {
    /// The window of the layer.
    pub(crate) fn layer_window(&self) -> Window {
        let extent = [0, 1].map(|i| (self.kernel[i] - 1) * self.dilation[i] + 1);
        Window { extent, stride: self.stride, upscale: [1.0, 1.0] }
    }
}

impl Operation for Conv2dWeightGradient {
    const NAME: &'static str = "conv2d_weight_gradient";
    const LAYERS: &'static [Layer] = &[];

    fn operands(&self) -> (usize, usize) {
        (2, 2)
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, h, w] = image_shape(inputs, 0, Self::NAME)?;
        let [m, channels, oh, ow] = image_shape(inputs, 1, Self::NAME)?;
        positive("kernel", &self.kernel)?;
        positive("stride", &self.stride)?;
        positive("dilation", &self.dilation)?;
        check_groups(self.groups, c, channels)?;
        let [top, left, bottom, right] = self.pad;
        let rows = window_output("height", h, self.kernel[0], self.stride[0], self.dilation[0], (top, bottom))?;
        let columns = window_output("width", w, self.kernel[1], self.stride[1], self.dilation[1], (left, right))?;
        // A transposed convolution with `output_pad` has windows that nothing came from.
        if n != m || oh > rows || ow > columns {
            let expected = Shape::from([n, channels, rows, columns]);
            return Err(ShapeError::new(format!("the result's gradient is {}, not {expected}", inputs[1])).operand(1));
        }
        Ok([channels, c / self.groups, self.kernel[0], self.kernel[1]].into())
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(joined(images.iter().copied())?, &[0, 1, 2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [images, c, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        let [_, channels, oh, ow] = inputs[1].shape().nchw().expect("checked by the shape rule");
        let [_, per_group, kh, kw] = output.nchw().expect("checked by the shape rule");
        let (x, dy) = (inputs[0].data(), inputs[1].data());
        let tap = |i: usize| {
            let (kx, ky, ic, oc) = (i % kw, i / kw % kh, i / kw / kh % per_group, i / kw / kh / per_group);
            let ic = oc / (channels / self.groups) * per_group + ic;
            let mut sum = 0.0f64;
            for n in 0..images {
                let (x, dy) = (&x[(n * c + ic) * h * w..][..h * w], &dy[(n * channels + oc) * oh * ow..][..oh * ow]);
                for oy in 0..oh {
                    // Rows and columns of the padding fall away.
                    let y = (oy * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pad[0]);
                    for ox in (0..ow).take_while(|_| y < h) {
                        let x_at = (ox * self.stride[1] + kx * self.dilation[1]).wrapping_sub(self.pad[1]);
                        if x_at < w {
                            sum += f64::from(x[y * w + x_at]) * f64::from(dy[oy * ow + ox]);
                        }
                    }
                }
            }
            sum as f32
        };
        let mut out = Tensor::zeros(output.clone());
        parallel::shared(|| out.data_mut().par_iter_mut().enumerate().for_each(|(i, v)| *v = tap(i)));
        out
    }

    /// As many as the convolution has.
    fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
        let taps = (output[1] * output[2]).saturating_mul(output[3]);
        (inputs[1].elements() as u64).saturating_mul(taps as u64)
    }
}
