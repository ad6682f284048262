//! Which elements ops take, and what they give.

use crate::tensor::Element;

/// What inputs of a network may consist of. Code computes with f32, which holds all of their numbers, of those of 32 bits
/// and more the whole ones up to 2²⁴.
pub const OF_INPUTS: [Element; 8] =
    [Element::F32, Element::U8, Element::I8, Element::I16, Element::F16, Element::I32, Element::I64, Element::Bool];

/// Of ops that compute: f32 only.
///
/// # Errors
/// Names the first other element.
pub fn float(inputs: &[Element]) -> Result<Element, String> {
    match inputs.iter().find(|element| **element != Element::F32) {
        Some(other) => Err(format!("takes f32, not {other}")),
        None => Ok(Element::F32),
    }
}

/// Of ops that move elements: any, all operands alike.
///
/// # Errors
/// Names two that differ.
pub fn same(inputs: &[Element]) -> Result<Element, String> {
    let first = inputs.first().copied().unwrap_or_default();
    match inputs.iter().find(|element| **element != first) {
        Some(other) => Err(format!("cannot take {first} and {other} together")),
        None => Ok(first),
    }
}

/// Of ops that compare elements: those of which f32 holds every one.
///
/// # Errors
/// Names the first other element.
pub fn comparable(inputs: &[Element]) -> Result<Element, String> {
    match same(inputs)? {
        element @ (Element::F32 | Element::U8 | Element::I8 | Element::I16) => Ok(element),
        other => Err(format!("takes f32 or whole numbers of up to 16 bits, not {other}")),
    }
}
