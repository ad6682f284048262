//! `netc run`.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use super::args::{
    CacheArgs, CompilationArgs, CropArgs, CropCount, EnsembleArgs, NetworkArgs, PartArgs, ThreadArgs,
    or_standard_output, whole,
};
use super::console::Console;
use super::engine::{Engine, is_compiled};
use super::failure::{Failure, Result};
use super::inputs::{Arrays, Broken, Feed, assign, stated};
use super::network::{fitting, refuse};
use super::results::{ResultRow, labels_of, position};
use crate::artifact::Port;
use crate::classes::ranked;
use crate::data;
use crate::driver::{ContentHash, Network};
use crate::image::{self, Crops};
use crate::npy;
use crate::opened::words;
use crate::output::{Files, OutputFile};
use crate::preprocess::Color;
use crate::tensor::{NotFinite, Shape, Tensor};

/// Run a network on images or arrays
///
/// A compiled model is a program: run only those from people whose programs you would run. Specs, ONNX models,
/// weights, pictures, arrays and portable models may come from anybody. Replace a model that may be running by
/// renaming another file over it; one that is changed in place is noticed, and its run fails.
///
/// Images are turned as their EXIF orientation says and go through the spec's `preprocess`. Arrays (`--input`) are
/// float32 in the order batch, channel, row, column
/// and are taken as they are. A network that ends in one value a class has its best classes printed. Of several pictures,
/// those that cannot be read are named, and the others are answered; the exit code is 1 then.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\x1b[1mExamples:\x1b[0m
  netc run models/digits/digits.net --image models/digits/images/*.png --top-k 1
  netc run resnet34.netc --image cat.jpg dog.png --labels imagenet --json
  netc run resnet34.onnx --image cat.jpg --preprocess imagenet --labels imagenet
  netc run caffe.onnx --image cat.jpg --preprocess 'resize 256 center_crop 224 color bgr'
  netc run upscale.netc --image small.png --save-image large.png
  netc run resnet34.netc --input x.npy --output y.npy --threads 1
  netc run alexnet.net --weights alexnet.safetensors --image cat.jpg --crops 10
  netc run alexnet.net --ensemble a.safetensors b.safetensors --image cat.jpg
  netc run two_inputs.net --input left=l.npy --input right=r.npy
  netc run gan.net --model generator --noise 100 --save-image grid.png --image-range -1,1")]
pub(crate) struct RunArgs {
    /// A spec (.net), an ONNX model (.onnx) or a compiled model (.netc)
    pub file: PathBuf,
    /// Pictures to run on: PNG, JPEG, WebP, BMP, GIF, TIFF, PNM; of a folder, all that are in it
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "input")]
    pub image: Vec<PathBuf>,
    /// An array to run on (.npy); `NAME=FILE` where the network has several inputs
    #[arg(long, value_name = "[NAME=]FILE")]
    pub input: Vec<String>,
    /// How the axes of --input's images lie: nchw (batch, channel, row, column), or nhwc, with the channels last
    #[arg(long, value_enum, value_name = "ORDER", requires = "input", default_value_t)]
    pub layout: ArrayLayout,
    /// Run on so many inputs of random numbers, normal with mean 0 and deviation 1, which generators of pictures take
    #[arg(long, value_name = "N", conflicts_with_all = ["image", "input"], allow_negative_numbers = true,
        value_parser = whole::<u32>(1..=65536))]
    pub noise: Option<u32>,
    /// Which random numbers --noise takes
    #[arg(long, value_name = "N", requires = "noise", default_value_t = 0)]
    pub noise_seed: u64,
    /// Where an output goes (.npy); `NAME=FILE` where the network has several outputs. Of a spec or an ONNX model NAME may
    /// be any label: the value there becomes an output
    #[arg(long, value_name = "[NAME=]FILE")]
    pub output: Vec<String>,
    /// How pictures become inputs, instead of the spec's `preprocess`: its steps, or `imagenet` for those that most
    /// ImageNet networks were trained with
    #[arg(long, value_name = "STEPS", requires = "image", conflicts_with = "input")]
    pub preprocess: Option<String>,
    /// How many classes to print for each image [default: 5]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = whole::<usize>(1..=65536))]
    pub top_k: Option<usize>,
    /// Names of the classes, one a line, instead of the spec's; `imagenet` for the 1000 of that challenge
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// Write the output, which is an image, as a picture: .png, .jpg, .webp. Of several, `{}` becomes the input's name
    /// and `{#}` its number, from 0; without these, all stand side by side in one picture
    #[arg(long, value_name = "FILE")]
    pub save_image: Option<PathBuf>,
    /// What of the output is black and what white [default: what the levels 0 and 255 of an input are]
    #[arg(long, value_name = "LOW,HIGH", requires = "save_image", allow_hyphen_values = true)]
    pub image_range: Option<ImageRange>,
    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,
    /// Refuse a model of other content, before anything of it runs: what `netc check --hash` prints (SHA-256)
    #[arg(long, value_name = "HASH")]
    pub expect_hash: Option<ContentHash>,
    #[command(flatten)]
    pub crops: CropArgs,
    /// As --crops 10
    #[arg(long, requires = "image", conflicts_with_all = ["input", "crops"])]
    pub ten_crop: bool,
    /// Take the pixels as the file has them; without this, pictures are turned as their EXIF orientation says
    #[arg(long, requires = "image", conflicts_with = "input")]
    pub no_exif: bool,
    /// Compute with the reference interpreter instead of generated code (slow)
    #[arg(long)]
    pub interpret: bool,
    #[command(flatten)]
    pub threads: ThreadArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub ensemble: EnsembleArgs,
    #[command(flatten)]
    pub compilation: CompilationArgs,
    #[command(flatten)]
    pub cache: CacheArgs,
}

impl RunArgs {
    /// How several inputs are cut of each picture, where they are.
    pub(crate) fn crops(&self) -> Result<Option<Crops>> {
        let crops = CropArgs { crops: self.crops.crops.or(self.ten_crop.then_some(CropCount::Ten)), ..self.crops };
        let crops = crops.crops()?;
        refuse([("--crops", crops.is_some() && self.image.is_empty())], "is for pictures (--image)")?;
        Ok(crops)
    }
}

/// The order of an image's axes in an array.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ArrayLayout {
    #[default]
    Nchw,
    Nhwc,
}

/// Two different numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ImageRange(pub [f32; 2]);

impl std::str::FromStr for ImageRange {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let numbers =
            text.split_once(',').and_then(|(low, high)| Some([low.trim().parse().ok()?, high.trim().parse().ok()?]));
        match numbers {
            Some([low, high]) if f32::is_finite(high - low) && low != high => Ok(ImageRange([low, high])),
            _ => Err("write two different numbers, such as -1,1".into()),
        }
    }
}

/// The part of the network that is asked for. A spec gives any value that has a name; a compiled model has its outputs.
fn part(args: &RunArgs) -> PartArgs {
    let named = |output: &String| Some(output.split_once('=')?.0.to_string());
    let wanted = args.output.iter().filter_map(named).filter(|_| !is_compiled(&args.file));
    PartArgs { also: wanted.collect(), ..args.network.part.clone() }
}

/// Images that are prepared and run together; more would only take more memory.
const PART: usize = 16;

pub(crate) fn run(args: &RunArgs, console: Console) -> Result<()> {
    if args.image.is_empty() && args.input.is_empty() && args.noise.is_none() {
        let what = "there is nothing to run on: give images (--image), arrays (--input) or --noise";
        return Err(Failure::Usage(what.into()));
    }
    args.crops()?;
    let args = &RunArgs { image: pictures_of(&args.image)?, ..args.clone() };
    let make = if args.interpret { Engine::interpret } else { Engine::open };
    let cached = [("--interpret", args.interpret), ("--expect-hash", args.expect_hash.is_some())];
    if args.cache.cache.is_some() {
        refuse(cached, "is not for what --cache keeps")?;
    }
    let arrays = Arrays::new(console);
    let fitted = |network: &Network| fitting(&args.input, &arrays, args.network.batch(), network);
    let open = |network: &NetworkArgs, console| {
        let (file, compilation, threads) = (&args.file, &args.compilation, &args.threads);
        if args.cache.cache.is_some() {
            // Arrays decide for how many images some networks are compiled.
            let more = &arrays.shapes(&args.input)?;
            return Engine::cached(file, network, compilation, threads, &args.cache, (&fitted, more), console);
        }
        make(file, network, compilation, threads, &fitted, args.expect_hash, console)
    };
    let network = NetworkArgs { part: part(args), ..args.network.clone() };
    let mut engine = Engine::averaging(&args.file, &network, &args.ensemble.ensemble, console, open)?;
    if args.layout == ArrayLayout::Nchw && !args.input.is_empty() {
        engine.take_arrays(&args.input, &arrays, args.threads.options(console), console)?;
    }
    if let Some(steps) = &args.preprocess {
        engine.preprocess = vec![Some(stated(steps, &engine)?)];
    }
    if !engine.ranks() {
        let flags = [("--top-k", args.top_k.is_some()), ("--labels", args.labels.is_some())];
        refuse(flags, format_args!("is for networks that tell classes apart, which {} does not", engine.name))?;
    }
    let labels = args.labels.as_ref().map_or_else(|| Ok(engine.labels.clone()), |path| labels_of(path, &engine))?;
    let mut files = OutputFiles::new(args, &engine)?;
    let outputs = open_outputs(args, &engine, &mut files)?;
    let feed = Feed::new(args, &engine, &arrays, console)?;
    let mut pictures = |path| Pictures::new(path, args, &engine, &feed, &mut files);
    let pictures = args.save_image.as_deref().map(&mut pictures).transpose()?;
    let (rows, broken) = compute(&engine, &feed, args, &labels, console)?;
    tell_of_odd(&engine, &rows, console);
    for output in outputs {
        output.write(&engine, &feed, &rows)?;
    }
    if let Some(pictures) = pictures {
        pictures.write(&feed, &rows)?;
    }
    show(args, &engine, &rows, &broken, console)?;
    if broken.is_empty() { Ok(()) } else { Err(Failure::Silent) }
}

/// The pictures that are named: of a folder those that are in it, by their names.
fn pictures_of(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut pictures = vec![];
    for path in paths {
        if !path.is_dir() {
            pictures.push(path.clone());
            continue;
        }
        let found = data::pictures_in(path).map_err(Failure::message)?;
        if found.is_empty() {
            return Err(Failure::message(format!(
                "{}: there is no picture in it (.png, .jpg, .webp, …)",
                path.display()
            )));
        }
        pictures.extend(found);
    }
    Ok(pictures)
}

/// Runs everything, a part at a time.
fn compute(
    engine: &Engine,
    feed: &Feed,
    args: &RunArgs,
    labels: &[String],
    console: Console,
) -> Result<(Vec<ResultRow>, Vec<Broken>)> {
    let part = engine.largest_batch().max(PART);
    let bar = console.progress(Some(feed.len() as u64), format!("running {}", engine.name));
    let begin = Instant::now();
    let (mut rows, mut broken) = (vec![], vec![]);
    // An array has a row for each picture.
    let skips = feed.len() > 1 && args.output.is_empty();
    for first in (0..feed.len()).step_by(part) {
        let end = feed.len().min(first + part);
        let (inputs, indices) = match skips {
            true => feed.readable(first, end, &mut broken)?,
            false => (feed.part(first, end)?, (first..end).collect()),
        };
        let results = if indices.is_empty() { vec![] } else { engine.results(&inputs, indices.len())? };
        for (index, values) in indices.into_iter().zip(results) {
            rows.push(row(engine, index, feed.name(index), values, labels, args.top_k.unwrap_or(5)));
        }
        bar.inc((end - first) as u64);
    }
    bar.finish_and_clear();
    broken.iter().for_each(|broken| console.error(&broken.message));
    console.detail(format_args!("{} results in {:.1} ms", rows.len(), begin.elapsed().as_secs_f64() * 1e3));
    Ok((rows, broken))
}

/// Says where outputs hold what is no finite number, once for each output.
fn tell_of_odd(engine: &Engine, rows: &[ResultRow], console: Console) {
    for (index, port) in engine.outputs.iter().enumerate() {
        let odd: Vec<_> = rows.iter().filter_map(|row| Some((row, NotFinite::among(&row.values[index])?))).collect();
        let Some((row, first)) = odd.first() else { continue };
        let sum = |count: fn(&NotFinite) -> usize| odd.iter().map(|(_, odd)| count(odd)).sum::<usize>();
        let all = NotFinite { nan: sum(|odd| odd.nan), infinite: sum(|odd| odd.infinite), ..*first };
        let values: usize = rows.iter().map(|row| row.values[index].len()).sum();
        let place = position(port, row.values[index].len(), first.first);
        console.warning(format_args!(
            "{} has {all} of {values} values, the first at {place:?} of {}",
            port.name, row.name
        ));
    }
}

fn row(
    engine: &Engine,
    index: usize,
    name: String,
    values: Vec<Vec<f32>>,
    labels: &[String],
    top_k: usize,
) -> ResultRow {
    let classes = engine.ranks().then(|| {
        // A spec's labels of another number of classes would name the wrong ones.
        let labels = if labels.len() == values[0].len() { labels } else { &[] };
        ranked(&values[0], labels, top_k)
    });
    ResultRow { index, name, values, classes }
}

/// Where an output of the network goes, opened before the run so that its place is known to be good.
struct ArrayOutput {
    index: usize,
    path: PathBuf,
    file: OutputFile,
}

fn open_outputs(args: &RunArgs, engine: &Engine, files: &mut OutputFiles) -> Result<Vec<ArrayOutput>> {
    let paths = assign("--output", &args.output, &engine.outputs)?;
    let named = paths.into_iter().enumerate().filter_map(|(index, path)| Some((index, path?)));
    let open = |(index, path): (usize, PathBuf)| {
        let path = or_standard_output(&path);
        files.add(&path, &format!("--output {}", engine.outputs[index].name))?;
        let special = std::fs::metadata(&path).is_ok_and(|m| !m.is_file() && !m.is_dir());
        if !special && path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("npy")) {
            let message =
                format!("--output {}: arrays are written as .npy; --save-image writes pictures", path.display());
            return Err(Failure::Usage(message));
        }
        let file = OutputFile::create(&path).map_err(|e| cannot_write(&path, &e))?;
        Ok(ArrayOutput { index, path, file })
    };
    named.map(open).collect()
}

/// The files that a run writes: none over one that it reads, and no two in one place.
struct OutputFiles {
    read: Files,
    written: Files,
}

impl OutputFiles {
    fn new(args: &RunArgs, engine: &Engine) -> Result<Self> {
        let arrays = assign("--input", &args.input, &engine.inputs)?.into_iter().flatten();
        let given = args.image.iter().chain(&args.labels).chain(&args.compilation.tuning_file).cloned();
        let of_network = args.network.source.files(&args.file).into_iter().chain(engine.files.iter().cloned());
        let mut written = Files::default();
        if let Some(file) = &args.compilation.tuning_file {
            written.add(file);
        }
        Ok(Self { read: Files::existing(given.chain(of_network).chain(arrays)), written })
    }

    /// Adds the file that `what` goes to.
    fn add(&mut self, path: &Path, what: &str) -> Result<()> {
        if self.read.has(path) {
            return Err(Failure::Usage(format!("the output {} would replace an input", path.display())));
        }
        match self.written.add(path) {
            true => Ok(()),
            false => Err(Failure::Usage(format!("{what}: another output goes to {} already", path.display()))),
        }
    }
}

impl ArrayOutput {
    fn write(self, engine: &Engine, feed: &Feed, rows: &[ResultRow]) -> Result<()> {
        let values = rows.iter().map(|row| row.values[self.index].len()).sum();
        let mut dims = engine.outputs[self.index].dims_of(values);
        if let Some(batch) = engine.batch() {
            dims[0] = dims[0] / batch * feed.len();
        }
        let data = rows.iter().flat_map(|r| r.values[self.index].iter().copied()).collect();
        let tensor = Tensor::new(Shape::new(dims), data).into_element(engine.outputs[self.index].element);
        let written = npy::write(std::io::BufWriter::new(self.file.file()), &tensor);
        written.and_then(|()| self.file.commit()).map_err(|e| cannot_write(&self.path, &e))
    }
}

/// Where an output that is an image goes, as pictures.
struct Pictures<'a> {
    path: &'a Path,
    index: usize,
    shape: [usize; 3],
    range: [f32; 2],
    color: Color,
    /// All of them side by side.
    in_one: bool,
}

impl<'a> Pictures<'a> {
    fn new(path: &'a Path, args: &RunArgs, engine: &Engine, feed: &Feed, files: &mut OutputFiles) -> Result<Self> {
        let image = |port: &Port| match port.shape[..] {
            [_, channels @ (1 | 3), height, width] => Some([channels, height, width]),
            _ => None,
        };
        let found = engine.outputs.iter().enumerate().find_map(|(i, port)| Some((i, image(port)?)));
        let (index, shape) = found.filter(|&(i, _)| engine.is_result(&engine.outputs[i])).ok_or_else(|| {
            Failure::Usage(format!("--save-image: no output of {} is an image of 1 or 3 channels", engine.name))
        })?;
        image::check_name(path).map_err(|e| Failure::Usage(format!("--save-image: {e}")))?;
        let in_one = feed.len() > 1 && !PLACEHOLDERS.iter().any(|p| path.to_string_lossy().contains(p));
        if in_one {
            files.add(path, "--save-image")?;
        } else {
            name_each(path, feed, files)?;
        }
        // An image that comes out is scaled as the one that goes in.
        let preprocess = engine.preprocess.first().cloned().flatten();
        let white = preprocess.as_ref().map_or(1.0, |p| p.scale.unwrap_or(1.0) * 255.0);
        let range = args.image_range.map_or([0.0, white], |r| r.0);
        let color = preprocess.map_or(Color::Rgb, |p| p.color);
        Ok(Self { path, index, shape, range, color, in_one })
    }

    fn write(&self, feed: &Feed, rows: &[ResultRow]) -> Result<()> {
        let picture = |row: &ResultRow| image::picture(&row.values[self.index], self.shape, self.range, self.color);
        if self.in_one {
            let pictures: Vec<image::Picture> = rows.iter().map(picture).collect();
            return write_picture(&image::grid(&pictures), self.path);
        }
        rows.iter().try_for_each(|row| write_picture(&picture(row), &picture_path(self.path, feed, row.index)))
    }
}

/// Whether each input's picture has a name of its own.
fn name_each(path: &Path, feed: &Feed, files: &mut OutputFiles) -> Result<()> {
    let mut inputs: HashMap<PathBuf, usize> = HashMap::new();
    for index in 0..feed.len() {
        let place = picture_path(path, feed, index);
        if let Some(other) = inputs.insert(place.clone(), index) {
            return Err(Failure::Usage(format!(
                "--save-image: the pictures of {} and {} would both be {}; `{{#}}` in the name stands for an input's number",
                feed.name(other),
                feed.name(index),
                place.display()
            )));
        }
        files.add(&place, "--save-image")?;
    }
    Ok(())
}

fn write_picture(picture: &image::Picture, path: &Path) -> Result<()> {
    let bytes = image::encode(picture, path).map_err(Failure::message)?;
    let file = OutputFile::create(path).map_err(|e| cannot_write(path, &e))?;
    file.file().write_all(&bytes).and_then(|()| file.commit()).map_err(|e| cannot_write(path, &e))
}

/// What stands for an input in the name of a picture: its own name, and its number from 0.
const PLACEHOLDERS: [&str; 2] = ["{}", "{#}"];

/// Where the picture made of an input goes.
fn picture_path(pattern: &Path, feed: &Feed, index: usize) -> PathBuf {
    let (pattern, name) = (pattern.to_string_lossy(), feed.name(index));
    let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy();
    let [of_name, of_number] = PLACEHOLDERS;
    // What an input's name holds is no placeholder.
    let parts: Vec<String> = pattern.split(of_name).map(|part| part.replace(of_number, &index.to_string())).collect();
    parts.join(&stem).into()
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::message(format!("cannot write {}: {}", path.display(), words(error)))
}

/// Prints the results, unless they went to files and nobody asked for more.
fn show(args: &RunArgs, engine: &Engine, rows: &[ResultRow], broken: &[Broken], console: Console) -> Result<()> {
    let mut out = console.out();
    if args.json {
        let results: Vec<Value> = rows.iter().map(|r| r.json(&engine.outputs)).collect();
        let mut printed = json!({ "model": engine.name, "results": results });
        if !broken.is_empty() {
            let one = |b: &Broken| json!({ "input": b.name, "error": b.message });
            printed["broken"] = broken.iter().map(one).collect();
        }
        if !engine.ensemble.is_empty() {
            printed["ensemble"] = engine.ensemble.iter().map(|path| path.display().to_string()).collect();
        }
        writeln!(out, "{printed:#}")?;
    } else if (args.output.is_empty() && args.save_image.is_none()) || args.top_k.is_some() || args.labels.is_some() {
        for row in rows {
            write!(out, "{}", row.text(&engine.outputs))?;
        }
    }
    Ok(())
}
