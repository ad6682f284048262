//! Texts made of graphs: they read as a person's would, and elaborate to the graph that they were made of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{NoText, write};
use crate::diagnostic::Sources;
use crate::elaborate::{self, Options, elaborate};
use crate::ir::{Graph, NodeId};
use crate::testing::{random_graph, remade};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn elaborated(name: &str, text: &str, model: Option<&str>, batch: usize) -> Graph {
    let mut sources = Sources::default();
    let id = sources.add(name, text);
    let loader = |p: &Path| std::fs::read_to_string(root().join(p));
    let options = Options { model: model.map(String::from), batch, loader: &loader, ..Options::default() };
    match elaborate(&mut sources, id, &options) {
        Ok(made) => made.graph,
        Err(diagnostics) => {
            let messages: Vec<&str> = diagnostics.iter().map(|d| d.message.as_str()).collect();
            panic!("{name}: {messages:?}\n{text}")
        }
    }
}

fn zoo(file: &str) -> Graph {
    let name = format!("models/{file}.net");
    elaborated(&name, &std::fs::read_to_string(root().join(&name)).unwrap(), None, 1)
}

/// The text of a graph, after checking that it makes the same graph, with the first sizes of all inputs open
/// where they are equal, and as numbers.
fn round_trip(graph: &Graph) -> String {
    let first = |&id: &NodeId| graph.node(id).shape[0];
    let sizes: BTreeSet<usize> = graph.inputs().iter().map(first).collect();
    let fixed = again(graph, &[], 1);
    if sizes.len() > 1 { fixed } else { again(graph, graph.inputs(), first(&graph.inputs()[0])) }
}

fn again(graph: &Graph, open: &[NodeId], batch: usize) -> String {
    for op in graph.order().into_iter().filter_map(|id| graph.node(id).op()) {
        let (layer, remade) = remade(op).expect("a layer makes it");
        assert_eq!(&remade, op, "{layer}");
    }
    let written = write(graph, "As written.", open).unwrap();
    let again = elaborated("text", &written.text, None, batch);
    written.compare(graph, &again).unwrap_or_else(|e| panic!("{e}\n{graph}\n{}", written.text));
    written.text
}

#[test]
fn texts_of_the_zoo() {
    for file in
        ["resnet34", "resnet50", "googlenet", "googlenet_torchvision", "densenet121", "squeezenet", "unet", "nin"]
    {
        insta::assert_snapshot!(file, round_trip(&zoo(file)));
    }
}

/// Gives layers with weights names, by kind and number; `made_up` ones are nobody's.
fn named(graph: &mut Graph, made_up: bool, name: impl Fn(&str, usize) -> String) {
    let mut weighted = graph.order();
    weighted.retain(|&id| !graph.parameters(id).is_empty());
    for (number, id) in weighted.into_iter().enumerate() {
        let name = name(graph.node(id).op().map_or("", |op| op.layer_name()), number);
        if made_up {
            graph.made_up.insert(name.clone());
        }
        graph.set_name(id, Some(name));
    }
}

/// As optimizers and old exporters leave them: operators are counted.
fn nameless(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    let others: Vec<NodeId> = graph.order().into_iter().filter(|&id| graph.node(id).op().is_some()).collect();
    others.into_iter().for_each(|id| graph.set_name(id, None));
    named(&mut graph, true, |kind, number| format!("{kind}_{number}"));
    graph
}

#[test]
fn what_repeats_is_found_without_names() {
    for file in ["resnet50", "googlenet", "densenet121", "unet", "squeezenet"] {
        insta::assert_snapshot!(format!("nameless_{file}"), round_trip(&nameless(&zoo(file))));
    }
}

/// Blocks within blocks, whose layers read what came long before, as networks for super-resolution have them.
fn dense_blocks(name: impl Fn(usize, usize, usize) -> String) -> Graph {
    use crate::ir::Phase;
    use crate::ops::activation::Activation;
    use crate::ops::binary::BinaryKind;
    use crate::ops::{Activate, Concat};
    use crate::testing::{GraphBuilder, binary, conv, relu};
    let scaled = || Activate { kind: Activation::Scale { mul: 0.25, add: 0.0 } };
    let mut b = GraphBuilder::new("dense", Phase::Infer);
    let mut x = b.input([1, 8, 6, 6]);
    for group in 0..6 {
        let begin = x;
        for block in 0..3 {
            let mut values = vec![x];
            for layer in 0..5 {
                let joined = if layer == 0 { x } else { b.add(Concat { axis: 1 }, &values) };
                let width = if layer == 4 { 8 } else { 4 };
                let y = b.add(conv(width, 3, 1, 1), &[joined]);
                b.graph.set_name(y, Some(name(group, block, layer)));
                values.push(if layer == 4 { y } else { b.add(relu(), &[y]) });
            }
            let scaled = b.add(scaled(), &[values[5]]);
            x = b.add(binary(BinaryKind::Add), &[scaled, x]);
        }
        let scaled = b.add(scaled(), &[x]);
        x = b.add(binary(BinaryKind::Add), &[scaled, begin]);
    }
    b.finish(&[x])
}

/// Weights keep the names that somebody gave them, whatever module their layers are in.
#[test]
fn labels_that_somebody_chose_are_kept() {
    type Name = fn(usize, usize, usize) -> String;
    fn number(group: usize, block: usize, layer: usize) -> usize {
        (group * 3 + block) * 5 + layer
    }
    let cases: [(&str, Name); 4] = [
        ("dotted", |g, b, l| format!("body.{g}.rdb{b}.conv{l}")),
        ("underscored", |g, b, l| format!("body_{g}_rdb{b}_conv{l}")),
        ("numbered", |g, b, l| format!("conv_{}", number(g, b, l))),
        ("shuffled", |g, b, l| format!("w{}", number(g, b, l) * 37 % 91)),
    ];
    for (case, name) in cases {
        let graph = dense_blocks(name);
        let written = write(&graph, "As written.", &[]).unwrap();
        let given: BTreeSet<String> = (0..90).map(|n| name(n / 15, n / 5 % 3, n % 5) + ".weight").collect();
        let names = written.weights.iter().filter(|w| w.index == 0).map(|w| w.name.clone());
        assert_eq!(names.collect::<BTreeSet<String>>(), given, "{case}\n{}", written.text);
        insta::assert_snapshot!(format!("chosen_{case}"), round_trip(&graph));
    }
    insta::assert_snapshot!("chosen_by_nobody", round_trip(&nameless(&dense_blocks(cases[0].1))));
}

/// Steps of random graphs over and over, under names of all kinds.
#[test]
fn random_repetitions_are_written_and_read_back() {
    use crate::weights::SplitMix;
    let mut modules = 0;
    for seed in 0..150 {
        let mut random = SplitMix(seed);
        let cell: Vec<u64> = (0..2 + seed % 5).map(|_| random.next()).collect();
        let steps: Vec<u64> = [random.next()].into_iter().chain((0..6).flat_map(|_| cell.clone())).collect();
        let mut graph = crate::testing::graph_from(&steps);
        modules += round_trip(&nameless(&graph)).matches("\nmodule ").count();
        named(&mut graph, false, |kind, number| format!("{kind}_{number}"));
        round_trip(&graph);
        named(&mut graph, false, |kind, number| format!("stage{}_{}.{kind}", number / 3, number % 3));
        round_trip(&graph);
    }
    assert!(modules > 40, "only {modules} modules");
}

/// What has no number in the language.
#[test]
fn open_bounds_are_left_out() {
    use crate::ops::Activate;
    use crate::ops::activation::Activation;
    let mut b = crate::testing::GraphBuilder::new("bounds", crate::ir::Phase::Infer);
    let mut x = b.input([1, 4]);
    for (min, max) in [(1.0, f32::INFINITY), (f32::NEG_INFINITY, 2.0), (1.0, 2.0), (1.0, f32::MAX)] {
        x = b.add(Activate { kind: Activation::Clip { min, max } }, &[x]);
    }
    let text = round_trip(&b.finish(&[x]));
    let calls: Vec<&str> = text.lines().map(str::trim).filter(|line| line.contains("clip")).collect();
    insta::assert_snapshot!(calls.join("\n"));
}

#[test]
fn every_zoo_network_is_written_and_read_back() {
    let mut models = 0;
    for entry in std::fs::read_dir(root().join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "net") {
            continue;
        }
        let (name, text) = (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
        let mut sources = Sources::default();
        let id = sources.add(name.as_str(), text.as_str());
        for model in elaborate::model_names(&sources, id) {
            round_trip(&elaborated(path.strip_prefix(root()).unwrap().to_str().unwrap(), &text, Some(&model), 2));
            models += 1;
        }
    }
    assert!(models >= 20, "only {models} models");
}

#[test]
fn random_graphs_are_written_and_read_back() {
    for seed in 0..400 {
        round_trip(&random_graph(seed));
    }
}

/// Names and joins that go deeper than anybody's network.
#[test]
fn depth_is_limited() {
    use crate::ir::Phase;
    use crate::ops::binary::BinaryKind;
    use crate::testing::{GraphBuilder, binary, conv, relu};
    let mut b = GraphBuilder::new("deep", Phase::Infer);
    let x = b.input([1, 2, 4, 4]);
    let mut values = vec![x];
    for i in 0..60 {
        let last = *values.last().unwrap();
        let node = b.add(conv(2, 1, 1, 0), &[last]);
        b.graph.set_name(node, Some((0..=i).map(|p| format!("p{p}.")).collect::<String>() + "conv"));
        values.push(node);
    }
    let mut sum = b.add(relu(), &[*values.last().unwrap()]);
    for &value in values.iter().rev() {
        sum = b.add(binary(BinaryKind::Mul), &[sum, value]);
    }
    let graph = b.finish(&[sum]);
    assert!(round_trip(&graph).contains("mul("));
}

#[test]
fn many_integers_at_one_distance_are_a_formula() {
    let layers = "index_select([31 - i for i in 0..32], axis = 3)
        index_select([4 + 3 * i for i in 0..9], axis = 3)
        index_select([2, 1, 0])
        index_select([2 * i for i in 0..10], axis = 2)
        index_select([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], axis = 2)
        index_select([0, 1, 2, 3, 4, 5, 6, 7, 8, 8], axis = 2)";
    let text = format!("netc 1\nmodel m {{\ninput x: f32[1, 3, 20, 32]\n{layers}\noutput y\n}}\n");
    let written = round_trip(&elaborated("text", &text, None, 1));
    let kept: Vec<&str> = written.lines().map(str::trim).filter(|line| line.starts_with("index_select")).collect();
    let given: Vec<&str> = layers.lines().map(str::trim).collect();
    assert_eq!(kept, given);
}

/// Their labels would name nothing.
#[test]
fn modules_without_weights_have_no_labels() {
    use crate::ir::Phase;
    use crate::ops::binary::BinaryKind;
    use crate::testing::{GraphBuilder, binary, relu};
    let mut b = GraphBuilder::new("plain", Phase::Infer);
    let mut value = b.input([1, 2, 4, 4]);
    for _ in 0..8 {
        let body = (0..3).fold(value, |v, _| b.add(relu(), &[v]));
        value = b.add(binary(BinaryKind::Add), &[body, value]);
    }
    let graph = b.finish(&[value]);
    insta::assert_snapshot!(round_trip(&graph));
}

/// ConvNeXt's blocks, whose last layer has the name of the scope that the others are in.
#[test]
fn layers_called_as_the_scope_beside_them() {
    use crate::ir::{NodeId, Phase};
    use crate::ops::binary::BinaryKind;
    use crate::ops::{ChannelAffine, LayerNorm, Op};
    use crate::testing::{GraphBuilder, binary, conv, relu};
    let network = |labels: [&str; 4]| {
        let mut b = GraphBuilder::new("next", Phase::Infer);
        let mut x = b.input([1, 8, 4, 4]);
        for block in 0..3 {
            let mut layer = |label: &str, op: Op, x: NodeId| {
                let node = b.add(op, &[x]);
                b.graph.set_name(node, Some(format!("features.{block}{label}")));
                node
            };
            let y = layer(labels[0], conv(8, 3, 1, 1).into(), x);
            let y = layer(labels[1], LayerNorm { eps: 1e-6, affine: true, sizes: vec![] }.into(), y);
            let y = layer(labels[2], conv(32, 1, 1, 0).into(), y);
            let y = layer("", relu().into(), y);
            let y = layer(labels[3], conv(8, 1, 1, 0).into(), y);
            let y = layer("", ChannelAffine { bias: false, epilogue: vec![] }.into(), y);
            x = b.add(binary(BinaryKind::Add), &[y, x]);
        }
        b.finish(&[x])
    };
    insta::assert_snapshot!(round_trip(&network([".block.0", ".block.1", ".block.2", ".block.3"])));
    // Without a scope within, there is no better name.
    round_trip(&network([".0", ".1", ".2", ".3"]));
}

/// Labels as list modules give them: numbers, a layer that is called as its own scope is, and widths
/// that follow the input's within a branch.
#[test]
fn labels_that_are_numbers_or_scopes() {
    use crate::ir::{NodeId, Phase};
    use crate::ops::binary::BinaryKind;
    use crate::ops::{ChannelAffine, Concat, Slice};
    use crate::testing::{GraphBuilder, binary, conv, relu};
    let mut b = GraphBuilder::new("numbers", Phase::Infer);
    let x = b.input([1, 8, 4, 4]);
    let named = |b: &mut GraphBuilder, name: String, node: NodeId| {
        b.graph.set_name(node, Some(name));
        node
    };
    let stem = b.add(conv(8, 1, 1, 0), &[x]);
    let mut value = named(&mut b, "9.stem".into(), stem);
    for stage in 0..2 {
        let half = 4 << stage;
        let cut = |start: usize| Slice { start, end: start + half, step: 1, axis: 1 };
        let (left, mut right) = (b.add(cut(0), &[value]), b.add(cut(half), &[value]));
        for block in 0..7 {
            let scope = format!("{stage}.{block}");
            let conv1 = b.add(conv(half, 1, 1, 0), &[right]);
            named(&mut b, format!("{scope}.conv1"), conv1);
            let gate = b.add(relu(), &[conv1]);
            let gated = b.add(binary(BinaryKind::Div), &[gate, conv1]);
            let conv2 = b.add(conv(half, 3, 1, 1), &[gated]);
            named(&mut b, format!("{scope}.conv2"), conv2);
            let scale = b.add(ChannelAffine { bias: false, epilogue: vec![] }, &[conv2]);
            named(&mut b, scope, scale);
            right = b.add(binary(BinaryKind::Add), &[scale, right]);
        }
        let joined = b.add(Concat { axis: 1 }, &[left, right]);
        value = b.add(conv(16 << stage, 1, 1, 0), &[joined]);
        named(&mut b, format!("{stage}.out.conv"), value);
    }
    let last = b.add(conv(8, 1, 1, 0), &[value]);
    named(&mut b, "9.last".into(), last);
    let value = b.add(binary(BinaryKind::Div), &[last, stem]);
    let graph = b.finish(&[value]);
    insta::assert_snapshot!(round_trip(&graph));
}

/// As YOLO has it: what each layer of a chain gives, side by side.
#[test]
fn values_of_a_chain_side_by_side() {
    use crate::ir::Phase;
    use crate::ops::{Concat, MaxPool};
    use crate::testing::{GraphBuilder, conv};
    let mut b = GraphBuilder::new("chain", Phase::Infer);
    let x = b.input([1, 4, 8, 8]);
    let mut values = vec![b.add(conv(4, 1, 1, 0), &[x])];
    for _ in 0..3 {
        let last = *values.last().unwrap();
        let pool = MaxPool { kernel: [5; 2], stride: [1; 2], pad: [2; 4], dilation: [1; 2], ceil: false };
        values.push(b.add(pool, &[last]));
    }
    let joined = b.add(Concat { axis: 1 }, &values);
    let last = b.add(conv(8, 1, 1, 0), &[joined]);
    let graph = b.finish(&[last]);
    insta::assert_snapshot!(round_trip(&graph));
}

#[test]
fn what_nobody_would_read_is_not_written() {
    use crate::ir::Phase;
    use crate::testing::{GraphBuilder, relu};
    let mut b = GraphBuilder::new("long", Phase::Infer);
    let x = b.input([1, 1, 1, 1]);
    let last = (0..super::MAX_NODES).fold(x, |v, _| b.add(relu(), &[v]));
    let graph = b.finish(&[last]);
    assert_eq!(write(&graph, "", &[]).unwrap_err(), NoText::Size(super::MAX_NODES + 1));
}

/// What layers share is said once in the text, and read back as shared.
#[test]
fn shared_weights_stay_shared() {
    let text = std::fs::read_to_string(root().join("tests/fixtures/valid/shares.net")).unwrap();
    let graph = elaborated("shares.net", &text, None, 1);
    let written = round_trip(&graph);
    insta::assert_snapshot!("shares", written);
    let again = elaborated("text", &written, None, 1);
    assert_eq!(again.all_parameters().count(), graph.all_parameters().count());
    assert_eq!(again.total_params(), graph.total_params());
}

/// A head that is used on all levels of a pyramid, the last level first: named as importing does, by the weights and a
/// number for each further use. Its batch norms, where each level has its own, keep layers from being one module.
#[test]
fn heads_with_shared_weights_are_one_module() {
    let level = |number: usize, norm: bool| {
        let label = |layer: &str| if number == 1 { layer.to_string() } else { format!("{layer}_{number}") };
        let shares = |layer: &str| if number == 3 { String::new() } else { format!("shares {layer}_3") };
        let norm = if norm { format!("bns.{number}: batch_norm ") } else { String::new() };
        format!(
            "from(p{number}) {}: conv(8, 3, pad = 1) {} {norm}relu {}: conv(8, 3, pad = 1) {} relu {}: conv(4, 1) {} output y{number}\n",
            label("head.0"),
            shares("head.0"),
            label("head.2"),
            shares("head.2"),
            label("head.out"),
            shares("head.out"),
        )
    };
    for (name, norm) in [("shared_head", false), ("shared_convolutions", true)] {
        let pyramid: String = (1..=3).map(|i| format!("p{i}: conv(8, 3, stride = 2, pad = 1)\n")).collect();
        let levels: String = [3, 1, 2].map(|number| level(number, norm)).concat();
        let text = format!("netc 1\nmodel m {{\ninput x: f32[1, 3, 32, 32]\n{pyramid}{levels}}}\n");
        insta::assert_snapshot!(name, round_trip(&elaborated("text", &text, None, 1)));
    }
}

/// A block that is applied again and again, two branches of one network, and blocks within a head that is used twice.
#[test]
fn modules_called_again_share_weights() {
    let block = |turn: &str, shares: bool| {
        let of = |layer: &str| if shares { format!("shares b.{layer}") } else { String::new() };
        let [a, n, c] = ["conv1", "bn1", "conv2"].map(|layer| format!("b.{layer}{turn}"));
        format!(
            "residual {{ {a}: conv(8, 3, pad = 1, bias = false) {} {n}: batch_norm {} relu {c}: conv(8, 3, pad = 1) {} }} relu\n",
            of("conv1"),
            of("bn1"),
            of("conv2")
        )
    };
    let turns: String = (1..=5).map(|i| block(&if i == 1 { String::new() } else { format!("_{i}") }, i > 1)).collect();
    let recurrent = format!("netc 1\nmodel m {{\ninput x: f32[1, 8, 8, 8]\n{turns}output y\n}}\n");
    insta::assert_snapshot!("recurrent_block", round_trip(&elaborated("text", &recurrent, None, 1)));
    let body = |name: &str, of: &str| {
        let conv = |at: &str| {
            let shares = if of.is_empty() { String::new() } else { format!("shares {of}.{at}") };
            format!("{name}.{at}: conv(8, 3, pad = 1) {shares}")
        };
        let block = |at: &str| {
            format!("residual {{ {} relu {} }}\n", conv(&format!("{at}.conv1")), conv(&format!("{at}.conv2")))
        };
        format!("{}{}{}\n", block("0"), block("1"), conv("out"))
    };
    let sides =
        format!("from(a)\n{}left: identity\nfrom(b)\n{}sub(left)\noutput y\n", body("head", ""), body("other", "head"));
    let inputs = "input a: f32[1, 8, 8, 8]\ninput b: f32[1, 8, 8, 8]\n";
    let siamese = format!("netc 1\nmodel m {{\n{inputs}{sides}}}\n");
    insta::assert_snapshot!("siamese", round_trip(&elaborated("text", &siamese, None, 1)));
}

/// A gated unit whose state comes beside what it reads, with the same weights in each turn.
#[test]
fn a_state_is_a_parameter() {
    let turn = |i: usize| {
        let (name, state) = (if i == 0 { "unit".into() } else { format!("unit_{i}") }, format!("state{i}"));
        let of = |layer: &str| if i == 0 { String::new() } else { format!("shares unit.{layer}") };
        let gate = |layer: &str| format!("{name}.{layer}: conv(4, 3, pad = 1) {}", of(layer));
        let (update, reset, new) = (gate("update"), gate("reset"), gate("new"));
        format!(
            "from(x) both{i}: concat({state}) {update} keep{i}: sigmoid mul({state}) kept{i}: identity
            from(both{i}) {reset} sigmoid mul({state}) concat(x) {new} tanh mul(keep{i}) state{}: add(kept{i})\n",
            i + 1
        )
    };
    let turns: String = (0..4).map(turn).collect();
    let start = "input x: f32[1, 3, 8, 8]\nstate0: conv(4, 1)\n";
    let text = format!("netc 1\nmodel m {{\n{start}{turns}output y\n}}\n");
    insta::assert_snapshot!("gated_unit", round_trip(&elaborated("text", &text, None, 1)));
}

/// As U-Net has it: what goes up stands beside what came down, level by level.
#[test]
fn a_skip_is_a_parameter() {
    let convs = |name: String, channels: usize| -> String {
        let conv = |k: usize| format!("{name}.conv{k}: conv({channels}, 3, pad = 1) {name}.norm{k}: batch_norm relu\n");
        [1, 2].map(conv).concat()
    };
    let down = |i: usize| format!("{} skip{i}: identity max_pool(2)\n", convs(format!("down{i}"), 8 << i));
    let up = |i: usize| {
        let channels = 8 << i;
        let up = format!("up{i}.up: conv_transpose({channels}, 2, stride = 2) concat(skip{i})\n");
        up + &convs(format!("up{i}"), channels)
    };
    let down: String = (0..4).map(down).collect();
    let up: String = (0..4).rev().map(up).collect();
    let middle = convs("middle".into(), 128);
    let text = format!("netc 1\nmodel m {{\ninput x: f32[1, 3, 32, 32]\n{down}{middle}{up}output y\n}}\n");
    insta::assert_snapshot!("u_net", round_trip(&elaborated("text", &text, None, 1)));
}

/// A residual's input given to what is within, in a row of which no loop may be made, since there `in` is another value.
#[test]
fn what_a_block_begins_with_is_given() {
    let block = |i: usize| {
        let (a, b) = (format!("b{i}.a"), format!("b{i}.b"));
        format!("{a}: conv(8, 3, pad = 1) relu {b}: conv(8, 1) sigmoid mul(start) max(other)\n")
    };
    let blocks: String = (0..5).map(block).collect();
    let text = format!(
        "netc 1\nmodel m {{\ninput x: f32[1, 8, 8, 8]\nother: tanh\nfrom(x)\nstart: relu\n
        residual {{ {blocks} }}\noutput y\n}}\n"
    );
    insta::assert_snapshot!("given_start", round_trip(&elaborated("text", &text, None, 1)));
}

/// What a model calls its values may be any word of the language, in any place.
#[test]
fn values_called_like_words_of_the_language() {
    use crate::ir::Phase;
    use crate::ops::binary::BinaryKind;
    use crate::testing::{GraphBuilder, binary, conv};
    let names = ["shares", "import", "def", "return", "while", "fn", "elif", "elseif", "input", "N", "netc", "in"];
    for name in names.into_iter().chain(["true", "false", "not", "if", "model", "from", "for", "output"]) {
        let mut b = GraphBuilder::new(name, Phase::Infer);
        let x = b.graph.add_input(name, [1, 3, 4, 4].into(), None, None);
        let a = b.add(conv(3, 1, 1, 0), &[x]);
        b.graph.set_name(a, Some(format!("{name}.a")));
        let shared = b.graph.weights_read(a);
        let c = b.graph.add(conv(3, 1, 1, 0), &[a], shared, Some(format!("{name}.c")), None).unwrap();
        let difference = b.add(binary(BinaryKind::Sub), &[c, a]);
        b.graph.output(name, difference, None);
        let text = round_trip(&b.graph);
        let quoted = if matches!(name, "N" | "netc") { format!("{name}.a") } else { format!("\"{name}.a\"") };
        assert!(text.contains(&format!("shares {quoted}\n")), "{text}");
    }
}

/// Callers know inputs and outputs by what the model calls them, which need be no word.
#[test]
fn inputs_and_outputs_keep_their_names() {
    use crate::ir::Phase;
    use crate::ops::binary::BinaryKind;
    use crate::testing::{GraphBuilder, binary};
    let mut b = GraphBuilder::new("names", Phase::Infer);
    let inputs = ["input:0", "0", "a/b"].map(|name| b.graph.add_input(name, [1, 3, 4, 4].into(), None, None));
    let outputs = ["Identity:0", "448", "y"].map(|name| {
        let y = b.add(binary(BinaryKind::Sub), &[inputs[0], inputs[if name == "448" { 1 } else { 2 }]]);
        b.graph.output(name, y, None);
        name
    });
    let text = round_trip(&b.graph);
    let again = elaborated("text", &text, None, 1);
    let names: Vec<_> = again.inputs().iter().filter_map(|&id| again.node(id).name.as_deref()).collect();
    assert_eq!(names, ["input:0", "0", "a/b"], "{text}");
    assert_eq!(again.outputs().iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), outputs, "{text}");
}

/// A concatenation within another is a part of it, also where a label stands between.
#[test]
fn concatenations_within_others() {
    use crate::ir::Phase;
    use crate::testing::{GraphBuilder, conv, relu};
    let concat = || crate::ops::Concat { axis: 1 };
    let mut b = GraphBuilder::new("parts", Phase::Infer);
    let x = b.input([1, 4, 6, 6]);
    let first = b.add(conv(4, 3, 1, 1), &[x]);
    let a = b.add(relu(), &[first]);
    let second = b.add(conv(4, 3, 1, 1), &[a]);
    let third = b.add(conv(4, 3, 1, 1), &[second]);
    // `third` and `second` are joined beside one another, then with what was before them.
    let inner = b.add(concat(), &[second, third]);
    let outer = b.add(concat(), &[a, inner]);
    let y = b.add(conv(2, 1, 1, 0), &[outer]);
    let text = round_trip(&b.finish(&[y]));
    assert!(text.contains("concat"), "{text}");
}

/// They would be written as something else.
#[test]
fn what_the_language_lacks_is_not_written() {
    use crate::ir::Phase;
    use crate::tensor::{Element, Shape};
    use crate::testing::{GraphBuilder, conv};
    let mut b = GraphBuilder::new("integers", Phase::Infer);
    let x = b.input(Shape::of(Element::Bf16, [1, 4]));
    let refused = write(&b.finish(&[x]), "", &[]).unwrap_err();
    assert_eq!(refused, NoText::Element { input: "x0".into(), element: Element::Bf16 });
    let mut b = GraphBuilder::new("computed", Phase::Infer);
    let (x, weight) = (b.input([1, 3, 4, 4]), b.input([2, 3, 1, 1]));
    let y = b.add(conv(2, 1, 1, 0), &[x]);
    let bias = b.graph.parameters(y)[1];
    b.graph.set_parameters(y, &[weight, bias]);
    let name = b.graph.node(y).name.clone().unwrap();
    assert_eq!(write(&b.finish(&[y]), "", &[]).unwrap_err(), NoText::ComputedParameters(name));
}
