//! Compiling and running graphs in tests, beside the interpreter.

use super::vector::simulate::{self, Memory};
use super::{Generated, build, generate};
use crate::artifact::{About, Destination, Texts};
use crate::interpreter;
use crate::ir::Graph;
use crate::plan;
use crate::runtime::{Model, ModelOptions, Stateful, Values};
use crate::target::Target;
use crate::tensor::{Shape, Tensor};
use crate::testing::{random_inputs, randomize_weights};

/// The targets that run here, widest first. A missing one is reported, and an error where
/// `NETC_TEST_ALL_UNITS` is set.
pub(crate) fn targets() -> Vec<Target> {
    let (here, missing): (Vec<Target>, Vec<Target>) = ["avx512", "avx2", "fma", "baseline"]
        .iter()
        .map(|name| Target::parse(name).expect("a known name"))
        .partition(Target::runs_here);
    for target in missing {
        assert!(std::env::var_os("NETC_TEST_ALL_UNITS").is_none(), "{:?} is not tested", target.features);
        eprintln!("{:?} is not tested: the CPU lacks it", target.features);
    }
    here
}

/// Compiles the graph and opens it as a model.
pub(crate) fn model(graph: &Graph, target: &Target, options: &plan::Options, threads: usize) -> Model {
    let generated = generate(graph, target, options).expect("the graph compiles");
    opened(graph, target, &generated, threads)
}

/// What was generated, as a model.
pub(crate) fn opened(graph: &Graph, target: &Target, generated: &Generated, threads: usize) -> Model {
    let image = build(graph, target, generated, &Destination::Memory, &[], &|_, _| true).expect("the program compiles");
    Model::from_image(image, About::default(), Texts::default(), ModelOptions::default().threads(threads))
        .expect("the image is sound")
}

/// What the graph's program computes on the inputs, step by step in the simulator: for targets that this
/// machine is not. Their code is made as well, and every access to memory is checked.
pub(crate) fn simulated(graph: &Graph, target: &Target, options: &plan::Options, inputs: &[Tensor]) -> Vec<Tensor> {
    let generated = generate(graph, target, options).expect("the graph compiles");
    let image =
        build(graph, target, &generated, &Destination::Memory, &[], &|_, _| true).expect("the program compiles");
    let mut memory = Memory::default();
    // What nobody wrote is no number, as in the runtime's memory under test.
    let unwritten = |bytes: u64| vec![f32::NAN; (bytes as usize).div_ceil(4).next_multiple_of(16)];
    let arena = memory.add(&unwritten(image.manifest.arena_bytes));
    let weights = memory.add(bytemuck::cast_slice(&image.weights));
    let scratch = memory.add(&unwritten(image.manifest.scratch_bytes));
    let mut frame = vec![arena, weights];
    frame.extend(inputs.iter().map(|input| memory.add(input.data())));
    let shapes = graph.outputs().iter().map(|o| graph.node(o.node).shape.clone());
    let outputs: Vec<(i64, Shape)> = shapes.map(|s| (memory.add(&vec![0.0; s.elements()]), s)).collect();
    frame.extend(outputs.iter().map(|(address, _)| address));
    let frame = memory.add_ints(&frame);
    let steps = generated.repackings.iter().zip(&generated.steps).zip(&generated.finishings);
    let steps = steps.flat_map(|((pack, step), finish)| pack.iter().chain([step]).chain(finish));
    for step in steps {
        let arguments = [frame, scratch, 0, step.grid as i64];
        simulate::run(&generated.program, step.entry, &arguments, &mut memory).expect("memory that there is");
    }
    outputs.into_iter().map(|(address, shape)| Tensor::new(shape, memory.values(address))).collect()
}

/// Compiled code must agree with the interpreter within `tolerance` of the largest value.
pub(crate) fn check_with(mut graph: Graph, options: &plan::Options, tolerance: f32) {
    randomize_weights(&mut graph, 7);
    let inputs = random_inputs(&graph, 11);
    check_inputs(&graph, &inputs, options, tolerance);
}

/// The same for a graph and inputs as they are.
pub(crate) fn check_on(graph: &Graph, inputs: &[Tensor], tolerance: f32) {
    check_inputs(graph, inputs, &plan::Options::default(), tolerance);
}

fn check_inputs(graph: &Graph, inputs: &[Tensor], options: &plan::Options, tolerance: f32) {
    let expected = interpreter::run(graph, inputs).expect("the inputs fit");
    for target in targets() {
        let mut first: Option<Vec<Tensor>> = None;
        for threads in [1, 2] {
            let model = model(graph, &target, options, threads);
            let got = model.run_tensors(inputs).expect("the model runs");
            for (got, expected) in got.iter().zip(&expected) {
                let (worst, scale) = got.difference(expected);
                assert!(
                    worst <= tolerance * scale.max(1e-3),
                    "{} lanes, {threads} threads: differs by {worst} of {scale}",
                    target.unit.lanes
                );
            }
            // The number of threads does not change a bit.
            let first = first.get_or_insert_with(|| got.clone());
            assert_eq!(first, &got);
        }
    }
}

pub(crate) fn check(graph: Graph) {
    check_with(graph, &plan::Options::default(), 1e-5);
}

/// Compiled steps must leave weights and outputs as the interpreter's do, several in a row.
pub(crate) fn check_steps(graph: &Graph, inputs: &[Tensor], options: &plan::Options, tolerance: f32) {
    let mut expected = vec![];
    let mut after = graph.clone();
    for _ in 0..STEPS {
        let (outputs, updated) = interpreter::run_step(&after, inputs).expect("the inputs fit");
        for (update, value) in graph.updates().iter().zip(&updated) {
            after.weights.set(update.weight, std::sync::Arc::new(value.data().to_vec()));
        }
        expected.push(outputs);
    }
    for target in targets() {
        let mut first: Option<[Vec<Vec<f32>>; 2]> = None;
        for threads in [1, 2] {
            let mut model = stateful(graph, &target, options, threads);
            let mut got = vec![];
            for expected in &expected {
                let mut outputs: Vec<Vec<f32>> = expected.iter().map(|t| vec![0.0; t.data().len()]).collect();
                let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
                let values: Vec<Values> = inputs.iter().map(|t| Values::F32(t.data())).collect();
                model.run(&values, &mut slices, None).expect("the step runs");
                for (got, expected) in outputs.iter().zip(expected) {
                    let got = Tensor::new(expected.shape().clone(), got.clone());
                    near(&got, expected, tolerance, &format!("{} lanes, an output", target.unit.lanes));
                }
                got = outputs;
            }
            let states: Vec<Vec<f32>> = (0..model.states().len()).map(|i| model.state(i).to_vec()).collect();
            for (record, values) in model.states().iter().zip(&states) {
                let weight = graph.weights.find(&record.name).expect("states are weights");
                let shape = graph.weights.get(weight).shape.clone();
                let expected = Tensor::new(shape.clone(), (*after.weights.values(weight)).as_ref().to_vec());
                let what = format!("{} lanes, {}", target.unit.lanes, record.name);
                near(&Tensor::new(shape, values.clone()), &expected, tolerance, &what);
            }
            // The number of threads does not change a bit.
            let left = [got, states];
            let first = first.get_or_insert_with(|| left.clone());
            assert_eq!(first, &left);
        }
    }
}

const STEPS: usize = 3;

/// The graph as a model whose states have the values of its weights.
pub(crate) fn stateful(graph: &Graph, target: &Target, options: &plan::Options, threads: usize) -> Stateful {
    let mut model = Stateful::new(model(graph, target, options, threads)).expect("there is memory");
    for i in 0..model.states().len() {
        let weight = graph.weights.find(&model.states()[i].name).expect("states are weights");
        model.state_mut(i).copy_from_slice((*graph.weights.values(weight)).as_ref());
    }
    model
}

fn near(got: &Tensor, expected: &Tensor, tolerance: f32, what: &str) {
    let (worst, scale) = got.difference(expected);
    assert!(worst <= tolerance * scale.max(1e-3), "{what} differs by {worst} of {scale}");
}
