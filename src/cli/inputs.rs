//! What a network is run on: pictures, or arrays from files.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::args::explain_crops;
use super::console::Console;
use super::engine::Engine;
use super::failure::{Failure, Result};
use super::network::memory_limit;
use super::run::{ArrayLayout, RunArgs};
use crate::artifact::Port;
use crate::driver;
use crate::image::{self, Crops};
use crate::npy;
use crate::preprocess::{Color, Preprocess, Resize};
use crate::random::Draws;
use crate::runtime::default_memory;
use crate::tensor::{Element, Shape, Tensor};

/// What the random numbers of `--noise` are drawn for.
const NOISE: u32 = 0x6e6f_6973;

/// The arrays that `--input` names. Each file is read once, since it may be a pipe, though more than one place
/// asks for it.
pub(crate) struct Arrays {
    /// Bytes that one may take.
    memory: u64,
    read: RefCell<HashMap<PathBuf, Tensor>>,
}

impl Arrays {
    pub(crate) fn new(console: Console) -> Self {
        Self { memory: memory_limit(console), read: RefCell::default() }
    }

    /// The shape of an array, which is kept for [`Self::take`].
    pub(crate) fn shape(&self, file: &Path) -> Result<Shape> {
        let tensor = self.take(file)?;
        let shape = tensor.shape().clone();
        self.read.borrow_mut().insert(file.into(), tensor);
        Ok(shape)
    }

    /// The shapes of the arrays of `[NAME=]FILE`, whatever they are for.
    pub(crate) fn shapes(&self, input: &[String]) -> Result<Vec<Shape>> {
        let file = |argument: &String| match argument.split_once('=') {
            Some((_, file)) if !Path::new(argument).exists() => PathBuf::from(file),
            _ => PathBuf::from(argument),
        };
        input.iter().map(|argument| self.shape(&file(argument))).collect()
    }

    /// An array, for whoever computes on it.
    pub(crate) fn take(&self, file: &Path) -> Result<Tensor> {
        let kept = self.read.borrow_mut().remove(file);
        kept.map_or_else(|| npy::read_within(file, self.memory).map_err(Failure::message), Ok)
    }
}

/// A picture that cannot be read, and why.
pub(crate) struct Broken {
    pub name: String,
    pub message: String,
}

/// Everything that a run computes on, to be had in parts.
pub(crate) enum Feed {
    Pictures {
        paths: Vec<PathBuf>,
        preprocess: Preprocess,
        /// Channels, height and width.
        shape: [usize; 3],
        /// The network takes channels last.
        channels_last: bool,
        /// Several inputs are cut of each.
        crops: Option<Crops>,
        /// Pictures are turned as EXIF says.
        by_exif: bool,
        /// Bytes that reading one may take.
        memory: u64,
    },
    /// One for each input; `images` along the first axis.
    Arrays { tensors: Vec<Tensor>, images: usize, name: String },
    /// For a network that takes one number of images only.
    Whole { tensors: Vec<Tensor>, name: String },
}

impl Feed {
    pub(crate) fn new(args: &RunArgs, engine: &Engine, arrays: &Arrays, console: Console) -> Result<Self> {
        match args.noise {
            Some(count) => Self::noise(count as usize, args.noise_seed, engine, arrays.memory),
            None if args.image.is_empty() => Self::arrays(args, engine, arrays),
            None => Self::pictures(args, engine, console),
        }
    }

    /// Number of results.
    pub(crate) fn len(&self) -> usize {
        match self {
            Feed::Pictures { paths, .. } => paths.len(),
            Feed::Arrays { images, .. } => *images,
            Feed::Whole { .. } => 1,
        }
    }

    /// What to call the nth result.
    pub(crate) fn name(&self, index: usize) -> String {
        match self {
            Feed::Pictures { paths, .. } => paths[index].display().to_string(),
            Feed::Arrays { images: 1, name, .. } | Feed::Whole { name, .. } => name.clone(),
            Feed::Arrays { name, .. } => format!("{name}[{index}]"),
        }
    }

    /// The inputs for the results from `first` to `end`.
    pub(crate) fn part(&self, first: usize, end: usize) -> Result<Vec<Tensor>> {
        match self {
            Feed::Pictures { .. } => {
                let mut data = vec![];
                for index in first..end {
                    data.extend(self.picture(index)?);
                }
                Ok(self.pictures_together(data, end - first))
            }
            Feed::Arrays { tensors, .. } => Ok(tensors.iter().map(|t| rows(t, first, end)).collect()),
            Feed::Whole { tensors, .. } => Ok(tensors.clone()),
        }
    }

    /// As [`Self::part`] without the pictures that cannot be read, which go to `broken`; and the numbers of the others.
    pub(crate) fn readable(
        &self,
        first: usize,
        end: usize,
        broken: &mut Vec<Broken>,
    ) -> Result<(Vec<Tensor>, Vec<usize>)> {
        if !matches!(self, Feed::Pictures { .. }) {
            return Ok((self.part(first, end)?, (first..end).collect()));
        }
        let (mut data, mut indices) = (vec![], vec![]);
        for index in first..end {
            match self.picture(index) {
                Ok(values) => {
                    data.extend(values);
                    indices.push(index);
                }
                Err(Failure::Message(message)) => broken.push(Broken { name: self.name(index), message }),
                Err(other) => return Err(other),
            }
        }
        let count = indices.len();
        Ok((self.pictures_together(data, count), indices))
    }

    /// The numbers of one picture, or of several crops of it.
    fn picture(&self, index: usize) -> Result<Vec<f32>> {
        let Feed::Pictures { paths, preprocess, shape, crops, by_exif, memory, .. } = self else { return Ok(vec![]) };
        let exif = if *by_exif { image::Exif::Heeded } else { image::Exif::Ignored };
        let path = &paths[index];
        let picture = image::read_within(path, exif, *memory).map_err(Failure::message)?;
        let values = match crops {
            Some(crops) => picture.crops(preprocess, *shape, crops),
            None => picture.prepare(preprocess, *shape),
        };
        values.map_err(|e| Failure::message(format!("{}: {e}", path.display())))
    }

    /// The input that the numbers of so many pictures are.
    fn pictures_together(&self, data: Vec<f32>, count: usize) -> Vec<Tensor> {
        let Feed::Pictures { shape: [channels, height, width], channels_last, crops, .. } = *self else {
            return vec![];
        };
        let rows = count * crops.map_or(1, |crops| crops.count());
        if channels_last {
            let data = data.chunks_exact(channels * height * width).flat_map(|i| interleaved(i, channels));
            return vec![Tensor::new([rows, height, width, channels], data.collect())];
        }
        vec![Tensor::new([rows, channels, height, width], data)]
    }

    fn pictures(args: &RunArgs, engine: &Engine, console: Console) -> Result<Self> {
        let [port] = &engine.inputs[..] else {
            return Err(Failure::Usage(format!(
                "{} has {} inputs; use --input NAME=FILE",
                engine.name,
                engine.inputs.len()
            )));
        };
        let Some((shape @ [_, height, width], channels_last)) = image_layout(port) else {
            return Err(no_image(engine, port));
        };
        let crops = args.crops()?;
        let rows = args.image.len() * crops.map_or(1, |crops| crops.count());
        if engine.batch().is_none() && rows != port.shape[0] {
            return Err(Failure::message(format!(
                "the input {} of {} takes {} at once and no other number of pictures, not {rows}: {}",
                port.name,
                engine.name,
                port.shape[0],
                engine.one_batch()
            )));
        }
        if crops.is_some() && !engine.ranks() {
            return Err(Failure::Usage(format!("--crops averages over classes, which {} does not tell", engine.name)));
        }
        let preprocess = engine.preprocess.first().cloned().flatten().unwrap_or_else(|| {
            let is_real = port.element == Element::F32;
            let pixels = if is_real { "scaled to 0..1" } else { "taken as they are" };
            console.note(format_args!(
                "the spec has no preprocess for {}: images are resized to {height}×{width} and {pixels}; --preprocess says it otherwise",
                port.name
            ));
            port.usual_preprocess().unwrap_or_else(|| Preprocess::usual(shape))
        });
        check_pixels(&preprocess, port)?;
        if let Some(crops) = &crops {
            crops.check(&preprocess, shape).map_err(|error| explain_crops(error, [height, width]))?;
        }
        let memory = console.max_memory.unwrap_or_else(|| image::DEFAULT_MEMORY.min(default_memory()));
        let (paths, by_exif) = (args.image.clone(), !args.no_exif);
        let pictures = Feed::Pictures { paths, preprocess, shape, channels_last, crops, by_exif, memory };
        if engine.batch().is_some() {
            return Ok(pictures);
        }
        let names: Vec<String> = (0..pictures.len()).map(|i| pictures.name(i)).collect();
        Ok(Feed::Whole { tensors: pictures.part(0, pictures.len())?, name: names.join(", ") })
    }

    /// Random numbers for every input, which the seed, the input and the element tell.
    fn noise(count: usize, seed: u64, engine: &Engine, memory: u64) -> Result<Self> {
        let is_free = engine.batch().is_some();
        let (mut tensors, mut elements) = (vec![], 0u64);
        for (number, port) in engine.inputs.iter().enumerate() {
            let mut dims = port.shape.clone();
            if is_free {
                dims[0] = count;
            } else if dims.first() != Some(&count) {
                let takes = shape_text(&port.shape);
                let why = engine.one_batch();
                return Err(Failure::Usage(format!("--noise {count}: the input {} takes {takes}: {why}", port.name)));
            }
            elements =
                dims.iter().fold(1, |product: u64, &size| product.saturating_mul(size as u64)).saturating_add(elements);
            if elements.saturating_mul(4) > memory {
                return Err(Failure::message(format!("--noise {count} takes more memory than --max-memory allows")));
            }
            let mut draws = Draws::new(seed, NOISE, [number as u32, 0, 0]);
            let shape = Shape::new(dims);
            let of_port = |v: f64| if port.element == Element::F32 { v as f32 } else { v.round() as f32 };
            let data = (0..shape.elements()).map(|_| of_port(draws.normal())).collect();
            tensors.push(Tensor::new(shape, data));
        }
        let name = "noise".to_string();
        Ok(if is_free { Feed::Arrays { tensors, images: count, name } } else { Feed::Whole { tensors, name } })
    }

    fn arrays(args: &RunArgs, engine: &Engine, arrays: &Arrays) -> Result<Self> {
        let files = assign("--input", &args.input, &engine.inputs)?;
        let missing: Vec<&str> =
            engine.inputs.iter().zip(&files).filter(|(_, f)| f.is_none()).map(|(p, _)| p.name.as_str()).collect();
        if !missing.is_empty() {
            return Err(Failure::Usage(format!("--input is missing for {}", missing.join(", "))));
        }
        let batch = engine.batch();
        let files: Vec<PathBuf> = files.into_iter().flatten().collect();
        let mut tensors = vec![];
        for (port, file) in engine.inputs.iter().zip(&files) {
            let tensor = match args.layout {
                ArrayLayout::Nchw => arrays.take(file)?,
                ArrayLayout::Nhwc => channels_first(arrays.take(file)?),
            };
            let tensor = fit(tensor, port, engine, file)?;
            check_numbers(&tensor, port, file)?;
            tensors.push(tensor);
        }
        let name = files[0].display().to_string();
        if batch.is_none() {
            return Ok(Feed::Whole { tensors, name });
        }
        let images = tensors[0].shape()[0];
        if let Some((other, file)) = tensors.iter().zip(&files).find(|(t, _)| t.shape()[0] != images) {
            let found = other.shape()[0];
            return Err(Failure::message(format!("{} has {found} images, {name} has {images}", file.display())));
        }
        Ok(Feed::Arrays { tensors, images, name })
    }
}

/// Requires steps that leave pixels levels, of an input that takes these.
fn check_pixels(preprocess: &Preprocess, port: &Port) -> Result<()> {
    let computes = preprocess.scale.is_some() || !preprocess.mean.is_empty() || !preprocess.std.is_empty();
    match port.element {
        Element::U8 if !computes => Ok(()),
        Element::F32 => Ok(()),
        Element::U8 => Err(Failure::Usage(format!(
            "the input {} takes pixels as they are, as u8: leave out scale, mean and std of the preprocessing",
            port.name
        ))),
        element => {
            Err(Failure::Usage(format!("the input {} takes {element}, which pixels are not; use --input", port.name)))
        }
    }
}

/// Channels, height and width of an input that is an image, and whether channels come last.
fn image_layout(port: &Port) -> Option<([usize; 3], bool)> {
    match port.shape[..] {
        [_, channels @ (1 | 3), height, width] => Some(([channels, height, width], false)),
        [_, height, width, channels @ (1 | 3)] if height.min(width) > 1 => Some(([channels, height, width], true)),
        _ => None,
    }
}

fn no_image(engine: &Engine, port: &Port) -> Failure {
    let (name, shape) = (&engine.name, shape_text(&port.shape));
    Failure::Usage(format!("the input {} of {name} is no image but {shape}; use --input", port.name))
}

/// What `--preprocess` says, for the first input of a network.
pub(crate) fn stated(steps: &str, engine: &Engine) -> Result<Preprocess> {
    let port = engine.inputs.first().expect("networks have an input");
    let (shape, _) = image_layout(port).ok_or_else(|| no_image(engine, port))?;
    match steps {
        "imagenet" => Ok(imagenet(shape)),
        word if !word.trim().is_empty() && !word.trim().contains(char::is_whitespace) => {
            let known = "`imagenet`, or steps such as 'resize 256 center_crop 224 scale 1/255'";
            Err(Failure::Usage(format!("--preprocess {word}: write {known}")))
        }
        steps => Ok(driver::preprocess(steps, shape)?),
    }
}

/// As torchvision prepares pictures: 256 pixels for a crop of 224.
fn imagenet([channels, height, width]: [usize; 3]) -> Preprocess {
    let side = (height.min(width) * 256).div_ceil(224);
    let gray = channels == 1;
    Preprocess {
        resize: Some(Resize::ShorterSide(side)),
        center_crop: Some([height, width]),
        scale: Some(1.0 / 255.0),
        mean: if gray { vec![0.449] } else { vec![0.485, 0.456, 0.406] },
        std: if gray { vec![0.226] } else { vec![0.229, 0.224, 0.225] },
        color: if gray { Color::Gray } else { Color::Rgb },
        invert: false,
    }
}

/// Checks an array's shape. A single image may lack the batch axis.
fn fit(tensor: Tensor, port: &Port, engine: &Engine, file: &Path) -> Result<Tensor> {
    let dims = tensor.shape().dims().to_vec();
    let free = engine.batch().is_some();
    let image = port.shape.get(1..).unwrap_or_default();
    let is_row = dims.len() == port.shape.len() && dims.get(1..) == Some(image);
    if dims == port.shape || (free && is_row && dims[0] != 0) {
        return Ok(tensor);
    }
    if dims == image && (free || port.shape.first() == Some(&1)) {
        return Ok(tensor.reshaped(Shape::new([&[1], &dims[..]].concat())));
    }
    let mut expected: Vec<String> = port.shape.iter().map(usize::to_string).collect();
    if free {
        expected[0] = "N".into();
    }
    let last = moved_last(port.shape.get(1..).unwrap_or_default());
    let why = match () {
        () if is_row && !free => format!(" and nothing else: {}", engine.one_batch()),
        () if port.shape.len() == 4 && dims.ends_with(&last) && dims.len() <= 4 => {
            ": it looks like channels last, which --layout nhwc takes".to_string()
        }
        () => String::new(),
    };
    Err(Failure::message(format!(
        "{} is {}; the input {} takes [{}]{why}",
        file.display(),
        shape_text(&dims),
        port.name,
        expected.join(",")
    )))
}

/// Whole numbers below this, of either sign, are what they were read as.
const MOST_WHOLE: f64 = (1 << 24) as f64;

/// Requires that a port's element has an array's numbers.
pub(crate) fn check_numbers(tensor: &Tensor, port: &Port, file: &Path) -> Result<()> {
    let Some((low, high)) = port.element.integer_range() else { return Ok(()) };
    // An array is read as f32, in which larger whole numbers are neighbours' as well.
    let (low, high) = (low.max(1.0 - MOST_WHOLE), high.min(MOST_WHOLE - 1.0));
    let is_one = |v: f32| v.fract() == 0.0 && (low..=high).contains(&f64::from(v));
    match tensor.data().iter().position(|&v| !is_one(v)) {
        None => Ok(()),
        Some(at) => Err(Failure::message(format!(
            "{} has {:?} at {:?}; the input {} takes {}, whole numbers from {low} to {high}",
            file.display(),
            tensor.data()[at],
            tensor.shape().position(at),
            port.name,
            port.element
        ))),
    }
}

/// The file of each port, from arguments of the form `FILE` or `NAME=FILE`.
pub(crate) fn assign(flag: &str, arguments: &[String], ports: &[Port]) -> Result<Vec<Option<PathBuf>>> {
    let mut files = vec![None; ports.len()];
    let names = || ports.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
    for argument in arguments {
        let named = argument.split_once('=').and_then(|(n, f)| Some((port_named(n, ports)?, f)));
        let (index, file) = match named {
            Some(found) => found,
            None if ports.len() == 1 && !argument.contains('=') => (0, argument.as_str()),
            // A file whose own name holds an equals sign.
            None if ports.len() == 1 && Path::new(argument).exists() => (0, argument.as_str()),
            None => {
                let what = flag.trim_start_matches('-');
                let message = match (argument.split_once('='), ports) {
                    (Some((name, _)), [only]) => format!("there is no {what} `{name}`; there is `{}`", only.name),
                    (Some((name, _)), _) => format!("there is no {what} `{name}`; there are {}", names()),
                    (None, _) => format!("say which, as NAME=FILE; there are {}", names()),
                };
                return Err(Failure::Usage(format!("{flag} {argument}: {message}")));
            }
        };
        if file.is_empty() {
            return Err(Failure::Usage(format!("{flag} {argument}: no file is named behind the `=`")));
        }
        if files[index].replace(PathBuf::from(file)).is_some() {
            return Err(Failure::Usage(format!("{flag} is given twice for {}", ports[index].name)));
        }
    }
    Ok(files)
}

/// Sizes with the first of them, the channels, at the end.
fn moved_last(image: &[usize]) -> Vec<usize> {
    let (channels, sizes) = image.split_at(image.len().min(1));
    [sizes, channels].concat()
}

/// Images whose channels come last, with the channels before rows and columns.
fn channels_first(tensor: Tensor) -> Tensor {
    let dims = tensor.shape().dims().to_vec();
    let (batch, [height, width, channels]) = match dims[..] {
        [h, w, c] => (&dims[..0], [h, w, c]),
        [_, h, w, c] => (&dims[..1], [h, w, c]),
        _ => return tensor,
    };
    let size = height * width * channels;
    let images = tensor.data().chunks(size.max(1));
    let planes =
        images.flat_map(|image| (0..channels).flat_map(move |c| image.iter().skip(c).step_by(channels).copied()));
    Tensor::new(Shape::new([batch, &[channels, height, width]].concat()), planes.collect())
}

/// The port of this name, or of the name that TensorFlow gives to the first result of a node: `input` is `input:0`, too.
fn port_named(name: &str, ports: &[Port]) -> Option<usize> {
    let position = |wanted: &str| ports.iter().position(|p| p.name == wanted);
    position(name).or_else(|| position(&format!("{name}:0")))
}

/// A planar image with the channels of a pixel side by side.
fn interleaved(image: &[f32], channels: usize) -> impl Iterator<Item = f32> + '_ {
    let plane = image.len() / channels;
    (0..plane).flat_map(move |i| (0..channels).map(move |c| image[c * plane + i]))
}

/// Rows `first..end` along the first axis.
fn rows(tensor: &Tensor, first: usize, end: usize) -> Tensor {
    let mut dims = tensor.shape().dims().to_vec();
    let row: usize = dims[1..].iter().product();
    dims[0] = end - first;
    Tensor::new(Shape::new(dims), tensor.data()[first * row..end * row].to_vec())
}

pub(crate) fn shape_text(dims: &[usize]) -> String {
    format!("[{}]", dims.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
}
