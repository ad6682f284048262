//! The words of `train` blocks: what each takes, and what it makes. One row a word; arguments are checked by these
//! tables, and `netc help` prints them.

use crate::ops::Init;
use crate::ops::layer::{Args, LayerError, Param, ParamType, Preset, param};
use crate::ops::training::pointwise_loss::LossKind;
use crate::recipe::{Augmentation, Optimizer, Schedule, ScheduleKind};
use crate::tensor::Shape;

/// A word that is called like a function.
pub(crate) struct Word {
    pub name: &'static str,
    /// Values of the network that it takes before its parameters, and whether each must be given.
    pub values: &'static [(&'static str, bool)],
    pub params: &'static [Param],
    /// One sentence.
    pub doc: &'static str,
    /// A clause that holds it.
    pub example: &'static str,
}

/// What a kind of words is called, and where they stand.
pub(crate) struct Table {
    /// `optimizer`
    pub what: &'static str,
    pub words: &'static [Word],
}

impl Table {
    pub(crate) fn find(&self, name: &str) -> Option<&'static Word> {
        self.words.iter().find(|word| word.name == name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.words.iter().map(|word| word.name)
    }
}

const NO_VALUES: &[(&str, bool)] = &[];
const SCORES: &[(&str, bool)] = &[("scores", true), ("labels", false)];
const PAIR: &[(&str, bool)] = &[("x", true), ("target", true)];

const fn number(name: &'static str, preset: f64, doc: &'static str) -> Param {
    param(name, ParamType::Float, Preset::Float(preset), doc)
}

const fn required(name: &'static str, doc: &'static str) -> Param {
    param(name, ParamType::Float, Preset::Required, doc)
}

const LR: Param = required("lr", "learning rate, before the schedule");
const MOMENTUM: Param = number("momentum", 0.0, "share of the last step that is taken again");
const NESTEROV: Param = param("nesterov", ParamType::Bool, Preset::Bool(false), "look ahead by the momentum");
const DECAY: Param = number("weight_decay", 0.0, "share of the weight in its gradient");
const BETA1: Param = number("beta1", 0.9, "decay of the mean of gradients");
const BETA2: Param = number("beta2", 0.999, "decay of the mean of their squares");
const EPS: Param = number("eps", 1e-8, "added to the root in the divisor");
const WARMUP: Param = number("warmup", 0.0, "epochs in which the rate rises in a line");
const IGNORE: Param = param("ignore", ParamType::Int, Preset::Absent, "a label that does not count");

pub(crate) static LOSSES: Table = Table {
    what: "loss",
    words: &[
        Word {
            name: "cross_entropy",
            values: SCORES,
            params: &[
                number("smoothing", 0.0, "share of the label that all classes divide"),
                IGNORE,
                param(
                    "class_weights",
                    ParamType::Floats,
                    Preset::Absent,
                    "how much each class counts, one number each",
                ),
                param("balanced", ParamType::Bool, Preset::Bool(false), "let rare classes of the data count more"),
            ],
            doc: "-log softmax(scores) of the label, the mean over images or pixels. Of a model that ends in a softmax, its argument is taken.",
            example: "loss cross_entropy(logits, smoothing = 0.1)",
        },
        Word {
            name: "soft_cross_entropy",
            values: &[("scores", true), ("target", true)],
            params: &[],
            doc: "-sum(target * log softmax(scores)), the mean over images or pixels: the target is the share of each class.",
            example: "loss soft_cross_entropy(logits, target)",
        },
        Word {
            name: "distill",
            values: &[("scores", true), ("teacher", true)],
            params: &[number("temperature", 1.0, "divides both scores")],
            doc: "Cross entropy of softmax(scores / T) against softmax(teacher / T), times the square of the temperature T (Hinton et al. 2015, arXiv:1503.02531).",
            example: "loss distill(student(image), teacher(image), temperature = 4)",
        },
        Word {
            name: "bce",
            values: PAIR,
            params: &[],
            doc: "Binary cross entropy of logits, the mean. Of a model that ends in a sigmoid, its argument is taken.",
            example: "loss bce(tags, target)",
        },
        Word {
            name: "mse",
            values: PAIR,
            params: &[],
            doc: "Mean of the squared differences.",
            example: "loss mse(out, image)",
        },
        Word {
            name: "l1",
            values: PAIR,
            params: &[],
            doc: "Mean of the absolute differences.",
            example: "loss l1(out, image)",
        },
        Word {
            name: "smooth_l1",
            values: PAIR,
            params: &[number("beta", 1.0, "difference from which on it is a line")],
            doc: "A parabola near 0, a line farther out (Girshick 2015, arXiv:1504.08083).",
            example: "loss smooth_l1(box, target, beta = 0.5)",
        },
        Word {
            name: "hinge",
            values: PAIR,
            params: &[],
            doc: "Mean of max(0, 1 - target * x); targets are 1 and -1.",
            example: "loss hinge(score, target)",
        },
        Word {
            name: "wasserstein",
            values: PAIR,
            params: &[],
            doc: "Mean of -target * x; targets are 1 and -1 (Arjovsky et al. 2017, arXiv:1701.07875).",
            example: "loss wasserstein(critic(real), 1) + wasserstein(critic(fake), -1)",
        },
    ],
};

/// What stands behind the models of a step.
pub(crate) static STEP: Word = Word {
    name: "step",
    values: NO_VALUES,
    params: &[param("repeat", ParamType::Size, Preset::Int(1), "how often it is done, each time on another batch")],
    doc: "Changes the weights of its models.",
    example: "step critic(repeat = 5) { … }",
};

pub(crate) static METRICS: Table = Table {
    what: "metric",
    words: &[
        Word {
            name: "accuracy",
            values: SCORES,
            params: &[IGNORE],
            doc: "Share of the images or pixels whose highest score is the label's.",
            example: "metric accuracy(logits)",
        },
        Word {
            name: "top5",
            values: SCORES,
            params: &[IGNORE],
            doc: "Share of the images or pixels whose five highest scores hold the label's.",
            example: "metric top5(logits)",
        },
    ],
};

pub(crate) static OPTIMIZERS: Table = Table {
    what: "optimizer",
    words: &[
        Word {
            name: "sgd",
            values: NO_VALUES,
            params: &[
                LR,
                MOMENTUM,
                number("dampening", 0.0, "share of the gradient that momentum leaves out"),
                NESTEROV,
                DECAY,
            ],
            doc: "Gradient descent with momentum, as PyTorch has it.",
            example: "optimizer sgd(lr = 0.1, momentum = 0.9, nesterov = true, weight_decay = 0.0005)",
        },
        Word {
            name: "caffe_sgd",
            values: NO_VALUES,
            params: &[LR, MOMENTUM, NESTEROV, DECAY],
            doc: "Caffe's rule: the learning rate is part of the velocity, which tells once the rate changes.",
            example: "optimizer caffe_sgd(lr = 0.01, momentum = 0.9, weight_decay = 0.0005)",
        },
        Word {
            name: "adam",
            values: NO_VALUES,
            params: &[LR, BETA1, BETA2, EPS, DECAY],
            doc: "Steps by the mean of gradients over the root of their mean square (Kingma and Ba 2014, arXiv:1412.6980).",
            example: "optimizer adam(lr = 0.0002, beta1 = 0.5)",
        },
        Word {
            name: "adamw",
            values: NO_VALUES,
            params: &[
                LR,
                BETA1,
                BETA2,
                EPS,
                number("weight_decay", 0.01, "share of the weight that goes in each step, by the learning rate"),
            ],
            doc: "Adam with the decay beside the gradient (Loshchilov and Hutter 2017, arXiv:1711.05101).",
            example: "optimizer adamw(lr = 0.001, weight_decay = 0.05)",
        },
        Word {
            name: "rmsprop",
            values: NO_VALUES,
            params: &[
                LR,
                number("alpha", 0.99, "decay of the mean square"),
                EPS,
                MOMENTUM,
                param("centered", ParamType::Bool, Preset::Bool(false), "divide by the deviation"),
                DECAY,
            ],
            doc: "Gradients over the root of their mean square, as PyTorch has it.",
            example: "optimizer rmsprop(lr = 0.00005)",
        },
    ],
};

const GAMMA: Param = number("gamma", 0.1, "factor");

pub(crate) static SCHEDULES: Table = Table {
    what: "schedule",
    words: &[
        Word {
            name: "constant",
            values: NO_VALUES,
            params: &[WARMUP],
            doc: "The optimizer's rate all the time. So it is where a block has no schedule.",
            example: "schedule constant(warmup = 1)",
        },
        Word {
            name: "step",
            values: NO_VALUES,
            params: &[required("every", "epochs"), GAMMA, WARMUP],
            doc: "Times gamma every so many epochs.",
            example: "schedule step(every = 30)",
        },
        Word {
            name: "multistep",
            values: NO_VALUES,
            params: &[param("milestones", ParamType::Floats, Preset::Required, "epochs, rising"), GAMMA, WARMUP],
            doc: "Times gamma at each of some epochs.",
            example: "schedule multistep([82, 123], gamma = 0.1)",
        },
        Word {
            name: "exponential",
            values: NO_VALUES,
            params: &[required("gamma", "factor of an epoch"), WARMUP],
            doc: "Times gamma after each epoch.",
            example: "schedule exponential(gamma = 0.95)",
        },
        Word {
            name: "poly",
            values: NO_VALUES,
            params: &[number("power", 1.0, "exponent"), WARMUP],
            doc: "(1 - t / T) to a power, by steps: Caffe's `poly`.",
            example: "schedule poly(power = 0.5)",
        },
        Word {
            name: "cosine",
            values: NO_VALUES,
            params: &[number("floor", 0.0, "where it ends, as a share of the rate"), WARMUP],
            doc: "Half a cosine from the rate to its floor (Loshchilov and Hutter 2016, arXiv:1608.03983).",
            example: "schedule cosine(warmup = 5)",
        },
        Word {
            name: "one_cycle",
            values: NO_VALUES,
            params: &[
                number("rise", 0.3, "share of the run in which the rate rises"),
                number("div", 25.0, "the rate begins at this part of the highest"),
                number("final_div", 1e4, "the rate ends at this part of what it began at"),
                WARMUP,
            ],
            doc: "Up to the optimizer's rate and down again, with cosines, as PyTorch's OneCycleLR (Smith and Topin 2017, arXiv:1708.07120).",
            example: "schedule one_cycle(rise = 0.2)",
        },
    ],
};

const BY: Param = required("by", "largest change, as a share");

pub(crate) static AUGMENTATIONS: Table = Table {
    what: "augmentation",
    words: &[
        Word {
            name: "pad",
            values: NO_VALUES,
            params: &[param("pixels", ParamType::Size, Preset::Required, "pixels at each side")],
            doc: "Black pixels around.",
            example: "augment image { pad 4  random_crop 32 }",
        },
        Word {
            name: "random_crop",
            values: NO_VALUES,
            params: &[param("size", ParamType::Size2, Preset::Required, "height and width")],
            doc: "A part of this size, anywhere, in place of the preprocessing's central crop.",
            example: "augment image { pad 4  random_crop 32  flip }",
        },
        Word {
            name: "random_resized_crop",
            values: NO_VALUES,
            params: &[
                param("size", ParamType::Size2, Preset::Required, "height and width"),
                param("scale", ParamType::Float2, Preset::Absent, "least and largest share of the area: (0.08, 1)"),
                param("ratio", ParamType::Float2, Preset::Absent, "least and largest width by height: (3/4, 4/3)"),
            ],
            doc: "A part of random size and shape of the whole picture, resized, in place of the preprocessing's resize and crop (Szegedy et al. 2014, arXiv:1409.4842).",
            example: "augment image { random_resized_crop 224  flip }",
        },
        Word {
            name: "flip",
            values: NO_VALUES,
            params: &[number("p", 0.5, "probability")],
            doc: "Mirrored left to right.",
            example: "augment image { flip }",
        },
        Word {
            name: "rotation",
            values: NO_VALUES,
            params: &[required("degrees", "largest angle either way")],
            doc: "Turned about the middle; corners become black.",
            example: "augment image { rotation 10 }",
        },
        Word {
            name: "brightness",
            values: NO_VALUES,
            params: &[BY],
            doc: "Times 1 ± by.",
            example: "augment image { brightness 0.4 }",
        },
        Word {
            name: "contrast",
            values: NO_VALUES,
            params: &[BY],
            doc: "Away from the picture's mean grey, or towards it, by the factor 1 ± by.",
            example: "augment image { contrast 0.4 }",
        },
        Word {
            name: "saturation",
            values: NO_VALUES,
            params: &[BY],
            doc: "Away from each pixel's grey, or towards it, by the factor 1 ± by.",
            example: "augment image { saturation 0.4 }",
        },
        Word {
            name: "lighting",
            values: NO_VALUES,
            params: &[number("std", 0.1, "deviation of the factors")],
            doc: "AlexNet's: along the principal components of ImageNet's colours (Krizhevsky et al. 2012, section 4.1).",
            example: "augment image { lighting }",
        },
        Word {
            name: "cutout",
            values: NO_VALUES,
            params: &[param("size", ParamType::Size, Preset::Required, "pixels a side")],
            doc: "A black square (DeVries and Taylor 2017, arXiv:1708.04552).",
            example: "augment image { cutout 16 }",
        },
        Word {
            name: "mixup",
            values: NO_VALUES,
            params: &[number("alpha", 0.2, "of the Beta distribution of shares")],
            doc: "Samples and their labels mixed with others (Zhang et al. 2017, arXiv:1710.09412).",
            example: "augment image { mixup(alpha = 0.2) }",
        },
    ],
};

pub(crate) static INITS: Table = Table {
    what: "initialisation",
    words: &[
        Word {
            name: "he",
            values: NO_VALUES,
            params: &[param("fan", ParamType::Str, Preset::Str("in"), "\"in\" or \"out\"")],
            doc: "Normal with variance 2 / fan (He et al. 2015, arXiv:1502.01852).",
            example: "init he(fan = \"out\")",
        },
        Word {
            name: "xavier",
            values: NO_VALUES,
            params: &[],
            doc: "Uniform within ±sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010).",
            example: "init linear xavier",
        },
        Word {
            name: "normal",
            values: NO_VALUES,
            params: &[required("mean", "mean"), required("std", "deviation")],
            doc: "Normal.",
            example: "init conv normal(0, 0.02)",
        },
        Word {
            name: "uniform",
            values: NO_VALUES,
            params: &[required("low", "least"), required("high", "largest")],
            doc: "Uniform.",
            example: "init fc uniform(-0.05, 0.05)",
        },
        Word {
            name: "constant",
            values: NO_VALUES,
            params: &[required("value", "of all elements")],
            doc: "All the same.",
            example: "init bias constant(0.1)",
        },
    ],
};

/// What begins a statement of a block, how it is written, and what it says.
pub(crate) static CLAUSES: &[(&str, &str, &str)] = &[
    ("batch", "batch 128", "samples of a step"),
    ("epochs", "epochs 20", "passes over the data"),
    ("data", "data image: f32[N, 3, 32, 32]", "an input that the data set gives"),
    ("labels", "labels kind: class[N]", "numbers of classes that the data set gives"),
    ("noise", "noise z: normal[N, 64, 1, 1]", "random numbers, new in each step; or uniform[…], from -1 to 1"),
    ("augment", "augment image { pad 2  random_crop 28 }", "what is done to the samples of an input"),
    ("let", "let fake = generator(z)", "a name for a value"),
    ("step", "step critic(repeat = 5) { … }", "what changes the weights of these models, and how often"),
    ("loss", "loss cross_entropy(logits)", "what is made smaller"),
    ("optimizer", "optimizer sgd(lr = 0.1, momentum = 0.9)", "how weights follow their gradients"),
    ("schedule", "schedule cosine(warmup = 1)", "the learning rate by time"),
    ("clip", "clip 1.0", "the longest that all gradients together may be"),
    ("clamp", "clamp 0.01", "the largest that a weight may be, either way"),
    ("ema", "ema 0.999", "keep averages of the weights: share of the last average"),
    ("no_decay", "no_decay bias, batch_norm", "weights without decay, by layer, by role or by label"),
    ("lr_scale", "lr_scale bias 2", "factor of the learning rate, by layer, by role or by label"),
    ("freeze", "freeze conv1, layer1", "weights that stay as they are"),
    ("init", "init conv normal(0, 0.02)", "how weights begin"),
    ("metric", "metric accuracy(logits)", "what is told beside the loss"),
    ("expect", "expect train_memory(N = 32) <= 400 MiB", "what a step may take"),
];

/// What is wrong with an argument.
type Wrong = LayerError;

fn wrong<T>(param: &'static str, message: String) -> Result<T, Wrong> {
    Err(LayerError { param, message })
}

/// The argument, where it lies in what `is` says.
fn within(args: &Args, name: &'static str, ok: impl Fn(f64) -> bool, is: &str) -> Result<f64, Wrong> {
    let value = args.double(name);
    if ok(value) { Ok(value) } else { wrong(name, format!("`{name}` is {is}, not {value:?}")) }
}

fn share(args: &Args, name: &'static str) -> Result<f64, Wrong> {
    within(args, name, |v| (0.0..1.0).contains(&v), "at least 0 and less than 1")
}

fn not_negative(args: &Args, name: &'static str) -> Result<f64, Wrong> {
    within(args, name, |v| v >= 0.0, "at least 0")
}

fn positive(args: &Args, name: &'static str) -> Result<f64, Wrong> {
    within(args, name, |v| v > 0.0, "more than 0")
}

/// The kind of a loss other than cross entropy.
pub(crate) fn pointwise(name: &str) -> Option<LossKind> {
    Some(match name {
        "bce" => LossKind::Bce,
        "mse" => LossKind::Mse,
        "l1" => LossKind::L1,
        "smooth_l1" => LossKind::SmoothL1,
        "hinge" => LossKind::Hinge,
        "wasserstein" => LossKind::Wasserstein,
        _ => return None,
    })
}

pub(crate) fn optimizer(name: &str, args: &Args) -> Result<Optimizer, Wrong> {
    let (lr, weight_decay) = (positive(args, "lr")?, not_negative(args, "weight_decay")?);
    let nesterov = |momentum: f64, dampening: f64| match args.bool("nesterov") {
        true if momentum == 0.0 => wrong("nesterov", "Nesterov's step needs a momentum".into()),
        true if dampening != 0.0 => wrong("nesterov", "Nesterov's step goes with no dampening".into()),
        nesterov => Ok(nesterov),
    };
    Ok(match name {
        "sgd" => {
            let (momentum, dampening) = (share(args, "momentum")?, share(args, "dampening")?);
            Optimizer::Sgd { lr, momentum, dampening, nesterov: nesterov(momentum, dampening)?, weight_decay }
        }
        "caffe_sgd" => {
            let momentum = share(args, "momentum")?;
            Optimizer::CaffeSgd { lr, momentum, nesterov: nesterov(momentum, 0.0)?, weight_decay }
        }
        "adam" | "adamw" => {
            let (beta1, beta2, eps) = (share(args, "beta1")?, share(args, "beta2")?, positive(args, "eps")?);
            match name {
                "adam" => Optimizer::Adam { lr, beta1, beta2, eps, weight_decay },
                _ => Optimizer::AdamW { lr, beta1, beta2, eps, weight_decay },
            }
        }
        _ => Optimizer::RmsProp {
            lr,
            alpha: share(args, "alpha")?,
            eps: positive(args, "eps")?,
            momentum: share(args, "momentum")?,
            centered: args.bool("centered"),
            weight_decay,
        },
    })
}

pub(crate) fn schedule(name: &str, args: &Args) -> Result<Schedule, Wrong> {
    let kind = match name {
        "constant" => ScheduleKind::Constant,
        "step" => ScheduleKind::Step { every: positive(args, "every")?, gamma: positive(args, "gamma")? },
        "multistep" => {
            let milestones = args.doubles("milestones");
            if milestones.first().is_none_or(|first| *first <= 0.0) || !milestones.is_sorted_by(|a, b| a < b) {
                return wrong("milestones", "milestones are epochs that rise, each more than 0".into());
            }
            ScheduleKind::MultiStep { milestones, gamma: positive(args, "gamma")? }
        }
        "exponential" => ScheduleKind::Exponential { gamma: positive(args, "gamma")? },
        "poly" => ScheduleKind::Poly { power: positive(args, "power")? },
        "cosine" => {
            ScheduleKind::Cosine { floor: within(args, "floor", |v| (0.0..=1.0).contains(&v), "a share from 0 to 1")? }
        }
        _ => ScheduleKind::OneCycle {
            rise: within(args, "rise", |v| v > 0.0 && v < 1.0, "a share between 0 and 1")?,
            div: within(args, "div", |v| v >= 1.0, "at least 1")?,
            final_div: within(args, "final_div", |v| v >= 1.0, "at least 1")?,
        },
    };
    Ok(Schedule { kind, warmup: not_negative(args, "warmup")? })
}

/// The first time of a schedule that a run of so many epochs does not reach: the parameter, and what it says.
pub(crate) fn beyond(schedule: &Schedule, epochs: f64) -> Option<(&'static str, f64)> {
    let late = match &schedule.kind {
        ScheduleKind::Step { every, .. } => Some(("every", *every)),
        ScheduleKind::MultiStep { milestones, .. } => {
            milestones.iter().find(|&&milestone| milestone >= epochs).map(|&milestone| ("milestones", milestone))
        }
        _ => None,
    };
    let warmup = Some(("warmup", schedule.warmup)).filter(|(_, warmup)| *warmup > 0.0);
    late.into_iter().chain(warmup).find(|(_, time)| *time >= epochs)
}

pub(crate) fn augmentation(name: &str, args: &Args) -> Result<Augmentation, Wrong> {
    let rising = |name: &'static str, preset: [f64; 2], most: f64| {
        let [low, high] = if args.has(name) { args.float2(name) } else { preset };
        match 0.0 < low && low <= high && high <= most {
            true => Ok([low, high]),
            false => wrong(name, format!("`{name}` is the least and the largest, not ({low:?}, {high:?})")),
        }
    };
    Ok(match name {
        "pad" => Augmentation::Pad(args.size("pixels")),
        "random_crop" => Augmentation::RandomCrop(args.size2("size")),
        "random_resized_crop" => Augmentation::RandomResizedCrop {
            size: args.size2("size"),
            scale: rising("scale", [0.08, 1.0], 1.0)?,
            ratio: rising("ratio", [3.0 / 4.0, 4.0 / 3.0], f64::INFINITY)?,
        },
        "flip" => Augmentation::Flip(within(args, "p", |v| (0.0..=1.0).contains(&v), "a probability")?),
        "rotation" => Augmentation::Rotate(within(args, "degrees", |v| v > 0.0 && v <= 180.0, "an angle up to 180")?),
        "brightness" => Augmentation::Brightness(proportion(args)?),
        "contrast" => Augmentation::Contrast(proportion(args)?),
        "saturation" => Augmentation::Saturation(proportion(args)?),
        "lighting" => Augmentation::Lighting(positive(args, "std")?),
        "cutout" => Augmentation::Cutout(args.size("size")),
        _ => Augmentation::Mixup(positive(args, "alpha")?),
    })
}

fn proportion(args: &Args) -> Result<f64, Wrong> {
    within(args, "by", |v| v > 0.0 && v <= 1.0, "a share, more than 0 and at most 1")
}

/// How a weight of this shape begins. Fans are as PyTorch counts them.
pub(crate) fn init(name: &str, args: &Args, shape: &Shape) -> Result<Init, Wrong> {
    let pixels = shape.dims().iter().skip(2).product::<usize>();
    let fan = |axis: usize| shape.dims().get(axis).copied().unwrap_or(1).saturating_mul(pixels);
    let (fan_in, fan_out) = (fan(1), fan(0));
    Ok(match name {
        "he" => match args.str("fan") {
            "in" => Init::He { fan_in },
            "out" => Init::He { fan_in: fan_out },
            other => return wrong("fan", format!("`fan` is \"in\" or \"out\", not {other:?}")),
        },
        "xavier" => Init::Xavier { fan_in, fan_out },
        "normal" => Init::Normal { mean: args.float("mean"), std: not_negative(args, "std")? as f32 },
        "uniform" => {
            let (low, high) = (args.float("low"), args.float("high"));
            match low < high {
                true => Init::Uniform { low, high },
                false => return wrong("high", format!("`high` is more than `low`, not {high:?}")),
            }
        }
        _ => Init::Constant(args.float("value")),
    })
}
