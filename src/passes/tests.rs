//! Every pass as text before and after, and by the interpreter on both.

use super::*;
use crate::interpreter;
use crate::ir::{Kind, Phase, Preprocess};
use crate::tensor::Tensor;
use crate::testing::{graph_from, random_inputs, randomize_weights, run_with_rounding};
use proptest::prelude::*;

/// A graph of the infer phase with one input `%x`.
fn graph(input: &str, lines: &str) -> Graph {
    let lines: String = lines.lines().map(|l| format!("  {}\n", l.trim())).collect();
    let text = format!("graph @g phase=infer seed=3 {{\n  %x = input : f32[{input}]\n{lines}}}\n");
    let mut graph = ir::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    ir::verify(&graph).unwrap();
    randomize_weights(&mut graph, 5);
    graph
}

/// The worst relative difference of any output.
fn difference(before: &[Tensor], after: &[Tensor]) -> f32 {
    let pairs = before.iter().zip(after).map(|(b, a)| a.difference(b));
    pairs.map(|(worst, scale)| worst / scale.max(1e-3)).fold(0.0, f32::max)
}

/// Before, after and remarks of one pass, whose outputs are equal but for rounding.
fn check(pass: &str, mut graph: Graph) -> String {
    let before = graph.to_string();
    let inputs = random_inputs(&graph, 11);
    let expected = interpreter::run(&graph, &inputs).unwrap();
    let remarks = run(&mut graph, &Selection::only([pass]).unwrap());
    let found = interpreter::run(&graph, &inputs).unwrap();
    assert!(difference(&expected, &found) < 1e-5, "{pass} changes values:\n{before}\n{graph}");
    let after = graph.to_string();
    let after = if after == before { "unchanged\n".into() } else { after };
    let remarks: Vec<String> = remarks.iter().map(|r| format!("{r}\n")).collect();
    format!("{before}\n{after}\n{}", remarks.concat())
}

macro_rules! pass_test {
    ($name:ident, $pass:literal, $input:literal, $lines:literal) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(check($pass, graph($input, $lines)));
        }
    };
}

#[test]
fn remove_aux_heads() {
    let mut g = graph(
        "1,8,4,4",
        "%a = conv2d %x, @a.weight, @a.bias { channels=8 kernel=1x1 } : f32[1,8,4,4]   // g.net:4
         %h = flatten %a : f32[1,128]
         %fc = linear %h, @aux1.fc.weight, @aux1.fc.bias { features=10 } : f32[1,10]   // g.net:9
         %y = activation %a { kind=relu } : f32[1,8,4,4]
         output main = %y
         output aux1_logits = %fc aux aux1 weight=0.3",
    );
    // Outputs differ in number here, so `check` is not for this pass.
    let remarks = run(&mut g, &Selection::only(["remove_aux_heads"]).unwrap());
    insta::assert_snapshot!(format!("{g}\n{} ({})", remarks[0], remarks[0].locations[0]));
}

#[test]
fn aux_heads_stay_where_they_train_or_are_alone() {
    for (phase, outputs) in [("train", "output main = %x"), ("infer", "")] {
        let text = format!(
            "graph @g phase={phase} {{\n  %x = input : f32[1,2]\n  {outputs}\n  output a = %x aux aux1 weight=0.3\n}}\n"
        );
        let mut g = ir::parse(&text).unwrap();
        assert!(run(&mut g, &Selection::only(["remove_aux_heads"]).unwrap()).is_empty());
        assert!(g.outputs().iter().any(|o| o.aux.is_some()));
    }
}

pass_test!(
    remove_dropout,
    "remove_dropout",
    "1,8",
    "%a = linear %x, @a.weight, @a.bias { features=8 } : f32[1,8]
     %d = dropout %a : f32[1,8]   // g.net:3
     %i = identity %d : f32[1,8]
     %y = linear %i, @b.weight, @b.bias { features=4 } : f32[1,4]
     %last = dropout %y { p=0.2 } : f32[1,4]   // g.net:5
     output y = %last"
);

pass_test!(
    dead_code,
    "dead_code",
    "1,8",
    "%a = linear %x, @a.weight, @a.bias { features=8 } : f32[1,8]
     %b = linear %a, @b.weight, @b.bias { features=8 } : f32[1,8]
     %c = activation %b { kind=relu } : f32[1,8]
     output y = %a"
);

pass_test!(
    constant_folding,
    "constant_folding",
    "1,2,3,3",
    "%k = constant @k { shape=[1,2,1,1] } : f32[1,2,1,1]
     %l = constant @l { shape=[2,1,1] } : f32[2,1,1]
     %s = activation %k { kind=sigmoid } : f32[1,2,1,1]
     %m = binary %s, %l { kind=add } : f32[1,2,1,1]
     %y = binary %x, %m { kind=mul } : f32[1,2,3,3]
     %z = binary %x, %l { kind=add } : f32[1,2,3,3]
     output y = %y
     output z = %z"
);

pass_test!(
    cse,
    "cse",
    "1,2,3,3",
    "%a = conv2d %x, @w, @b { channels=4 kernel=1x1 } : f32[1,4,3,3]
     %b = conv2d %x, @w, @b { channels=4 kernel=1x1 } : f32[1,4,3,3]
     %c = conv2d %x, @w2, @b { channels=4 kernel=1x1 } : f32[1,4,3,3]
     %ra = activation %a { kind=relu } : f32[1,4,3,3]
     %rb = activation %b { kind=relu } : f32[1,4,3,3]
     %ta = activation %a { kind=tanh } : f32[1,4,3,3]
     %p = binary %ra, %ta { kind=add } : f32[1,4,3,3]
     %q = binary %ta, %rb { kind=add } : f32[1,4,3,3]
     %d = binary %ta, %rb { kind=sub } : f32[1,4,3,3]
     %e = binary %ra, %ta { kind=sub } : f32[1,4,3,3]
     %y = concat %p, %q, %d, %e, %c : f32[1,20,3,3]
     output y = %y"
);

pass_test!(
    lower_constants,
    "lower_constants",
    "3,2,2",
    "%c = constant_values { shape=[1,1,2] values=[0.5,-1.0] } : f32[1,1,2]   // g.net:3
     %t = constant @t { shape=[1,1,2] learned=true } : f32[1,1,2]
     %s = concat %t, %c : f32[1,2,2]
     %y = concat %s, %x, %c : f32[3,5,2]
     output y = %y"
);

pass_test!(
    lower_channel_constants,
    "lower_channel_constants",
    "1,2,3,3",
    "%y = channel_constants %x { mul=[2.0,0.5] add=[0.0,1.0] } : f32[1,2,3,3]   // g.net:3
     output y = %y"
);

// RepVGG's branches, those of a grouped layer, a smaller window with its own padding, and the value itself.
pass_test!(
    merge_parallel_convolutions,
    "merge_parallel_convolutions",
    "1,4,5,6",
    "%a = conv2d %x, @a.weight, @a.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,5,6]   // g.net:3
     %b = conv2d %x, @b.weight, @b.bias { channels=4 kernel=1x1 } : f32[1,4,5,6]   // g.net:4
     %c = channel_affine %x, @c.weight, @c.bias : f32[1,4,5,6]   // g.net:5
     %d = binary %a, %b { kind=add } : f32[1,4,5,6]
     %e = binary %d, %c { kind=add } : f32[1,4,5,6]   // g.net:6
     %r = activation %e { kind=relu } : f32[1,4,5,6]
     %f = conv2d %r, @f.weight { channels=4 kernel=1x3 pad=0,1,0,1 groups=2 bias=false } : f32[1,4,5,6]   // g.net:8
     %g = conv2d %r, @g.weight, @g.bias { channels=4 kernel=5x3 pad=2,1,2,1 groups=2 } : f32[1,4,5,6]   // g.net:9
     %h = binary %f, %g { kind=add } : f32[1,4,5,6]
     %y = binary %r, %h { kind=add } : f32[1,4,5,6]
     %s = conv2d %y, @s.weight, @s.bias { channels=6 kernel=3x3 stride=2x2 pad=1,1,1,1 } : f32[1,6,3,3]
     %t = conv2d %y, @t.weight, @t.bias { channels=6 kernel=1x1 stride=2x2 } : f32[1,6,3,3]
     %z = binary %s, %t { kind=add } : f32[1,6,3,3]
     output z = %z"
);

// Windows of which none holds the other before the one that holds both (ACNet), the mean of windows with factors (DBB), a
// window of each channel beside one of all, and what is no such branch between them.
pass_test!(
    merge_parallel_convolutions_in_any_order,
    "merge_parallel_convolutions",
    "1,4,6,6",
    "%a = conv2d %x, @a.weight, @a.bias { channels=4 kernel=1x3 pad=0,1,0,1 } : f32[1,4,6,6]   // g.net:3
     %b = conv2d %x, @b.weight, @b.bias { channels=4 kernel=3x1 pad=1,0,1,0 } : f32[1,4,6,6]   // g.net:4
     %c = binary %a, %b { kind=add } : f32[1,4,6,6]
     %m = max_pool %x { kernel=3x3 stride=1x1 pad=1,1,1,1 } : f32[1,4,6,6]
     %d = conv2d %x, @d.weight, @d.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,6,6]   // g.net:6
     %e = binary %m, %d { kind=add } : f32[1,4,6,6]
     %f = binary %c, %e { kind=add } : f32[1,4,6,6]   // g.net:7
     %g = avg_pool %f { kernel=3x3 stride=1x1 pad=1,1,1,1 } : f32[1,4,6,6]   // g.net:8
     %h = channel_affine %g, @h.weight, @h.bias : f32[1,4,6,6]   // g.net:9
     %i = conv2d %f, @i.weight, @i.bias { channels=4 kernel=5x5 pad=2,2,2,2 groups=2 } : f32[1,4,6,6]   // g.net:10
     %j = binary %h, %i { kind=add } : f32[1,4,6,6]
     %k = conv2d %f, @k.weight { channels=4 kernel=3x3 pad=1,1,1,1 groups=4 bias=false } : f32[1,4,6,6]   // g.net:12
     %y = binary %j, %k { kind=add } : f32[1,4,6,6]
     output y = %y"
);

// Another stride, windows beside one another, a reader of its own, another value.
pass_test!(
    merge_parallel_convolutions_of_others,
    "merge_parallel_convolutions",
    "1,4,6,6",
    "%a = conv2d %x, @a.weight, @a.bias { channels=4 kernel=1x3 pad=0,1,0,1 } : f32[1,4,6,6]
     %b = conv2d %x, @b.weight, @b.bias { channels=4 kernel=3x1 pad=1,0,1,0 } : f32[1,4,6,6]
     %c = binary %a, %b { kind=add } : f32[1,4,6,6]
     %d = conv2d %c, @d.weight, @d.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,6,6]
     %e = conv2d %c, @e.weight, @e.bias { channels=4 kernel=1x1 } : f32[1,4,6,6]
     %f = binary %d, %e { kind=add } : f32[1,4,6,6]
     %g = conv2d %f, @g.weight, @g.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,6,6]
     %h = binary %g, %x { kind=add } : f32[1,4,6,6]
     output d = %d
     output h = %h"
);

// FSRCNN's last layer, one with another padding and factor whose phases differ in taps; strides that differ, many channels.
pass_test!(
    join_phases,
    "join_phases",
    "1,3,4,5",
    "%a = conv_transpose2d %x, @a.weight, @a.bias { channels=1 kernel=9x9 stride=3x3 pad=4,4,4,4 output_pad=2x2 epilogue=[relu] } : f32[1,1,12,15]   // g.net:3
     %b = conv_transpose2d %a, @b.weight { channels=2 kernel=3x2 stride=2x2 bias=false } : f32[1,2,25,30]   // g.net:4
     %c = conv_transpose2d %a, @c.weight { channels=1 kernel=2x2 stride=2x1 bias=false } : f32[1,1,24,16]
     %d = conv_transpose2d %a, @d.weight { channels=5 kernel=2x2 stride=2x2 bias=false } : f32[1,5,24,30]
     output b = %b
     output c = %c
     output d = %d"
);

// A Focus and a pixel unshuffle whose channels are picked; phases that are missing, two images, many channels, a second reader.
pass_test!(
    fold_space_to_depth,
    "fold_space_to_depth",
    "2,3,4,6",
    "%a = slice %x { axis=2 start=0 end=4 step=2 } : f32[2,3,2,6]   // g.net:3
     %b = slice %a { axis=3 start=0 end=6 step=2 } : f32[2,3,2,3]
     %c = slice %x { axis=2 start=1 end=4 step=2 } : f32[2,3,2,6]
     %d = slice %c { axis=3 start=0 end=6 step=2 } : f32[2,3,2,3]
     %e = slice %a { axis=3 start=1 end=6 step=2 } : f32[2,3,2,3]
     %f = slice %c { axis=3 start=1 end=6 step=2 } : f32[2,3,2,3]
     %g = concat %b, %d, %e, %f { axis=1 } : f32[2,12,2,3]   // g.net:4
     %h = conv2d %g, @h.weight, @h.bias { channels=2 kernel=3x3 pad=1,1,1,1 } : f32[2,2,2,3]   // g.net:5
     %i = pixel_unshuffle %x { factor=2 } : f32[2,12,2,3]
     %j = index_select %i { axis=1 indices=[3,0,11,11,2,1,5,4,9,8,7,6] } : f32[2,12,2,3]
     %k = conv2d %j, @k.weight { channels=2 kernel=2x1 stride=2x1 pad=1,0,0,1 bias=false } : f32[2,2,1,4]
     %l = concat %b, %d, %e { axis=1 } : f32[2,9,2,3]
     %m = conv2d %l, @m.weight, @m.bias { channels=2 kernel=1x1 } : f32[2,2,2,3]
     %q = concat %f, %e, %d, %b { axis=1 } : f32[2,12,2,3]
     %r = conv2d %q, @r.weight, @r.bias { channels=5 kernel=1x1 } : f32[2,5,2,3]
     %n = conv2d %i, @n.weight, @n.bias { channels=12 kernel=1x1 } : f32[2,12,2,3]
     %o = concat %i, %n { axis=1 } : f32[2,24,2,3]
     %p = conv2d %o, @p.weight, @p.bias { channels=1 kernel=1x1 } : f32[2,1,2,3]
     output h = %h
     output k = %k
     output m = %m
     output p = %p
     output r = %r"
);

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Any window, step and border over pixels in channels gives what it gave.
    #[test]
    fn space_to_depth_of_any_geometry_is_folded(
        kernel in [1usize..4, 1usize..4],
        stride in [1usize..3, 1usize..3],
        pad in [0usize..3, 0usize..3, 0usize..3, 0usize..3],
        factor in [1usize..4, 1usize..4],
        size in [1usize..4, 1usize..4],
        turned in 0usize..9,
    ) {
        let shape = [2, 2, size[0] * factor[0], size[1] * factor[1]];
        let mut b = crate::testing::GraphBuilder::new("phases", Phase::Infer);
        let x = b.input(shape);
        let count = factor[0] * factor[1];
        let places = (0..count).map(|at| (at + turned) % count).map(|at| [at / factor[1], at % factor[1]]);
        let parts: Vec<_> = places
            .map(|[row, column]| {
                let rows = b.add(crate::ops::Slice { axis: 2, start: row, end: shape[2], step: factor[0] }, &[x]);
                b.add(crate::ops::Slice { axis: 3, start: column, end: shape[3], step: factor[1] }, &[rows])
            })
            .collect();
        let moved = b.add(crate::ops::Concat { axis: 1 }, &parts);
        let op = crate::ops::Conv2d {
            channels: 3, kernel, stride, pad, dilation: [1, 1], groups: 1, bias: turned > 4, epilogue: vec![],
        };
        prop_assume!(crate::ops::Operation::infer(&op, &[&[2, 2 * count, size[0], size[1]].into()]).is_ok());
        let y = b.add(op, &[moved]);
        let mut graph = b.finish(&[y]);
        randomize_weights(&mut graph, 7);
        let inputs = random_inputs(&graph, 3);
        let expected = interpreter::run(&graph, &inputs).unwrap();
        run(&mut graph, &Selection::only(["fold_space_to_depth"]).unwrap());
        prop_assert!(difference(&expected, &interpreter::run(&graph, &inputs).unwrap()) < 1e-5);
        let moves = |&id: &crate::ir::NodeId| matches!(graph.node(id).op(), Some(crate::ops::Op::Concat(_)));
        let is_refused = count == 1 || (factor[0] != factor[1] && (kernel != [1, 1] || pad != [0; 4]));
        prop_assert_eq!(graph.order().iter().any(moves), is_refused);
    }

    /// Any kernel, border and size gives what it gave.
    #[test]
    fn phases_of_any_geometry_are_joined(
        kernel in [1usize..7, 1usize..7],
        factor in 2usize..5,
        pads in [0usize..4, 0usize..4, 0usize..4, 0usize..4],
        more in [0usize..2, 0usize..2],
        channels in 1usize..4,
        size in [1usize..5, 1usize..5],
    ) {
        let op = crate::ops::ConvTranspose2d {
            channels,
            kernel,
            stride: [factor; 2],
            pad: pads,
            output_pad: more,
            dilation: [1, 1],
            groups: 1,
            bias: channels > 1,
            epilogue: vec![],
        };
        let shape = crate::tensor::Shape::new([2, 3, size[0], size[1]]);
        prop_assume!(crate::ops::Operation::infer(&op, &[&shape]).is_ok());
        let mut b = crate::testing::GraphBuilder::new("phases", Phase::Infer);
        let x = b.input([2, 3, size[0], size[1]]);
        let y = b.add(op, &[x]);
        let mut graph = b.finish(&[y]);
        randomize_weights(&mut graph, 7);
        let inputs = random_inputs(&graph, 3);
        let expected = interpreter::run(&graph, &inputs).unwrap();
        run(&mut graph, &Selection::only(["join_phases"]).unwrap());
        prop_assert!(difference(&expected, &interpreter::run(&graph, &inputs).unwrap()) < 1e-5);
        let is_transposed = |&id: &crate::ir::NodeId| matches!(graph.node(id).op(), Some(crate::ops::Op::ConvTranspose2d(_)));
        // The first pixels that count are within reach of the input, where the border is no wider than the kernel.
        if pads[0] < kernel[0] && pads[1] < kernel[1] {
            prop_assert!(!graph.order().iter().any(is_transposed));
        }
    }
}

pass_test!(
    recognise_group_norm,
    "recognise_group_norm",
    "2,8,3,3",
    "%a = reshape %x { shape=[0,4,-1,1] } : f32[2,4,18,1]   // g.net:3
     %b = instance_norm %a { eps=0.001 } : f32[2,4,18,1]
     %c = reshape %b { shape=[0,8,3,3] } : f32[2,8,3,3]
     %d = channel_affine %c, @d.weight, @d.bias : f32[2,8,3,3]   // g.net:6
     %e = reshape %d { shape=[0,2,-1,1] } : f32[2,2,36,1]
     %f = instance_norm %e, @f.weight, @f.bias { affine=true } : f32[2,2,36,1]
     %y = reshape %f { shape=[0,8,3,3] } : f32[2,8,3,3]
     output y = %y"
);

// As PyTorch exports it, by way of values of three axes; groups that are no channels of the same images.
pass_test!(
    recognise_group_norm_of_several_reshapes,
    "recognise_group_norm",
    "2,8,3,3",
    "%a = reshape %x { shape=[0,4,-1] } : f32[2,4,18]   // g.net:3
     %b = reshape %a { shape=[0,4,1,18] } : f32[2,4,1,18]
     %c = instance_norm %b { eps=0.001 } : f32[2,4,1,18]   // g.net:5
     %d = reshape %c { shape=[0,4,18] } : f32[2,4,18]
     %e = reshape %d { shape=[0,8,3,3] } : f32[2,8,3,3]
     %f = channel_affine %e, @f.weight, @f.bias : f32[2,8,3,3]   // g.net:8
     %g = reshape %f { shape=[1,8,18] } : f32[1,8,18]
     %h = reshape %g { shape=[0,8,1,18] } : f32[1,8,1,18]
     %i = instance_norm %h { eps=0.001 } : f32[1,8,1,18]
     %y = reshape %i { shape=[2,8,3,3] } : f32[2,8,3,3]
     output y = %y"
);

proptest! {
    /// Any two geometries: what is merged gives the same numbers, and what lies within the other window is merged.
    #[test]
    fn parallel_convolutions_of_any_geometry(
        kernels in [1usize..5, 1usize..5, 1usize..4, 1usize..4],
        dilations in [1usize..3, 1usize..3],
        stride in 1usize..3,
        groups in 1usize..3,
        more_groups in 1usize..3,
        more in 0usize..2,
        identity in any::<bool>(),
        pool in any::<bool>(),
    ) {
        let pad = |kernel: usize, dilation: usize| (kernel - 1) * dilation / 2 + more;
        let conv = |kernel: [usize; 2], dilation: usize, groups: usize| crate::ops::Conv2d {
            channels: 4,
            kernel,
            stride: [stride; 2],
            pad: [pad(kernel[0], dilation), pad(kernel[1], dilation), pad(kernel[0], dilation), pad(kernel[1], dilation)],
            dilation: [dilation; 2],
            groups,
            bias: more == 0,
            epilogue: vec![],
        };
        let mut b = crate::testing::GraphBuilder::new("parallel", Phase::Infer);
        let x = b.input([1, 4, 9, 10]);
        let first = b.add(conv([kernels[0], kernels[1]], dilations[0], groups), &[x]);
        let second = b.add(conv([kernels[2], kernels[3]], dilations[1], groups * more_groups), &[x]);
        let add = crate::testing::binary(crate::ops::binary::BinaryKind::Add);
        prop_assume!(b.graph.node(first).shape == b.graph.node(second).shape);
        let mut y = b.add(add.clone(), &[second, first]);
        if identity && b.graph.node(y).shape == b.graph.node(x).shape {
            let scaled = b.add(crate::ops::BatchNorm { eps: 1e-3, affine: true }, &[x]);
            y = b.add(add.clone(), &[y, scaled]);
        }
        // As large as the larger window, so that the pool changes nothing of whether it is one convolution.
        let mean = crate::ops::AvgPool {
            kernel: [kernels[0], kernels[1]],
            stride: [stride; 2],
            pad: conv([kernels[0], kernels[1]], dilations[0], groups).pad,
            dilation: [dilations[0]; 2],
            ceil: false,
            count_include_pad: true,
        };
        let mean = crate::ops::Op::from(mean);
        // Each window of a pool holds a pixel.
        if pool && mean.infer(&[&b.graph.node(x).shape]).is_ok_and(|shape| shape == b.graph.node(y).shape) {
            let mean = b.add(mean, &[x]);
            y = b.add(add, &[mean, y]);
        }
        let mut graph = b.finish(&[y]);
        randomize_weights(&mut graph, 7);
        let inputs = random_inputs(&graph, 3);
        let expected = interpreter::run(&graph, &inputs).unwrap();
        run(&mut graph, &Selection::only(["merge_parallel_convolutions"]).unwrap());
        prop_assert!(difference(&expected, &interpreter::run(&graph, &inputs).unwrap()) < 1e-5);
        let convolutions = graph.order().into_iter().filter(|&id| matches!(graph.node(id).op(), Some(crate::ops::Op::Conv2d(_))));
        let same_middle = kernels.iter().all(|k| k % 2 == 1) && dilations == [1, 1] && more == 0;
        let is_within = kernels[0] >= kernels[2] && kernels[1] >= kernels[3];
        if same_middle && is_within {
            prop_assert_eq!(convolutions.count(), 1);
            prop_assert!(graph.order().into_iter().all(|id| !matches!(graph.node(id).op(), Some(crate::ops::Op::AvgPool(_)))));
        }
    }
}

pass_test!(
    recognise_gelu,
    "recognise_gelu",
    "1,4,3,3",
    "%a = activation %x { kind=scale(0.70710677,0.0) } : f32[1,4,3,3]   // g.net:3
     %b = activation %a { kind=erf } : f32[1,4,3,3]
     %c = activation %b { kind=scale(1.0,1.0) } : f32[1,4,3,3]
     %d = binary %x, %c { kind=mul } : f32[1,4,3,3]
     %first = activation %d { kind=scale(0.5,0.0) } : f32[1,4,3,3]   // g.net:7
     %f = activation %first { kind=scale(0.70711,0.0) } : f32[1,4,3,3]
     %g = activation %f { kind=erf } : f32[1,4,3,3]
     %h = activation %g { kind=scale(0.5,0.5) } : f32[1,4,3,3]
     %second = binary %h, %first { kind=mul } : f32[1,4,3,3]
     %i = binary %second, %second { kind=mul } : f32[1,4,3,3]
     %j = binary %i, %second { kind=mul } : f32[1,4,3,3]
     %k = activation %j { kind=scale(0.044715,0.0) } : f32[1,4,3,3]
     %l = binary %second, %k { kind=add } : f32[1,4,3,3]
     %m = activation %l { kind=scale(0.7978846,0.0) } : f32[1,4,3,3]
     %n = activation %m { kind=tanh } : f32[1,4,3,3]
     %o = activation %second { kind=scale(0.5,0.0) } : f32[1,4,3,3]
     %p = activation %n { kind=scale(1.0,1.0) } : f32[1,4,3,3]
     %third = binary %o, %p { kind=mul } : f32[1,4,3,3]
     output y = %third"
);

/// As programs spell it: `0.5 x + 0.5 x tanh(0.79788456 x (1 + 0.044715 x²))`.
#[test]
fn gelu_is_found_in_any_order_of_its_terms() {
    let mut g = graph(
        "1,4",
        "%s = binary %x, %x { kind=mul } : f32[1,4]
         %a = activation %s { kind=scale(0.044715,1.0) } : f32[1,4]
         %b = activation %x { kind=scale(0.7978846,0.0) } : f32[1,4]
         %c = binary %a, %b { kind=mul } : f32[1,4]
         %t = activation %c { kind=tanh } : f32[1,4]
         %h = activation %x { kind=scale(0.5,0.0) } : f32[1,4]
         %p = binary %t, %h { kind=mul } : f32[1,4]
         %y = binary %h, %p { kind=add } : f32[1,4]
         output y = %y",
    );
    let remarks = run(&mut g, &Selection::only(["recognise_gelu"]).unwrap());
    assert_eq!(remarks[0].to_string(), "wrote the 8 operations up to y as gelu");
    assert_eq!(g.len(), 2, "{g}");
    assert!(g.to_string().contains("gelu_tanh"), "{g}");
}

/// Another constant, another value, a part that is read elsewhere or is an output, one that broadcasts.
#[test]
fn near_misses_of_gelu_stay() {
    let with = |root: &str, plus: &str, times: &str, half: &str, output: &str| {
        let mut g = graph(
            "1,4",
            &format!(
                "%z = activation %x {{ kind=relu }} : f32[1,4]
                 %v = reduce %x {{ kind=mean axes=[1] }} : f32[1,1]
                 %a = activation %x {{ kind=scale({root},0.0) }} : f32[1,4]
                 %b = activation %a {{ kind=erf }} : f32[1,4]
                 %c = activation %b {{ kind=scale(1.0,{plus}) }} : f32[1,4]
                 %d = binary %{times}, %c {{ kind=mul }} : f32[1,4]
                 %y = activation %d {{ kind=scale({half},0.0) }} : f32[1,4]
                 output y = %y
                 output other = %{output}"
            ),
        );
        !run(&mut g, &Selection::only(["recognise_gelu"]).unwrap()).is_empty()
    };
    assert!(with("0.70710677", "1.0", "x", "0.5", "z"));
    assert!(with("0.7071", "1.0", "x", "0.5", "z"), "five digits");
    assert!(!with("0.707", "1.0", "x", "0.5", "z"));
    assert!(!with("0.70710677", "0.999", "x", "0.5", "z"));
    assert!(!with("0.70710677", "1.0", "z", "0.5", "z"));
    assert!(!with("0.70710677", "1.0", "v", "0.5", "z"));
    assert!(!with("0.70710677", "1.0", "x", "0.25", "z"));
    for part in ["a", "b", "c", "d"] {
        assert!(!with("0.70710677", "1.0", "x", "0.5", part), "{part}");
    }
}

pass_test!(
    recognise_hard_sigmoid,
    "recognise_hard_sigmoid",
    "1,4,3,3",
    "%a = activation %x { kind=scale(1.0,3.0) } : f32[1,4,3,3]   // g.net:3
     %b = activation %a { kind=clip(0.0,6.0) } : f32[1,4,3,3]   // g.net:4
     %c = activation %b { kind=scale(0.16666667,0.0) } : f32[1,4,3,3]   // g.net:5
     %d = activation %a { kind=clip(0.0,6.0) } : f32[1,4,3,3]
     %shown = activation %d { kind=scale(0.16666667,0.0) } : f32[1,4,3,3]
     %e = activation %x { kind=clip(0.0,6.0) } : f32[1,4,3,3]
     %unshifted = activation %e { kind=scale(0.16666667,0.0) } : f32[1,4,3,3]
     output y = %c
     output clipped = %d
     output shown = %shown
     output unshifted = %unshifted"
);

pass_test!(
    recognise_gate,
    "recognise_gate",
    "1,4,3,3",
    "%s = activation %x { kind=sigmoid } : f32[1,4,3,3]   // g.net:3
     %a = binary %x, %s { kind=mul } : f32[1,4,3,3]   // g.net:4
     %h = activation %a { kind=hard_sigmoid(0.16666667,0.5) } : f32[1,4,3,3]
     %b = binary %h, %a { kind=mul } : f32[1,4,3,3]
     %onnx = activation %b { kind=hard_sigmoid(0.2,0.5) } : f32[1,4,3,3]
     %other_slope = binary %onnx, %b { kind=mul } : f32[1,4,3,3]
     %of_b = activation %b { kind=sigmoid } : f32[1,4,3,3]
     %other_value = binary %of_b, %x { kind=mul } : f32[1,4,3,3]
     %read = activation %x { kind=sigmoid } : f32[1,4,3,3]
     %other_reader = binary %read, %x { kind=mul } : f32[1,4,3,3]
     output b = %b
     output other_slope = %other_slope
     output other_value = %other_value
     output other_reader = %other_reader
     output read = %read"
);

// The division by 6 behind the product, as part of another factor, and where the shifted value has another reader.
pass_test!(
    recognise_gate_written_out,
    "recognise_gate",
    "1,4,3,3",
    "%s = activation %x { kind=scale(1.0,3.0) } : f32[1,4,3,3]   // g.net:3
     %c = activation %s { kind=clip(0.0,6.0) } : f32[1,4,3,3]
     %m = binary %x, %c { kind=mul } : f32[1,4,3,3]   // g.net:5
     %a = activation %m { kind=scale(0.16666667,0.0) } : f32[1,4,3,3]   // g.net:6
     %t = activation %a { kind=scale(1.0,3.0) } : f32[1,4,3,3]
     %d = activation %t { kind=clip(0.0,6.0) } : f32[1,4,3,3]
     %n = binary %d, %a { kind=mul } : f32[1,4,3,3]   // g.net:9
     %b = activation %n { kind=scale(0.08,0.5) } : f32[1,4,3,3]
     %u = activation %b { kind=scale(1.0,3.0) } : f32[1,4,3,3]
     %e = activation %u { kind=clip(0.0,6.0) } : f32[1,4,3,3]
     %y = binary %b, %e { kind=mul } : f32[1,4,3,3]
     output y = %y
     output u = %u"
);

pass_test!(
    compose_scales,
    "compose_scales",
    "1,4",
    "%a = activation %x { kind=scale(2.0,0.0) } : f32[1,4]   // g.net:3
     %b = activation %a { kind=scale(3.0,0.0) } : f32[1,4]   // g.net:4
     %c = activation %b { kind=scale(1.0,1.0) } : f32[1,4]   // g.net:5
     %whole = activation %c { kind=scale(0.5,0.0) } : f32[1,4]
     %read = activation %x { kind=scale(1.0,4.0) } : f32[1,4]
     %d = activation %read { kind=scale(2.0,0.0) } : f32[1,4]
     %e = activation %x { kind=scale(1e30,0.0) } : f32[1,4]
     %endless = activation %e { kind=scale(1e30,0.0) } : f32[1,4]
     output whole = %whole
     output d = %d
     output read = %read
     output endless = %endless"
);

pass_test!(
    recognise_channel_scales,
    "recognise_channel_scales",
    "2,3,4,4",
    "%r = slice %x { start=0 end=1 } : f32[2,1,4,4]   // g.net:3
     %g = slice %x { start=1 end=2 } : f32[2,1,4,4]
     %b = slice %x { start=2 end=3 } : f32[2,1,4,4]
     %s = activation %r { kind=scale(0.5,-0.03) } : f32[2,1,4,4]   // g.net:6
     %t = activation %g { kind=scale(0.4,0.0) } : f32[2,1,4,4]   // g.net:7
     %u = activation %b { kind=scale(1.0,0.25) } : f32[2,1,4,4]
     %y = concat %s, %t, %u : f32[2,3,4,4]   // g.net:9
     output y = %y"
);

pass_test!(
    channels_that_are_not_all_or_in_another_order_stay,
    "recognise_channel_scales",
    "2,3,4,4",
    "%r = slice %x { start=0 end=1 } : f32[2,1,4,4]
     %g = slice %x { start=1 end=2 } : f32[2,1,4,4]
     %b = slice %x { start=2 end=3 } : f32[2,1,4,4]
     %s = activation %r { kind=scale(0.5,-0.03) } : f32[2,1,4,4]
     %t = activation %g { kind=scale(0.4,0.0) } : f32[2,1,4,4]
     %u = activation %b { kind=scale(1.0,0.25) } : f32[2,1,4,4]
     %v = activation %b { kind=scale(1.0,0.5) } : f32[2,1,4,4]
     %two = concat %s, %t : f32[2,2,4,4]
     %swapped = concat %t, %s, %u : f32[2,3,4,4]
     %shown = concat %s, %t, %v : f32[2,3,4,4]
     output two = %two
     output swapped = %swapped
     output shown = %shown
     output v = %v"
);

pass_test!(
    recognise_layer_norm,
    "recognise_layer_norm",
    "1,4,3,3",
    "%m = reduce %x { kind=mean axes=[1] } : f32[1,1,3,3]   // g.net:3
     %c = binary %x, %m { kind=sub } : f32[1,4,3,3]   // g.net:4
     %s = binary %c, %c { kind=mul } : f32[1,4,3,3]
     %v = reduce %s { kind=mean axes=[1] } : f32[1,1,3,3]
     %e = activation %v { kind=scale(1.0,0.25) } : f32[1,1,3,3]
     %d = activation %e { kind=sqrt } : f32[1,1,3,3]
     %n = binary %c, %d { kind=div } : f32[1,4,3,3]   // g.net:9
     %first = channel_affine %n, @first.weight, @first.bias : f32[1,4,3,3]   // g.net:10
     %m2 = reduce %first { kind=mean axes=[1] } : f32[1,1,3,3]
     %c2 = binary %first, %m2 { kind=sub } : f32[1,4,3,3]
     %again = binary %first, %m2 { kind=sub } : f32[1,4,3,3]
     %s2 = binary %again, %again { kind=mul } : f32[1,4,3,3]
     %v2 = reduce %s2 { kind=mean axes=[1] } : f32[1,1,3,3]
     %e2 = activation %v2 { kind=scale(1.0,1e-5) } : f32[1,1,3,3]
     %d2 = activation %e2 { kind=sqrt } : f32[1,1,3,3]
     %n2 = binary %c2, %d2 { kind=div } : f32[1,4,3,3]
     %second = channel_affine %n2, @second.weight { bias=false } : f32[1,4,3,3]
     output y = %second"
);

// Tokens, with factors and terms; the last two axes, with a factor alone.
pass_test!(
    recognise_layer_norm_of_rows,
    "recognise_layer_norm",
    "2,3,4",
    "%m = reduce %x { kind=mean axes=[2] } : f32[2,3,1]   // g.net:3
     %c = binary %x, %m { kind=sub } : f32[2,3,4]   // g.net:4
     %s = binary %c, %c { kind=mul } : f32[2,3,4]
     %v = reduce %s { kind=mean axes=[2] } : f32[2,3,1]
     %e = activation %v { kind=scale(1.0,0.25) } : f32[2,3,1]
     %d = activation %e { kind=sqrt } : f32[2,3,1]
     %n = binary %c, %d { kind=div } : f32[2,3,4]   // g.net:9
     %w = constant @w { shape=[1,1,4] } : f32[1,1,4]
     %b = constant @b { shape=[4] } : f32[4]
     %p = binary %w, %n { kind=mul } : f32[2,3,4]   // g.net:10
     %first = binary %p, %b { kind=add } : f32[2,3,4]   // g.net:11
     %m2 = reduce %first { kind=mean axes=[1,2] } : f32[2,1,1]
     %c2 = binary %first, %m2 { kind=sub } : f32[2,3,4]
     %s2 = binary %c2, %c2 { kind=mul } : f32[2,3,4]
     %v2 = reduce %s2 { kind=mean axes=[1,2] } : f32[2,1,1]
     %e2 = activation %v2 { kind=scale(1.0,1e-5) } : f32[2,1,1]
     %d2 = activation %e2 { kind=sqrt } : f32[2,1,1]
     %n2 = binary %c2, %d2 { kind=div } : f32[2,3,4]
     %w2 = constant @w2 { shape=[3,4] } : f32[3,4]
     %second = binary %n2, %w2 { kind=mul } : f32[2,3,4]
     output y = %second"
);

/// An inverse that is multiplied, of which the constant must hold ones.
#[test]
fn layer_norms_by_the_inverse_of_the_deviation() {
    let norm = |one: f32, output: &str, eps: &str| {
        let mut g = graph(
            "2,6",
            &format!(
                "%one = constant @one {{ shape=[1,1] }} : f32[1,1]
                 %m = reduce %x {{ kind=mean axes=[1] }} : f32[2,1]
                 %c = binary %x, %m {{ kind=sub }} : f32[2,6]
                 %s = binary %c, %c {{ kind=mul }} : f32[2,6]
                 %v = reduce %s {{ kind=mean axes=[1] }} : f32[2,1]
                 %e = activation %v {{ kind=scale(1.0,{eps}) }} : f32[2,1]
                 %d = activation %e {{ kind=sqrt }} : f32[2,1]
                 %r = binary %one, %d {{ kind=div }} : f32[2,1]
                 %y = binary %r, %c {{ kind=mul }} : f32[2,6]
                 output y = %y
                 output other = %{output}"
            ),
        );
        let weight = g.weights.find("one").unwrap();
        g.weights.set(weight, std::sync::Arc::new(vec![one]));
        check("recognise_layer_norm", g).contains("layer_norm")
    };
    assert!(norm(1.0, "x", "0.25"));
    assert!(!norm(2.0, "x", "0.25"));
    assert!(!norm(1.0, "x", "-0.25"), "no epsilon of a norm");
    for part in ["m", "c", "s", "v", "e", "d", "r"] {
        assert!(!norm(1.0, part, "0.25"), "{part} is read elsewhere");
    }
}

/// What looks like one is none: another value's mean, or a mean over other axes.
#[test]
fn near_misses_of_layer_norms_stay() {
    let norm = |axes: usize, squared: &str| {
        let line = if axes == 1 { "f32[1,1,4,4]" } else { "f32[1,4,1,4]" };
        let g = graph(
            "1,4,4,4",
            &format!(
                "%z = activation %x {{ kind=relu }} : f32[1,4,4,4]
                 %m = reduce %x {{ kind=mean axes=[1] }} : f32[1,1,4,4]
                 %c = binary %x, %m {{ kind=sub }} : f32[1,4,4,4]
                 %s = binary %{squared}, %{squared} {{ kind=mul }} : f32[1,4,4,4]
                 %v = reduce %s {{ kind=mean axes=[{axes}] }} : {line}
                 %e = activation %v {{ kind=scale(1.0,0.25) }} : {line}
                 %d = activation %e {{ kind=sqrt }} : {line}
                 %y = binary %c, %d {{ kind=div }} : f32[1,4,4,4]
                 output y = %y
                 output z = %z"
            ),
        );
        check("recognise_layer_norm", g).contains("layer_norm")
    };
    assert!(norm(1, "c"));
    for (axes, squared) in [(2, "c"), (1, "x"), (1, "z")] {
        assert!(!norm(axes, squared), "{axes} {squared}");
    }
}

pass_test!(
    recognise_shuffle,
    "recognise_shuffle",
    "2,8,3,5",
    "%a = reshape %x { shape=[0,2,4,3,5] } : f32[2,2,4,3,5]   // g.net:3
     %b = transpose %a { perm=[0,2,1,3,4] } : f32[2,4,2,3,5]   // g.net:4
     %c = reshape %b { shape=[0,8,3,5] } : f32[2,8,3,5]   // g.net:5
     %d = reshape %c { shape=[0,2,2,2,3,5] } : f32[2,2,2,2,3,5]
     %e = transpose %d { perm=[0,1,4,2,5,3] } : f32[2,2,3,2,5,2]
     %f = reshape %e { shape=[0,2,6,10] } : f32[2,2,6,10]
     %g = reshape %f { shape=[0,2,3,2,5,2] } : f32[2,2,3,2,5,2]
     %h = transpose %g { perm=[0,1,3,5,2,4] } : f32[2,2,2,2,3,5]
     %i = reshape %h { shape=[0,8,3,5] } : f32[2,8,3,5]
     %j = reshape %i { shape=[0,2,2,2,3,5] } : f32[2,2,2,2,3,5]
     %k = transpose %j { perm=[0,3,4,1,5,2] } : f32[2,2,3,2,5,2]
     %l = reshape %k { shape=[0,2,6,10] } : f32[2,2,6,10]
     output y = %l"
);

/// Axes that are split across images, or across rows, are none of one image's.
#[test]
fn near_misses_of_shuffles_stay() {
    let cases = [
        ("2,8,3,3", "0,2,1,3,4", "4,2,2,3,3", "4,2,2,3,3", "2,8,3,3"),
        ("1,2,2,18", "0,1,3,5,2,4", "1,2,3,2,3,2", "1,2,2,2,3,3", "1,8,3,3"),
        ("1,12,3,3", "0,1,4,2,5,3", "1,2,2,3,3,3", "1,2,3,2,3,3", "1,2,6,9"),
    ];
    for (x, perm, split, moved, to) in cases {
        let g = graph(
            x,
            &format!(
                "%a = reshape %x {{ shape=[{split}] }} : f32[{split}]
                 %b = transpose %a {{ perm=[{perm}] }} : f32[{moved}]
                 %y = reshape %b {{ shape=[{to}] }} : f32[{to}]
                 output y = %y"
            ),
        );
        assert!(check("recognise_shuffle", g).contains("unchanged"), "{split}");
    }
}

pass_test!(
    simplify_pool,
    "simplify_pool",
    "1,3,6,8",
    "%whole = adaptive_avg_pool %x { output=6x8 } : f32[1,3,6,8]   // g.net:3
     %r = activation %whole { kind=relu } : f32[1,3,6,8]
     %even = adaptive_avg_pool %r { output=3x2 } : f32[1,3,3,2]   // g.net:5
     %one = adaptive_avg_pool %r { output=1x1 } : f32[1,3,1,1]   // g.net:6
     %uneven = adaptive_avg_pool %r { output=3x5 } : f32[1,3,3,5]
     output a = %even
     output b = %one
     output c = %uneven"
);

pass_test!(
    simplify_concat,
    "simplify_concat",
    "1,8,3,3",
    "%r = activation %x { kind=relu } : f32[1,8,3,3]
     %inner = concat %x, %r : f32[1,16,3,3]
     %outer = concat %inner, %x : f32[1,24,3,3]
     %within = slice %outer { start=9 end=15 step=2 } : f32[1,3,3,3]
     %across = slice %outer { start=4 end=12 } : f32[1,8,3,3]
     %again = slice %across { start=1 end=7 step=2 } : f32[1,3,3,3]
     %first = slice %r { start=0 end=3 } : f32[1,3,3,3]
     %second = slice %r { start=3 end=8 } : f32[1,5,3,3]
     %whole = concat %first, %second : f32[1,8,3,3]
     %alone = concat %whole : f32[1,8,3,3]
     %all = slice %alone { start=0 end=8 } : f32[1,8,3,3]
     %other = concat %all, %x { axis=2 } : f32[1,8,6,3]
     output a = %outer
     output b = %within
     output c = %again
     output d = %across
     output e = %other"
);

pass_test!(
    fold_batch_norm,
    "fold_batch_norm",
    "2,4,5,5",
    "%c = conv2d %x, @c.weight { channels=6 kernel=3x3 groups=2 bias=false } : f32[2,6,3,3]   // g.net:3
     %n = batch_norm %c, @n.weight, @n.bias, @n.running_mean, @n.running_var : f32[2,6,3,3]   // g.net:4
     %t = conv_transpose2d %n, @t.weight, @t.bias { channels=4 kernel=2x3 stride=2x2 groups=2 } : f32[2,4,6,7]
     %m = batch_norm %t, @m.running_mean, @m.running_var { eps=0.001 affine=false } : f32[2,4,6,7]
     %s = channel_affine %m, @s.weight, @s.bias : f32[2,4,6,7]
     %f = flatten %s : f32[2,168]
     %l = linear %f, @l.weight, @l.bias { features=5 } : f32[2,5]
     %k = constant @k { shape=[5] } : f32[5]
     %d = binary %l, %k { kind=div } : f32[2,5]
     %u = binary %k, %d { kind=sub } : f32[2,5]
     %y = activation %u { kind=scale(2.0,0.5) } : f32[2,5]
     output y = %y"
);

pass_test!(
    batch_norm_without_a_layer_before,
    "fold_batch_norm",
    "2,4,5,5",
    "%n1 = batch_norm %x, @n1.weight, @n1.bias, @n1.running_mean, @n1.running_var : f32[2,4,5,5]
     %n2 = batch_norm %n1, @n2.weight, @n2.bias, @n2.running_mean, @n2.running_var : f32[2,4,5,5]
     %r = activation %n2 { kind=relu } : f32[2,4,5,5]
     %c = conv2d %r, @c.weight, @c.bias { channels=4 kernel=1x1 } : f32[2,4,5,5]
     %n3 = batch_norm %c, @n3.weight, @n3.bias, @n3.running_mean, @n3.running_var : f32[2,4,5,5]
     output before_norm = %c
     output after_norm = %n3"
);

pass_test!(
    collapse_pointwise_chain,
    "collapse_pointwise_chain",
    "1,4,6,6",
    "%a = conv2d %x, @a.weight, @a.bias { channels=8 kernel=1x1 stride=2x1 } : f32[1,8,3,6]
     %b = conv2d %a, @b.weight { channels=6 kernel=1x1 stride=1x2 bias=false } : f32[1,6,3,3]
     %c = conv2d %b, @c.weight, @c.bias { channels=5 kernel=1x1 } : f32[1,5,3,3]
     %narrow = conv2d %x, @narrow.weight, @narrow.bias { channels=1 kernel=1x1 } : f32[1,1,6,6]
     %wide = conv2d %narrow, @wide.weight, @wide.bias { channels=4 kernel=1x1 } : f32[1,4,6,6]
     output y = %c
     output cheaper_as_it_is = %wide"
);

pass_test!(
    commute_pointwise_pool,
    "commute_pointwise_pool",
    "1,4,6,6",
    "%a = conv2d %x, @a.weight, @a.bias { channels=10 kernel=1x1 } : f32[1,10,6,6]
     %y = global_pool %a { kind=avg } : f32[1,10,1,1]
     %b = conv2d %x, @b.weight, @b.bias { channels=3 kernel=1x1 } : f32[1,3,6,6]
     %kept = avg_pool %b { kernel=3x3 stride=2x2 pad=1,1,1,1 } : f32[1,3,3,3]
     %c = conv2d %x, @c.weight { channels=3 kernel=1x1 bias=false } : f32[1,3,6,6]
     %z = avg_pool %c { kernel=3x3 stride=2x2 pad=1,1,1,1 } : f32[1,3,3,3]
     %d = conv2d %x, @d.weight, @d.bias { channels=3 kernel=1x1 } : f32[1,3,6,6]
     %w = avg_pool %d { kernel=3x3 stride=2x2 pad=1,1,1,1 ceil=true count_include_pad=false } : f32[1,3,4,4]
     output y = %y
     output bias_would_be_diluted = %kept
     output z = %z
     output w = %w"
);

pass_test!(
    exchange_activation_pool,
    "exchange_activation_pool",
    "1,4,6,6",
    "%down = activation %x { kind=relu } : f32[1,4,6,6]
     %p = max_pool %down { kernel=2x2 stride=2x2 } : f32[1,4,3,3]
     %c = conv2d %p, @c.weight, @c.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,3,3]
     %q = max_pool %c { kernel=2x2 stride=1x1 } : f32[1,4,2,2]
     %up = activation %q { kind=tanh } : f32[1,4,2,2]
     %d = conv2d %up, @d.weight, @d.bias { channels=4 kernel=1x1 } : f32[1,4,2,2]
     %stays = activation %d { kind=relu } : f32[1,4,2,2]
     %y = global_pool %stays { kind=max } : f32[1,4,1,1]
     %bent = activation %x { kind=hard_swish } : f32[1,4,6,6]
     %z = max_pool %bent { kernel=2x2 stride=2x2 } : f32[1,4,3,3]
     output y = %y
     output z = %z"
);

pass_test!(
    fuse_epilogue,
    "fuse_epilogue",
    "1,4,5,5",
    "%c1 = conv2d %x, @c1.weight, @c1.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,5,5]   // g.net:3
     %r1 = activation %c1 { kind=relu } : f32[1,4,5,5]   // g.net:4
     %c2 = conv2d %r1, @c2.weight, @c2.bias { channels=4 kernel=3x3 pad=1,1,1,1 } : f32[1,4,5,5]
     %skip = conv2d %x, @skip.weight, @skip.bias { channels=4 kernel=1x1 } : f32[1,4,5,5]
     %sum = binary %c2, %skip { kind=add } : f32[1,4,5,5]   // g.net:7
     %r2 = activation %sum { kind=relu } : f32[1,4,5,5]   // g.net:8
     %a = channel_affine %r2, @a.weight, @a.bias : f32[1,4,5,5]
     %s = activation %a { kind=sigmoid } : f32[1,4,5,5]
     %gated = binary %r2, %s { kind=mul } : f32[1,4,5,5]
     %c3 = conv2d %gated, @c3.weight, @c3.bias { channels=1 kernel=5x5 } : f32[1,1,1,1]
     %all = binary %gated, %c3 { kind=add } : f32[1,4,5,5]
     %clipped = activation %all { kind=clip(0.0,6.0) } : f32[1,4,5,5]
     %f = flatten %clipped : f32[1,100]
     %l = linear %f, @l.weight, @l.bias { features=3 } : f32[1,3]
     %t = activation %l { kind=tanh } : f32[1,3]
     output y = %t
     output shown = %l"
);

pass_test!(
    merge_sibling_pointwise,
    "merge_sibling_pointwise",
    "1,4,5,5",
    "%b1 = conv2d %x, @b1.weight, @b1.bias { channels=3 kernel=1x1 epilogue=[relu] } : f32[1,3,5,5]   // g.net:3
     %r3 = conv2d %x, @r3.weight { channels=2 kernel=1x1 bias=false epilogue=[relu] } : f32[1,2,5,5]   // g.net:4
     %c3 = conv2d %r3, @c3.weight, @c3.bias { channels=4 kernel=3x3 pad=1,1,1,1 epilogue=[relu] } : f32[1,4,5,5]
     %r5 = conv2d %x, @r5.weight, @r5.bias { channels=1 kernel=1x1 epilogue=[relu] } : f32[1,1,5,5]   // g.net:6
     %other = conv2d %x, @other.weight, @other.bias { channels=2 kernel=1x1 } : f32[1,2,5,5]
     %p = max_pool %x { kernel=3x3 stride=1x1 pad=1,1,1,1 } : f32[1,4,5,5]
     %b4 = conv2d %p, @b4.weight, @b4.bias { channels=2 kernel=1x1 epilogue=[relu] } : f32[1,2,5,5]
     %y = concat %b1, %c3, %r5, %b4, %other : f32[1,12,5,5]
     output y = %y"
);

pass_test!(
    fold_input_normalization,
    "fold_input_normalization",
    "1,4,6,6",
    "%s = activation %x { kind=scale(0.5,-1.0) } : f32[1,4,6,6]
     %n = channel_affine %s, @n.weight, @n.bias : f32[1,4,6,6]
     %a = conv2d %n, @a.weight, @a.bias { channels=6 kernel=3x3 stride=2x2 groups=2 } : f32[1,6,2,2]
     %b = conv2d %n, @b.weight { channels=2 kernel=1x1 bias=false } : f32[1,2,6,6]
     output a = %a
     output b = %b"
);

pass_test!(
    input_normalization_before_padding_stays,
    "fold_input_normalization",
    "1,3,6,6",
    "%n = channel_affine %x, @n.weight, @n.bias : f32[1,3,6,6]   // g.net:3
     %a = conv2d %n, @conv1.weight, @conv1.bias { channels=6 kernel=3x3 pad=1,1,1,1 } : f32[1,6,6,6]   // g.net:4
     output a = %a"
);

/// The preprocessing leaves the input's description, so the folded graph takes raw pixels.
#[test]
fn preprocessing_folds_into_the_first_convolution() {
    let mut g = graph(
        "1,3,6,6",
        "%a = conv2d %x, @a.weight, @a.bias { channels=6 kernel=3x3 } : f32[1,6,4,4]
         output a = %a",
    );
    let (scale, mean, std) = (1.0 / 255.0, vec![0.5, 0.4, 0.3], vec![0.2, 0.25, 0.3]);
    let x = g.inputs()[0];
    let preprocess = Preprocess { scale: Some(scale), mean: mean.clone(), std: std.clone(), ..Preprocess::default() };
    g.set_preprocess(x, Some(preprocess));
    let pixels: Vec<f32> = (0..108).map(|i| (i * 37 % 256) as f32).collect();
    let normal = |(i, v): (usize, &f32)| (v * scale - mean[i / 36]) / std[i / 36];
    let normalized = Tensor::new([1, 3, 6, 6], pixels.iter().enumerate().map(normal).collect());
    let expected = interpreter::run(&g, &[normalized]).unwrap();
    let remarks = run(&mut g, &Selection::only(["fold_input_normalization"]).unwrap());
    let found = interpreter::run(&g, &[Tensor::new([1, 3, 6, 6], pixels)]).unwrap();
    assert!(difference(&expected, &found) < 1e-5);
    assert_eq!(g.node(x).kind, Kind::Input(Some(Preprocess::default())));
    assert_eq!(remarks[0].to_string(), "folded the normalization of x into the first convolution");
}

pass_test!(
    lower_volumes,
    "lower_volumes",
    "1,2,4,5,5",
    "%a = conv_nd %x, @a.weight, @a.bias { channels=4 kernel=[3,3,3] stride=[1,1,1] pad=[1,1,1,1,1,1] dilation=[1,1,1] output_pad=[0,0,0] } : f32[1,4,4,5,5]
     %r = activation %a { kind=relu } : f32[1,4,4,5,5]
     %p = pool_nd %r { kind=max kernel=[2,2,2] stride=[2,2,2] pad=[0,0,0,0,0,0] dilation=[1,1,1] } : f32[1,4,2,2,2]
     %y = conv_nd %p, @y.weight { channels=2 kernel=[2,2,2] stride=[2,2,2] pad=[0,0,0,0,0,0] dilation=[1,1,1] bias=false transposed=true output_pad=[0,0,0] } : f32[1,2,4,4,4]
     output y = %y"
);

pass_test!(
    lower_volumes_of_sequences,
    "lower_volumes",
    "1,2,9",
    "%a = conv_nd %x, @a.weight, @a.bias { channels=4 kernel=[3] stride=[2] pad=[1,0] dilation=[1] output_pad=[0] } : f32[1,4,4]
     %r = activation %a { kind=relu } : f32[1,4,4]
     %y = pool_nd %r { kind=avg kernel=[2] stride=[2] pad=[0,0] dilation=[1] } : f32[1,4,2]
     output y = %y"
);

pass_test!(
    lower_recurrent,
    "lower_recurrent",
    "2,5,3",
    "%y = recurrent %x, @y.weight_ih_l0, @y.weight_hh_l0, @y.bias_ih_l0, @y.bias_hh_l0, @y.weight_ih_l0_reverse, @y.weight_hh_l0_reverse, @y.bias_ih_l0_reverse, @y.bias_hh_l0_reverse { cell=gru hidden=4 direction=both } : f32[2,5,8]
     output y = %y"
);

pass_test!(
    lower_sampling,
    "lower_sampling",
    "1,4,5,5",
    "%o = conv2d %x, @o.weight, @o.bias { channels=18 kernel=3x3 pad=1,1,1,1 } : f32[1,18,5,5]
     %m = conv2d %x, @m.weight, @m.bias { channels=9 kernel=3x3 pad=1,1,1,1 } : f32[1,9,5,5]
     %y = deform_conv2d %x, %o, %m, @y.weight, @y.bias { channels=6 kernel=3x3 pad=1,1,1,1 } : f32[1,6,5,5]
     output y = %y"
);

pass_test!(
    lower_dynamic_quantize,
    "lower_dynamic_quantize",
    "2,4,5,5",
    "%d = dynamic_quantize %x : f32[2,4,5,5]
     %c = conv2d_w8 %d, @c.weight, @c.weight_scale, @c.bias { channels=3 kernel=3x3 } : f32[2,3,3,3]   // g.net:5
     %r = dynamic_quantize %c : f32[2,3,3,3]
     output y = %r"
);

pass_test!(
    lower_dynamic_conv,
    "lower_dynamic_conv",
    "1,4,5,5",
    "%w = constant @w { shape=[6,4,3,3] } : f32[6,4,3,3]
     %b = constant @b { shape=[6] } : f32[6]
     %s = activation %w { kind=relu } : f32[6,4,3,3]
     %y = dynamic_conv2d %x, %s, %b { pad=1,1,1,1 } : f32[1,6,5,5]
     %z = dynamic_conv2d %x, %w, %b : f32[1,6,3,3]
     output y = %y
     output z = %z"
);

pass_test!(
    lower_expand_images,
    "lower_expand_images",
    "3,4,5",
    "%t = constant @t { shape=[1,1,5] } : f32[1,1,5]
     %a = expand_images %t, %x : f32[3,1,5]
     %c = concat %a, %x : f32[3,5,5]
     %o = expand_images %t, %t : f32[1,1,5]
     %y = activation %o { kind=relu } : f32[1,1,5]
     output c = %c
     output y = %y"
);

/// What recognises written-out functions runs by itself as in the pipeline, and nothing else then does.
#[test]
fn recognisers_are_passes_of_the_pipeline() {
    let lines = "%d = dropout %x : f32[1,4]
         %s = activation %d { kind=sigmoid } : f32[1,4]
         %y = binary %d, %s { kind=mul } : f32[1,4]
         output y = %y";
    let mut g = graph("1,4", lines);
    let remarks = recognise(&mut g);
    assert_eq!(remarks.iter().map(|r| r.pass).collect::<Vec<_>>(), ["recognise_gate"]);
    let text = g.to_string();
    assert!(text.contains("dropout") && text.contains("silu"), "{text}");
}

#[test]
fn the_pipeline_has_unique_names() {
    let names: std::collections::BTreeSet<_> = PIPELINE.iter().map(|p| p.name).collect();
    assert_eq!(names.len(), PIPELINE.len());
}

/// Outputs that no auxiliary head owns: what is left to compare after the removal.
fn main_outputs(graph: &Graph, values: Vec<Tensor>, selection: &Selection) -> Vec<Tensor> {
    let heads = graph.outputs().iter().filter(|o| o.aux.is_some()).count();
    let removed = selection.contains("remove_aux_heads")
        && graph.phase == crate::ir::Phase::Infer
        && heads < graph.outputs().len();
    let kept = |(o, _): &(&crate::ir::Output, Tensor)| !removed || o.aux.is_none();
    graph.outputs().iter().zip(values).filter(kept).map(|(_, v)| v).collect()
}

fn same_values(graph: &Graph, selection: &Selection) -> Result<(), TestCaseError> {
    let inputs = random_inputs(graph, 23);
    let (expected, rounding) = run_with_rounding(graph, &inputs);
    let expected = main_outputs(graph, expected, selection);
    let mut optimized = graph.clone();
    let remarks = run(&mut optimized, selection);
    let found = interpreter::run(&optimized, &inputs).unwrap();
    prop_assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let (worst, scale) = found.difference(expected);
        let allowed = 2e-4 * scale.max(1e-3) + rounding;
        prop_assert!(worst < allowed, "differs by {worst} of {scale}:\n{graph}\n{optimized}\n{selection:?}");
    }
    // What the remarks claim is what the graphs differ by.
    let saved: i64 = remarks.iter().map(|r| r.saved.macs).sum();
    prop_assert_eq!(graph.total_macs() as i64 - optimized.total_macs() as i64, saved);
    let saved: i64 = remarks.iter().map(|r| r.saved.params).sum();
    prop_assert_eq!(graph.total_params() as i64 - optimized.total_params() as i64, saved);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn passes_keep_values(steps in prop::collection::vec(any::<u64>(), 1..16), chosen in any::<u64>()) {
        let graph = graph_from(&steps);
        same_values(&graph, &some_passes(chosen))?;
        same_values(&graph, &Selection::all())?;
    }

    /// Fused graphs are graphs: the passes run on their own results.
    #[test]
    fn passes_keep_values_of_what_they_made(steps in prop::collection::vec(any::<u64>(), 1..16), chosen in any::<u64>()) {
        let mut graph = graph_from(&steps);
        run(&mut graph, &some_passes(chosen));
        same_values(&graph, &some_passes(!chosen))?;
        same_values(&graph, &Selection::all())?;
    }
}

/// Those whose bit is set.
fn some_passes(bits: u64) -> Selection {
    let names = PIPELINE.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, p)| p.name);
    Selection::only(names).unwrap()
}
