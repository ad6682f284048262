//! `netc run`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use super::args::Run;
use super::console::Console;
use super::engine::Engine;
use super::failure::{Failure, Result};
use super::inputs::{Feed, assign, stated};
use super::network::keep_inputs;
use super::results::{ResultRow, best, probabilities, read_labels};
use crate::artifact::Port;
use crate::image;
use crate::npy;
use crate::output::OutputFile;
use crate::preprocess::Color;
use crate::tensor::{Shape, Tensor};

/// Images that are prepared and run together; more would only take more memory.
const PART: usize = 16;

pub fn run(args: &Run, console: Console) -> Result<()> {
    if args.image.is_empty() && args.input.is_empty() {
        let what = "there is nothing to run on: give images (--image) or arrays (--input)";
        return Err(Failure::Usage(what.into()));
    }
    let mut engine = if args.interpret {
        Engine::interpret(&args.file, &args.network, &args.compilation, &args.threads, args.expect_hash, console)?
    } else {
        Engine::open(&args.file, &args.network, &args.compilation, &args.threads, args.expect_hash, console)?
    };
    if let Some(steps) = &args.preprocess {
        engine.preprocess = vec![Some(stated(steps, &engine)?)];
    }
    let labels = match &args.labels {
        Some(path) => read_labels(path)?,
        None => engine.labels.clone(),
    };
    let outputs = open_outputs(args, &engine)?;
    let feed = Feed::new(args, &engine, console)?;
    let pictures = args.save_image.as_ref().map(|path| Pictures::new(path, args, &engine, &feed)).transpose()?;
    let rows = compute(&engine, &feed, args, &labels, console)?;
    for output in outputs {
        output.write(&engine, &feed, &rows)?;
    }
    if let Some(pictures) = pictures {
        pictures.write(&feed, &rows)?;
    }
    show(args, &engine, &rows, console)
}

/// Runs everything, a part at a time.
fn compute(engine: &Engine, feed: &Feed, args: &Run, labels: &[String], console: Console) -> Result<Vec<ResultRow>> {
    let part = engine.batch().unwrap_or(1).max(PART);
    let bar = console.progress(Some(feed.len() as u64), format!("running {}", engine.name));
    let begin = Instant::now();
    let mut rows = vec![];
    for first in (0..feed.len()).step_by(part) {
        let end = feed.len().min(first + part);
        let outputs = engine.run(&feed.part(first, end)?)?;
        for index in first..end {
            let values = outputs.iter().map(|o| values_of(o, index - first, end - first, feed.crops())).collect();
            rows.push(row(engine, feed.name(index), values, labels, args.top_k));
        }
        bar.inc((end - first) as u64);
    }
    bar.finish_and_clear();
    console.detail(format_args!("{} results in {:.1} ms", rows.len(), begin.elapsed().as_secs_f64() * 1e3));
    Ok(rows)
}

/// The nth of `count` results in an output; of several crops, the mean of the distributions.
fn values_of(output: &Tensor, index: usize, count: usize, crops: usize) -> Vec<f32> {
    let size = output.data().len() / (count * crops);
    let mine = &output.data()[index * crops * size..(index + 1) * crops * size];
    if crops == 1 {
        return mine.to_vec();
    }
    let mut mean = vec![0f32; size];
    for crop in mine.chunks_exact(size) {
        mean.iter_mut().zip(probabilities(crop)).for_each(|(m, p)| *m += p / crops as f32);
    }
    mean
}

fn row(engine: &Engine, name: String, values: Vec<Vec<f32>>, labels: &[String], top_k: usize) -> ResultRow {
    let classes = engine.ranks().then(|| {
        // Labels of another number of classes would name the wrong ones.
        let labels = if labels.len() == values[0].len() { labels } else { &[] };
        best(&values[0], labels, top_k)
    });
    ResultRow { name, values, classes }
}

/// Where an output of the network goes, opened before the run so that its place is known to be good.
struct ArrayOutput {
    index: usize,
    path: PathBuf,
    file: OutputFile,
}

fn open_outputs(args: &Run, engine: &Engine) -> Result<Vec<ArrayOutput>> {
    let paths = assign("--output", &args.output, &engine.outputs)?;
    let inputs = files_read(args, engine)?;
    let named = paths.into_iter().enumerate().filter_map(|(index, path)| Some((index, path?)));
    let open = |(index, path): (usize, PathBuf)| {
        keep_inputs(&path, &inputs)?;
        let file = OutputFile::create(&path).map_err(|e| cannot_write(&path, &e))?;
        Ok(ArrayOutput { index, path, file })
    };
    named.map(open).collect()
}

/// All files that a run reads.
fn files_read(args: &Run, engine: &Engine) -> Result<Vec<PathBuf>> {
    let arrays = assign("--input", &args.input, &engine.inputs)?.into_iter().flatten();
    let named = args.image.iter().chain(&args.labels).cloned();
    Ok(named.chain(args.network.source.files(&args.file)).chain(arrays).collect())
}

impl ArrayOutput {
    fn write(self, engine: &Engine, feed: &Feed, rows: &[ResultRow]) -> Result<()> {
        let mut dims = engine.outputs[self.index].shape.clone();
        if engine.batch().is_some() {
            dims[0] = feed.len();
        }
        let data = rows.iter().flat_map(|r| r.values[self.index].iter().copied()).collect();
        let written = npy::write(std::io::BufWriter::new(self.file.file()), &Tensor::new(Shape::new(dims), data));
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
}

impl<'a> Pictures<'a> {
    fn new(path: &'a Path, args: &Run, engine: &Engine, feed: &Feed) -> Result<Self> {
        let image = |port: &Port| match port.shape[..] {
            [_, channels @ (1 | 3), height, width] => Some([channels, height, width]),
            _ => None,
        };
        let found = engine.outputs.iter().enumerate().find_map(|(i, port)| Some((i, image(port)?)));
        let (index, shape) = found.filter(|_| engine.batch().is_some()).ok_or_else(|| {
            Failure::Usage(format!("--save-image: no output of {} is an image of 1 or 3 channels", engine.name))
        })?;
        if feed.len() > 1 && !path.to_string_lossy().contains("{}") {
            return Err(Failure::Usage(format!(
                "--save-image: {} pictures cannot all be {}; `{{}}` in it stands for the input's name",
                feed.len(),
                path.display()
            )));
        }
        let inputs = files_read(args, engine)?;
        let places = (0..feed.len()).map(|i| picture_path(path, &feed.name(i)));
        places.into_iter().try_for_each(|place| keep_inputs(&place, &inputs))?;
        // An image that comes out is scaled as the one that goes in.
        let preprocess = engine.preprocess.first().cloned().flatten();
        let white = preprocess.as_ref().map_or(1.0, |p| p.scale.unwrap_or(1.0) * 255.0);
        let range = args.image_range.map_or([0.0, white], |r| r.0);
        let color = preprocess.map_or(Color::Rgb, |p| p.color);
        Ok(Self { path, index, shape, range, color })
    }

    fn write(&self, feed: &Feed, rows: &[ResultRow]) -> Result<()> {
        for (i, row) in rows.iter().enumerate() {
            let path = picture_path(self.path, &feed.name(i));
            let picture = image::picture(&row.values[self.index], self.shape, self.range, self.color);
            let bytes = image::encode(&picture, &path).map_err(Failure::message)?;
            let file = OutputFile::create(&path).map_err(|e| cannot_write(&path, &e))?;
            let written = file.file().write_all(&bytes).and_then(|()| file.commit());
            written.map_err(|e| cannot_write(&path, &e))?;
        }
        Ok(())
    }
}

/// Where the picture made of an input goes: `{}` becomes the input's name.
fn picture_path(pattern: &Path, input: &str) -> PathBuf {
    let stem = Path::new(input).file_stem().unwrap_or_default().to_string_lossy();
    PathBuf::from(pattern.to_string_lossy().replace("{}", &stem))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::message(format!("cannot write {}: {error}", path.display()))
}

/// Prints the results, unless they went to files and nobody asked for more.
fn show(args: &Run, engine: &Engine, rows: &[ResultRow], console: Console) -> Result<()> {
    let mut out = console.out();
    if args.json {
        let results: Vec<Value> = rows.iter().map(|r| r.json(&engine.outputs)).collect();
        writeln!(out, "{:#}", json!({ "model": engine.name, "results": results }))?;
    } else if args.output.is_empty() && args.save_image.is_none() {
        for row in rows {
            write!(out, "{}", row.text(&engine.outputs))?;
        }
    }
    Ok(())
}
