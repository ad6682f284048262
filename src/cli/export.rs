//! `netc export`.

use super::args::{BatchSize, Export, ExportStage};
use super::console::{Console, bytes};
use super::failure::{Failure, Result};
use super::network::{front, keep_inputs, options, report, shapes};
use crate::interop::export;

pub fn run(args: &Export, console: Console) -> Result<()> {
    keep_inputs(&args.onnx, args.source.files(&args.file))?;
    let mut compiler = front(&args.source, &args.passes, options(console))?;
    let (images, open) = match &args.batch {
        BatchSize::Images(images) => (*images, None),
        BatchSize::Open(name) => (1, Some(name.clone())),
    };
    compiler.batch = images;
    compiler.shapes = shapes(&args.shapes)?;
    let bar = console.progress(None, format!("reading {}", args.file.display()));
    let mut network = compiler.front(&args.file)?;
    compiler.load_weights(&mut network)?;
    if args.stage == ExportStage::Optimized {
        compiler.optimize(&mut network);
    }
    bar.set_message(format!("writing {}", args.onnx.display()));
    let settings = export::Options { batch: open, ..Default::default() };
    let exported = export::export(&network.graph, &args.onnx, &settings);
    bar.finish_and_clear();
    report(&network, console)?;
    let exported = exported.map_err(Failure::message)?;
    let beside = exported.data.map(|p| format!(" in {}", p.display())).unwrap_or_default();
    console.detail(format_args!(
        "{}: {} nodes, {} of weights{beside}",
        args.onnx.display(),
        exported.nodes,
        bytes(exported.weights)
    ));
    Ok(())
}
