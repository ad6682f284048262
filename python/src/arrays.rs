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
use pyo3::types::{PySlice, PyString, PyTuple, PyType};

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

/// What an object is as an array: itself, or what `__dlpack__` or `__array__` give, or, where `may_copy`, a wider copy of a tensor whose
/// element NumPy lacks.
pub(crate) fn as_array<'py>(
    port: &Port,
    object: &Bound<'py, PyAny>,
    may_copy: bool,
) -> PyResult<Bound<'py, PyUntypedArray>> {
    if let Ok(array) = object.cast::<PyUntypedArray>() {
        return Ok(array.clone());
    }
    let numpy = object.py().import("numpy")?;
    // A class has the attributes of what it makes.
    let is_tensor = !object.is_instance_of::<PyType>() && object.hasattr("__dlpack__")?;
    let array = match is_tensor {
        true => {
            numpy.call_method1("from_dlpack", (object,)).or_else(|error| match widened(object).filter(|_| may_copy) {
                // NumPy has no such element.
                Some(wider) => numpy.call_method1("from_dlpack", (wider,)),
                None => Err(error),
            })
        }
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
    let array = array.cast_into::<PyUntypedArray>()?;
    // NumPy takes whatever it does not know as one element.
    if array.ndim() == 0 && array.dtype().kind() == b'O' {
        let kind = object.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{} takes an array of {}, not {kind}",
            port.name(),
            dtype_name(port)
        )));
    }
    Ok(array)
}

/// A tensor of PyTorch of an element that NumPy lacks, such as bfloat16, as one of float32.
fn widened<'py>(tensor: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let is_float = tensor.call_method0("is_floating_point").ok()?.is_truthy().ok()?;
    let is_wide = tensor.getattr("dtype").ok()?.str().ok()? == "torch.float32";
    if is_float && !is_wide { tensor.call_method0("float").ok() } else { None }
}

/// The values of an array for a port, and its sizes. `batched` says whether the first size may be another.
pub(crate) fn input<'py>(
    port: &Port,
    batched: bool,
    array: &Bound<'py, PyUntypedArray>,
) -> PyResult<(Values<'py>, Vec<usize>)> {
    let kind: u8 = array.dtype().kind();
    let is_real = port.element().is_float();
    match (is_real, kind) {
        (true, b'V') if is_narrow_float(array)? => {}
        (true, b'f') | (false, b'i' | b'u' | b'b') => {}
        _ => {
            let (dtype, pixels) = (array.dtype(), is_real && matches!(kind, b'i' | b'u'));
            let hint = if pixels { PIXELS } else { "" };
            return Err(PyTypeError::new_err(format!("{} takes {}, not {dtype}{hint}", port.name(), dtype_name(port))));
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
    let values = match port.element().integer_range() {
        None => copied(array, <[f32]>::to_vec)?,
        // Of numbers of 64 bits f32 would not tell those that it does not hold.
        Some(range) => {
            let numbers = |values: &[f64]| values.iter().map(|&v| number(port, range, v)).collect::<PyResult<_>>();
            copied(array, numbers)??
        }
    };
    Ok((Values::Copied(values), dims))
}

/// Whether an array is of an element that another package gives to NumPy and f32 holds, such as `ml_dtypes.bfloat16`.
fn is_narrow_float(array: &Bound<'_, PyUntypedArray>) -> PyResult<bool> {
    let dtype = array.dtype();
    let name: String = dtype.getattr("name")?.extract()?;
    let is_float = ["bfloat", "float"].iter().any(|begin| name.starts_with(begin));
    Ok(is_float && array.py().import("numpy")?.call_method1("can_cast", (dtype, "float32"))?.is_truthy()?)
}

const PIXELS: &str = "; pixels are scaled first: x.astype(\"float32\") / 255, or model.preprocess(image)";

/// What is made of an array's numbers as `T`, row by row.
fn copied<T: NumpyElement, R>(array: &Bound<'_, PyUntypedArray>, take: impl FnOnce(&[T]) -> R) -> PyResult<R> {
    let py = array.py();
    let copied = py.import("numpy")?.call_method1("require", (array, numpy::dtype::<T>(py), ["C", "A"]))?;
    let copied = copied.cast_into::<PyArrayDyn<T>>()?;
    let values = copied.try_readonly().map_err(|e| PyValueError::new_err(e.to_string()))?;
    Ok(take(values.as_slice().map_err(|e| PyValueError::new_err(e.to_string()))?))
}

/// A whole number as a run takes it: one of the port's element.
fn number(port: &Port, (low, high): (f64, f64), value: f64) -> PyResult<f32> {
    if !(low..=high).contains(&value) {
        return Err(PyValueError::new_err(format!(
            "{} takes {}, numbers from {low} to {high}, and one is {value}",
            port.name(),
            dtype_name(port)
        )));
    }
    port.number(value).map_err(|error| PyValueError::new_err(error.to_string()))
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
    let is_array = given.cast::<PyUntypedArray>().is_ok();
    // A tensor of another library is written where it is.
    let given =
        if is_array || !given.hasattr("__dlpack__")? { given } else { as_array(port, &given, false)?.into_any() };
    let array = given.cast_into::<PyArrayDyn<f32>>();
    let array =
        array.map_err(|_| PyTypeError::new_err(format!("out[{:?}] must be an array of float32", port.name())))?;
    if !array.getattr("flags")?.getattr("writeable")?.is_truthy()? {
        return Err(wrong("is read-only".into()));
    }
    if array.shape() != dims {
        return Err(wrong(format!("must be {dims:?}, not {:?}", array.shape())));
    }
    if !array.is_c_contiguous() || !array.is_aligned() {
        return Err(wrong("must lie row by row (C order), aligned".into()));
    }
    Ok(array)
}
