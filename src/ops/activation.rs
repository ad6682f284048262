//! Elementwise functions of one value: relu and its kin, clip, scale.

use super::attributes::{AttributeValue, attributes, split_top_level};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::number::Number;
use super::{ActivationGradient, ChannelConstants, Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

/// Declares [`Activation`]: a row is all that there is to know about a function but its code, which
/// `codegen::kernels::epilogue` has by an exhaustive match. Code of the derivatives is made of the row's formulas: they
/// are written for any [`Number`]. A parameter is f32 in the enum, f64 in the row's formulas, and stands with the value that [`Activation::EACH`] takes. Layers are listed as help shows them.
macro_rules! activations {
    ($(
        $(#[$meta:meta])*
        $variant:ident $({ $($p:ident = $sample:expr),* })? = $name:literal {
            value($x:ident) = $value:expr;
            derivative($dx:ident) = $derivative:expr;
            of_output($y:ident) = $of_output:expr;
            total = $total:expr;
            bounded = $bounded:expr;
            monotonic = $monotonic:expr;
            layers = [$($layer:expr),* $(,)?];
        }
    )*) => {
        /// An elementwise function f: R → R. Of NaN it is NaN, of an infinity the limit or what the formula
        /// says; see there.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Activation {$(
            $(#[$meta])*
            #[allow(missing_docs, reason = "the formula says what its parameters are")]
            $variant $({ $($p: f32),* })?
        ),*}

        #[allow(unused_variables, reason = "few formulas have all parameters in them")]
        impl Activation {
            /// One of each kind.
            pub const EACH: &'static [Activation] = &[$(Activation::$variant $({ $($p: $sample),* })?),*];

            /// The function itself, in f64.
            pub fn evaluate(self, x: f64) -> f64 {
                match self {$(
                    Activation::$variant $({ $($p),* })? => { $($(let $p = f64::from($p);)*)? let $x = x; $value }
                )*}
            }

            /// f′(x) for finite x. At a knee, where f has none, it is the smaller slope where one side is flat,
            /// the left one of leaky_relu and elu, and 0 of abs: as in PyTorch, whose `clamp` alone differs.
            pub fn derivative<T: Number>(self, x: T) -> T {
                match self {$(
                    Activation::$variant $({ $($p),* })? => { $($(let $p = f64::from($p);)*)? let $dx = x; $derivative }
                )*}
            }

            /// f′(x) by y = f(x), which spares keeping x; `None` where y does not tell, or only by inverting f.
            pub fn derivative_of_output<T: Number>(self, y: T) -> Option<T> {
                match self {$(
                    Activation::$variant $({ $($p),* })? => { $($(let $p = f64::from($p);)*)? let $y = y; $of_output }
                )*}
            }

            /// f is finite wherever its argument is. Where it is not, what no channel stands for must be kept
            /// from it: it would no longer be a number that can be multiplied by 0.
            pub fn is_total(self) -> bool {
                match self { $(Activation::$variant $({ $($p),* })? => { $($(let $p = f64::from($p);)*)? $total })* }
            }

            /// All of f lies between two finite numbers.
            pub fn is_bounded(self) -> bool {
                match self { $(Activation::$variant $({ $($p),* })? => { $($(let $p = f64::from($p);)*)? $bounded })* }
            }

            /// f never falls as x grows: such a function commutes with max pooling.
            pub fn is_monotonic(self) -> bool {
                match self { $(Activation::$variant $({ $($p),* })? => { $($(let $p = f64::from($p);)*)? $monotonic })* }
            }

            /// The name in the IR text, and the parameters in their order.
            pub fn parts(self) -> (&'static str, Vec<f32>) {
                match self { $(Activation::$variant $({ $($p),* })? => ($name, vec![$($($p),*)?]),)* }
            }

            fn from_parts(name: &str, parameters: &[f32]) -> Option<Self> {
                match (name, parameters) {
                    $(($name, &[$($($p),*)?]) => Some(Activation::$variant $({ $($p),* })?),)*
                    _ => None,
                }
            }

            /// Small differences of the argument make small differences of the result.
            pub fn is_continuous(self) -> bool {
                use Activation::{AtLeast, AtMost, Ceil, EqualTo, Floor, GreaterThan, IsInf, IsNan, LessThan};
                use Activation::{NotEqualTo, Round, Sign, Trunc};
                !matches!(
                    self,
                    Sign | Floor
                        | Ceil
                        | Round
                        | Trunc
                        | IsNan
                        | IsInf
                        | EqualTo { .. }
                        | NotEqualTo { .. }
                        | GreaterThan { .. }
                        | AtLeast { .. }
                        | LessThan { .. }
                        | AtMost { .. }
                )
            }

            const LAYERS: &'static [Layer] = &[$($($layer,)*)*];
        }
    };
}

/// A layer without parameters that makes one function.
macro_rules! plain {
    ($name:literal, $doc:literal, $kind:expr) => {
        Layer {
            name: $name,
            doc: $doc,
            arity: Arity::Unary,
            params: &[],
            build: |_| of($kind),
            arguments: |op| (kind_of(op)? == $kind).then(Vec::new),
        }
    };
}

/// A layer that compares with one number.
macro_rules! comparison {
    ($name:literal, $doc:literal, $variant:ident) => {
        Layer {
            name: $name,
            doc: $doc,
            arity: Arity::Unary,
            params: &[param("number", ParamType::Float, Preset::Required, "what x is compared with")],
            build: |a| of(Activation::$variant { number: a.float("number") }),
            arguments: |op| match kind_of(op)? {
                Activation::$variant { number } => Some(vec![("number", number.into())]),
                _ => None,
            },
        }
    };
}

activations! {
    /// max(x, 0)
    Relu = "relu" {
        value(x) = if x < 0.0 { 0.0 } else { x };
        derivative(x) = x.if_above(0.0, x.constant(1.0), x.constant(0.0));
        of_output(y) = Some(y.if_above(0.0, y.constant(1.0), y.constant(0.0)));
        total = true;
        bounded = false;
        monotonic = true;
        layers = [
            plain!("relu", "max(x, 0)", Activation::Relu),
            // A clip, which readers of `netc help layers` look for here.
            plain!("relu6", "min(max(x, 0), 6)", Activation::Clip { min: 0.0, max: 6.0 }),
        ];
    }
    /// x where x ≥ 0, else slope · x
    LeakyRelu { slope = 0.2 } = "leaky_relu" {
        value(x) = if x < 0.0 { x * slope } else { x };
        derivative(x) = x.if_above(0.0, x.constant(1.0), x.constant(slope));
        of_output(y) = (slope >= 0.0).then(|| y.if_above(0.0, y.constant(1.0), y.constant(slope)));
        total = true;
        bounded = false;
        monotonic = slope >= 0.0;
        layers = [Layer {
            name: "leaky_relu",
            doc: "x where x >= 0, else slope * x",
            arity: Arity::Unary,
            params: &[param("slope", ParamType::Float, Preset::Float(0.01), "factor of negative values")],
            build: |a| of(Activation::LeakyRelu { slope: a.float("slope") }),
            arguments: |op| match kind_of(op)? {
                Activation::LeakyRelu { slope } => Some(vec![("slope", slope.into())]),
                _ => None,
            },
        }];
    }
    /// x where x ≥ 0, else alpha · (exp(x) − 1)
    Elu { alpha = 0.7 } = "elu" {
        value(x) = if x < 0.0 { alpha * x.exp_m1() } else { x };
        derivative(x) = x.if_above(0.0, x.constant(1.0), x.exp() * alpha);
        of_output(y) = (alpha >= 0.0).then(|| y.if_above(0.0, y.constant(1.0), y + alpha));
        total = true;
        bounded = false;
        monotonic = alpha >= 0.0;
        layers = [Layer {
            name: "elu",
            doc: "x where x >= 0, else alpha * (exp(x) - 1)",
            arity: Arity::Unary,
            params: &[param("alpha", ParamType::Float, Preset::Float(1.0), "limit of negative values")],
            build: |a| of(Activation::Elu { alpha: a.float("alpha") }),
            arguments: |op| match kind_of(op)? {
                Activation::Elu { alpha } => Some(vec![("alpha", alpha.into())]),
                _ => None,
            },
        }];
    }
    /// 1 / (1 + exp(−x))
    Sigmoid = "sigmoid" {
        value(x) = sigmoid(x);
        derivative(x) = x.sigmoid() * (-x).sigmoid();
        of_output(y) = Some(y * (-y + 1.0));
        total = true;
        bounded = true;
        monotonic = true;
        layers = [plain!("sigmoid", "1 / (1 + exp(-x))", Activation::Sigmoid)];
    }
    Tanh = "tanh" {
        value(x) = x.tanh();
        derivative(x) = -(x.tanh() * x.tanh()) + 1.0;
        of_output(y) = Some(-(y * y) + 1.0);
        total = true;
        bounded = true;
        monotonic = true;
        layers = [plain!("tanh", "hyperbolic tangent", Activation::Tanh)];
    }
    /// clip(alpha · x + beta, 0, 1); PyTorch has alpha = 1/6, beta = 1/2.
    HardSigmoid { alpha = 0.2, beta = 0.5 } = "hard_sigmoid" {
        value(x) = clip(alpha * x + beta, 0.0, 1.0);
        derivative(x) = (x * alpha + beta).if_between([0.0, 1.0], alpha, 0.0);
        of_output(y) = Some(y.if_between([0.0, 1.0], alpha, 0.0));
        total = true;
        bounded = true;
        monotonic = alpha >= 0.0;
        layers = [Layer {
            name: "hard_sigmoid",
            doc: "clip(alpha * x + beta, 0, 1)",
            arity: Arity::Unary,
            params: &[
                param("alpha", ParamType::Float, Preset::Float(1.0 / 6.0), "slope"),
                param("beta", ParamType::Float, Preset::Float(0.5), "value at 0"),
            ],
            build: |a| of(Activation::HardSigmoid { alpha: a.float("alpha"), beta: a.float("beta") }),
            arguments: |op| match kind_of(op)? {
                Activation::HardSigmoid { alpha, beta } => Some(vec![("alpha", alpha.into()), ("beta", beta.into())]),
                _ => None,
            },
        }];
    }
    /// x · clip(x / 6 + 1/2, 0, 1); at −∞ NaN, as in PyTorch
    HardSwish = "hard_swish" {
        value(x) = x * clip(x / 6.0 + 0.5, 0.0, 1.0);
        derivative(x) = {
            let line = x.if_above(-3.0, x * (1.0 / 3.0) + 0.5, x.constant(0.0));
            x.if_below(3.0, line, x.constant(1.0))
        };
        of_output(y) = None;
        total = true;
        bounded = false;
        monotonic = false;
        layers = [plain!("hard_swish", "x * clip(x / 6 + 1/2, 0, 1)", Activation::HardSwish)];
    }
    /// x · sigmoid(x); at −∞ its limit, 0
    Silu = "silu" {
        value(x) = gated(x, sigmoid(x));
        // Beyond the bounds it is 0 or 1.
        derivative(x) = {
            let x = x.clamped([-87.0, 87.0]);
            x.sigmoid() + x * x.sigmoid() * (-x).sigmoid()
        };
        of_output(y) = None;
        total = true;
        bounded = false;
        monotonic = false;
        layers = [
            plain!("silu", "x * sigmoid(x)", Activation::Silu),
            Layer { arguments: |_| None, ..plain!("swish", "x * sigmoid(x), another name of silu", Activation::Silu) },
        ];
    }
    /// x · Φ(x), with the error function; at −∞ its limit, 0
    Gelu = "gelu" {
        value(x) = gated(x, normal(x));
        derivative(x) = x.normal() + x * x.density();
        of_output(y) = None;
        total = true;
        bounded = false;
        monotonic = false;
        layers = [Layer {
            name: "gelu",
            doc: "x * Phi(x)",
            arity: Arity::Unary,
            params: &[param("approximate", ParamType::Bool, Preset::Bool(false), "use the tanh approximation")],
            build: |a| of(if a.bool("approximate") { Activation::GeluTanh } else { Activation::Gelu }),
            arguments: |op| match kind_of(op)? {
                Activation::Gelu => Some(vec![("approximate", false.into())]),
                Activation::GeluTanh => Some(vec![("approximate", true.into())]),
                _ => None,
            },
        }];
    }
    /// The tanh approximation of gelu (Hendrycks and Gimpel 2016, arXiv:1606.08415); at −∞ its limit, 0
    GeluTanh = "gelu_tanh" {
        // (1 + tanh u) / 2 = sigmoid(2u), which keeps the digits of small values.
        value(x) = gated(x, sigmoid(2.0 * gelu_tanh_argument(x)));
        derivative(x) = {
            // Beyond the bounds it is 0 or 1.
            let x = x.clamped([-10.0, 10.0]);
            let u = gelu_tanh_argument(x);
            let du = (x * x * (3.0 * GELU_TANH_CUBIC) + 1.0) * GELU_TANH_SLOPE;
            (u * 2.0).sigmoid() + x * du * 2.0 * (u * 2.0).sigmoid() * (u * -2.0).sigmoid()
        };
        of_output(y) = None;
        total = true;
        bounded = false;
        monotonic = false;
        // `gelu` with `approximate`.
        layers = [];
    }
    /// ln(1 + exp(x))
    Softplus = "softplus" {
        value(x) = if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() };
        derivative(x) = x.sigmoid();
        of_output(y) = Some(-(-y).exp_m1());
        total = true;
        bounded = false;
        monotonic = true;
        layers = [plain!("softplus", "ln(1 + exp(x))", Activation::Softplus)];
    }
    /// min(max(x, min), max), where an infinite bound is none; relu6 is clip(0, 6)
    Clip { min = -1.5, max = 6.0 } = "clip" {
        value(x) = clip(x, min, max);
        derivative(x) = x.if_between([min, max], 1.0, 0.0);
        of_output(y) = Some(y.if_between([min, max], 1.0, 0.0));
        total = true;
        bounded = min.is_finite() && max.is_finite();
        monotonic = min <= max;
        layers = [Layer {
            name: "clip",
            doc: "min(max(x, min), max)",
            arity: Arity::Unary,
            params: &[
                param("min", ParamType::Float, Preset::Absent, "lower bound; none if absent"),
                param("max", ParamType::Float, Preset::Absent, "upper bound; none if absent"),
            ],
            build: |a| {
                let bound = |name, open| if a.has(name) { a.float(name) } else { open };
                let (min, max) = (bound("min", f32::NEG_INFINITY), bound("max", f32::INFINITY));
                if min > max {
                    return Err(LayerError { param: "max", message: format!("max {max} is below min {min}") });
                }
                of(Activation::Clip { min, max })
            },
            arguments: |op| match kind_of(op)? {
                // An infinite bound is none.
                Activation::Clip { min, max } => {
                    let bounds = [("min", min), ("max", max)].into_iter().filter(|(_, bound)| bound.is_finite());
                    Some(bounds.map(|(name, bound)| (name, bound.into())).collect())
                }
                _ => None,
            },
        }];
    }
    /// mul · x + add
    Scale { mul = -0.75, add = 0.25 } = "scale" {
        value(x) = mul * x + add;
        derivative(x) = x.constant(mul);
        of_output(y) = Some(y.constant(mul));
        total = true;
        bounded = mul == 0.0;
        monotonic = mul >= 0.0;
        layers = [Layer {
            name: "affine",
            doc: "mul * x + add with constants, of all channels or of each (learned values: see scale)",
            arity: Arity::Unary,
            params: &[
                param("mul", ParamType::PerChannel, Preset::Float(1.0), "factor, or a list of one for each channel"),
                param("add", ParamType::PerChannel, Preset::Float(0.0), "term, or a list of one for each channel"),
            ],
            build: |a| match (a.per_channel("mul").as_slice(), a.per_channel("add").as_slice()) {
                (&[mul], &[add]) => of(Activation::Scale { mul, add }),
                (mul, add) => ChannelConstants::of(mul, add).map_err(|message| LayerError { param: "mul", message }),
            },
            arguments: |op| match op {
                Op::ChannelConstants(op) => {
                    Some(vec![("mul", op.mul.as_slice().into()), ("add", op.add.as_slice().into())])
                }
                _ => match kind_of(op)? {
                    Activation::Scale { mul, add } => Some(vec![("mul", mul.into()), ("add", add.into())]),
                    _ => None,
                },
            },
        }];
    }
    Exp = "exp" {
        value(x) = x.exp();
        derivative(x) = x.exp();
        of_output(y) = Some(y);
        // Infinite in f32 from 88.73 on.
        total = false;
        bounded = false;
        monotonic = true;
        layers = [plain!("exp", "exp(x)", Activation::Exp)];
    }
    /// ln x; −∞ at 0, NaN below
    Log = "log" {
        value(x) = x.ln();
        derivative(x) = x.constant(1.0) / x;
        of_output(y) = Some((-y).exp());
        total = false;
        bounded = false;
        monotonic = true;
        layers = [plain!("log", "natural logarithm of x", Activation::Log)];
    }
    /// The error function, 2/√π ∫₀ˣ exp(−t²) dt
    Erf = "erf" {
        value(x) = erf(x);
        derivative(x) = (-(x * x)).exp() * std::f64::consts::FRAC_2_SQRT_PI;
        of_output(y) = None;
        total = true;
        bounded = true;
        monotonic = true;
        layers = [plain!("erf", "error function of x", Activation::Erf)];
    }
    Sqrt = "sqrt" {
        value(x) = x.sqrt();
        derivative(x) = x.constant(0.5) / x.sqrt();
        of_output(y) = Some(y.constant(0.5) / y);
        total = false;
        bounded = false;
        monotonic = true;
        layers = [plain!("sqrt", "square root of x", Activation::Sqrt)];
    }
    Abs = "abs" {
        value(x) = x.abs();
        derivative(x) = x.if_above(0.0, x.constant(1.0), x.if_below(0.0, x.constant(-1.0), x.constant(0.0)));
        of_output(y) = None;
        total = true;
        bounded = false;
        monotonic = false;
        layers = [plain!("abs", "|x|", Activation::Abs)];
    }
    /// −1, 0 or 1, as x is below, at or above 0
    Sign = "sign" {
        value(x) = if x == 0.0 || x.is_nan() { x } else { x.signum() };
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = true;
        layers = [plain!("sign", "-1, 0 or 1, as x is below, at or above 0", Activation::Sign)];
    }
    /// The largest whole number that is not above x
    Floor = "floor" {
        value(x) = x.floor();
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = false;
        monotonic = true;
        layers = [plain!("floor", "the largest whole number that is not above x", Activation::Floor)];
    }
    /// The smallest whole number that is not below x
    Ceil = "ceil" {
        value(x) = x.ceil();
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = false;
        monotonic = true;
        layers = [plain!("ceil", "the smallest whole number that is not below x", Activation::Ceil)];
    }
    /// The nearest whole number, of two the even one
    Round = "round" {
        value(x) = x.round_ties_even();
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = false;
        monotonic = true;
        layers = [plain!("round", "the nearest whole number, of two the even one", Activation::Round)];
    }
    /// x without its fraction
    Trunc = "trunc" {
        value(x) = x.trunc();
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = false;
        monotonic = true;
        layers = [plain!("trunc", "x without its fraction", Activation::Trunc)];
    }
    /// 1 where x is NaN, else 0
    IsNan = "isnan" {
        value(x) = truth(x.is_nan());
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = true;
        layers = [plain!("isnan", "1 where x is NaN, else 0", Activation::IsNan)];
    }
    /// 1 where x is infinite, of either sign, else 0
    IsInf = "isinf" {
        value(x) = truth(x.is_infinite());
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = false;
        layers = [plain!("isinf", "1 where x is infinite, else 0", Activation::IsInf)];
    }
    /// 1 where x = number, else 0
    EqualTo { number = 0.5 } = "equal_to" {
        value(x) = truth(x == number);
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = false;
        layers = [
            // 0 is what is not true.
            plain!("logical_not", "1 where x is 0, else 0", Activation::EqualTo { number: 0.0 }),
            comparison!("equal_to", "1 where x = number, else 0", EqualTo),
        ];
    }
    /// 1 where x ≠ number, and of NaN, else 0
    NotEqualTo { number = 0.5 } = "not_equal_to" {
        value(x) = truth(x != number);
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = false;
        layers = [comparison!("not_equal_to", "1 where x is not number, else 0", NotEqualTo)];
    }
    /// 1 where x > number, else 0
    GreaterThan { number = 0.5 } = "greater_than" {
        value(x) = truth(x > number);
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = true;
        layers = [comparison!("greater_than", "1 where x > number, else 0", GreaterThan)];
    }
    /// 1 where x ≥ number, else 0
    AtLeast { number = 0.5 } = "at_least" {
        value(x) = truth(x >= number);
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = true;
        layers = [comparison!("at_least", "1 where x >= number, else 0", AtLeast)];
    }
    /// 1 where x < number, else 0
    LessThan { number = 0.5 } = "less_than" {
        value(x) = truth(x < number);
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = false;
        layers = [comparison!("less_than", "1 where x < number, else 0", LessThan)];
    }
    /// 1 where x ≤ number, else 0
    AtMost { number = 0.5 } = "at_most" {
        value(x) = truth(x <= number);
        derivative(x) = x.constant(0.0);
        of_output(y) = Some(y.constant(0.0));
        total = true;
        bounded = true;
        monotonic = false;
        layers = [comparison!("at_most", "1 where x <= number, else 0", AtMost)];
    }
    Sin = "sin" {
        value(x) = x.sin();
        derivative(x) = x.cos();
        of_output(y) = None;
        total = true;
        bounded = true;
        monotonic = false;
        layers = [plain!("sin", "sine of x", Activation::Sin)];
    }
    Cos = "cos" {
        value(x) = x.cos();
        derivative(x) = -x.sin();
        of_output(y) = None;
        total = true;
        bounded = true;
        monotonic = false;
        layers = [plain!("cos", "cosine of x", Activation::Cos)];
    }
    Tan = "tan" {
        value(x) = x.tan();
        derivative(x) = x.constant(1.0) / (x.cos() * x.cos());
        of_output(y) = Some(y * y + 1.0);
        total = true;
        bounded = false;
        // It begins anew at each pole.
        monotonic = false;
        layers = [plain!("tan", "tangent of x", Activation::Tan)];
    }
    /// NaN beyond ±1
    Asin = "asin" {
        value(x) = x.asin();
        derivative(x) = x.constant(1.0) / (-(x * x) + 1.0).sqrt();
        of_output(y) = Some(y.constant(1.0) / y.cos());
        total = false;
        bounded = false;
        monotonic = true;
        layers = [plain!("asin", "arc sine of x", Activation::Asin)];
    }
    /// NaN beyond ±1
    Acos = "acos" {
        value(x) = x.acos();
        derivative(x) = x.constant(-1.0) / (-(x * x) + 1.0).sqrt();
        of_output(y) = Some(y.constant(-1.0) / y.sin());
        total = false;
        bounded = false;
        monotonic = false;
        layers = [plain!("acos", "arc cosine of x", Activation::Acos)];
    }
    Atan = "atan" {
        value(x) = x.atan();
        derivative(x) = x.constant(1.0) / (x * x + 1.0);
        of_output(y) = None;
        total = true;
        bounded = true;
        monotonic = true;
        layers = [plain!("atan", "arc tangent of x", Activation::Atan)];
    }
    /// Infinite in f32 beyond ±89.4
    Sinh = "sinh" {
        value(x) = x.sinh();
        derivative(x) = (x.exp() + (-x).exp()) * 0.5;
        of_output(y) = Some((y * y + 1.0).sqrt());
        total = false;
        bounded = false;
        monotonic = true;
        layers = [plain!("sinh", "hyperbolic sine of x", Activation::Sinh)];
    }
    /// Infinite in f32 beyond ±89.4
    Cosh = "cosh" {
        value(x) = x.cosh();
        derivative(x) = (x.exp() - (-x).exp()) * 0.5;
        of_output(y) = None;
        total = false;
        bounded = false;
        monotonic = false;
        layers = [plain!("cosh", "hyperbolic cosine of x", Activation::Cosh)];
    }
    Asinh = "asinh" {
        value(x) = asinh(x);
        derivative(x) = x.constant(1.0) / (x * x + 1.0).sqrt();
        of_output(y) = None;
        total = true;
        bounded = false;
        monotonic = true;
        layers = [plain!("asinh", "inverse hyperbolic sine of x", Activation::Asinh)];
    }
    /// NaN below 1
    Acosh = "acosh" {
        value(x) = acosh(x);
        derivative(x) = x.constant(1.0) / (x * x + -1.0).sqrt();
        of_output(y) = None;
        total = false;
        bounded = false;
        monotonic = true;
        layers = [plain!("acosh", "inverse hyperbolic cosine of x", Activation::Acosh)];
    }
    /// NaN beyond ±1, where it is infinite
    Atanh = "atanh" {
        value(x) = x.atanh();
        derivative(x) = x.constant(1.0) / (-(x * x) + 1.0);
        of_output(y) = None;
        total = false;
        bounded = false;
        monotonic = true;
        layers = [plain!("atanh", "inverse hyperbolic tangent of x", Activation::Atanh)];
    }
}

/// Truth values are numbers: 1 and 0.
pub(super) fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// The standard library's squares its argument.
fn asinh(x: f64) -> f64 {
    if x.abs() > 1e8 { (x.abs().ln() + std::f64::consts::LN_2).copysign(x) } else { x.asinh() }
}

/// The standard library's squares its argument.
fn acosh(x: f64) -> f64 {
    if x > 1e8 { x.ln() + std::f64::consts::LN_2 } else { x.acosh() }
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `f64::max` drops a NaN operand; comparisons written this way keep it.
fn clip(x: f64, lo: f64, hi: f64) -> f64 {
    if x < lo {
        lo
    } else if x > hi {
        hi
    } else {
        x
    }
}

/// A factor that vanishes takes x with it, also where x is infinite.
fn gated(x: f64, gate: f64) -> f64 {
    if x == f64::NEG_INFINITY { 0.0 } else { x * gate }
}

/// √(2 / π)
const GELU_TANH_SLOPE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
const GELU_TANH_CUBIC: f64 = 0.044715;

/// u of the approximation Φ(x) ≈ (1 + tanh u) / 2.
fn gelu_tanh_argument<T: Number>(x: T) -> T {
    (x * x * x * GELU_TANH_CUBIC + x) * GELU_TANH_SLOPE
}

impl AttributeValue for Activation {
    fn print(&self) -> String {
        let (name, args) = self.parts();
        match args.as_slice() {
            [] => name.to_string(),
            _ => format!("{name}({})", args.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(",")),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, args) = match text.split_once('(') {
            None => (text, vec![]),
            Some((name, rest)) => (
                name,
                split_top_level(rest.strip_suffix(')')?)
                    .into_iter()
                    .map(|a| a.parse::<f32>().ok())
                    .collect::<Option<Vec<_>>>()?,
            ),
        };
        Activation::from_parts(name, &args)
    }
}

/// Beyond this the tails of the normal distribution are computed instead of what lies between them.
const TAIL: f64 = 1.0;

/// Φ(x), the share of the normal distribution below x; its small values keep all their digits.
pub(super) fn normal(x: f64) -> f64 {
    match x {
        x if x < -TAIL => upper_tail(-x),
        x if x > TAIL => 1.0 - upper_tail(x),
        x => 0.5 + from_zero(x),
    }
}

/// The error function: erf(x) = 2 Φ(√2 x) − 1.
fn erf(x: f64) -> f64 {
    let y = x * std::f64::consts::SQRT_2;
    match y.abs() {
        a if a > TAIL => (1.0 - 2.0 * upper_tail(a)).copysign(x),
        _ => 2.0 * from_zero(y),
    }
}

/// Φ(x) − 1/2 for small x: Abramowitz and Stegun 26.2.11.
fn from_zero(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    // Each term is at most a third of the one before.
    for n in (3..75).step_by(2) {
        term *= x * x / f64::from(n);
        sum += term;
    }
    density(x) * sum
}

/// 1 − Φ(x) for x that is not small: the continued fraction of Abramowitz and Stegun 26.2.14.
fn upper_tail(x: f64) -> f64 {
    // What is left out shrinks as exp(−2x √terms).
    let terms = 20 + (400.0 / (x * x)) as usize;
    density(x) / (1..=terms).rev().fold(x, |fraction, k| x + k as f64 / fraction)
}

/// exp(−x²/2) / √2π. What rounding takes from x² would be magnified by x² / 2.
pub(super) fn density(x: f64) -> f64 {
    let square = x * x;
    let rounded_off = x.mul_add(x, -square);
    let correction = if rounded_off.is_finite() { 1.0 - rounded_off / 2.0 } else { 1.0 };
    (-square / 2.0).exp() * correction / (2.0 * std::f64::consts::PI).sqrt()
}

attributes! {
    /// Applies an [`Activation`] to every element. Any shape.
    pub struct Activate { kind: Activation }
}

fn of(kind: Activation) -> Result<Op, LayerError> {
    Ok(Activate { kind }.into())
}

fn kind_of(op: &Op) -> Option<Activation> {
    if let Op::Activate(op) = op { Some(op.kind) } else { None }
}

impl Operation for Activate {
    const NAME: &'static str = "activation";
    const LAYERS: &'static [Layer] = Activation::LAYERS;

    fn layer_name(&self) -> &'static str {
        match self.kind.parts().0 {
            "equal_to" if self.kind == (Activation::EqualTo { number: 0.0 }) => "logical_not",
            "scale" => "affine",
            "gelu_tanh" => "gelu",
            name => name,
        }
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        let (name, constants) = self.kind.parts();
        let is_bound = matches!(self.kind, Activation::Clip { .. });
        match constants.iter().find(|c| c.is_nan() || (c.is_infinite() && !is_bound)) {
            Some(c) => Err(ShapeError::new(format!("{c} is no constant of {name}"))),
            None => Ok(inputs[0].clone()),
        }
    }

    fn caution(&self) -> Option<(&'static str, String)> {
        match self.kind {
            Activation::LeakyRelu { slope } if slope < 0.0 => {
                Some(("slope", format!("the slope {slope} makes positive numbers of negative ones")))
            }
            Activation::Elu { alpha } if alpha < 0.0 => {
                Some(("alpha", format!("the alpha {alpha} makes positive numbers of negative ones")))
            }
            Activation::HardSigmoid { alpha, .. } if alpha < 0.0 => {
                Some(("alpha", format!("with the alpha {alpha} the result falls where the input grows")))
            }
            _ => None,
        }
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[])
    }

    fn evaluate(&self, inputs: &[&Tensor], _: &[&Tensor], output: &Shape) -> Tensor {
        let data = inputs[0].data().iter().map(|&v| self.kind.evaluate(f64::from(v)) as f32).collect();
        Tensor::new(output.clone(), data)
    }

    fn gradient(&self, g: &mut Gradient) -> Gradients {
        if let Activation::Scale { mul, .. } = self.kind {
            return Ok(vec![Some(g.scaled(g.of_result, mul)?)]);
        }
        let of_output = ActivationGradient::is_told_by_output(self.kind);
        let value = if of_output { g.result } else { g.operands[0] };
        Ok(vec![Some(g.add(ActivationGradient { kind: self.kind, of_output }, &[value, g.of_result])?)])
    }
}
