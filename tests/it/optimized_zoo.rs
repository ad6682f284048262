//! What the passes make of the zoo: the counts that papers and other engines state.

use std::path::Path;

use netc::internals::diagnostic::Sources;
use netc::internals::elaborate::{Options, elaborate};
use netc::internals::ir::{self, Graph, Phase, Remark};
use netc::internals::ops::Op;
use netc::internals::ops::epilogue::PostOp;
use netc::internals::passes::{self, Selection};

fn load(file: &str, model: Option<&str>) -> Graph {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(file);
    let mut sources = Sources::default();
    let root = sources.add(file, std::fs::read_to_string(path).unwrap());
    let options = Options { model: model.map(String::from), phase: Phase::Infer, ..Options::default() };
    elaborate(&mut sources, root, &options).unwrap_or_else(|e| panic!("{file}: {e:?}")).graph
}

fn optimize(mut graph: Graph) -> (Graph, Vec<Remark>) {
    let remarks = passes::run(&mut graph, &Selection::default());
    ir::verify(&graph).unwrap();
    (graph, remarks)
}

fn ops(graph: &Graph) -> Vec<&Op> {
    graph.order().into_iter().filter_map(|id| graph.node(id).op()).collect()
}

fn count(graph: &Graph, name: &str) -> usize {
    ops(graph).into_iter().filter(|op| op.name() == name).count()
}

#[test]
fn residual_networks_are_convolutions_with_fused_sums() {
    let networks = [
        ("resnet18.net", 20, 8, 11_684_712),
        ("resnet34.net", 36, 16, 21_789_160),
        ("resnet50.net", 53, 16, 25_530_472),
        ("resnet101.net", 104, 33, 44_496_488),
        ("resnet152.net", 155, 50, 60_117_096),
    ];
    for (file, convolutions, sums, params) in networks {
        let (graph, _) = optimize(load(file, None));
        assert_eq!(count(&graph, "conv2d"), convolutions, "{file}");
        let adds = |op: &&Op| op.epilogue().is_some_and(|steps| steps.contains(&PostOp::Add));
        assert_eq!(ops(&graph).iter().filter(|op| adds(op)).count(), sums, "{file}");
        assert_eq!(graph.total_params(), params, "{file}");
        // Nothing else is left: stem pool, global pool, flatten, classifier.
        assert_eq!(ops(&graph).len(), convolutions + 4, "{file}");
    }
}

#[test]
fn an_optimized_network_reads_well() {
    let (graph, remarks) = optimize(load("resnet18.net", None));
    let remarks: Vec<String> = remarks.iter().take(6).map(|r| format!("{}: {r}", r.pass)).collect();
    insta::assert_snapshot!(format!("{graph}\n{}", remarks.join("\n")));
}

#[test]
fn googlenet_merges_its_reductions() {
    let written = load("googlenet.net", None);
    let (graph, remarks) = optimize(written.clone());
    let heads = remarks.iter().find(|r| r.pass == "remove_aux_heads").unwrap().to_string();
    assert!(heads.ends_with(": 6,379,728 parameters, 8,372,224 MACs"), "{heads}");
    assert_eq!(graph.total_params(), 6_998_552);
    assert_eq!(graph.total_macs(), 1_582_671_872);
    let merged: Vec<usize> = remarks
        .iter()
        .filter(|r| r.pass == "merge_sibling_pointwise")
        .map(|r| r.message.split(" = ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(merged, [176, 288, 304, 296, 280, 288, 448, 448, 624]);
    // 57 convolutions, of which three in each of nine modules became one.
    assert_eq!(count(&graph, "conv2d"), 57 - 2 * 9);
    assert_eq!(count(&graph, "max_pool") + count(&graph, "global_pool"), 14);
    assert_eq!((count(&graph, "lrn"), count(&graph, "concat"), count(&graph, "linear")), (2, 9, 1));
    assert_eq!((count(&graph, "activation"), count(&graph, "dropout")), (0, 0));
    let mut unmerged = written;
    passes::run(&mut unmerged, &Selection::default().without("merge_sibling_pointwise").unwrap());
    assert_eq!(count(&unmerged, "conv2d"), 57);
}

/// No network of the zoo keeps an activation, a batch norm or a dropout as an operation of its own,
/// but where nothing before it multiplies.
#[test]
fn what_can_be_fused_is_fused() {
    let networks = [
        ("alexnet.net", None, &[][..]),
        ("alexnet_torchvision.net", None, &[]),
        ("vgg16.net", None, &[]),
        ("nin.net", None, &[]),
        ("nin_cifar10.net", None, &[]),
        ("googlenet_torchvision.net", None, &[]),
        ("lenet5.net", None, &[]),
        ("squeezenet.net", None, &[]),
        ("densenet121.net", None, &["channel_affine"]),
        ("unet.net", None, &[]),
        ("dcgan.net", Some("generator"), &[]),
        ("dcgan.net", Some("discriminator"), &[]),
    ];
    for (file, model, left) in networks {
        let (graph, _) = optimize(load(file, model));
        for elementwise in ["activation", "batch_norm", "channel_affine", "dropout", "identity", "binary"] {
            assert!(
                left.contains(&elementwise) || count(&graph, elementwise) == 0,
                "{file} keeps {elementwise}\n{graph}"
            );
        }
    }
}

/// Receptive fields by the recurrence of Araujo et al. 2019 (distill.pub, "Computing receptive fields
/// of convolutional neural networks"); millions of activations as Radosavovic et al. 2020 count them.
#[test]
fn statistics_of_known_networks() {
    let known = [
        ("alexnet_torchvision.net", 195, 0.49),
        ("vgg16.net", 212, 13.56),
        ("resnet18.net", 435, 2.48),
        ("resnet34.net", 899, 3.74),
        ("resnet50.net", 427, 11.11),
    ];
    for (file, field, millions) in known {
        let totals = ir::stats::stats(&load(file, None)).totals;
        assert_eq!(totals.receptive_field, [field, field], "{file}");
        assert_eq!((totals.activations as f64 / 1e4).round() / 100.0, millions, "{file}");
    }
}
