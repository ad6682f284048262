//! Layers whose op works on vectors or images, on values of other ranks: the value is taken for vectors or for images one
//! pixel high, and the result has its axes back. Both are reshapes, which move nothing.

use super::ShapeError;
use super::layer::{Args, Layer, Value};
use crate::tensor::Shape;

/// What a value is taken for: shapes as [`Reshape`](super::Reshape) has them, where -1 is the batch, which may be joined
/// with other axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    /// The shape that the op gets.
    pub before: Vec<i64>,
    /// How many axes of the op's result come from those that were joined: they are the value's own again.
    pub restore: Restore,
    /// An argument that says what the value's own sizes were.
    pub set: Option<(&'static str, Value)>,
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
}

impl Form {
    /// The shape of the result as a reshape gives it: the first size is left to the batch.
    pub fn after(&self, value: &Shape, result: &Shape) -> Vec<i64> {
        let inner: Vec<usize> = match self.restore {
            Restore::LastAxis => {
                let last = result.dims().last().copied();
                value.dims()[1..value.rank() - 1].iter().copied().chain(last).collect()
            }
            Restore::Same => value.dims()[1..].to_vec(),
            Restore::WithoutHeight => vec![result[1], result[3]],
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
        let product = |dims: &[usize]| dims.iter().product::<usize>() as i64;
        match self.name {
            "linear" => {
                let axis = args.has("axis").then(|| args.size("axis"));
                if axis.is_some_and(|axis| axis + 1 != shape.rank()) {
                    let error = ShapeError::new(format!("linear works along the last axis of {shape}")).param("axis");
                    return Err(error.help("`transpose` moves another axis there"));
                }
                let is_asked = axis.is_some() && shape.rank() > 2;
                let last = *dims.last().unwrap_or(&1) as i64;
                let vectors = Form { before: vec![-1, last], restore: Restore::LastAxis, set: None };
                Ok((is_asked || shape.rank() == 3).then_some(vectors))
            }
            "layer_norm" => {
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
                    return Err(ShapeError::new(message)
                        .param("axes")
                        .help("[-1] is the last axis, [1, 2, 3] all but the batch"));
                }
                let sizes = dims[first..].to_vec();
                let before = vec![-1, product(&sizes)];
                let set = (sizes.len() > 1).then(|| ("sizes", sizes.as_slice().into()));
                Ok(Some(Form { before, restore: Restore::Same, set }))
            }
            // The sides of a sequence: those of an image's rows.
            "pad" if shape.rank() == 3 => {
                let ends = args.ends("pads");
                let [left, right] = ends.ok_or_else(|| {
                    ShapeError::new(format!("{shape} has two ends: n or (left, right)")).param("pads")
                })?;
                let sides = Value::Tuple([0, left, 0, right].map(Value::from).to_vec());
                Ok(Some(Form { before: row(dims), restore: Restore::WithoutHeight, set: Some(("pads", sides)) }))
            }
            "group_norm" if shape.rank() == 3 => {
                Ok(Some(Form { before: row(dims), restore: Restore::WithoutHeight, set: None }))
            }
            _ => Ok(None),
        }
    }
}

/// `[N, C, L]` as an image one pixel high.
fn row(dims: &[usize]) -> Vec<i64> {
    vec![-1, dims[1] as i64, 1, dims[2] as i64]
}
