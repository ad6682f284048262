//! Layers whose weights are kept in few bits: a whole number each, and a scale for each output channel.
//!
//! They compute what the layer of real numbers does, of which each holds one; so the layers `conv`, `conv_transpose` and
//! `linear` make them where `weight_bits` is given. `passes::lower_quantized` makes ops of whole numbers of those whose
//! input is on a grid, and `passes::fold_whole_weights` layers of f32 of the other convolutions. Linear layers stay: their
//! code reads weights of 8 bits, a quarter of the memory, and multiplies sums by the scales.

use super::super::attributes::AttributeReader;
use super::super::epilogue::PostOp;
use super::super::images::Images;
use super::super::layer::{Layer, LayerError};
use super::super::{Attributes, Conv2d, ConvTranspose2d, Init, Linear, Operation, ShapeError, WeightDecl, Window};
use super::{Levels, real, whole_scale};
use crate::tensor::{Shape, Tensor};

/// Bits of a whole number where a text does not say it.
const BITS: usize = 8;
/// How few and how many there may be: unsigned weights of 8 bits less a zero point have 9, of which one is the sign.
const FEWEST: usize = 2;
pub(crate) const MOST: usize = 9;

/// What a weight's whole numbers may be: as many below 0 as above, and for files one more.
pub(crate) fn levels(bits: usize) -> Levels {
    Levels { bits, signed: true }
}

macro_rules! whole_weights {
    ($($(#[$meta:meta])* $name:ident = $text:literal of $reals:ident { $channel:expr })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            /// The layer, of f32 weights.
            pub of_reals: $reals,
            /// Bits of a weight.
            pub bits: usize,
        }

        impl $name {
            /// The layer with weights of so many bits.
            ///
            /// # Errors
            /// Where there may not be so many.
            pub(crate) fn of(of_reals: $reals, bits: usize) -> Result<Self, LayerError> {
                match (FEWEST..=MOST).contains(&bits) {
                    true => Ok(Self { of_reals, bits }),
                    false => Err(LayerError {
                        param: "weight_bits",
                        message: format!("weights have from {FEWEST} to {MOST} bits, not {bits}"),
                    }),
                }
            }

            /// For each element of a weight of these sizes, the output channel that it is of.
            pub(crate) fn channel(&self, weight: &Shape) -> impl Fn(usize) -> usize + use<> {
                $channel(&self.of_reals, weight)
            }

            /// The weight as real numbers.
            pub(crate) fn real_weight(&self, weight: &Tensor, scale: &Tensor) -> Tensor {
                let channel = self.channel(weight.shape());
                let numbers = weight.values().enumerate().map(|(i, q)| real(q, scale.data()[channel(i)], 0.0));
                Tensor::new(Shape::new(weight.shape().dims()), numbers.collect())
            }
        }

        impl Attributes for $name {
            fn print_attributes(&self) -> Vec<(&'static str, String)> {
                let mut attributes = self.of_reals.print_attributes();
                if self.bits != BITS {
                    attributes.push(("bits", self.bits.to_string()));
                }
                attributes
            }

            fn parse_attributes(reader: &mut AttributeReader) -> Result<Self, String> {
                let (bits, of_reals) = (reader.take("bits", Some(BITS))?, $reals::parse_attributes(reader)?);
                Self::of(of_reals, bits).map_err(|error| error.message)
            }
        }

        impl Operation for $name {
            const NAME: &'static str = $text;
            /// They are those of the layer of real numbers, which its file has.
            const LAYERS: &'static [Layer] = &[];

            fn layer_name(&self) -> &'static str {
                self.of_reals.layer_name()
            }

            fn operands(&self) -> (usize, usize) {
                self.of_reals.operands()
            }

            fn epilogue(&self) -> Option<&Vec<PostOp>> {
                self.of_reals.epilogue()
            }

            fn epilogue_mut(&mut self) -> Option<&mut Vec<PostOp>> {
                self.of_reals.epilogue_mut()
            }

            fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
                self.of_reals.infer(inputs)
            }

            fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
                let mut weights = self.of_reals.weights(inputs);
                let levels = levels(self.bits);
                let bound = levels.high() as f32;
                let fan_in = match weights[0].init {
                    Init::He { fan_in } | Init::Xavier { fan_in, .. } => fan_in,
                    _ => 1,
                };
                weights[0].shape = Shape::of(levels.element(), weights[0].shape.dims());
                weights[0].init = Init::Uniform { low: -bound, high: bound };
                let channels = inputs.first().map_or(0, |_| self.output_channels());
                let scale = whole_scale(fan_in, self.bits);
                weights.insert(1, WeightDecl::per_channel("weight_scale", channels, scale, false));
                weights
            }

            fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
                self.of_reals.images(images, inputs, output)
            }

            fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
                let weight = self.real_weight(weights[0], weights[1]);
                let weights: Vec<&Tensor> = [&weight].into_iter().chain(weights[2..].iter().copied()).collect();
                self.of_reals.evaluate(inputs, &weights, output)
            }

            fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 {
                self.of_reals.macs(inputs, output)
            }

            fn window(&self, inputs: &[&Shape], output: &Shape) -> Option<Window> {
                self.of_reals.window(inputs, output)
            }
        }
    )*};
}

whole_weights! {
    /// A convolution with weight `[channels, C / groups, kh, kw]` of whole numbers, `weight_scale [channels]` and, where
    /// `bias` is set, bias `[channels]`.
    Conv2dW8 = "conv2d_w8" of Conv2d { outermost }
    /// A transposed convolution with weight `[C, channels / groups, kh, kw]` of whole numbers,
    /// `weight_scale [channels]` and, where `bias` is set, bias `[channels]`.
    ConvTranspose2dW8 = "conv_transpose2d_w8" of ConvTranspose2d { second }
    /// A linear layer with weight `[features, F]` of whole numbers, `weight_scale [features]` and, where `bias` is set,
    /// bias `[features]`.
    LinearW8 = "linear_w8" of Linear { outermost }
}

impl Conv2dW8 {
    fn output_channels(&self) -> usize {
        self.of_reals.channels
    }
}

impl ConvTranspose2dW8 {
    fn output_channels(&self) -> usize {
        self.of_reals.channels
    }
}

impl LinearW8 {
    /// Whether there are kernels that multiply f32 by the weights as they are: those are bytes in memory.
    pub(crate) fn is_read_beside_reals(&self) -> bool {
        self.bits <= BITS
    }

    fn output_channels(&self) -> usize {
        self.of_reals.features
    }
}

/// Output channels are axis 0.
fn outermost<L>(_: &L, weight: &Shape) -> impl Fn(usize) -> usize + use<L> {
    let run = weight.elements() / weight[0].max(1);
    move |element| element / run.max(1)
}

/// Axis 1 holds the output channels of the group of the input channel on axis 0.
fn second(layer: &ConvTranspose2d, weight: &Shape) -> impl Fn(usize) -> usize + use<> {
    let (own, run) = (weight[1], weight[2] * weight[3]);
    let inputs = (weight[0] / layer.groups).max(1);
    move |element| element / run / own / inputs * own + element / run % own
}
