//! The operations: one op, one file.
//!
//! An op's file holds everything that defines it: its attributes, operands, shape rule, weights,
//! naive evaluation (f64 accumulation, no cleverness: the definition of right), cost, epilogue, and
//! its names in the language, with what makes the op of a call and the call of an op. Adding an op
//! is adding a file and one line in `operations!` below; the exhaustive matches in plan, codegen and
//! export then say what is missing.
//!
//! Ops of values on grids, quantized networks, are in the folder `quantized`.
//!
//! What an op's derivative is stands in its file, too, as ops ([`gradient`]). Those that only training
//! needs are in the folder `training`.
//!
//! This folder knows shapes and tensors. It does not know graphs, passes, layouts or targets.

pub mod attributes;
pub mod element;
pub mod epilogue;
pub mod form;
pub mod gradient;
pub mod images;
pub(crate) mod indices;
pub mod layer;
pub mod number;
mod planes;
pub mod position;
pub mod quantized;
mod regions;
#[cfg(test)]
mod tests;
pub mod training;

use crate::tensor::{Element, Shape, Tensor};
use attributes::AttributeReader;
use epilogue::PostOp;
use gradient::{Gradient, Gradients};
use images::Images;
use layer::{Arguments, Layer, Value};

/// Printing and parsing of an op's attributes; implemented by `attributes!`.
pub trait Attributes: Sized {
    /// Names and texts of the attributes in the order of their declaration, without those that have their default.
    fn print_attributes(&self) -> Vec<(&'static str, String)>;
    /// The op that has these attributes.
    ///
    /// # Errors
    /// Names the attribute that is missing or malformed.
    fn parse_attributes(reader: &mut AttributeReader) -> Result<Self, String>;
}

/// How a weight is initialised where no file gives its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Normal with variance 2 / fan_in (He et al. 2015, arXiv:1502.01852, eq. 10).
    He {
        /// Inputs that one output element is a sum over.
        fan_in: usize,
    },
    /// Uniform in ±sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010, eq. 16).
    Xavier {
        /// Inputs that one output element is a sum over.
        fan_in: usize,
        /// Outputs that one input element has a part in.
        fan_out: usize,
    },
    /// All elements are this.
    Constant(f32),
    /// Normal with this mean and deviation.
    Normal {
        /// Its middle.
        mean: f32,
        /// The deviation from it.
        std: f32,
    },
    /// Uniform between two numbers.
    Uniform {
        /// The least.
        low: f32,
        /// What all are below.
        high: f32,
    },
}

/// A weight that an op needs; the graph names it `<label>.<role>`.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightDecl {
    /// `weight`, `bias`, `running_mean`, …: the last part of the weight's name.
    pub role: &'static str,
    /// The shape that the op computes with.
    pub shape: Shape,
    /// What the values are where no file gives them.
    pub init: Init,
    /// Counts as a parameter. Running statistics do not.
    pub learnable: bool,
}

impl WeightDecl {
    /// A number for each channel, that value where no weights are given.
    fn per_channel(role: &'static str, channels: usize, value: f32, learnable: bool) -> WeightDecl {
        WeightDecl { role, shape: [channels].into(), init: Init::Constant(value), learnable }
    }

    /// A learned factor and a term for each channel, without effect where no weights are given.
    fn affine(channels: usize) -> [WeightDecl; 2] {
        [("weight", 1.0), ("bias", 0.0)].map(|(role, value)| WeightDecl::per_channel(role, channels, value, true))
    }

    /// The weight's name under a label: that of a weight without a role is the label itself.
    pub fn name(&self, label: &str) -> String {
        if self.role.is_empty() { label.to_string() } else { format!("{label}.{}", self.role) }
    }
}

/// Why operands do not fit an op.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ShapeError {
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
    /// Index of the operand at fault, where it is one.
    pub operand: Option<usize>,
    /// Language parameter at fault, where it is one.
    pub param: Option<&'static str>,
    /// The operands do not fit each other: each is to be shown with its own shape.
    pub between_operands: bool,
    /// What the user could do about it.
    pub help: Option<String>,
}

impl ShapeError {
    /// An error that blames nothing in particular yet.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), operand: None, param: None, between_operands: false, help: None }
    }
    /// Blames an operand.
    pub fn operand(mut self, index: usize) -> Self {
        self.operand = Some(index);
        self
    }
    /// Blames a parameter of the layer, by its name in the language.
    pub fn param(mut self, name: &'static str) -> Self {
        self.param = Some(name);
        self
    }
    /// Blames the operands together.
    pub fn between_operands(mut self) -> Self {
        self.between_operands = true;
        self
    }
    /// Adds what the user could do.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }
}

/// The sliding window of an op, for receptive fields.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Kernel extent with dilation, per axis.
    pub extent: [usize; 2],
    /// Distance of neighbouring windows in input pixels, vertical and horizontal.
    pub stride: [usize; 2],
    /// Output pixels per input pixel where the op enlarges (transposed convolution, resize).
    pub upscale: [f64; 2],
}

/// What one op is. All shapes are those of whole values, batch included.
pub trait Operation: Attributes {
    /// Name in the IR text.
    const NAME: &'static str;
    /// Names in the language; empty for ops that only passes make.
    const LAYERS: &'static [Layer];

    /// The name of the layer that makes this op, or the op's own where none does.
    fn layer_name(&self) -> &'static str {
        Self::LAYERS.first().map_or(Self::NAME, |layer| layer.name)
    }

    /// Smallest and largest number of value operands.
    fn operands(&self) -> (usize, usize) {
        (1, 1)
    }

    /// The output's shape. Checks everything that a later stage relies on, including that sizes
    /// neither vanish nor overflow.
    ///
    /// # Errors
    /// Says which operand or parameter is at fault.
    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError>;

    /// The result's element. Sizes are [`Self::infer`]'s business, which gives them as those of f32.
    ///
    /// # Errors
    /// Says what it cannot take, of a subject that is the op.
    fn element(&self, inputs: &[Element]) -> Result<Element, String> {
        element::float(inputs)
    }

    /// A parameter whose value is legal, but hardly meant, and what it does.
    fn caution(&self) -> Option<(&'static str, String)> {
        None
    }

    /// The weights in operand order. Only called where [`Self::infer`] succeeded.
    fn weights(&self, _inputs: &[&Shape]) -> Vec<WeightDecl> {
        vec![]
    }

    /// Where the images of a batch are in the result, given where they are in the operands, of which one at
    /// least has them. The shapes are for a number of images that is prime and divides no other size. What
    /// an image's part of the result is must depend on its parts of the operands only, and alike for all.
    ///
    /// # Errors
    /// Says what mixes images, of a subject "it".
    fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String>;

    /// The definition: naive loops, f64 accumulation.
    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor;

    /// How a loss changes with what the op reads, as ops that are added to `g`.
    ///
    /// # Errors
    /// Says why there is no such thing, of a subject that is the op.
    fn gradient(&self, _g: &mut Gradient) -> Gradients {
        Err("is not differentiable".into())
    }

    /// What is done to results before they are stored; `None` where the op's kernels take no epilogue.
    fn epilogue(&self) -> Option<&Vec<PostOp>> {
        None
    }

    /// [`Self::epilogue`], to be changed.
    fn epilogue_mut(&mut self) -> Option<&mut Vec<PostOp>> {
        None
    }

    /// Multiply-accumulates; convolutions and matrix products only, as in the papers' tables.
    fn macs(&self, _inputs: &[&Shape], _output: &Shape) -> u64 {
        0
    }

    /// The sliding window. `None` where the op has none: elementwise, or over whole images.
    fn window(&self, _inputs: &[&Shape], _output: &Shape) -> Option<Window> {
        None
    }
}

macro_rules! operations {
    (
        layers { $($module:ident :: $layer:ident),* $(,)? }
        composed { $($composed_module:ident :: $composed:ident),* $(,)? }
        quantized { $($quantized:ident),* $(,)? }
        training { $($training_module:ident :: $training:ident),* $(,)? }
    ) => {
        $(pub mod $module; pub use $module::$layer;)*
        $(pub mod $composed_module; pub use $composed_module::$composed;)*
        $(pub use quantized::$quantized;)*
        $(pub use training::$training_module::$training;)*

        operations! { @all $($layer,)* $($composed,)* $($quantized,)* $($training,)* }

        /// The pattern of all ops that only training needs, for stages that know inference only.
        macro_rules! any_training_op { () => { $($crate::ops::Op::$training(_))|* }; }
        pub(crate) use any_training_op;

        impl Op {
            /// The names of the ops of values on grids.
            pub const QUANTIZED_NAMES: &'static [&'static str] = &[$($quantized::NAME),*];
            /// The names of the ops that passes make of several others, or others of.
            pub const COMPOSED_NAMES: &'static [&'static str] = &[$($composed::NAME),*];
            /// The names of the ops that only training needs.
            pub const TRAINING_NAMES: &'static [&'static str] = &[$($training::NAME),*];
        }
    };
    (@all $($ty:ident,)*) => {
        /// Any operation. One variant a file in this folder.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Op {$(
            #[doc = concat!("See [`", stringify!($ty), "`].")]
            $ty($ty)
        ),*}

        $(impl From<$ty> for Op { fn from(op: $ty) -> Op { Op::$ty(op) } })*

        /// Every layer of the language.
        pub fn layers() -> impl Iterator<Item = &'static Layer> {
            let all: &[&'static [Layer]] = &[$($ty::LAYERS),*];
            all.iter().flat_map(|l| l.iter()).collect::<Vec<_>>().into_iter()
        }

        impl Op {
            /// See [`Operation::NAME`].
            pub fn name(&self) -> &'static str { match self { $(Op::$ty(_) => $ty::NAME),* } }
            /// See [`Operation::layer_name`].
            pub fn layer_name(&self) -> &'static str { match self { $(Op::$ty(o) => o.layer_name()),* } }
            /// The layer that makes this op, and its arguments. `None` where only passes make it, or a number
            /// cannot be written.
            pub fn call(&self) -> Option<(&'static Layer, Arguments)> {
                let layers = match self { $(Op::$ty(_) => $ty::LAYERS),* };
                let own = layers.iter().find_map(|layer| Some((layer, (layer.arguments)(self)?)));
                // A layer of another op may make it, by one of its arguments.
                let call = own.or_else(|| self::layers().find_map(|layer| Some((layer, (layer.arguments)(self)?))))?;
                // A border that loses to every number is the one infinity that has a use.
                let is_border = matches!(self, Op::Pad(_));
                let is_written =
                    |v: &Value| !matches!(v, Value::Float(f) if f.is_nan() || (f.is_infinite() && !is_border));
                call.1.iter().all(|(_, v)| is_written(v)).then_some(call)
            }
            /// See [`Operation::operands`].
            pub fn operands(&self) -> (usize, usize) { match self { $(Op::$ty(o) => o.operands()),* } }
            /// See [`Operation::caution`].
            pub fn caution(&self) -> Option<(&'static str, String)> { match self { $(Op::$ty(o) => o.caution()),* } }
            /// See [`Operation::infer`]. Also refuses what is empty or beyond netc's limits.
            pub fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
                let shape = self.infer_unlimited(inputs)?;
                check_size("the result", &shape)?;
                for weight in self.weights(inputs) {
                    check_size(weight.role, &weight.shape)?;
                }
                Ok(shape)
            }
            /// The output's shape, however large: for sizes that nobody computes with.
            pub fn infer_unlimited(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
                let (least, most) = self.operands();
                if inputs.len() < least || inputs.len() > most {
                    return Err(ShapeError::new(format!(
                        "{} takes {}, not {}", self.name(),
                        if least == most { format!("{least} operands") }
                        else if most == usize::MAX { format!("at least {least} operands") }
                        else { format!("{least} to {most} operands") },
                        inputs.len())));
                }
                let elements: Vec<Element> = inputs.iter().map(|input| input.element()).collect();
                let element = match self { $(Op::$ty(o) => o.element(&elements)),* };
                let element = element.map_err(|message| {
                    let error = ShapeError::new(format!("{} {message}", self.name()));
                    match elements.iter().any(|element| element.integer_range().is_some()) {
                        true => error.help("`dequantize` makes real numbers of whole ones"),
                        false => error,
                    }
                })?;
                let shape = match self { $(Op::$ty(o) => o.infer(inputs)),* }?;
                Ok(shape.with_element(element))
            }
            /// See [`Operation::images`].
            pub fn images(&self, images: &[Images], inputs: &[&Shape], output: &Shape) -> Result<Images, String> {
                match self { $(Op::$ty(o) => o.images(images, inputs, output)),* }
            }
            /// See [`Operation::weights`].
            pub fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> { match self { $(Op::$ty(o) => o.weights(inputs)),* } }
            /// See [`Operation::evaluate`].
            pub fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], output: &Shape) -> Tensor {
                match self { $(Op::$ty(o) => o.evaluate(inputs, weights, output)),* }
            }
            /// See [`Operation::gradient`].
            pub fn gradient(&self, g: &mut Gradient) -> Gradients {
                match self.epilogue() {
                    Some([_, ..]) => Err("has an epilogue, which is for inference".into()),
                    _ => match self { $(Op::$ty(o) => o.gradient(g)),* },
                }
            }
            /// Only training needs it: no layer makes it, and no code is made for it.
            pub fn is_training(&self) -> bool { Self::TRAINING_NAMES.contains(&self.name()) }
            /// The op's epilogue; `None` where the op's kind has none.
            pub fn epilogue(&self) -> Option<&[PostOp]> { match self { $(Op::$ty(o) => o.epilogue().map(Vec::as_slice)),* } }
            fn epilogue_mut(&mut self) -> Option<&mut Vec<PostOp>> { match self { $(Op::$ty(o) => o.epilogue_mut()),* } }
            /// See [`Operation::macs`].
            pub fn macs(&self, inputs: &[&Shape], output: &Shape) -> u64 { match self { $(Op::$ty(o) => o.macs(inputs, output)),* } }
            /// See [`Operation::window`].
            pub fn window(&self, inputs: &[&Shape], output: &Shape) -> Option<Window> { match self { $(Op::$ty(o) => o.window(inputs, output)),* } }
            /// A convolution, transposed convolution or linear layer: what tables of networks count as layers, and
            /// what a plan has a choice of algorithms for.
            pub fn is_convolution_or_linear(&self) -> bool {
                matches!(self, Op::Conv2d(_) | Op::ConvTranspose2d(_) | Op::Linear(_))
                    || matches!(self, Op::Conv2dW8(_) | Op::ConvTranspose2dW8(_) | Op::LinearW8(_))
                    || matches!(self, Op::QuantizedConv2d(_) | Op::QuantizedConvTranspose2d(_) | Op::QuantizedLinear(_))
            }
            /// See [`Attributes::print_attributes`].
            pub fn print_attributes(&self) -> Vec<(&'static str, String)> { match self { $(Op::$ty(o) => o.print_attributes()),* } }
            /// Makes the op that IR text names. `None` where no op has that name.
            pub fn parse(name: &str, reader: &mut AttributeReader) -> Option<Result<Op, String>> {
                match name { $($ty::NAME => Some($ty::parse_attributes(reader).map(Op::$ty)),)* _ => None }
            }
            /// The names of all ops in the IR text.
            pub const NAMES: &'static [&'static str] = &[$($ty::NAME),*];
        }
    };
}

operations! {
    layers {
        activation::Activate,
        adaptive_avg_pool::AdaptiveAvgPool,
        avg_pool::AvgPool,
        batch_norm::BatchNorm,
        binary::Binary,
        channel_affine::ChannelAffine,
        channel_constants::ChannelConstants,
        channel_shuffle::ChannelShuffle,
        compact::Compact,
        concat::Concat,
        constant::Constant,
        conv2d::Conv2d,
        conv_transpose2d::ConvTranspose2d,
        dropout::Dropout,
        flatten::Flatten,
        global_pool::GlobalPool,
        identity::Identity,
        instance_norm::InstanceNorm,
        layer_norm::LayerNorm,
        linear::Linear,
        lrn::Lrn,
        group_norm::GroupNorm,
        matmul::MatMul,
        max_pool::MaxPool,
        nms::Nms,
        pad::Pad,
        pixel_shuffle::PixelShuffle,
        pixel_unshuffle::PixelUnshuffle,
        prelu::PRelu,
        reduce::Reduce,
        reshape::Reshape,
        slice::Slice,
        softmax::Softmax,
        transpose::Transpose,
        upsample::Upsample,
        select::Where,
        arg_reduce::ArgReduce,
        cast::Cast,
        cumsum::CumSum,
        gather::Gather,
        gather_elements::GatherElements,
        gather_nd::GatherNd,
        index_select::IndexSelect,
        scatter_elements::ScatterElements,
        scatter_nd::ScatterNd,
        topk::TopK,
    }
    composed {
        constant_values::ConstantValues,
        conv_nd::ConvNd,
        deform_conv2d::DeformConv2d,
        dynamic_conv2d::DynamicConv2d,
        dynamic_quantize::DynamicQuantize,
        expand_images::ExpandImages,
        grid_sample::GridSample,
        pool_nd::PoolNd,
        recurrence::Recurrence,
        recurrent::Recurrent,
        roi_align::RoiAlign,
        roi_pool::RoiPool,
    }
    quantized {
        Conv2dW8,
        ConvTranspose2dW8,
        Dequantize,
        FakeQuantize,
        LinearW8,
        Quantize,
        QuantizedAdaptiveAvgPool,
        QuantizedAvgPool,
        QuantizedAffine,
        QuantizedBinary,
        QuantizedConv2d,
        QuantizedConvTranspose2d,
        QuantizedGlobalPool,
        QuantizedLinear,
        Requantize,
    }
    training {
        activation_gradient::ActivationGradient,
        adaptive_avg_pool_gradient::AdaptiveAvgPoolGradient,
        avg_pool_gradient::AvgPoolGradient,
        batch_norm_input_gradient::BatchNormInputGradient,
        batch_norm_sums::BatchNormSums,
        batch_norm_train::BatchNormTrain,
        channel_moments::ChannelMoments,
        clip_factor::ClipFactor,
        conv2d_weight_gradient::Conv2dWeightGradient,
        cross_entropy::CrossEntropy,
        cross_entropy_gradient::CrossEntropyGradient,
        dropout_mask::DropoutMask,
        expand::Expand,
        extreme_gradient::ExtremeGradient,
        fill::Fill,
        instance_norm_gradient::InstanceNormGradient,
        layer_norm_gradient::LayerNormGradient,
        lrn_gradient::LrnGradient,
        max_pool_gradient::MaxPoolGradient,
        optimizer_update::OptimizerUpdate,
        pad_gradient::PadGradient,
        pointwise_loss::PointwiseLoss,
        pointwise_loss_gradient::PointwiseLossGradient,
        prelu_gradient::PReluGradient,
        reduce_max_gradient::ReduceMaxGradient,
        roi_align_gradient::RoiAlignGradient,
        slice_gradient::SliceGradient,
        softmax_gradient::SoftmaxGradient,
        squared_norm::SquaredNorm,
        upsample_gradient::UpsampleGradient,
    }
}

/// No value may hold more elements than this (16 GiB of f32): a limit against runaway specs.
pub const MAX_ELEMENTS: usize = 1 << 32;

/// Requires a size within netc's limit and no empty axis.
pub(crate) fn check_size(what: &str, shape: &Shape) -> Result<(), ShapeError> {
    if shape.dims().contains(&0) {
        return Err(ShapeError::new(format!("{what} would be empty: {shape}")));
    }
    match shape.checked_elements() {
        Some(n) if n <= MAX_ELEMENTS => Ok(()),
        _ => Err(ShapeError::new(format!("{what} {shape} is larger than netc's limit of {MAX_ELEMENTS} elements"))),
    }
}

/// Requires that all operands have the same shape, and gives it.
pub(crate) fn same_shapes(inputs: &[&Shape]) -> Result<Shape, ShapeError> {
    match inputs.iter().position(|shape| *shape != inputs[0]) {
        None => Ok(inputs[0].clone()),
        Some(i) => {
            Err(ShapeError::new(format!("{} and {} differ", inputs[0], inputs[i])).operand(i).between_operands())
        }
    }
}

/// Requires an operand that is one number.
pub(crate) fn check_number(inputs: &[&Shape], index: usize) -> Result<(), ShapeError> {
    match inputs[index].rank() {
        0 => Ok(()),
        _ => Err(ShapeError::new(format!("{} is not one number", inputs[index])).operand(index)),
    }
}

/// Requires a rank-4 operand `[N, C, H, W]`.
pub(crate) fn image_shape(inputs: &[&Shape], index: usize, what: &str) -> Result<[usize; 4], ShapeError> {
    inputs[index].nchw().ok_or_else(|| {
        let error =
            ShapeError::new(format!("{what} needs an image [N, C, H, W], not {}", inputs[index])).operand(index);
        match inputs[index].dims() {
            [c, h, w] => {
                let help = format!("an input of images begins with the batch: f32[N, {c}, {h}, {w}]");
                match what.trim_end_matches("2d") {
                    layer @ ("conv" | "max_pool" | "avg_pool") => {
                        error.help(format!("{help}; of rows [N, C, L] it is `{layer}1d`"))
                    }
                    _ => error.help(help),
                }
            }
            _ => error,
        }
    })
}

/// The size of axis 1 of the first operand, which must have one.
pub(crate) fn channels_of(inputs: &[&Shape], what: &str) -> Result<usize, ShapeError> {
    inputs[0].dims().get(1).copied().ok_or_else(|| {
        ShapeError::new(format!("{what} needs a channel axis [N, C, ...], not {}", inputs[0])).operand(0)
    })
}

/// Requires sizes of a parameter to be at least 1. The language checks that by type; IR text comes here.
pub(crate) fn positive(param: &'static str, sizes: &[usize]) -> Result<(), ShapeError> {
    match sizes.contains(&0) {
        false => Ok(()),
        true => Err(ShapeError::new(format!("{param} must be at least 1")).param(param)),
    }
}

/// Requires an `eps` that a variance stays one with.
pub(crate) fn check_eps(eps: f32) -> Result<(), ShapeError> {
    match (0.0..f32::INFINITY).contains(&eps) {
        true => Ok(()),
        false => Err(ShapeError::new(format!("eps is a number from 0 on, not {eps:?}")).param("eps")),
    }
}

/// Requires that `groups` is at least 1 and divides the input and the output channels.
pub(crate) fn check_groups(groups: usize, input: usize, output: usize) -> Result<(), ShapeError> {
    positive("groups", &[groups])?;
    if input % groups != 0 {
        return Err(ShapeError::new(format!("groups = {groups} does not divide the {input} input channels"))
            .param("groups")
            .operand(0));
    }
    if output % groups != 0 {
        return Err(
            ShapeError::new(format!("groups = {groups} does not divide the {output} output channels")).param("groups")
        );
    }
    Ok(())
}

/// Requires that `shape` has the axis.
pub(crate) fn check_axis(axis: usize, shape: &Shape) -> Result<(), ShapeError> {
    if axis < shape.rank() {
        return Ok(());
    }
    Err(ShapeError::new(format!("{shape} has no axis {axis}")).param("axis").operand(0))
}

/// Output size of a sliding window along one axis, rounding down.
///
/// # Errors
/// Where the window (with dilation) is larger than the padded input.
pub(crate) fn window_output(
    axis: &str,
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: (usize, usize),
) -> Result<usize, ShapeError> {
    let too_large = || ShapeError::new(format!("the window's {axis} overflows")).param("kernel");
    let extent = (kernel - 1).checked_mul(dilation).and_then(|e| e.checked_add(1)).ok_or_else(too_large)?;
    let padded = input.checked_add(pad.0).and_then(|p| p.checked_add(pad.1)).ok_or_else(too_large)?;
    if extent > padded {
        let with = if padded == input { String::new() } else { format!(" ({input} with padding)") };
        return Err(ShapeError::new(format!(
            "kernel {axis} {extent} is larger than the input's {axis} {padded}{with}"
        ))
        .param("kernel")
        .operand(0));
    }
    Ok((padded - extent) / stride + 1)
}
