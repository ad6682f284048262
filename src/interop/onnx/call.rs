//! One node under import: its attributes and inputs, with ONNX's ways of leaving things out.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use super::array::Array;
use super::proto::{self, attribute_type, data_type};
use super::types;
use super::view::View;
use crate::ops::quantized::Levels;

/// What is known of a value of the model.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Computed when the network runs.
    Data(View),
    /// Numbers of a grid, of which the model has the levels here.
    OnGrid(View, Arc<Grid>),
    /// Known now.
    Known(Array),
    /// A sequence of values, whose number is known.
    List(Vec<Value>),
    /// Result of a node that could not be imported; its reason has been noted.
    Missing,
}

impl Value {
    /// Known, and so is all that it lists.
    pub(crate) fn is_known(&self) -> bool {
        match self {
            Value::Known(_) => true,
            Value::List(values) => values.iter().all(Value::is_known),
            Value::Data(_) | Value::OnGrid(..) | Value::Missing => false,
        }
    }
}

/// A grid as the model tells it: scale and zero point, of all elements or for each entry of an axis, which may be counted
/// from the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    pub levels: Levels,
    pub scale: Vec<f32>,
    pub zero: Vec<i64>,
    pub axis: Option<i64>,
}

impl Grid {
    /// The numbers of a scale and of a zero point that belong together, in a row. `levels` are those that the grid has, as
    /// far as that is known.
    ///
    /// # Errors
    /// Where they are none that a grid can have.
    pub(crate) fn numbers(
        scale: &Array,
        zero: Option<&Array>,
        levels: Option<Levels>,
    ) -> Result<(Vec<f32>, Vec<i64>), String> {
        let numbers = Self::numbers_of_weight(scale, zero, levels)?;
        match numbers.0.iter().find(|&&scale| scale <= 0.0) {
            Some(odd) => Err(Self::no_scale(*odd)),
            None => Ok(numbers),
        }
    }

    fn no_scale(odd: f32) -> String {
        let how = "Quantize the model again, with samples that give this value a range";
        match odd.is_subnormal() {
            true => format!("its scale is {odd:e}, a number so small that it counts as 0. {how}"),
            false => format!("its scale is {odd}; a scale is a finite number above 0. {how}"),
        }
    }

    /// As [`Self::numbers`], of levels that are known: tools that give the largest number of a block the lowest level write
    /// scales below 0.
    pub(crate) fn numbers_of_weight(
        scale: &Array,
        zero: Option<&Array>,
        levels: Option<Levels>,
    ) -> Result<(Vec<f32>, Vec<i64>), String> {
        let scales = scale.as_floats().ok_or("its scale is no floating-point number")?.to_vec();
        if let Some(odd) = scales.iter().find(|s| !s.is_normal()) {
            return Err(Self::no_scale(*odd));
        }
        let zeros = match zero {
            None => vec![0; scales.len()],
            Some(zero) => zero.as_ints().ok_or("its zero point is no whole number")?.to_vec(),
        };
        if scales.is_empty() || zeros.len() != scales.len() {
            return Err(format!("{} scales and {} zero points", scales.len(), zeros.len()));
        }
        let own = zero.and_then(Array::levels);
        if let (Some(levels), Some(own)) = (levels, own)
            && levels != own
        {
            let [levels, own] = [levels, own].map(|l| data_type::of_levels(l).map_or("another", data_type::name));
            return Err(format!(
                "its zero point is of type {own}, its levels are of {levels}: both must have one type"
            ));
        }
        Ok((scales, zeros))
    }

    /// For each element of an array, the number of its block: along an axis `size` entries have one scale.
    pub(crate) fn blocks(dims: &[usize], along: usize, size: usize) -> impl Fn(usize) -> usize + use<> {
        let inner = dims[along + 1..].iter().product::<usize>().max(1);
        let (length, blocks) = (dims[along].max(1), dims[along].div_ceil(size));
        move |i| (i / inner / length * blocks + i / inner % length / size) * inner + i % inner
    }
}

/// A node with what its inputs are.
pub(crate) struct Call<'a> {
    pub node: &'a proto::Node,
    /// Version of the operator set.
    pub opset: i64,
    /// In order; `None` where an optional input is left out.
    pub inputs: Vec<Option<Value>>,
    /// The type of each input's value.
    pub types: Vec<i32>,
    /// How often each input's value is read in the whole model.
    pub uses: Vec<usize>,
    /// Whether somebody reads each result.
    read: Vec<bool>,
    /// Attributes that somebody asked for.
    asked: Rc<RefCell<HashSet<String>>>,
}

/// Attributes that say nothing about the result at inference, in any operator set.
const WITHOUT_EFFECT: [&str; 10] = [
    "broadcast",
    "seed",
    "ratio",
    "consumed_inputs",
    "momentum",
    "is_test",
    "stash_type",
    "saturate",
    "storage_order",
    "round_mode",
];

impl<'a> Call<'a> {
    /// `uses` tells how often a value of the model is read.
    pub(crate) fn new(
        node: &'a proto::Node,
        opset: i64,
        inputs: Vec<Option<Value>>,
        types: Vec<i32>,
        uses: impl Fn(&str) -> usize,
    ) -> Self {
        let read = node.output.iter().map(|name| uses(name) > 0).collect();
        let uses = node.input.iter().map(|name| uses(name)).collect();
        Self { node, opset, inputs, types, uses, read, asked: Rc::default() }
    }

    /// The same node with other inputs, such as numbers in the place of levels.
    pub(crate) fn with_inputs(&self, inputs: Vec<Option<Value>>) -> Call<'a> {
        let (types, uses, asked, read) = (self.types.clone(), self.uses.clone(), self.asked.clone(), self.read.clone());
        Call { node: self.node, opset: self.opset, inputs, types, uses, read, asked }
    }

    /// The same node of another version of the operator set.
    pub(crate) fn with_opset(&self, opset: i64) -> Call<'a> {
        Call { opset, ..self.with_inputs(self.inputs.clone()) }
    }

    /// An attribute that the node has and nobody asked for: it may mean anything.
    pub(crate) fn unknown_attribute(&self) -> Option<&str> {
        let asked = self.asked.borrow();
        let known = |name: &str| asked.contains(name) || WITHOUT_EFFECT.contains(&name);
        self.node.attribute.iter().map(|a| a.name.as_str()).find(|name| !known(name))
    }

    pub(crate) fn input(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    /// The type of an input's value; f32 where there is none.
    pub(crate) fn type_of(&self, index: usize) -> i32 {
        self.types.get(index).copied().unwrap_or(data_type::FLOAT)
    }

    /// Whether an input's value consists of whole numbers.
    pub(crate) fn is_whole(&self, index: usize) -> bool {
        types::is_whole(self.type_of(index))
    }

    /// The input's value is read here and nowhere else.
    pub(crate) fn is_only_user(&self, index: usize) -> bool {
        self.uses.get(index) == Some(&1)
    }

    /// An input that must be known; `None` where it is left out.
    pub(crate) fn known(&self, index: usize) -> Result<Option<&Array>, String> {
        match self.input(index) {
            None => Ok(None),
            Some(Value::Known(array)) => Ok(Some(array)),
            Some(_) => {
                let name = &self.node.input[index];
                Err(format!("input {index} ({name}) is computed while the model runs; a constant is needed there"))
            }
        }
    }

    pub(crate) fn need_known(&self, index: usize) -> Result<&Array, String> {
        self.known(index)?.ok_or_else(|| format!("input {index} is missing"))
    }

    /// A known input of integers.
    pub(crate) fn known_ints(&self, index: usize) -> Result<Option<Vec<i64>>, String> {
        let Some(array) = self.known(index)? else { return Ok(None) };
        match array.as_ints() {
            Some(ints) => Ok(Some(ints.to_vec())),
            // An empty list has no type that mattered to its writer.
            None if array.len() == 0 => Ok(Some(vec![])),
            None => Err(format!("input {index} holds floats where integers are due")),
        }
    }

    /// A known input of one number.
    pub(crate) fn known_scalar(&self, index: usize) -> Result<Option<f32>, String> {
        let Some(array) = self.known(index)? else { return Ok(None) };
        array.scalar().map(Some).ok_or_else(|| format!("input {index} holds {} numbers where one is due", array.len()))
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&proto::Attribute> {
        self.asked.borrow_mut().insert(name.into());
        self.node.attribute.iter().find(|a| a.name == name)
    }

    fn typed(&self, name: &str, ty: i32) -> Result<Option<&proto::Attribute>, String> {
        match self.attribute(name) {
            // Old files leave the type out.
            Some(a) if a.ty != ty && a.ty != 0 => Err(format!("attribute {name} has another type than the standard's")),
            other => Ok(other),
        }
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> Result<i64, String> {
        Ok(self.typed(name, attribute_type::INT)?.map_or(default, |a| a.i()))
    }

    /// The type that a cast makes.
    pub(crate) fn cast_to(&self) -> Result<i32, String> {
        self.attribute("to").map_or(Ok(data_type::FLOAT), types::cast_to)
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.int(name, default.into())? != 0)
    }

    pub(crate) fn float(&self, name: &str, default: f32) -> Result<f32, String> {
        Ok(self.typed(name, attribute_type::FLOAT)?.map_or(default, |a| a.f()))
    }

    pub(crate) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, String> {
        Ok(self.typed(name, attribute_type::INTS)?.map(|a| a.ints.clone()))
    }

    pub(crate) fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, String> {
        Ok(self.typed(name, attribute_type::FLOATS)?.map(|a| a.floats.clone()))
    }

    pub(crate) fn string(&self, name: &str, default: &str) -> Result<String, String> {
        match self.typed(name, attribute_type::STRING)? {
            None => Ok(default.into()),
            Some(a) => String::from_utf8(a.s().to_vec()).map_err(|_| format!("attribute {name} is no text")),
        }
    }

    /// A list of texts; empty where there is none.
    pub(crate) fn strings(&self, name: &str) -> Result<Vec<String>, String> {
        let texts = self.typed(name, attribute_type::STRINGS)?.map_or(&[][..], |a| &a.strings);
        let text = |t: &prost::bytes::Bytes| String::from_utf8(t.to_vec());
        texts.iter().map(text).collect::<Result<_, _>>().map_err(|_| format!("attribute {name} is no text"))
    }

    /// What older operator sets have as an attribute and newer ones as an input.
    pub(crate) fn ints_either(&self, attribute: &str, input: usize) -> Result<Option<Vec<i64>>, String> {
        match self.ints(attribute)? {
            Some(ints) => Ok(Some(ints)),
            None => self.known_ints(input),
        }
    }

    /// Somebody reads that result.
    pub(crate) fn reads(&self, output: usize) -> bool {
        self.read.get(output) == Some(&true)
    }

    /// Refuses a node of which an optional result is read that netc does not compute.
    pub(crate) fn only_first_output(&self, why: &str) -> Result<(), String> {
        if self.read.iter().skip(1).any(|&read| read) { Err(why.into()) } else { Ok(()) }
    }
}

/// An axis counted from either end.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let rank_signed = rank as i64;
    let from_start = if axis < 0 { axis + rank_signed } else { axis };
    match (0..rank_signed).contains(&from_start) {
        true => Ok(from_start as usize),
        false => Err(format!("a value of {rank} axes has no axis {axis}")),
    }
}

/// Axes counted from either end, as listed, each once.
pub(crate) fn axes_as_listed(list: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let axes = list.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    match (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
        true => Err(format!("the axes {list:?} name one twice")),
        false => Ok(axes),
    }
}

/// Axes counted from either end, in ascending order.
pub(crate) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    let mut axes = axes_as_listed(list, rank)?;
    axes.sort_unstable();
    Ok(axes)
}
