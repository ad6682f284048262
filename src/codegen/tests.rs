//! Whole graphs, compiled, against the interpreter.

use std::collections::HashMap;

use super::packing::Earlier;
use super::testing::{check, check_with, model, opened, simulated, targets};
use super::vector::Function;
use super::vector::backend::BackEnds;
use super::{emit, generate, verified};
use crate::interpreter;
use crate::ir::{Graph, Phase};
use crate::ops::activation::Activation;
use crate::ops::{ActivationGradient, BatchNorm, Conv2d, Flatten, Linear};
use crate::passes::{self, Selection};
use crate::plan::{Layout, Options, View, plan};
use crate::target::Target;
use crate::tensor::{Element, Shape, Tensor};
use crate::testing::{GraphBuilder, conv, conv_transpose, graph_from, random_graph, random_inputs};
use crate::testing::{randomize_weights, run_with_rounding};
use proptest::prelude::*;

/// Relative to an output's largest value. Algorithms are chosen by cost, Winograd's among them.
const TOLERANCE: f32 = 1e-3;

fn by_name(graph: &Graph, values: Vec<Tensor>) -> HashMap<String, Tensor> {
    graph.outputs().iter().map(|o| o.name.clone()).zip(values).collect()
}

/// Compiled for the target, raw and after the passes, the graph computes what the interpreter does.
fn agrees(graph: &Graph, target: &Target) -> Result<(), String> {
    let inputs = random_inputs(graph, 3);
    let (expected, rounding) = run_with_rounding(graph, &inputs);
    let expected = by_name(graph, expected);
    let mut optimized = graph.clone();
    passes::run(&mut optimized, &Selection::default());
    for (how, graph) in [("as written", graph), ("optimized", &optimized)] {
        let got = model(graph, target, &Options::default(), 2).run_tensors(&inputs).map_err(|e| e.to_string())?;
        for (name, got) in by_name(graph, got) {
            let (worst, scale) = got.difference(&expected[&name]);
            if worst > TOLERANCE * scale.max(1e-2) + rounding {
                let lanes = target.unit.lanes;
                return Err(format!("{how}, {lanes} lanes: {name} differs by {worst} of {scale}\n{graph}"));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_agree_with_the_interpreter(steps in prop::collection::vec(any::<u64>(), 1..16), which: u8) {
        let targets = targets();
        agrees(&graph_from(&steps), &targets[usize::from(which) % targets.len()]).map_err(TestCaseError::fail)?;
    }
}

/// A target that cannot be run here: its program in the simulator, and Cranelift makes code of it.
fn agrees_in_the_simulator(graph: &Graph, target: &Target) {
    let inputs = random_inputs(graph, 3);
    let (expected, rounding) = run_with_rounding(graph, &inputs);
    let got = simulated(graph, target, &Options::default(), &inputs);
    for (got, expected) in got.iter().zip(&expected) {
        let (worst, scale) = got.difference(expected);
        assert!(worst <= 1e-4 * scale.max(1e-2) + rounding, "differs by {worst} of {scale}\n{graph}");
    }
}

#[test]
fn programs_for_other_architectures_compute_the_same() {
    let target = Target::parse("aarch64").unwrap();
    for op in [conv(24, 3, 1, 1), conv(20, 1, 1, 0), conv(9, 5, 2, 2), Conv2d { groups: 4, ..conv(16, 3, 1, 1) }] {
        let mut b = GraphBuilder::new("convolutions", Phase::Infer);
        let x = b.input([1, 3, 9, 7]);
        let y = b.add(conv(16, 3, 1, 1), &[x]);
        let y = b.add(op, &[y]);
        agrees_in_the_simulator(&b.finish(&[y]), &target);
    }
    for seed in 0..8 {
        agrees_in_the_simulator(&random_graph(seed), &target);
    }
}

/// In the loop over a tile's products, a unit that multiplies by a lane loads each pixel's channels once.
#[test]
fn a_lane_is_a_factor_where_the_unit_has_that() {
    let mut b = GraphBuilder::new("pointwise", Phase::Infer);
    let x = b.input([1, 64, 14, 14]);
    let y = b.add(conv(64, 1, 1, 0), &[x]);
    let y = b.add(conv(64, 1, 1, 0), &[y]);
    let graph = b.finish(&[y]);
    let target = Target::parse("aarch64").unwrap();
    let program = generate(&graph, &target, &Options::default()).unwrap().program;
    let back_ends = BackEnds::new(&target).unwrap();
    let list = |f: &Function| back_ends.of(f).unwrap().listing(f).unwrap();
    let longest = program.functions.iter().map(list).max_by_key(|l| l.matches("fmla").count()).unwrap();
    let count = |what: &str| longest.lines().filter(|l| l.contains(what)).count();
    let by_lane = longest.lines().filter(|l| l.contains("fmla") && l.contains(".s[")).count();
    assert_eq!(by_lane, count("fmla"), "{longest}");
    // Biases are loaded as well, once a tile.
    let loads = count("ldr q");
    assert!(count("ld1r") == 0 && 2 * count("fmla") >= 5 * loads, "{loads} loads in\n{longest}");
}

/// A linear layer over a small image looks like a convolution with one output, for which no tile is made.
#[test]
fn linear_layers_have_no_tiles_whatever_is_forced() {
    let mut b = GraphBuilder::new("classifier", Phase::Infer);
    let x = b.input([1, 3, 3, 3]);
    let y = b.add(conv(16, 3, 1, 1), &[x]);
    let y = b.add(Flatten {}, &[y]);
    let y = b.add(Linear { features: 10, bias: true, epilogue: vec![] }, &[y]);
    let graph = b.finish(&[y]);
    for algorithm in ["winograd2", "winograd4"] {
        let options = Options { algorithms: vec![("*".into(), algorithm.into())], ..Options::default() };
        check_with(graph.clone(), &options, 1e-4);
    }
}

/// The tiles of their convolutions once needed more registers than 256-bit vectors have.
#[test]
fn graphs_that_crowd_the_registers() {
    for seed in [183, 205, 248, 322, 460, 467, 628, 1006, 1027, 1210, 1457] {
        for target in targets().iter().filter(|t| t.unit.lanes == 8) {
            agrees(&random_graph(seed), target).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
    }
}

/// Takes minutes: `NETC_SEEDS=1000..1500 cargo test many_random_graphs -- --ignored`.
#[test]
#[ignore = "for long runs"]
fn many_random_graphs() {
    let range = std::env::var("NETC_SEEDS").unwrap_or("0..300".into());
    let (first, last) = range.split_once("..").expect("a range of seeds");
    let (first, last): (u64, u64) = (first.parse().expect("a seed"), last.parse().expect("a seed"));
    let wrong: Vec<String> = (first..last)
        .flat_map(|seed| targets().into_iter().map(move |target| (seed, target)))
        .filter_map(|(seed, target)| {
            let run = std::panic::catch_unwind(|| agrees(&random_graph(seed), &target));
            let why = run.unwrap_or_else(|_| Err("panicked".into())).err()?;
            Some(format!("seed {seed}, {:?}: {}", target.features, why.lines().next().unwrap_or_default()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {range} fail:\n{}", wrong.len(), wrong.join("\n"));
}

/// A tensor of other elements than the port's is refused by its shape, and not taken for numbers of the port's.
#[test]
fn tensors_of_other_elements_are_refused() {
    let mut b = GraphBuilder::new("two", Phase::Infer);
    let x = b.input([1, 3, 4, 4]);
    let y = b.add(conv(4, 1, 1, 0), &[x]);
    let model = model(&b.finish(&[y]), &Target::host(), &Options::default(), 1);
    let bytes = Tensor::from_values(Shape::of(Element::U8, [1, 3, 4, 4]), vec![1.0; 48]);
    let refused = model.run_tensors(&[bytes]).unwrap_err().to_string();
    assert!(refused.contains("f32[N,3,4,4]") || refused.contains("f32[1,3,4,4]"), "{refused}");
    assert!(refused.contains("u8[1,3,4,4]"), "{refused}");
}

/// How many channels a block has is the plan's choice: loop nests, which copy and compute single elements, take
/// blocks that are no vector.
#[test]
fn loop_nests_take_blocks_of_any_size() {
    let mut b = GraphBuilder::new("blocks", Phase::Infer);
    // Images of so few pixels are brought into blocks by nests, too.
    let x = b.input([2, 10, 1, 3]);
    let y = b.add(BatchNorm { eps: 1e-3, affine: true }, &[x]);
    let y = b.add(crate::testing::relu(), &[y]);
    // Which has no kernel for plain memory, so that the others have blocks, too.
    let y = b.add(ActivationGradient { kind: Activation::Sigmoid, of_output: false }, &[y, y]);
    let mut graph = b.finish(&[y]);
    randomize_weights(&mut graph, 7);
    let inputs = random_inputs(&graph, 11);
    let expected = interpreter::run(&graph, &inputs).expect("the inputs fit");
    for (target, block) in targets().iter().flat_map(|target| [2, 4, 16].map(|block| (target, block))) {
        let mut plan = plan(verified(&graph).expect("a sound graph"), target, &Options::default()).expect("it fits");
        for view in plan.steps.iter_mut().flat_map(|step| step.inputs.iter_mut().chain(&mut step.outputs)) {
            if view.layout.is_blocked() {
                *view = View::whole(view.place, Layout::Blocked { block }, &view.shape);
            }
        }
        let blocks = plan.steps.iter().filter(|step| step.outputs[0].block() == block).count();
        assert_eq!(blocks, 4, "a conversion and three ops");
        // Blocks of another size may take more memory: each buffer has its own.
        let mut end = 0;
        for buffer in &mut plan.buffers {
            (buffer.bytes, buffer.offset) = (4096, end);
            end += buffer.bytes;
        }
        plan.arena_bytes = end;
        let generated = emit(&graph, target, plan, None, &Earlier::default()).expect("nests are made");
        let got = opened(&graph, target, &generated, 1).run_tensors(&inputs).expect("the model runs");
        let (worst, scale) = got[0].difference(&expected[0]);
        assert!(worst <= 1e-5 * scale, "blocks of {block}: differs by {worst} of {scale}");
    }
}

/// Outputs as bits.
fn bits(values: &[Tensor]) -> Vec<Vec<u32>> {
    values.iter().map(|t| t.data().iter().map(|v| v.to_bits()).collect()).collect()
}

/// Strict plans give the same bits on every vector unit and with any number of threads.
#[test]
fn strict_bits_do_not_depend_on_the_unit() {
    let targets: Vec<Target> = targets().into_iter().filter(Target::fuses).collect();
    let options = Options { strict: true, ..Options::default() };
    for seed in 0..40 {
        let mut graph = random_graph(seed);
        let inputs = random_inputs(&graph, seed);
        if seed % 2 == 0 {
            passes::run(&mut graph, &Selection::default());
        }
        let mut first = None;
        for (target, threads) in targets.iter().zip([1, 2, 3]) {
            let got = model(&graph, target, &options, threads).run_tensors(&inputs).expect("the model runs");
            let first = first.get_or_insert_with(|| bits(&got));
            assert_eq!(*first, bits(&got), "seed {seed}, {} lanes\n{graph}", target.unit.lanes);
        }
    }
}

/// A forced Winograd kernel keeps the promise too: it adds channels up in their order.
#[test]
fn strict_bits_of_forced_winograd() {
    let mut b = GraphBuilder::new("forced", Phase::Infer);
    let x = b.input([2, 3, 13, 9]);
    let x = b.add(conv(40, 1, 1, 0), &[x]);
    let y = b.add(conv(35, 3, 1, 1), &[x]);
    let graph = b.finish(&[y]);
    let inputs = random_inputs(&graph, 1);
    for name in ["winograd2", "winograd4", "winograd6"] {
        let options = Options { algorithms: vec![("*".into(), name.into())], strict: true, ..Options::default() };
        let of = |target: &Target| bits(&model(&graph, target, &options, 1).run_tensors(&inputs).expect("it runs"));
        let all: Vec<_> = targets().iter().filter(|t| t.fuses()).map(of).collect();
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{name}");
    }
}

#[test]
fn strict_needs_fused_multiply_adds() {
    let graph = random_graph(1);
    let options = Options { strict: true, ..Options::default() };
    let error = crate::plan::plan(crate::ir::verify(&graph).unwrap(), &Target::parse("baseline").unwrap(), &options)
        .unwrap_err();
    assert!(error.to_string().contains("fused multiply-adds"), "{error}");
}

/// A transposed convolution whose padding leaves the image's middle: one pixel, and not the first.
#[test]
fn one_pixel_that_lies_within_the_image() {
    let mut b = GraphBuilder::new("middle", Phase::Infer);
    let x = b.input([2, 5, 3, 3]);
    let y = b.add(conv_transpose(5, 1, 1, 1), &[x]);
    check(b.finish(&[y]));
}

/// A sum of more values than a kernel has registers for.
#[test]
fn sums_of_many_values_compile() {
    use crate::ops::activation::Activation;
    use crate::ops::binary::BinaryKind;
    use crate::ops::{Activate, Conv2d, Linear};
    let depthwise = Conv2d { groups: 32, ..conv(32, 3, 1, 1) };
    let images: [crate::ops::Op; 5] = [
        conv(32, 3, 1, 1).into(),
        conv(32, 1, 1, 0).into(),
        depthwise.into(),
        conv_transpose(32, 1, 1, 0).into(),
        crate::testing::relu().into(),
    ];
    let linear = Linear { features: 32, bias: true, epilogue: vec![] };
    let of_images = images.map(|op| (op, vec![1, 32, 8, 8]));
    for (op, shape) in of_images.into_iter().chain([(linear.into(), vec![3, 32])]) {
        let mut b = GraphBuilder::new("sum", Phase::Infer);
        let x = b.input(crate::tensor::Shape::new(shape));
        let mut sum = b.add(op, &[x]);
        for i in 1..20 {
            let slope = i as f32 / 20.0;
            let term = b.add(Activate { kind: Activation::LeakyRelu { slope } }, &[x]);
            sum = b.add(crate::testing::binary(BinaryKind::Add), &[sum, term]);
        }
        let mut graph = b.finish(&[sum]);
        crate::testing::randomize_weights(&mut graph, 5);
        for target in targets() {
            agrees(&graph, &target).unwrap();
        }
    }
}
