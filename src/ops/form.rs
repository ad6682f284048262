//! Layers whose op works on vectors or images, on values of other ranks: the value is taken for vectors, for images one
//! pixel high, or, of a volume, for images of one pair of its axes after the other; and the result has its axes back. All
//! of that are reshapes, which move nothing.

use super::ShapeError;
use super::layer::{Args, Layer, Value};
use crate::tensor::Shape;

/// What a value is taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// What the op works on, once or, along other axes, twice.
    pub stages: Vec<Stage>,
    /// How many axes of the last op's result come from those that were joined: they are the value's own again.
    pub restore: Restore,
}

/// What the op gets, and with which arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The shape of what it works on.
    pub before: Before,
    /// Arguments in place of those of the call.
    pub set: Vec<(&'static str, Value)>,
}

/// The shape that a stage's op gets.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    /// As [`Reshape`](super::Reshape) has it, where -1 is the batch, which may be joined with other axes.
    Sizes(Vec<i64>),
    /// `[N, C · D', H, W]` of a volume whose depth has become that of the result at hand, `[N, C, D', H · W]`.
    Planes,
}

/// The shape of a result, of that of the value and that of the op's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// The value's axes but for the last, then the last of the op's result.
    LastAxis,
    /// The value's own.
    Same,
    /// The op's result without its axis of height, which is 1.
    WithoutHeight,
    /// The batch and the channels; all other axes are 1.
    Channels,
    /// `[N, C, D', H', W']` of planes `[N, C · D', H', W']`.
    Volume,
}

impl Before {
    /// The sizes, of the value and of what the stage before gave.
    pub fn sizes(&self, value: &Shape, at_hand: &Shape) -> Vec<i64> {
        match self {
            Before::Sizes(sizes) => sizes.clone(),
            Before::Planes => {
                vec![-1, (at_hand[1] * at_hand[2]) as i64, value[3] as i64, value[4] as i64]
            }
        }
    }
}

impl Form {
    /// One stage with the call's arguments.
    fn one(before: Vec<i64>, restore: Restore) -> Self {
        Self::with(before, restore, vec![])
    }

    fn with(before: Vec<i64>, restore: Restore, set: Vec<(&'static str, Value)>) -> Self {
        Self { stages: vec![Stage { before: Before::Sizes(before), set }], restore }
    }

    /// The shape of the result as a reshape gives it: the first size is left to the batch.
    pub fn after(&self, value: &Shape, result: &Shape) -> Vec<i64> {
        let inner: Vec<usize> = match self.restore {
            Restore::LastAxis => {
                let last = result.dims().last().copied();
                value.dims()[1..value.rank() - 1].iter().copied().chain(last).collect()
            }
            Restore::Same => value.dims()[1..].to_vec(),
            Restore::WithoutHeight => vec![result[1], result[3]],
            Restore::Channels => [vec![result[1]], vec![1; value.rank() - 2]].concat(),
            Restore::Volume => vec![value[1], result[1] / value[1], result[2], result[3]],
        };
        [-1].into_iter().chain(inner.into_iter().map(|d| d as i64)).collect()
    }
}

impl Layer {
    /// What the layer takes a value of this shape for; `None` where it is the op's own business.
    ///
    /// # Errors
    /// Says what shapes the layer takes.
    pub fn form(&self, args: &Args, shape: &Shape) -> Result<Option<Form>, ShapeError> {
        let dims = shape.dims();
        match (self.name, dims.len()) {
            ("linear", _) => linear(args, shape),
            ("layer_norm", _) => layer_norm(args, shape),
            // The sides of a sequence: those of an image's rows.
            ("pad", 3) => {
                let ends = args.ends("pads");
                let [left, right] = ends.ok_or_else(|| {
                    ShapeError::new(format!("{shape} has two ends: n or (left, right)")).param("pads")
                })?;
                let sides = Value::Tuple([0, left, 0, right].map(Value::from).to_vec());
                Ok(Some(Form::with(row(dims), Restore::WithoutHeight, vec![("pads", sides)])))
            }
            ("group_norm" | "instance_norm", 3) => Ok(Some(Form::one(row(dims), Restore::Same))),
            ("group_norm" | "instance_norm", 5) => Ok(Some(Form::one(depth(dims), Restore::Same))),
            ("global_avg_pool" | "global_max_pool", 3) => Ok(Some(Form::one(row(dims), Restore::Channels))),
            ("global_avg_pool" | "global_max_pool", 5) => Ok(Some(Form::one(depth(dims), Restore::Channels))),
            ("adaptive_avg_pool", 3) => {
                let [length] = numbers_of(args, "output", shape)?;
                Ok(Some(Form::with(row(dims), Restore::WithoutHeight, vec![("output", pair(1usize.into(), length))])))
            }
            ("adaptive_avg_pool", 5) => {
                let [d, h, w] = numbers_of(args, "output", shape)?;
                let deep = vec![("output", pair(d, (dims[3] * dims[4]).into()))];
                Ok(Some(volume(dims, deep, vec![("output", pair(h, w))])))
            }
            ("upsample", 3 | 5) => upsample(args, shape),
            _ => Ok(None),
        }
    }
}

fn product(dims: &[usize]) -> i64 {
    dims.iter().product::<usize>() as i64
}

/// `[N, C, L]` as an image one pixel high.
fn row(dims: &[usize]) -> Vec<i64> {
    vec![-1, dims[1] as i64, 1, dims[2] as i64]
}

/// `[N, C, D, H, W]` as an image whose rows are planes.
fn depth(dims: &[usize]) -> Vec<i64> {
    vec![-1, dims[1] as i64, dims[2] as i64, product(&dims[3..])]
}

/// A volume's depth first, then its planes.
fn volume(dims: &[usize], deep: Vec<(&'static str, Value)>, flat: Vec<(&'static str, Value)>) -> Form {
    let stages =
        vec![Stage { before: Before::Sizes(depth(dims)), set: deep }, Stage { before: Before::Planes, set: flat }];
    Form { stages, restore: Restore::Volume }
}

fn pair(vertical: Value, horizontal: Value) -> Value {
    Value::Tuple(vec![vertical, horizontal])
}

/// An argument's number for each axis behind the channels: one goes for all.
fn numbers_of<const AXES: usize>(args: &Args, name: &'static str, shape: &Shape) -> Result<[Value; AXES], ShapeError> {
    match args.get(name) {
        Some(Value::List(given) | Value::Tuple(given)) => given.clone().try_into().map_err(|given: Vec<Value>| {
            let what = if AXES == 1 { "one" } else { "one, or (depth, height, width)" };
            ShapeError::new(format!("{} numbers, where {shape} takes {what}", given.len())).param(name)
        }),
        Some(one) => Ok(std::array::from_fn(|_| one.clone())),
        None => unreachable!("it was looked whether it is there"),
    }
}

fn linear(args: &Args, shape: &Shape) -> Result<Option<Form>, ShapeError> {
    let axis = args.has("axis").then(|| args.size("axis"));
    if axis.is_some_and(|axis| axis + 1 != shape.rank()) {
        let error = ShapeError::new(format!("linear works along the last axis of {shape}")).param("axis");
        return Err(error.help("`transpose` moves another axis there"));
    }
    let is_asked = axis.is_some() && shape.rank() > 2;
    let last = *shape.dims().last().unwrap_or(&1) as i64;
    Ok((is_asked || shape.rank() == 3).then(|| Form::one(vec![-1, last], Restore::LastAxis)))
}

fn layer_norm(args: &Args, shape: &Shape) -> Result<Option<Form>, ShapeError> {
    let axes = if args.has("axes") { args.axes("axes") } else { vec![] };
    let first = match axes.first() {
        None if shape.rank() == 3 => 2,
        None => return Ok(None),
        // The channels of images and vectors.
        Some(1) if axes.len() == 1 && matches!(shape.rank(), 2 | 4) => return Ok(None),
        Some(&first) => first,
    };
    let axes = if axes.is_empty() { vec![first] } else { axes };
    if first == 0 || !axes.iter().copied().eq(first..shape.rank()) {
        let message = format!("layer_norm goes over the channels, or over the last axes, of {shape}");
        return Err(ShapeError::new(message).param("axes").help("[-1] is the last axis, [1, 2, 3] all but the batch"));
    }
    let sizes = shape.dims()[first..].to_vec();
    let before = vec![-1, product(&sizes)];
    let set = (sizes.len() > 1).then(|| ("sizes", sizes.as_slice().into()));
    Ok(Some(Form::with(before, Restore::Same, set.into_iter().collect())))
}

/// What PyTorch calls `linear` and `trilinear` is bilinear in the images that sequences and volumes are taken for.
fn upsample(args: &Args, shape: &Shape) -> Result<Option<Form>, ShapeError> {
    let own = if shape.rank() == 3 { "linear" } else { "trilinear" };
    let mut common = vec![];
    match args.str("mode") {
        mode if mode == own => common.push(("mode", "bilinear".into())),
        mode @ ("linear" | "bilinear" | "trilinear") => {
            return Err(ShapeError::new(format!("of {shape} the mode is `{own}`, not `{mode}`")).param("mode"));
        }
        _ => {}
    }
    let name = match (args.has("scale"), args.has("size")) {
        (true, false) => "scale",
        (false, true) => "size",
        // Which of them is missing, or one too many, the layer says.
        _ => return Ok(Some(Form::with(row(shape.dims()), Restore::Same, common))),
    };
    let stays = |size: usize| if name == "scale" { Value::Float(1.0) } else { size.into() };
    let with = |numbers: Value| [common.clone(), vec![(name, numbers)]].concat();
    if let [_, _, _] = shape.dims() {
        let [length] = numbers_of(args, name, shape)?;
        let set = with(pair(stays(1), length));
        return Ok(Some(Form::with(row(shape.dims()), Restore::WithoutHeight, set)));
    }
    let [d, h, w] = numbers_of(args, name, shape)?;
    let plane = product(&shape.dims()[3..]) as usize;
    Ok(Some(volume(shape.dims(), with(pair(d, stays(plane))), with(pair(h, w)))))
}
