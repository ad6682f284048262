//! How an operation appears in the language: a layer's name, its parameters and their defaults.
//!
//! The front end checks a call against [`Layer::params`] (names, types, missing ones), evaluates
//! it to [`Args`] and calls [`Layer::build`]. It never knows one layer from another. Nor does what writes
//! networks as text, which asks for [`Op::call`].

use super::Op;

/// A compile-time value of the language.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A word: a mode, a name.
    Str(String),
    /// `[1, 2, 3]`
    List(Vec<Value>),
    /// `(1, 2)`
    Tuple(Vec<Value>),
}

impl Value {
    /// What messages call the value's type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Bool(_) => "bool",
            Value::Str(_) => "string",
            Value::List(_) => "list",
            Value::Tuple(_) => "tuple",
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |items: &[Value]| items.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Value::Int(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v:?}"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::Str(v) => write!(f, "{v}"),
            Value::List(v) => write!(f, "[{}]", list(v)),
            Value::Tuple(v) => write!(f, "({})", list(v)),
        }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::Int(value as i64)
    }
}

/// The shortest number that is read back as the same f32.
impl From<f32> for Value {
    fn from(value: f32) -> Value {
        Value::Float(format!("{value:?}").parse().unwrap_or(f64::from(value)))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Str(value.into())
    }
}

impl<T: Copy + Into<Value>> From<&[T]> for Value {
    fn from(values: &[T]) -> Value {
        Value::List(values.iter().map(|&v| v.into()).collect())
    }
}

/// Sizes of two axes: one number where both are equal.
impl From<[usize; 2]> for Value {
    fn from([v, h]: [usize; 2]) -> Value {
        if v == h { v.into() } else { Value::Tuple(vec![v.into(), h.into()]) }
    }
}

/// Sizes of all sides, `[top, left, bottom, right]`: as few numbers as say it.
impl From<[usize; 4]> for Value {
    fn from([top, left, bottom, right]: [usize; 4]) -> Value {
        match (top == bottom, left == right) {
            (true, true) => [top, left].into(),
            _ => Value::Tuple([top, left, bottom, right].map(Value::from).to_vec()),
        }
    }
}

/// What a layer's parameter accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    /// A size: an integer ≥ 1.
    Size,
    /// An integer ≥ 0.
    Count,
    /// Any integer.
    Int,
    /// A place along the parameter `axis`: an integer from 0 on, or from the end; the axis's size where it is left out.
    Place,
    /// A float; integers are taken too.
    Float,
    /// A float, or the strings `inf` and `-inf`.
    Extended,
    /// One float for both axes, or `(vertical, horizontal)`.
    Float2,
    /// One float for all axes, `(vertical, horizontal)` or `(depth, vertical, horizontal)`.
    Floats3,
    /// `true` or `false`.
    Bool,
    /// A word. [`Layer::build`] checks which words it takes.
    Str,
    /// One size for both axes, or `(height, width)`; each ≥ 1.
    Size2,
    /// One count for both axes, or `(vertical, horizontal)`; each ≥ 0.
    Count2,
    /// One count for all sides, `(vertical, horizontal)`, or `(top, left, bottom, right)`.
    Pad,
    /// An axis of the value: an integer from 0 on, or from the end, -1 being the last.
    Axis,
    /// A list of axes.
    Axes,
    /// One size for all axes, or `(depth, height, width)`; each ≥ 1.
    Size3,
    /// One size for all axes, `(height, width)` or `(depth, height, width)`; each ≥ 1.
    Sizes,
    /// One count for all sides, one for each of three axes, or those before each axis, then those behind each.
    Pad3,
    /// A list of integers.
    Ints,
    /// A list of floats.
    Floats,
    /// One float for all channels, or a list with one for each.
    PerChannel,
}

/// A parameter's default. `Required` has none; `Absent` lets [`Args::has`] tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preset {
    /// A call has to give it.
    Required,
    /// A call may leave it out; then it has no value.
    Absent,
    /// This integer.
    Int(i64),
    /// This number.
    Float(f64),
    /// This truth value.
    Bool(bool),
    /// This word.
    Str(&'static str),
}

impl Preset {
    /// The default, where there is one.
    pub fn value(self) -> Option<Value> {
        match self {
            Preset::Required | Preset::Absent => None,
            Preset::Int(v) => Some(Value::Int(v)),
            Preset::Float(v) => Some(Value::Float(v)),
            Preset::Bool(v) => Some(Value::Bool(v)),
            Preset::Str(v) => Some(Value::Str(v.into())),
        }
    }
}

/// One parameter of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its keyword in a call.
    pub name: &'static str,
    /// What it accepts.
    pub ty: ParamType,
    /// Its value where a call does not give it.
    pub preset: Preset,
    /// A few words for `netc help layers`.
    pub doc: &'static str,
}

/// Makes a [`Param`], for the tables in the files of the ops.
pub const fn param(name: &'static str, ty: ParamType, preset: Preset, doc: &'static str) -> Param {
    Param { name, ty, preset, doc }
}

/// How many values a layer takes besides the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// The flow only: `relu`.
    Unary,
    /// The flow, and one or more labels: `add(stem)`, `concat(a, b)`. The labels are the call's
    /// positional arguments; the operands are the flow, then the labels in order.
    Join,
    /// As `Join`, but the operation takes two values: of more, the front end joins the first two,
    /// then the result and the third, and so on.
    Fold,
    /// The flow, and labels as the call's positional arguments: as many as the operation takes, none where it takes the
    /// flow alone.
    Operands,
    /// No value: the flow begins anew with what the layer holds.
    Source,
}

impl Arity {
    /// Whether the call's positional arguments are labels.
    pub fn takes_labels(self) -> bool {
        matches!(self, Arity::Join | Arity::Fold | Arity::Operands)
    }
}

/// One layer of the language.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// Its name in a call: `conv`.
    pub name: &'static str,
    /// One sentence for `netc help layers`.
    pub doc: &'static str,
    /// Which values it takes besides the flow.
    pub arity: Arity,
    /// Positional order is this order.
    pub params: &'static [Param],
    /// Makes the operation. Argument types are already right; what remains (for example
    /// "groups do not divide channels") is the shape rule's business.
    pub build: Build,
    /// The inverse of `build`: the arguments of the call that makes the operation, or `None` where this
    /// layer does not make it. Of several layers that make it, the first that answers is the one that is
    /// written; see [`Op::call`].
    pub arguments: Inverse,
}

/// See [`Layer::build`].
///
/// # Errors
/// Names the argument that makes no such op.
pub type Build = fn(&Args) -> Result<Op, LayerError>;
/// See [`Layer::arguments`].
pub type Inverse = fn(&Op) -> Option<Arguments>;

/// Parameters and their values, in the order in which they are written. What is absent is left out, what
/// has its default is not.
pub type Arguments = Vec<(&'static str, Value)>;

impl Layer {
    /// The arguments of a call that gives none: every parameter that has a default has it.
    pub fn defaults(&self) -> Args {
        let mut args = Args::default();
        for param in self.params {
            if let Some(value) = param.preset.value() {
                args.set(param.name, value);
            }
        }
        args
    }
}

/// Why an `eps` is hardly meant that other frameworks would take for a number of channels.
pub(super) fn large_eps(eps: f32) -> Option<(&'static str, String)> {
    const DOUBTFUL: f32 = 0.5;
    (eps >= DOUBTFUL).then(|| {
        ("eps", format!("eps = {eps} is added to each variance; how many channels there are, what comes in tells"))
    })
}

/// What other frameworks call parameters of our layers: a name that a layer has is suggested in place of one that it
/// does not have.
pub const FOREIGN_PARAMETERS: &[(&str, &str)] = &[
    ("dim", "axis"),
    ("dim", "axes"),
    ("dims", "perm"),
    ("dims", "axes"),
    ("axis", "axes"),
    ("keepdim", "keepdims"),
    ("out_channels", "channels"),
    ("out_features", "features"),
    ("filters", "channels"),
    ("units", "features"),
    ("padding", "pad"),
    ("pads", "pad"),
    ("strides", "stride"),
    ("dilation_rate", "dilation"),
    ("output_padding", "output_pad"),
    ("output_size", "output"),
    ("scale_factor", "scale"),
    ("upscale_factor", "factor"),
    ("downscale_factor", "factor"),
    ("negative_slope", "slope"),
    ("ceil_mode", "ceil"),
    ("num_groups", "groups"),
    ("group", "groups"),
    ("epsilon", "eps"),
    ("normalized_shape", "axes"),
    ("hidden_size", "hidden"),
    ("num_layers", "layers"),
    ("min_val", "min"),
    ("max_val", "max"),
];

/// Parameters of other frameworks that say nothing here, and why they are left out.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("in_channels", "what comes in tells it"),
    ("in_features", "what comes in tells it"),
    ("num_features", "what comes in tells it"),
    ("num_channels", "what comes in tells it"),
    ("input_size", "what comes in tells it"),
    ("input_shape", "what comes in tells it"),
    ("inplace", "where values lie in memory is netc's business"),
    ("device", "code is made for the CPU"),
    ("dtype", "numbers are f32; `cast` says what enters and leaves as something else"),
    ("momentum", "running statistics take a tenth of each batch's"),
    ("track_running_stats", "statistics run in training, and are used in inference"),
];

/// What other frameworks call our layers, in lower case without underscores: for suggestions.
pub const FOREIGN_NAMES: &[(&str, &str)] = &[
    ("conv2d", "conv"),
    ("convolution", "conv"),
    ("convtranspose2d", "conv_transpose"),
    ("conv2dtranspose", "conv_transpose"),
    ("deconv", "conv_transpose"),
    ("deconvolution", "conv_transpose"),
    ("dense", "linear"),
    ("fc", "linear"),
    ("fullyconnected", "linear"),
    ("gemm", "linear"),
    ("bn", "batch_norm"),
    ("batchnorm2d", "batch_norm"),
    ("batchnormalization", "batch_norm"),
    ("pool", "max_pool"),
    ("maxpool2d", "max_pool"),
    ("maxpooling2d", "max_pool"),
    ("avgpool2d", "avg_pool"),
    ("averagepool", "avg_pool"),
    ("averagepooling2d", "avg_pool"),
    ("gap", "global_avg_pool"),
    ("globalaveragepool", "global_avg_pool"),
    ("globalaveragepooling2d", "global_avg_pool"),
    ("localresponsenorm", "lrn"),
    ("cat", "concat"),
    ("concatenate", "concat"),
    ("eltwise", "add"),
    ("sum", "add"),
    ("plus", "add"),
    ("multiply", "mul"),
    ("subtract", "sub"),
    ("view", "reshape"),
    ("logsoftmax", "log_softmax"),
    ("lrelu", "leaky_relu"),
    ("hardswish", "hard_swish"),
    ("interpolate", "upsample"),
    ("resize", "upsample"),
    ("depthtospace", "pixel_shuffle"),
    ("permute", "transpose"),
    ("batchnorm1d", "batch_norm"),
    ("dropout2d", "dropout"),
    ("upsampling2d", "upsample"),
    ("squeeze", "reshape"),
    ("unsqueeze", "reshape"),
    ("chunk", "slice"),
    ("split", "slice"),
    ("mean", "reduce_mean"),
    ("maxpooling1d", "max_pool1d"),
    ("adaptiveavgpool2d", "adaptive_avg_pool"),
    ("maxpool1d", "max_pool1d"),
    ("maxpool3d", "max_pool3d"),
    ("avgpool1d", "avg_pool1d"),
    ("avgpool3d", "avg_pool3d"),
    ("convtranspose1d", "conv_transpose1d"),
    ("convtranspose3d", "conv_transpose3d"),
    ("gridsample", "grid_sample"),
    ("deformconv2d", "deform_conv"),
    ("roialign", "roi_align"),
    ("roipool", "roi_pool"),
    ("maxroipool", "roi_pool"),
    ("zeropad", "pad"),
    ("zeropad2d", "pad"),
    ("zeropadding2d", "pad"),
    ("reflectionpad2d", "pad"),
    ("constantpad1d", "pad"),
];

/// What other frameworks have as layers and netc writes in several, in lower case without underscores: how it is
/// written.
pub const WRITTEN_OUT: &[(&str, &str)] = &[
    ("attention", "attention is `linear`, `matmul` and `softmax(axis = -1)`; `netc help cookbook` shows it"),
    ("selfattention", "attention is `linear`, `matmul` and `softmax(axis = -1)`; `netc help cookbook` shows it"),
    ("multiheadattention", "attention is `linear`, `matmul` and `softmax(axis = -1)`; `netc help cookbook` shows it"),
    ("mha", "attention is `linear`, `matmul` and `softmax(axis = -1)`; `netc help cookbook` shows it"),
    ("transformer", "attention is `linear`, `matmul` and `softmax(axis = -1)`; `netc help cookbook` shows it"),
    ("embedding", "rows of a table: `table: parameter([1000, 64], std = 0.02)`, then `gather(tokens)`"),
    ("affinegrid", "positions times a matrix: `constant` and `matmul`; `netc help cookbook` shows it"),
    ("depthwiseconv", "a convolution of each channel by itself: `conv(in.channels, 3, pad = 1, groups = in.channels)`"),
    (
        "depthwiseconv2d",
        "a convolution of each channel by itself: `conv(in.channels, 3, pad = 1, groups = in.channels)`",
    ),
    ("separableconv", "two convolutions: `conv(in.channels, 3, pad = 1, groups = in.channels)  conv(64, 1)`"),
    ("separableconv2d", "two convolutions: `conv(in.channels, 3, pad = 1, groups = in.channels)  conv(64, 1)`"),
    ("selu", "a scaled elu: `elu(1.6732632)  affine(1.0507010)`"),
    ("celu", "with alpha = 1 it is `elu`; else `affine(1 / 2)  elu  affine(2)` for alpha = 2"),
    ("hardtanh", "`clip(-1, 1)`"),
    ("stack", "`reshape` gives each value the new axis, and `concat` joins them along it"),
    ("norm", "there are `batch_norm`, `layer_norm`, `group_norm` and `instance_norm`"),
    ("l2norm", "`sum: { mul(here)  reduce_sum([1])  sqrt }`, then `from(in)  div(sum)`"),
    ("rmsnorm", "`mean: { mul(here)  reduce_mean([-1])  affine(1, 1e-6)  sqrt }`, then `from(in)  div(mean)`"),
    ("mish", "x * tanh(softplus(x)): `x: identity  softplus  tanh  mul(x)`"),
    ("square", "`mul(here)` multiplies a value by itself"),
    ("se", "a squeeze-and-excitation block is a module of five layers; `netc help cookbook` shows it"),
    ("seblock", "a squeeze-and-excitation block is a module of five layers; `netc help cookbook` shows it"),
    ("squeezeexcite", "a squeeze-and-excitation block is a module of five layers; `netc help cookbook` shows it"),
    ("squeezeexcitation", "a squeeze-and-excitation block is a module of five layers; `netc help cookbook` shows it"),
    ("nn", "layers have no prefix: `conv(8, 3)`"),
    ("torch", "layers have no prefix: `conv(8, 3)`"),
    ("keras", "layers have no prefix: `conv(8, 3)`"),
    ("tf", "layers have no prefix: `conv(8, 3)`"),
    ("f", "layers and strings have no prefix: `relu`, `\"level{i}\"`"),
    ("self", "a layer is written where it works, `conv1: conv(8, 3)`; a label names it"),
    ("sequential", "layers stand one behind the other; `module name { … }` gives them a name"),
    ("skip", "`residual { … }` adds a block's input to what it gives"),
    ("shortcut", "`residual { … }` adds a block's input to what it gives"),
];

/// How a layer of another framework is written here, where it takes several.
pub fn written_out(name: &str) -> Option<&'static str> {
    let plain = name.to_lowercase().replace('_', "");
    WRITTEN_OUT.iter().find(|(other, _)| *other == plain).map(|(_, text)| *text)
}

/// How the function of two values that a layer is is written of a value and a number.
const WITH_A_NUMBER: &[(&str, &str)] = &[
    ("add", "a number is added by `affine(add = 0.5)`"),
    ("sub", "a number is subtracted by `affine(add = -0.5)`; 1 - x is `affine(-1, 1)`"),
    ("mul", "a factor is `affine(0.5)`"),
    ("div", "a divisor is a factor: `affine(1 / 2)`"),
    ("max", "the larger of x and a number is `clip(min = 0)`"),
    ("min", "the smaller of x and a number is `clip(max = 6)`"),
    ("pow", "x * x is `mul(here)`; roots are `sqrt`"),
    ("equal", "with a number it is `equal_to(0)`"),
    ("not_equal", "with a number it is `not_equal_to(0)`"),
    ("greater", "with a number it is `greater_than(0)`"),
    ("greater_equal", "with a number it is `at_least(0)`"),
    ("less", "with a number it is `less_than(0)`"),
    ("less_equal", "with a number it is `at_most(0)`"),
];

/// How a join is written whose other value is a number.
pub fn with_a_number(join: &str) -> Option<&'static str> {
    WITH_A_NUMBER.iter().find(|(layer, _)| *layer == join).map(|(_, text)| *text)
}

/// A wrong argument, to be shown at that argument.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerError {
    /// The argument's parameter.
    pub param: &'static str,
    /// What is wrong with it, for the label under the argument.
    pub message: String,
}

/// A call's arguments after the front end has checked their types and filled in defaults.
#[derive(Clone, Debug, Default)]
pub struct Args {
    values: Vec<(&'static str, Value)>,
}

impl Args {
    /// Gives a parameter a value, in place of the one that it may have.
    pub fn set(&mut self, name: &'static str, value: Value) {
        self.values.retain(|(n, _)| *n != name);
        self.values.push((name, value));
    }

    /// Makes a parameter absent.
    pub fn remove(&mut self, name: &str) {
        self.values.retain(|(n, _)| *n != name);
    }

    /// Whether a parameter has a value, its own or its default.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value, where there is one.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    fn need(&self, name: &str) -> &Value {
        self.get(name).unwrap_or_else(|| panic!("layer table: parameter {name} has neither value nor default"))
    }

    /// The value of a [`ParamType::Int`], [`ParamType::Place`], [`ParamType::Size`], [`ParamType::Count`] or
    /// [`ParamType::Axis`].
    ///
    /// # Panics
    /// As all readers here, where the layer's table does not declare such a parameter: the front end has checked what
    /// a user wrote.
    pub fn int(&self, name: &str) -> i64 {
        match self.need(name) {
            Value::Int(v) => *v,
            v => panic!("layer table: {name} is {}", v.type_name()),
        }
    }

    /// The value of a [`ParamType::Size`], [`ParamType::Count`], [`ParamType::Axis`] or, once it is counted from 0, a
    /// [`ParamType::Place`].
    pub fn size(&self, name: &str) -> usize {
        self.int(name) as usize
    }

    /// The value of a [`ParamType::Float`], rounded to f32.
    pub fn float(&self, name: &str) -> f32 {
        double(name, self.need(name)) as f32
    }

    /// The value of a [`ParamType::Float`], as it was written.
    pub fn double(&self, name: &str) -> f64 {
        double(name, self.need(name))
    }

    /// The value of a [`ParamType::Bool`].
    pub fn bool(&self, name: &str) -> bool {
        matches!(self.need(name), Value::Bool(true))
    }

    /// The value of a [`ParamType::Str`].
    pub fn str(&self, name: &str) -> &str {
        match self.need(name) {
            Value::Str(v) => v,
            v => panic!("layer table: {name} is {}", v.type_name()),
        }
    }

    /// `[height, width]` of a [`ParamType::Size2`] or [`ParamType::Count2`].
    pub fn size2(&self, name: &str) -> [usize; 2] {
        match self.need(name) {
            Value::Int(v) => [*v as usize; 2],
            other => {
                let v = ints_of(other);
                [v[0] as usize, v[1] as usize]
            }
        }
    }

    /// How many numbers a value is: one that is no tuple is one for all.
    pub fn count_of(&self, name: &str) -> usize {
        match self.need(name) {
            Value::List(v) | Value::Tuple(v) => v.len(),
            _ => 1,
        }
    }

    /// `[vertical, horizontal]` of a [`ParamType::Float2`].
    pub fn float2(&self, name: &str) -> [f64; 2] {
        match self.need(name) {
            Value::List(v) | Value::Tuple(v) => [double(name, &v[0]), double(name, &v[1])],
            one => [double(name, one); 2],
        }
    }

    /// `[top, left, bottom, right]` of a [`ParamType::Pad`].
    pub fn pad(&self, name: &str) -> [usize; 4] {
        match self.need(name) {
            Value::Int(v) => [*v as usize; 4],
            other => match *ints_of(other) {
                [v, h] => [v as usize, h as usize, v as usize, h as usize],
                [t, l, b, r] => [t as usize, l as usize, b as usize, r as usize],
                _ => panic!("layer table: {name} has a wrong number of sides"),
            },
        }
    }

    /// A [`ParamType::Pad`] of a sequence: before it and behind it; `None` of four numbers, which are sides of images.
    pub fn ends(&self, name: &str) -> Option<[usize; 2]> {
        match self.need(name) {
            Value::Int(v) => Some([*v as usize; 2]),
            other => match *ints_of(other) {
                [left, right] => Some([left as usize, right as usize]),
                _ => None,
            },
        }
    }

    /// The values of a [`ParamType::Axes`].
    pub fn axes(&self, name: &str) -> Vec<usize> {
        self.ints(name).into_iter().map(|axis| axis as usize).collect()
    }

    /// The numbers of a [`ParamType::Size3`], [`ParamType::Sizes`], [`ParamType::Pad3`], [`ParamType::Count2`] or of one count, as they were
    /// given: one, or several.
    pub fn counts(&self, name: &str) -> Vec<usize> {
        match self.need(name) {
            Value::Int(v) => vec![*v as usize],
            other => ints_of(other).into_iter().map(|v| v as usize).collect(),
        }
    }

    /// The values of a [`ParamType::Ints`].
    pub fn ints(&self, name: &str) -> Vec<i64> {
        ints_of(self.need(name))
    }

    /// The values of a [`ParamType::Floats`], as they were written.
    pub fn doubles(&self, name: &str) -> Vec<f64> {
        match self.need(name) {
            Value::List(v) | Value::Tuple(v) => v.iter().map(|v| double(name, v)).collect(),
            v => panic!("layer table: {name} is {}", v.type_name()),
        }
    }

    /// The values of a [`ParamType::PerChannel`], each rounded to f32: one, or one for each channel.
    pub fn per_channel(&self, name: &str) -> Vec<f32> {
        match self.need(name) {
            Value::List(_) | Value::Tuple(_) => self.floats(name),
            one => vec![double(name, one) as f32],
        }
    }

    /// The values of a [`ParamType::Floats`], each rounded to f32.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        match self.need(name) {
            Value::List(v) | Value::Tuple(v) => v.iter().map(|v| double(name, v) as f32).collect(),
            v => panic!("layer table: {name} is {}", v.type_name()),
        }
    }
}

fn double(name: &str, value: &Value) -> f64 {
    match value {
        Value::Int(v) => *v as f64,
        Value::Float(v) => *v,
        v => panic!("layer table: {name} is {}", v.type_name()),
    }
}

fn ints_of(value: &Value) -> Vec<i64> {
    match value {
        Value::List(v) | Value::Tuple(v) => v
            .iter()
            .map(|v| match v {
                Value::Int(i) => *i,
                _ => panic!("layer table: integers were checked before"),
            })
            .collect(),
        v => panic!("layer table: {} where a list was checked", v.type_name()),
    }
}
