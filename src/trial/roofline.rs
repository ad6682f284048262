//! What this machine can do at most, measured in the same process: multiply-adds between registers,
//! and bytes read from memory. Steps are compared with the higher of the two times that they need.
//!
//! Both are models of one step, generated and run as any other.

use std::time::Duration;

use super::Error;
use crate::artifact::{About, Cause, Destination, Image, Manifest, Port, StepRecord, Texts};
use crate::codegen::vector::{Builder, Dot, Element, Function, Program, Vector, VectorOp};
use crate::codegen::{self, link};
use crate::ops::Op;
use crate::plan::conv::OF_BF16;
use crate::runtime::{Model, ModelOptions, Timings};
use crate::target::Target;

/// Peak figures of a number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Roofline {
    /// Multiply-adds between registers, in 10⁹ operations a second; a multiply-add is two.
    pub gflops: f64,
    /// The same of numbers of 8 bits, by the instructions that kernels use, into sums of 32 bits.
    pub gops_of_bytes: f64,
    /// The same of pairs of bf16 into sums of f32; of f32 where the target has no such instruction.
    pub gflops_of_bf16: f64,
    /// Bytes that are streamed from memory, in 10⁹ a second.
    pub gb_per_s: f64,
}

/// Rounds of multiply-adds in one task.
const ROUNDS: usize = 20_000;
/// For each thread; short runs, so that some are not disturbed.
const FMA_TASKS: usize = 4;
/// More than the last level of any cache that these programs meet.
const STREAM_BYTES: usize = 64 << 20;
const STREAM_TASKS: usize = 64;
/// The best of this many runs counts: the limit, not what disturbed it.
const RUNS: usize = 30;

impl Roofline {
    /// Measures this machine, for code of the given target.
    ///
    /// # Errors
    /// Where the target's code cannot be run here, or there is no memory.
    pub fn measure(target: &Target, threads: usize) -> Result<Self, Error> {
        let (fma, flops) = multiply_adds(target);
        let tasks = FMA_TASKS * threads;
        let seconds = fastest(fma, tasks, 0, target, threads)?;
        let gflops = (tasks * flops) as f64 / seconds / 1e9;
        let (products, operations) = products_of_bytes(target);
        let seconds = fastest(products, tasks, 0, target, threads)?;
        let gops_of_bytes = (tasks * operations) as f64 / seconds / 1e9;
        let gflops_of_bf16 = match products_of_bf16(target) {
            None => gflops,
            Some((products, flops)) => (tasks * flops) as f64 / fastest(products, tasks, 0, target, threads)? / 1e9,
        };
        let seconds = fastest(stream(target), STREAM_TASKS, STREAM_BYTES, target, threads)?;
        Ok(Self { gflops, gops_of_bytes, gflops_of_bf16, gb_per_s: STREAM_BYTES as f64 / seconds / 1e9 })
    }

    /// The least time that a step can take, by its plain definition.
    pub fn seconds(&self, step: &StepRecord) -> f64 {
        let peak = match () {
            () if Op::QUANTIZED_NAMES.contains(&step.op.as_str()) => self.gops_of_bytes,
            () if step.algorithm.contains(OF_BF16) => self.gflops_of_bf16,
            () => self.gflops,
        };
        (step.flops as f64 / peak / 1e9).max(step.bytes as f64 / self.gb_per_s / 1e9)
    }
}

/// Multiply-adds into as many accumulators as there are registers; and the operations of one task.
fn multiply_adds(target: &Target) -> (Function, usize) {
    let mut b = Builder::new("multiply_adds", target.unit, 4);
    let count = (target.unit.registers - 3).min(24);
    let (x, y) = (b.splat(0.5), b.splat(0.25));
    let sums: Vec<Vector> = (0..count).map(|_| b.splat(0.0)).collect();
    let (begin, end) = (b.parameter(2), b.parameter(3));
    b.loop_range(begin, end, 1, |b, _| {
        b.repeat(ROUNDS, |b| sums.iter().for_each(|&sum| b.fma(sum, x, y)));
    });
    keep(&mut b, &sums);
    (b.finish(), 2 * count * ROUNDS * target.unit.lanes)
}

/// Products of bytes into as many sums; and the operations of one task.
fn products_of_bytes(target: &Target) -> (Function, usize) {
    let unit = target.unit;
    let mut b = Builder::new("products_of_bytes", unit, 4);
    let count = (unit.registers - 4).min(24);
    let (x, y, at_once) = match () {
        () if unit.dot_u8i8 => (b.splat_int(Element::U8, 3), b.splat_int(Element::I8, 5), 4),
        () if unit.narrow => (b.splat_int(Element::I16, 3), b.splat_int(Element::I16, 5), 2),
        () => (b.splat_int(Element::I32, 3), b.splat_int(Element::I32, 5), 1),
    };
    let sums: Vec<Vector> = (0..count).map(|_| b.splat_int(Element::I32, 0)).collect();
    let (begin, end) = (b.parameter(2), b.parameter(3));
    b.loop_range(begin, end, 1, |b, _| {
        b.repeat(ROUNDS, |b| {
            for &sum in &sums {
                match at_once {
                    4 => b.dot(Dot::U8I8, sum, x, y),
                    2 => b.add_products_of_i16(sum, x, y),
                    _ => {
                        let product = b.op(VectorOp::Mul, x, y);
                        b.op_into(sum, VectorOp::Add, sum, product);
                    }
                }
            }
        });
    });
    keep(&mut b, &sums);
    (b.finish(), 2 * at_once * count * ROUNDS * unit.lanes)
}

/// Products of pairs of bf16 into as many sums, where the target has them; and the operations of one task.
fn products_of_bf16(target: &Target) -> Option<(Function, usize)> {
    let unit = target.unit;
    if !unit.dot_bf16 {
        return None;
    }
    let mut b = Builder::new("products_of_bf16", unit, 4);
    let count = (unit.registers - 4).min(24);
    let [x, y] = [0x3f00, 0x3e80].map(|bits| b.splat_int(Element::Bf16, bits));
    let sums: Vec<Vector> = (0..count).map(|_| b.splat(0.0)).collect();
    let (begin, end) = (b.parameter(2), b.parameter(3));
    b.loop_range(begin, end, 1, |b, _| {
        b.repeat(ROUNDS, |b| sums.iter().for_each(|&sum| b.dot(Dot::Bf16, sum, x, y)));
    });
    keep(&mut b, &sums);
    Some((b.finish(), 4 * count * ROUNDS * unit.lanes))
}

/// Sums the tasks' parts of the weights.
fn stream(target: &Target) -> Function {
    const UNROLLED: usize = 8;
    let mut b = Builder::new("stream", target.unit, 4);
    let vector = target.unit.bytes();
    let sums: Vec<Vector> = (0..UNROLLED).map(|_| b.splat(0.0)).collect();
    let frame = b.parameter(0);
    let weights = b.load_int(frame.at(8));
    let (begin, end) = (b.parameter(2), b.parameter(3));
    b.loop_range(begin, end, 1, |b, task| {
        let part = STREAM_BYTES / STREAM_TASKS;
        let offset = b.mul(task, part);
        let at = b.add(weights, offset);
        b.repeat(part / (UNROLLED * vector), |b| {
            for (i, &sum) in sums.iter().enumerate() {
                let value = b.load(at.at(i * vector));
                b.op_into(sum, VectorOp::Add, sum, value);
            }
            b.advance(at, UNROLLED * vector);
        });
    });
    keep(&mut b, &sums);
    b.finish()
}

/// Stores the sums, so that computing them is not in vain.
fn keep(b: &mut Builder, sums: &[Vector]) {
    let scratch = b.parameter(1);
    let bytes = b.unit().bytes();
    for (i, &sum) in sums.iter().enumerate() {
        b.store(scratch.at(i * bytes), sum);
    }
}

/// Seconds of the fastest run of a model that has this one step.
fn fastest(function: Function, tasks: usize, weights: usize, target: &Target, threads: usize) -> Result<f64, Error> {
    let name = function.name.clone();
    let mut program = Program::default();
    program.add(function);
    let linked = link::build(&program, target).map_err(|e| Box::new(codegen::Error::Link(Box::new(e))))?;
    let mut weights = Destination::Memory.region(weights).map_err(Cause::from)?;
    // Pages that nobody has written are all one page of zeros, which no memory delivers.
    weights.fill(1);
    let entry = linked.functions[0].start as u64;
    let manifest = manifest(&name, entry, tasks, target);
    let image = Image { manifest, code: linked.code, weights };
    let options = ModelOptions::default().threads(threads);
    let model = Model::from_image(image, About::default(), Texts::default(), options)?;
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let mut timings = Timings::default();
        model.run_profiled(&[], &mut [&mut [0.0]], &mut timings)?;
        best = best.min(timings.0[0]);
    }
    Ok(best.as_secs_f64())
}

fn manifest(name: &str, entry: u64, tasks: usize, target: &Target) -> Manifest {
    let step = StepRecord {
        name: name.into(),
        op: name.into(),
        algorithm: String::new(),
        location: None,
        entry,
        grid: tasks as u32,
        task_costs: vec![],
        addresses: false,
        flops: 0,
        bytes: 0,
        estimate_ns: 0.0,
        weights: None,
    };
    Manifest {
        name: name.into(),
        features: target.features.iter().chain(&target.extensions).map(|f| f.to_string()).collect(),
        inputs: vec![],
        outputs: vec![Port {
            name: "done".into(),
            shape: vec![1],
            element: Default::default(),
            raw: false,
            rows: None,
        }],
        images: None,
        steps: vec![step],
        states: vec![],
        state_bytes: 0,
        arena_bytes: 0,
        arena_lower_bound: 0,
        scratch_bytes: (32 * target.unit.bytes()) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_computes_and_reads() {
        let host = Target::host();
        let measured = Roofline::measure(&host, 1).unwrap();
        assert!(measured.gflops > 1.0 && measured.gops_of_bytes > 1.0 && measured.gb_per_s > 0.1, "{measured:?}");
    }
}
