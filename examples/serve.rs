//! Compiles a network in this process and shares it among threads, as a server would.
//!
//! ```text
//! cargo run --release --example serve -- models/dcgan.net generator
//! ```
//!
//! The weights come from the file beside the spec; where there is none, they are random.

use std::error::Error;
use std::time::{Duration, Instant};

use netc::{Compiler, Model, ModelOptions, RunError};

/// Callers at the same time, and how many requests each has.
const CALLERS: usize = 2;
const REQUESTS: u32 = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let spec = arguments.next().ok_or("usage: serve NETWORK.net [MODEL]")?;
    // Each request is computed on the thread that has it: with many at once, that is the best use.
    let mut compiler = Compiler::new().options(ModelOptions::default().threads(1));
    compiler.model = arguments.next();

    let begin = Instant::now();
    let model = compiler.compile_file(&spec)?;
    println!("compiled {} in {:.0?}", model.name(), begin.elapsed());

    let model = &model;
    let times: Vec<Result<Duration, RunError>> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|caller| scope.spawn(move || answer(model, caller))).collect();
        callers.into_iter().map(|c| c.join().expect("callers do not panic")).collect()
    });
    for time in times {
        println!("a request took {:.2?}", time? / REQUESTS);
    }
    Ok(())
}

/// One caller's requests: the time that they took.
fn answer(model: &Model, caller: usize) -> Result<Duration, RunError> {
    let inputs: Vec<Vec<f32>> = model.inputs().iter().map(|p| vec![caller as f32; p.elements()]).collect();
    let mut outputs: Vec<Vec<f32>> = model.outputs().iter().map(|p| vec![0.0; p.elements()]).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let begin = Instant::now();
    for _ in 0..REQUESTS {
        model.run(&inputs, &mut outputs)?;
    }
    Ok(begin.elapsed())
}
