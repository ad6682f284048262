//! Average or maximum over a whole image.

use super::attributes::{attribute_enum, attributes};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer};
use super::planes::fill_planes_of;
use super::{MaxPoolGradient, Op, Operation, ShapeError, element, image_shape};
use crate::tensor::{Element, Shape, Tensor};

attribute_enum! {
    /// What a global pooling computes.
    pub enum PoolKind {
        /// The mean of each channel.
        Avg = "avg",
        /// The largest element of each channel.
        Max = "max",
    }
}

attributes! {
    /// `[N, C, H, W] → [N, C, 1, 1]`.
    pub struct GlobalPool { kind: PoolKind }
}

impl Operation for GlobalPool {
    const NAME: &'static str = "global_pool";
    const LAYERS: &'static [Layer] = &[
        Layer {
            name: "global_avg_pool",
            doc: "mean of each channel: [N, C, H, W] to [N, C, 1, 1], sequences and volumes likewise",
            arity: Arity::Unary,
            params: &[],
            build: |_| Ok(GlobalPool { kind: PoolKind::Avg }.into()),
            arguments: |op| match op {
                Op::GlobalPool(GlobalPool { kind: PoolKind::Avg }) => Some(vec![]),
                _ => None,
            },
        },
        Layer {
            name: "global_max_pool",
            doc: "maximum of each channel: [N, C, H, W] to [N, C, 1, 1], sequences and volumes likewise",
            arity: Arity::Unary,
            params: &[],
            build: |_| Ok(GlobalPool { kind: PoolKind::Max }.into()),
            arguments: |op| match op {
                Op::GlobalPool(GlobalPool { kind: PoolKind::Max }) => Some(vec![]),
                _ => None,
            },
        },
    ];

    fn layer_name(&self) -> &'static str {
        match self.kind {
            PoolKind::Avg => "global_avg_pool",
            PoolKind::Max => "global_max_pool",
        }
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let [n, c, _, _] = image_shape(inputs, 0, "global pooling")?;
        Ok([n, c, 1, 1].into())
    }

    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        match self.kind {
            PoolKind::Avg => element::float(inputs),
            PoolKind::Max => element::comparable(inputs),
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[2, 3])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let [_, channels, h, w] = inputs[0].shape().nchw().expect("checked by the shape rule");
        fill_planes_of(inputs[0], output, |x, n, c, plane| {
            let x = &x[(n * channels + c) * h * w..][..h * w];
            plane[0] = match self.kind {
                PoolKind::Avg => (x.iter().map(|&v| f64::from(v)).sum::<f64>() / x.len() as f64) as f32,
                PoolKind::Max => x.iter().fold(f32::NEG_INFINITY, |a, &v| if v > a || v.is_nan() { v } else { a }),
            };
        })
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        let shape = g.operand_shape(0);
        let size = [shape[2], shape[3]];
        Ok(vec![Some(match self.kind {
            PoolKind::Avg => {
                let share = g.scaled(g.of_result, (1.0 / (size[0] * size[1]) as f64) as f32)?;
                g.expanded(share, &shape)?
            }
            // One window over the whole image.
            PoolKind::Max => {
                let pool = MaxPoolGradient { kernel: size, stride: [1; 2], pad: [0; 4], dilation: [1; 2], ceil: false };
                g.add(pool, &[g.operands[0], g.of_result])?
            }
        })])
    }
}
