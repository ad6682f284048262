//! NumPy arrays as a model's inputs and outputs.
//!
//! An array that is f32 and lies row by row is read where it is. Others that stand for the same numbers are copied: of
//! another floating-point type, or with other strides. What `__dlpack__` gives becomes a NumPy array without a copy
//! first, so that tensors of PyTorch and other libraries go the same road.

use netc::Port;
use numpy::{
    Element as NumpyElement, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray,
    PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PySlice, PyString, PyTuple};

/// An input's values, row by row.
pub(crate) enum Values<'py> {
    /// Where somebody has them.
    Borrowed(PyReadonlyArrayDyn<'py, f32>),
    /// Numbers of another type, or that lay otherwise.
    Copied(Vec<f32>),
}

impl Values<'_> {
    pub(crate) fn as_slice(&self) -> &[f32] {
        match self {
            Values::Borrowed(array) => array.as_slice().expect("it was seen to lie row by row"),
            Values::Copied(values) => values,
        }
    }
}

/// What an object is as an array: itself, or what `__dlpack__` or `__array__` give.
pub(crate) fn as_array<'py>(port: &Port, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyUntypedArray>> {
    if let Ok(array) = object.cast::<PyUntypedArray>() {
        return Ok(array.clone());
    }
    let numpy = object.py().import("numpy")?;
    let is_tensor = object.hasattr("__dlpack__")?;
    let array = match is_tensor {
        true => numpy.call_method1("from_dlpack", (object,)),
        // A list, a number, a picture of PIL.
        false if object.is_instance_of::<PyString>() => {
            return Err(PyTypeError::new_err(format!("{} takes an array, not a string", port.name())));
        }
        false => numpy.call_method1("asarray", (object,)),
    };
    let array = array.map_err(|cause| {
        let error = PyTypeError::new_err(format!("{} takes an array that NumPy can read: {cause}", port.name()));
        error.set_cause(object.py(), Some(cause));
        error
    })?;
    Ok(array.cast_into::<PyUntypedArray>()?)
}

/// The values of an array for a port, and its sizes. `batched` says whether the first size may be another.
pub(crate) fn input<'py>(
    port: &Port,
    batched: bool,
    array: &Bound<'py, PyUntypedArray>,
) -> PyResult<(Values<'py>, Vec<usize>)> {
    let py = array.py();
    let kind: u8 = array.dtype().kind();
    let is_real = matches!(port.element(), netc::Element::F32 | netc::Element::F16);
    match (is_real, kind) {
        (true, b'f') | (false, b'i' | b'u' | b'b') => {}
        (true, _) => {
            let dtype = array.dtype();
            return Err(PyTypeError::new_err(format!(
                "{} takes float32, not {dtype}; pixels are scaled first: x.astype(\"float32\") / 255, or model.preprocess(image)",
                port.name()
            )));
        }
        (false, _) => {
            let dtype = array.dtype();
            return Err(PyTypeError::new_err(format!("{} takes {}, not {dtype}", port.name(), dtype_name(port))));
        }
    }
    let dims = fitted(port, batched, array.shape())?;
    // Contiguous alone would take the order of columns, too.
    if let Ok(array) = array.cast::<PyArrayDyn<f32>>()
        && array.is_c_contiguous()
    {
        let readonly = array.try_readonly().map_err(|_| PyValueError::new_err("the input is being written to"))?;
        if readonly.as_slice().is_ok() {
            return Ok((Values::Borrowed(readonly), dims));
        }
    }
    let copied = py.import("numpy")?.call_method1("require", (array, dtype::<f32>(py), ["C", "A"]))?;
    let copied = copied.cast_into::<PyArrayDyn<f32>>()?;
    let values = copied.try_readonly().map_err(|e| PyValueError::new_err(e.to_string()))?;
    let values = values.as_slice().map_err(|e| PyValueError::new_err(e.to_string()))?.to_vec();
    if !is_real {
        check_numbers(port, &values)?;
    }
    Ok((Values::Copied(values), dims))
}

fn dtype<T: NumpyElement>(py: Python<'_>) -> Bound<'_, numpy::PyArrayDescr> {
    numpy::dtype::<T>(py)
}

/// Whole numbers must be of the port's element.
fn check_numbers(port: &Port, values: &[f32]) -> PyResult<()> {
    let Some((low, high)) = port.element().integer_range() else { return Ok(()) };
    match values.iter().find(|&&v| !(low..=high).contains(&f64::from(v))) {
        None => Ok(()),
        Some(other) => Err(PyValueError::new_err(format!(
            "{} takes {}, numbers from {low} to {high}, and one is {other}",
            port.name(),
            dtype_name(port)
        ))),
    }
}

/// The sizes with which an array is run: a single image may lack the batch axis.
fn fitted(port: &Port, batched: bool, given: &[usize]) -> PyResult<Vec<usize>> {
    let wanted = port.shape();
    let rest = wanted.get(1..).unwrap_or_default();
    if given == wanted || (batched && given.len() == wanted.len() && given.get(1..) == Some(rest) && given[0] > 0) {
        return Ok(given.to_vec());
    }
    if given == rest && (batched || wanted.first() == Some(&1)) {
        return Ok([&[1], given].concat());
    }
    let mut sizes: Vec<String> = wanted.iter().map(usize::to_string).collect();
    if batched && !sizes.is_empty() {
        sizes[0] = "N".into();
    }
    let hint = hint(port, given);
    Err(PyValueError::new_err(format!("{} takes [{}], not {given:?}{hint}", port.name(), sizes.join(", "))))
}

/// What may be wrong with an array of these sizes, behind a message; empty where nothing is known.
pub(crate) fn hint(port: &Port, given: &[usize]) -> &'static str {
    match (port.shape(), given) {
        (&[_, c, h, w], &[.., gh, gw, gc]) if [gh, gw, gc] == [h, w, c] && [c, h, w] != [h, w, c] => {
            "; channels come last in it: numpy.moveaxis(x, -1, -3)"
        }
        _ => "",
    }
}

/// The name of a port's element as NumPy has it.
pub(crate) fn dtype_name(port: &Port) -> &'static str {
    match port.element() {
        netc::Element::F32 => "float32",
        netc::Element::U8 => "uint8",
        netc::Element::I8 => "int8",
        netc::Element::I16 => "int16",
        netc::Element::I32 => "int32",
        netc::Element::I64 => "int64",
        netc::Element::Bool => "bool",
        netc::Element::F16 => "float16",
        _ => "float32",
    }
}

/// Whole numbers, truth values and halves are f32 within; what comes out is of the port's element.
pub(crate) fn as_element<'py>(port: &Port, array: Bound<'py, PyArrayDyn<f32>>) -> PyResult<Bound<'py, PyAny>> {
    match port.element() {
        netc::Element::F32 => Ok(array.into_any()),
        _ => array.call_method1("astype", (dtype_name(port),)),
    }
}

/// The first entries of an axis, as a view.
pub(crate) fn existing<'py>(array: &Bound<'py, PyAny>, axis: usize, count: usize) -> PyResult<Bound<'py, PyAny>> {
    let py = array.py();
    let entries = PySlice::new(py, 0, count as isize, 1);
    let index = (0..axis).map(|_| PySlice::full(py)).chain([entries]);
    array.get_item(PyTuple::new(py, index.collect::<Vec<_>>())?)
}

/// Where an output is written: what the caller gave, or a new array.
pub(crate) fn output<'py>(
    py: Python<'py>,
    port: &Port,
    dims: &[usize],
    given: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let Some(given) = given else {
        let zeros = PyArrayDyn::<f32>::zeros(py, dims, false);
        return Ok(zeros);
    };
    if port.element() != netc::Element::F32 {
        let message =
            format!("out[{:?}]: the output is {}, of which a new array is made", port.name(), dtype_name(port));
        return Err(PyTypeError::new_err(message));
    }
    let wrong = |why: String| PyValueError::new_err(format!("out[{:?}] {why}", port.name()));
    let array = given.cast_into::<PyArrayDyn<f32>>();
    let array =
        array.map_err(|_| PyTypeError::new_err(format!("out[{:?}] must be an array of float32", port.name())))?;
    if array.shape() != dims {
        return Err(wrong(format!("must be {dims:?}, not {:?}", array.shape())));
    }
    if !array.is_c_contiguous() || !array.is_aligned() {
        return Err(wrong("must lie row by row (C order), aligned".into()));
    }
    Ok(array)
}
