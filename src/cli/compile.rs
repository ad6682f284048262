//! `netc compile`.

use std::path::PathBuf;
use std::time::Instant;

use super::args::Compile;
use super::console::{Console, bytes};
use super::failure::{Failure, Result};
use super::network;

pub fn run(args: &Compile, console: Console) -> Result<()> {
    let begin = Instant::now();
    let output = output(args)?;
    let mut compiler = network::compiler(&args.network, &args.compilation, None)?;
    let (network, bar) = network::optimized(&mut compiler, &args.file, console)?;
    let done = compiler.compile_to(&network, &output);
    bar.finish_and_clear();
    done?;
    let size = std::fs::metadata(&output).map_or(0, |m| m.len());
    console.detail(format_args!("{}: {} in {:.2} s", output.display(), bytes(size), begin.elapsed().as_secs_f64()));
    Ok(())
}

/// The output's path, which must not be one of the inputs'.
fn output(args: &Compile) -> Result<PathBuf> {
    let output = args.output.clone().unwrap_or_else(|| args.file.with_extension("netc"));
    let same = |path: &PathBuf| path.canonicalize().ok().is_some_and(|p| output.canonicalize().ok() == Some(p));
    if [Some(&args.file), args.network.weights.as_ref()].into_iter().flatten().any(same) {
        return Err(Failure::Usage(format!("the output {} would replace an input", output.display())));
    }
    Ok(output)
}
