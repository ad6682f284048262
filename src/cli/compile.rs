//! `netc compile`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::args::Compile;
use super::console::{Console, bytes};
use super::failure::Result;
use super::network;
use crate::driver::Network;

pub fn run(args: &Compile, console: Console) -> Result<()> {
    let begin = Instant::now();
    let output = output(args)?;
    let mut compiler = network::compiler(&args.network, &args.compilation, network::options(console))?;
    let (network, bar) = network::optimized(&mut compiler, &args.file, console)?;
    tell_removed(&network, console);
    let compiled = compiler.compile_to(&network, &output);
    bar.finish_and_clear();
    let manifest = compiled?;
    let file_bytes = std::fs::metadata(&output).map_or(0, |m| m.len());
    let seconds = begin.elapsed().as_secs_f64();
    if args.json {
        let report = json!({
            "model": manifest.name,
            "output": output,
            "file_bytes": file_bytes,
            "arena_bytes": manifest.arena_bytes,
            "arena_lower_bound": manifest.arena_lower_bound,
            "steps": manifest.steps.len(),
            "features": manifest.features,
            "compile_ms": seconds * 1e3,
        });
        writeln!(console.out(), "{report:#}")?;
        return Ok(());
    }
    let (name, path, arena) = (&manifest.name, output.display(), bytes(manifest.arena_bytes));
    console.note(format_args!("{name}: {path}, {}, arena {arena}, compiled in {seconds:.2} s", bytes(file_bytes)));
    Ok(())
}

/// What inference does without is said; whoever trained the network should know. The rest of what
/// the passes did is told by `-v`.
fn tell_removed(network: &Network, console: Console) {
    if !console.verbose {
        network.remarks.iter().filter(|r| r.pass == "remove_aux_heads").for_each(|r| console.note(r));
    }
}

/// The output's path, which must not be one of the inputs'.
fn output(args: &Compile) -> Result<PathBuf> {
    let output = args.output.clone().unwrap_or_else(|| args.file.with_extension("netc"));
    network::keep_inputs(&output, args.network.source.files(&args.file))?;
    Ok(output)
}
