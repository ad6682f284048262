//! ONNX operators: how each becomes operations of netc.
//!
//! An operator is a row in [`find`] and a function in the file of its family. It gets its inputs as
//! values of the model's shapes, builds through [`Draft`], and gives its results. What it cannot
//! do it says in words that name what would be needed.
//!
//! A node is read as it stands: what several spell together (GELU, gates, norms, shuffles) passes recognise, which
//! whoever imports runs next. Three things look beyond the node, since they are gone when there is a graph:
//!
//! - arrays become weights of the layer before ([`channels`], and columns of a linear layer behind an image with
//!   channels last): as constants of a graph they would be weights already, of which passes may not ask what they
//!   hold, and which have names;
//! - moves of axes are views, most of which cancel ([`super::view`]);
//! - padding before a convolution or pool is its own ([`conv`]), as the language writes it.

mod attention;
mod channels;
mod contrib;
mod conv;
mod counted;
mod einsum;
mod elementwise;
mod foreign;
mod indices;
mod kernel;
mod layer_norm;
mod linear;
mod norm;
mod packed;
mod pool;
mod positions;
mod powers;
mod quantized;
mod recurrent;
mod resize;
mod sampling;
mod sequences;
mod shape;
mod spectral;
mod volume;

use super::call::{Call, Value};
use super::draft::Draft;
use super::proto;
use super::view::View;
pub(crate) use quantized::numbers_of_levels;

/// What an operator gives, in order.
type Results = Result<Vec<Value>, String>;

/// Builds a node's results.
pub(crate) type Convert = fn(&mut Draft, &Call) -> Results;

/// The results of an operator that computes one value.
fn one(view: View) -> Results {
    Ok(vec![Value::Data(view)])
}

/// The first value that another operator's function gave.
fn single(results: Vec<Value>) -> Result<View, String> {
    match results.into_iter().next() {
        Some(Value::Data(view)) => Ok(view),
        Some(Value::Known(_)) => Err("its result is known before the model runs".into()),
        _ => Err("it has no result".into()),
    }
}

/// The function for an operator.
///
/// # Errors
/// Says what netc would need to have.
pub(crate) fn find(op_type: &str) -> Result<Convert, String> {
    Ok(match op_type {
        "Conv" => conv::conv,
        "ConvTranspose" => conv::conv_transpose,
        "Col2Im" => conv::columns_to_image,
        "MaxPool" => pool::max_pool,
        "MaxUnpool" => positions::max_unpool,
        "AveragePool" => pool::average_pool,
        "GlobalAveragePool" => pool::global_average_pool,
        "GlobalMaxPool" => pool::global_max_pool,
        "BatchNormalization" => norm::batch_normalization,
        "InstanceNormalization" => norm::instance_normalization,
        "LayerNormalization" => layer_norm::layer_normalization,
        "GroupNormalization" => norm::group_normalization,
        "LRN" => norm::lrn,
        "Attention" => attention::attention,
        "Einsum" => einsum::einsum,
        "DFT" => spectral::dft,
        "STFT" => spectral::stft,
        "LpNormalization" => powers::lp_normalization,
        "LpPool" => powers::lp_pool,
        "GlobalLpPool" => powers::global_lp_pool,
        "MeanVarianceNormalization" => powers::mean_variance_normalization,
        "RMSNormalization" | "SimplifiedLayerNormalization" => powers::rms_normalization,
        "ImageScaler" => elementwise::image_scaler,
        "Affine" => elementwise::affine,
        "Gemm" => linear::gemm,
        "MatMul" => linear::matmul,
        "Add" => elementwise::add,
        "Sub" => elementwise::sub,
        "Mul" => quantized::product,
        "Div" => elementwise::div,
        "Max" => elementwise::max,
        "Min" => elementwise::min,
        "Sum" => elementwise::sum,
        "Mean" => elementwise::mean,
        "Pow" => elementwise::pow,
        "Relu" | "Sigmoid" | "Tanh" | "Softplus" | "HardSwish" | "Exp" | "Erf" | "Log" | "Sqrt" | "Abs" | "Neg"
        | "LeakyRelu" | "Elu" | "HardSigmoid" | "Gelu" | "Sign" | "Floor" | "Ceil" | "Round" | "Not" | "IsNaN"
        | "Sin" | "Cos" | "Tan" | "Asin" | "Acos" | "Atan" | "Sinh" | "Cosh" | "Asinh" | "Acosh" | "Atanh" => {
            elementwise::activation
        }
        "Clip" => quantized::clip,
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" => elementwise::compare,
        "Mod" => elementwise::modulo,
        "IsInf" => indices::is_infinite,
        "ThresholdedRelu" => indices::thresholded,
        "Shrink" => indices::shrink,
        "Where" => indices::choose,
        "ArgMax" | "ArgMin" => indices::arg_reduce,
        "Hardmax" => indices::hardmax,
        "TopK" => indices::top_k,
        "GatherElements" => indices::gather_elements,
        "GatherND" => shape::gather_nd,
        "Scatter" | "ScatterElements" => indices::scatter_elements,
        "ScatterND" => indices::scatter_nd,
        "CumSum" => indices::cumulative_sum,
        "OneHot" => indices::one_hot,
        "Trilu" => indices::triangle,
        "EyeLike" => indices::diagonal,
        "NonZero" => counted::non_zero,
        "NonMaxSuppression" => counted::non_max_suppression,
        "Compress" => counted::compress,
        "Unique" => counted::unique,
        "Selu" => elementwise::selu,
        "Celu" => elementwise::celu,
        "Softsign" => elementwise::softsign,
        "Mish" => elementwise::mish,
        "Swish" => elementwise::swish,
        "Reciprocal" => elementwise::reciprocal,
        "PRelu" => elementwise::prelu,
        "Softmax" | "LogSoftmax" => norm::softmax,
        "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceSum" | "ReduceProd" | "ReduceL1" | "ReduceL2"
        | "ReduceSumSquare" | "ReduceLogSum" | "ReduceLogSumExp" => pool::reduce,
        "Concat" => shape::concat,
        "Split" => shape::split,
        "Slice" => shape::slice,
        "Gather" => shape::gather,
        "Transpose" => shape::transpose,
        "Reshape" => shape::reshape,
        "Flatten" => shape::flatten,
        "Squeeze" => shape::squeeze,
        "Unsqueeze" => shape::unsqueeze,
        "Pad" => shape::pad,
        "Expand" => shape::expand,
        "Tile" => shape::tile,
        "DepthToSpace" => shape::depth_to_space,
        "SpaceToDepth" => shape::space_to_depth,
        "Resize" | "Upsample" => resize::resize,
        "Identity" | "Dropout" => shape::identity,
        "Cast" | "CastLike" => indices::cast,
        "Constant" | "ConstantOfShape" | "Shape" | "Size" | "Range" | "If" | "HannWindow" | "HammingWindow"
        | "BlackmanWindow" | "MelWeightMatrix" => depends_on_data,
        "QuantizeLinear" => quantized::quantize_linear,
        "DequantizeLinear" => quantized::dequantize_linear,
        "QLinearConv" => quantized::conv,
        "QLinearMatMul" => quantized::matmul,
        "ConvInteger" => quantized::conv_integer,
        "MatMulInteger" => quantized::matmul_integer,
        "DynamicQuantizeLinear" => quantized::dynamic,
        "LSTM" | "GRU" | "RNN" => recurrent::recurrent,
        "GridSample" => sampling::grid_sample,
        "AffineGrid" => sampling::affine_grid,
        "DeformConv" => sampling::deform_conv,
        "RoiAlign" => sampling::roi_align,
        "MaxRoiPool" => sampling::roi_pool,
        "SequenceEmpty" => sequences::empty,
        "SequenceConstruct" => sequences::construct,
        "SequenceInsert" => sequences::insert,
        "SequenceErase" => sequences::erase,
        "SequenceAt" => sequences::at,
        "SequenceLength" => sequences::length,
        "SplitToSequence" => sequences::split,
        "ConcatFromSequence" => sequences::concat,
        "Loop" | "Scan" => depends_on_data,
        _ => return Err("netc has no such operator".into()),
    })
}

/// The function for an operator that ONNX Runtime adds to the standard's; `None` where netc has none.
fn find_of_onnxruntime(op_type: &str) -> Option<Convert> {
    Some(match op_type {
        "QuantizeLinear" => quantized::quantize_linear,
        "DequantizeLinear" => quantized::dequantize_linear,
        "QLinearAdd" => quantized::add,
        "QLinearMul" => quantized::mul,
        "QLinearAveragePool" => quantized::average_pool,
        "QLinearGlobalAveragePool" => quantized::global_average_pool,
        "QLinearConcat" => quantized::concat,
        "QLinearSigmoid" => quantized::sigmoid,
        "QLinearLeakyRelu" => quantized::leaky_relu,
        "QLinearSoftmax" => quantized::softmax,
        "QLinearWhere" => quantized::choose,
        "QLinearReduceMean" => quantized::reduce_mean,
        "QGemm" => quantized::gemm,
        "MatMulIntegerToFloat" => quantized::scaled_matmul,
        "DynamicQuantizeMatMul" => quantized::dynamic_matmul,
        "MatMulNBits" => packed::matmul,
        "MatMulBnb4" => packed::matmul_bnb4,
        "GatherBlockQuantized" => packed::gather,
        "GridSample" => sampling::grid_sample,
        "DynamicQuantizeLSTM" => recurrent::with_whole_weights,
        "FusedConv" => contrib::fused_conv,
        "FusedGemm" => contrib::fused_gemm,
        "FusedMatMul" | "TransposeMatMul" => contrib::fused_matmul,
        "Gelu" | "BiasGelu" => contrib::gelu,
        "FastGelu" => contrib::fast_gelu,
        "QuickGelu" => contrib::quick_gelu,
        "SkipLayerNormalization" => contrib::skip_layer_normalization,
        _ => return None,
    })
}

/// The function for an operator of a domain that is not the standard's; `None` where netc has none.
pub(crate) fn find_of_domain(domain: &str, op_type: &str) -> Option<Convert> {
    if domain == "com.microsoft" { find_of_onnxruntime(op_type) } else { foreign::find(domain, op_type) }
}

/// Operators on levels, which get numbers of a grid as they are.
pub(crate) fn reads_levels(op_type: &str) -> bool {
    op_type.starts_with('Q')
        || op_type.ends_with("DequantizeLinear")
        || matches!(
            op_type,
            "Clip" | "ConvInteger" | "MatMulInteger" | "MatMulIntegerToFloat" | "DynamicQuantizeLinear"
        )
}

/// Operators that give elements of their operands: of numbers on a grid numbers on that grid.
pub(crate) fn moves(node: &proto::Node) -> bool {
    // Between levels others of them give whole numbers, too: see [`rounds_levels`].
    let is_nearest = |a: &proto::Attribute| a.name == "mode" && a.s() == b"nearest";
    if is_resize(&node.op_type) {
        return node.attribute.iter().all(|a| a.name != "mode") || node.attribute.iter().any(is_nearest);
    }
    matches!(
        node.op_type.as_str(),
        "MaxPool"
            | "GlobalMaxPool"
            | "Reshape"
            | "Flatten"
            | "Transpose"
            | "Squeeze"
            | "Unsqueeze"
            | "Concat"
            | "Slice"
            | "Split"
            | "Gather"
            | "Identity"
            | "Dropout"
            | "DepthToSpace"
            | "SpaceToDepth"
            | "Expand"
            | "Tile"
            | "Pad"
    )
}

fn is_resize(op_type: &str) -> bool {
    matches!(op_type, "Resize" | "Upsample")
}

/// Operators that compute with levels as with numbers, and give levels of the same grid.
pub(crate) fn rounds_levels(node: &proto::Node) -> bool {
    is_resize(&node.op_type) && !moves(node)
}

pub(crate) use quantized::{levels, whole_on_grid};
pub(crate) use shape::stacked;

/// Operators that are computed when a model is imported, or not at all.
fn depends_on_data(_: &mut Draft, _: &Call) -> Result<Vec<Value>, String> {
    Err("it depends on data; netc computes it only where its inputs are constants".into())
}
