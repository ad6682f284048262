//! Elementwise functions of one value: relu and its kin, clip, scale.

use super::attributes::{AttributeValue, attributes, split_top_level};
use super::images::{Images, apart};
use super::layer::{Arity, Layer, LayerError, ParamType, Preset, param};
use super::{Op, Operation, ShapeError};
use crate::tensor::{Shape, Tensor};

/// An elementwise function f: R → R. Of NaN it is NaN, of an infinity the limit or what the formula
/// says; see there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// max(x, 0)
    Relu,
    /// x where x ≥ 0, else slope · x
    LeakyRelu { slope: f32 },
    /// x where x ≥ 0, else alpha · (exp(x) − 1)
    Elu { alpha: f32 },
    /// 1 / (1 + exp(−x))
    Sigmoid,
    Tanh,
    /// clip(alpha · x + beta, 0, 1); PyTorch has alpha = 1/6, beta = 1/2.
    HardSigmoid { alpha: f32, beta: f32 },
    /// x · clip(x / 6 + 1/2, 0, 1); at −∞ NaN, as in PyTorch
    HardSwish,
    /// x · sigmoid(x); at −∞ its limit, 0
    Silu,
    /// x · Φ(x), with the error function; at −∞ its limit, 0
    Gelu,
    /// The tanh approximation of gelu (Hendrycks and Gimpel 2016, arXiv:1606.08415); at −∞ its limit, 0
    GeluTanh,
    /// ln(1 + exp(x))
    Softplus,
    /// min(max(x, min), max), where an infinite bound is none; relu6 is clip(0, 6)
    Clip { min: f32, max: f32 },
    /// mul · x + add
    Scale { mul: f32, add: f32 },
    Exp,
    /// ln x; −∞ at 0, NaN below
    Log,
    Sqrt,
    Abs,
    /// The error function, 2/√π ∫₀ˣ exp(−t²) dt
    Erf,
}

impl Activation {
    /// The function itself, in f64.
    pub fn evaluate(self, x: f64) -> f64 {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        // `f64::max` drops a NaN operand; comparisons written this way keep it.
        let clip = |x: f64, lo: f64, hi: f64| if x < lo { lo } else if x > hi { hi } else { x };
        // A factor that vanishes takes x with it, also where x is infinite.
        let gated = |x: f64, gate: f64| if x == f64::NEG_INFINITY { 0.0 } else { x * gate };
        match self {
            Activation::Relu => if x < 0.0 { 0.0 } else { x },
            Activation::LeakyRelu { slope } => if x < 0.0 { x * f64::from(slope) } else { x },
            Activation::Elu { alpha } => if x < 0.0 { f64::from(alpha) * x.exp_m1() } else { x },
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::HardSigmoid { alpha, beta } => clip(f64::from(alpha) * x + f64::from(beta), 0.0, 1.0),
            Activation::HardSwish => x * clip(x / 6.0 + 0.5, 0.0, 1.0),
            Activation::Silu => gated(x, sigmoid(x)),
            Activation::Gelu => gated(x, normal(x)),
            Activation::GeluTanh => {
                let k = (2.0 / std::f64::consts::PI).sqrt();
                // (1 + tanh u) / 2 = sigmoid(2u), which keeps the digits of small values.
                gated(x, sigmoid(2.0 * k * (x + 0.044715 * x * x * x)))
            }
            Activation::Softplus => if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() },
            Activation::Clip { min, max } => clip(x, f64::from(min), f64::from(max)),
            Activation::Scale { mul, add } => f64::from(mul) * x + f64::from(add),
            Activation::Exp => x.exp(),
            Activation::Log => x.ln(),
            Activation::Erf => erf(x),
            Activation::Sqrt => x.sqrt(),
            Activation::Abs => x.abs(),
        }
    }

    /// Its name, and its numbers in the order in which the text form has them.
    pub fn parts(self) -> (&'static str, Vec<f32>) {
        match self {
            Activation::Relu => ("relu", vec![]),
            Activation::LeakyRelu { slope } => ("leaky_relu", vec![slope]),
            Activation::Elu { alpha } => ("elu", vec![alpha]),
            Activation::Sigmoid => ("sigmoid", vec![]),
            Activation::Tanh => ("tanh", vec![]),
            Activation::HardSigmoid { alpha, beta } => ("hard_sigmoid", vec![alpha, beta]),
            Activation::HardSwish => ("hard_swish", vec![]),
            Activation::Silu => ("silu", vec![]),
            Activation::Gelu => ("gelu", vec![]),
            Activation::GeluTanh => ("gelu_tanh", vec![]),
            Activation::Softplus => ("softplus", vec![]),
            Activation::Clip { min, max } => ("clip", vec![min, max]),
            Activation::Scale { mul, add } => ("scale", vec![mul, add]),
            Activation::Exp => ("exp", vec![]),
            Activation::Log => ("log", vec![]),
            Activation::Erf => ("erf", vec![]),
            Activation::Sqrt => ("sqrt", vec![]),
            Activation::Abs => ("abs", vec![]),
        }
    }

    /// f is finite wherever its argument is. Others make infinities of the zeros with which a layout
    /// fills up its blocks.
    pub fn is_total(self) -> bool {
        !matches!(self, Activation::Exp | Activation::Log | Activation::Sqrt)
    }

    /// f never falls as x grows: such a function commutes with max pooling.
    pub fn is_monotonic(self) -> bool {
        match self {
            Activation::Relu
            | Activation::Sigmoid
            | Activation::Tanh
            | Activation::Softplus
            | Activation::Exp
            | Activation::Log
            | Activation::Erf
            | Activation::Sqrt => true,
            Activation::LeakyRelu { slope } => slope >= 0.0,
            Activation::Elu { alpha } => alpha >= 0.0,
            Activation::HardSigmoid { alpha, .. } => alpha >= 0.0,
            Activation::Clip { min, max } => min <= max,
            Activation::Scale { mul, .. } => mul >= 0.0,
            Activation::HardSwish | Activation::Silu | Activation::Gelu | Activation::GeluTanh | Activation::Abs => false,
        }
    }
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
        Some(match (name, args.as_slice()) {
            ("relu", []) => Activation::Relu,
            ("leaky_relu", &[slope]) => Activation::LeakyRelu { slope },
            ("elu", &[alpha]) => Activation::Elu { alpha },
            ("sigmoid", []) => Activation::Sigmoid,
            ("tanh", []) => Activation::Tanh,
            ("hard_sigmoid", &[alpha, beta]) => Activation::HardSigmoid { alpha, beta },
            ("hard_swish", []) => Activation::HardSwish,
            ("silu", []) => Activation::Silu,
            ("gelu", []) => Activation::Gelu,
            ("gelu_tanh", []) => Activation::GeluTanh,
            ("softplus", []) => Activation::Softplus,
            ("clip", &[min, max]) => Activation::Clip { min, max },
            ("scale", &[mul, add]) => Activation::Scale { mul, add },
            ("exp", []) => Activation::Exp,
            ("log", []) => Activation::Log,
            ("erf", []) => Activation::Erf,
            ("sqrt", []) => Activation::Sqrt,
            ("abs", []) => Activation::Abs,
            _ => return None,
        })
    }
}

/// Beyond this the tails of the normal distribution are computed instead of what lies between them.
const TAIL: f64 = 1.0;

/// Φ(x), the share of the normal distribution below x; its small values keep all their digits.
fn normal(x: f64) -> f64 {
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
fn density(x: f64) -> f64 {
    let square = x * x;
    let rounded_off = x.mul_add(x, -square);
    let correction = if rounded_off.is_finite() { 1.0 - rounded_off / 2.0 } else { 1.0 };
    (-square / 2.0).exp() * correction / (2.0 * std::f64::consts::PI).sqrt()
}

attributes! {
    /// Applies an [`Activation`] to every element. Any shape.
    pub struct Activate { kind: Activation }
}

type Build = fn(&super::layer::Args) -> Result<Op, LayerError>;

const fn plain(name: &'static str, doc: &'static str, build: Build) -> Layer {
    Layer { name, doc, arity: Arity::Unary, params: &[], build }
}

fn of(kind: Activation) -> Result<Op, LayerError> {
    Ok(Activate { kind }.into())
}

impl Operation for Activate {
    const NAME: &'static str = "activation";
    const LAYERS: &'static [Layer] = &[
        plain("relu", "max(x, 0)", |_| of(Activation::Relu)),
        plain("relu6", "min(max(x, 0), 6)", |_| of(Activation::Clip { min: 0.0, max: 6.0 })),
        Layer {
            name: "leaky_relu",
            doc: "x where x >= 0, else slope * x",
            arity: Arity::Unary,
            params: &[param("slope", ParamType::Float, Preset::Float(0.01), "factor of negative values")],
            build: |a| of(Activation::LeakyRelu { slope: a.float("slope") }),
        },
        Layer {
            name: "elu",
            doc: "x where x >= 0, else alpha * (exp(x) - 1)",
            arity: Arity::Unary,
            params: &[param("alpha", ParamType::Float, Preset::Float(1.0), "limit of negative values")],
            build: |a| of(Activation::Elu { alpha: a.float("alpha") }),
        },
        plain("sigmoid", "1 / (1 + exp(-x))", |_| of(Activation::Sigmoid)),
        plain("tanh", "hyperbolic tangent", |_| of(Activation::Tanh)),
        Layer {
            name: "hard_sigmoid",
            doc: "clip(alpha * x + beta, 0, 1)",
            arity: Arity::Unary,
            params: &[
                param("alpha", ParamType::Float, Preset::Float(1.0 / 6.0), "slope"),
                param("beta", ParamType::Float, Preset::Float(0.5), "value at 0"),
            ],
            build: |a| of(Activation::HardSigmoid { alpha: a.float("alpha"), beta: a.float("beta") }),
        },
        plain("hard_swish", "x * clip(x / 6 + 1/2, 0, 1)", |_| of(Activation::HardSwish)),
        plain("silu", "x * sigmoid(x)", |_| of(Activation::Silu)),
        plain("swish", "x * sigmoid(x), another name of silu", |_| of(Activation::Silu)),
        Layer {
            name: "gelu",
            doc: "x * Phi(x)",
            arity: Arity::Unary,
            params: &[param("approximate", ParamType::Bool, Preset::Bool(false), "use the tanh approximation")],
            build: |a| of(if a.bool("approximate") { Activation::GeluTanh } else { Activation::Gelu }),
        },
        plain("softplus", "ln(1 + exp(x))", |_| of(Activation::Softplus)),
        Layer {
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
        },
        Layer {
            name: "affine",
            doc: "mul * x + add with constants (learned values: see scale)",
            arity: Arity::Unary,
            params: &[
                param("mul", ParamType::Float, Preset::Float(1.0), "factor"),
                param("add", ParamType::Float, Preset::Float(0.0), "term"),
            ],
            build: |a| of(Activation::Scale { mul: a.float("mul"), add: a.float("add") }),
        },
        plain("exp", "exp(x)", |_| of(Activation::Exp)),
        plain("log", "natural logarithm of x", |_| of(Activation::Log)),
        plain("erf", "error function of x", |_| of(Activation::Erf)),
        plain("sqrt", "square root of x", |_| of(Activation::Sqrt)),
        plain("abs", "|x|", |_| of(Activation::Abs)),
    ];

    fn layer_name(&self) -> &'static str {
        match self.kind.parts().0 {
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
}
