//! `netc export`.

use super::args::{BatchSize, Export, ExportStage};
use super::console::{Console, bytes};
use super::failure::{Failure, Result};
use super::network::{front, keep_inputs, options, refuse, refuse_idle, report, shapes};
use crate::interop::export;
use crate::ir::Images;

pub fn run(args: &Export, console: Console) -> Result<()> {
    keep_inputs(&args.onnx, args.source.files(&args.file))?;
    if args.stage == ExportStage::Graph {
        refuse(args.passes.given(), "changes nothing of the network as written: add --stage optimized")?;
    }
    let mut compiler = front(&args.source, &args.passes, options(console))?;
    let (images, open) = match &args.batch {
        BatchSize::Images(images) => (*images, None),
        BatchSize::Open(name) => (1, Some(name.clone())),
    };
    compiler.batch = images;
    compiler.shapes = shapes(&args.shapes)?;
    let bar = console.progress(None, format!("reading {}", args.file.display()));
    let mut network = compiler.front(&args.file)?;
    if let (Some(name), Images::Fixed { .. }) = (&open, &network.images) {
        let why = network.images();
        return Err(Failure::message(format!("--batch {name}: the batch cannot stay open, since {why}")));
    }
    compiler.load_weights(&mut network)?;
    refuse_idle(&args.source, &args.shapes, &network)?;
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
