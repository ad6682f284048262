//! Text and verification of graphs.

use super::*;
use crate::diagnostic::{Location, SourceId, Span};
use crate::ops::activation::Activation;
use crate::ops::epilogue::PostOp;
use crate::ops::{Conv2d, Op};
use crate::preprocess::{Color, Resize};
use crate::tensor::Tensor;
use crate::testing::{GraphBuilder, conv, graph_from, relu};
use proptest::prelude::*;
use std::sync::Arc;

/// Kind, shape, operands, weights, name and location of a node.
type Line = (Kind, crate::tensor::Shape, Vec<usize>, Vec<String>, Option<String>, Option<String>);

/// Everything of a graph that its text must carry, with nodes numbered by the printing order.
#[derive(Debug, PartialEq)]
struct Structure {
    header: (String, Phase, u64, Vec<String>),
    nodes: Vec<Line>,
    outputs: Vec<(String, usize, Option<AuxHead>)>,
}

fn structure(graph: &Graph) -> Structure {
    let rest = graph.order().into_iter().filter(|id| graph.node(*id).op().is_some());
    let order: Vec<NodeId> = graph.inputs().iter().copied().chain(rest).collect();
    let number = |id: NodeId| order.iter().position(|&o| o == id).unwrap();
    let node = |&id: &NodeId| {
        let node = graph.node(id).clone();
        let operands = graph.operands(id).into_iter().map(number).collect();
        let weight = |&w| format!("{:?}", graph.weights.get(w));
        let location = node.location.map(|l| l.to_string());
        (
            node.kind,
            node.shape,
            operands,
            graph.weights_of(id).unwrap().iter().map(weight).collect(),
            node.name,
            location,
        )
    };
    Structure {
        header: (graph.name.clone(), graph.phase, graph.weights.seed, graph.labels.clone()),
        nodes: order.iter().map(node).collect(),
        outputs: graph.outputs().iter().map(|o| (o.name.clone(), number(o.node), o.aux.clone())).collect(),
    }
}

proptest! {
    #[test]
    fn text_round_trips(steps in prop::collection::vec(any::<u64>(), 1..20)) {
        let graph = graph_from(&steps);
        let text = graph.to_string();
        let read = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(structure(&read), structure(&graph));
        prop_assert_eq!(read.to_string(), text);
        prop_assert!(verify(&read).is_ok());
    }

    #[test]
    fn no_text_panics(steps in prop::collection::vec(any::<u64>(), 1..8), cut in any::<prop::sample::Index>(), with in ".{0,6}") {
        let mut text = graph_from(&steps).to_string();
        let boundaries: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
        let at = boundaries[cut.index(boundaries.len())];
        let end = boundaries.iter().copied().find(|&b| b >= at + with.len()).unwrap_or(text.len());
        text.replace_range(at..end, &with);
        if let Ok(graph) = parse(&text) {
            let _ = verify(&graph);
        }
    }
}

/// Every kind of line: labels, preprocessing, quoted names, fused steps, locations, auxiliary heads.
fn example() -> Graph {
    let mut b = GraphBuilder::new("stem", Phase::Train);
    b.graph.labels = vec!["tabby, cat".into(), "\"dog\"".into()];
    b.graph.weights.seed = 7;
    let preprocess = Preprocess {
        resize: Some(Resize::ShorterSide(256)),
        center_crop: Some([8, 8]),
        scale: Some(1.0 / 255.0),
        mean: vec![0.5, 0.25, 0.125],
        std: vec![1.0, 2.0, 4.0],
        color: Color::Bgr,
        invert: false,
    };
    let line = |line| Some(Location { file: "stem.net".into(), line, column: 1, span: Span::new(SourceId(0), 0, 0) });
    let image = b.graph.add_input("image", [1, 3, 8, 8].into(), Some(preprocess), line(5));
    let first = b.add(conv(4, 1, 1, 0), &[image]);
    b.graph.node_mut(first).name = Some("inception_3a/1x1".into());
    b.graph.node_mut(first).location = line(6);
    let epilogue = vec![PostOp::Add, PostOp::Activate(Activation::Clip { min: 0.0, max: 6.0 })];
    let fused = b.add(Conv2d { bias: false, epilogue, ..conv(4, 3, 1, 1) }, &[first, first]);
    let anonymous = b.add(relu(), &[fused]);
    b.graph.node_mut(anonymous).name = None;
    b.graph.output("main", anonymous, None);
    b.graph.output("0", fused, Some(AuxHead { label: "aux1".into(), weight: 0.3 }));
    b.graph
}

#[test]
fn text_of_a_graph() {
    insta::assert_snapshot!(example());
    assert_eq!(structure(&parse(&example().to_string()).unwrap()), structure(&example()));
}

/// Each wrong text with the error that it gives.
#[test]
fn parse_errors() {
    let line =
        |line: &str| format!("graph @g phase=infer {{\n  %x = input : f32[1,3,8,8]\n  {line}\n  output y = %a\n}}\n");
    let lines = [
        "%a = conv3d %x : f32[1,3,8,8]",
        "%a = conv2d %x, @w, @b { channels=4 } : f32[1,4,8,8]",
        "%a = conv2d %x, @w, @b { channels=4 kernel=big } : f32[1,4,8,8]",
        "%a = conv2d %x, @w { channels=4 kernel=1x1 } : f32[1,4,8,8]",
        "%a = conv2d %x, @w, @b { channels=4 kernel=1x1 } : f32[1,4,8,9]",
        "%a = conv2d %x, @w, @b { channels=4 kernel=0x1 } : f32[1,4,8,9]",
        "%a = conv2d %x, @w, @w { channels=4 kernel=1x1 } : f32[1,4,8,8]",
        "%a = conv2d %x, @w, @b { channels=4 kernel=1x1 colour=red } : f32[1,4,8,8]",
        "%a = conv2d %x, @w, @b { channels=4 channels=4 kernel=1x1 } : f32[1,4,8,8]",
        "%a = conv2d %x, @w, @b { channels=18446744073709551615 kernel=1x1 } : f32[1,4,8,8]",
        "%a = activation %b { kind=relu } : f32[1,3,8,8]",
        "%a = activation %x { kind=relu } : f32[1,3,8,8]\n  %a = activation %x { kind=relu } : f32[1,3,8,8]",
        "%a = activation %x { kind=relu : f32[1,3,8,8]",
        "%\"a\\q\" = activation %x { kind=relu } : f32[1,3,8,8]",
        "%0 = input : f32[1]",
        "%z = input %x : f32[1]",
    ];
    let errors: Vec<String> = lines.iter().map(|l| format!("{l}\n    {}", parse(&line(l)).unwrap_err())).collect();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn verify_finds_every_broken_rule() {
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let x = b.input([1, 3, 4, 4]);
    let a = b.add(conv(4, 1, 1, 0), &[x]);
    let r = b.add(relu(), &[a]);
    let s = b.add(relu(), &[r]);
    let mut g = b.graph;
    assert_eq!(verify(&g).unwrap_err(), [VerifyError::NoOutput]);
    g.output("y", s, None);
    verify(&g).unwrap();
    g.output("y", s, None);
    g.node_mut(r).shape = [1, 4, 4, 5].into();
    g.node_mut(r).name = Some("n1".into());
    let [weight, bias] = g.parameters(a)[..] else { panic!("a weight and a bias") };
    let id = g.node(weight).parameter().unwrap();
    g.set_parameters(a, &[bias]);
    let weight = g.parameter(id);
    g.set_read(s, Slot::Operand(2), x);
    let t = g.add(relu(), &[x], vec![], None, None).unwrap();
    g.set_reads(t, &[weight], &[]);
    g.output("weight", bias, None);
    let errors: Vec<String> = verify(&g).unwrap_err().iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(errors.join("\n"));
    g.set_reads(s, &[r], &[]);
    g.set_reads(r, &[s], &[]);
    assert!(verify(&g).unwrap_err().contains(&VerifyError::Cycle));
}

#[test]
fn parsed_text_can_break_rules_that_verify_finds() {
    let text = "graph @g phase=infer {\n  %x = input : f32[0]\n  %\"x2\" = input : f32[1]\n  %x2 = input : f32[1]\n}\n";
    let graph = parse(text).unwrap();
    let errors: Vec<String> = verify(&graph).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["%x: the input would be empty: f32[0]", "two nodes are named x2", "the graph has no output"]);
}

#[test]
fn op_names_are_unique() {
    let mut names = Op::NAMES.to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Op::NAMES.len());
}

/// A parameter may be a value that is computed: the text parts it from the operands, which are also values.
#[test]
fn parameters_may_be_computed() {
    let text = "\
graph @g phase=infer {
  %x = input : f32[1,2,2,2]
  %w = constant @w { shape=[3,2,1,1] } : f32[3,2,1,1]
  %double = activation %w { kind=scale(2.0,0.0) } : f32[3,2,1,1]
  %y = conv2d %x; %double, @b { channels=3 kernel=1x1 } : f32[1,3,2,2]
  %z = conv2d %x, @v, @b { channels=3 kernel=1x1 } : f32[1,3,2,2]
  output y = %y
  output z = %z
}
";
    let mut graph = parse(text).unwrap();
    verify(&graph).unwrap();
    assert_eq!(graph.to_string(), text);
    let [w, v] = ["w", "v"].map(|name| graph.weights.find(name).unwrap());
    let [y, z] = [0, 1].map(|i| graph.outputs()[i].node);
    assert_eq!((graph.weights_of(y), graph.weights_of(z).map(|w| w[0])), (None, Some(v)));
    let bias = graph.parameters(y)[1];
    assert_eq!(graph.users(bias), [(y, Slot::Parameter(1)), (z, Slot::Parameter(1))]);
    let [single, double] = [1.0, 2.0].map(|f| Arc::new((1..7).map(|i| i as f32 * f).collect::<Vec<f32>>()));
    graph.weights.set(w, single);
    graph.weights.set(v, double);
    let input = Tensor::new([1, 2, 2, 2], (0..8).map(|v| v as f32).collect());
    let outputs = crate::interpreter::run(&graph, &[input]).unwrap();
    assert_eq!(outputs[0].data(), outputs[1].data());
}

/// Weights that nothing reads any more are no nodes of the graph, and numbers of nodes do not depend on them.
#[test]
fn parameters_are_nodes_while_something_reads_them() {
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let x = b.input([1, 3, 4, 4]);
    let first = b.add(conv(4, 1, 1, 0), &[x]);
    let weights = b.graph.weights_of(first).unwrap();
    let second = b.graph.add(conv(4, 1, 1, 0), &[x], weights.clone(), None, None).unwrap();
    let mut graph = b.finish(&[first, second]);
    assert_eq!((graph.len(), graph.all_parameters().count()), (3, 2));
    assert_eq!(graph.total_params(), 16, "shared weights count once");
    let mut e = Editor::new(&mut graph, "test");
    e.remove_outputs(|o| o.node == second);
    e.remark("dropped one reader", vec![]);
    e.rewrite(first, Conv2d { bias: false, ..conv(4, 1, 1, 0) }, &[x], vec![weights[0]]);
    e.remark("dropped the bias", vec![]);
    let saved: Vec<i64> = e.finish().iter().map(|remark| remark.saved.params).collect();
    assert_eq!(saved, [0, 4]);
    assert_eq!(graph.all_parameters().map(|(_, weight)| weight).collect::<Vec<_>>(), [weights[0]]);
}

/// `is_output` says what a look at all outputs says, whatever becomes of them; a node may be several outputs.
#[test]
fn nodes_know_whether_they_are_outputs() {
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let x = b.input([1, 2]);
    let [first, second] = [(); 2].map(|()| b.add(relu(), &[x]));
    let mut graph = b.finish(&[first, first, second]);
    let known = |graph: &Graph| {
        let nodes = [x, first, second];
        for id in nodes {
            assert_eq!(graph.is_output(id), graph.outputs().iter().any(|o| o.node == id));
        }
        nodes.map(|id| graph.is_output(id))
    };
    assert_eq!(known(&graph), [false, true, true]);
    graph.take_outputs(|o| o.name == "y0");
    assert_eq!(known(&graph), [false, true, true], "it is another output still");
    graph.replace_uses(first, second);
    assert_eq!(known(&graph), [false, false, true]);
    assert_eq!(graph.take_outputs(|o| o.name == "y2").len(), 1);
    assert_eq!(known(&graph), [false, false, true], "it became an output twice");
    graph.replace_uses(second, second);
    assert_eq!(known(&graph), [false, false, true]);
    graph.remove(first);
    graph.take_outputs(|_| true);
    assert!(graph.is_unread(second));
    graph.output("x", x, None);
    graph.clear_outputs();
    assert!(!graph.is_output(x));
}

/// What only a computed parameter needs is needed, and where the images are in one, they are mixed.
#[test]
fn computed_parameters_are_followed() {
    let text = "\
graph @g phase=infer {
  %x = input : f32[2,2,1,1]
  %double = activation %x { kind=scale(2.0,0.0) } : f32[2,2,1,1]
  %y = conv2d %x; %double { channels=2 kernel=1x1 bias=false } : f32[2,2,1,1]
  output y = %y
}
";
    let graph = parse(text).unwrap();
    verify(&graph).unwrap();
    let input = graph.inputs()[0];
    let trace = images::trace(&graph, &[input]);
    assert_eq!(trace.mixing.first().map(|m| m.reason.as_str()), Some("reads weights that are computed of images"));
    assert_eq!(stats::stats(&graph).rows.len(), 2);
    crate::plan::limits::check(&graph).unwrap();
}

/// A batch norm folds what it reads into one factor and one term, before a run.
#[test]
fn computed_statistics_are_refused() {
    let text = "\
graph @g phase=infer {
  %x = input : f32[1,2,1,1]
  %s = constant @s { shape=[2] } : f32[2]
  %double = activation %s { kind=scale(2.0,0.0) } : f32[2]
  %y = batch_norm %x; %double, %double, %double, %double : f32[1,2,1,1]
  output y = %y
}
";
    let graph = parse(text).unwrap();
    verify(&graph).unwrap();
    let target = crate::target::Target::host();
    let error = crate::plan::plan(verify(&graph).unwrap(), &target, &Default::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "y reads weights that are computed in a run; code is made for weights that are known before it"
    );
}

/// Thousands of readers of one weight are no reason to look at all of them for each.
#[test]
fn many_readers_of_a_weight_take_no_time_by_their_square() {
    let mut b = GraphBuilder::new("g", Phase::Infer);
    let x = b.input([1, 2, 1, 1]);
    let first = b.add(conv(2, 1, 1, 0), &[x]);
    let weights = b.graph.weights_of(first).unwrap();
    let mut value = first;
    for _ in 0..20_000 {
        value = b.graph.add(conv(2, 1, 1, 0), &[value], weights.clone(), None, None).unwrap();
    }
    let mut graph = b.finish(&[value]);
    let mut e = Editor::new(&mut graph, "test");
    e.for_each(|e, id| {
        if e.node(id).op().is_some() && !e.is_output(id) {
            let operand = e.operands(id)[0];
            e.forward(id, operand);
        }
    });
    e.remark("dropped all but the last", vec![]);
    assert_eq!(e.finish()[0].saved.params, 0);
    assert_eq!(graph.len(), 2);
}
