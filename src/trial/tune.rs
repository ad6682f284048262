//! Measures on this machine which kernels compute a network's layers fastest.
//!
//! The network as it is gets compiled once for each rank of candidates: in the first round every layer
//! has the kernel that the estimates like best, in the next one the second, and so on; all steps of
//! each round are timed in whole runs. So each kernel is measured where it will work, with the memory
//! around it that the network gives it. Layers that are alike share their times, and layers whose
//! times are known are not measured again. Values of weights do not matter to times and are not
//! packed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Error;
use super::store::Times;
use crate::artifact::{About, Destination, Image, Texts};
use crate::codegen::{self, Generated};
use crate::ir::Graph;
use crate::plan::{self, Algorithm, Layout, Options, Step};
use crate::runtime::{Model, ModelOptions, RunError, Timings};
use crate::target::Target;

/// Tiles that are tried of one algorithm.
const MOST_TILES: usize = 4;
/// Runs of a round: as many as fit this time, but at least some.
const ROUND: Duration = Duration::from_millis(300);
const RUNS: std::ops::RangeInclusive<usize> = 3..=30;

/// Adds to `known` the times of all layers of the graph that it lacks. `progress` gets the number of
/// rounds that are done, and of all.
///
/// # Errors
/// Where the target's code cannot be made or run here.
pub(crate) fn tune(
    graph: &Graph,
    target: &Target,
    options: &Options,
    known: &mut BTreeMap<String, Times>,
    progress: &dyn Fn(usize, usize),
) -> Result<(), Error> {
    if !target.runs_here() {
        return Err(Error::Foreign { features: target.features.clone() });
    }
    let contests = contests(graph, target, options, known)?;
    let rounds = contests.values().map(Vec::len).max().unwrap_or(0);
    let mut measured: BTreeMap<String, Times> = BTreeMap::new();
    for round in 0..rounds {
        progress(round, rounds);
        let entry = |names: &[String]| names.get(round).unwrap_or(&names[0]).clone();
        // A time of nothing decides the choice, whatever the estimates are.
        let field = contests.iter().map(|(layer, names)| (layer.clone(), Times::from([(entry(names), 0.0)])));
        let mut options = options.clone();
        options.findings.measured = field.collect();
        let generated = codegen::generate(graph, target, &options).map_err(Box::new)?;
        for (layer, kernel, ns) in times(graph, target, &generated)? {
            if contests.contains_key(&layer) {
                let best = measured.entry(layer).or_default().entry(kernel).or_insert(ns);
                *best = best.min(ns);
            }
        }
    }
    progress(rounds, rounds);
    known.extend(measured);
    Ok(())
}

/// The layers that are to be measured, with the names of the kernels that compete.
fn contests(
    graph: &Graph,
    target: &Target,
    options: &Options,
    known: &BTreeMap<String, Times>,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let graph = codegen::verified(graph).map_err(Box::new)?;
    let plan = plan::plan(graph, target, options).map_err(|e| Box::new(codegen::Error::from(e)))?;
    let open = plan.steps.iter().filter(|s| !s.forced).filter_map(|s| s.layer.as_ref());
    let open = open.filter(|layer| !known.contains_key(&layer.key));
    Ok(open.map(|layer| (layer.key.clone(), competitors(layer.kernels(target), options))).collect())
}

/// The best tiles of each algorithm by their estimates, the best of all first.
fn competitors(mut kernels: Vec<(Algorithm, f64)>, options: &Options) -> Vec<String> {
    kernels.retain(|(kernel, _)| !options.strict || !matches!(kernel, Algorithm::Winograd(w) if !w.is_exact()));
    kernels.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    kernels.retain(|(kernel, _)| {
        let count = taken.entry(kernel.name()).or_default();
        *count += 1;
        *count <= MOST_TILES
    });
    kernels.iter().map(|(kernel, _)| kernel.describe()).collect()
}

/// The shortest times of the steps that have a choice: layer, kernel, nanoseconds.
fn times(graph: &Graph, target: &Target, generated: &Generated) -> Result<Vec<(String, String, f64)>, Error> {
    let steps = &generated.plan.steps;
    let plain = |step: usize, _| !multiplies(&steps[step]);
    let mut image = codegen::build(graph, target, generated, &Destination::Memory, &[], &plain).map_err(Box::new)?;
    touch(&mut image, steps);
    let options = ModelOptions::default().threads(1);
    let model = Model::from_image(image, About::default(), Texts::default(), options)?;
    let shortest = shortest(&model)?;
    let time = |(index, step): (usize, &Step)| {
        let layer = step.layer.as_ref()?;
        let converted = conversion(steps, index).map_or(Duration::ZERO, |i| shortest[i]);
        // Clocks may be coarser than a step is long.
        let ns = (shortest[index] + converted).as_nanos().max(1) as f64;
        Some((layer.key.clone(), step.kernel.describe(), ns))
    };
    Ok(steps.iter().enumerate().filter_map(time).collect())
}

/// Whether the step's packed weights are nothing but weights: tables lie among those of others, and of direct kernels
/// of levels.
fn multiplies(step: &Step) -> bool {
    match &step.kernel {
        Algorithm::Direct(direct) => !direct.problem.arithmetic.is_of_levels(),
        Algorithm::Winograd(_) => true,
        _ => false,
    }
}

/// Writes to the weights that were not packed: pages that nobody has written are all one page of
/// zeros, which no memory delivers.
fn touch(image: &mut Image, steps: &[Step]) {
    let ranges = image.manifest.steps.iter().zip(steps).filter(|(_, step)| multiplies(step));
    let ranges: Vec<_> = ranges.filter_map(|(record, _)| record.weights).collect();
    for range in ranges {
        image.weights[range.offset as usize..(range.offset + range.bytes) as usize].fill(1);
    }
}

/// The step that converts the input of a kernel that cannot read it as it is.
fn conversion(steps: &[Step], index: usize) -> Option<usize> {
    let step = &steps[index];
    let reads_plain = step.layer.as_ref().is_some_and(|l| l.input == Layout::Plain);
    if !reads_plain || step.inputs[0].layout == Layout::Plain {
        return None;
    }
    steps[..index].iter().position(|s| s.kernel == Algorithm::Convert && s.outputs[0] == step.inputs[0])
}

/// The shortest time of each step in several runs.
fn shortest(model: &Model) -> Result<Vec<Duration>, RunError> {
    let manifest = model.manifest();
    let zeros = |shape: &[usize]| vec![0f32; shape.iter().product()];
    let inputs: Vec<Vec<f32>> = manifest.inputs.iter().map(|p| zeros(&p.shape)).collect();
    let mut outputs: Vec<Vec<f32>> = manifest.outputs.iter().map(|p| zeros(&p.shape)).collect();
    let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let mut shortest = vec![Duration::MAX; manifest.steps.len()];
    let begin = Instant::now();
    for run in 0..*RUNS.end() {
        if run >= *RUNS.start() && begin.elapsed() > ROUND {
            break;
        }
        let mut timings = Timings::default();
        model.run_profiled(&inputs, &mut outputs, &mut timings)?;
        shortest.iter_mut().zip(timings.0).for_each(|(best, time)| *best = time.min(*best));
    }
    Ok(shortest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes;
    use crate::testing::quantized_graph;

    /// Direct kernels of levels find tables among their weights, which are packed even where weights are not.
    #[test]
    fn networks_of_levels_are_measured() {
        let target = Target::host();
        if !target.runs_here() {
            return;
        }
        let mut known = BTreeMap::new();
        for seed in 0..6 {
            let mut graph = quantized_graph(seed);
            passes::run(&mut graph, &passes::Selection::default());
            tune(&graph, &target, &Options::default(), &mut known, &|_, _| {}).unwrap();
        }
        assert!(known.keys().any(|layer| layer.contains("u8") || layer.contains("i8")), "{:?}", known.keys());
    }
}
