//! Which types a model's values have: whole numbers are divided and cast otherwise than others.
//!
//! Values are f32 here whatever their type is, truth values 0 and 1. So what a type means is brought out where a node is
//! imported, and types follow from the operators alone.

use super::array::Array;
use super::proto::{self, data_type};
use crate::tensor::Element;

/// Whether values of a type are whole numbers, or truth values.
pub(crate) fn is_whole(ty: i32) -> bool {
    use data_type::{BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64};
    matches!(ty, BOOL | INT8 | INT16 | INT32 | INT64 | UINT8 | UINT16 | UINT32 | UINT64)
}

/// Whether values of a type are floating-point numbers.
pub(crate) fn is_float(ty: i32) -> bool {
    use data_type::{BFLOAT16, DOUBLE, FLOAT, FLOAT16};
    matches!(ty, BFLOAT16 | DOUBLE | FLOAT | FLOAT16)
}

/// The type of numbers that are known.
pub(crate) fn of_known(array: &Array) -> i32 {
    if array.as_ints().is_some() { data_type::INT64 } else { data_type::FLOAT }
}

/// The type of numbers that are known, of which the operator that gave them says `ty`: it has the last word where it can
/// be right, and on levels, of whose type others know.
pub(crate) fn of_known_result(array: &Array, ty: i32) -> i32 {
    let agrees = is_whole(ty) == array.as_ints().is_some();
    if agrees || array.levels().is_some() { ty } else { of_known(array) }
}

/// The type of a node's result, given those of its inputs.
pub(crate) fn of_result(node: &proto::Node, result: usize, inputs: &[i32]) -> i32 {
    let input = |index: usize| inputs.get(index).copied().unwrap_or(data_type::FLOAT);
    match (node.op_type.as_str(), result) {
        ("Cast", _) => {
            let to = node.attribute.iter().find(|a| a.name == "to");
            to.map_or(Ok(data_type::FLOAT), cast_to).unwrap_or(data_type::FLOAT)
        }
        // An empty sequence has no type that mattered to its writer.
        ("CastLike" | "Where" | "SequenceInsert", _) => input(1),
        (
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" | "And" | "Or" | "Xor" | "Not" | "IsNaN"
            | "IsInf",
            _,
        ) => data_type::BOOL,
        ("Shape" | "Size" | "ArgMax" | "ArgMin" | "NonZero" | "NonMaxSuppression", _)
        | ("SequenceLength", _)
        | ("TopK" | "MaxPool", 1)
        | ("Unique", 1..) => data_type::INT64,
        ("OneHot", _) => input(2),
        ("EyeLike", _) => {
            let ty = node.attribute.iter().find(|a| a.name == "dtype");
            ty.map_or_else(|| input(0), |ty| ty.i() as i32)
        }
        ("Range", _) => input(0),
        // Levels are numbers of a grid, of which other code knows.
        ("GatherBlockQuantized", _) => data_type::FLOAT,
        (name, _) if name.contains("Linear") || name.contains("Integer") => data_type::FLOAT,
        _ => input(0),
    }
}

/// What an input or output of a type is outside of the network. Unsigned numbers of 16 bits and more are those of the next
/// larger type.
pub(crate) fn element(ty: i32) -> Element {
    match ty {
        data_type::UINT8 => Element::U8,
        data_type::INT8 => Element::I8,
        data_type::INT16 => Element::I16,
        data_type::INT32 | data_type::UINT16 => Element::I32,
        data_type::INT64 | data_type::UINT32 | data_type::UINT64 => Element::I64,
        data_type::BOOL => Element::Bool,
        data_type::FLOAT16 => Element::F16,
        _ => Element::F32,
    }
}

/// The type that a cast names: by a number, before operator set 6 by a word.
///
/// # Errors
/// Where the word is none of a type.
pub(crate) fn cast_to(attribute: &proto::Attribute) -> Result<i32, String> {
    match attribute.s.as_ref().filter(|_| attribute.i.is_none()) {
        None => Ok(attribute.i() as i32),
        Some(word) => {
            let word = String::from_utf8_lossy(word);
            data_type::named(&word).ok_or_else(|| format!("it casts to {word}, which is no type"))
        }
    }
}
