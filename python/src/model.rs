//! A compiled model, and what it takes and gives.

use std::path::PathBuf;
use std::sync::Arc;

use netc::{
    Cache, Compiler, Images, ModelOptions, ModelSize, ModelsBySize, NetworkSource, Picture, Preprocess, classes,
};
use numpy::{PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyKeyError, PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyTuple};

use crate::{arrays, errors, interruptible};

/// An input or output of a model.
#[pyclass(frozen, module = "netc", eq, hash)]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Port {
    /// Its name.
    #[pyo3(get)]
    name: String,
    /// Its sizes; the first is the number of images that the code computes at once.
    #[pyo3(get)]
    shape: Vec<usize>,
    /// Its element, as NumPy calls it.
    #[pyo3(get)]
    dtype: String,
}

#[pymethods]
impl Port {
    #[new]
    fn new(name: String, shape: Vec<usize>, dtype: String) -> Self {
        Self { name, shape, dtype }
    }

    fn __getnewargs__(&self) -> (String, Vec<usize>, String) {
        (self.name.clone(), self.shape.clone(), self.dtype.clone())
    }

    fn __repr__(&self) -> String {
        format!("Port({:?}, shape={:?}, dtype={:?})", self.name, self.shape, self.dtype)
    }
}

impl Port {
    fn of(port: &netc::Port) -> Self {
        Self { name: port.name().into(), shape: port.shape().to_vec(), dtype: arrays::dtype_name(port).into() }
    }
}

/// A compiled network: `model(x)`, `model(left, right)`, `model(image=x)`. It may be called from several threads at once.
///
/// A call takes an array for each input, in the inputs' order or by name, and gives an array of the only output, or a
/// dictionary of arrays by the outputs' names. Arrays are of the shapes and elements that `inputs` tells, such as float32
/// `[N, 3, 224, 224]`, with any number of images `N` where the network treats them one by one; a single image may lack the first
/// axis. Whatever NumPy reads is an array, and so is what has `__dlpack__`. What is float32 and lies row by row is not copied.
///
/// A call raises ValueError for an array of another shape, for which the network cannot be compiled; TypeError for another
/// element, and for too many or too few arrays; KeyError for an input that there is not; MemoryError where the run needs more
/// memory than it may take; ModelError where the model's file was changed since it was opened, or is damaged.
#[pyclass(frozen, module = "netc", weakref)]
pub(crate) struct Model {
    model: Arc<netc::Model>,
    /// Models of the same network for inputs of other sizes.
    by_size: Arc<ModelsBySize>,
    /// The compiled file that it was loaded from.
    file: Option<PathBuf>,
    options: ModelOptions,
}

/// Models for so many sizes of inputs are kept.
const SIZES_KEPT: usize = 8;

/// What a model is compiled of for inputs of other sizes.
pub(crate) struct Origin {
    pub compiler: Compiler,
    pub source: NetworkSource,
    pub cache: Option<Cache>,
}

impl Model {
    /// A model of a compiled file, or of one's bytes, which is compiled again where inputs have other sizes, if what it says of
    /// its weights is still true.
    pub(crate) fn loaded(model: netc::Model, file: Option<PathBuf>, options: ModelOptions) -> Self {
        let compiler = Compiler::new().batch(model.batch()).options(options);
        let model = Arc::new(model);
        let source = file.clone().map_or_else(|| NetworkSource::Open(model.clone()), NetworkSource::Compiled);
        Self { file, ..Self::made(model, Origin { compiler, source, cache: None }, options) }
    }

    /// A model that was compiled here.
    pub(crate) fn compiled(model: netc::Model, origin: Origin, options: ModelOptions) -> Self {
        Self::made(Arc::new(model), origin, options)
    }

    fn made(model: Arc<netc::Model>, origin: Origin, options: ModelOptions) -> Self {
        let Origin { compiler, source, cache } = origin;
        let by_size = Arc::new(ModelsBySize::new(compiler, source, &model, SIZES_KEPT).cached(cache));
        Self { model, by_size, file: None, options }
    }

    /// The model for arrays of these sizes: this one, or one that is compiled for them.
    fn for_sizes(&self, py: Python<'_>, arrays: &[Bound<'_, PyUntypedArray>]) -> PyResult<Arc<netc::Model>> {
        let ports = self.model.inputs();
        if self.model.sizes().len() > 1 && self.model.size(arrays.iter().map(|array| array.shape())).is_ok() {
            return Ok(self.model.clone());
        }
        let by_size = &self.by_size;
        let is_other = |(port, array): (&netc::Port, &Bound<'_, PyUntypedArray>)| {
            let (wanted, given) = (port.shape(), array.shape());
            given.get(1..) != wanted.get(1..) && Some(given) != wanted.get(1..)
        };
        if !ports.iter().zip(arrays).any(is_other) {
            return Ok(self.model.clone());
        }
        let shapes: Vec<Vec<usize>> = ports.iter().zip(arrays).map(|(port, array)| whole(port, array)).collect();
        let are_images = ports.iter().zip(&shapes).all(|(port, shape)| shape.len() == port.shape().len());
        if !are_images || shapes.iter().any(|shape| shape.contains(&0)) {
            return Ok(self.model.clone());
        }
        if let Some(model) = by_size.known(&shapes) {
            return Ok(model);
        }
        let (all, wanted) = (by_size.clone(), shapes.clone());
        interruptible(py, move || all.model(&wanted))?.map_err(|error| {
            let cause = errors::of_compiling(py, &error);
            let why = cause.value(py);
            let sizes = shapes.iter().map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(", ");
            let there = self.model.sizes().map(|size| size.to_string()).collect::<Vec<_>>().join("; ");
            let hint =
                ports.iter().zip(&shapes).map(|(port, shape)| arrays::hint(port, shape)).max().unwrap_or_default();
            let name = self.model.name();
            let message = format!("{name} cannot take {sizes}: {why}. It is compiled for {there}{hint}");
            let refused = PyValueError::new_err(message);
            refused.set_cause(py, Some(cause));
            refused
        })
    }

    fn input_place(&self, name: &str) -> PyResult<usize> {
        place(self.model.inputs(), "input", name)
    }

    /// Runs on objects that are arrays, one for each input, and gives an array for each output.
    fn compute<'py>(
        &self,
        py: Python<'py>,
        given: Vec<Bound<'py, PyAny>>,
        mut out: Vec<Option<Bound<'py, PyAny>>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let ports = self.model.inputs();
        let given: PyResult<Vec<_>> =
            ports.iter().zip(&given).map(|(port, object)| arrays::as_array(port, object, true)).collect();
        let given = given?;
        let whole = self.for_sizes(py, &given)?;
        let model = &size_for(&whole, &given)?;
        let batched = model.batched();
        let mut inputs = vec![];
        let mut images = None;
        for (port, array) in model.inputs().iter().zip(&given) {
            let (values, dims) = arrays::input(port, batched.is_some(), array)?;
            images = images.or(dims.first().copied());
            inputs.push(values);
        }
        out.resize(model.outputs().len(), None);
        let mut outputs = vec![];
        for (port, given) in model.outputs().iter().zip(out.iter().cloned()) {
            let mut dims = port.shape().to_vec();
            if let (Some(batch), Some(first), Some(images)) = (batched, dims.first_mut(), images) {
                *first = *first / batch * images;
            }
            outputs.push(arrays::output(py, port, &dims, given)?);
        }
        let values: Vec<&[f32]> = inputs.iter().map(arrays::Values::as_slice).collect();
        // Those of other libraries are not known to NumPy's borrows.
        let mut taken: Vec<_> = values.iter().map(|values| values.as_ptr_range()).collect();
        for (port, array) in model.outputs().iter().zip(&outputs) {
            let first = array.data().cast_const();
            let own = first..first.wrapping_add(array.len());
            if taken.iter().any(|other| own.start < other.end && other.start < own.end) {
                let message = format!("out[{:?}] shares memory with an input or another output", port.name());
                return Err(PyValueError::new_err(message));
            }
            taken.push(own);
        }
        let writing: Result<Vec<_>, _> = outputs.iter().map(|array| array.try_readwrite()).collect();
        let mut writing = writing.map_err(|_| PyValueError::new_err("an output is read or written elsewhere"))?;
        let slices: Result<Vec<&mut [f32]>, _> = writing.iter_mut().map(|array| array.as_slice_mut()).collect();
        let mut slices = slices.map_err(|e| PyValueError::new_err(e.to_string()))?;
        // The borrows above keep both sides of the arrays as they are while the lock is not ours.
        py.detach(|| model.run(&values, &mut slices)).map_err(|e| errors::of_running(&e))?;
        drop(writing);
        let first = |index: usize| outputs[index].readonly().as_slice().ok().and_then(|values| values.first().copied());
        let mut existing = vec![];
        for ((port, array), given) in model.outputs().iter().zip(&outputs).zip(out) {
            // What the caller gave is what the caller gets.
            let array = given.map_or_else(|| arrays::as_element(port, array.clone()), Ok)?;
            existing.push(match whole.counted(port, |index| first(index).unwrap_or(0.0)) {
                Some((rows, count)) => arrays::existing(&array, rows.axis, rows.dims(port.shape(), count)[rows.axis])?,
                None => array,
            });
        }
        Ok(existing)
    }

    /// The arrays of a call, in the inputs' order.
    fn in_order<'py>(
        &self,
        args: &Bound<'py, PyTuple>,
        named: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let inputs = self.model.inputs();
        if args.len() > inputs.len() {
            return Err(PyTypeError::new_err(format!(
                "the model has {} inputs, {} were given",
                inputs.len(),
                args.len()
            )));
        }
        let mut values: Vec<Option<Bound<'py, PyAny>>> = args.iter().map(Some).collect();
        values.resize(inputs.len(), None);
        for (name, value) in named.into_iter().flatten() {
            let name = self::named(&name)?;
            if values[self.input_place(&name)?].replace(value).is_some() {
                return Err(PyTypeError::new_err(format!("the input {name:?} is given twice")));
            }
        }
        let missing = |(port, value): (&netc::Port, Option<Bound<'py, PyAny>>)| {
            value.ok_or_else(|| PyTypeError::new_err(format!("the input {:?} is missing", port.name())))
        };
        inputs.iter().zip(values).map(missing).collect()
    }

    /// The input that takes a picture: its place, channels, height and width.
    fn picture_input(&self, name: Option<&str>) -> PyResult<(usize, [usize; 3])> {
        let index = match name {
            Some(name) => self.input_place(name)?,
            None => 0,
        };
        let port = &self.model.inputs()[index];
        match port.shape() {
            &[_, channels @ (1 | 3), height, width] => Ok((index, [channels, height, width])),
            other => Err(PyValueError::new_err(format!("the input {:?} is no image but {other:?}", port.name()))),
        }
    }

    fn prepared(&self, image: &Bound<'_, PyAny>, name: Option<&str>) -> PyResult<(Vec<f32>, [usize; 3])> {
        let py = image.py();
        let (index, shape) = self.picture_input(name)?;
        let picture = picture(image)?;
        let stated = self.model.about().preprocess.get(index).cloned().flatten();
        let usual = || self.model.inputs()[index].usual_preprocess();
        let steps = stated.or_else(usual).unwrap_or_else(|| Preprocess::usual(shape));
        let values = py.detach(|| picture.prepare(&steps, shape)).map_err(|e| errors::of_picture(&e))?;
        Ok((values, shape))
    }
}

/// Of a model's sizes the one of the arrays, which the first is where there is one only: whoever takes the arrays says what is
/// wrong with them.
fn size_for<'m>(model: &'m netc::Model, arrays: &[Bound<'_, PyUntypedArray>]) -> PyResult<ModelSize<'m>> {
    let mut sizes = model.sizes();
    match (sizes.len(), sizes.next()) {
        (1, Some(only)) => Ok(only),
        (_, first) => {
            let ports = first.map_or(&[][..], |size| size.inputs());
            let shapes: Vec<Vec<usize>> = ports.iter().zip(arrays).map(|(port, array)| whole(port, array)).collect();
            model.size(shapes.iter().map(Vec::as_slice)).map_err(|e| errors::of_running(&e))
        }
    }
}

/// An array's sizes with the number of images, which a single image may lack.
fn whole(port: &netc::Port, array: &Bound<'_, PyUntypedArray>) -> Vec<usize> {
    match array.ndim() + 1 == port.shape().len() {
        true => [&[1], array.shape()].concat(),
        false => array.shape().to_vec(),
    }
}

/// A name as text of HTML: names come from files.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn place(ports: &[netc::Port], what: &str, name: &str) -> PyResult<usize> {
    ports.iter().position(|port| port.name() == name).ok_or_else(|| {
        let names: Vec<String> = ports.iter().map(|port| format!("{:?}", port.name())).collect();
        PyKeyError::new_err(format!("there is no {what} {name:?}; there is {}", names.join(", ")))
    })
}

/// The name of a port.
fn named(name: &Bound<'_, PyAny>) -> PyResult<String> {
    name.extract().map_err(|_| PyTypeError::new_err(format!("names of inputs and outputs are strings, not {name}")))
}

/// Arrays by name, from whatever is a mapping.
fn by_name<'py>(what: &str, given: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    if let Ok(dict) = given.cast::<PyDict>() {
        return Ok(dict.clone());
    }
    let wrong = || {
        let kind = given.get_type().name().map_or("that".into(), |name| name.to_string());
        PyTypeError::new_err(format!("{what} is a dictionary of arrays by name, not {kind}"))
    };
    let items = given.cast::<PyMapping>().map_err(|_| wrong())?.items()?;
    PyDict::from_sequence(items.as_any())
}

/// A number of classes.
fn how_many(top_k: &Bound<'_, PyAny>) -> PyResult<usize> {
    top_k.extract().map_err(|error: PyErr| match error.is_instance_of::<PyTypeError>(top_k.py()) {
        true => PyTypeError::new_err(format!("top_k is a whole number, not {top_k}")),
        false => PyValueError::new_err(format!("top_k is a number from 0 on, not {top_k}")),
    })
}

/// A picture from a path, an open file or its bytes, an array of levels `[height, width]` or `[height, width, 3]`, or one of PIL's.
fn picture(image: &Bound<'_, PyAny>) -> PyResult<Picture> {
    let py = image.py();
    if let Ok(path) = image.extract::<PathBuf>() {
        return py.detach(|| Picture::read(path)).map_err(|e| errors::of_picture(&e));
    }
    let is_pil = image.hasattr("mode")? && image.hasattr("convert")?;
    // An open file, or one's bytes.
    let read = if !is_pil && image.hasattr("read")? { image.call_method0("read")? } else { image.clone() };
    if let Ok(bytes) = read.cast::<PyBytes>() {
        let bytes = bytes.as_bytes();
        return py.detach(|| Picture::from_bytes(bytes)).map_err(|e| errors::of_picture(&e));
    }
    // PIL's pictures with a palette, with transparency, of one bit become colours.
    let image = match is_pil {
        true => {
            let mode: String = image.getattr("mode")?.extract()?;
            // To PIL, everything above 255 is white.
            if mode.starts_with('I') || mode == "F" {
                let message =
                    format!("an image of PIL's mode {mode} has no levels from 0 to 255; scale it and convert it first");
                return Err(PyValueError::new_err(message));
            }
            image.call_method1("convert", (if mode == "L" { "L" } else { "RGB" },))?
        }
        false => image.clone(),
    };
    let array = py.import("numpy")?.call_method1("ascontiguousarray", (image,))?;
    let levels: PyReadonlyArrayDyn<'_, u8> = array.extract().map_err(|_| {
        PyTypeError::new_err(
            "an image is a path, an open file or its bytes, a picture of PIL, or an array of uint8 [height, width] or \
             [height, width, 3]",
        )
    })?;
    let (height, width, channels) = match levels.shape() {
        &[height, width] => (height, width, 1),
        &[height, width, channels @ (1 | 3)] => (height, width, channels),
        other => {
            return Err(PyValueError::new_err(format!(
                "an image is [height, width] or [height, width, 3], not {other:?}; channels come last in it"
            )));
        }
    };
    if height == 0 || width == 0 {
        return Err(PyValueError::new_err("the image has no pixels"));
    }
    let levels = levels.as_slice().map_err(|e| PyValueError::new_err(e.to_string()))?.to_vec();
    Ok(Picture { width, height, channels, levels })
}

#[pymethods]
impl Model {
    /// The network's name.
    #[getter]
    fn name(&self) -> &str {
        self.model.name()
    }

    /// What a run takes, in order.
    #[getter]
    fn inputs(&self) -> Vec<Port> {
        self.model.inputs().iter().map(Port::of).collect()
    }

    /// What a run gives, in order.
    #[getter]
    fn outputs(&self) -> Vec<Port> {
        self.model.outputs().iter().map(Port::of).collect()
    }

    /// The shapes of the inputs by name, of each size that the model is compiled for.
    #[getter]
    fn sizes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let sizes = self.model.sizes().map(|size| {
            let shapes = PyDict::new(py);
            size.inputs().iter().try_for_each(|port| shapes.set_item(port.name(), port.shape().to_vec()))?;
            Ok(shapes)
        });
        PyList::new(py, sizes.collect::<PyResult<Vec<_>>>()?)
    }

    /// Images that are computed at once by each program of the first size, among which runs choose.
    #[getter]
    fn batches(&self) -> Vec<usize> {
        self.model.sizes().next().map_or(vec![], |size| size.batches().collect())
    }

    /// Names of the classes; empty where they are not known.
    #[getter]
    fn labels(&self) -> Vec<String> {
        self.model.about().labels.clone()
    }

    /// Images that the code computes at once; `None` of a network that takes one number of images only.
    #[getter]
    fn batch(&self) -> Option<usize> {
        self.model.batched()
    }

    /// Threads of a run.
    #[getter]
    fn threads(&self) -> usize {
        self.model.threads()
    }

    /// CPU features that the code uses.
    #[getter]
    fn features(&self) -> Vec<String> {
        self.model.features().to_vec()
    }

    /// Bytes that a run takes besides the weights.
    #[getter]
    fn run_memory(&self) -> u64 {
        self.model.run_memory()
    }

    /// Bytes of the packed weights.
    #[getter]
    fn weights_bytes(&self) -> u64 {
        self.model.weights_bytes()
    }

    #[pyo3(signature = (*args, **named))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        named: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = self.in_order(args, named)?;
        let outputs = self.compute(py, given, vec![])?;
        match &outputs[..] {
            [only] => Ok(only.clone()),
            _ => Ok(self.as_dict(py, &outputs)?.into_any()),
        }
    }

    /// Runs the network on arrays by name.
    ///
    /// Args:
    ///     inputs: An array for each input by its name, as a call takes them.
    ///     out: Arrays by outputs' names that these are written to, without a copy: float32, of the output's shape, row by
    ///         row, writeable, apart from all inputs. Tensors of other libraries that have `__dlpack__` are arrays, too.
    ///
    /// Returns:
    ///     An array for each output by its name; those of `out` are the same objects.
    ///
    /// Raises:
    ///     ValueError: An array of another shape or layout, or one of `out` that is read-only or shares memory with an input.
    ///     TypeError: An array of another element, or a missing input.
    ///     KeyError: There is no such input or output.
    ///     MemoryError, ModelError: As of a call.
    #[pyo3(signature = (inputs, out=None))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        inputs: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let given = self.in_order(&PyTuple::empty(py), Some(&by_name("inputs", inputs)?))?;
        let mut wanted = vec![None; self.model.outputs().len()];
        for (name, array) in out.map(|out| by_name("out", out)).transpose()?.into_iter().flatten() {
            let name = named(&name)?;
            wanted[place(self.model.outputs(), "output", &name)?] = Some(array);
        }
        let outputs = self.compute(py, given, wanted)?;
        self.as_dict(py, &outputs)
    }

    /// A picture as the network's input, by the steps that the network's text states, else scaled to its size and to numbers
    /// from 0 to 1.
    ///
    /// Args:
    ///     image: A path (PNG, JPEG, WebP, BMP, GIF, TIFF, PNM), such a file's bytes, an open file, a picture of PIL, or levels of
    ///         uint8, `[height, width]` or `[height, width, 3]`.
    ///     input: The input's name; the first without it.
    ///
    /// Returns:
    ///     float32 `[1, channels, height, width]` in the units that the network takes.
    ///
    /// Raises:
    ///     FileNotFoundError: There is no such file.
    ///     ValueError: A file that is no picture, an array of another shape, or an input that takes none.
    ///     TypeError: Something else than a picture.
    ///     KeyError: There is no such input.
    #[pyo3(signature = (image, input=None))]
    fn preprocess<'py>(
        &self,
        image: &Bound<'py, PyAny>,
        input: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let py = image.py();
        let input = input.map(named).transpose()?;
        let (values, [channels, height, width]) = self.prepared(image, input.as_deref())?;
        let array = numpy::PyArray1::from_vec(py, values);
        Ok(array.reshape([1, channels, height, width])?.to_dyn().clone())
    }

    /// The likeliest classes of a picture, the likeliest first.
    ///
    /// Args:
    ///     image: A picture, as `preprocess` takes it.
    ///     top_k: How many classes.
    ///     labels: Names of the classes in place of `labels`; without any, classes are called by their numbers from 0.
    ///
    /// Returns:
    ///     Names with probabilities from 0 to 1.
    ///
    /// Raises:
    ///     TypeError: The network has several inputs, or its first output is no list of scores.
    ///     ValueError, FileNotFoundError: As `preprocess`; or labels that are not as many as the classes.
    #[pyo3(signature = (image, top_k=5, labels=None))]
    fn classify(
        &self,
        image: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = how_many)] top_k: usize,
        labels: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<(String, f32)>> {
        let py = image.py();
        let output = &self.model.outputs()[0];
        let scores: usize = output.shape().iter().skip(1).product();
        let is_ranking = output.shape().iter().skip(1).filter(|&&size| size > 1).count() == 1;
        if self.model.inputs().len() != 1 || !is_ranking || output.shape().first() != Some(&self.model.batch()) {
            let message = format!("{} is no network that tells classes of a picture apart", self.model.name());
            return Err(PyTypeError::new_err(message));
        }
        let labels = match labels.map(|labels| labels.extract::<Vec<String>>()).transpose() {
            Ok(given) => given.unwrap_or_else(|| self.labels()),
            Err(_) => return Err(PyTypeError::new_err("labels is a list of strings, one for each class")),
        };
        if !labels.is_empty() && labels.len() != scores {
            let message = format!("there are {} labels, and the network has {scores} classes", labels.len());
            return Err(PyValueError::new_err(message));
        }
        let (values, _) = self.prepared(image, None)?;
        let model = &self.model;
        let mut outputs: Vec<Vec<f32>> =
            model.outputs().iter().map(|port| vec![0.0; port.elements() / model.batch()]).collect();
        let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
        py.detach(|| model.run(&[&values], &mut slices)).map_err(|e| errors::of_running(&e))?;
        let named = |class: classes::Class| (class.label.unwrap_or_else(|| class.index.to_string()), class.probability);
        Ok(classes::ranked(&outputs[0], &labels, top_k).into_iter().map(named).collect())
    }

    /// The bytes of the compiled file, which `netc.load` takes.
    ///
    /// Raises:
    ///     ModelError: The file that the model was loaded from was changed meanwhile.
    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = py.detach(|| self.model.to_bytes()).map_err(|e| errors::of_opening(&e))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// Writes the compiled file (`.netc`), which appears when it is whole, in place of one that is there.
    ///
    /// Raises:
    ///     OSError: It cannot be written.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.model.save(&path)).map_err(|e| PyOSError::new_err(e.to_string()))
    }

    /// A table for notebooks: ports, then steps.
    fn _repr_html_(&self) -> String {
        let cell = |text: &str| format!("<td>{}</td>", escaped(text));
        let row = |cells: &[&str]| format!("<tr>{}</tr>", cells.iter().map(|text| cell(text)).collect::<String>());
        let port = |what: &str, port: &netc::Port| row(&[what, port.name(), &self.port_sizes(port), ""]);
        let ports = self.model.inputs().iter().map(|p| port("input", p));
        let ports = ports.chain(self.model.outputs().iter().map(|p| port("output", p)));
        let step =
            |s: &netc::StepRecord| row(&[s.name(), s.op(), s.algorithm(), &format!("{:.1}", s.flops() as f64 / 1e6)]);
        let steps = self.model.steps().iter().map(step);
        format!(
            "<b>{}</b>, {:.1} MB of weights, {} threads<table>{}<tr><th>step</th><th>operation</th><th>algorithm</th>\
             <th>MFLOP</th></tr>{}</table>",
            escaped(self.model.name()),
            self.model.weights_bytes() as f64 / 1e6,
            self.model.threads(),
            ports.collect::<String>(),
            steps.collect::<String>(),
        )
    }

    /// By the file that it was loaded from, else by its bytes.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let module = py.import("netc._netc")?;
        let ModelOptions { threads, copy_weights, memory, .. } = self.options;
        match &self.file {
            Some(file) => Ok((module.getattr("load")?, (file, threads, copy_weights, memory).into_pyobject(py)?)),
            None => Ok((module.getattr("load_bytes")?, (self.to_bytes(py)?, threads, memory).into_pyobject(py)?)),
        }
    }

    fn __repr__(&self) -> String {
        let ports = |ports: &[netc::Port]| {
            let shown = |port: &netc::Port| format!("{}: {}", port.name(), self.port_sizes(port));
            ports.iter().map(shown).collect::<Vec<_>>().join(", ")
        };
        format!(
            "<netc.Model {}({}) -> ({})>",
            self.model.name(),
            ports(self.model.inputs()),
            ports(self.model.outputs())
        )
    }

    /// The steps of a run: name, operation and algorithm of each, and the operations that it counts.
    #[getter]
    fn steps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let steps = self.model.steps().iter().map(|step| (step.name(), step.op(), step.algorithm(), step.flops()));
        PyList::new(py, steps)
    }
}

impl Model {
    /// Sizes with `N` for the number of images.
    fn port_sizes(&self, port: &netc::Port) -> String {
        let mut sizes: Vec<String> = port.shape().iter().map(usize::to_string).collect();
        if let (Some(Images::Independent { .. }), Some(first)) = (self.model.images(), sizes.first_mut()) {
            *first = "N".into();
        }
        format!("{}[{}]", port.element(), sizes.join(", "))
    }

    fn as_dict<'py>(&self, py: Python<'py>, arrays: &[Bound<'py, PyAny>]) -> PyResult<Bound<'py, PyDict>> {
        let results = PyDict::new(py);
        for (port, array) in self.model.outputs().iter().zip(arrays) {
            results.set_item(port.name(), array)?;
        }
        Ok(results)
    }
}
